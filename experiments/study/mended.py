"""What the study's rows were found to be, after they were run: cells that are struck out, and what wrote the texts of two arms.

Rows keep their names and files; pages leave the struck ones out of every figure and call arms by what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maao.compare.page import Differences
from maao.compare.rows import Row
from maao.compare.table import Table

TASKS = ("SST-2", "SST-2, MiniLM")
SAW = {  # what an arm's instruction showed as a worked example "of another task": a review of a film, which is SST-2
    "MaaO, template": "guided",
    "MaaO, best variant": "guided",
    "MaaO, stronger mentor": "guided",
    "LLM without scores": "guided",
    "LLM without the trajectory": "guided",
    "MaaO, packaged mentor": "completion",
    "EvoPrompt-DE": "EvoPrompt's own",
}


def is_struck(row: Row) -> bool:
    """Say whether a cell's mentor was shown lines for its own task."""
    return row.arm in SAW and row.task in TASKS


def kept(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that figures are made of."""
    return [row for row in rows if not is_struck(row)]


def called(arm: str) -> str:
    """Return what pages call an arm: no person wrote what the rows call hand-written.

    Example:
        >>> called("slots last, hand-written texts"), called("random text")
        ('slots last, texts of a large model', 'random text')
    """
    return arm.replace("hand-written texts", "texts of a large model").replace("hand-written templates", "templates of a large model")


def struck_told(rows: Sequence[Row]) -> str:
    """Return how many cells are struck, and why; empty where none is."""
    count = sum(is_struck(row) for row in rows)
    if not count:
        return ""
    arms = ", ".join(f"`{arm}`" for arm in SAW)
    return (
        f"**Struck out: {count} of {len(rows)} cells**, in no figure here: {arms}, on {' and '.join(TASKS)}. Their instructions showed a "
        "review of a film as the worked example of another task, which is SST-2 itself (`guided`, `completion`, and EvoPrompt's own), and "
        "its lines came back as winners. The examples are other tasks now; the cells were not run again. Their rows stay in `study/rows`, "
        "and `study/results.json` names them. A comparison is made of the tasks that both sides have: four of six, of template arms three "
        "of five."
    )


class Mended(Differences):
    """The page of differences without the struck cells, arms by what they are."""

    def write(self, table: Table, rows: Sequence[Row], place: Path, total: int) -> Mapping[str, object]:
        told = [row.model_copy(update={"arm": called(row.arm)}) for row in kept(rows)]
        struck = [{"arm": row.arm, "task": row.task, "seed": row.seed} for row in rows if is_struck(row)]
        about = "\n\n".join(filter(None, (table.about.strip(), struck_told(rows))))
        more = super().write(table.model_copy(update={"about": about}), told, place, total - len(struck))
        return {"struck": struck, **more} if struck else more
