"""Read labelled examples from one file: CSV, TSV, JSON lines, a JSON list, or parquet.

A file is read as it is or refused with the line that is wrong: nothing is guessed, skipped or repaired, except that a byte order mark and
blank lines are passed over. Making splits of what was read is `splits.py`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from maao.errors import DataError
from maao.tasks.checks import Row, examples_from_rows, listing, quote, resolve_text_fields
from maao.types import Example


def read_examples(
    path: str | os.PathLike[str],
    *,
    text_fields: Mapping[str, str] | None = None,
    label_field: str = "label",
    label_names: Mapping[str, str] | None = None,
) -> tuple[Example, ...]:
    """Return the examples of a file, in the order of the file.

    The format is told by the ending: `.csv` (quotes as in RFC 4180), `.tsv` (tabs separate, quotes are ordinary characters), `.jsonl`,
    `.ndjson` or `.json` (one object a line, or one list of objects), `.parquet`. Tables start with a header row. Text is UTF-8.

    Args:
        path: the file.
        text_fields: template field -> column, such as `{"premise": "sentence1", "hypothesis": "sentence2"}`; dots reach into nested
            columns. None: the one field "text", from the column `text` or `sentence`.
        label_field: the column that holds the label. JSON booleans become "true" and "false", integers their decimal string.
        label_names: raw label -> name, such as `{"0": "negative", "1": "positive"}`; None: labels stay as they are.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed (the line is named), a column is missing, a text or label is empty
            or of the wrong kind, or a label is not in `label_names`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.tsv")
        ...     _ = path.write_text('sentence\\tlabel\\na "good" film\\t1\\n', encoding="utf-8")
        ...     read_examples(path, label_names={"0": "negative", "1": "positive"})
        (Example(fields={'text': 'a "good" film'}, label='positive'),)
    """
    file, reader = _checked(path)
    try:
        rows = _read_parquet(file, text_fields, label_field) if reader is _read_parquet else reader(_read_text(file), str(file))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error
    return examples_from_rows(rows, where=str(file), text_fields=text_fields, label_field=label_field, label_names=label_names)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Return all columns of a file's rows, each with where it stands ("line 3"), for readers that know what the columns mean.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed (the line is named).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.jsonl")
        ...     _ = path.write_text('{"premise": "It rains.", "label": 0}\\n', encoding="utf-8")
        ...     read_rows(path)
        [('line 1', {'premise': 'It rains.', 'label': 0})]
    """
    file, reader = _checked(path)
    try:
        rows: list[Row] = _parquet_rows(file) if reader is _read_parquet else reader(_read_text(file), str(file))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error
    return rows


def _checked(path: str | os.PathLike[str]) -> tuple[Path, Any]:
    """Return the file, which is there and not empty, and the reader that its ending asks for."""
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if file.exists() and not file.is_dir() and reader is None:
        raise DataError(f"{file}: cannot tell the format from the ending {file.suffix!r}. Endings known: {', '.join(_READERS)}.")
    if not file.is_file() or reader is None:
        raise DataError(_not_there(file))
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty (0 bytes).")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error
    return file, reader


def _not_there(file: Path) -> str:
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.suffix.lower() in _READERS)
        return f"{file}: is a folder. Name one file; readable ones in it: {listing(inside)}."
    if not file.parent.is_dir():
        return f"{file}: there is no such file; its folder {file.parent} does not exist either."
    inside = sorted(p.name for p in file.parent.iterdir() if p.is_file())
    close = get_close_matches(file.name, inside, n=3, cutoff=0.5)
    if close:
        return f"{file}: there is no such file. Did you mean {' or '.join(quote(name) for name in close)}?"
    return f"{file}: there is no such file. Files in that folder: {listing(inside)}."


def _read_text(file: Path) -> str:
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{file}, line 1: starts like UTF-16 and not like UTF-8. Save it as UTF-8.")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, {not_utf8(error)}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{file}, line {line}: holds a NUL byte, which no text does. Is it a binary file, or UTF-16?")
    if not text.strip():
        raise DataError(f"{file}: the file is empty (white space only).")
    return text


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return where a whole text stops being UTF-8, for an error that begins with what was read.

    Example:
        >>> try:
        ...     b"good\\nfilm \\xff".decode()
        ... except UnicodeDecodeError as error:
        ...     not_utf8(error)
        'line 2: byte 0xff is not UTF-8 (invalid start byte). Save it as UTF-8.'
    """
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8 ({error.reason}). Save it as UTF-8."


def _read_csv(text: str, where: str) -> list[Row]:
    records: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1  # where the next record starts: quoted fields may span lines
    with _no_field_limit():
        try:
            for record in reader:
                records.append((line, record))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{where}, line {line}: not correct CSV: {error}.") from error
    return _table([(number, record) for number, record in records if record], where)


def _read_tsv(text: str, where: str) -> list[Row]:
    # Not the csv module: only \n ends a row here, so that a lone \r or a form feed inside a text stays in it.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return _table([(number, line.split("\t")) for number, line in enumerate(lines, 1) if line], where)


def _table(records: Sequence[tuple[int, list[str]]], where: str) -> list[Row]:
    (first, header), *body = records
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{where}, line {first}: the header names {listing(repeated)} more than once.")
    for number, record in body:
        if len(record) != len(header):
            raise DataError(
                f"{where}, line {number}: has {len(record)} columns where the header has {len(header)} ({listing(header)}). "
                "Is a separator missing, or inside a text?"
            )
    if not body:
        raise DataError(f"{where}: holds no examples: line {first} is read as the header ({listing(header)}) and no row follows it.")
    return [(f"line {number}", dict(zip(header, record, strict=True))) for number, record in body]


@contextmanager
def _no_field_limit() -> Iterator[None]:
    """Let CSV fields be of any length. The limit (131072 characters) is the csv module's own and holds for the whole process."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a C long is 32 bits wide on Windows
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(text: str, where: str) -> list[Row]:
    if text.lstrip().startswith("["):
        items = _parse(text, where, first_line=1)
        found = [(f"item {number}", item) for number, item in enumerate(items, 1)]
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [(f"line {number}", _parse(line, where, first_line=number)) for number, line in lines if line.strip()]
    for place, item in found:
        if not isinstance(item, dict):
            raise DataError(f'{where}, {place}: is a {type(item).__name__}, not an object such as {{"text": "...", "label": "..."}}.')
    return found


def _parse(text: str, where: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        hint = "The file must hold one object a line, or be one list of objects."
        raise DataError(f"{where}, line {line}: not correct JSON: {error.msg} (column {error.colno}). {hint}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested thousands deep
        raise DataError(f"{where}, line {first_line}: cannot be read as JSON: {error}.") from error


def _read_parquet(file: Path, text_fields: Mapping[str, str] | None, label_field: str) -> list[Row]:
    pyarrow = _pyarrow(file)
    try:
        columns = list(pyarrow.parquet.read_schema(file).names)
        wanted = {*resolve_text_fields(columns, text_fields, str(file)).values(), label_field}
        wanted |= {name.split(".")[0] for name in wanted}
        # Where a wanted column is missing, all are read, for the error to list them.
        needed = [column for column in columns if column in wanted]
        complete = all(name in columns or name.split(".")[0] in columns for name in wanted)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as parquet: {error}.") from error
    return _parquet_rows(file, needed if complete else None)


def _parquet_rows(file: Path, columns: Sequence[str] | None = None) -> list[Row]:
    pyarrow = _pyarrow(file)
    try:
        table = pyarrow.parquet.read_table(file, columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as parquet: {error}.") from error
    return [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), 1)]


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f'{file}: reading parquet needs pyarrow. Install it with: pip install "maao[data]".') from error
    return pyarrow


_READERS: dict[str, Any] = {
    ".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_json, ".ndjson": _read_json, ".json": _read_json, ".parquet": _read_parquet,
}  # fmt: skip
