"""Example lines of classes: texts that someone wrote of each class, a language model say, which join `train` at a weight of their own.

They are no labelled examples: nothing is chosen or reported by them, and no count of labels has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maao.data.checks import canonical_json, excerpt, listing, nearest, quote
from maao.data.files import bad_text, decoded, loads
from maao.data.sampling import sha256
from maao.data.splits import SPLITS
from maao.errors import DataError
from maao.types import Example, Splits

Lines = Mapping[str, Sequence[str]]  # class -> its lines
EXAMPLES = "examples"  # where a class's lines stand under a name, the only one that is read


def read_lines(path: str | Path) -> dict[str, list[str]]:
    """Return the lines of a JSON file, ``{class: [text, ...]}`` or ``{class: {"examples": [text, ...]}}``.

    Raises:
        DataError: there is no such file, it is not of this form, or a line is empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "lines.json")
        ...     _ = path.write_text('{"refund": ["Where is my money?"], "card": {"examples": ["My card is lost."]}}', encoding="utf-8")
        ...     read_lines(path)
        {'refund': ['Where is my money?'], 'card': ['My card is lost.']}
    """
    file = Path(path)
    try:
        text = decoded(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}. data.lines names a JSON file of example lines a class.") from error
    if (bad := bad_text(text)) is not None:
        raise DataError(f"{file}: {bad}")
    try:
        found = loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not correct JSON: {error.msg} (column {error.colno}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f'{file}: lines are one object, {{"class": ["text", ...], ...}}; this is {_kind(found)}.')
    return {label: _of_class(label, given, str(file)) for label, given in found.items()}


def _of_class(label: str, given: object, where: str) -> list[str]:
    if isinstance(given, dict):
        if further := [name for name in given if name != EXAMPLES]:
            raise DataError(f"{where}: of class {quote(label)} only {quote(EXAMPLES)} are read, not {listing(further)}: drop it.")
        given = given.get(EXAMPLES, [])
    if not isinstance(given, list):
        raise DataError(f"{where}: the lines of class {quote(label)} are a list of texts; this is {_kind(given)}.")
    for number, line in enumerate(given, 1):
        if not isinstance(line, str) or not line.strip():
            raise DataError(f"{where}: line {number} of class {quote(label)} is {_kind(line)}, not a text.")
    return given


def _kind(thing: object) -> str:
    return "empty" if isinstance(thing, str | dict | list) and not thing else f"a {type(thing).__name__}"


def with_lines(splits: Splits, lines: Lines, weight: float, source: str) -> Splits:
    """Return splits with lines that join `train`; notes say how many, and what was left out.

    A line that repeats an example of any split, but for case and white space, is left out, and so is one that repeats another line.

    Args:
        lines: class -> its lines.
        weight: what each weighs beside a labelled example.
        source: what they were read from, for errors and notes.

    Raises:
        DataError: a class that the data do not have, a line of two classes, examples of several fields or with choices, no line left.

    Example:
        >>> splits = Splits((Example({"text": "Dull."}, "bad"), Example({"text": "Fine."}, "good")), (), (), ("bad", "good"))
        >>> found = with_lines(splits, {"bad": ["dull.", "A waste of time."]}, 0.5, "lines.json")
        >>> found.lines, found.weights
        ((Example(fields={'text': 'A waste of time.'}, label='bad'),), (None, None, 0.5))
        >>> print(*found.notes, sep="\\n")
        lines.json: 1 line of 1 of 2 classes joins train, at 0.5 of the weight of a labelled example; it neither chooses nor is reported.
        lines.json: 1 line left out that repeats an example of train.
    """
    field = _field(splits, source)
    if unknown := [label for label in lines if label not in splits.labels]:
        raise DataError(
            f"{source} has lines of the class {quote(unknown[0])}, which the data do not have.{nearest(unknown[0], splits.labels)} "
            f"Classes: {listing(splits.labels)}."
        )
    own = {_alike(example.fields[field]): name for name in reversed(SPLITS) for example in splits.parts[name]}
    kept: dict[str, Example] = {}
    left_out: dict[str, int] = {}
    for label in splits.labels:
        for text in lines.get(label, ()):
            key = _alike(text)
            if key in own:
                left_out[f"an example of {own[key]}"] = left_out.get(f"an example of {own[key]}", 0) + 1
            elif key not in kept:
                kept[key] = Example({field: text}, label)
            elif kept[key].label == label:
                left_out["another line"] = left_out.get("another line", 0) + 1
            else:
                raise DataError(
                    f"{source}: the line {excerpt(kept[key])} stands under two classes, {quote(kept[key].label)} and {quote(label)}: keep "
                    "it in one."
                )
    if not kept:
        raise DataError(f"{source}: no line is left to train on. Give other lines, or drop data.lines.")
    examples = tuple(kept.values())
    notes = _notes(source, examples, len(splits.labels), weight, left_out)
    return replace(splits, lines=examples, lines_weight=weight, notes=(*splits.notes, *notes))


def lines_digest(splits: Splits) -> str:
    """Return a hash of the lines as they are trained on; nothing where there are none."""
    if not splits.lines:
        return ""
    return "sha256:" + sha256(canonical_json([[dict(line.fields), line.label] for line in splits.lines]))


def _field(splits: Splits, source: str) -> str:
    """Return the one field of the examples, in whose place a line stands."""
    first = next(iter((*splits.train, *splits.select, *splits.test)), None)
    fields = ["text"] if first is None else list(first.fields)
    if len(fields) != 1:
        raise DataError(f"{source}: a line is one text, and the examples have the fields {listing(fields)}: drop data.lines.")
    if first is not None and first.choices:
        raise DataError(f"{source}: a line is a text of a class, and these examples have choices of their own: drop data.lines.")
    return fields[0]


def _alike(text: str) -> str:
    """Return a form of a text that is the same for texts which a reader would take for one."""
    return " ".join(text.casefold().split())


def _notes(source: str, lines: Sequence[Example], num_classes: int, weight: float, left_out: Mapping[str, int]) -> list[str]:
    have = len({line.label for line in lines})
    told = "joins train" if len(lines) == 1 else "join train"
    ends = "it neither chooses nor is reported" if len(lines) == 1 else "they neither choose nor are reported"
    of = f"{have} of {num_classes} classes" if have < num_classes else f"{num_classes} classes"
    found = [f"{source}: {_count(len(lines))} of {of} {told}, at {weight:g} of the weight of a labelled example; {ends}."]
    for what, count in left_out.items():
        found.append(f"{source}: {_count(count)} left out that {'repeats' if count == 1 else 'repeat'} {what}.")
    return found


def _count(number: int) -> str:
    return f"{number} line{'' if number == 1 else 's'}"
