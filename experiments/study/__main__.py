"""Run a table of the study and commit its rows as they come: `python -m experiments.study study`.

Rows are in `experiments/results/TABLE/rows`, a file a cell, and the page beside them; run folders are in `runs/`. A stopped study goes on
where it stopped. The arms with the stronger mentor ask a server at 127.0.0.1:8080 (see `experiments/README.md`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.committed import commit
from experiments.study import data
from maao.compare import compare

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.study", description=__doc__)
    parser.add_argument("table", help="name of a TOML file in experiments/study/")
    parser.add_argument("--only", default="", help="run only cells whose name holds this text")
    parser.add_argument("--workers", type=int, default=None, help="processes at a time")
    parser.add_argument("--commit", action="store_true", help="commit the rows as they come")
    asked = parser.parse_args()
    data.make(HERE.parents[1] / "runs" / "study-data")
    out = RESULTS / asked.table
    before = -1

    def watch(done: int, total: int, seconds: float) -> None:
        nonlocal before
        if done != before:
            before = done
            print(f"{done} of {total} cells, {seconds:.0f} s", flush=True)
            if asked.commit:
                commit([out], f"Results of the study's table {asked.table}: {done} of {total} cells")

    page = compare(HERE / f"{asked.table}.toml", out, workers=asked.workers, only=asked.only, watch=watch)
    if asked.commit:
        commit([out], f"Page of the study's table {asked.table}")
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
