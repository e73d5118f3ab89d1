"""Where SQLite files are opened: every connection is closed by who asked for it, also where it could not be made ready."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

Mode = Literal["ro", "rw", "rwc"]  # to read; to write what is there; to make it where it is not


def connect(file: Path, mode: Mode, *, seconds: float, first: Iterable[str] = ()) -> sqlite3.Connection:
    """Open a database file, with columns by name and no transaction but those that one begins.

    Any thread may use it, one at a time. Who asks for it closes it: ``with closing(connect(...))``.

    Args:
        file: the database.
        mode: whether it may be written, and made.
        seconds: how long a statement waits for another process that writes.
        first: statements that make it ready.

    Raises:
        sqlite3.Error: it cannot be opened, or a statement fails; then it is closed.

    Example:
        >>> import tempfile
        >>> from contextlib import closing
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with closing(connect(Path(folder, "a.sqlite"), "rwc", seconds=1.0, first=["CREATE TABLE a (b)"])) as connection:
        ...         connection.execute("SELECT count(*) AS rows FROM a").fetchone()["rows"]
        0
    """
    uri = f"{file.absolute().as_uri()}?mode={mode}"
    return _ready(sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False), first)


def copy_in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database that is in no file. Who asks for it closes it."""
    copy = _ready(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
    try:
        connection.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


@contextmanager
def whole(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all that is done inside, or nothing. Nobody else writes meanwhile."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _ready(connection: sqlite3.Connection, first: Iterable[str] = ()) -> sqlite3.Connection:
    try:
        connection.row_factory = sqlite3.Row
        for statement in first:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection
