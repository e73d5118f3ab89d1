"""Attempts on disk: each is written down, at the most that it may take, before it goes.

A run has them in its `run.sqlite`; what runs spend together is a file of its own.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from maao.errors import BudgetError
from maao.llm.ledger import Totals
from maao.store.connection import connect, whole
from maao.store.files import SQLITE_DAMAGED, is_damaged, read_error, reading, sqlite_code, write_error
from maao.store.values import column_int, column_number, number_column, text_column

# `state`: 'open', at its worst case; 'ended', without a reply, at what it took; 'replied'. `waited`: its reply was, or is, waited for.
TABLE = """CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, who TEXT NOT NULL, state TEXT NOT NULL, waited INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, usd, created TEXT NOT NULL)"""
INDEX = "CREATE INDEX IF NOT EXISTS attempts_by_key ON attempts (key)"
PICO = 10**12  # money is added up in whole millionths of a millionth of a dollar: what is taken off again leaves nothing behind
ADDED = ("attempts", "calls", "input_tokens", "output_tokens", "pico_usd", "known")


_PICO_USD = f"CAST(round(coalesce({{}}.usd, 0) * {PICO}.0) AS INTEGER)"  # at most 2**63 - 1, which is about $9.2 million
MOST_PICO = 2**62  # sums beyond it may hold amounts that were cut there, or may be a float, whose drift stays when they fall again


def _change(row: str, sign: str) -> str:
    amounts = ("1", f"{row}.calls", f"{row}.input_tokens", f"{row}.output_tokens", _PICO_USD.format(row), f"({row}.usd IS NOT NULL)")
    changes = ", ".join(f"{name} = {name} {sign} {amount}" for name, amount in zip(ADDED, amounts, strict=True))
    return f"UPDATE sums SET {changes} WHERE replied = ({row}.state = 'replied');"


# What all attempts came to, those with a reply and those without: kept by the database itself with every change, so that a look at it
# does not read them all. Released: its triggers and table are never edited; the fill was mended and gives the same where it ran before.
# (sum() raises where whole numbers pass 2**63; so dollars and the rest apart.)
SUMMED = (
    f"CREATE TABLE IF NOT EXISTS sums (replied INTEGER PRIMARY KEY, {', '.join(f'{name} INTEGER NOT NULL' for name in ADDED)})",
    f"""INSERT OR IGNORE INTO sums SELECT r.replied, count(a.id), coalesce(sum(a.calls), 0), coalesce(sum(a.input_tokens), 0),
        coalesce(sum(a.output_tokens), 0),
        coalesce(sum({_PICO_USD.format("a")} / {PICO}) * {PICO} + sum({_PICO_USD.format("a")} % {PICO}), 0), count(a.usd)
        FROM (SELECT 0 AS replied UNION SELECT 1) AS r LEFT JOIN attempts AS a ON (a.state = 'replied') = r.replied GROUP BY r.replied""",
    f"CREATE TRIGGER IF NOT EXISTS attempt_begins AFTER INSERT ON attempts BEGIN {_change('NEW', '+')} END",
    f"CREATE TRIGGER IF NOT EXISTS attempt_goes AFTER DELETE ON attempts BEGIN {_change('OLD', '-')} END",
    f"CREATE TRIGGER IF NOT EXISTS attempt_changes AFTER UPDATE ON attempts BEGIN {_change('OLD', '-')} {_change('NEW', '+')} END",
)
BUSY_SECONDS = 120.0
SCHEMA = 2


class Transactions(Protocol):
    """A database with one transaction at a time."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Commit all that is done inside, durably, or nothing."""
        ...

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]: ...


class Attempts:
    """The table of attempts in a database. `who` stands with those that are begun here."""

    def __init__(self, database: Transactions, who: str = "") -> None:
        self._database, self._who = database, who

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str], before: Callable[[Totals, Totals], Totals]) -> int:
        """Write an attempt down unless it is refused. `before` makes what is spent of the sums with and without a reply."""
        with self._database.transaction() as connection:
            why = refusal(before(*_sums(connection)))
            if why:
                raise BudgetError(why)
            values = (key, text_column(self._who), *_columns(worst), datetime.now(UTC).isoformat(timespec="milliseconds"))
            connection.execute(
                "INSERT INTO attempts (key, who, state, calls, input_tokens, output_tokens, usd, created) "
                "VALUES (?, ?, 'open', ?, ?, ?, ?, ?)",
                values,
            )
            return int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])

    def end(self, attempt: int, used: Totals) -> None:
        with self._database.transaction() as connection:
            if used.calls:
                connection.execute(f"{_SET} state = 'ended' WHERE id = ?", (*_columns(used), attempt))
            else:
                connection.execute("DELETE FROM attempts WHERE id = ?", (attempt,))

    def replied(self, attempt: int, used: Totals) -> None:
        with self._database.transaction() as connection:
            connection.execute(f"{_SET} state = 'replied' WHERE id = ?", (*_columns(used), attempt))

    def waits(self, attempt: int) -> None:
        with self._database.transaction() as connection:
            connection.execute("UPDATE attempts SET waited = 1 WHERE id = ?", (attempt,))

    def waiting(self, key: str) -> int | None:
        with self._database.snapshot() as connection:
            found = connection.execute("SELECT max(id) FROM attempts WHERE key = ? AND waited AND state = 'open'", (key,)).fetchone()[0]
            return None if found is None else int(found)

    def sums(self) -> tuple[Totals, Totals]:
        """Return what attempts with a reply took, and those without one."""
        with self._database.snapshot() as connection:
            return _sums(connection)


def end_last(connection: sqlite3.Connection, key: str) -> None:
    """Say of the last attempt for a request that it was replied to."""
    connection.execute(
        "UPDATE attempts SET state = 'replied' WHERE id = (SELECT max(id) FROM attempts WHERE key = ? AND state <> 'replied')", (key,)
    )


_SET = "UPDATE attempts SET calls = ?, input_tokens = ?, output_tokens = ?, usd = ?,"


def _columns(totals: Totals) -> tuple[int, int, int, float | str | None]:
    """Return what is stored of totals; money that is not known as nothing."""
    return totals.calls, totals.input_tokens, totals.output_tokens, None if math.isnan(totals.usd) else number_column(totals.usd)


def _sums(connection: sqlite3.Connection) -> tuple[Totals, Totals]:
    found = {False: Totals(), True: Totals()}
    for row in connection.execute("SELECT * FROM sums").fetchall():
        attempts, calls, read, written, known = (column_int(row[name]) for name in ADDED if name != "pico_usd")
        replied, pico = bool(row["replied"]), row["pico_usd"]
        if known != attempts:
            usd = math.nan
        elif -MOST_PICO < pico < MOST_PICO:
            usd = max(0.0, pico / PICO)
        else:
            amounts = connection.execute("SELECT usd FROM attempts WHERE (state = 'replied') = ?", (replied,))
            usd = sum(column_number(amount) for (amount,) in amounts)
        found[replied] = Totals(calls, read, written, usd, 0 if replied else attempts)
    return found[True], found[False]


class Spending:
    """An `Account` in a file of its own, which any number of processes spend from at once.

    Args:
        file: the database; made with the first attempt.
        who: what stands with the attempts that are begun here.

    Raises:
        StoreError: the file cannot be used.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     account = Spending(Path(folder) / "spending.sqlite", "a cell")
        ...     number = account.begin("c1:...", Totals(1, 100, 50, 0.01), lambda spent: "")
        ...     account.replied(number, Totals(1, 40, 20, 0.004))
        ...     account.spent()
        Totals(calls=1, input_tokens=40, output_tokens=20, usd=0.004, unanswered=0)
    """

    def __init__(self, file: Path, who: str = "") -> None:
        self._file = file
        self._attempts = Attempts(self, who)
        self._made = False
        self._is_there()

    def _is_there(self) -> bool:
        """Return whether there is a file, and see to it that it is whole: who made it may have been killed."""
        if not self._made and self._file.exists():
            self._make()
        return self._made

    def _make(self) -> None:
        with self.transaction() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if not 0 <= found <= SCHEMA:
                raise is_damaged(self._file, f"it says that it is of schema {found}, and this maao knows {SCHEMA}")
            connection.execute(TABLE)
            connection.execute(INDEX)
            for statement in SUMMED:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        self._made = True

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str]) -> int:
        if not self._made:
            self._make()
        return self._attempts.begin(key, worst, refusal, lambda replied, others: replied + others)

    def end(self, attempt: int, used: Totals) -> None:
        self._attempts.end(attempt, used)

    def replied(self, attempt: int, used: Totals) -> None:
        self._attempts.replied(attempt, used)

    def waits(self, attempt: int) -> None:
        self._attempts.waits(attempt)

    def waiting(self, key: str) -> int | None:
        return self._attempts.waiting(key) if self._is_there() else None

    def spent(self) -> Totals:
        if not self._is_there():
            return Totals()
        replied, others = self._attempts.sums()
        return replied + others

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection, whole(connection):
                yield connection
        except sqlite3.Error as error:
            if sqlite_code(error) in SQLITE_DAMAGED:
                raise is_damaged(self._file, error) from error
            raise write_error(self._file, error, safe="No call was made.", then="the same command again") from error

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection, reading(self._file):
                connection.execute("BEGIN")  # as of one moment: sums and amounts are read one after the other
                yield connection
        except sqlite3.Error as error:
            raise is_damaged(self._file, error) if sqlite_code(error) in SQLITE_DAMAGED else read_error(self._file, error) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file for one transaction: nothing is held between calls, which are rare beside it."""
        return connect(self._file, "rwc", seconds=BUSY_SECONDS, first=["PRAGMA synchronous = EXTRA"])
