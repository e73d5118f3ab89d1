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
SUMS = """SELECT state = 'replied' AS replied, count(*) AS attempts, sum(calls) AS calls, sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens, sum(usd) AS usd, count(usd) AS known FROM attempts GROUP BY 1 ORDER BY 1"""
BUSY_SECONDS = 120.0
SCHEMA = 1


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
    for row in connection.execute(SUMS):
        usd = column_number(row["usd"]) if row["known"] == row["attempts"] else math.nan
        replied, attempts = bool(row["replied"]), column_int(row["attempts"])
        calls, read, written = (column_int(row[name]) for name in ("calls", "input_tokens", "output_tokens"))
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
            if found not in (0, SCHEMA):
                raise is_damaged(self._file, f"it says that it is of schema {found}, and this maao knows {SCHEMA}")
            connection.execute(TABLE)
            connection.execute(INDEX)
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
                yield connection
        except sqlite3.Error as error:
            raise is_damaged(self._file, error) if sqlite_code(error) in SQLITE_DAMAGED else read_error(self._file, error) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file for one transaction: nothing is held between calls, which are rare beside it."""
        return connect(self._file, "rwc", seconds=BUSY_SECONDS, first=["PRAGMA synchronous = EXTRA"])
