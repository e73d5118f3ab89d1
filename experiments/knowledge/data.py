"""The texts of the pools without their labels, a line each: the corpus of the control that trains on what the model says of it."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.study2.data import texts, write_corpus
from maao.errors import DataError

SETS = ("banking77", "clinc150-work", "clinc150-kitchen", "hwu64")


def make(folder: Path) -> None:
    """Write ``NAME.txt`` for each set into a folder, from `MAAO_DATA`."""
    given = os.environ.get("MAAO_DATA")
    if not given:
        raise DataError("The tables read the data folder: set MAAO_DATA to it.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        write_corpus(folder / f"{name}.txt", texts(Path(given) / "intents" / name / "pool.csv"))
