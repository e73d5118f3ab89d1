"""Run a table of experiments: `python -m experiments superglue` (see `experiments/README.md`).

`maao compare` runs it; this adds where results are kept, `experiments/results/NAME`, and commits them as they come. A stopped table goes on
where it stopped, and a cell that has its row is not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.committed import commit
from maao.compare import compare
from maao.errors import MaaoError

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def main(folder: Path = HERE, prog: str = "python -m experiments") -> None:
    """Run the table that the command line names, a file in `folder`."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("table", help=f"name of a TOML file in {folder.relative_to(HERE.parent)}/, or its path")
    parser.add_argument("--only", action="append", default=[], help="run only cells whose name holds this text; may be repeated")
    parser.add_argument("--workers", type=int, default=None, help="processes at a time")
    parser.add_argument("--commit", action="store_true", help="commit the rows as they come")
    asked = parser.parse_args()
    path = Path(asked.table) if asked.table.endswith(".toml") else folder / f"{asked.table}.toml"
    out = RESULTS / path.stem
    before = -1

    def watch(done: int, total: int, seconds: float) -> None:
        nonlocal before
        if done != before:
            before = done
            print(f"{done} of {total} cells, {seconds:.0f} s", flush=True)
            if asked.commit:
                commit([out], f"Results of the table {path.stem}: {done} of {total} cells")

    page = compare(path, out, workers=asked.workers, only=asked.only, watch=watch)
    if asked.commit:
        commit([out], f"Page of the table {path.stem}")
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except MaaoError as error:
        sys.exit(f"Error: {error}")
