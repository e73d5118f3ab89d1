"""What the cells of a table that are still to run will ask of models that may cost money.

One cell of each arm, model and task is built, and its mentor asked once (`maao.estimate`); the others of that kind take as much. A process
of its own does it (``python -m maao.compare.estimate TABLE OUT ONLY``), so that what it loads is gone before the workers load theirs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from maao.build import build
from maao.compare.rows import Tune
from maao.compare.table import Cell, Table, cells, is_among, read_table, texts_in
from maao.core.budget import Budget
from maao.errors import MaaoError
from maao.estimate import Estimate, caps_of, estimated, not_built, summed
from maao.llm.budget import Caps
from maao.sharing import share_caches

MOST_KINDS = 12  # of cells that are built; of more, every so many


class CellsEstimate(NamedTuple):
    """What so many cells take together, and what caps them: the table's caps, or those of all cells together."""

    cells: int
    estimate: Estimate
    caps: Caps

    def told(self) -> str:
        return self.estimate.told(f"{self.cells} cell{'s' * (self.cells != 1)} to run: this", self.caps)


def estimate_cells(
    path: str | Path, out: str | Path, *, only: str | Sequence[str] = (), beside: str | Path | None = None
) -> CellsEstimate | None:
    """Return what a comparison will ask; None where no cell that is still to run asks a model that may cost money.

    Raises:
        ConfigError: the table cannot be used.
    """
    table = read_table(path, beside)
    paid = _paid(table, Path(path).parent, Path(out), only)
    if not paid:
        return None
    command = [
        sys.executable,
        "-m",
        "maao.compare.estimate",
        str(Path(path).resolve()),
        str(Path(out).resolve()),
        json.dumps(texts_in(only)),
    ]
    command += [] if beside is None else [str(Path(beside).resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MaaoError(f"What the comparison costs cannot be estimated: {done.stderr.strip().splitlines()[-1:] or 'it was killed'}.")
    held = json.loads(done.stdout.splitlines()[-1])
    return None if held is None else CellsEstimate(len(paid), Estimate.from_json(held), _caps(table, paid))


def of_cells(paid: Sequence[Cell]) -> Estimate | None:
    """Return what cells take together, by building one of each kind. What one takes that cannot be built is not known."""
    kinds: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in paid:
        kinds.setdefault(cell.key[:3], []).append(cell)
    every = -(-len(kinds) // MOST_KINDS)
    looked_at = list(kinds.values())[::every]
    found = []
    with share_caches():
        for alike in looked_at:
            try:
                one = estimated(build(alike[0].config))
            except MaaoError as error:
                one = not_built(alike[0].config, alike[0].name, error)
            found += [] if one is None else [one.times(len(alike))]
    total = summed(found)
    return None if total is None else total.times(len(paid) / sum(map(len, looked_at)))


def _paid(table: Table, folder: Path, place: Path, only: str | Sequence[str]) -> list[Cell]:
    """Return the cells without a row that ask a model that may cost money."""
    return [
        cell
        for cell in cells(table, folder)
        if is_among(cell, only)
        and isinstance(cell.how.options, Tune)
        and any(chat.may_cost for chat in cell.config.mentor.options.chats)
        and not (place / "rows" / f"{cell.name}.json").exists()
    ]


def _caps(table: Table, paid: Sequence[Cell]) -> Caps:
    """Return what caps cells together: what the table says, or the sum where each has a cap of its own."""
    own = [caps_of(Budget(**cell.config.budget.model_dump())) for cell in paid]
    calls, tokens, money = ([one.calls for one in own], [one.tokens for one in own], [one.usd for one in own])
    given = table.budget.caps
    return Caps(
        given.calls if given.calls is not None or None in calls else sum(c for c in calls if c is not None),
        given.tokens if given.tokens is not None or None in tokens else sum(t for t in tokens if t is not None),
        given.usd if given.usd is not None or None in money else sum(m for m in money if m is not None),
        given.whose,
    )


def main(arguments: Sequence[str]) -> int:
    path, place, only = Path(arguments[0]), Path(arguments[1]), json.loads(arguments[2])
    table = read_table(path, arguments[3] if len(arguments) > 3 else None)
    total = of_cells(_paid(table, path.parent, place, only))
    print(json.dumps(None if total is None else total.to_json()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
