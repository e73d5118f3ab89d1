"""How figures are measured: sides take turns step by step, the machine is watched meanwhile, and a figure is a median with its quartiles.

A shared machine changes its speed within seconds. So each side makes one step a turn, in one process, in an order that alternates, and
what is compared is what stands in the same turn. The machine's own matrix rate is measured beside every turn. CPU seconds are kept beside
the clock's: other processes take time from a clock, and little from those.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from maao.installed import installed

RESULTS = Path(__file__).parent / "results"
QUIET_OTHERS, QUIET_STEAL = 0.05, 0.02  # parts of the machine's CPU time: with no more than that taken by others it was quiet
RATE_SECONDS = 0.2  # how long the matrix rate is measured beside each turn
Shape = tuple[int, int, int]  # rows, inputs, outputs of a product with weights


@dataclass(frozen=True)
class Run:
    """What was asked for on the command line. Without `out` nothing is written, only printed."""

    quick: bool = False
    out: Path | None = RESULTS

    def turns(self, full: int, quick: int = 3) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Seconds:
    """What a step took: by the clock, and of the CPU (all threads of this process)."""

    wall: float
    cpu: float


Step = Callable[[], Seconds]


def timed(step: Callable[[], object]) -> Step:
    """Return a step that times itself."""

    def run() -> Seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        return Seconds(time.perf_counter() - wall, time.process_time() - cpu)

    return run


@dataclass(frozen=True)
class Turn:
    """One step of every side, in this order, and the machine's matrix rate in floating-point operations a second, before and after."""

    seconds: Mapping[str, Seconds]
    rates: tuple[float, float]

    @property
    def rate(self) -> float:
        return sum(self.rates) / 2


@dataclass(frozen=True)
class Turns:
    """What was measured turn by turn."""

    turns: tuple[Turn, ...]

    def wall(self, side: str) -> list[float]:
        return [turn.seconds[side].wall for turn in self.turns]

    def cpu(self, side: str) -> list[float]:
        return [turn.seconds[side].cpu for turn in self.turns]

    def ratios(self, over: str, under: str, extra: float = 0.0) -> list[float]:
        """Return the ratio of two sides' times, turn by turn; `extra` seconds are added to each step of the second."""
        return [a / (b + extra) for a, b in zip(self.wall(over), self.wall(under), strict=True)]

    def cpu_ratios(self, over: str, under: str, extra: float = 0.0) -> list[float]:
        return [a / (b + extra) for a, b in zip(self.cpu(over), self.cpu(under), strict=True)]

    def samples(self) -> dict[str, object]:
        """Return all that was measured, for a file."""
        sides = self.turns[0].seconds
        return {
            "wall_seconds": {side: list(self.wall(side)) for side in sides},
            "cpu_seconds": {side: list(self.cpu(side)) for side in sides},
            "flop_per_second": [list(turn.rates) for turn in self.turns],
            "orders": [list(turn.seconds) for turn in self.turns],
        }


def take_turns(sides: Mapping[str, Step], turns: int, *, shapes: Sequence[Shape], warm_up: int = 1) -> Turns:
    """Let each side make one step a turn, forwards and backwards in the order they are given, after `warm_up` turns that do not count.

    Args:
        shapes: products that a step is made of, in whose rate the machine's is told.
    """
    rate = MatrixRate(shapes)
    order = list(sides)
    found = []
    for number in range(-warm_up, turns):
        before = rate.measure()
        seconds = {side: sides[side]() for side in order}
        turn = Turn(seconds, (before, rate.measure()))
        order.reverse()
        if number >= 0:
            found.append(turn)
            told = ", ".join(f"{side} {seconds[side].wall:.2f} s" for side in sides)
            print(f"  turn {number + 1}/{turns}: {told}; {turn.rate / 1e9:.0f} GFLOP/s", flush=True)
    return Turns(tuple(found))


class MatrixRate:
    """The machine's rate in fp32 products with weights of these shapes, forwards (``x W^T``) and backwards (``g W``)."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._products = [(torch.randn(rows, n), torch.randn(m, n), torch.randn(rows, m)) for rows, n, m in shapes]
        self._operations = sum(4 * rows * n * m for rows, n, m in shapes)

    def measure(self) -> float:
        """Return floating-point operations a second, over about `RATE_SECONDS`."""
        rounds, began = 0, time.perf_counter()
        with torch.no_grad():
            while not rounds or time.perf_counter() - began < RATE_SECONDS:
                for x, weight, gradient in self._products:
                    torch.nn.functional.linear(x, weight)
                    gradient @ weight
                rounds += 1
        return rounds * self._operations / (time.perf_counter() - began)


class Watch:
    """Tells what else the machine did between `__enter__` and `__exit__`: who reads a figure must know."""

    def __enter__(self) -> Self:
        self._began, self._stat, self._load = time.perf_counter(), _cpu_seconds(), os.getloadavg()[0]
        self._own = sum(os.times()[:4])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def told(self) -> dict[str, object]:
        """Return the load average at both ends, and which part of the machine others took; None where the system does not say."""
        now, seconds = _cpu_seconds(), time.perf_counter() - self._began
        told: dict[str, object] = {"seconds": round(seconds, 1), "load_average": [round(self._load, 2), round(os.getloadavg()[0], 2)]}
        if now is None or self._stat is None:
            return {**told, "others": None, "steal": None, "quiet": None}
        room = seconds * (os.cpu_count() or 1)
        others = max(0.0, now[0] - self._stat[0] - (sum(os.times()[:4]) - self._own)) / room
        steal = (now[1] - self._stat[1]) / room
        quiet = others <= QUIET_OTHERS and steal <= QUIET_STEAL
        return {**told, "others": round(others, 3), "steal": round(steal, 3), "quiet": quiet}


def _cpu_seconds() -> tuple[float, float] | None:
    """Return the CPU seconds that all processes have used, and those that the host took, since the system began."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft_irq, steal = (int(value) / tick for value in fields[:8])
    return user + nice + system + irq + soft_irq, steal


def environment() -> dict[str, object]:
    """Return what a figure was measured on: processor, cores, threads, and the packages that matter."""
    packages: dict[str, object] = {name: installed(name) for name in ("maao", "torch", "transformers", "peft")}
    return {
        "processor": _processor(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **packages,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name, numbers = told.get("model name", platform.processor()), [told.get(key, "?") for key in ("cpu family", "model", "stepping")]
    return f"{name}, family {numbers[0]}, model {numbers[1]}, stepping {numbers[2]}"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile of values.

    Example:
        >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0]), quartiles([7.0])
        ((2.0, 3.0, 4.0), (7.0, 7.0, 7.0))
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True)
class Figure:
    """One measured figure, with what it must reach and what we aim for. Judged is the quartile on the worse side."""

    name: str
    what: str
    must: float
    aim: float
    higher_is_better: bool
    unit: str = "times"

    def report(self, run: Run, watch: Watch, values: Sequence[float], samples: Mapping[str, object], **further: object) -> None:
        """Print the figure, and write it to its file."""
        low, middle, high = quartiles(values)
        judged = low if self.higher_is_better else high
        reached = judged >= self.must if self.higher_is_better else judged <= self.must
        told = watch.told()
        record: dict[str, object] = {
            "figure": self.name,
            "what": self.what,
            "value": middle,
            "quartiles": [low, high],
            "count": len(values),
            "must": self.must,
            "aim": self.aim,
            "higher_is_better": self.higher_is_better,
            "reached": reached,
            "unit": self.unit,
            **further,
            "environment": environment(),
            "machine": told,
            "values": list(values),
            "samples": dict(samples),
        }
        if run.out is not None:
            save(run.out / f"{self.name}.json", record)
        verdict = "reached" if reached else "NOT REACHED"
        quiet = "quiet" if told["quiet"] else f"not quiet (part taken by others: {told['others']})"
        spread = f" ({low:.4g} to {high:.4g})" if len(values) > 1 else ""
        print(
            f"{self.name}: {middle:.4g}{spread} {self.unit}; must {self.must:g}, aim {self.aim:g}: {verdict}; machine {quiet}", flush=True
        )


def save(file: Path, record: Mapping[str, object]) -> None:
    """Write a record to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def peak_bytes() -> int:
    """Return the highest resident set of this process. Not by `getrusage`: its figure begins at that of the process it was started from."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("The highest resident set is read from /proc/self/status, which this system does not have: run on Linux.")
