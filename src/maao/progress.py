"""What is being done now, and how far it is: told by whatever takes long to whoever listens. Nothing depends on it.

What takes long stands in a `job`, or goes through `tracked`; a job within another is told with its depth. A listener is any function of a
`Progress`. It is told in the thread and the context that it was set in: work of other threads and processes is told by what waits for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        job: its number in this process: told again and again under the same.
        told: what is done, in a few words: "walking", "loading the model".
        done, total: in `unit`; a total of None is not known. A total may fall while it goes on: a race can end early.
        unit: what is counted, in the plural.
        note: how it stands, in a few words: the loss, say.
        depth: how many jobs it stands within.
        ended: it is the last time that the job is told.
    """

    job: int
    told: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    note: str = ""
    depth: int = 0
    ended: bool = False


Listener = Callable[[Progress], object]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_depth: ContextVar[int] = ContextVar("depth", default=0)
_numbers = itertools.count(1)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Let a function be told of all jobs within; None: whoever is told already.

    Example:
        >>> seen = []
        >>> with listening(lambda progress: seen.append((progress.told, progress.done, progress.ended))), job("walking", 2) as walk:
        ...     walk.advance()
        >>> seen
        [('walking', 0, False), ('walking', 1, False), ('walking', 1, True)]
    """
    if listener is None:
        yield
        return
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Job:
    """Something that takes long, while it is done. Made by `job`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @property
    def done(self) -> int:
        return self._progress.done

    def advance(self, by: int = 1, *, total: int | None = None, note: str | None = None) -> None:
        """Tell that so much more is done, or that the total or the note is another."""
        now = self._progress
        note = now.note if note is None else note
        self._progress = replace(now, done=now.done + by, total=now.total if total is None else total, note=note)
        self._tell()

    def _tell(self) -> None:
        if (listener := _listener.get()) is not None:
            listener(self._progress)

    def _end(self) -> None:
        self._progress = replace(self._progress, ended=True)
        self._tell()


@contextmanager
def job(told: str, total: int | None = None, unit: str = "") -> Iterator[Job]:
    """Tell of something that takes long, from its beginning to its end, however it ends."""
    depth = _depth.get()
    found = Job(Progress(next(_numbers), told, 0, total, unit, "", depth))
    found._tell()
    _depth.set(depth + 1)
    try:
        yield found
    finally:
        _depth.set(depth)
        found._end()


def tracked(things: Iterable[T], told: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield things, and tell how many were done with.

    Example:
        >>> seen = []
        >>> with listening(lambda progress: seen.append(f"{progress.done} of {progress.total}{'.' * progress.ended}")):
        ...     for _ in tracked("ab", "reading", 2):
        ...         pass
        >>> seen
        ['0 of 2', '1 of 2', '2 of 2', '2 of 2.']
    """
    with job(told, total, unit) as found:
        for thing in things:
            yield thing
            found.advance()
