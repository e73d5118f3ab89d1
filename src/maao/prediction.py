"""What the command line predicts, and how it writes it: one line or row for each input, in the order of the inputs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maao.data.checks import Unread, column_of, listing, nearest, quote
from maao.data.files import BAD_BYTE, ENDINGS, OPTION, bad_text, decoded, scan_rows, unread_format
from maao.data.memory import columns_for
from maao.deploy import Prediction
from maao.errors import ConfigError, DataError, MaaoError
from maao.printable import spreadsheet_cell
from maao.result import Result
from maao.types import JSON


@dataclass(frozen=True)
class Inputs:
    """What there is to predict, or why it cannot be, with where each stands; `columns` are those of a table, None for mere texts."""

    places: tuple[str, ...]
    things: tuple[str | Mapping[str, object] | Unread, ...]
    columns: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()  # what to say of them, a line each

    def predict(self, result: Result) -> list[Prediction | Unread]:
        """Return a prediction for each input, and in the place of each that cannot be read, why."""
        readable = [(place, thing) for place, thing in zip(self.places, self.things, strict=True) if not isinstance(thing, Unread)]
        found = iter(result.try_predict([thing for _, thing in readable], [place for place, _ in readable]))
        return [thing if isinstance(thing, Unread) else next(found) for thing in self.things]


def given_inputs(result: Result, texts: Sequence[str], file: Path | None, separator: str | None) -> Inputs:
    """Return texts from the command line, then the lines of a file ("-": standard input); or the rows of a table.

    Raises:
        DataError: no row can be read, or a column that the template reads is missing.
        MaaoError: a data file among texts, texts and a table together, mere texts for a template of several fields, a file that cannot be
            opened.
    """
    notes = _notes_on_names(texts) if result.inputs.columns is not None else ()  # pictures are given as files
    table = file is not None and file.suffix.lower() in ENDINGS and result.inputs.columns is not None
    if separator is not None and not (table and file is not None and file.suffix.lower() == ".csv"):
        raise ConfigError("--separator would be ignored: it is for a table in a .csv file. Drop it.")
    if file is not None and table:
        if texts:
            raise ConfigError(f"Give texts or the table {file}, not both: a table is written with its columns.")
        return _of_table(result, file, separator)
    lines = [] if file is None else _lines(file)
    kind = "picture" if result.inputs.columns is None else "text"
    things = [(f"{kind} {number}", text) for number, text in enumerate(texts, start=1)] + lines
    _check_one_field(result, bool(things))
    checked = [Unread(place, bad.what, _as_bytes(text), bad.advice) if (bad := bad_text(text)) else text for place, text in things]
    return Inputs(tuple(place for place, _ in things), tuple(checked), notes=notes)


def predictions_document(inputs: Inputs, found: Sequence[Prediction | Unread], *, with_undecided: bool = False) -> list[JSON]:
    """Return each input as it was read and what was predicted, as plain data.

    Args:
        with_undecided: the run leaves some undecided: say of each why it is, and what it would be.
    """
    return [{**_as_given(thing), **_judged(one, with_undecided)} for thing, one in zip(inputs.things, found, strict=True)]


def written(
    inputs: Inputs, found: Sequence[Prediction | Unread], *, with_undecided: bool = False, for_spreadsheet: bool = False
) -> Iterator[str]:
    """Yield what is printed, without the last line break: as a table with its own columns, or as lines of three parts.

    Args:
        with_undecided: as for `predictions_document`.
        for_spreadsheet: put ' before the cells of a table that a spreadsheet would take for formulas.
    """
    if inputs.columns is not None:
        rows = _table_rows(inputs.columns, inputs.things, found, with_undecided=with_undecided)
        yield from (_csv_line([*map(spreadsheet_cell, row)] if for_spreadsheet else row) for row in rows)
    else:
        for thing, one in zip(inputs.things, found, strict=True):
            text = thing.read if isinstance(thing, Unread) else thing
            label, probability = ("", "") if isinstance(one, Unread) else (one.label or "", f"{one.probability:.3f}")
            yield f"{label}\t{probability}\t{' '.join(str(text).splitlines())}"


def _notes_on_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Refuse a text that is the name of a data file, which would be labelled; return a note on those that may be meant for one."""
    like = [text for text in texts if (end := Path(text).suffix.lower()) in (*ENDINGS, ".txt") or unread_format(end) is not None]
    if file := next(filter(os.path.isfile, like), None):
        raise MaaoError(
            f"{quote(file)} is a file: arguments are texts, and files are given by --file FILE. To label these words themselves, "
            "write them to standard input and give --file -."
        )
    words = [text for text in like if len(text.split()) == 1 and "://" not in text]
    told = "labelled as texts, since no files are called so; files are given by --file FILE"
    return (f"{listing(words)}: {told}.",) if words else ()


def _of_table(result: Result, file: Path, separator: str | None) -> Inputs:
    is_csv = file.suffix.lower() == ".csv"
    own = result.config.data.options.separator if is_csv else None
    rows = scan_rows(file, own if separator is None else separator, OPTION)
    good = [row for row in rows if not isinstance(row, Unread)]
    names = list(dict.fromkeys(name for _, row in good for name in row))
    if good:
        _check_columns(result, names, [row for _, row in good], str(file))
    places = tuple(row.place if isinstance(row, Unread) else row[0] for row in rows)
    return Inputs(places, tuple(row if isinstance(row, Unread) else row[1] for row in rows), tuple(names))


def _check_columns(result: Result, names: list[str], rows: list[Mapping[str, object]], where: str) -> None:
    """Refuse a table that lacks a column in all its rows; a row that lacks one alone is told like any row that cannot be read."""
    fields, named = result.fields, result.inputs.columns or {}
    for field in fields:
        wanted = columns_for(field, named, lone=fields == ("text",))
        if not any(_has(row, name) for row in rows for name in wanted):
            called = " or ".join(quote(name) for name in wanted)
            raise DataError(
                f"{where}: there is no column {called}, which the template reads.{nearest(wanted[0], names)} "
                f"Columns: {listing(names)}. Rename the one to read."
            )


def _has(row: Mapping[str, object], column: str) -> bool:
    try:
        column_of(row, column, "", "")
    except DataError:
        return False
    return True


def _check_one_field(result: Result, any_text: bool) -> None:
    fields, named = result.fields, result.inputs.columns or {}
    if any_text and len(fields) > 1:
        columns = ", ".join(named.get(name, name) for name in fields)
        raise MaaoError(
            f"The template {result.config.model.template!r} reads {', '.join(fields)}, so a mere text is not enough to predict: give a "
            f"table with the columns {columns} by --file ({', '.join(ENDINGS)})."
        )


def _lines(file: Path) -> list[tuple[str, str]]:
    """Return each line with where it stands. Only a line break ends a line, and an empty line is one: nothing moves up."""
    where = "standard input" if str(file) == "-" else str(file)
    if (reason := unread_format(file.suffix.lower())) is not None:
        raise DataError(f"{file}: {reason}")
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise MaaoError(f"Cannot read {file}: {error.strerror}.") from error
    text = decoded(data, where)
    lines = text.removesuffix("\n").split("\n") if text.strip() else []
    return [(f"{where}, line {number}", line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]


def _as_given(thing: str | Mapping[str, object] | Unread) -> JSON:
    read = thing.read if isinstance(thing, Unread) else thing
    return {"text": read} if isinstance(read, str) else {"row": read}


def _judged(one: Prediction | Unread, with_undecided: bool) -> JSON:
    if isinstance(one, Unread):
        return {"label": None, "probabilities": None, "not_read": one.reason}
    undecided = {"undecided": one.undecided or None, "guess": one.guess} if with_undecided else {}
    return {"label": one.label, **undecided, "probabilities": dict(one.probabilities)}


def _table_rows(
    columns: Sequence[str],
    things: Sequence[str | Mapping[str, object] | Unread],
    found: Sequence[Prediction | Unread],
    *,
    with_undecided: bool,
) -> Iterator[list[str]]:
    names = ("predicted", "probability", "not_read", *(("undecided", "guess") if with_undecided else ()))
    yield [*columns, *(_free(name, columns) for name in names)]
    for thing, one in zip(things, found, strict=True):
        read = thing.read if isinstance(thing, Unread) else thing
        cells = [_cell(read.get(name)) if isinstance(read, Mapping) else "" for name in columns]
        own = ["", "", one.reason] if isinstance(one, Unread) else [one.label or "", f"{one.probability:.6f}", ""]
        why = ["", ""] if isinstance(one, Unread) else [one.undecided, one.guess]
        yield [*cells, *own, *(why if with_undecided else [])]


def _free(name: str, columns: Sequence[str]) -> str:
    while name in columns:
        name += "_"
    return name


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _as_bytes(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)  # ends in "\r\n", so that cells with either are quoted
    return line.getvalue().removesuffix("\r\n")


def _as_bytes(text: str) -> str:
    r"""Return a text in which bytes that are not UTF-8 are written as ``\xff``."""
    return "".join(f"\\x{ord(char) - 0xDC00:02x}" if ord(char) in BAD_BYTE else char for char in text)
