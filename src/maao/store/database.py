"""`run.sqlite`: opening, migrating, one transaction at a time, and errors in words.

The journal is SQLite's rollback journal, not WAL: WAL does not work on network file systems, where runs often live, and a reader of a
folder it may not write could not open it. There is one writer with few writes, so readers wait milliseconds. `synchronous=EXTRA` is FULL
and also syncs the folder after a commit, so a committed transaction cannot come undone in a power cut.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from maao.errors import StoreError
from maao.store import migrations
from maao.store.connection import connect, copy_in_memory, whole
from maao.store.files import TEMP_SUFFIX, is_damaged, read_error, reading, sqlite_code, sync_folder, write_error
from maao.store.values import Column, column_text

DATABASE = "run.sqlite"
BUSY_SECONDS = 30.0


class Database:
    """An open `run.sqlite`. Any thread may use it; they take turns."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self.write = write
        self._turn = threading.RLock()
        self._closed = False
        try:
            # "rw" for readers as well: after a kill the first to open must undo a half-written transaction.
            self._connection = connect(folder / DATABASE, "rw", seconds=BUSY_SECONDS)
        except sqlite3.Error as error:
            raise self._not_opened(error) from error
        try:
            self._connection.execute("PRAGMA query_only = OFF" if write else "PRAGMA query_only = ON")
            found = _schema_version(folder, self._connection)
            self._check_size()
            self._upgrade(found)
        except sqlite3.Error as error:
            self.close()
            raise self._not_opened(error) from error
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(folder: Path, meta: dict[str, str]) -> None:
        """Make an empty database under another name, then rename it: where `run.sqlite` is, it is whole."""
        temp = folder / (DATABASE + TEMP_SUFFIX)
        temp.unlink(missing_ok=True)
        with closing(connect(temp, "rwc", seconds=BUSY_SECONDS)) as connection, whole(connection):
            for migrate in migrations.MIGRATIONS:
                migrate(connection)
            rows = {**meta, "schema_version": str(len(migrations.MIGRATIONS))}
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", rows.items())
        os.replace(temp, folder / DATABASE)
        sync_folder(folder)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all that is done inside, durably, or nothing."""
        with self._turn:
            self.check_writable()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError) and sqlite_code(error) is not None:
                    raise self.write_error(error) from error
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read as of one moment, whatever another process writes meanwhile. Read fast: the writer waits."""
        with self._turn:
            self._check_open()
            assert not self._connection.in_transaction, "a snapshot inside a transaction would end it"
            try:
                self._connection.execute("BEGIN")
                yield self._connection
            except sqlite3.Error as error:
                if sqlite_code(error) is None:
                    raise
                raise read_error(self.folder, error) from error
            finally:
                self._roll_back()

    def rows(self, sql: str, parameters: tuple[Column, ...] = ()) -> list[sqlite3.Row]:
        with self.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def meta(self, key: str) -> str:
        rows = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        if not rows:
            raise is_damaged(self.folder / DATABASE, f"it does not say its '{key}'")
        with reading(self.folder / DATABASE):
            return column_text(rows[0]["value"])

    def rounds_done(self) -> int:
        return int(self.rows("SELECT coalesce(max(round) + 1, 0) AS rounds FROM rounds")[0]["rounds"])  # numbered from 0 without a gap

    def write_error(self, error: OSError | sqlite3.Error) -> StoreError:
        """Return what to tell the user, with how much is safe."""
        try:
            rounds = self.rounds_done()
            safe = f"{rounds} finished {'round is' if rounds == 1 else 'rounds are'} safe."
        except StoreError:
            safe = "The rounds stored before are safe."
        return write_error(self.folder, error, safe=safe, then=f"`maao resume {self.folder}`")

    def check_writable(self) -> None:
        self._check_open()
        if not self.write:
            raise StoreError(f"{self.folder} was opened for reading. Open it with write=True to add to it.")

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._connection.close()

    def _not_opened(self, error: sqlite3.Error) -> StoreError:
        if not self.write:
            return read_error(self.folder, error)
        return write_error(self.folder, error, safe="What is stored is safe.", then=f"`maao resume {self.folder}`")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.folder} is closed. Open it again to go on.")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:  # then nobody may go on with this connection, half a transaction in hand: the next to open undoes it
            with suppress(sqlite3.Error):
                self.close()

    def _check_size(self) -> None:
        """Find out a file that lost its end: SQLite reads what is missing of its last page as zeros."""
        with self.snapshot() as connection:
            connection.execute("SELECT 1 FROM meta LIMIT 1").fetchall()  # takes the lock that keeps writers off
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            size = (self.folder / DATABASE).stat().st_size
        if size % page:
            raise is_damaged(self.folder / DATABASE, "its end is missing")

    def _upgrade(self, found: int) -> None:
        known = len(migrations.MIGRATIONS)
        if found > known:
            raise StoreError(
                f"{self.folder} was written with schema {found} of a newer maao; this one knows schemas up to {known}. "
                "Upgrade maao: pip install --upgrade maao."
            )
        if self.write:
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.execute("PRAGMA foreign_keys = ON")
        elif found < known:  # a reader leaves the folder as it is, and reads a copy
            copy = copy_in_memory(self._connection)
            self._connection.close()
            self._connection = copy
        for version in range(found + 1, known + 1):
            with whole(self._connection):
                migrations.MIGRATIONS[version - 1](self._connection)
                self._connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))


def _schema_version(folder: Path, connection: sqlite3.Connection) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
        raise StoreError(f"{folder} is not a run folder: its {DATABASE} was not made by maao.")
    rows = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()
    version = str(rows[0]["value"]) if rows else ""
    if not (version.isdecimal() and len(version) < 10 and int(version) > 0):
        raise is_damaged(folder / DATABASE, "it does not say its schema version")
    return int(version)
