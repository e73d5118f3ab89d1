"""The notebooks of docs/: what is kept in them is whole and small, and running them anew gives the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages.notebooks import notebooks

ROOT = Path(__file__).parents[2]


def outputs(path: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each cell of code."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def in_form(cells: list[list[dict[str, Any]]]) -> list[list[str]]:
    """Return what was printed with each digit as 0, and of pictures that they are there."""
    found = []
    for cell in cells:
        texts = [
            "a picture" if "image/png" in one.get("data", {}) else "".join(one.get("text") or one["data"]["text/plain"]) for one in cell
        ]
        found.append([re.sub(r"\d", "0", text) for text in texts])
    return found


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs_and_without_errors(path: Path) -> None:
    cells = outputs(path)
    kinds = {one["output_type"] for cell in cells for one in cell}
    assert kinds <= {"stream", "display_data", "execute_result"} and "display_data" in kinds
    assert path.stat().st_size < 250_000
    assert not re.search(r"/(work|tmp|home|root)/", path.read_text(encoding="utf-8"))


@pytest.mark.real
def test_notebooks_run_anew_to_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.pages.notebooks", "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    for path in notebooks():
        assert in_form(outputs(tmp_path / path.name)) == in_form(outputs(path)), path.name
