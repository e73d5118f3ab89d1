"""A copy of a run elsewhere, as objects that are written once and never changed: on S3, on a share, wherever fsspec reaches.

    MIRROR/NAME/objects/<sha256>       what a file of the run held
    MIRROR/NAME/states/<number>.json   which file holds which object, after a leg: the newest whole one is the run

A state is written after all of its objects, so that a copy that was cut off leaves the one before it whole. What is there already is not
sent again: a copy that failed is made up for by the next one.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from maao.errors import ConfigError, StoreError
from maao.llm.guarded import cause_of
from maao.llm.secrets import without_secrets
from maao.store.connection import connect
from maao.store.database import BUSY_SECONDS, DATABASE
from maao.store.files import TEMP_SUFFIX, leaves_folder, write_durably
from maao.store.run import LOCK

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OBJECTS, STATES = "objects", "states"
NOT_COPIED = (LOCK, *(f"{DATABASE}-{part}" for part in ("journal", "wal", "shm")))  # a process's own


class Mirror:
    """The copy of one run.

    Args:
        url: the mirror, a folder or an address of fsspec; the run's copy is beneath it, under the run's name.
        name: the run's name.

    Raises:
        ConfigError: fsspec or what reaches this address is not installed, or the address holds a password.

    Example:
        >>> Mirror("memory://runs", "first").holds_run()
        False
    """

    _system: AbstractFileSystem

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        check_mirror(url)
        from fsspec.core import url_to_fs

        try:
            self._system, root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"store.mirror = {url!r} cannot be reached: {error}.") from error
        self._root = f"{root.rstrip('/')}/{name}"

    def holds_run(self) -> bool:
        """Say whether a run of that name is there. Raises `StoreError` where that cannot be told."""
        try:
            return bool(self._states())
        except Exception as error:
            raise StoreError(f"{self.url} could not be read: {_in_short(error)}") from cause_of(error)

    def push(self, folder: Path) -> int:
        """Copy what of a run folder is not there yet; return how many objects were sent.

        Raises:
            StoreError: the mirror could not be written.
        """
        try:
            return self._push(folder)
        except Exception as error:  # every file system of fsspec raises its own
            raise StoreError(f"the run could not be copied to {self.url}: {_in_short(error)}") from cause_of(error)

    def pull(self, folder: Path) -> int:
        """Write the newest whole state into a folder that does not exist yet; return its number, from 1.

        Raises:
            StoreError: the folder is there, the mirror cannot be read, holds no such run, or what it holds is damaged: no folder is made.
        """
        if folder.exists():
            raise StoreError(f"{folder} is there already, so nothing was taken from {self.url}: `maao resume {folder}` goes on with it.")
        try:
            states = self._states()
            held = next(((number, files) for number in sorted(states, reverse=True) if (files := self._whole(number)) is not None), None)
        except Exception as error:
            raise StoreError(f"{self.url} could not be read: {_in_short(error)}") from cause_of(error)
        if held is None:
            raise StoreError(f"{self.url} holds no run of the name {self.name!r}. Give the folder the name that the run had.")
        number, files = held
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as made:  # a pull that is cut off leaves no half of a run
                part = Path(made, folder.name)
                part.mkdir()
                self._take(files, part)
                part.rename(folder)
        except StoreError:
            raise
        except Exception as error:  # every file system of fsspec raises its own
            told = f"the run could not be taken from {self.url}: {_in_short(error)}"
            raise StoreError(f"{told}. Nothing of it is here yet: the same command tries again.") from cause_of(error)
        return number

    def _take(self, files: Mapping[str, str], folder: Path) -> None:
        """Write the files of a state into a folder."""
        for name, digest in files.items():
            file = folder / name
            if leaves_folder(name) or not file.resolve().is_relative_to(folder.resolve()):
                raise StoreError(f"{self.url} names a file outside of the run: {name!r}. Nothing more was taken from it.")
            data: bytes = self._system.cat_file(self._object(digest))
            if hashlib.sha256(data).hexdigest() != digest:
                raise StoreError(f"{self.url} is damaged: {name} of {self.name} is not what was copied there.")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(file, data)

    def _push(self, folder: Path) -> int:
        there = {path.rsplit("/", 1)[-1] for path in self._listed(OBJECTS)}
        files: dict[str, str] = {}
        sent = 0
        for file in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
            name = file.relative_to(folder).as_posix()
            if file.is_symlink():
                raise ValueError(f"{name} is a link, and a copy is of the run's own files alone: remove it")
            if name in NOT_COPIED or name.endswith(TEMP_SUFFIX):
                continue
            data = _database_bytes(file) if name == DATABASE else file.read_bytes()
            files[name] = digest = hashlib.sha256(data).hexdigest()
            if digest not in there:
                self._write(self._object(digest), data)
                there.add(digest)
                sent += 1
        states = self._states()
        if sent or not states or self._read(max(states)) != files:
            self._write(f"{self._root}/{STATES}/{max(states, default=0) + 1:08d}.json", json.dumps(files, indent=1).encode())
        return sent

    def _write(self, path: str, data: bytes) -> None:
        self._system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._system.pipe_file(path, data)

    def _object(self, digest: str) -> str:
        return f"{self._root}/{OBJECTS}/{digest}"

    def _listed(self, what: str) -> list[str]:
        self._system.invalidate_cache()
        with suppress(FileNotFoundError):
            return [str(path) for path in self._system.ls(f"{self._root}/{what}", detail=False)]
        return []

    def _states(self) -> list[int]:
        names = (path.rsplit("/", 1)[-1].removesuffix(".json") for path in self._listed(STATES))
        return [int(name) for name in names if name.isdigit()]

    def _read(self, number: int) -> Mapping[str, str]:
        held = json.loads(self._system.cat_file(f"{self._root}/{STATES}/{number:08d}.json"))
        return {str(name): str(digest) for name, digest in held.items()}

    def _whole(self, number: int) -> Mapping[str, str] | None:
        """Return which object each file of a state is; None where the state is cut off, or an object is not there."""
        try:
            files = self._read(number)
        except (ValueError, AttributeError):
            return None
        there = {path.rsplit("/", 1)[-1] for path in self._listed(OBJECTS)}
        return files if DATABASE in files and there >= set(files.values()) else None


class Mirroring:
    """A run's copy as it goes on: what fails is told, once until it works again, and stops nothing."""

    def __init__(self, url: str | None, folder: Path, told: Callable[[str], None]) -> None:
        self._folder, self._told = folder, told
        self._mirror = None if url is None else Mirror(url, folder.absolute().name)
        self._failed = False

    def copy(self) -> None:
        """Copy what is stored, if the run has a mirror."""
        if self._mirror is None:
            return
        try:
            self._mirror.push(self._folder)
        except StoreError as error:
            if not self._failed:
                self._told(
                    f"{error}. The run goes on; what is missing there is sent with the next leg, or by `maao resume {self._folder}`."
                )
            self._failed = True
        else:
            if self._failed:
                self._told(f"{self._mirror.url} has all of the run again.")
            self._failed = False


def check_mirror(url: str) -> None:
    """Raise `ConfigError` for a mirror that cannot be used: a config is stored, and a password does not belong into it."""
    if urlsplit(url).password is not None or (urlsplit(url).username is not None and "://" in url):
        raise ConfigError("store.mirror holds a name or password before '@', and a config is stored: give those by the environment alone.")
    try:
        import fsspec  # noqa: F401
    except ImportError as error:
        raise ConfigError('store.mirror needs fsspec: pip install "maao[mirror]" (and s3fs for s3://, gcsfs for gs://).') from error


def _database_bytes(file: Path) -> bytes:
    """Return a database as it is between two transactions, whoever is writing it."""
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made, DATABASE)
        with closing(connect(file, "ro", seconds=BUSY_SECONDS)) as source, closing(connect(copy, "rwc", seconds=BUSY_SECONDS)) as target:
            source.backup(target)
        return copy.read_bytes()


def _in_short(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}")[:300]
