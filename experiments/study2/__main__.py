"""Run the second study: `python -m experiments.study2 [TABLE ...]` (see `plan.md`).

Goes on where it stopped. The cells lie in `out/`; `experiments.study2.read_out` makes of them the table and the page that are kept. Cells
whose replies are not on record wait, and it says for how many; with all of them no call is made.
"""

from __future__ import annotations

import os
from pathlib import Path

from experiments.study2 import similar
from experiments.study2.data import make
from experiments.tables import options, run
from maao import waiting as waiting_room
from maao.llm.record import add_to_record, read_record

HERE = Path(__file__).parent
RECORD = HERE.parent / "mentors" / similar.RECORD
CONFUSIONS = RECORD.with_suffix(".confusions.jsonl")
LABELS = (0, 1, 2, 4, 8, 16)
TABLES = ("labels-2", "labels-0", "labels-1", "labels-4", "labels-8", "labels-16", "head-2", "feedback-2", "feedback-4", "prompts")


def main() -> None:
    """Run the tables that the command line names."""
    asked = options("python -m experiments.study2", __doc__, TABLES)
    make(HERE / "data")
    if lacking := similar.make(HERE / "common.toml", RECORD, Path(os.environ["MAAO_DATA"]), HERE / "data"):
        print(f"replies are not on record of {', '.join(lacking)}: arms that leave out what resembles their rows cannot run", flush=True)
    for name in asked.tables:
        place = HERE / "out" / name
        if name.startswith("feedback"):
            begin_record(place)
        told = run(HERE / f"{name}.toml", place, asked)
        while name.startswith("feedback") and "wait" in told and take_confusions(place):
            told = run(HERE / f"{name}.toml", place, asked)
        print(f"{name}: {told}", flush=True)


def begin_record(place: Path) -> None:
    """Give a table of feedback a record of its own: some of its requests show rows of the data, which the kept record never holds."""
    place.mkdir(parents=True, exist_ok=True)
    record = place / waiting_room.RECORD
    held = read_record(record)
    added = [entry for key, entry in read_record(RECORD).items() if key not in held]
    if added:
        add_to_record(record, added)


def take_confusions(place: Path) -> int:
    """Answer open requests that show rows of the data from the replies that are kept by their keys; return how many were."""
    lines = CONFUSIONS.read_text(encoding="utf-8").splitlines()
    read = waiting_room.import_replies(place, [(f"line {number} of {CONFUSIONS.name}", line) for number, line in enumerate(lines, start=1)])
    return len(read.entries)


if __name__ == "__main__":
    main()
