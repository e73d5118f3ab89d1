"""What the runs of one process read of their data once: within `keeping`, files that are parsed and pools that are cut into splits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")
MOST = 256  # values that are kept; what is cut from one file shares its examples

_KEPT: ContextVar[dict[Hashable, object] | None] = ContextVar("kept_data", default=None)


@contextmanager
def keeping() -> Iterator[None]:
    """Keep what `once` makes while this lasts."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def once(key: Hashable, make: Callable[[], T]) -> T:
    """Return what `make` gives, made again only where nothing is kept under the key. Values must not be changed.

    Example:
        >>> with keeping():
        ...     once("a", lambda: [1]) is once("a", lambda: [1])
        True
        >>> once("a", lambda: [1]) is once("a", lambda: [1])
        False
    """
    held = _KEPT.get()
    if held is None:
        return make()
    if key not in held:
        value = make()
        if len(held) >= MOST:
            del held[next(iter(held))]
        held[key] = value
    return cast(T, held[key])


def stamps(names: Iterable[object]) -> tuple[tuple[str, int, int, int], ...]:
    """Return of those names that are files what changes when a file does: its path, its number, its size, and when it was written."""
    found = []
    for name in names:
        if isinstance(name, str) and Path(name).is_file():
            about = Path(name).stat()
            found.append((name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)
