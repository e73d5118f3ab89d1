"""Compare arms at equal cost: a table of arms x tasks x seeds, run cell by cell by several processes, read out with honest statistics.

A table is a TOML file: what all cells share (`base`), models, tasks, arms and seeds, each a set of settings by dotted key; what stands
later wins. An arm that names no model runs on all of them. Every cell is a run of its own in ``OUT/runs``; its row is a JSON file in
``OUT/rows``. A stopped comparison goes on where it stopped: finished cells are not run again, and an unfinished one resumes without
repeating a recorded call.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from maao.comparison import read_out, read_row
from maao.config import Config, Section, Text, belong_together, expand_paths, explain, make_config, parse_toml, set_value, without_unread
from maao.errors import ConfigError, MaaoError, StoreError
from maao.store.files import write_durably
from maao.types import Cost, Score

SECTIONS = ("name", "title", "about", "seeds", "baseline", "base", "models", "tasks", "arms", "samples", "with")
SAMPLED = ("data.train", "data.select", "data.test")  # paths in which {seed} stands for the sample of a seed
WORKER_GIB = 6.0  # what a worker may take: a small model, its activations, and the texts that it keeps for the next run


@dataclass(frozen=True)
class Cell:
    """One arm on one task with one seed."""

    arm: str
    model: str
    task: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """A name that a file can have; `read_table` sees to it that each cell has one of its own."""
        return file_name(self.model, self.arm, self.task, self.seed)


LONGEST_NAME = 240  # bytes: file systems take 255, and endings and locks take some


def file_name(model: str, arm: str, task: str, seed: int) -> str:
    """Return the name of a cell's files.

    Example:
        >>> file_name("", "lr = 0.01", "news", 3)
        '_lr---0.01_news_3'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{model}_{arm}_{task}_{seed}")


class ArmTable(Section):
    """An arm of a table."""

    name: Text
    model: Text | None = None
    tasks: list[str] | None = None
    seeds: list[int] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    by_task: dict[str, dict[str, Any]] = Field(default_factory=dict)


class TableFile(Section):
    """A table, with what `with` names laid under it."""

    name: Text
    title: str = ""
    about: str = ""
    seeds: list[int]
    baseline: str | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    tasks: dict[str, dict[str, Any]]
    arms: list[ArmTable]
    samples: dict[str, Any] = Field(default_factory=dict)


def read_table(path: str | Path, beside: str | Path | None = None) -> dict[str, Any]:
    """Return a table, checked.

    Args:
        path: the table.
        beside: another file with the sections that the table lacks (tasks and models, say); by default the one that its `with` names.

    Raises:
        ConfigError: what is not TOML, unknown keys, and arms or tasks that are not there.
    """
    file = Path(path)
    table = _read_toml(file)
    named = table.pop("with", None)
    if beside is not None or named is not None:
        other = _read_toml(Path(beside) if beside is not None else file.parent / str(named))
        table = {**other, **table}
        table.pop("with", None)
    for needed in ("seeds", "tasks", "arms"):
        if not table.get(needed):
            raise ConfigError(f"{file}: a table needs `{needed}`, and it has none.")
    table.setdefault("name", file.stem)
    table.setdefault("base", {})
    table.setdefault("models", {})
    try:
        TableFile.model_validate(table, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain(error, TableFile)}") from None
    names = [arm["name"] for arm in table["arms"]]
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: every arm needs a name of its own; they are {', '.join(map(str, names))}.")
    for arm in table["arms"]:
        missing = [task for task in (*arm.get("tasks", ()), *arm.get("by_task", ())) if task not in table["tasks"]]
        if missing or ("model" in arm and arm["model"] not in table["models"]):
            raise ConfigError(f"{file}, arm '{arm['name']}' names what the table lacks: {', '.join(missing) or arm.get('model')}.")
    if table.setdefault("baseline", names[0]) not in names:
        raise ConfigError(f"{file}: the baseline '{table['baseline']}' is none of the arms: {', '.join(map(str, names))}.")
    _check_names(table, file)
    return table


def _check_names(table: Mapping[str, Any], file: Path) -> None:
    """Refuse cells whose files could not be told apart, or could not be made. Not every disk tells large letters from small."""
    taken: dict[str, str] = {}
    for arm, model, task, seed in _places(table):
        name = file_name(model, arm["name"], task, seed)
        told = f"arm {arm['name']!r}, {f'model {model!r}, ' if model else ''}task {task!r}, seed {seed}"
        if len(name.encode()) > LONGEST_NAME:
            raise ConfigError(f"{file}: the names of {told} are too long for a file together ({len(name.encode())} bytes): shorten one.")
        other = taken.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), told)
        if other is told:
            continue
        if other == told:
            raise ConfigError(f"{file}: {told} is named twice: drop one.")
        raise ConfigError(f"{file}: two cells would be kept in one file, {name}: {other}; and {told}. Rename one of them.")


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no table {file}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as a table: {error}.") from error
    table = parse_toml(text, str(file))
    for key in table:
        if key not in SECTIONS:
            raise ConfigError(f"{file}: unknown key '{key}'. Known: {', '.join(SECTIONS)}.")
    return table


def cells(table: Mapping[str, Any], folder: Path) -> Iterator[Cell]:
    """Return the cells of a table, seed by seed: a comparison that is stopped early has whole seeds. `folder` is where paths begin.

    Raises:
        ConfigError: the settings of a cell cannot be used; or, after the last cell, what arms share holds a setting that no cell reads.
    """
    unread: dict[tuple[str, str], str] = {}  # settings that a cell does not read, by section and dotted key, with the reason
    read: set[str] = set()  # dotted keys that some cell reads: a task may describe itself to mentors that only other tasks have
    for arm, model, task, seed in _places(table):
        # one thread: the same bits whatever the number of workers
        values = {"seed": seed, "threads": 1}
        config, dropped = _config_and_dropped(table, arm, model, task, values, folder)
        for section, settings in _shared(table, model, task).items():
            for own in settings:
                ignored = {(section, key): why for key, why in dropped.items() if belong_together(key, own)}
                unread |= ignored
                read |= set() if ignored else {own}
        yield Cell(arm["name"], model, task, seed, config)
    told = [
        f"'{key}' in [{section}] would be ignored, since {why}"
        for (section, key), why in unread.items()
        if not any(belong_together(key, other) for other in read)
    ]
    if told:
        raise ConfigError(f"{table['name']}: no cell reads what all share: {'; '.join(told)}.")


def _places(table: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str, int]]:
    """Return arm, model, task and seed of every cell of a table, seed by seed."""
    every = sorted({seed for arm in table["arms"] for seed in arm.get("seeds", table["seeds"])})
    for seed in every:
        for arm in table["arms"]:
            if seed not in arm.get("seeds", table["seeds"]):
                continue
            for model in [arm["model"]] if "model" in arm else list(table["models"]) or [""]:
                for task in arm.get("tasks", list(table["tasks"])):
                    yield arm, model, task, seed


def cell_config(table: Mapping[str, Any], arm: Mapping[str, Any], model: str, task: str, values: dict[str, Any], folder: Path) -> Config:
    """Return the config of a cell: what all cells share, then model, task and arm laid over `values`, which name the seed."""
    return _config_and_dropped(table, arm, model, task, values, folder)[0]


def _shared(table: Mapping[str, Any], model: str, task: str) -> dict[str, Mapping[str, Any]]:
    """Return what arms share in a cell, by the section that holds it, in the order in which it is laid down."""
    return {"base": table["base"], f"models.{model}": table["models"].get(model, {}), f"tasks.{task}": table["tasks"][task]}


def _config_and_dropped(
    table: Mapping[str, Any], arm: Mapping[str, Any], model: str, task: str, values: dict[str, Any], folder: Path
) -> tuple[Config, dict[str, str]]:
    """Return the config of a cell, and what it does not read of the settings that arms share, each with the reason."""
    sample = table.get("samples", {}).get(str(values["seed"]), values["seed"])
    own = arm.get("settings", {}), arm.get("by_task", {}).get(task, {})
    for settings in (*_shared(table, model, task).values(), *own):
        for key, value in settings.items():
            set_value(values, key, value.format(seed=sample) if key in SAMPLED else deepcopy(value))  # a section may be given whole
    expand_paths(values, folder)
    dropped = without_unread(values, [key for settings in own for key in settings])  # what arms share is read by those that can
    return make_config(values, f"{table['name']}, arm '{arm['name']}', task '{task}'"), dropped


# -- running


def compare(
    path: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    only: str = "",
    watch: Callable[[int, int, float], None] | None = None,
    ray: bool = False,
    beside: str | Path | None = None,
) -> Path:
    """Run all cells of a table that have no row yet, and read the table out. Return the page.

    Args:
        beside: another file with the sections that the table lacks: see `read_table`.
        workers: processes at a time; by default as many as processors, and as memory allows.
        only: run only cells whose name holds this text.
        ray: run the workers as tasks of a Ray cluster (the one that `RAY_ADDRESS` names, or one on this machine) whose machines all see
            the table, the data and `out` at the same paths. Needs the extra ``maao[ray]``.
        watch: told ``(cells done, cells in all, seconds since the start)`` now and then.

    Raises:
        ConfigError: the table cannot be used.
        MaaoError: a cell failed; the others have been run, and the error tells the first failure.
    """
    table = read_table(path, beside)
    place = Path(out)
    wanted = [cell for cell in cells(table, Path(path).parent) if only in cell.name]
    if not wanted:
        raise ConfigError(f"No cell of {path} has a name that holds {only!r}.")
    (place / "rows").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    count = workers or default_workers()
    failed = ""
    missing = [cell for cell in wanted if not _is_done(place, cell)]
    if missing:
        command = [sys.executable, "-m", "maao.compare", str(Path(path).resolve()), str(place.resolve()), only]
        command += [] if beside is None else [str(Path(beside).resolve())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = _ray_start() if ray else _start
        processes = [start(command, environment) for _ in range(min(count, len(missing)))]
        try:
            while any(process.poll() is None for process in processes):
                if watch is not None:
                    watch(sum(_row_file(place, cell).exists() for cell in wanted), len(wanted), time.monotonic() - began)
                time.sleep(0.2)
        finally:
            for process in processes:
                process.terminate()
        failed = next((told.strip() for process in processes if (told := process.communicate()[1]) and process.returncode), "")
    page = read_out(table, place, sum(1 for _ in cells(table, Path(path).parent)))
    if failed:
        raise MaaoError(f"Some cells failed; the others are in {page}. The first failure: {failed.splitlines()[-1]}")
    if watch is not None:
        watch(len(wanted), len(wanted), time.monotonic() - began)
    return page


class Worker(Protocol):
    """A process that works on cells, here or elsewhere."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def communicate(self) -> tuple[str | None, str | None]:
        """Wait for its end; return what it printed, and what it printed as errors."""
        ...


def _start(command: Sequence[str], environment: Mapping[str, str]) -> Worker:
    return subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _ray_start() -> Callable[[Sequence[str], Mapping[str, str]], Worker]:
    """Return what starts a worker as a task of a Ray cluster."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError('Comparing on a cluster needs Ray: pip install "maao[ray]".') from error
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)

    def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        done = subprocess.run(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stderr

    task = ray.remote(num_cpus=1, max_retries=0)(run)

    class RayWorker:
        def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
            self._task = task.remote(list(command), dict(environment))
            self.returncode: int | None = None
            self._told = ""

        def poll(self) -> int | None:
            if self.returncode is None and ray.wait([self._task], timeout=0)[0]:
                try:
                    self.returncode, self._told = ray.get(self._task)
                except ray.exceptions.RayError as error:  # a machine is gone, or it was cancelled
                    self.returncode, self._told = 1, str(error)
            return self.returncode

        def terminate(self) -> None:
            if self.poll() is None:
                ray.cancel(self._task, force=True)

        def communicate(self) -> tuple[str | None, str | None]:
            while self.poll() is None:
                time.sleep(0.05)
            return None, self._told

    return RayWorker


def default_workers() -> int:
    """Return as many workers as there are processors, or fewer where memory is short."""
    count = os.cpu_count() or 1
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration, ValueError):
        return count
    return max(1, min(count, int(free / WORKER_GIB)))


def work(table: Mapping[str, Any], folder: Path, place: Path, only: str) -> str:
    """Run cells that nobody else is at until none is left; return the first failure, if there was one."""
    failed, parent = "", os.getppid()
    for cell in cells(table, folder):
        if os.getppid() != parent:  # whoever started this is gone: the next one who does begins here
            break
        if only not in cell.name or _is_done(place, cell):
            continue
        lock = FileLock(place / "rows" / f".{cell.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            if not _row_file(place, cell).exists():  # it may have been finished meanwhile
                row = run_cell(cell, place / "runs" / cell.name)
                write_durably(_row_file(place, cell), (json.dumps(row, indent=1, ensure_ascii=False) + "\n").encode())
        except MaaoError as error:
            failed = failed or f"{cell.name}: {error}"
        finally:
            lock.release()
    return failed


def _row_file(place: Path, cell: Cell) -> Path:
    return place / "rows" / f"{cell.name}.json"


def _is_done(place: Path, cell: Cell) -> bool:
    """Return whether a cell has its row. Raises `StoreError` where the file of that name holds another cell's, or is damaged."""
    file = _row_file(place, cell)
    if not file.exists():
        return False
    row = read_row(file)
    held, own = ((one["arm"], one["model"], one["task"], one["seed"]) for one in (row, row_begin(cell)))
    if held != own:
        raise StoreError(
            f"{file} holds the row of arm {held[0]!r}, task {held[2]!r}, and the table's arm {own[0]!r}, task {own[2]!r} would share that "
            "file. Give the arm or the task its old name back, or choose another --out."
        )
    return True


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Run a cell, or go on with it, and return its row."""
    from maao.runner import resume, run
    from maao.store.database import DATABASE

    begun = (folder / DATABASE).exists()
    result = resume(folder) if begun else run(cell.config, folder)
    chosen = result.chosen
    return {
        **row_begin(cell),
        "select": score_row(chosen.score),
        **{f"test_{name}" if name != "chosen" else "test": score_row(final.score) for name, final in result.finals.items()},
        "words": chosen.clues.projection.text if chosen.clues.projection else None,
        "cost": asdict(result.cost),
        "curve": curve(result),
        "asked": asked(result),
    }


def row_begin(cell: Any) -> dict[str, Any]:
    """Return how a cell's row begins: what was run."""
    from maao.data.images import protocol_of

    config: Config = cell.config
    sees = config.problem == "vision"
    return {
        "task": cell.task,
        "arm": cell.arm,
        "method": config.vision.method if sees else config.model.method,
        "model": cell.model,
        "mentor": config.mentor.name,
        "seed": cell.seed,
        "shots": config.images.shots if sees else config.data.shots,
        "protocol": protocol_of(config.images).name if sees else config.data.protocol,
    }


def score_row(score: Score) -> dict[str, float]:
    """Return a score as a row holds it: the loss, each metric, and over how many examples."""
    return {"loss": score.loss, **score.metrics, "examples": score.num_examples}


def asked(result: Any) -> list[dict[str, Any]]:
    """Return what became of the proposals, one entry for each time that the mentor was asked.

    `won`: one of them became a restart; `margin`: by how much less loss than the incumbent the best one had (below zero: it lost), each
    at the age at which the rule compared them; None where they were not compared.
    """
    accept = result.config.accept
    rule = accept.inner if accept.rule == "interpolate" else accept.rule
    compared_at = accept.steps if rule == "race" else 0
    found = []
    for r in (r for r in result.history if r.leg.ask):
        own = [c.score.loss for c in r.verdict.considered if c.proposal is None and (rule != "race" or c.age == compared_at)]
        judged = [c for c in r.verdict.considered if c.proposal is not None]
        theirs = [c.score.loss for c in judged if c.age == compared_at and math.isfinite(c.score.loss)]
        margin = own[0] - min(theirs) if own and theirs and math.isfinite(own[0]) else None
        found.append({"wanted": r.leg.proposals, "usable": len(r.advice.proposals), "won": r.verdict.chosen is not None, "margin": margin})
    return found


def curve(result: Any) -> list[dict[str, float]]:
    """Return how the best score on `select` fell while tokens were spent: one point a round."""
    spent, best, points = Cost(), float("inf"), []
    for r in result.history:
        spent += r.cost
        best = min(best, r.score.loss)
        llm = spent.input_tokens + spent.output_tokens
        points.append({"model_tokens": spent.model_tokens, "llm_tokens": llm, "looks": spent.looks, "select_loss": best})
    return points


def main(arguments: Sequence[str]) -> int:
    """Work on a table as one of several processes: ``TABLE OUT ONLY [BESIDE]``."""
    path, place, only = Path(arguments[0]), Path(arguments[1]), arguments[2]
    beside = arguments[3] if len(arguments) > 3 else None
    from maao.build import kept_between_runs

    with kept_between_runs():
        failed = work(read_table(path, beside), path.parent, place, only)
    if failed:
        print(failed, file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
