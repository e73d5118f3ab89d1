"""Commit results as they come."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def commit(paths: Sequence[Path], message: str) -> None:
    """Commit these files and folders, and nothing else.

    Another process may hold the index for a moment: what is not committed now is with the next cell.
    """
    named = [str(path) for path in paths if path.exists()]
    for _ in range(5):
        if subprocess.run(["git", "add", "--", *named], capture_output=True, check=False).returncode == 0:
            subprocess.run(["git", "commit", "--quiet", "-m", message, "--", *named], capture_output=True, check=False)
            return
        time.sleep(1)
