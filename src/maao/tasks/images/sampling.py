"""Few-shot samples of pictures, class by class.

As with texts, what is sampled (`train`, `select`) follows the seed, and what is fixed (`test`) follows a hash, the same for every seed. For
one seed, fewer shots are a part of more shots where `select` is as large.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from math import ceil

from maao.core.seeds import seed_for
from maao.errors import DataError
from maao.tasks.checks import listing, quote
from maao.tasks.splits import from_parts
from maao.types import Example, Splits

SHOTS = 16  # by default, the field's largest
SELECT_MOST = 4  # the field's rule: as many as shots, at most four


def default_select(shots: int) -> int:
    """Return how many pictures of a class select by the field's rule: as many as shots, at most four."""
    return min(shots, SELECT_MOST)


def sample_pool(
    pool: Sequence[Example], labels: Sequence[str], *, shots: int, select_shots: int, test_size: int | None, seed: int, fewer: bool
) -> Splits:
    """Cut one pool: `test` by hash (of all sizes, so that `train` and `select` can be filled), the rest sampled.

    Raises:
        DataError: a class has too few pictures, and `fewer` was not asked for.
    """
    by_class = _by_class(pool, labels)
    need = shots + select_shots
    short = {label: len(own) for label, own in by_class.items() if len(own) < need}
    if short and not fewer:
        raise _too_few(short, f"{shots} for train and {select_shots} for select", need)
    test: list[Example] = []
    rest: dict[str, list[Example]] = {}
    for label, own in by_class.items():
        ranked = sorted(own, key=_hash)
        spare = max(0, len(own) - need)
        rest[label] = sorted(ranked[spare:], key=lambda e: e.fields["image"])
        test += ranked[:spare]
    test = _at_most(test, test_size, labels)
    train, select = _sampled(rest, rest, shots, select_shots, seed)
    return from_parts(train, select, test, labels=list(labels))


def sample_parts(
    parts: Mapping[str, Sequence[Example]],
    labels: Sequence[str],
    *,
    shots: int | None,
    select_shots: int | None,
    test_size: int | None,
    seed: int,
    fewer: bool,
) -> Splits:
    """Sample parts that are split already: `train` and, if there is one, `select`; `test` as it is, or the lowest hashes of it.

    Without a part of its own, `select` is sampled out of what `train` leaves. `shots` None: all of train.
    """
    train_by, select_by = _by_class(parts["train"], labels), _by_class(parts.get("select", ()), labels)
    own = bool(parts.get("select"))
    if shots is None:
        shots = max(len(held) for held in train_by.values())
        if not own:
            raise DataError("Without a folder of pictures to select with, say how many of each class train: set images.shots.")
        fewer = True
    wanted = select_shots if select_shots is not None else default_select(shots)
    need = shots if own else shots + wanted
    short = {label: len(held) for label, held in train_by.items() if len(held) < need}
    if short and not fewer:
        raise _too_few(short, f"{shots} for train" + ("" if own else f" and {wanted} for select"), need)
    if own:
        short = {label: len(held) for label, held in select_by.items() if len(held) < wanted}
        if short and not fewer:
            raise _too_few(short, f"{wanted} for select", wanted)
    train, select = _sampled(train_by, select_by if own else train_by, shots, wanted, seed)
    return from_parts(train, select, _at_most(list(parts.get("test", ())), test_size, labels), labels=list(labels))


def base_and_new(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the first half of the classes (the larger one, if their number is odd) and the rest.

    Source: Zhou et al., Conditional Prompt Learning, 2022, base-to-new generalisation.

    Example:
        >>> base_and_new(["a", "b", "c"])
        (('a', 'b'), ('c',))
    """
    cut = ceil(len(labels) / 2)
    return tuple(labels[:cut]), tuple(labels[cut:])


def _by_class(pool: Sequence[Example], labels: Sequence[str]) -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {label: [] for label in labels}
    for example in pool:
        found[example.label].append(example)
    return found


def _sampled(
    train: Mapping[str, list[Example]], select: Mapping[str, list[Example]], shots: int, select_shots: int, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return samples of each class; where both come from one pool, they share nothing. A short class keeps at least one for each."""
    chosen_train: list[Example] = []
    chosen_select: list[Example] = []
    for label, held in train.items():
        order = _shuffled(held, seed, label)
        if select is train:
            if len(held) < 2:
                raise DataError(f"The class {quote(label)} has {len(held)} picture: it needs one to train and one to select with.")
            count = min(select_shots, max(1, len(held) - shots))
            chosen_select += order[:count]
            chosen_train += order[count : count + shots]
        else:
            chosen_train += order[:shots]
            chosen_select += _shuffled(select[label], seed, f"{label}/select")[:select_shots]
    return chosen_train, chosen_select


def _shuffled(held: Sequence[Example], seed: int, label: str) -> list[Example]:
    ordered = sorted(held, key=lambda example: example.fields["image"])
    random.Random(seed_for(seed, "pictures", label)).shuffle(ordered)
    return ordered


def _at_most(test: list[Example], size: int | None, labels: Sequence[str]) -> list[Example]:
    if size is not None and len(test) > size:
        test = sorted(test, key=_hash)[:size]
    order = {label: i for i, label in enumerate(labels)}
    return sorted(test, key=lambda e: (order[e.label], e.fields["image"]))


def _hash(example: Example) -> str:
    """Return a hash of a picture: of its content where that is known, so that names and places do not matter."""
    return hashlib.sha256(example.fields.get("content", example.fields["image"]).encode()).hexdigest()


def _too_few(short: Mapping[str, int], wanted: str, need: int) -> DataError:
    told = [f"{quote(label)} has {count}" for label, count in sorted(short.items(), key=lambda item: (item[1], item[0]))]
    return DataError(
        f"{len(short)} of the classes have fewer than the {need} pictures that are asked for ({wanted}): {listing(told)}. Lower "
        "images.shots or images.select_shots, add pictures, or set images.fewer = true to take what there is."
    )
