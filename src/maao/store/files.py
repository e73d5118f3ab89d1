"""Writing files that survive a power cut, and saying what went wrong when a write fails."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maao.errors import MaaoError, StoreError
from maao.llm.secrets import without_keys
from maao.types import JSON

TEMP_SUFFIX = ".tmp"
RESTORE = "Restore it from a copy of the folder, or start again in another folder."

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
SQLITE_NOT_ALLOWED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
SQLITE_HIDES = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
SQLITE_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# ERROR, MISMATCH and CONSTRAINT: a table or column that maao made is gone, or holds what it cannot hold.
SQLITE_DAMAGED = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT,
}  # fmt: skip


def write_durably(file: Path, data: bytes) -> None:
    """Write a whole file or nothing. Its name is durable only after `sync_folder`."""
    temp = file.with_name(file.name + TEMP_SUFFIX)  # in the same folder, so that the rename is one step
    try:
        temp.unlink(missing_ok=True)  # what a killed process left; and a link of that name is not written through
        with open(temp, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temp, file)
    except BaseException:
        with suppress(OSError):
            temp.unlink(missing_ok=True)
        raise


def write_text_durably(file: Path, text: str) -> None:
    """Write a text as a whole file or nothing, without any key of this process. A lone surrogate becomes its JSON escape."""
    write_durably(file, without_keys(text).encode("utf-8", "backslashreplace"))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # Windows cannot open a folder; NTFS journals its names
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(folder: Path, error: OSError | sqlite3.Error, *, safe: str, then: str) -> StoreError:
    """Return what to tell someone whose run folder could not be written."""
    if sqlite_code(error) in SQLITE_HIDES:
        error = _asked_again(folder) or error
    if _is_disk_full(error):
        return StoreError(
            f"The disk is full, or a quota used up: {folder} could not be written ({error}). {safe} Free some space, then {then}."
        )
    if (isinstance(error, OSError) and error.errno in NOT_ALLOWED) or sqlite_code(error) in SQLITE_NOT_ALLOWED:
        return StoreError(f"{folder} may not be written ({error}). {safe} Make the folder and its files writable, then {then}.")
    if sqlite_code(error) in SQLITE_BUSY:
        return StoreError(f"{folder} stayed locked by another program ({error}). {safe} Close what has run.sqlite open, then {then}.")
    if sqlite_code(error) in SQLITE_DAMAGED:
        return is_damaged(folder / "run.sqlite", error)
    return StoreError(f"{folder} could not be written ({error}). {safe} See that the disk is well and has space, then {then}.")


def _asked_again(folder: Path) -> OSError | None:
    """Return what the system says to a small write: SQLite tells of a file that it could not open, and not why."""
    try:
        with tempfile.TemporaryFile(dir=folder if folder.is_dir() else folder.parent) as stream:  # it has no name that a link could have
            stream.write(bytes(2**16))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    return None


def read_error(folder: Path, error: OSError | sqlite3.Error) -> StoreError:
    """Return what to tell someone whose run folder could not be read."""
    if sqlite_code(error) in SQLITE_DAMAGED:
        return is_damaged(folder / "run.sqlite", error)
    if sqlite_code(error) in SQLITE_BUSY:
        return StoreError(f"{folder} stayed locked by another program ({error}). Close what has run.sqlite open, then try again.")
    if sqlite_code(error) in SQLITE_NOT_ALLOWED:
        return StoreError(
            f"{folder} could not be read ({error}). If its run was killed, its last write must be undone first, and that needs a folder "
            "that may be written: copy it to one, or open it there."
        )
    return StoreError(f"{folder} could not be read ({error}).")


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Tell whatever goes wrong inside as damage of this stored file. Only what reads and decodes its content belongs inside.

    Example:
        >>> with reading(Path("run/config.json")):
        ...     int("x")
        Traceback (most recent call last):
        maao.errors.StoreError: run/config.json is damaged (invalid literal for int() with base 10: 'x'). Restore it from a copy ...
    """
    try:
        yield
    except MaaoError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing. {RESTORE}") from error
    except OSError as error:
        raise StoreError(f"{file} could not be read ({error.strerror or error}). Make it a file that can be read. {RESTORE}") from error
    except KeyError as error:
        raise is_damaged(file, f"it does not hold {error}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise is_damaged(file, error) from error


def read_object(file: Path) -> JSON:
    """Return the JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no JSON, or no object.
    """
    value = json.loads(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"it holds {str(value)[:40]!r} and no JSON object")
    return value


def leaves_folder(name: str) -> bool:
    """Say whether a name that someone else wrote leads out of the folder that it is to stand in, on any system.

    Example:
        >>> leaves_folder("tensors/a.safetensors"), leaves_folder("a/../../b"), leaves_folder("/etc/passwd"), leaves_folder("C:b")
        (False, True, True, True)
    """
    first, *others = name.replace("\\", "/").split("/")
    return ".." in (first, *others) or first.endswith(":") or first[1:2] == ":" or (not first and bool(others)) or "\0" in name


def is_damaged(file: Path, what: object) -> StoreError:
    return StoreError(f"{file} is damaged ({what}). {RESTORE}")


def sqlite_code(error: Exception) -> int | None:
    """Return SQLite's primary error code; None where the error is not SQLite's own (a mistake in how we call it)."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and type(error) is sqlite3.OperationalError:  # Python's own: a column is not the text that it says it is
        return sqlite3.SQLITE_MISMATCH
    return None if code is None else code & 0xFF


def _is_disk_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    # A quota or file size limit reaches us as a failed write (SQLite names only ENOSPC).
    return sqlite_code(error) == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE
