"""Whether a run's threads find free processors. Threads of one product wait for one another, so with fewer processors than threads each
product waits for the slowest. Where waiting threads sleep (`threads.py`), that costs no more than the processors that others take; where
they do not, a run of 2 threads beside another one on 2 cores was seen to take ten times as long as alone.

A run's threads are not changed by what the machine does: sums, and so results, depend on them. It is only said.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from maao.threads import sleep

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time, and the period in which it may have them
SLACK = 0.5  # processors: a load average is a mean over a minute, and never quite still
_BEGAN = time.monotonic()


def processors(quota: Path = QUOTA) -> float:
    """Return how many processors this process may use: by its affinity, and by the quota of its container.

    Example:
        >>> 0 < processors() <= os.cpu_count()
        True
    """
    try:
        count = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        count = float(os.cpu_count() or 1)
    try:
        most, period = quota.read_text(encoding="ascii").split()
        return count if most == "max" else min(count, int(most) / int(period))
    except (OSError, ValueError):
        return count


def others_load() -> float:
    """Return how many processors others take, by the load average of the last minute; 0 where the system does not say."""
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0
    lasted = max(time.monotonic() - _BEGAN, 1e-3)
    own = time.process_time() / lasted * (1 - math.exp(-lasted / 60))  # what this process has added to that average
    return max(0.0, load - own)


def busy(threads: int) -> str:
    """Say what it means that the machine is busy for a run of so many threads that would begin now; "": it is not."""
    return crowded(threads, processors(), others_load(), asleep=sleep(os.environ))


def crowded(threads: int, cores: float, others: float, *, asleep: bool) -> str:
    """Say what it means where a run has more threads than there are free processors, and what to do; "": nothing.

    Args:
        asleep: threads sleep while they wait for one another.

    Example:
        >>> crowded(1, 2, 2.0, asleep=False), crowded(2, 2, 0.2, asleep=False)
        ('', '')
        >>> crowded(2, 2, 1.1, asleep=True)
        'the machine is busy: others take about 1.1 of 2 processors, so this run takes longer than alone'
        >>> crowded(2, 2, 1.1, asleep=False)
        'the machine is busy: others take about 1.1 of 2 processors, and this run has 2 threads, which ... threads = 1 in the config'
    """
    if threads <= 1 or threads + others <= cores + SLACK:
        return ""
    told = f"the machine is busy: others take about {others:.1f} of {cores:g} processors"
    if threads <= cores and asleep:
        return f"{told}, so this run takes longer than alone"
    told += f", and this run has {threads} threads"
    if threads > cores:
        told = f"this run has {threads} threads and may use {cores:g} processors"
    return f"{told}, which wait for one another. It may be several times as fast with threads = 1 in the config"
