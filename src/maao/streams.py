"""Standard output and standard error, which whoever reads them may close while a command goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, ClassVar, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Outlet(FileIO):
    """Writes to a descriptor until that fails: then, where a command is to go on (`outlast`), what comes is dropped, which is told once.

    From then on the descriptor leads nowhere, for processes that are started later too.
    """

    # Of the class, since standard output is the process's: whoever says that a command goes on holds no outlet. `outlets` begins anew.
    outlasts: ClassVar[bool] = False
    failed: ClassVar[OSError | None] = None  # why standard output was lost, where its reader did not simply leave

    def __init__(self, descriptor: int, told: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._told = told  # what it is called where it is lost; "": in silence
        self._lost = False

    def write(self, data: Buffer, /) -> int:
        if self._lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._lose(error)
            if not Outlet.outlasts:
                raise
            if self._told:
                left = isinstance(error, BrokenPipeError)
                why = "is no longer read" if left else f"cannot be written ({error.strerror})"
                print(f"Note: {self._told} {why}. This goes on without it, and what is made is stored.", file=sys.stderr)
            return memoryview(data).nbytes

    def _lose(self, error: OSError) -> None:
        self._lost = True
        if self._told and not isinstance(error, BrokenPipeError):
            Outlet.failed = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def outlast() -> None:
    """Let this command go on to its end where nobody reads what it prints."""
    Outlet.outlasts = True


@contextmanager
def outlets() -> Iterator[None]:
    """Write standard output and error by an `Outlet`, what they cannot encode escaped; where they lead into memory, escaped alone."""
    before = sys.stdout, sys.stderr
    Outlet.outlasts, Outlet.failed = False, None
    sys.stdout, sys.stderr = _outlet(sys.stdout, "standard output"), _outlet(sys.stderr, "")
    try:
        yield
    finally:
        try:
            sys.stdout.flush()  # here, and not when Python ends: what is left may meet a closed pipe
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = before


def _outlet(stream: TextIO, told: str) -> TextIO:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # it leads into memory
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    if not isinstance(stream, TextIOWrapper):
        return stream
    stream.flush()
    raw = Outlet(descriptor, told)
    return TextIOWrapper(
        raw if stream.write_through else BufferedWriter(raw),  # PYTHONUNBUFFERED
        encoding=stream.encoding,
        errors="backslashreplace",  # a terminal that lacks a character is no reason to stop
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
