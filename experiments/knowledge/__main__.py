"""Run the study of knowledge: `python -m experiments.knowledge` (see `plan.md`).

Goes on where it stopped. The cells lie in `out/`; `experiments.knowledge.read_out` makes of them the table and the page that are kept.
Cells whose replies are not on record wait, and it says for how many; with all of them no call is made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.knowledge.data import make
from maao.compare import compare
from maao.errors import Waiting

HERE = Path(__file__).parent
TABLES = ("labels-0", "labels-1", "labels-2", "labels-4", "labels-8", "feedback-2", "feedback-4")


def main() -> None:
    """Run the tables that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m experiments.knowledge", description=__doc__)
    parser.add_argument("--only", default="", help="run only cells whose name holds this text")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("tables", nargs="*", default=TABLES, help=f"of {', '.join(TABLES)}")
    asked = parser.parse_args()
    make(HERE / "data")
    for name in asked.tables:
        try:
            told = f"all cells are there: {compare(HERE / f'{name}.toml', HERE / 'out' / name, workers=asked.workers, only=asked.only)}"
        except Waiting as waiting:
            told = str(waiting)
        print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
