"""Drivers that try to break promises on money and secrets, with their figures: ``python -m tests.checks.trust caps`` or ``provider``."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.checks.record import ROOT, Record

TRIALS = 200
FAULTS = (
    "tests/cases/test_providers_misbehaviours.py",
    "tests/cases/test_providers_replies.py",
    "tests/cases/test_providers_rows.py",
    "tests/cases/test_secrets_everywhere.py",
    "tests/llm/test_in_time.py",
)
TOLD = {
    "caps": "Processes that spend from one cap, and are killed at random; one call in four fails. `make test-caps`.",
    "provider": "A hostile provider: each fault is one misbehaviour of a server, met by a run or a call. `make test-provider`.",
}


class Faults:
    """Counts the faults that were tried, and those that were handled, by file."""

    def __init__(self) -> None:
        self._tried: set[str] = set()
        self._handled: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:  # what was to be set up, or torn down, broke
            self._tried.add(report.nodeid)
        if report.when == "call" and report.passed:
            self._handled.add(report.nodeid)
        if report.failed:
            self._handled.discard(report.nodeid)

    @property
    def tried(self) -> Counter[str]:
        return _by_file(self._tried)

    @property
    def handled(self) -> Counter[str]:
        return _by_file(self._handled)


def _by_file(tests: set[str]) -> Counter[str]:
    return Counter(test.split("::")[0] for test in tests)


def provider(more: list[str]) -> int:
    """Try all faults, and print how many were handled; `more` goes to pytest."""
    counted = Faults()
    code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *more, *FAULTS], plugins=[counted])
    for file in FAULTS:
        print(f"{file}: {counted.handled[file]} / {counted.tried[file]}")
    print(f"faults handled / tried: {counted.handled.total()} / {counted.tried.total()}")
    return int(code)


def main(name: str, *more: str) -> None:
    if name == "now":
        sys.exit(provider(list(more)))
    record = Record(name, TOLD[name], {})
    record.versions(Path(sys.executable))
    command = ["tests.store.cap_trials", str(TRIALS)] if name == "caps" else ["tests.checks.trust", "now", *more]
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    record.run([sys.executable, "-m", *command], last=len(FAULTS) + 2, PYTHONPATH=path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    record.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
