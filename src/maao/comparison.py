"""Read a comparison out: rows in, differences with honest statistics, a page and plots. Computes no run.

What a row holds is said in `docs/compare.md`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import Field

from maao.errors import ConfigError
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
from maao.store.recorded import Record
from maao.store.run import read_json

ALL = "all tasks"
COMPARED = (("accuracy", 100.0, "points"), ("loss", 1.0, ""))
COSTS = ("gradient_steps", "model_tokens", "looks", "llm_calls", "input_tokens", "output_tokens")
UNEQUAL = 0.1  # how far costs may lie apart before the page says so
IMAGES = ("images-", "emoji-")  # how protocols of pictures begin


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


def read_rows(place: Path) -> list[dict[str, Any]]:
    """Return all rows of a comparison, in the order of their names."""
    return [read_row(file) for file in sorted((place / "rows").glob("*.json"))]


class RowRecord(Record):
    """A row, as far as every row has it."""

    arm: str
    model: str
    task: str
    seed: int
    cost: dict[str, float]
    test: dict[str, float] = Field(default_factory=dict)
    curve: list[dict[str, float]] = Field(default_factory=list)
    asked: list[dict[str, Any]] = Field(default_factory=list)
    protocol: str | None = None


def read_row(file: Path) -> dict[str, Any]:
    """Return a row. Raises `StoreError` for a file that is none."""
    return read_json(file.parent, file.name, RowRecord)


def check_protocols(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to compare rows of one task that followed different protocols, where they name one. Raises `ConfigError`."""
    from maao.data.images import check_same_images
    from maao.data.protocols import check_same

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
    lines += ["", *unequal(costs, baseline), *won(rows)]
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


def won(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of what became of proposals: how many could be used, and how often one became a restart, each time of asking."""
    times = max((len(row.get("asked", ())) for row in rows), default=0)
    if not times:
        return []
    lines = [
        "",
        "How often a proposal became a restart, each time that the mentor was asked, and how many of those wanted could be used:",
        "",
    ]
    lines += ["| arm | usable | " + " | ".join(f"time {i + 1}" for i in range(times)) + " |", "| --- |" + " --- |" * (times + 1)]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row["asked"] for row in rows if row["arm"] == arm and row.get("asked")]
        if own:
            usable = f"{sum(a['usable'] for one in own for a in one)} of {sum(a['wanted'] for one in own for a in one)}"
            by_time = [[one[i] for one in own if len(one) > i] for i in range(times)]
            shown = [f"{sum(a['won'] for a in asked)} of {len(asked)}" if asked else "" for asked in by_time]
            lines.append(f"| {arm} | {usable} | " + " | ".join(shown) + " |")
    return lines


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
        wide = min(len(tasks), 3)
        high = math.ceil(len(tasks) / wide)
        figure, axes = pyplot.subplots(high, wide, figsize=(5 * wide + 2, 4 * high), layout="constrained", squeeze=False)
        for axis in axes.flat[len(tasks) :]:
            axis.set_axis_off()
        for axis, task in zip(axes.flat, tasks, strict=False):
            for row in rows:
                if row["task"] == task:
                    own = row["curve"]
                    axis.step([p[key] for p in own], [p["select_loss"] for p in own], where="post", color=colors[row["arm"]], alpha=0.6)
            axis.set_title(task)
            axis.set_xlabel(label)
            axis.set_ylabel("best loss on select")
        handles = [pyplot.Line2D([], [], color=colors[arm], label=arm) for arm in arms]
        figure.legend(handles=handles, fontsize=8, loc="outside right upper")
        _save(figure, place / f"anytime-{key.replace('_', '-')}.png")
    whole = sorted((d for d in found if d.metric == "accuracy"), key=lambda d: d.task != ALL)  # what is asked first stands at the top
    if whole:
        figure, axis = pyplot.subplots(figsize=(7, 1 + 0.3 * len(whole)), layout="constrained")
        for i, d in enumerate(whole):
            axis.errorbar(d.mean, i, xerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm])
        axis.set_yticks(range(len(whole)), [f"{d.arm}, {d.task}" for d in whole], fontsize=8)
        axis.set_ylim(len(whole), -1)
        axis.axvline(0, color="#888888", linewidth=1)
        axis.set_xlabel("points of test accuracy, with 95 % intervals")
        _save(figure, place / "differences.png")
    overall = [d for d in whole if d.task == ALL or len(tasks) == 1]
    if overall:
        figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
        for d in overall:
            cost = mean_cost([row for row in rows if row["arm"] == d.arm])
            spent = cost["input_tokens"] + cost["output_tokens"]
            axis.errorbar(
                spent, d.mean, yerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm], label=d.arm
            )
        axis.axhline(0, color="#888888", linewidth=1)
        axis.set_xlabel("tokens of the mentor, a cell")
        axis.set_ylabel("points of test accuracy above the baseline")
        figure.legend(fontsize=8, loc="outside right upper")
        _save(figure, place / "cost-and-gain.png")


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
