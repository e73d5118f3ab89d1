"""Class lines: what someone, a language model say, tells of classes in texts of one line.

Of each class there may be *examples* (what a text of the class looks like) and *descriptions* (what it is about, how it differs from its
neighbours). They are no labelled data: they train beside them, each at a weight of its own, and nothing is judged by them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, get_args

from maao.errors import CodecError, DataError
from maao.members import fold_member, full_member
from maao.types import DESCRIPTIONS, EXAMPLES, LINES_WEIGHT, Splits

Kind = Literal["examples", "descriptions"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FIELD: Mapping[Kind, str] = {"examples": EXAMPLES, "descriptions": DESCRIPTIONS}  # a field is named after its kind and its class


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a class. `weight` is what it weighs beside a labelled example.

    Raises:
        ValueError: the text is empty or no single line, or the weight is negative or no number.

    Example:
        >>> Line("refund", "examples", "Where is my money?").weight
        1.0
    """

    label: str
    kind: Kind
    text: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a line is one of {', '.join(KINDS)}, not {self.kind!r}")
        if (found := fault_of(self.text)) is not None:
            raise ValueError(found)
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"the weight {self.weight!r} is no number from 0 on")


@dataclass(frozen=True, slots=True)
class ClassLines:
    """The lines of all classes, class by class, examples before descriptions; a class may have none.

    Example:
        >>> lines = ClassLines.from_fields({"examples.bad": "Dull.\\nA waste.", "lines_weight": "0.5"}, ("bad", "good"))
        >>> lines.of("bad")
        (Line(label='bad', kind='examples', text='Dull.', weight=0.5), Line(label='bad', kind='examples', text='A waste.', weight=0.5))
        >>> lines.to_json()
        {'bad': {'examples': [['Dull.', 0.5], ['A waste.', 0.5]]}}
    """

    lines: tuple[Line, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def of(self, label: str, kind: Kind | None = None) -> tuple[Line, ...]:
        """Return the lines of a class, of one kind or of both."""
        return tuple(line for line in self.lines if line.label == label and kind in (None, line.kind))

    def labels(self) -> tuple[str, ...]:
        """Return the classes that have lines, in their order."""
        return tuple(dict.fromkeys(line.label for line in self.lines))

    def in_order(self, labels: Sequence[str]) -> ClassLines:
        """Return the same lines class by class, examples before descriptions, as they were within."""
        found: dict[tuple[str, Kind], list[Line]] = {(label, kind): [] for label in labels for kind in KINDS}
        for line in self.lines:
            if (line.label, line.kind) in found:
                found[line.label, line.kind].append(line)
        return ClassLines(tuple(line for own in found.values() for line in own))

    def at(self, weight: float) -> ClassLines:
        """Return the same lines, each at this weight."""
        return ClassLines(tuple(replace(line, weight=weight) for line in self.lines))

    def weighing(self, weights: Sequence[float]) -> ClassLines:
        """Return the same lines, each at a weight of its own."""
        return ClassLines(tuple(replace(line, weight=float(weight)) for line, weight in zip(self.lines, weights, strict=True)))

    # -- as the fields of a proposal

    def to_fields(self) -> dict[str, str]:
        """Return the fields of a proposal: ``examples.LABEL``, ``descriptions.LABEL``, each line by line, and ``lines_weight``.

        Raises:
            ValueError: the lines weigh differently, and fields have one weight for all; say which by `at`.

        Example:
            >>> ClassLines((Line("bad", "descriptions", "what one would not see again"),)).to_fields()
            {'descriptions.bad': 'what one would not see again', 'lines_weight': '1.0'}
        """
        weights = {line.weight for line in self.lines}
        if len(weights) > 1:
            raise ValueError(f"fields have one weight for all lines, and these have {len(weights)}: say which, `lines.at(1.0).to_fields()`")
        texts: dict[str, list[str]] = {}
        for line in self.lines:
            texts.setdefault(FIELD[line.kind] + line.label, []).append(line.text)
        found = {name: "\n".join(own) for name, own in texts.items()}
        return {**found, LINES_WEIGHT: repr(weights.pop())} if weights else found

    @classmethod
    def from_fields(cls, fields: Mapping[str, str], labels: Sequence[str]) -> ClassLines:
        """Return the lines that a proposal fills in, each at ``lines_weight`` (1 where it is not there), in the order of the classes.

        Raises:
            CodecError: a field of another name, an unknown class, a line that is none, a weight that is none, no line at all.

        Example:
            >>> ClassLines.from_fields({"examples.god": "Great."}, ("bad", "good"))
            Traceback (most recent call last):
            maao.errors.CodecError: There are lines of the class 'god', which is not there. Did you mean 'good'? Classes: 'bad', 'good'.
        """
        names = {FIELD[kind] + label: (label, kind) for label in labels for kind in KINDS}
        if unknown := [name for name in fields if name not in names and name != LINES_WEIGHT]:
            raise CodecError(_unknown_field(unknown[0], labels))
        weight = _weight(fields.get(LINES_WEIGHT, "1"))
        given = [(*names[name], text) for name in names if name in fields for text in fields[name].split("\n")]
        if not given:
            raise CodecError("There is no line of any class: fill examples.LABEL or descriptions.LABEL.")
        for label, kind, text in given:
            if (found := fault_of(text)) is not None:
                raise CodecError(f"A line of {FIELD[kind]}{label} cannot be used: {found}.")
        return cls(tuple(Line(label, kind, text, weight) for label, kind, text in given))

    # -- as JSON

    def to_json(self) -> dict[str, dict[str, list[list[str | float]]]]:
        """Return ``{class: {"examples": [[text, weight], ...], "descriptions": ...}}``, without what is empty."""
        found: dict[str, dict[str, list[list[str | float]]]] = {}
        for line in self.lines:
            found.setdefault(line.label, {}).setdefault(line.kind, []).append([line.text, line.weight])
        return found

    @classmethod
    def from_json(cls, told: object, labels: Sequence[str], where: str = "class lines", weight: float = 1.0) -> ClassLines:
        """Return lines of ``{class: {"examples": [...], "descriptions": [...]}}``; a list in the place of an object holds examples.

        Args:
            told: a line is a text, or a text and what it weighs, ``[text, weight]``.
            labels: the classes, in their order.
            where: what it was read from, for errors.
            weight: what all weights are multiplied by; a line without one weighs 1 before.

        Raises:
            DataError: it is not of this form, or a class is not known.

        Example:
            >>> ClassLines.from_json({"bad": ["Dull.", ["A waste.", 0.5]]}, ("bad", "good"), weight=0.5).to_json()
            {'bad': {'examples': [['Dull.', 0.5], ['A waste.', 0.25]]}}
        """
        if not isinstance(told, dict) or not told:
            raise DataError(f'{where}: lines are one object, {{"class": ["text", ...], ...}}; this is {kind_of(told)}.')
        known = frozenset(labels)
        if unknown := [label for label in told if label not in known]:
            raise DataError(f"{where}: {_unknown_class(unknown[0], labels)}")
        found = {label: _of_class(label, told[label], where) for label in told}
        return cls(
            tuple(
                Line(label, kind, text, own * weight)
                for label in labels
                for kind in KINDS
                for text, own in found.get(label, {}).get(kind, ())
            )
        )


def has_lines(fields: Iterable[str]) -> bool:
    """Say whether fields of a proposal, by their names, hold class lines for all members or for the full one."""
    return any(name.startswith((EXAMPLES, DESCRIPTIONS)) for name in fields)


def fields_of_fold(fields: Mapping[str, str], fold: int) -> dict[str, str]:
    """Return what a proposal fills for the member that leaves a fold out.

    That is what it fills for all. But where lines are said to members apart, behind ``"fold<i>."``, as those are that are made of labelled
    examples, a member has its own alone, and may have none.

    Example:
        >>> fields = {"examples.bad": "Dull.\\nBad.", "fold0.examples.bad": "Dull.", "lines_weight": "0.5"}
        >>> fields_of_fold(fields, 0), fields_of_fold(fields, 1)
        ({'lines_weight': '0.5', 'examples.bad': 'Dull.'}, {'lines_weight': '0.5'})
    """
    plain = full_member(fields)
    if len(plain) == len(fields):
        return plain
    return {name: text for name, text in plain.items() if not has_lines((name,))} | fold_member(fields, fold)


def fault_of(text: object) -> str | None:
    """Return what keeps a text from being a line; None: nothing.

    Example:
        >>> fault_of("two\\nlines"), fault_of(" "), fault_of("one line")
        ("'two\\\\nlines' is more than one line", 'it is empty', None)
    """
    if not isinstance(text, str):
        return f"it is {kind_of(text)}, not a text"
    if not text.strip():
        return "it is empty"
    if len(text.splitlines()) > 1 or text.splitlines()[0] != text:
        return f"{text[:60]!r} is more than one line"
    if "\0" in text:
        return "it holds a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is no character"
    return None


def kind_of(thing: object) -> str:
    """Return in words what something is that should have been a text, a list or an object.

    Example:
        >>> kind_of(""), kind_of(3)
        ('empty', 'a int')
    """
    return "empty" if isinstance(thing, str | dict | list) and not thing else f"a {type(thing).__name__}"


def alike(text: str) -> str:
    """Return a form of a text that is the same for texts which a reader would take for one: case and white space aside.

    Example:
        >>> alike("Where  is my card?") == alike("where is my Card? ")
        True
    """
    return " ".join(text.casefold().split())


def texts_of(splits: Splits) -> dict[str, str]:
    """Return the texts of all splits and of their lines, in the form of `alike`, each with what it is: "an example of test", say."""
    lines = {alike(line.text): "a line of data.lines" for line in splits.lines}
    parts = reversed([*splits.parts])
    return lines | {alike(" ".join(example.fields.values())): f"an example of {name}" for name in parts for example in splits.parts[name]}


def without_repeats(lines: ClassLines, known: Mapping[str, str]) -> tuple[ClassLines, dict[str, int]]:
    """Return the lines that say something new, and how many of the others repeat what.

    Args:
        known: texts in the form of `alike`, each with what it is.

    Example:
        >>> lines = ClassLines.from_json({"bad": ["dull.", "A waste.", "a  waste."]}, ("bad",))
        >>> without_repeats(lines, {"dull.": "an example of train"})[1]
        {'an example of train': 1, 'another line': 1}
    """
    kept: dict[str, Line] = {}
    left_out: dict[str, int] = {}
    for line in lines:
        key = alike(line.text)
        repeats = known.get(key, "another line" if key in kept else "")
        if repeats:
            left_out[repeats] = left_out.get(repeats, 0) + 1
        else:
            kept[key] = line
    return ClassLines(tuple(kept.values())), left_out


def left_out_told(left_out: Mapping[str, int]) -> list[str]:
    """Say how many lines were left out since they repeat what.

    Example:
        >>> left_out_told({"an example of train": 1, "another line": 2})
        ['1 line left out that repeats an example of train', '2 lines left out that repeat another line']
    """
    return [f"{count_told(count)} left out that {'repeats' if count == 1 else 'repeat'} {what}" for what, count in left_out.items()]


def count_told(number: int) -> str:
    """Return a number of lines in words.

    Example:
        >>> count_told(1), count_told(2)
        ('1 line', '2 lines')
    """
    return f"{number} line{'' if number == 1 else 's'}"


def _of_class(label: str, given: object, where: str) -> dict[str, list[tuple[str, float]]]:
    """Return the lines of a class by kind, each with its weight."""
    told = {"examples": given} if isinstance(given, list) else given
    if not isinstance(told, dict):
        raise DataError(f"{where}: the lines of class {label!r} are a list of texts; this is {kind_of(given)}.")
    if further := [name for name in told if name not in KINDS]:
        raise DataError(f"{where}: of class {label!r} {' and '.join(map(repr, KINDS))} are read, not {further[0]!r}: drop it.")
    found: dict[str, list[tuple[str, float]]] = {}
    for kind, lines in told.items():
        if not isinstance(lines, list):
            raise DataError(f"{where}: the {kind} of class {label!r} are a list of texts; this is {kind_of(lines)}.")
        found[kind] = [_of_line(line, f"{where}: line {number} of class {label!r}") for number, line in enumerate(lines, 1)]
    return found


def _of_line(line: object, where: str) -> tuple[str, float]:
    text, weight = line if isinstance(line, list) and len(line) == 2 else (line, 1.0)
    if not isinstance(text, str) or fault_of(text) is not None:
        raise DataError(f"{where}: {fault_of(text)}.")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (math.isfinite(weight) and weight >= 0):
        raise DataError(f"{where}: the weight {weight!r} is no number from 0 on.")
    return text, float(weight)


def _weight(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found >= 0):
        raise CodecError(f"{LINES_WEIGHT} is what each line weighs beside a labelled example, a number from 0 on, not {text[:60]!r}.")
    return found


def _unknown_field(name: str, labels: Sequence[str]) -> str:
    for start in FIELD.values():
        if name.startswith(start):
            return f"There are lines of the class {_unknown_class(name.removeprefix(start), labels, told='')}"
    return f"There is nothing to fill that is called {name!r}; there is: examples.LABEL, descriptions.LABEL, {LINES_WEIGHT}."


def _unknown_class(label: str, labels: Sequence[str], told: str = "there are lines of the class ") -> str:
    by_lower = {known.lower(): known for known in labels}
    near = get_close_matches(label.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    shown = ", ".join(map(repr, labels[:8])) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
    return f"{told}{label[:60]!r}, which is not there.{hint} Classes: {shown}."
