"""Running a target: so many inputs, what escaped, and how time grows with an input's size."""

from __future__ import annotations

import gc
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Generic, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from maao.errors import MaaoError

T = TypeVar("T")

MOST_SECONDS = 20.0  # of the processor, for an input of some kilobytes: what takes longer does not end
MEASURED = 0.01  # seconds: shorter times are noise
MOST_GROWTH = 3.0  # from an input to one of twice its size: 2 in proportion to it, 4 in proportion to its square
SMALLEST, LARGEST = 2**10, 2**19  # sizes of inputs that are measured


class Endless(BaseException):
    """An input kept the processor for `MOST_SECONDS`."""


@dataclass(frozen=True)
class Target(Generic[T]):
    """Something that reads what others wrote.

    Args:
        covers: what is called with an input, in words.
        inputs: what is tried.
        read: reads an input; may raise any of our own errors, and nothing else.
        growing: inputs of a size, by name, of which each is to take time in proportion to its size.
        kept: inputs that escaped once.
    """

    name: str
    covers: str
    inputs: st.SearchStrategy[T]
    read: Callable[[T], object]
    growing: Mapping[str, Callable[[int], T]] = field(default_factory=dict)
    kept: tuple[T, ...] = ()


@dataclass
class Escape:
    """An error that is not one of ours: what it says, the smallest input that raised it, and how many did."""

    told: str
    input: str
    count: int = 1


def tried(target: Target[T], one: T) -> Escape | None:
    """Read an input; return what escaped."""
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("error")
            target.read(one)
    except MaaoError as error:
        return None if str(error).strip() else Escape(f"{type(error).__name__} says nothing at {_place(error.__traceback__)}", repr(one))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Escape(f"{type(error).__name__} at {_place(error.__traceback__)}: {str(error)[:200]}", repr(one))
    return None


def run(target: Target[T], count: int, seed: int | None = None) -> tuple[int, list[Escape]]:
    """Try so many inputs, the same for a seed; return how many were tried, and what escaped, each kind once."""
    found: dict[str, Escape] = {}
    number = 0

    def check(one: T) -> None:
        nonlocal number
        number += 1
        escape = tried(target, one)
        if escape is None:
            return
        key = escape.told.partition(": ")[0]
        held = found.setdefault(key, escape)
        if held is not escape:
            held.count += 1
            if len(escape.input) < len(held.input):
                held.told, held.input = escape.told, escape.input

    quick = settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=seed is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    test = quick(given(target.inputs)(check))
    (test if seed is None else seeded(seed)(test))()
    return number, list(found.values())


def growth(target: Target[T], make: Callable[[int], T], measured: float = MEASURED, largest: int = LARGEST) -> float:
    """Return by what factor the time grows where the input's size is doubled; 0 where it is shorter than `measured` at any size."""
    size = SMALLEST
    while (first := _seconds(target, make(size))) < measured:
        size *= 2
        if size > largest:
            return 0.0
    once, twice = make(size), make(2 * size)
    first = min(first, _seconds(target, once), _seconds(target, once))
    return min(_seconds(target, twice) for _ in range(3)) / first


def grows_in_proportion(target: Target[T], make: Callable[[int], T], measured: float = MEASURED, largest: int = LARGEST) -> bool:
    """Say whether time is in proportion to size. A busy machine may spoil a measurement: it is taken five times before it counts."""
    return any(growth(target, make, measured, largest) <= MOST_GROWTH for _ in range(5))


def _seconds(target: Target[T], one: T) -> float:
    gc.disable()  # what it collects depends on what else there is
    try:
        began = time.perf_counter()  # the processor's clock is too coarse on some machines; of several readings the least counts
        escape = tried(target, one)
        seconds = time.perf_counter() - began
    finally:
        gc.enable()
    assert escape is None, escape
    return seconds


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: int | FrameType | None) -> None:
        raise Endless(f"more than {MOST_SECONDS:g} s of the processor")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _place(trace: TracebackType | None) -> str:
    """Return the last line of ours that an error came through."""
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if f"{Path('src/maao')}/" in frame.filename.replace("\\", "/")] or frames
    last = own[-1]
    return f"{Path(last.filename).name}:{last.name}" if own else "nowhere"
