"""Known vulnerabilities of what is locked, by pip-audit. `make audit`. Where its data cannot be reached, it says so and checks nothing.

python -m tests.checks.audit
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.checks.record import ROOT, Record

PIP_AUDIT = "pip-audit==2.10.1"  # dev-only, in an environment of its own
LOCKED = ROOT / "locked" / "all.txt"
ONE = "idna==3.20\n"  # asked about first: is there anybody to ask?
NOT_ASKED = "could not be audited"  # said of each package of which nobody answers, with exit code 0
SECONDS = 120


def main() -> None:
    record = Record("audit", "make audit: known vulnerabilities of what maao[all] is locked to.", {})
    with tempfile.TemporaryDirectory() as made:
        one = Path(made, "one.txt")
        one.write_text(ONE, encoding="utf-8")
        if (why := unreachable(one)) is not None:
            record.note("", f"not checked: the data of pip-audit cannot be reached from here ({why})")
            record.end()
            print(f"skipped: the data of pip-audit cannot be reached from here ({why})")
            return
    told = record.run([*TOOL, "--requirement", LOCKED], last=30)
    record.end()
    if NOT_ASKED in told:
        sys.exit("some of it could not be audited: see above")


TOOL = (
    *(sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit"),
    *("--disable-pip", "--no-deps", "--progress-spinner", "off", "--timeout", "15"),
)


def unreachable(one: Path) -> str | None:
    """Return why nobody answers for a single package; None: somebody does."""
    try:
        done = subprocess.run([*TOOL, "--requirement", one], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    told = done.stdout + done.stderr
    if NOT_ASKED not in told and ("No known vulnerabilities found" in told or "Found " in told):
        return None
    lines = [line for line in told.strip().splitlines() if NOT_ASKED in line] or told.strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


if __name__ == "__main__":
    main()
