"""Run a table of experiments: `python -m experiments superglue` (see `experiments/README.md`).

A table is arms x tasks x seeds; each cell is a run of its own. Results are written after every cell, a stopped cell goes on where it
stopped, and one that is done is not run again. Several processes may fill one table: start another with `--reverse`, or with another
`--only`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

import maao
from experiments import arms
from experiments.committed import commit
from maao.compare import cell_config, row_begin, score_row
from maao.comparison import check_protocols
from maao.config import Config
from maao.evaluation.statistics import paired_interval
from maao.store.run import is_in_use

HERE = Path(__file__).parent
RESULTS = HERE / "results"
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "mean accuracy over classes"}
SUFFIXES = (".json", ".md", ".png")  # of what is committed
BASELINES = ("majority", "zero-shot")


@dataclass(frozen=True)
class Cell:
    """One arm on one task with one seed."""

    arm: str
    how: str
    model: str
    task: str
    seed: int
    config: Config

    @property
    def key(self) -> tuple[str, str, str, int]:
        return (self.model, self.arm, self.task, self.seed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("table", help="name of a TOML file in experiments/, or its path")
    parser.add_argument("--commit", action="store_true", help="commit the results after every cell")
    parser.add_argument("--only", default="", help="run only cells whose 'model/arm/task/seed' holds this text")
    parser.add_argument("--reverse", action="store_true", help="begin with the last cell, beside a process that began with the first")
    parser.add_argument("--runs", default="runs/experiments", help="folder of the run folders")
    asked = parser.parse_args()
    path = Path(asked.table) if asked.table.endswith(".toml") else HERE / f"{asked.table}.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    file = RESULTS / f"{table['name']}.json"
    ordered = list(cells(table))
    for cell in reversed(ordered) if asked.reverse else ordered:
        name = "/".join(map(str, cell.key))
        if cell.key in {key(row) for row in read(file)} or asked.only not in name:
            continue
        folder = Path(asked.runs) / table["name"] / name.replace(" ", "-").replace("/", "_")
        if is_in_use(folder):
            print(f"{name}: another process is at it", flush=True)
            continue
        print(f"{name} ...", flush=True)
        row = run(cell, folder)
        print(f"{name}: test {row['test']}", flush=True)
        with FileLock(file.with_suffix(".lock")):
            write(table, [*(other for other in read(file) if key(other) != cell.key), row], file)
            if asked.commit:
                commit([file.with_suffix(suffix) for suffix in SUFFIXES], f"Results of {table['name']}: {name}")
    with FileLock(file.with_suffix(".lock")):
        write(table, read(file), file)
    print(file.with_suffix(".md").read_text(encoding="utf-8"))


def read(file: Path) -> list[dict[str, Any]]:
    """Return the rows that are there."""
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    return rows


def key(row: Mapping[str, Any]) -> tuple[str, str, str, int]:
    return (row["model"], row["arm"], row["task"], row["seed"])


def cells(table: Mapping[str, Any]) -> Iterator[Cell]:
    """Return the cells of a table, arm by arm in the order of the file."""
    for arm in table["arms"]:
        for task in arm.get("tasks", list(table["tasks"])):
            for seed in arm.get("seeds", table["seeds"]):
                config = cell_config(table, arm, arm["model"], task, {"seed": seed}, HERE)
                yield Cell(arm["name"], arm.get("how", "tune"), arm["model"], task, seed, config)


def run(cell: Cell, folder: Path) -> dict[str, Any]:
    """Run a cell and return its row."""
    config = cell.config
    row = row_begin(cell)
    if cell.how != "tune":
        return {**row, "method": cell.how, **arms.ARMS[cell.how](config)}
    result = maao.resume(folder) if folder.exists() else maao.run(config, folder)
    finals = {name: score_row(final.score) for name, final in result.finals.items()}
    chosen = result.chosen
    return {
        **row,
        "select": score_row(chosen.score),
        "test": finals["chosen"],
        "test_untuned": finals["untuned"],
        "test_words": finals.get("words"),
        "words": chosen.clues.projection.text if chosen.clues.projection else None,
        "steps": chosen.state.step,
        "cost": asdict(result.cost),
    }


def write(table: Mapping[str, Any], rows: list[dict[str, Any]], file: Path) -> None:
    """Write the raw rows, and the table that they make."""
    RESULTS.mkdir(exist_ok=True)
    record = {"name": table["name"], "about": table["about"], "environment": arms.environment(), "rows": rows}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)
    file.with_suffix(".md").write_text(page(table, rows), encoding="utf-8")
    if table.get("plot") == "shots":
        plot_shots(table, rows, file.with_suffix(".png"))


def plot_shots(table: Mapping[str, Any], rows: list[dict[str, Any]], file: Path) -> None:
    """Draw `test` accuracy and log-loss over shots: each arm's mean with its standard deviation, and every seed as a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    arms_there = list(dict.fromkeys(row["arm"] for row in rows))
    shown = table.get("metric", "accuracy")
    for axis, (metric, scale, label) in zip(axes, ((shown, 100, f"{METRICS[shown]}, %"), ("loss", 1, "log-loss")), strict=True):
        for place, arm in enumerate(arms_there):
            own: dict[int, list[float]] = {}
            for row in rows:
                if row["arm"] == arm and row["test"].get(metric) is not None:
                    own.setdefault(row["shots"], []).append(scale * row["test"][metric])
            shots = sorted(own)
            at = [s * 1.03 ** (place - len(arms_there) / 2) for s in shots]  # side by side
            means = [statistics.mean(own[s]) for s in shots]
            spread = [statistics.stdev(own[s]) if len(own[s]) > 1 else 0.0 for s in shots]
            line = axis.errorbar(at, means, spread, marker="o", capsize=2, label=arm, linewidth=1.2)
            for x, s in zip(at, shots, strict=True):
                axis.plot([x] * len(own[s]), own[s], ".", color=line.lines[0].get_color(), alpha=0.35, markersize=4)
        axis.set_xscale("log", base=2)
        every = sorted({row["shots"] for row in rows})
        axis.set_xticks(every, [str(s) for s in every])
        axis.set_xlabel("pictures a class to train on")
        axis.set_ylabel(f"test {label}")
        axis.grid(alpha=0.25)
    axes[1].legend(fontsize=8)
    figure.suptitle(table["title"])
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def page(table: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the table as Markdown: of each arm and task, mean and standard deviation over the seeds."""
    tasks = [task for task in table["tasks"] if any(row["task"] == task for row in rows)]
    check_protocols(rows)
    metric = table.get("metric", "accuracy")
    lines = [f"# {table['title']}", "", table["about"], ""]
    of_seeds = f"mean ± standard deviation over seeds (how many, if not {len(table['seeds'])})"
    lines += [f"`test` {METRICS[metric]} in per cent, {of_seeds}; then log-loss.", ""]
    lines += ["| model | arm | " + " | ".join(tasks) + " |", "| --- | --- |" + " --- |" * len(tasks)]
    for model, arm in dict.fromkeys((row["model"], row["arm"]) for row in rows):
        shown = [
            _shown([r for r in rows if (r["model"], r["arm"], r["task"]) == (model, arm, task)], len(table["seeds"]), metric)
            for task in tasks
        ]
        lines.append(f"| {model} | {arm} | " + " | ".join(shown) + " |")
    for one, two in table.get("differences", []):
        lines += ["", *_differences(rows, tasks, one, two, metric)]
    return "\n".join(lines) + "\n"


def _shown(rows: list[dict[str, Any]], seeds: int, metric: str) -> str:
    if not rows:
        return ""
    accuracies = [100 * row["test"][metric] for row in rows]
    losses = [row["test"]["loss"] for row in rows if row["test"].get("loss") is not None]
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(rows) > 1 else ""
    how_many = f" ({len(rows)})" if len(rows) != seeds and rows[0]["method"] not in BASELINES else ""
    loss = f"; {statistics.mean(losses):.3f}" if losses else ""
    return f"{statistics.mean(accuracies):.1f}{spread}{how_many}{loss}"


def _differences(rows: list[dict[str, Any]], tasks: list[str], one: str, two: str, metric: str) -> Iterator[str]:
    """Return lines that compare two arms seed by seed, each with itself on the same model."""
    yield f"Paired differences, {one} minus {two}, with 95 % intervals (Student t over seeds):"
    yield ""
    yield f"| task | seeds | {METRICS[metric]}, points | log-loss |"
    yield "| --- | --- | --- | --- |"
    for task in tasks:
        sides = [{(row["model"], row["seed"]): row["test"] for row in rows if (row["arm"], row["task"]) == (a, task)} for a in (one, two)]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if len(seeds) < 2:
            continue
        told = []
        for key, scale in ((metric, 100), ("loss", 1)):
            mean, low, high = paired_interval(
                [scale * sides[0][seed][key] for seed in seeds], [scale * sides[1][seed][key] for seed in seeds]
            )
            told.append(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
        yield f"| {task} | {len(seeds)} | " + " | ".join(told) + " |"


if __name__ == "__main__":
    main()
