"""Read labelled examples from one file: CSV, TSV, JSON lines, a JSON list, or parquet.

A file is read as it is or refused with the lines that are wrong: nothing is guessed, skipped or repaired, except that a byte order mark and
blank lines are passed over. `scan_rows` gives the rows that can be read beside those that cannot, for who needs the good ones. Making
splits of what was read is `splits.py`.

The standard library reads text, and pyarrow parquet. pandas is not asked: `read_csv` fills rows that are too short, renames columns that
stand twice, takes "NA" and "null" for missing, and does not know the lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Unpack

from maao.data.checks import Columns, Row, Unread, advice_of, columns_read, examples_from_rows, listing, quote, refuse, repeated
from maao.errors import ConfigError, DataError
from maao.types import Example

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SETTING = "data.separator"  # what says the separator of a table to learn from
OPTION = "--separator"  # of one to predict
BAD_BYTE = range(0xDC80, 0xDD00)  # what a byte that is not UTF-8 is decoded to (`surrogateescape`); it stands for 0xDC00 less
TO_UTF8 = "Save the file as UTF-8; from Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"

Scanned = list[Row | Unread]


def read_examples(path: str | os.PathLike[str], *, separator: str | None = None, **columns: Unpack[Columns]) -> tuple[Example, ...]:
    """Return the examples of a file, in the order of the file.

    The format is told by the ending: `.csv` (quotes as in RFC 4180), `.tsv` (tabs separate, quotes are ordinary characters), `.jsonl`,
    `.ndjson` or `.json` (one object a line, or one list of objects), `.parquet`. Tables start with a header row. Text is UTF-8. Cells are
    text as it stands: "NA", "null", "007" and "1.0" are these characters.

    Args:
        path: the file.
        separator: what separates the columns of a `.csv`; None: a comma.
        columns: which columns make an example: see `maao.data.checks.Columns`.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed (the lines are named), a column is missing, a text or label is empty
            or of the wrong kind, or a label is not in `label_names`.
        ConfigError: a separator for a file that is no `.csv`, or one that is not a single character.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.tsv")
        ...     _ = path.write_text('sentence\\tlabel\\na "good" film\\t1\\n', encoding="utf-8")
        ...     read_examples(path, label_names={"0": "negative", "1": "positive"})
        (Example(fields={'text': 'a "good" film'}, label='positive'),)
    """
    file = Path(path)
    rows = _sound(file, _scan(file, separator, lambda names: columns_read(names, columns, str(file))))
    return examples_from_rows(rows, where=str(file), **columns)


def read_rows(path: str | os.PathLike[str], separator: str | None = None) -> list[Row]:
    """Return all columns of a file's rows, each with where it stands ("line 3"), for readers that know what the columns mean.

    Args:
        separator: as for `read_examples`.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed (the lines are named).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.jsonl")
        ...     _ = path.write_text('{"premise": "It rains.", "label": 0}\\n', encoding="utf-8")
        ...     read_rows(path)
        [('line 1', {'premise': 'It rains.', 'label': 0})]
    """
    return _sound(Path(path), scan_rows(path, separator))


def seeming_separator(path: str | os.PathLike[str]) -> str | None:
    """Return what seems to separate the columns of a .csv file in the place of commas; None: commas, or it is no such file.

    Raises:
        DataError: the file is missing, empty, or of no known format.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.csv")
        ...     _ = path.write_text("text;label\\ngood film;positive\\n", encoding="utf-8")
        ...     seeming_separator(path)
        ';'
    """
    file = Path(path)
    if _checked(file) != ".csv":
        return None
    text = _read_text(file)
    header = next((row for _, row in _csv_records(text, ",", most=1)), None)
    return None if isinstance(header, list) and len(header) > 1 else _seeming_separator(text, ",")


def scan_rows(path: str | os.PathLike[str], separator: str | None = None, setting: str = SETTING) -> Scanned:
    """Return the rows of a file, and in the place of each that is malformed what is wrong with it. Raises where no row can be read.

    `setting` is what the reader can say the separator with, for errors.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.csv")
        ...     _ = path.write_bytes(b"id,text\\n1,caf\\xe9\\n2,good\\n")
        ...     bad, good = scan_rows(path)
        >>> good, bad.place, bad.reason
        (('line 3', {'id': '2', 'text': 'good'}), 'line 2', 'byte 0xe9 is not UTF-8')
    """
    return _scan(Path(path), separator, None, setting)


def _scan(file: Path, separator: str | None, wanted: Callable[[list[str]], list[str]] | None, setting: str = SETTING) -> Scanned:
    """Read a file by its ending; of parquet only the top columns that `wanted` chooses among those there."""
    ending = _checked(file)
    if separator is not None and ending != ".csv":
        raise ConfigError(f"{setting} = {separator!r} would be ignored: {file} is no .csv file. Drop it, or rename the file.")
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ConfigError(f"{setting} must be one character that is no quote and no line break; it is {separator!r}.")
    try:
        if ending == ".parquet":
            return list(_parquet_rows(file, wanted))
        text = _read_text(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error
    if ending == ".csv":
        return _read_csv(text, str(file), separator or ",", setting)
    return _read_tsv(text, str(file)) if ending == ".tsv" else _read_json(text, str(file))


def _sound(file: Path, scanned: Scanned) -> list[Row]:
    """Return the rows of a file in which all are sound; refuse it with all that are not."""
    unread = [row for row in scanned if isinstance(row, Unread)]
    faults = [(row.place, row.reason.removesuffix(".")) for row in unread]
    advice = "".join(f" {told}" for told in advice_of(unread))
    if len(faults) == 1:
        place, reason = faults[0]
        raise DataError(f"{file}, {place}: {reason}{'' if reason.endswith('?') else '.'}{advice}")
    refuse(str(file), "rows", len(scanned), faults, advice)
    return [row for row in scanned if not isinstance(row, Unread)]


def _checked(file: Path) -> str:
    """Return the ending, in lower case, of a file that is there, not empty, and of a known format."""
    ending = file.suffix.lower()
    if file.exists() and not file.is_dir() and ending not in ENDINGS:
        reason = unread_format(ending) or f"cannot tell the format from the ending {ending!r}."
        raise DataError(f"{file}: {reason} Endings known: {', '.join(ENDINGS)}.")
    if not file.is_file():
        raise DataError(_not_there(file))
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty (0 bytes).")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}.") from error
    return ending


def unread_format(ending: str) -> str | None:
    """Return what to do about a file whose ending tells a format that is not read, or None.

    Example:
        >>> unread_format(".xlsx")
        'a spreadsheet (.xlsx) is not read. Save the sheet as CSV in UTF-8.'
    """
    if ending in (".xlsx", ".xls", ".ods"):
        return f"a spreadsheet ({ending}) is not read. Save the sheet as CSV in UTF-8."
    if ending in (".gz", ".zip", ".bz2", ".xz", ".zst"):
        return f"a packed file ({ending}) is not read. Unpack it first."
    return None


def _not_there(file: Path) -> str:
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.suffix.lower() in ENDINGS)
        return f"{file}: is a folder. Name one file; readable ones in it: {listing(inside)}."
    if not file.parent.is_dir():
        return f"{file}: there is no such file; its folder {file.parent} does not exist either."
    inside = sorted(p.name for p in file.parent.iterdir() if p.is_file())
    stems = {name: Path(name).stem.lower() for name in inside}  # an ending that is the same makes no names alike
    near = get_close_matches(file.stem.lower(), set(stems.values()), n=3)
    if close := [name for stem in near for name in inside if stems[name] == stem][:3]:
        return f"{file}: there is no such file. Did you mean {' or '.join(quote(name) for name in close)}?"
    return f"{file}: there is no such file. Files in that folder: {listing(inside)}."


def _read_text(file: Path) -> str:
    """Return a file's text; bytes that are not UTF-8 stand in it as halves of surrogate pairs, for their rows to be named."""
    text = decoded(file.read_bytes(), str(file))
    if not text.strip():
        raise DataError(f"{file}: the file is empty (white space only).")
    return text


def decoded(data: bytes, where: str) -> str:
    """Return bytes as text, without a byte order mark. What is not UTF-8 is kept as `surrogateescape` does; `bad_text` tells it.

    Raises:
        DataError: the bytes are UTF-16.

    Example:
        >>> decoded(b"\\xef\\xbb\\xbfgood", "a.txt"), bad_text(decoded(b"film \\xff", "a.txt")).what
        ('good', 'byte 0xff is not UTF-8')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{where}, line 1: starts like UTF-16 and not like UTF-8. Save it as UTF-8.")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


class BadText(NamedTuple):
    """What is wrong with a text, and what mends the file that it stands in."""

    what: str
    advice: str


def bad_text(text: str) -> BadText | None:
    """Return what is wrong with a text that `decoded` gave, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if ord(text[error.start]) in BAD_BYTE:
            byte = ord(text[error.start]) - 0xDC00
            return BadText(f"byte 0x{byte:02x} is not UTF-8", TO_UTF8)
    if "\0" in text:
        return BadText("holds a NUL byte, which no text does", "Is it a binary file, or UTF-16?")
    return None


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


def _read_csv(text: str, where: str, separator: str, setting: str) -> Scanned:
    return _table(_csv_records(text, separator), where, lambda: _seeming_separator(text, separator), setting)


def _to_say(separator: str, setting: str) -> str:
    """Return how to say a separator, as TOML or as a shell takes it."""
    if setting == OPTION:
        return f"Give {OPTION} " + ("$'\\t'." if separator == "\t" else f"'{separator}'.")
    return f"Drop {setting}." if separator == "," else f"Set {setting} = {json.dumps(separator)}."


def _csv_records(text: str, separator: str, most: int = sys.maxsize) -> list[tuple[int, list[str] | Unread]]:
    """Return each record with the line that it starts on: quoted fields may span lines.

    A record that is not correct costs its first line alone. What a quote that is not closed has taken along is read again.
    """
    records: list[tuple[int, list[str] | Unread]] = []
    lines = list(io.StringIO(text, newline=""))
    begin, reader = 0, csv.reader(lines, strict=True, delimiter=separator)
    with _no_field_limit():
        while len(records) < most:
            line = begin + reader.line_num + 1
            try:
                records.append((line, next(reader)))
            except StopIteration:
                break
            except csv.Error as error:
                further = begin + reader.line_num > line
                hint = " Is a quote opened here and not closed?" if further else ""
                records.append((line, Unread(f"line {line}", f"not correct CSV: {error}.{hint}")))
                if further:
                    begin = line
                    rest = map(lines.__getitem__, range(begin, len(lines)))
                    reader = csv.reader(rest, strict=True, delimiter=separator)
    return records


def _seeming_separator(text: str, used: str) -> str | None:
    """Return another character that separates the header, and the row after it, into equally many columns."""
    for separator in SEPARATORS:
        rows = [row for _, row in _csv_records(text, separator, most=2) if not isinstance(row, Unread)]
        if separator != used and rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1:
            return separator
    return None


def _read_tsv(text: str, where: str) -> Scanned:
    # Not the csv module: only \n ends a row here, so that a lone \r or a form feed inside a text stays in it.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return _table([(number, line.split("\t") if line else []) for number, line in enumerate(lines, 1)], where, lambda: None)


def _table(
    records: Sequence[tuple[int, list[str] | Unread]], where: str, seeming: Callable[[], str | None], setting: str = SETTING
) -> Scanned:
    found = [(number, record) for number, record in records if record]
    first, header = found[0]
    if not isinstance(header, Unread) and len(header) == 1:  # an empty line is an empty cell here, except at the end
        found = [(number, record or [""]) for number, record in records if first <= number <= found[-1][0]]
    if isinstance(header, Unread):
        raise DataError(f"{where}, {header.place}: {header.reason}")
    if (bad := bad_text("".join(header))) is not None:
        raise DataError(f"{where}, line {first}: {bad.what}. {bad.advice}")
    if len(header) == 1 and (other := seeming()) is not None:
        raise DataError(
            f"{where}: the columns seem to be separated by {SEPARATORS[other]}: line {first} is read as one column ({listing(header)}). "
            + _to_say(other, setting)
        )
    if doubles := repeated(header):
        raise DataError(f"{where}, line {first}: the header names {listing(doubles)} more than once.")
    if not found[1:]:
        raise DataError(f"{where}: holds no examples: line {first} is read as the header ({listing(header)}) and no row follows it.")
    return [record if isinstance(record, Unread) else _row(number, record, header) for number, record in found[1:]]


def _row(line: int, record: list[str], header: list[str]) -> Row | Unread:
    place, read = f"line {line}", dict(zip(header, record, strict=False))
    if (bad := bad_text("".join(record))) is not None:
        return Unread(place, bad.what, read, bad.advice)
    if len(record) == len(header):
        return place, read
    reason = f"has {len(record)} columns where the header has {len(header)} ({listing(header)})"
    return Unread(place, reason, read, "Is a separator missing, or inside a text?")


@contextmanager
def _no_field_limit() -> Iterator[None]:
    """Let CSV fields be of any length. The limit (131072 characters) is the csv module's own and holds for the whole process."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a C long is 32 bits wide on Windows
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_json(text: str, where: str) -> Scanned:
    if text.lstrip().startswith("["):
        if (bad := bad_text(text)) is not None:
            line = next(number for number, part in enumerate(text.split("\n"), 1) if bad_text(part) is not None)
            raise DataError(f"{where}, line {line}: {bad.what}. {bad.advice}")
        try:
            items = loads(text)
            assert isinstance(items, list)  # it begins as one
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}, {_json_trouble(error)}") from error
        return [_object(f"item {number}", item, json.dumps(item)) for number, item in enumerate(items, 1)]
    lines = enumerate(text.split("\n"), 1)
    return [_json_line(number, line) for number, line in lines if line.strip()]


def _json_line(number: int, line: str) -> Row | Unread:
    place = f"line {number}"
    if (bad := bad_text(line)) is not None:
        return Unread(place, bad.what, line, bad.advice)
    try:
        return _object(place, loads(line), line)
    except (ValueError, RecursionError) as error:
        return Unread(place, _json_trouble(error).removeprefix("line 1: "), line)


def loads(text: str) -> object:
    """Return what JSON text holds. Raises `ValueError` where an object names something twice, as for what is no JSON."""
    return json.loads(text, object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object names {listing(repeated(name for name, _ in pairs))} more than once")
    return found


def _object(place: str, item: object, line: str) -> Row | Unread:
    if isinstance(item, dict):
        return place, item
    return Unread(place, f'is a {type(item).__name__}, not an object such as {{"text": "...", "label": "..."}}.', line)


def _json_trouble(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        hint = "The file must hold one object a line, or be one list of objects."
        return f"line {error.lineno}: not correct JSON: {error.msg} (column {error.colno}). {hint}"
    return f"line 1: cannot be read as JSON: {error}."  # a number of thousands of digits; brackets nested thousands deep


def _parquet_rows(file: Path, wanted: Callable[[list[str]], list[str]] | None) -> list[Row]:
    pyarrow = _pyarrow(file)
    try:
        names = list(pyarrow.parquet.read_schema(file).names)
        if doubles := repeated(names):
            raise DataError(f"{file}: {listing(doubles)} names more than one column.")
        table = pyarrow.parquet.read_table(file, columns=None if wanted is None else wanted(names))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # a column's name may be no UTF-8
        raise DataError(f"{file}: cannot be read as parquet: {error}.") from error
    columns = [_parquet_values(file, name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    return [(f"row {number}", dict(zip(table.column_names, row, strict=True))) for number, row in enumerate(zip(*columns, strict=True), 1)]


def _parquet_values(file: Path, name: str, column: Iterable[Any]) -> list[object]:
    """Return a column's values; a file may say that bytes are UTF-8, or a number a date, which they are not."""
    values: list[object] = []
    for value in column:
        try:
            values.append(value.as_py())
        except (ValueError, OverflowError) as error:
            raise DataError(f"{file}, row {len(values) + 1}, column {name!r}: cannot be read: {error}.") from error
    return values


def _pyarrow(file: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f'{file}: reading parquet needs pyarrow. Install it with: pip install "maao[data]".') from error
    return pyarrow


ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
