"""Pools and tests of the two sets that come in five parts: AG News and SST-2, with their classes by name."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from maao.errors import DataError

CLASSES = {"sst-2": ("negative", "positive"), "agnews": ("world", "sports", "business", "technology")}


def make(folder: Path) -> None:
    """Write ``NAME-pool.csv`` (the rows of all five seeds, each text once) and ``NAME-test.csv`` into a folder, from `MAAO_DATA`."""
    given = os.environ.get("MAAO_DATA")
    if not given:
        raise DataError("The tables read the data folder: set MAAO_DATA to it.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, classes in CLASSES.items():
        place = Path(given) / "fewshot" / name
        for part, files in (("pool", sorted(place.glob("seed-*/*.tsv"))), ("test", [place / "test.tsv"])):
            rows = dict.fromkeys(pair for file in files for pair in _pairs(file, classes))
            with (folder / f"{name}-{part}.csv").open("w", encoding="utf-8", newline="") as out:
                csv.writer(out).writerows([("text", "label"), *rows])


def _pairs(file: Path, classes: tuple[str, ...]) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as held:
        rows = list(csv.DictReader(held, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row.get("text") or row["sentence"], classes[int(row["label"])]) for row in rows]
