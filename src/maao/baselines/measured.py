"""The most memory that a process held while something ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """The most memory that the process held, in MiB: of all that runs in it. None where the system does not say."""

    def __init__(self) -> None:
        self.mib: float | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the most memory (resident, models included) that the process holds within this; Linux alone says so."""
    peak = Peak()
    try:
        CLEAR.write_text("5", encoding="ascii")  # the system then counts the peak anew
    except OSError:
        yield peak
        return
    yield peak
    lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    peak.mib = next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), None)
