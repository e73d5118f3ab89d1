"""What a process does to a disk, recorded call by call, and what of it a power cut leaves: built from `disk.c` where there is a compiler.

A process is started with the library before all others (`environment`) and speaks to it by `Disk`. Below the traced folder, what was
written to a file is safe once the file was synced; a name that was made, moved or taken away, once its folder was.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("disk.c")
Left = Literal["nothing", "some"]  # of what was not safe yet


def build(folder: Path) -> Path:
    library = folder / "disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Disk:
    """The library in this process, which was started with it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.disk_writes.restype = ctypes.c_long

    def trace(self, folder: Path, file: Path) -> None:
        """Write down from now on what is done below a folder."""
        self._library.disk_begin(str(folder).encode(), str(file).encode(), ctypes.c_long(0), 0, 0)

    def fail(self, folder: Path, at: int, code: int = errno.ENOSPC, *, lasting: bool = True) -> None:
        """Let the n-th call below a folder that needs room fail (0: none), and those behind it if it lasts."""
        self._library.disk_begin(str(folder).encode(), b"", ctypes.c_long(at), code, int(lasting))

    def say(self, what: str) -> None:
        """Write a promise into the trace."""
        self._library.disk_say(what.encode())

    @property
    def writes(self) -> int:
        """How many calls that need room were made since `trace` or `fail`."""
        return int(self._library.disk_writes())


@dataclass
class Call:
    """One call: `to` is the name that it makes, moves to, or takes away; `file` the number of the file that it is about."""

    name: str
    to: str
    file: int
    offset: int = 0
    data: bytes = b""
    old: str = ""
    safe_from: int | None = None  # the call by which it is safe


@dataclass
class Trace:
    calls: list[Call] = field(default_factory=list)


def read_trace(file: Path) -> Trace:
    """Return the calls of a trace, each with the call by which it is safe."""
    raw, at, trace = file.read_bytes(), 0, Trace()
    names: dict[str, int] = {}
    unsafe: list[Call] = []

    def number(path: str) -> int:
        return names.setdefault(path, len(names) + len(trace.calls) + 1)

    while at < len(raw):
        line, _, _ = raw[at:].partition(b"\n")
        at += len(line) + 1
        name, _, rest = line.decode().partition(" ")
        if name == "say":
            trace.calls.append(Call(name, rest, 0))
            continue
        if name == "write":
            path, offset, length = rest.rsplit(" ", 2)
            call = Call(name, path, number(path), int(offset), raw[at : at + int(length)])
            at += int(length) + 1
        elif name == "truncate":
            path, size = rest.rsplit(" ", 1)
            call = Call(name, path, number(path), int(size))
        elif name == "rename":
            old, path = rest.split(" ")
            names[path] = names.pop(old)
            call = Call(name, path, names[path], old=old)
        elif name == "create":
            names.pop(rest, None)
            call = Call(name, rest, number(rest))
        elif name == "unlink":
            call = Call(name, rest, names.pop(rest, 0))
        else:
            call = Call(name, rest, number(rest) if name != "mkdir" else 0)
        trace.calls.append(call)
        if name == "sync":
            for one in unsafe:
                is_content = one.name in ("write", "truncate")
                covered = one.file == call.file if is_content else os.path.dirname(one.to) == call.to
                if one.safe_from is None and covered:
                    one.safe_from = len(trace.calls) - 1
        else:
            unsafe.append(call)
    return trace


def leave(trace: Trace, cut: int, root: Path, to: Path, left: Left, seed: int = 0) -> None:
    """Write below another folder what is there once the power is gone before a call, with nothing or some of what was not safe.

    Some: each name that was not safe is there or not; each write is there, is not, or is torn.
    """
    chance = random.Random(f"{seed} {cut}")
    names: dict[str, int] = {}
    folders = {str(root.parent)}
    contents: dict[int, bytearray] = {}
    for call in trace.calls[:cut]:
        is_safe = call.safe_from is not None and call.safe_from < cut
        if not is_safe and (left == "nothing" or chance.random() < 0.5):
            continue
        held = contents.setdefault(call.file, bytearray())
        if call.name == "write":
            data = call.data
            if not is_safe and chance.random() < 0.5:
                data = data[: chance.randrange(len(data))]
            held.extend(bytes(max(0, call.offset - len(held))))
            held[call.offset : call.offset + len(data)] = data
        elif call.name == "truncate":
            del held[call.offset :]
            held.extend(bytes(call.offset - len(held)))
        elif call.name in ("create", "rename"):
            names.pop(call.old, None)
            names[call.to] = call.file
        elif call.name == "unlink":
            names.pop(call.to, None)
        elif call.name == "mkdir":
            folders.add(call.to)
    for folder in sorted(folders):
        if all(str(parent) in folders for parent in Path(folder).parents if parent.is_relative_to(root.parent)):
            (to / Path(folder).relative_to(root.parent)).mkdir(parents=True, exist_ok=True)
    for path, file in names.items():
        place = to / Path(path).relative_to(root.parent)
        if place.parent.is_dir():
            place.write_bytes(contents.get(file, b""))


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory where there is such a disk: what is lost there is decided here."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, prefix="maao-disk-")


def environment(library: Path) -> dict[str, str]:
    return {**os.environ, "LD_PRELOAD": str(library)}


def can_build() -> bool:
    return os.name == "posix" and shutil.which("cc") is not None
