"""One run is one folder.

    run.sqlite             rounds, observations, proposals, rejected, considered, calls, finals, meta
    tensors/<sha256>.safetensors
    config.json            what was asked for, resolved, and the format of the folder
    environment.json       what it ran on
    run.lock               held while a process writes; the operating system lets go of it however the process ends

A round is stored whole or not at all: its tensors are on the disk before the rows that name them, and its rows are one transaction. So a
folder can be read and resumed after a kill, a full disk or a power cut, whatever the moment.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Literal, Self, cast, get_args

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from maao.errors import StoreError
from maao.llm.secrets import without_keys
from maao.protocols import Serializer
from maao.store.database import DATABASE, Database
from maao.store.files import TEMP_SUFFIX, is_damaged, read_error, read_object, reading, sync_folder, write_durably, write_error
from maao.store.ledger import SqliteLedger, now
from maao.store.recorded import FORMAT, FORMAT_KEY
from maao.store.rows import StoredState, Tensors, check_whole, insert, read, restore, rows_of, score_columns
from maao.store.tensors import TensorFolder
from maao.store.values import column_json, column_text, text_column
from maao.types import JSON, P, Round, S, Score, Split

Status = Literal["running", "finished", "stopped", "waiting"]

LOCK = "run.lock"
TENSORS = "tensors"
CONFIG = "config.json"
ENVIRONMENT = "environment.json"
LOCK_SECONDS = 1.0  # a listing looks at the lock for a moment; a run keeps it


@dataclass(frozen=True, slots=True)
class Final:
    """A point that was declared beforehand and read on a split at the end: what it says, and how good it is."""

    name: str
    split: Split
    score: Score
    text: str
    date: str


class RunFolder(Generic[P, S]):
    """An open run folder. Make one with `create` or `open`; it is a context manager.

    Any number of processes may read a folder while one writes it.
    """

    def __init__(self, path: Path, database: Database, serializer: Serializer[P, S], lock: FileLock | None) -> None:
        self.path = path
        self.ledger = SqliteLedger(database)
        self._database = database
        self._serializer = serializer
        self._lock = lock
        self._files = TensorFolder(path / TENSORS)
        self._tensors = Tensors(self._put_params, self._get_params, self._put_state, self._get_state)

    @classmethod
    def create(
        cls, path: str | Path, *, config: Mapping[str, object], environment: Mapping[str, object], serializer: Serializer[P, S]
    ) -> RunFolder[P, S]:
        """Make a run folder and open it for writing. Raises `StoreError` where there is something already."""
        path = Path(path)
        texts = {CONFIG: _json_bytes({FORMAT_KEY: FORMAT, **config}, CONFIG), ENVIRONMENT: _json_bytes(environment, ENVIRONMENT)}
        lock, vacant = None, False
        try:
            check_vacant(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(path)
            check_vacant(path)
            vacant = True
            (path / TENSORS).mkdir(exist_ok=True)
            for name, data in texts.items():
                write_durably(path / name, data)
            sync_folder(path.absolute().parent)
            Database.create(path, {"created": now(), "status": "running", "status_reason": ""})  # last: it makes this a run folder
            return cls(path, Database(path, write=True), serializer, lock)
        except BaseException as error:
            if vacant:
                with suppress(OSError):
                    (path / DATABASE).unlink(missing_ok=True)
            if lock is not None:
                lock.release()
            if isinstance(error, OSError | sqlite3.Error):
                raise write_error(path, error, safe="No round was made.", then="start again") from error
            raise

    @classmethod
    def open(cls, path: str | Path, *, serializer: Serializer[P, S], write: bool) -> RunFolder[P, S]:
        """Open a run folder, for going on (`write`) or only for reading, which needs no lock and changes nothing.

        Raises `StoreError` for what is not a run folder, is in use, is damaged, or was written by an older or a newer maao.
        """
        path = Path(path)
        check_is_run(path)
        check_format(path)
        if not write:
            return cls(path, Database(path, write=False), serializer, None)
        check_no_links(path)
        lock = _take_lock(path)
        try:
            run = cls(path, Database(path, write=True), serializer, lock)
        except BaseException:
            lock.release()
            raise
        try:
            run._files.folder.mkdir(exist_ok=True)  # a copy of a run without rounds may have lost it
            run._files.sweep()
        except OSError as error:
            run.close()
            raise write_error(path, error, safe="What is stored is safe.", then=f"`maao resume {path}`") from error
        return run

    def append(self, round: Round[P, S]) -> None:
        """Store a finished round. It is on the disk when this returns; when it raises, the folder is as it was."""
        self._database.check_writable()
        done = self._database.rounds_done()
        if round.index != done:
            raise StoreError(f"{self.path} holds {done} rounds, so the next is round {done}, not {round.index}.")
        try:
            rows = rows_of(round, self._tensors, date=now())
            self._files.sync()
        except OSError as error:
            raise self._database.write_error(error) from error
        try:
            with self._database.transaction() as connection:
                insert(connection, rows)
        except sqlite3.IntegrityError as error:  # it holds parts of a round that is not there
            raise is_damaged(self.path / DATABASE, error) from error

    def history(self) -> tuple[Round[P, S], ...]:
        """Return all rounds, exactly as they were appended."""
        with reading(self.path / DATABASE):
            with self._database.snapshot() as connection:
                rounds, parts = read(connection)
            check_whole(rounds, parts)
            return tuple(restore(row, parts, self._tensors) for row in rounds)

    def round(self, index: int) -> Round[P, S]:
        """Return one round, exactly as it was appended: only its own rows and tensors are read."""
        with reading(self.path / DATABASE):
            with self._database.snapshot() as connection:
                rounds, parts = read(connection, index)
            check_whole(rounds, parts, index)
            if not rounds:
                raise ValueError(f"round {index} is gone")
            return restore(rounds[0], parts, self._tensors)

    @property
    def rounds_done(self) -> int:
        return self._database.rounds_done()

    def record_final(self, name: str, split: Split, score: Score, text: str) -> None:
        """Record what a declared point scored at the end, once. Raises `StoreError` the second time: `test` is read once a run."""
        columns = {"name": name, "split": split, "text": text_column(text), "date": now(), **score_columns(score)}
        try:
            with self._database.transaction() as connection:
                insert(connection, [("finals", columns)])
        except sqlite3.IntegrityError as error:
            raise StoreError(
                f"{self.path} already holds what '{name}' scored on {split}: {split} is read once a run. "
                "Declare all points before reading it, or make another run."
            ) from error

    def finals(self) -> tuple[Final, ...]:
        """Return what was recorded at the end, in the order of recording."""
        rows = self._database.rows("SELECT * FROM finals ORDER BY id")
        with reading(self.path / DATABASE):
            return tuple(
                Final(column_text(r["name"]), r["split"], column_json(r["score"], Score), column_text(r["text"]), column_text(r["date"]))
                for r in rows
            )

    def set_status(self, status: Status, reason: str = "") -> None:
        with self._database.transaction() as connection:
            for key, value in {"status": status, "status_reason": reason}.items():
                connection.execute("UPDATE meta SET value = ? WHERE key = ?", (text_column(value), key))

    @property
    def status(self) -> Status:
        """What the run last said of itself. A run that was killed still says "running" (`list_runs` looks at the lock)."""
        return read_status(self._database)

    @property
    def status_reason(self) -> str:
        return self._database.meta("status_reason")

    @property
    def created(self) -> str:
        return self._database.meta("created")

    @property
    def config(self) -> JSON:
        return read_settings(self.path)

    @property
    def environment(self) -> JSON:
        return read_json(self.path, ENVIRONMENT)

    def close(self) -> None:
        """Close the folder and let others write it. Closing twice is harmless."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _put_params(self, params: P) -> str:
        return self._files.save(self._serializer.dump_params(params))

    def _get_params(self, name: str) -> P:
        return self._serializer.load_params(self._files.load(name))

    def _put_state(self, state: S) -> StoredState:
        arrays, meta = self._serializer.dump_state(state)
        return StoredState(self._files.save(arrays), meta)

    def _get_state(self, stored: StoredState) -> S:
        return self._serializer.load_state(self._files.load(stored.tensors), stored.meta)


def check_is_run(path: Path) -> None:
    """Raise `StoreError` for a path that is not a run folder."""
    try:
        if (path / DATABASE).is_file():
            return
        there, held = path.exists(), os.path.lexists(path / DATABASE)
    except OSError as error:
        raise read_error(path, error) from error
    if not there:
        raise StoreError(f"There is no folder {path}. Name a run folder, one that holds {DATABASE}.")
    if held:
        raise is_damaged(path / DATABASE, "it is no file")
    raise StoreError(f"{path} is not a run folder: it holds no {DATABASE}.")


def check_no_links(path: Path) -> None:
    """Raise `StoreError` where what a run writes to would be written elsewhere."""
    for name in (LOCK, DATABASE, TENSORS):
        if (path / name).is_symlink():
            raise StoreError(f"{path / name} is a link, and a run writes into its own folder alone. Put the file itself there.")


def standing(path: Path, read: Callable[[], Status]) -> Status | Literal["interrupted"]:
    """Return how a run stands, as `read` tells it; "interrupted": it says that it is running, and no process holds it."""
    status = read()
    if status == "running" and not is_in_use(path):
        return "interrupted" if (status := read()) == "running" else status  # it may have ended between the two
    return status


def is_in_use(path: Path) -> bool:
    """Return whether a process holds the run for writing, as far as can be told without writing to the folder."""
    if not (path / LOCK).exists():
        return False
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except OSError:  # held (Timeout is an OSError), or not ours to try
        return True
    lock.release()
    return False


def check_vacant(path: Path) -> None:
    """Raise `StoreError` unless a run can be made at `path`. What a killed `create` left behind is no obstacle."""
    if path.exists() and not path.is_dir():
        raise StoreError(f"Cannot make a run folder at {path}: there is a file of that name. Choose another folder.")
    found = {child.name for child in path.iterdir()} if path.exists() else set()
    if DATABASE in found:
        raise StoreError(f"{path} already holds a run. Go on with it by `maao resume {path}`, or choose another folder.")
    leftovers = {LOCK, TENSORS, *(n + s for n in (CONFIG, ENVIRONMENT, DATABASE) for s in ("", TEMP_SUFFIX, f"{TEMP_SUFFIX}-journal"))}
    if found and not (LOCK in found and found <= leftovers):
        raise StoreError(f"{path} is not empty. Choose another folder; if it should hold a run, `maao resume {path}` goes on with it.")


# Folders that this process keeps for runs which are not made yet. A lock on a file is the process's, and a run is made by its path alone,
# maybe in another thread.
_CLAIMED: dict[Path, FileLock] = {}


@contextmanager
def claimed(candidates: Iterable[Path]) -> Iterator[Path]:
    """Give the first folder that is not there, or that a process was killed in before it made its run, and keep it for the run that is
    made within: no other process is given it meanwhile.

    A folder that no run was made in is taken away again. Where none can be kept, the first is given as it is: making the run tells why.
    """
    place = next(path for path in candidates if _claims(path))
    try:
        yield place
    finally:
        lock = _CLAIMED.pop(place.absolute(), None)
        if lock is not None:
            with suppress(OSError):
                (place / LOCK).unlink()
                place.rmdir()
            lock.release()


def _claims(path: Path) -> bool:
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        if os.path.lexists(path) and not (path / LOCK).exists():
            return False
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        check_vacant(path)
    except (StoreError, Timeout):
        lock.release()
        return False
    except OSError:  # it may not be written, say
        return True
    if not (path / LOCK).exists():  # who had it took it away between
        lock.release()
        return False
    _CLAIMED[path.absolute()] = lock
    return True


def is_being_begun(path: Path) -> bool:
    """Return whether a folder is kept for a run that is not made yet."""
    try:
        return [child.name for child in path.iterdir()] == [LOCK] and is_in_use(path)
    except OSError:
        return False


def _take_lock(path: Path) -> FileLock:
    kept = _CLAIMED.pop(path.absolute(), None)
    if kept is not None:
        return kept
    lock = FileLock(path / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise StoreError(
            f"{path} is in use by another process, which holds {path / LOCK}. Wait until that run ends, or stop it, and try again. "
            "Reading the folder is possible meanwhile."
        ) from error
    except OSError as error:
        raise write_error(path, error, safe="Nothing was changed.", then="try again") from error
    return lock


def _json_bytes(value: Mapping[str, object], name: str) -> bytes:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"Cannot write {name}: {error}. Give plain JSON values (text, numbers, lists, mappings).") from error
    return (without_keys(text) + "\n").encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape


def read_status(database: Database) -> Status:
    """Return what a run last said of itself."""
    said = database.meta("status")
    if said not in get_args(Status):
        raise is_damaged(database.folder / DATABASE, f"its status is {said[:40]!r}")
    return cast(Status, said)


def check_format(path: Path) -> None:
    """Refuse a run that was stored in another format than this maao's: its settings and rounds mean something else.

    Where `config.json` is missing or damaged, reading it tells.
    """
    try:
        found = _format_of(read_json(path, CONFIG))
    except StoreError:
        return
    if found is None:
        return
    if found < FORMAT:
        raise StoreError(
            f"{path} was stored in format {found} by an older maao{_maker(path)}; this one reads format {FORMAT}, whose settings have "
            "other names. Show, resume or export it with the maao that made it, or start it again from its config file."
        )
    if found > FORMAT:
        raise StoreError(
            f"{path} was stored in format {found} by a newer maao{_maker(path)}; this one reads format {FORMAT}. "
            "Upgrade maao: pip install --upgrade maao."
        )


def _format_of(held: Mapping[str, object]) -> int | None:
    found = held.get(FORMAT_KEY, 1 if "problem" in held else None)  # the first format did not say so
    return found if type(found) is int else None


def _maker(path: Path) -> str:
    """Return which maao a run says that it was made with, in brackets; nothing where it does not say."""
    try:
        return f" ({read_json(path, ENVIRONMENT)['packages']['maao']})"
    except (StoreError, LookupError, TypeError):
        return ""


def read_settings(path: Path, shape: type[BaseModel] | None = None) -> JSON:
    """Return the settings that a run stored, which must be of a shape if one is given. Raises `StoreError` as `read_json`."""
    check_format(path)
    if _format_of(held := read_json(path, CONFIG)) is None:
        raise is_damaged(path / CONFIG, f"its format is {str(held.get(FORMAT_KEY))[:40]}")
    return {key: value for key, value in read_json(path, CONFIG, shape).items() if key != FORMAT_KEY}


def read_json(path: Path, name: str, shape: type[BaseModel] | None = None) -> JSON:
    """Return the JSON object in a file of a run folder, which must be of a shape if one is given.

    Raises:
        StoreError: the file is missing or cannot be read, is no JSON, or is of another shape.
    """
    with reading(path / name):
        value = read_object(path / name)
        try:
            if shape is not None:
                shape.model_validate(value)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg'][0].lower()}{wrong['msg'][1:]}") from error
        return value
