"""Class lines of a file: texts that someone wrote of each class, a language model say, which join `train` at weights of their own.

They are no labelled examples: nothing is chosen or reported by them, and no count of labels has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from maao.class_lines import ClassLines, alike, count_told, left_out_told, texts_of, without_repeats
from maao.data.checks import canonical_json, listing, nearest, quote
from maao.data.files import bad_text, decoded, loads
from maao.data.sampling import sha256
from maao.errors import DataError
from maao.types import Splits


def read_lines(path: str | Path) -> ClassLines:
    """Return the lines of a JSON file: ``{class: [text, ...]}`` or ``{class: {"examples": [...], "descriptions": [...]}}``.

    A line is a text, or a text and what it weighs beside others, ``[text, weight]``.

    Raises:
        DataError: there is no such file, it is not of this form, or a line is empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "lines.json")
        ...     _ = path.write_text('{"refund": ["Where is my money?"], "card": {"descriptions": [["a card", 0.5]]}}', encoding="utf-8")
        ...     [(line.label, line.kind, line.weight) for line in read_lines(path)]
        [('refund', 'examples', 1.0), ('card', 'descriptions', 0.5)]
    """
    file = Path(path)
    try:
        text = decoded(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}. data.lines names a JSON file of lines a class.") from error
    if (bad := bad_text(text)) is not None:
        raise DataError(f"{file}: {bad.what}. {bad.advice}")
    try:
        found = loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not correct JSON: {error.msg} (column {error.colno}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON: {error}.") from error
    return ClassLines.from_json(found, list(found) if isinstance(found, dict) else (), str(file))


def with_lines(splits: Splits, lines: ClassLines, weight: float, source: str) -> Splits:
    """Return splits with lines that join `train`; notes say how many, and what was left out.

    A line that repeats an example of any split, but for case and white space, is left out, and so is one that repeats another line.

    Args:
        weight: what their own weights are multiplied by, to be what each weighs beside a labelled example.
        source: what they were read from, for errors and notes.

    Raises:
        DataError: a class that the data do not have, a line of two classes, examples of several fields or with choices, no line left.

    Example:
        >>> from maao.class_lines import Line
        >>> from maao.types import Example
        >>> splits = Splits((Example({"text": "Dull."}, "bad"), Example({"text": "Fine."}, "good")), (), (), ("bad", "good"))
        >>> lines = ClassLines((Line("bad", "examples", "dull."), Line("bad", "examples", "A waste of time.")))
        >>> found = with_lines(splits, lines, 0.5, "lines.json")
        >>> found.lines
        (Line(label='bad', kind='examples', text='A waste of time.', weight=0.5),)
        >>> print(*found.notes, sep="\\n")
        lines.json: 1 line of 1 of 2 classes joins train, at 0.5 of the weight of a labelled example; it neither chooses nor is reported.
        lines.json: 1 line left out that repeats an example of train.
    """
    _check_fields(splits, source)
    if unknown := [label for label in lines.labels() if label not in splits.labels]:
        raise DataError(
            f"{source} has lines of the class {quote(unknown[0])}, which the data do not have.{nearest(unknown[0], splits.labels)} "
            f"Classes: {listing(splits.labels)}."
        )
    ordered = lines.in_order(splits.labels)
    _refuse_two_classes(ordered, source)
    kept, left_out = without_repeats(ordered, texts_of(splits))
    if not len(kept):
        raise DataError(f"{source}: no line is left to train on. Give other lines, or drop data.lines.")
    weighed = kept.weighing([line.weight * weight for line in kept])
    notes = _notes(source, weighed, len(splits.labels), left_out)
    return replace(splits, lines=(*splits.lines, *weighed), notes=(*splits.notes, *notes))


def lines_digest(splits: Splits) -> str:
    """Return a hash of the lines as they are trained on; nothing where there are none."""
    if not splits.lines:
        return ""
    return "sha256:" + sha256(canonical_json([[line.label, line.kind, line.text, line.weight] for line in splits.lines]))


def _check_fields(splits: Splits, source: str) -> None:
    """Refuse examples in whose place no line can stand."""
    first = next(iter((*splits.train, *splits.select, *splits.test)), None)
    if first is not None and len(first.fields) != 1:
        raise DataError(f"{source}: a line is one text, and the examples have the fields {listing(first.fields)}: drop data.lines.")
    if first is not None and first.choices:
        raise DataError(f"{source}: a line is a text of a class, and these examples have choices of their own: drop data.lines.")


def _refuse_two_classes(lines: ClassLines, source: str) -> None:
    of: dict[str, str] = {}
    for line in lines:
        label = of.setdefault(alike(line.text), line.label)
        if label != line.label:
            raise DataError(
                f"{source}: the line {quote(line.text)} stands under two classes, {quote(label)} and {quote(line.label)}: keep it in one."
            )


def _notes(source: str, lines: ClassLines, num_classes: int, left_out: Mapping[str, int]) -> list[str]:
    have, weights = len(lines.labels()), sorted({line.weight for line in lines})
    told = "joins train" if len(lines) == 1 else "join train"
    ends = "it neither chooses nor is reported" if len(lines) == 1 else "they neither choose nor are reported"
    of = f"{have} of {num_classes} classes" if have < num_classes else f"{num_classes} classes"
    at = f"{weights[0]:g}" if len(weights) == 1 else f"{weights[0]:g} to {weights[-1]:g}"
    found = [f"{source}: {count_told(len(lines))} of {of} {told}, at {at} of the weight of a labelled example; {ends}."]
    return [*found, *(f"{source}: {what}." for what in left_out_told(left_out))]
