"""The classes of a data set: their order, and labels that look like mistakes."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from maao.data.checks import listing, nearest, num_examples, quote
from maao.data.sampling import count_labels
from maao.errors import ConfigError, DataError
from maao.types import Example


def check_labels(labels: Sequence[str] | None, parts: Mapping[str, Sequence[Example]], *, may_lack: bool = False) -> tuple[str, ...]:
    """Return the classes in order. The first part (the pool, or train) must hold all of them, and the others no further one.

    `may_lack`: the first part may have no example of classes that `labels` names: they are known by their names.
    """
    (name, first), *others = parts.items()
    if labels is None:
        _refuse_odd_labels(parts)
    known = {*(example.label for example in first), *((labels or ()) if may_lack else ())}
    trained = sorted(known)
    for other, part in others:
        for example in part:
            if example.label not in known:
                raise DataError(
                    f"{other} holds the label {quote(example.label)}, which {name} never does, so it cannot be learnt."
                    f"{nearest(example.label, trained)} Labels of {name}: {listing(trained)}."
                )
    if labels is not None:
        named = Counter(labels)
        if repeated := sorted(label for label, count in named.items() if count > 1):
            raise ConfigError(f"labels names {listing(repeated)} more than once.")
        for label in trained:
            if label not in named:
                raise DataError(
                    f"{name} holds the label {quote(label)}, which is not among labels: {listing(labels)}.{nearest(label, labels)}"
                )
        for label in labels:
            if label not in known:
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


MAX_TOLD = 10  # labels that an error or a note names one by one


@dataclass(frozen=True)
class MatchedLabels:
    """Labelled examples of others, told apart by whether a run knows their label.

    Attributes:
        examples: those of known classes, with the run's own names of these.
        others: the others, as they were.
        unknown: the labels of the others, sorted.
        notes: which labels are read as another name.
    """

    examples: tuple[Example, ...]
    others: tuple[Example, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]

    def told_unknown(self, labels: Sequence[str]) -> str:
        """Say which labels are not known, and what is near them."""
        named = []
        for label in self.unknown[:MAX_TOLD]:
            near = nearest(label, labels).removeprefix(" Did").removesuffix("?")
            named.append(quote(label) + (f" (did{near}?)" if near else ""))
        more = f" and {len(self.unknown) - MAX_TOLD} more" if len(self.unknown) > MAX_TOLD else ""
        many = f"{len(self.others)} of {num_examples(len(self.examples) + len(self.others))}"
        verb = "has" if len(self.others) == 1 else "have"
        return f"{many} {verb} a label that the run does not know: {', '.join(named)}{more}. Its labels: {listing(labels)}."


def match_labels(examples: Sequence[Example], labels: Sequence[str], names: Mapping[str, str] | None = None) -> MatchedLabels:
    """Return examples with their labels as a run names them.

    A label is a class's if it is its name, what `names` calls it, or differs from one name alone in case, white space, underscores or the
    form of its characters. Positions of choices are labels of their own and stay as they are.

    Args:
        labels: the classes.
        names: label in a file -> name of the class, as `data.label_names`.

    Example:
        >>> found = match_labels([Example({"text": "a"}, "Card Arrival"), Example({"text": "b"}, "other")], ["card_arrival", "top_up"])
        >>> found.examples[0].label, found.unknown, found.notes
        ('card_arrival', ('other',), ("labels are read as the run's own: 'Card Arrival' as 'card_arrival'",))
    """
    known_labels, forms = {*labels}, dict[str, list[str]]()
    for label in labels:
        forms.setdefault(_form(label), []).append(label)

    def own(label: str) -> str | None:
        if label in known_labels:
            return label
        if names is not None and names.get(label) in known_labels:
            return names[label]
        alike = forms.get(_form(label), [])
        return alike[0] if len(alike) == 1 else None

    found = {label: own(label) for label in dict.fromkeys(example.label for example in examples if not example.choices)}
    known, others = list[Example](), list[Example]()
    for example in examples:
        name = example.label if example.choices else found[example.label]
        if name is None:
            others.append(example)
        else:
            known.append(example if name == example.label else replace(example, label=name))
    renamed = [f"{quote(given)} as {quote(label)}" for given, label in found.items() if label not in (None, given)]
    more = f" and {len(renamed) - MAX_TOLD} more" if len(renamed) > MAX_TOLD else ""
    notes = (f"labels are read as the run's own: {', '.join(renamed[:MAX_TOLD])}{more}",) if renamed else ()
    return MatchedLabels(tuple(known), tuple(others), tuple(sorted({example.label for example in others})), notes)


def _form(label: str) -> str:
    return _alike(label.replace("_", " "))
