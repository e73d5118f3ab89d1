"""What every example must be, and how a bad one is reported, wherever the examples come from.

The readers (`files.py`, `hub.py`) know rows of columns and call `examples_from_rows`; `splits.py` knows ready examples and calls
`check_examples`. Both use the same `fault` and the same wording, and both name *all* bad rows, not only the first.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from difflib import get_close_matches
from json.encoder import encode_basestring as json_text
from typing import Any, TypedDict, Unpack

import numpy as np

from maao.errors import ConfigError, DataError
from maao.types import Example

TEXT_COLUMNS = ("text", "sentence")  # where the field "text" is looked for when no `text_fields` are given
TEXT_ADVICE = " The template's fields are columns; name other ones with data.text_fields."
LABEL_ADVICE = " Name the column of the label with data.label_field."
ROW_ADVICE = " Mend these {what}, or remove them: no setting leaves {what} out."
MAX_NAMED = 10  # bad rows named one by one in an error; the others are counted
MAX_LISTED = 20  # columns or labels listed in an error
MAX_QUOTED = 60  # characters of a text quoted in an error or a note
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)

Row = tuple[str, Mapping[str, object]]  # (where it stands: "line 3", its columns)


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that cannot be used: where it stands ("line 3"), why, and what of it could be read (its columns; a line of text).

    `advice` is what mends all rows of its sort, a sentence that is said once for a file.
    """

    place: str
    reason: str
    read: Mapping[str, object] | str = ""
    advice: str = ""


def advice_of(unread: Sequence[Unread]) -> list[str]:
    """Return each piece of advice on rows once, with how many it is for where that is not all.

    Example:
        >>> bytes_, short = Unread("line 2", "byte 0xe9 is not UTF-8", advice="Save it as UTF-8."), Unread("line 4", "has 1 columns")
        >>> advice_of([bytes_, bytes_]), advice_of([bytes_, short])
        (['Save it as UTF-8.'], ['For 1 of them: Save it as UTF-8.'])
    """
    counts = Counter(one.advice for one in unread if one.advice)
    return [advice if count == len(unread) else f"For {count} of them: {advice}" for advice, count in counts.items()]


class Columns(TypedDict, total=False):
    """Which columns make an example, and how labels are named: the same rules for files, hub data sets and examples in memory.

    Keys:
        text_fields: template field -> column, such as `{"premise": "sentence1"}`; dots reach into nested columns. None: each of `fields`
            from the column of its own name, and the lone field "text" from the column `text` or `sentence`. Other columns are not read.
        fields: the fields that the template reads, where `text_fields` is None; by default `("text",)`.
        label_field: the column that holds the label; by default "label".
        label_names: raw label -> name, such as `{"0": "negative", "1": "positive"}`; None: labels stay as they are.
        labels: the classes, where the caller lists them: a label among them is never taken for a repeated header.
    """

    text_fields: Mapping[str, str] | None
    fields: Sequence[str]
    label_field: str
    label_names: Mapping[str, str] | None
    labels: Sequence[str] | None


def quote(text: str) -> str:
    """Return a text in quotes, cut to a readable length.

    Example:
        >>> quote("short"), len(quote("x" * 1000))
        ("'short'", 65)
    """
    return repr(text) if len(text) <= MAX_QUOTED else repr(text[:MAX_QUOTED]) + "..."


def listing(names: Iterable[str], limit: int = MAX_LISTED) -> str:
    """Return names as a readable list, the first ones in full and the others counted.

    Example:
        >>> listing(["text", "label"]), listing("abcd", limit=2)
        ("'text', 'label'", "'a', 'b' and 2 more")
    """
    shown = [quote(name) for name in names]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "") or "none"


def num_examples(examples: int | Sequence[Example]) -> str:
    """Return a number of examples in words.

    Example:
        >>> num_examples(1), num_examples(2)
        ('1 example', '2 examples')
    """
    number = examples if isinstance(examples, int) else len(examples)
    return f"{number} example" if number == 1 else f"{number} examples"


def excerpt(example: Example) -> str:
    """Return an example's fields in quotes, each cut to a readable length."""
    return " / ".join(quote(text) for text in example.fields.values())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" for the known name closest to `name`, or nothing where none is close.

    Example:
        >>> nearest("lable", ["text", "label"])
        " Did you mean 'label'?"
    """
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean {quote(by_lower[close[0]])}?" if close else ""


def canonical(example: Example) -> str:
    """Return an example as canonical JSON: sorted keys, no spaces, non-ASCII kept. Digests and choices by hash rest on it.

    Example:
        >>> canonical(Example({"text": "good film"}, "positive"))
        '{"fields":{"text":"good film"},"label":"positive"}'
    """
    if example.choices or example.group:
        return canonical_json(as_mapping(example))
    return f'{{"fields":{canonical_fields(example.fields)},"label":{json_text(example.label)}}}'


def canonical_fields(fields: Mapping[str, str]) -> str:
    """Return an example's fields as canonical JSON, written by hand: pools of many rows are compared by it.

    Example:
        >>> canonical_fields({"b": "é", "a": "1"})
        '{"a":"1","b":"é"}'
    """
    return "{" + ",".join([f"{json_text(name)}:{json_text(fields[name])}" for name in sorted(fields)]) + "}"


def as_mapping(example: Example) -> dict[str, object]:
    """Return an example as plain data. Choices and group are left out where it has none: digests of plain examples stay as they were.

    Example:
        >>> as_mapping(Example({"premise": "It rained."}, "1", choices=("It was dry.", "It was wet.")))
        {'fields': {'premise': 'It rained.'}, 'label': '1', 'choices': ['It was dry.', 'It was wet.']}
    """
    plain: dict[str, object] = {"fields": dict(example.fields), "label": example.label}
    if example.choices:
        plain["choices"] = list(example.choices)
    if example.group:
        plain["group"] = example.group
    return plain


def canonical_json(value: object) -> str:
    """Return plain data as JSON with sorted keys, no spaces, non-ASCII kept."""
    return CANONICAL.encode(value)


def fault(example: Example) -> str | None:
    """Return what makes an example unusable, or None.

    Example:
        >>> fault(Example({"text": " "}, "positive"))
        "the field 'text' is empty"
    """
    if not example.fields:
        return "it has no text field"
    parts = [(f"the field {quote(name)}", text) for name, text in example.fields.items()]
    parts += [(f"choice {position}", text) for position, text in enumerate(example.choices)]
    parts += [("the group", example.group)] if example.group else []
    for what, text in (*parts, ("the label", example.label)):
        if what == "the label" and isinstance(text, list | tuple | AbstractSet | Mapping | np.ndarray):
            return f"the label is {_kind(text)}: an example has one label, and several for one are not read"
        if what == "the label" and isinstance(text, float):
            return f"the label is {_kind(text)}: numbers are not predicted (there is no regression), give classes"
        if not isinstance(text, str):
            return f"{what} is {_kind(text)}, not text"
        if not text.strip():
            return f"{what} is empty"
        if "\0" in text:
            return f"{what} holds a NUL character"
        if not text.isascii() and HALF_CHARACTER.search(text):
            return f"{what} holds half of a surrogate pair, which is no character"
    return _fault_of_choices(example) if example.choices else None


def _fault_of_choices(example: Example) -> str | None:
    positions = [str(position) for position in range(len(example.choices))]
    if len(positions) < 2:
        return "it has one choice only"
    if len(set(example.choices)) < len(positions):
        return "two of its choices are the same"
    if example.label not in positions:
        return f"the label {quote(example.label)} is not the position of a choice: {listing(positions)}"
    return None


def check_examples(examples: Sequence[Example], where: str) -> None:
    """Raise `DataError` unless every example is usable and all have the same fields; `where` names them ("train").

    Example:
        >>> check_examples([Example({"text": "good"}, "positive"), Example({"text": ""}, "negative")], "train")
        Traceback (most recent call last):
        maao.errors.DataError: train: 1 of 2 examples cannot be used: example 2 (the field 'text' is empty).
    """
    faults = [(f"example {index}", found) for index, example in enumerate(examples, 1) if (found := fault(example))]
    refuse(where, "examples", len(examples), faults)
    for index, example in enumerate(examples, 1):
        if example.fields.keys() != examples[0].fields.keys():
            raise DataError(
                f"{where}: all examples must have the same fields, but example {index} has {listing(example.fields)} "
                f"and example 1 has {listing(examples[0].fields)}."
            )
        for what, has, first in (("choices", example.choices, examples[0].choices), ("a group", example.group, examples[0].group)):
            if bool(has) != bool(first):
                these = (f"example {index}", "example 1") if has else ("example 1", f"example {index}")
                raise DataError(f"{where}: all examples must have {what} or none; {these[0]} has, {these[1]} has not.")


def refuse(where: str, what: str, total: int, faults: Sequence[tuple[str, str]], advice: str = "") -> None:
    """Raise one `DataError` that names the faulty places; do nothing where there are none."""
    if not faults:
        return
    named = "; ".join(f"{place} ({found})" for place, found in faults[:MAX_NAMED])
    more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    raise DataError(f"{where}: {len(faults)} of {total} {what} cannot be used: {named}{more}.{advice}")


def resolve_text_fields(
    columns: Sequence[str], text_fields: Mapping[str, str] | None, where: str, fields: Sequence[str] = ("text",)
) -> dict[str, str]:
    """Return template field -> column; without `text_fields` each field's own name, and for the lone field "text" `text` or `sentence`.

    Example:
        >>> resolve_text_fields(["sentence", "label"], None, "train.tsv")
        {'text': 'sentence'}
        >>> resolve_text_fields(["head", "body", "label"], None, "train.tsv", ("head", "body"))
        {'head': 'head', 'body': 'body'}
    """
    if text_fields is not None:
        if not text_fields:
            raise ConfigError('text_fields names no field: give at least one, {"text": "<column>"}, or leave it out.')
        return dict(text_fields)
    if tuple(fields) != ("text",):
        return {name: name for name in fields}
    found = [column for column in TEXT_COLUMNS if column in columns]
    if len(found) == 1:
        return {"text": found[0]}
    trouble = "columns 'text' and 'sentence' are both there" if found else "no column is called 'text' or 'sentence'"
    raise DataError(
        f'{where}: {trouble}. Say which to read with text_fields={{"text": "<column>"}} (in a config: data.text_fields). '
        f"Columns: {listing(columns)}."
    )


def columns_read(names: Sequence[str], columns: Columns, where: str) -> list[str]:
    """Return which of a table's columns are read; all, where one that is needed is missing, for the error to list them.

    Example:
        >>> columns_read(["id", "text", "label"], {}, "a.parquet")
        ['text', 'label']
    """
    chosen = resolve_text_fields(names, columns.get("text_fields"), where, columns.get("fields") or ("text",)).values()
    needed = {name if name in names else name.split(".")[0] for name in (*chosen, columns.get("label_field", "label"))}
    return [name for name in names if name in needed] if needed <= set(names) else list(names)


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that stand more than once, sorted.

    Example:
        >>> repeated(["text", "label", "text"])
        ['text']
    """
    return sorted(name for name, count in Counter(names).items() if count > 1)


def examples_from_rows(rows: Sequence[Row], *, where: str, **columns: Unpack[Columns]) -> tuple[Example, ...]:
    """Turn rows of columns into examples, by the rules of `Columns`.

    A column may be named with dots to reach into a nested one (`"target.span1_text"`). Texts are kept as they are; labels lose the white
    space around them. Booleans become "true" and "false", whole numbers their decimal string (a label of 1.0 is the label 1). None, NaN,
    and the missing values of numpy and pandas are missing.

    Args:
        rows: where each row stands ("line 3"), and its columns.
        where: the file or data set, for errors.

    Raises:
        DataError: no rows, a missing column, an empty or unusable text or label, several labels in one row, a label that `label_names`
            lacks, a row that repeats the header. All bad rows are named.

    Example:
        >>> rows = [("line 2", {"sentence": "good film", "label": 1})]
        >>> examples_from_rows(rows, where="a.tsv", label_names={"1": "positive"})
        (Example(fields={'text': 'good film'}, label='positive'),)
    """
    label_field, label_names = columns.get("label_field", "label"), columns.get("label_names")
    if not rows:
        raise DataError(f"{where}: holds no examples.")
    fields = resolve_text_fields(list(rows[0][1]), columns.get("text_fields"), where, columns.get("fields") or ("text",))
    known = {*(label_names or ()), *(columns.get("labels") or ())}
    read: list[tuple[str, Example]] = []
    for place, row in rows:
        texts = {name: as_text(column_of(row, column, where, place, TEXT_ADVICE)) for name, column in fields.items()}
        read.append((place, Example(texts, as_label(column_of(row, label_field, where, place, LABEL_ADVICE)))))
    return _named(read, where, "rows", label_names, lambda example: _repeated_header(example, fields, label_field, known))


def ready_examples(examples: Sequence[Example], *, where: str, **columns: Unpack[Columns]) -> tuple[Example, ...]:
    """Return examples that are made already, with their labels read and named as those of rows are.

    Raises:
        ConfigError: columns are named, which such examples do not have.
        DataError: one is unusable, or `label_names` lacks its label. All such are named.

    Example:
        >>> ready_examples([Example({"text": "good film"}, " 1")], where="train", label_names={"1": "positive"})
        (Example(fields={'text': 'good film'}, label='positive'),)
    """
    given = {"text_fields": columns.get("text_fields") is not None, "label_field": columns.get("label_field", "label") != "label"}
    if ignored := [f"data.{name}" for name, is_given in given.items() if is_given]:
        raise ConfigError(
            f"{' and '.join(ignored)} would be ignored: {where} holds ready examples, which have fields and a label and no columns. "
            "Drop it, or give mappings."
        )
    read = [(f"example {number}", replace(example, label=as_label(example.label))) for number, example in enumerate(examples, 1)]
    return _named(read, where, "examples", columns.get("label_names"), lambda _: None)


def _named(
    read: Sequence[tuple[str, Example]],
    where: str,
    what: str,
    label_names: Mapping[str, str] | None,
    further: Callable[[Example], str | None],
) -> tuple[Example, ...]:
    """Return examples by place with their labels' names. Refuses those with a `fault` or a `further` one, and labels without a name."""
    if label_names is not None and (blank := [raw for raw, name in label_names.items() if not name.strip()]):
        raise ConfigError(f"label_names gives an empty name to {listing(blank)}.")
    examples: list[Example] = []
    faults: list[tuple[str, str]] = []
    unknown = unusable = False
    for place, example in read:
        found = fault(example)
        unusable = unusable or found is not None
        found = found or further(example)
        if found is None and label_names is not None:
            if example.label in label_names:
                example = replace(example, label=label_names[example.label])
            else:
                found, unknown = f"the label {quote(example.label)} is not in label_names", True
        if found is not None:
            faults.append((place, found))
        examples.append(example)
    advice = ROW_ADVICE.format(what=what) if unusable else ""
    refuse(where, what, len(read), faults, advice + (f" label_names knows {listing(label_names or ())}." if unknown else ""))
    return tuple(examples)


def _repeated_header(example: Example, fields: Mapping[str, str], label_field: str, known: AbstractSet[str]) -> str | None:
    """Say where a row repeats the header, or its label is the name of the column of labels, unless that is a known label."""
    if example.label != label_field or example.label in known:
        return None
    if all(example.fields[name].strip() == column for name, column in fields.items()):
        return "it repeats the header; delete it"
    return f"the label is {quote(label_field)}, the name of its column; if it is a class, list all classes in data.labels"


def column_of(row: Mapping[str, object], column: str, where: str, place: str, advice: str = "") -> object:
    """Return a column of a row, named with dots where it is nested. Raises `DataError` with the columns there are, and the advice."""
    if column in row:
        return row[column]
    value: object = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = list(row) + [f"{name}.{inner}" for name, nested in row.items() if isinstance(nested, Mapping) for inner in nested]
            raise DataError(
                f"{where}, {place}: there is no column {quote(column)}.{nearest(column, known)} Columns: {listing(known)}.{advice}"
            )
        value = value[part]
    return value


def as_text(value: object) -> Any:
    """Return booleans and integers as text and missing values as None; anything else as it is: `fault` says what is wrong with that.

    Example:
        >>> as_text(True), as_text(np.int64(3)), as_text(float("nan")), as_text(" a ")
        ('true', '3', None, ' a ')
    """
    if isinstance(value, np.generic):
        value = None if isinstance(value, np.datetime64 | np.timedelta64) and np.isnat(value) else value.item()
    if _is_missing(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def as_label(value: object) -> Any:
    """Return a label as text, without the white space around it. A float that is a whole number is that number: JSON does not tell them
    apart, and a table with a missing value makes floats of all others.

    Example:
        >>> as_label(1.0), as_label(" good "), as_label(0.5)
        ('1', 'good', 0.5)
    """
    text = as_text(value)
    if isinstance(text, float) and text.is_integer():
        return str(int(text))
    return text.strip() if isinstance(text, str) else text


def _is_missing(value: object) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    pandas = sys.modules.get("pandas")  # where it was never imported, nothing is a missing value of its kind
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def _kind(value: object) -> str:
    if value is None:
        return "missing (null)"
    if isinstance(value, float | complex):
        return f"the number {value!r}"
    return f"a {type(value).__name__}"
