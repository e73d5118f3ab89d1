"""The figures that were measured, as a table for docs/speed.md."""

from __future__ import annotations

import json

from bench.frame import RESULTS, Run
from bench.language import AFTER, BEFORE, LIMIT, MEMORY, PARITY, SCORING
from bench.vision import EPOCH, EPOCH_MEMORY

ORDER = (BEFORE, AFTER, MEMORY, LIMIT, SCORING, EPOCH, EPOCH_MEMORY, PARITY)


def table(run: Run) -> None:
    """Print the table of what stands in the folder of results."""
    print("| figure | median (quartiles) | must | aim |\n| --- | --- | --- | --- |")
    for figure in ORDER:
        file = (run.out or RESULTS) / f"{figure.name}.json"
        if file.exists():
            record = json.loads(file.read_text(encoding="utf-8"))
            sign = "at least" if figure.higher_is_better else "at most"
            spread = "" if record.get("count", 1) == 1 else " ({:.3g} to {:.3g})".format(*record["quartiles"])
            print(f"| {figure.what} | {record['value']:.3g}{spread} | {sign} {figure.must:g} | {figure.aim:g} |")
