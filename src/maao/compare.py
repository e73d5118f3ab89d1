"""Compare arms at equal cost: a table of arms x tasks x seeds, run cell by cell by several processes, read out with honest statistics.

A table is a TOML file: what all cells share (`base`), models, tasks, arms and seeds, each a set of settings by dotted key; what stands
later wins. An arm that names no model runs on all of them. Every cell is a run of its own in ``OUT/runs``; its row is a JSON file in
``OUT/rows``. A stopped comparison goes on where it stopped: finished cells are not run again, and an unfinished one resumes without
repeating a recorded call.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from maao.config import Config, expand_paths, make_config, set_value
from maao.errors import ConfigError, MaaoError
from maao.evaluation.statistics import (
    bootstrap_interval,
    effect_size,
    holm,
    paired_interval,
    pairs_needed,
    probability_of_improvement,
    signed_rank,
)
from maao.store.files import write_durably
from maao.types import Cost, Score

SECTIONS = ("name", "title", "about", "seeds", "baseline", "base", "models", "tasks", "arms", "samples", "with")
ARM_SECTIONS = ("name", "model", "tasks", "seeds", "settings")
SAMPLED = ("data.train", "data.select", "data.test")  # paths in which {seed} stands for the sample of a seed
COMPARED = (("accuracy", 100.0, "points"), ("loss", 1.0, ""))
COSTS = ("gradient_steps", "model_tokens", "looks", "llm_calls", "input_tokens", "output_tokens")
UNEQUAL = 0.1  # how far costs may lie apart before the page says so
IMAGES = ("images-", "emoji-")  # how protocols of pictures begin
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
        """A name that a file can have."""
        text = f"{self.model}_{self.arm}_{self.task}_{self.seed}"
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)


@dataclass(frozen=True)
class Difference:
    """How an arm did beside the baseline, over pairs of equal task and seed. Accuracy in points; below zero is better for a loss."""

    arm: str
    task: str  # "all tasks" for all together
    metric: str
    pairs: int
    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    p: float
    corrected: float  # Holm's, over the arms
    effect: float
    better: float  # how often a figure of the arm is better than one of the baseline
    seeds_for_one: int | None  # pairs that would show a difference of one point (accuracy)


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
    names = [arm.get("name") for arm in table["arms"]]
    if None in names or len(set(names)) < len(names):
        raise ConfigError(f"{file}: every arm needs a name of its own; they are {', '.join(map(str, names))}.")
    for arm in table["arms"]:
        for key in arm:
            if key not in ARM_SECTIONS:
                raise ConfigError(f"{file}, arm '{arm['name']}': unknown key '{key}'. Known: {', '.join(ARM_SECTIONS)}.")
        missing = [task for task in arm.get("tasks", ()) if task not in table["tasks"]]
        if missing or ("model" in arm and arm["model"] not in table["models"]):
            raise ConfigError(f"{file}, arm '{arm['name']}' names what the table lacks: {', '.join(missing) or arm.get('model')}.")
    if table.setdefault("baseline", names[0]) not in names:
        raise ConfigError(f"{file}: the baseline '{table['baseline']}' is none of the arms: {', '.join(map(str, names))}.")
    return table


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no table {file}.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as a table: {error}.") from error
    for key in table:
        if key not in SECTIONS:
            raise ConfigError(f"{file}: unknown key '{key}'. Known: {', '.join(SECTIONS)}.")
    return table


def cells(table: Mapping[str, Any], folder: Path) -> Iterator[Cell]:
    """Return the cells of a table, seed by seed: a comparison that is stopped early has whole seeds. `folder` is where paths begin."""
    every = sorted({seed for arm in table["arms"] for seed in arm.get("seeds", table["seeds"])})
    for seed in every:
        for arm in table["arms"]:
            if seed not in arm.get("seeds", table["seeds"]):
                continue
            for model in [arm["model"]] if "model" in arm else list(table["models"]) or [""]:
                for task in arm.get("tasks", list(table["tasks"])):
                    # one thread: the same bits whatever the number of workers
                    values = {"seed": seed, "threads": 1}
                    yield Cell(arm["name"], model, task, seed, cell_config(table, arm, model, task, values, folder))


def cell_config(table: Mapping[str, Any], arm: Mapping[str, Any], model: str, task: str, values: dict[str, Any], folder: Path) -> Config:
    """Return the config of a cell: what all cells share, then model, task and arm laid over `values`, which name the seed."""
    sample = table.get("samples", {}).get(str(values["seed"]), values["seed"])
    for settings in (table["base"], table["models"].get(model, {}), table["tasks"][task], arm.get("settings", {})):
        for key, value in settings.items():
            set_value(values, key, value.format(seed=sample) if key in SAMPLED else value)
    expand_paths(values, folder)
    return make_config(values, f"{table['name']}, arm '{arm['name']}', task '{task}'")


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
    missing = [cell for cell in wanted if not _row_file(place, cell).exists()]
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
        if only not in cell.name or _row_file(place, cell).exists():
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


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Run a cell, or go on with it, and return its row."""
    from maao.api import resume, run
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
    }


def row_begin(cell: Any) -> dict[str, Any]:
    """Return how a cell's row begins: what was run."""
    from maao.tasks.images import protocol_of

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


def curve(result: Any) -> list[dict[str, float]]:
    """Return how the best score on `select` fell while tokens were spent: one point a round."""
    spent, best, points = Cost(), float("inf"), []
    for r in result.history:
        spent += r.cost
        best = min(best, r.score.loss)
        llm = spent.input_tokens + spent.output_tokens
        points.append({"model_tokens": spent.model_tokens, "llm_tokens": llm, "looks": spent.looks, "select_loss": best})
    return points


# -- reading out


def read_rows(place: Path) -> list[dict[str, Any]]:
    """Return all rows of a comparison, in the order of their names."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((place / "rows").glob("*.json"))]


def check_protocols(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to compare rows of one task that followed different protocols, where they name one. Raises `ConfigError`."""
    from maao.tasks.images import check_same_images
    from maao.tasks.protocol import check_same

    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        named = next((str(row["protocol"]) for row in own if row.get("protocol")), None)
        if named is not None:
            (check_same_images if named.startswith(IMAGES) else check_same)(own)


def differences(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[Difference]:
    """Return how each arm did beside the baseline, for each task and over all, in accuracy and loss, where there are two pairs or more."""
    found: list[Difference] = []
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in rows) if arm != baseline]
    for task in (*tasks, ALL) if len(tasks) > 1 else tasks:
        for metric, scale, _ in COMPARED:
            raw = [(arm, pairs) for arm in arms if len(pairs := pairs_of(rows, arm, baseline, task, metric, scale)) > 1]
            corrected = holm([signed_rank([a - b for a, b in pairs]) for _, pairs in raw])
            for (arm, pairs), p in zip(raw, corrected, strict=True):
                found.append(_difference(arm, task, metric, pairs, p))
    return found


ALL = "all tasks"


def pairs_of(rows: Sequence[Mapping[str, Any]], arm: str, baseline: str, task: str, metric: str, scale: float) -> list[tuple[float, float]]:
    """Return figures of an arm and of the baseline on `test`, pair by pair of equal model, task and seed; `task` may be `ALL`."""
    sides: list[dict[tuple[Any, ...], float]] = [
        {
            (row["model"], row["task"], row["seed"]): scale * row["test"][metric]
            for row in rows
            if row["arm"] == side and task in (row["task"], ALL) and row.get("test", {}).get(metric) is not None
        }
        for side in (arm, baseline)
    ]
    return [(sides[0][key], sides[1][key]) for key in sorted(sides[0].keys() & sides[1].keys(), key=str)]


def _difference(arm: str, task: str, metric: str, pairs: Sequence[tuple[float, float]], corrected: float) -> Difference:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    apart = [a - b for a, b in pairs]
    mean, low, high = paired_interval(ours, theirs)
    better = probability_of_improvement(ours, theirs)
    spread = statistics.stdev(apart)
    return Difference(
        arm,
        task,
        metric,
        len(pairs),
        mean,
        low,
        high,
        *bootstrap_interval(apart),
        signed_rank(apart),
        corrected,
        effect_size(apart),
        1 - better if metric == "loss" else better,
        pairs_needed(1.0, spread) if metric == "accuracy" and spread > 0 else None,
    )


def read_out(table: Mapping[str, Any], place: Path, total: int) -> Path:
    """Write ``results.json``, ``page.md`` and the plots of what there is of so many cells; return the page."""
    with FileLock(place / ".read-out.lock"):
        rows = read_rows(place)
        check_protocols(rows)
        told = rows
        if len({row["model"] for row in rows}) > 1:  # a task with another model is another task
            told = [{**row, "task": f"{row['task']}, {row['model']}"} for row in rows]
        found = differences(told, table["baseline"])
        record = {"name": table["name"], "baseline": table["baseline"], "rows": rows, "differences": [asdict(d) for d in found]}
        write_durably(place / "results.json", (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
        page = place / "page.md"
        write_durably(page, page_text(table, told, found, total).encode())
        if rows:
            plot(told, found, place)
    return page


def page_text(table: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], found: Sequence[Difference], total: int) -> str:
    """Return the page: a plain answer first, then scores, differences and costs."""
    lines = [f"# {table.get('title', table['name'])}", ""]
    if about := table.get("about", "").strip():
        lines += [about, ""]
    if not rows:
        return "\n".join([*lines, "No cell has been run yet."]) + "\n"
    if len(rows) < total:
        lines += [f"**{len(rows)} of {total} cells have been run**: what follows is of those.", ""]
    baseline = table["baseline"]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    whole = [d for d in found if d.task == (ALL if len(tasks) > 1 else tasks[0])]
    losses = {d.arm: d for d in whole if d.metric == "loss"}
    lines += [*(f"* {_verdict(d, baseline)}{_loss_verdict(losses.get(d.arm))}" for d in whole if d.metric == "accuracy"), ""]
    lines += ["`test` accuracy in per cent, mean ± standard deviation over seeds; then log-loss; in brackets how many seeds.", ""]
    lines += ["| arm | " + " | ".join(tasks) + " |", "| --- |" + " --- |" * len(tasks)]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        shown = [_cell([row for row in rows if row["arm"] == arm and row["task"] == task]) for task in tasks]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    lines += [
        "",
        f"Paired differences to {baseline} (accuracy in points; a loss below zero is better). Intervals: Student t, then bootstrap.",
    ]
    lines += ["p: Wilcoxon's signed-rank test, corrected for all arms by Holm.", ""]
    lines += [
        "| arm | task | | pairs | mean | 95 % interval | bootstrap | p | effect | better | pairs for one point |",
        "| --- |" * 1 + " --- |" * 10,
    ]
    for d in found:
        needed = "" if d.seeds_for_one is None else str(d.seeds_for_one)
        lines.append(
            f"| {d.arm} | {d.task} | {d.metric} | {d.pairs} | {d.mean:+.3f} | {d.low:+.3f} to {d.high:+.3f} | {d.bootstrap_low:+.3f} to "
            f"{d.bootstrap_high:+.3f} | {d.corrected:.3f} | {d.effect:+.2f} | {d.better:.2f} | {needed} |"
        )
    lines += ["", "What a cell cost in the mean:", "", "| arm | " + " | ".join(COSTS) + " |", "| --- |" + " --- |" * len(COSTS)]
    costs = {arm: mean_cost([row for row in rows if row["arm"] == arm]) for arm in dict.fromkeys(row["arm"] for row in rows)}
    for arm, cost in costs.items():
        lines.append(f"| {arm} | " + " | ".join(f"{cost[name]:,.0f}" for name in COSTS) + " |")
    lines += ["", *unequal(costs, baseline)]
    return "\n".join(lines) + "\n"


def _verdict(d: Difference, baseline: str) -> str:
    told = f"{d.mean:+.2f} points (95 % interval {d.low:+.2f} to {d.high:+.2f}, {d.pairs} pairs of task and seed)"
    if d.low > 0:
        return f"**{d.arm}** is better than {baseline} by {told}."
    if d.high < 0:
        return f"**{d.arm}** is worse than {baseline}: {told}."
    return f"**{d.arm}** cannot be told apart from {baseline}: {told}."


def _loss_verdict(d: Difference | None) -> str:
    if d is None:
        return ""
    sure = "lower" if d.high < 0 else "higher" if d.low > 0 else "not told apart"
    return f" Its log-loss: {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}), {sure}."


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    accuracies = [100 * row["test"]["accuracy"] for row in rows if row.get("test")]
    if not accuracies:
        return ""
    losses = [row["test"]["loss"] for row in rows if row.get("test")]
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{statistics.mean(accuracies):.1f}{spread}; {statistics.mean(losses):.3f} ({len(accuracies)})"


def mean_cost(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a cell of these rows cost in the mean, by kind."""
    return {name: statistics.mean(row["cost"][name] for row in rows) for name in COSTS}


def unequal(costs: Mapping[str, Mapping[str, float]], baseline: str) -> list[str]:
    """Return a line for every arm whose tokens or looks lie more than a tenth from the baseline's: it is not compared at equal cost."""
    if baseline not in costs:
        return []
    told = []
    for arm, cost in costs.items():
        for name in ("model_tokens", "looks"):
            own, theirs = cost[name], costs[baseline][name]
            if theirs and abs(own - theirs) > UNEQUAL * theirs:
                told.append(f"Not at equal cost: {arm} took {own / theirs:.2f} times the {name.replace('_', ' ')} of {baseline}.")
    return told


def plot(rows: Sequence[Mapping[str, Any]], found: Sequence[Difference], place: Path) -> None:
    """Draw the anytime curves (every seed), the differences with their intervals, and cost against gain."""
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError('Plots need matplotlib: pip install "maao[plot]"') from error

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    palette = pyplot.get_cmap("tab20" if len(arms) > 10 else "tab10")
    colors = {arm: palette(i % palette.N) for i, arm in enumerate(arms)}
    for key, label in (("model_tokens", "tokens through the frozen model"), ("llm_tokens", "tokens of the mentor")):
        figure, axes = pyplot.subplots(1, len(tasks), figsize=(5 * len(tasks), 4), layout="constrained", squeeze=False)
        for axis, task in zip(axes[0], tasks, strict=True):
            for row in rows:
                if row["task"] == task:
                    own = row["curve"]
                    axis.step([p[key] for p in own], [p["select_loss"] for p in own], where="post", color=colors[row["arm"]], alpha=0.6)
            axis.set_title(task)
            axis.set_xlabel(label)
            axis.set_ylabel("best loss on select")
        handles = [pyplot.Line2D([], [], color=colors[arm], label=arm) for arm in arms]
        axes[0][-1].legend(handles=handles, fontsize=8)
        _save(figure, place / f"anytime-{key.replace('_', '-')}.png")
    whole = [d for d in found if d.metric == "accuracy"]
    if whole:
        figure, axis = pyplot.subplots(figsize=(7, 1 + 0.3 * len(whole)), layout="constrained")
        for i, d in enumerate(reversed(whole)):
            axis.errorbar(d.mean, i, xerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm])
        axis.set_yticks(range(len(whole)), [f"{d.arm}, {d.task}" for d in reversed(whole)], fontsize=8)
        axis.axvline(0, color="#888888", linewidth=1)
        axis.set_xlabel("points of test accuracy, with 95 % intervals")
        _save(figure, place / "differences.png")
    overall = [d for d in whole if d.task == ALL or len(tasks) == 1]
    if overall:
        figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
        for d in overall:
            cost = mean_cost([row for row in rows if row["arm"] == d.arm])
            spent = cost["input_tokens"] + cost["output_tokens"]
            axis.errorbar(
                spent, d.mean, yerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm], label=d.arm
            )
        axis.axhline(0, color="#888888", linewidth=1)
        axis.set_xlabel("tokens of the mentor, a cell")
        axis.set_ylabel("points of test accuracy above the baseline")
        axis.legend(fontsize=8)
        _save(figure, place / "cost-and-gain.png")


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


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
