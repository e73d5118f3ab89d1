"""Run the study of knowledge: `python -m experiments.knowledge` (see `plan.md`).

Goes on where it stopped. The cells lie in `out/`; `experiments.knowledge.read_out` makes of them the table and the page that are kept.
Cells whose replies are not on record wait, and it says for how many; with all of them no call is made.
"""

from __future__ import annotations

from pathlib import Path

from experiments.knowledge.data import make
from experiments.tables import options, run

HERE = Path(__file__).parent
TABLES = ("labels-0", "labels-1", "labels-2", "labels-4", "labels-8", "feedback-2", "feedback-4")


def main() -> None:
    """Run the tables that the command line names."""
    asked = options("python -m experiments.knowledge", __doc__, TABLES)
    make(HERE / "data")
    for name in asked.tables:
        print(f"{name}: {run(HERE / f'{name}.toml', HERE / 'out' / name, asked)}", flush=True)


if __name__ == "__main__":
    main()
