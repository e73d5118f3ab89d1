"""Run the notebooks of docs/ anew and keep what they print: `python -m tests.pages.notebooks [--to FOLDER]`.

What differs from run to run or machine to machine and says nothing (times, names of kernels, versions) is left out of the file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> Any:
    """Return a notebook as it is after all of its cells ran, in a folder of their own. A cell that fails is raised."""
    notebook: Any = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": folder}}
        ).execute()
    notebook.metadata = nbformat.from_dict(KERNEL)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_passing(output)]
    return notebook


def is_passing(output: Any) -> bool:
    """Whether an output says how far something was: bars, which are plain text alone, and what libraries write to standard error."""
    return output.get("name") == "stderr" or (output.output_type == "display_data" and set(output.data) == {"text/plain"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pages.notebooks", description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER, help="where to write them; by default where they are")
    to = parser.parse_args().to
    for path in notebooks():
        nbformat.write(executed(path), to / path.name)
        print(f"{path.name}: ran, {(to / path.name).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
