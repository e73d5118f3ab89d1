"""Run a table of the study and commit its rows as they come: `python -m experiments.study study`.

As `python -m experiments`, once the texts are made that the study draws from the data folder. The arms with the stronger mentor ask a
server at 127.0.0.1:8080 (see `experiments/README.md`).
"""

from __future__ import annotations

from pathlib import Path

from experiments.__main__ import main
from experiments.study import data

HERE = Path(__file__).parent

if __name__ == "__main__":
    data.make(HERE.parents[1] / "runs" / "study-data")
    main(HERE, "python -m experiments.study")
