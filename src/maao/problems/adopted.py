"""A run's first point where it begins from another run's: params that fit; of what has a row for each class, the rows of old classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from maao.errors import ConfigError
from maao.protocols import Params


def adopted(fresh: Params, old: Params, labels: Sequence[str], old_labels: Sequence[str], class_rows: Collection[str]) -> Params:
    """Return the params of another run in the place of fresh ones; rows of classes that it did not have stay fresh.

    Args:
        fresh: as the run would begin by itself.
        old: of the other run.
        labels, old_labels: the classes of each, in the order of their rows.
        class_rows: the params that have a row for each class.

    Raises:
        ConfigError: they do not fit.

    Example:
        >>> import torch
        >>> fresh, old = {"bias": torch.zeros(3)}, {"bias": torch.tensor([1.0, 2.0])}
        >>> adopted(fresh, old, ["a", "b", "c"], ["c", "a"], {"bias"})
        {'bias': tensor([2., 0., 1.])}
    """
    missing, beside = sorted(fresh.keys() - old.keys()), sorted(old.keys() - fresh.keys())
    if missing or (beside and list(labels) != list(old_labels)):
        told = f"it has no {', '.join(missing)}" if missing else f"its {', '.join(beside)} says how its own classes are read"
        raise ConfigError(f"The run cannot be begun from: {told}. Take the settings of [model] that it had, or start anew.")
    found = {name: _rows(name, value, old[name], labels, old_labels) if name in class_rows else old[name] for name, value in fresh.items()}
    for name, value in fresh.items():
        if found[name].shape != value.shape:
            raise ConfigError(
                f"The run cannot be begun from: its {name} is of shape {tuple(found[name].shape)}, here it is {tuple(value.shape)}. Take "
                "the settings of [model] that it had, model.num_virtual_tokens say, or start anew."
            )
    return {**found, **{name: old[name] for name in beside}}


def _rows(name: str, fresh: Tensor, old: Tensor, labels: Sequence[str], old_labels: Sequence[str]) -> Tensor:
    if old.shape[1:] != fresh.shape[1:]:
        return old  # which is told by its shape
    places = {label: i for i, label in enumerate(old_labels)}
    found = fresh.clone()
    for i, label in enumerate(labels):
        if label in places:
            found[i] = old[places[label]]
    return found
