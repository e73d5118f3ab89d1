"""Examples that a caller has in memory, in whatever form: rows of columns for `examples_from_rows`, so that the rules are those of files.

Read are pandas frames, `datasets.Dataset`, lists of mappings, of pairs ``(text, label)`` or of `Example`, a mapping of columns, and
``(X, y)`` with lists, arrays or Series.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from maao.data.checks import Columns, Row, Unread, as_text, column_of, examples_from_rows, fault, listing, quote, ready_examples, repeated
from maao.errors import DataError
from maao.types import Example

FORMS = (
    "a pandas frame, a datasets.Dataset, a list of mappings, of pairs (text, label) or of maao.types.Example, a mapping of columns, "
    "(X, y), or the path of a file"
)
SELECT = ("select", "validation", "dev", "valid", "val")  # what the split that choices are made on is called


def examples_in_memory(given: object, where: str, **columns: Unpack[Columns]) -> tuple[Example, ...]:
    """Return the examples of anything that holds some, in its order; `where` names it in errors ("train").

    Raises:
        DataError: it is of no known form, or rows cannot be used, as for files. Rows are counted from 1.

    Example:
        >>> examples_in_memory([("good film", 1.0), {"text": "dull", "label": 0, "id": 7}], "train", label_names={"1": "pos", "0": "neg"})
        (Example(fields={'text': 'good film'}, label='pos'), Example(fields={'text': 'dull'}, label='neg'))
        >>> examples_in_memory((["good", "dull", "so so"], ["pos", float("nan"), "neg"]), "train")
        Traceback (most recent call last):
        maao.errors.DataError: train: 1 of 3 rows cannot be used: example 2 (the label is missing (null), not text). Mend ...
    """
    if _is(given, "datasets", "Dataset"):
        from maao.data.hub import dataset_examples

        return dataset_examples(given, where, **columns)
    whole = isinstance(given, str | Mapping | tuple) or _is(given, "pandas", "DataFrame")
    rows = given if whole else _listed(given, where)
    if isinstance(rows, Sequence) and rows and all(isinstance(item, Example) for item in rows):
        return ready_examples(rows, where=where, **columns)
    found = _rows(rows, where, columns)
    return examples_from_rows(found, where=where, **columns) if found else ()


def splits_in_memory(given: object) -> tuple[object, object, object] | None:
    """Return `train`, `select` and `test` of a mapping of splits (a `datasets.DatasetDict`); None for anything else.

    Raises:
        DataError: it has splits that nobody would read.

    Example:
        >>> splits_in_memory({"train": [("a", "x")], "validation": [("b", "y")]})
        ([('a', 'x')], [('b', 'y')], None)
    """
    if not isinstance(given, Mapping) or "train" not in given:
        return None
    chosen = [name for name in SELECT if name in given][:1]
    unread = [name for name in given if name not in ("train", "test", *chosen)]
    if unread:
        raise DataError(
            f"The splits {listing(map(str, given))} were given, and {listing(map(str, unread))} would not be read: "
            "name those to use, as train=..., select=..., test=...."
        )
    return given["train"], given[chosen[0]] if chosen else None, given.get("test")


def things_to_predict(given: object) -> list[object]:
    """Return what is to be predicted one by one: the texts of a list, an array or a Series, the rows of a frame or a data set.

    Raises:
        DataError: it is one text or one mapping.

    Example:
        >>> things_to_predict(np.array(["good", "dull"]))
        ['good', 'dull']
    """
    if isinstance(given, str | bytes | Mapping | Example):
        raise DataError("Give `predict` a list of texts, not one text: predict([text]).")
    if _is(given, "pandas", "DataFrame"):
        return [row for _, row in _frame_rows(given, "what to predict")]
    if _is(given, "datasets", "Dataset"):
        return _dataset_rows(given)
    return _listed(given, "what to predict")


def to_predict(given: object, fields: Sequence[str], named: Mapping[str, str], place: str) -> Example | Unread:
    """Return one thing to predict as the template reads it, or why it cannot be.

    Args:
        given: a text, for a template of one field; a mapping of fields or columns; an example, whose label is not looked at.
        fields: what the template reads.
        named: field -> column, as `data.text_fields` says.

    Example:
        >>> to_predict({"sentence": "good", "id": 3}, ("text",), {}, "row 1")
        Example(fields={'text': 'good'}, label='-')
        >>> to_predict({"text": None}, ("text",), {}, "row 2").reason
        "the field 'text' is missing (null), not text"
    """
    needed = [name for name in fields if name != "choice"]  # which stands for each of an example's choices
    has = given.fields if isinstance(given, Example) else given
    if isinstance(has, Mapping):
        columns = {name: _column_for(name, has, named, lone=needed == ["text"]) for name in needed}
        lacking = [name for name, column in columns.items() if column is None]
        if lacking:
            return Unread(place, f"it has no {listing(lacking)}, which the template reads; it has: {listing(map(str, has))}", has)
        texts = {name: as_text(column_of(has, column or "", "", place)) for name, column in columns.items()}
        example = replace(given, fields=texts) if isinstance(given, Example) else Example(texts, "-")
    elif isinstance(given, str) and len(needed) == 1:
        example = Example({needed[0]: given}, "-")
    elif isinstance(given, str):
        form = ", ".join(f'"{name}": "..."' for name in needed)
        return Unread(place, f"a mere text is not enough, since the template reads {', '.join(needed)}: give mappings {{{form}}}", given)
    else:
        if as_text(given) is None:
            return Unread(place, "it is missing (null)")
        return Unread(place, f"it is {_short(given)}, which is neither a text nor a mapping of the template's fields")
    found = fault(Example(example.fields, "-"))  # neither its label nor its choices are judged
    return example if found is None else Unread(place, found, has if isinstance(has, Mapping | str) else "")


def _column_for(field: str, row: Mapping[str, object], named: Mapping[str, str], *, lone: bool) -> str | None:
    """Return the column of a row that holds a field: the one that the run's data had, the field's own name, `sentence` for a lone text."""
    return next((name for name in columns_for(field, named, lone=lone) if name in row or _reaches(row, name)), None)


def columns_for(field: str, named: Mapping[str, str], *, lone: bool) -> list[str]:
    """Return the columns that may hold a field of what is to be predicted, the first choice first.

    Example:
        >>> columns_for("text", {}, lone=True), columns_for("head", {"head": "h"}, lone=False)
        (['text', 'sentence'], ['h', 'head'])
    """
    return list(dict.fromkeys([named.get(field, field), field, *(["sentence"] if lone and not named else [])]))


def _reaches(row: Mapping[str, object], column: str) -> bool:
    first, _, rest = column.partition(".")
    inner = row.get(first)
    return bool(rest) and isinstance(inner, Mapping) and (rest in inner or _reaches(inner, rest))


def _rows(given: object, where: str, columns: Columns) -> list[Row]:
    label_field = columns.get("label_field", "label")
    if _is(given, "pandas", "DataFrame"):
        return _frame_rows(given, where)
    if isinstance(given, Mapping):
        return _column_rows(given, where)
    if isinstance(given, tuple) and len(given) == 2 and not any(isinstance(part, str | tuple | Mapping | Example) for part in given):
        return _pairs_of(given[0], given[1], where, columns)
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise DataError(f"{where} is {_short(given)}, which is not read. Give {FORMS}.")
    return [(f"example {number}", _row(item, number, where, columns, label_field)) for number, item in enumerate(given, 1)]


def _row(item: object, number: int, where: str, columns: Columns, label_field: str) -> Mapping[str, object]:
    if isinstance(item, Mapping):
        return item
    if isinstance(item, Sequence | np.ndarray) and not isinstance(item, str | bytes) and len(item) == 2:
        return {_text_column(columns, where): item[0], label_field: item[1]}
    raise DataError(f"{where}, example {number}: it is {_short(item)}: give pairs (text, label) or mappings with a {quote(label_field)}.")


def _text_column(columns: Columns, where: str) -> str:
    """Return the column for texts that come without the name of one: they stand for the template's only field."""
    text_fields = columns.get("text_fields")
    names = list(text_fields.values() if text_fields is not None else columns.get("fields") or ("text",))
    if len(names) != 1:
        raise DataError(f"{where}: the template reads {listing(names)}, so a mere text is not enough: give mappings or a frame with these.")
    return names[0]


def _pairs_of(texts: Any, labels: Any, where: str, columns: Columns) -> list[Row]:
    """Return rows of ``(X, y)``, joined by position."""
    _refuse_misaligned(texts, labels, where)
    rows = things_to_predict(texts)
    if _is(labels, "pandas", "DataFrame") and len(labels.columns) == 1:
        labels = labels.iloc[:, 0]
    if _is(labels, "pandas", "DataFrame") or (_is_array(labels) and tuple(labels.shape[1:]) not in ((), (1,))):
        raise DataError(f"{where}: y has the shape {tuple(labels.shape)}: an example has one label, and several for one are not read.")
    answers = _listed(labels, where)
    if len(rows) != len(answers):
        raise DataError(f"{where}: X has {len(rows)} examples and y {len(answers)}: each example needs one label.")
    if len(rows) == 2 and all(isinstance(part, list) for part in (texts, labels)):
        raise DataError(f"{where}: two lists of two may be (X, y) or two pairs: give two examples as a list of pairs (text, label).")
    label_field = columns.get("label_field", "label")
    named = [row if isinstance(row, Mapping) else {_text_column(columns, where): row} for row in rows]
    return [(f"example {number}", {**row, label_field: label}) for number, (row, label) in enumerate(zip(named, answers, strict=True), 1)]


def _refuse_misaligned(texts: Any, labels: Any, where: str) -> None:
    """Refuse an X and a y whose rows have the same names in another order: joined by position, each text would get another's label."""
    if not all(_is(part, "pandas", "Series") or _is(part, "pandas", "DataFrame") for part in (texts, labels)):
        return
    if not texts.index.equals(labels.index) and set(texts.index) == set(labels.index):
        raise DataError(f"{where}: the index of y has the rows of X in another order. Align them: y.loc[X.index].")


def _dataset_rows(table: Any) -> list[object]:
    return list(table.to_list())


def _frame_rows(frame: Any, where: str) -> list[Row]:
    names = [str(name) for name in frame.columns]
    if doubles := repeated(names):
        raise DataError(f"{where}: {listing(doubles)} names more than one column.")
    columns = [frame.iloc[:, position].tolist() for position in range(len(names))]
    return [(f"row {number}", dict(zip(names, cells, strict=True))) for number, cells in enumerate(zip(*columns, strict=True), 1)]


def _column_rows(given: Mapping[object, object], where: str) -> list[Row]:
    """Return rows of a mapping of columns (``{"text": [...], "label": [...]}``)."""
    if any(isinstance(column, str | bytes) or not isinstance(column, Iterable) for column in given.values()):
        raise DataError(f"{where} is one mapping: give a list of mappings, one an example, or a mapping of whole columns.")
    columns = {str(name): _listed(column, where) for name, column in given.items()}
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(
            f"{where}: its columns have different lengths: {', '.join(f'{quote(name)} {size}' for name, size in sizes.items())}."
        )
    return [
        (f"row {number}", dict(zip(columns, cells, strict=True))) for number, cells in enumerate(zip(*columns.values(), strict=True), 1)
    ]


def _listed(given: object, where: str) -> list[object]:
    """Return what an iterable holds, one by one; of an array the numbers and texts of Python."""
    if isinstance(given, AbstractSet):
        raise DataError(f"{where} is a set, which has no order, so that no run could be repeated: give a list.")
    if _is(given, "datasets", "IterableDataset"):
        raise DataError(f"{where} is a data set that is read as it streams: load it whole (streaming=False).")
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise DataError(f"{where} is {_short(given)}, which is not read. Give {FORMS}.")
    return _python_values(given) if _is_array(given) else list(given)


def _python_values(array: Any) -> list[object]:
    """Return what an array holds as Python's own texts and numbers; of one column, its cells."""
    return list((array.reshape(-1) if tuple(array.shape[1:]) == (1,) else array).tolist())


def _is_array(given: object) -> bool:
    return isinstance(given, np.ndarray) or _is(given, "torch", "Tensor") or _is(given, "pandas", "Series")


def _is(given: object, module: str, name: str) -> bool:
    """Say whether something is of a library's class. A library that was never imported made nothing, so it is not imported here."""
    library = sys.modules.get(module)
    return library is not None and isinstance(given, getattr(library, name))


def _short(given: object) -> str:
    return f"{quote(given)}" if isinstance(given, str) else f"a {type(given).__name__}"
