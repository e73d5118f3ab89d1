"""Commands run one after the other, told with their seconds, and written down without a path of the machine they ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "checked"
KEPT = ("torch", "transformers", "numpy", "pydantic", "typer", "rich", "safetensors", "ray", "accelerate", "fsspec", "maao")


class Record:
    """What a check ran and saw. It is written when the check ends, also where a command failed: then the check ends with its exit code."""

    def __init__(self, name: str, what: str, places: Mapping[Path, str]) -> None:
        """Begin a record. `places` are folders of this machine, and what they are called in it."""
        self.name = name
        self._places = {str(path): called for path, called in {**places, Path(sys.prefix): ".venv", ROOT: ".", Path.home(): "~"}.items()}
        self._lines = [what, "", f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"]
        self._lines.append(f"load when it began: {os.getloadavg()[0]:.1f}")

    def run(self, command: Sequence[str | Path], *, last: int = 12, cwd: Path = ROOT, **variables: str) -> str:
        """Run a command and return what it printed; `last` lines of that are written down. Ends the check where it fails."""
        shown = " ".join(str(part) for part in command)
        print(f"$ {self._without_places(shown)}", flush=True)
        began = time.monotonic()
        unwanted = ("PYTHONPATH", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted} | variables
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        printed = [line for line in done.stdout.rstrip().splitlines() if "file://" not in line]  # where this machine keeps packages
        held = printed if done.returncode else printed[-last:]
        cut = ["..."] if len(held) < len(printed) else []
        self.note("", f"$ {shown}", *cut, *held, f"[{time.monotonic() - began:.0f} s, exit code {done.returncode}]")
        print("\n".join(self._lines[-len(held) - 1 :]), flush=True)
        if done.returncode:
            self.end()
            sys.exit(done.returncode)
        return done.stdout

    def note(self, *lines: str) -> None:
        self._lines += [self._without_places(line) for line in lines]

    def versions(self, python: Path) -> None:
        """Write down the versions of what is installed beside a Python."""
        each = "(f'{found.name} {found.version}' for name in NAMES for found in importlib.metadata.distributions(name=name))"
        listed = f"import importlib.metadata; NAMES = {KEPT!r}; print(*{each}, sep=', ')"
        told = subprocess.run([python, "-c", listed], capture_output=True, text=True, check=True).stdout.strip()
        release = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
        self.note("", f"{release}: {told}")

    def end(self) -> None:
        """Write the record."""
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{self.name}.txt").write_text("\n".join(self._lines).rstrip() + "\n", encoding="utf-8")

    def _without_places(self, text: str) -> str:
        for path, called in sorted(self._places.items(), key=lambda place: -len(place[0])):
            text = text.replace(path, called)
        return text
