"""The locked development environment, installed anew by hashes alone. `make test-locked`.

python -m tests.checks.locked
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.checks.record import ROOT, Record

LOCKED = ROOT / "locked" / "dev.txt"
# Which build of torch is taken, for the processor or for a GPU, is the machine's: it is pinned, and not hashed.
BUILDS = re.compile(r"^(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record("locked", "make test-locked: what develops maao, installed from locked/dev.txt by hashes.", {folder: "TMP"})
        hashed = folder / "hashed.txt"
        hashed.write_text("".join(block for block in blocks() if not BUILDS.match(block)), encoding="utf-8")
        python = folder / "venv/bin/python"
        record.run([sys.executable, "-m", "venv", folder / "venv"])
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        record.run([*pip, "--constraint", ROOT / "constraints.txt", "torch"], last=3)
        record.run([*pip, "--no-deps", "--require-hashes", "--requirement", hashed], last=3)
        record.run([*pip, "--no-deps", ROOT], last=3)
        record.run([python, "-m", "pip", "check", "--disable-pip-version-check"])
        record.versions(python)
        record.end()


def blocks() -> list[str]:
    """Return the packages of the lock, each with its hashes."""
    return re.findall(r"^\w.*(?:\n .*)*\n", LOCKED.read_text(encoding="utf-8"), flags=re.M)


if __name__ == "__main__":
    main()
