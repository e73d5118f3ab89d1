"""What every example must be, and how a bad one is reported, wherever the examples come from.

The readers (`files.py`, `hub.py`) know rows of columns and call `examples_from_rows`; `splits.py` knows ready examples and calls
`check_examples`. Both use the same `fault` and the same wording, and both name *all* bad rows, not only the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from maao.errors import ConfigError, DataError
from maao.types import Example

TEXT_COLUMNS = ("text", "sentence")  # where the field "text" is looked for when no `text_fields` are given
MAX_NAMED = 10  # bad rows named one by one in an error; the others are counted
MAX_LISTED = 20  # columns or labels listed in an error
MAX_QUOTED = 60  # characters of a text quoted in an error or a note

Row = tuple[str, Mapping[str, Any]]  # (where it stands: "line 3", its columns)


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
    return canonical_json(as_mapping(example))


def as_mapping(example: Example) -> dict[str, Any]:
    """Return an example as plain data. Choices and group are left out where it has none: digests of plain examples stay as they were.

    Example:
        >>> as_mapping(Example({"premise": "It rained."}, "1", choices=("It was dry.", "It was wet.")))
        {'fields': {'premise': 'It rained.'}, 'label': '1', 'choices': ['It was dry.', 'It was wet.']}
    """
    plain: dict[str, Any] = {"fields": dict(example.fields), "label": example.label}
    if example.choices:
        plain["choices"] = list(example.choices)
    if example.group:
        plain["group"] = example.group
    return plain


def canonical_json(value: Any) -> str:
    """Return plain data as JSON with sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
        if not isinstance(text, str):
            return f"{what} is {_kind(text)}, not text"
        if not text.strip():
            return f"{what} is empty"
        if "\0" in text:
            return f"{what} holds a NUL character"
        if any("\ud800" <= char <= "\udfff" for char in text):
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


def resolve_text_fields(columns: Sequence[str], text_fields: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Return template field -> column; without `text_fields`, the field "text" from the column `text` or `sentence`.

    Example:
        >>> resolve_text_fields(["sentence", "label"], None, "train.tsv")
        {'text': 'sentence'}
    """
    if text_fields is not None:
        if not text_fields:
            raise ConfigError('text_fields names no field: give at least one, {"text": "<column>"}, or leave it out.')
        return dict(text_fields)
    found = [column for column in TEXT_COLUMNS if column in columns]
    if len(found) == 1:
        return {"text": found[0]}
    trouble = "columns 'text' and 'sentence' are both there" if found else "no column is called 'text' or 'sentence'"
    raise DataError(f'{where}: {trouble}. Say which to read with text_fields={{"text": "<column>"}}. Columns: {listing(columns)}.')


def examples_from_rows(
    rows: Sequence[Row],
    *,
    where: str,
    text_fields: Mapping[str, str] | None,
    label_field: str,
    label_names: Mapping[str, str] | None,
) -> tuple[Example, ...]:
    """Turn rows of columns into examples.

    A column may be named with dots to reach into a nested one (`"target.span1_text"`). Texts are kept as they are; labels lose the white
    space around them. Booleans become "true" and "false", integers their decimal string.

    Args:
        rows: where each row stands ("line 3"), and its columns.
        where: the file or data set, for errors.
        text_fields: template field -> column; None: the field "text" from the column `text` or `sentence`.
        label_field: the column that holds the label.
        label_names: raw label -> name; None: labels stay as they are.

    Raises:
        DataError: no rows, a missing column, an empty or unusable text or label, a label that `label_names` lacks. All bad rows are named.

    Example:
        >>> rows = [("line 2", {"sentence": "good film", "label": 1})]
        >>> examples_from_rows(rows, where="a.tsv", text_fields=None, label_field="label", label_names={"1": "positive"})
        (Example(fields={'text': 'good film'}, label='positive'),)
    """
    if label_names is not None and (blank := [raw for raw, name in label_names.items() if not name.strip()]):
        raise ConfigError(f"label_names gives an empty name to {listing(blank)}.")
    if not rows:
        raise DataError(f"{where}: holds no examples.")
    fields = resolve_text_fields(list(rows[0][1]), text_fields, where)
    examples: list[Example] = []
    faults: list[tuple[str, str]] = []
    unknown = False
    for place, row in rows:
        texts = {name: _as_text(_column(row, column, where, place)) for name, column in fields.items()}
        label = _as_text(_column(row, label_field, where, place))
        if isinstance(label, str):
            label = label.strip()
        example = Example(texts, label)
        found = fault(example)
        if found is None and label_names is not None:
            if label in label_names:
                example = Example(texts, label_names[label])
            else:
                found, unknown = f"the label {quote(label)} is not in label_names", True
        if found is not None:
            faults.append((place, found))
        examples.append(example)
    refuse(where, "rows", len(rows), faults, f" label_names knows {listing(label_names or ())}." if unknown else "")
    return tuple(examples)


def _column(row: Mapping[str, Any], column: str, where: str, place: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = list(row) + [f"{name}.{inner}" for name, nested in row.items() if isinstance(nested, Mapping) for inner in nested]
            raise DataError(f"{where}, {place}: there is no column {quote(column)}.{nearest(column, known)} Columns: {listing(known)}.")
        value = value[part]
    return value


def _as_text(value: Any) -> Any:
    """Return booleans and integers as text, and anything else as it is: `fault` says what is wrong with that."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def _kind(value: Any) -> str:
    if value is None:
        return "missing (null)"
    return f"the number {value!r}" if isinstance(value, float) else f"a {type(value).__name__}"
