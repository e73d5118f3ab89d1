"""How the tables here are read out: every model and arm with its means, the differences that the table names, and a plot over shots."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from maao.compare.page import PAGE
from maao.compare.rows import Row
from maao.compare.table import Arm, Table
from maao.evaluation.statistics import paired_interval
from maao.options import Section
from maao.store.files import write_durably

METRICS = {"accuracy": "accuracy", "balanced_accuracy": "mean accuracy over classes"}


class Overview(Section):
    """A page of means. `differences` names pairs of arms; `plot` draws what comes of more shots."""

    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy"
    differences: list[list[str]] = Field(default_factory=list)
    plot: Literal["shots"] | None = None

    def write(self, table: Table, rows: Sequence[Row], place: Path, total: int) -> Mapping[str, object]:
        write_durably(place / PAGE, self.page(table, rows).encode())
        if self.plot is not None and rows:
            self.plot_shots(table, rows, place / "shots.png")
        return {}

    def page(self, table: Table, rows: Sequence[Row]) -> str:
        """Return the table as Markdown: of each arm and task, mean and standard deviation over the seeds."""
        tasks = [task for task in table.tasks if any(row.task == task for row in rows)]
        lines = [f"# {table.title}", "", table.about, ""]
        of_seeds = f"mean ± standard deviation over seeds (how many, if not {len(table.seeds)})"
        lines += [f"`test` {METRICS[self.metric]} in per cent, {of_seeds}; then log-loss.", ""]
        lines += ["| model | arm | " + " | ".join(tasks) + " |", "| --- | --- |" + " --- |" * len(tasks)]
        for arm in table.arms:
            for model in table.models_of(arm):
                own = [row for row in rows if (row.model, row.arm) == (model, arm.name)]
                if own:
                    shown = [self._shown([row for row in own if row.task == task], len(table.seeds_of(arm))) for task in tasks]
                    lines.append(f"| {model} | {arm.name} | " + " | ".join(shown) + " |")
        for one, two in self.differences:
            lines += ["", *self._differences(rows, tasks, one, two)]
        return "\n".join(lines) + "\n"

    def _shown(self, rows: Sequence[Row], seeds: int) -> str:
        if not rows:
            return ""
        accuracies = [100 * figure for row in rows if (figure := row.on_test(self.metric)) is not None]
        losses = [loss for row in rows if (loss := row.on_test("loss")) is not None]
        spread = f" ± {statistics.stdev(accuracies):.1f}" if len(rows) > 1 else ""
        how_many = f" ({len(rows)})" if len(rows) != seeds else ""
        loss = f"; {statistics.mean(losses):.3f}" if losses else ""
        return f"{statistics.mean(accuracies):.1f}{spread}{how_many}{loss}"

    def _differences(self, rows: Sequence[Row], tasks: Sequence[str], one: str, two: str) -> Iterator[str]:
        """Return lines that compare two arms seed by seed, each with itself on the same model."""
        yield f"Paired differences, {one} minus {two}, with 95 % intervals (Student t over seeds):"
        yield ""
        yield f"| task | seeds | {METRICS[self.metric]}, points | log-loss |"
        yield "| --- | --- | --- | --- |"
        for task in tasks:
            sides = [{(row.model, row.seed): row.test or {} for row in rows if (row.arm, row.task) == (a, task)} for a in (one, two)]
            seeds = sorted(sides[0].keys() & sides[1].keys())
            if len(seeds) < 2:
                continue
            told = []
            for key, scale in ((self.metric, 100), ("loss", 1)):
                mean, low, high = paired_interval(
                    [scale * sides[0][seed][key] for seed in seeds], [scale * sides[1][seed][key] for seed in seeds]
                )
                told.append(f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
            yield f"| {task} | {len(seeds)} | " + " | ".join(told) + " |"

    def plot_shots(self, table: Table, rows: Sequence[Row], file: Path) -> None:
        """Draw `test` accuracy and log-loss over shots: each arm's mean with its standard deviation, and every seed as a dot."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        arms: list[Arm] = [arm for arm in table.arms if any(row.arm == arm.name for row in rows)]
        for axis, (metric, scale, label) in zip(
            axes, ((self.metric, 100, f"{METRICS[self.metric]}, %"), ("loss", 1, "log-loss")), strict=True
        ):
            for place, arm in enumerate(arms):
                own: dict[int, list[float]] = {}
                for row in rows:
                    figure_there = row.on_test(metric)
                    if row.arm == arm.name and row.shots is not None and figure_there is not None:
                        own.setdefault(row.shots, []).append(scale * figure_there)
                shots = sorted(own)
                at = [s * 1.03 ** (place - len(arms) / 2) for s in shots]  # side by side
                means = [statistics.mean(own[s]) for s in shots]
                spread = [statistics.stdev(own[s]) if len(own[s]) > 1 else 0.0 for s in shots]
                line = axis.errorbar(at, means, spread, marker="o", capsize=2, label=arm.name, linewidth=1.2)
                for x, s in zip(at, shots, strict=True):
                    axis.plot([x] * len(own[s]), own[s], ".", color=line.lines[0].get_color(), alpha=0.35, markersize=4)
            axis.set_xscale("log", base=2)
            every = sorted({row.shots for row in rows if row.shots is not None})
            axis.set_xticks(every, [str(s) for s in every])
            axis.set_xlabel("pictures a class to train on")
            axis.set_ylabel(f"test {label}")
            axis.grid(alpha=0.25)
        axes[1].legend(fontsize=8)
        figure.suptitle(table.title)
        figure.savefig(file, dpi=110, metadata={"Software": None})
        pyplot.close(figure)
