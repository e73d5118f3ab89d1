"""What runs there are, how they stand, and what is wrong with their folders. Loads no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from maao.core.lr_finder import LR_SEARCH, LrSearch
from maao.errors import StoreError
from maao.store.database import DATABASE, Database
from maao.store.files import read_error, reading
from maao.store.recorded import EXAMPLES, IN_RUN, ConfigRecord, EnvironmentRecord, ExamplesRecord
from maao.store.rows import check_whole, read
from maao.store.run import ENVIRONMENT, TENSORS, check_is_run, is_being_begun, read_json, read_settings, read_status, standing
from maao.store.tensors import TensorFolder
from maao.store.values import column_json, column_number
from maao.types import Cost


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run at a glance. `problem` says why a folder could not be read; the rest is empty then.

    `status` is "running", "finished", "stopped", "waiting" (for replies), or "interrupted": it says it is running, but no process holds it.
    `best_loss` is the lowest that a round ended on, `best_accuracy` the highest, both on `select`; None where there is none. `cost` is that
    of its rounds and of a search for the learning rate before them.
    """

    name: str
    path: Path
    created: str = ""
    status: str = ""
    reason: str = ""
    rounds_done: int = 0
    best_loss: float | None = None
    best_accuracy: float | None = None
    cost: Cost = field(default_factory=Cost)
    problem: str | None = None


def list_runs(folder: str | Path) -> tuple[RunSummary, ...]:
    """Return every run in a folder, by name. A folder that cannot be read as a run is listed with its problem, not hidden."""
    folder = Path(folder)
    try:
        found = (child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        children = sorted(child for child in found if not is_being_begun(child))
    except FileNotFoundError as error:
        raise StoreError(f"There is no folder {folder} to list runs of.") from error
    except OSError as error:
        raise read_error(folder, error) from error
    return tuple(_summary(child) for child in children)


def _summary(path: Path) -> RunSummary:
    try:
        return _read_summary(path)
    except StoreError as error:
        return RunSummary(path.name, path, problem=str(error))


def _read_summary(path: Path) -> RunSummary:
    check_is_run(path)
    database = Database(path, write=False)
    try:
        config = read_settings(path, ConfigRecord)
        if config.get("data", {}).get("source") == IN_RUN:
            read_json(path, EXAMPLES, ExamplesRecord)
        rounds = _rounds(path, database)
        return RunSummary(
            name=path.name,
            path=path,
            created=database.meta("created"),
            status=standing(path, lambda: read_status(database)),
            reason=database.meta("status_reason"),
            rounds_done=len(rounds),
            best_loss=min((loss for loss, _, _ in rounds if not math.isnan(loss)), default=None),
            best_accuracy=max((accuracy for _, accuracy, _ in rounds if accuracy is not None), default=None),
            cost=sum((cost for _, _, cost in rounds), _searched(path)),
        )
    finally:
        database.close()


def _rounds(path: Path, database: Database) -> list[tuple[float, float | None, Cost]]:
    """Return loss, accuracy and cost of every round, whose rows and files must be whole."""
    files = TensorFolder(path / TENSORS)
    with reading(path / DATABASE):
        with database.snapshot() as connection:
            rounds, parts = read(connection)
        check_whole(rounds, parts)
        for name in {name for row in rounds for name in (row["verdict_tensors"], row["state_tensors"])}:
            files.check(name)
        return [
            (
                column_number(row["loss"]),
                None if row["accuracy"] is None else column_number(row["accuracy"]),
                column_json(row["cost"], Cost),
            )
            for row in rounds
        ]


def _searched(path: Path) -> Cost:
    """Return what a search for the learning rate spent before the first round."""
    search = read_json(path, ENVIRONMENT, EnvironmentRecord).get(LR_SEARCH)
    return Cost() if search is None else LrSearch.from_json(search).cost
