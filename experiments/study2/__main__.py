"""Run the second study: `python -m experiments.study2 [TABLE ...]` (see `plan.md`).

Goes on where it stopped. The cells lie in `out/`; `experiments.study2.read_out` makes of them the table and the page that are kept. Cells
whose replies are not on record wait, and it says for how many; with all of them no call is made.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from experiments.study2 import similar
from experiments.study2.data import make
from maao.compare import compare
from maao.errors import Waiting

HERE = Path(__file__).parent
RECORD = HERE.parent / "mentors" / similar.RECORD
LABELS = (0, 1, 2, 4, 8, 16)
TABLES = ("labels-2", "labels-0", "labels-1", "labels-4", "labels-8", "labels-16", "head-2", "feedback-2", "feedback-4")


def main() -> None:
    """Run the tables that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m experiments.study2", description=__doc__)
    parser.add_argument("--only", default="", help="run only cells whose name holds this text")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("tables", nargs="*", default=TABLES, help=f"of {', '.join(TABLES)}")
    asked = parser.parse_args()
    make(HERE / "data")
    if lacking := similar.make(HERE / "common.toml", RECORD, Path(os.environ["MAAO_DATA"]), HERE / "data"):
        print(f"replies are not on record of {', '.join(lacking)}: arms that leave out what resembles their rows cannot run", flush=True)
    for name in asked.tables:
        try:
            told = f"all cells are there: {compare(HERE / f'{name}.toml', HERE / 'out' / name, workers=asked.workers, only=asked.only)}"
        except Waiting as waiting:
            told = str(waiting)
        print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
