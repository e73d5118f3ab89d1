"""The classes of a data set: their order, and labels that look like mistakes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

from maao.data.checks import listing, nearest, num_examples, quote
from maao.data.sampling import count_labels
from maao.errors import ConfigError, DataError
from maao.types import Example


def check_labels(labels: Sequence[str] | None, parts: Mapping[str, Sequence[Example]]) -> tuple[str, ...]:
    """Return the classes in order. The first part (the pool, or train) must hold all of them, and the others no further one."""
    (name, first), *others = parts.items()
    if labels is None:
        _refuse_odd_labels(parts)
    trained = sorted({example.label for example in first})
    for other, part in others:
        for example in part:
            if example.label not in trained:
                raise DataError(
                    f"{other} holds the label {quote(example.label)}, which {name} never does, so it cannot be learnt."
                    f"{nearest(example.label, trained)} Labels of {name}: {listing(trained)}."
                )
    if labels is not None:
        if repeated := sorted({label for label in labels if list(labels).count(label) > 1}):
            raise ConfigError(f"labels names {listing(repeated)} more than once.")
        for label in trained:
            if label not in labels:
                raise DataError(
                    f"{name} holds the label {quote(label)}, which is not among labels: {listing(labels)}.{nearest(label, labels)}"
                )
        for label in labels:
            if label not in trained:
                raise DataError(f"{name} has no example of class {quote(label)}.{nearest(label, trained)} Its labels: {listing(trained)}.")
    if len(trained) < 2:
        raise DataError(f"{name} holds one class only ({quote(trained[0])}): there is nothing to tell apart.")
    return tuple(trained if labels is None else labels)


def _refuse_odd_labels(parts: Mapping[str, Sequence[Example]]) -> None:
    """Refuse labels that look like mistakes; who lists the classes in `labels` has said that they are none."""
    counts = count_labels([example for part in parts.values() for example in part])
    if len(counts) > 1 and max(counts.values()) == 1:
        raise DataError(
            f"No two of the {len(counts)} examples have the same label, such as {listing(sorted(counts), 3)}: is the column of the label "
            "an id or a text? Name the right one (in a config: data.label_field)."
        )
    alike: dict[str, list[str]] = {}
    for label in sorted(counts):
        alike.setdefault(_alike(label), []).append(label)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        named = "; ".join(", ".join(f"{quote(label)} ({num_examples(counts[label])})" for label in group) for group in groups[:10])
        raise DataError(
            f"Labels differ only in case, white space, the form of their characters or of a number: {named}. If they are one class, make "
            "them one in the data, or with label_names (data.label_names); if they are not, list all classes in labels (data.labels)."
        )


def _alike(label: str) -> str:
    """Return a form of a label that is the same for labels which a reader would take for one.

    Example:
        >>> _alike("Sci \u200b Tech"), _alike("1.0"), _alike("\uff11")
        ('sci tech', '1', '1')
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = " ".join("".join(char for char in text if unicodedata.category(char) != "Cf").split())
    try:
        number = math.nan if "_" in text else float(text)
    except ValueError:
        return text
    return f"{number:.17g}" if math.isfinite(number) else text
