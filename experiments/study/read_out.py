"""Read the study out: `python -m experiments.study.read_out` writes `results/study.md` and `.csv` from the rows that there are.

The question is asked of log-loss first, which sees differences that the accuracy of 200 examples cannot. Differences are paired by task and
seed, in the tasks that both arms were run in; the struck cells (`mended.py`) are in none. An interval over pairs speaks of these tasks, one
over tasks (the mean over seeds of each) of tasks like these.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scipy import stats

from experiments.study.mended import SAW, TASKS, called, kept, struck_told
from maao.compare import Row, Table, read_rows, read_table
from maao.compare.page import ALL, costs_beside, mean_cost, pairs_of, unequal
from maao.evaluation.statistics import bootstrap_interval, detectable_difference, heterogeneity, holm, paired_interval

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
STUDY = RESULTS / "study.md"
CONTROLS = (
    "single",
    "random text, halving",
    "random text, template",
    "random text",
    "vocabulary restart",
    "perturb 0.01",
    "perturb 0.1",
    "perturb 1",
    "reproject",
    "evolution on tokens",
)
ASKED_ONCE = ("hand-written texts", "hand-written templates")  # of a large model: so they are called on pages
MAAO = ("MaaO, template", "MaaO, best variant", "MaaO, stronger mentor", "MaaO, packaged mentor")
TOLD_LESS = ("LLM without scores", "LLM without the trajectory")
MENTORS = (*MAAO, "OPRO", "EvoPrompt-DE", *TOLD_LESS)
METRICS = {"loss": 1.0, "accuracy": 100.0}
TRIED = (  # the arms of the search, by what was asked of them
    "What becomes of a proposal: `guided` lets candidates race; `best of`, `if better` and `half way` (interpolate) compare them unwalked.",
    "How many there are: three a round; with `halving` seven, of which the worse half drops out twice.",
    "What a proposal fills: the prompt alone; the template too; the label words too.",
    "What templates cost here: with three proposals, tokens count texts that were read anew; they have been kept by template since.",
    "Who proposes: the mentor alone, or `beside random text`, which makes a part of the proposals and fills in what is missing.",
    "What the mentor reads: scores, clues and the listing; `scores only` leaves out the clues, `no trajectory` all three.",
    "Where the prompt stands: `slots last` has no words of the template behind it.",
    "How long it is: `16 tokens`, twice the others, so that what a mentor writes is not cut off and can name the labels.",
)

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Beside:
    """An arm beside another: differences on `test` of each task, seed by seed, and whether they cost about the same in every task."""

    arm: str
    other: str
    by_task: Mapping[str, Sequence[float]]
    equal_cost: bool

    @cached_property
    def pairs(self) -> list[float]:
        return [one for own in self.by_task.values() for one in own]

    @cached_property
    def tasks(self) -> list[float]:
        """The mean over the seeds of each task."""
        return [statistics.mean(own) for own in self.by_task.values()]

    @cached_property
    def over_pairs(self) -> Interval:
        return _interval(self.pairs)

    @cached_property
    def over_tasks(self) -> Interval | None:
        return _interval(self.tasks) if len(self.tasks) > 1 else None

    @property
    def p_values(self) -> tuple[float, float]:
        """Student's t test over pairs, and over tasks (1 where there is one task)."""
        return _p(self.pairs), _p(self.tasks)

    @property
    def detectable(self) -> tuple[float, float]:
        """The smallest difference that so many pairs, and so many tasks, show with a power of 80 %; infinite for one task."""
        over_tasks = detectable_difference(statistics.stdev(self.tasks), len(self.tasks)) if len(self.tasks) > 1 else math.inf
        return detectable_difference(statistics.stdev(self.pairs), len(self.pairs)), over_tasks

    @property
    def spread(self) -> tuple[float, float] | None:
        """tau and I2 between tasks; None where they cannot be told."""
        errors = [statistics.stdev(own) / math.sqrt(len(own)) if len(own) > 1 else 0.0 for own in self.by_task.values()]
        return heterogeneity(self.tasks, errors) if len(errors) > 1 and min(errors) > 0 else None


def main() -> None:
    """Write the page, and every comparison as a table."""
    table = read_table(HERE / "study.toml")
    rows = read_rows(RESULTS / "study")
    searched = sought(read_table(HERE / "search.toml"), read_rows(RESULTS / "search"))
    STUDY.write_text(page(table, rows, searched), encoding="utf-8")
    STUDY.with_suffix(".csv").write_text(comparisons(kept(rows)), encoding="utf-8")


def page(table: Table, rows: Sequence[Row], searched: Sequence[str]) -> str:
    """Return the page: the plain answer, then what stands behind it; `searched` tells of the search for variants."""
    planned = sum(len(table.tasks_of(arm)) for arm in table.arms) * len(table.seeds)
    told = kept(rows)
    there = [arm for arm in (*MENTORS, *ASKED_ONCE) if any(row.arm == arm for row in told)]
    lines = [f"# {table.title}", "", answer(told, whole=len(rows) >= planned), ""]
    if len(rows) < planned:
        lines += [f"**{len(rows)} of {planned} cells have been run.**", ""]
    lines += [struck_told(rows), "", "## Every arm with a mentor against every control", ""]
    lines += [
        "Mean difference of `test` log-loss, below zero is better for the mentor, with its 95 % interval (Student t) over pairs of task",
        "and seed; behind the bar that over tasks (SST-2 and AG News are there with two models each: six tasks of four sources). Bold:",
        "the interval over pairs leaves out zero; †: tokens or looks at `select` differ by more than a tenth in some task. Accuracy,",
        "p-values, Holm's, and what each comparison could detect: [study.csv](study.csv).",
        "",
    ]
    shown = [arm for arm in there if arm not in TOLD_LESS]
    lines += [_head("control", map(called, shown))]
    lines += [_line(called(other), [_cell(told, arm, other) for arm in shown]) for other in (*CONTROLS, *ASKED_ONCE)]
    lines += ["", "## Task by task: the difference to random sentences", ""]
    lines += [
        "`random text` asks whether any fluent words would do. Intervals are over the five seeds; tau is the between-task standard",
        "deviation of true effects (DerSimonian and Laird), I2 its share in the variance that is seen, each from few tasks.",
        "",
    ]
    tasks = [task for task in table.tasks if any(row.task == task and row.arm != "single" for row in rows)]
    lines += [_head("arm", [*tasks, "tau", "I2"])]
    lines += [_line(called(arm), _by_task(told, arm, tasks)) for arm in (*there, *CONTROLS) if arm != "random text"]
    lines += ["", "## What it cost, a cell", ""]
    lines += [
        "Means of steps, looks at `select`, calls and tokens of the language model; then, task by task, how many times the tokens of",
        "`single` went through the frozen model. What the large model took for its texts is not on record.",
        "",
    ]
    lines += [_head("arm", ["steps", "looks", "LLM calls", "LLM tokens", *tasks])]
    lines += [_line(called(arm), _spent(told, arm, tasks)) for arm in (*CONTROLS, *there)]
    lines += ["", "## How it was run", "", table.about.strip(), "", "## What was sought", "", *searched]
    lines += ["", "## Headroom", "", *headroom(told, table)]
    lines += ["", "All rows, and plots: [study/page.md](study/page.md). How it is run: `python -m experiments.study study --commit`"]
    lines += [
        "(`experiments/README.md`). Settings and variants were chosen on the two tasks of `experiments/study/search.toml`, whose page is"
    ]
    lines += ["[search/page.md](search/page.md)."]
    return "\n".join(lines) + "\n"


def answer(rows: Sequence[Row], *, whole: bool) -> str:
    """Return the first lines: did the mentor help, by how much, what could have been seen, at what cost?"""
    asked = [arm for arm in MAAO if beside(rows, arm, "single")]
    if not asked:
        return "No arm with a mentor has been run yet."
    found = [one for arm in asked for other in (*CONTROLS, *ASKED_ONCE) if (one := beside(rows, arm, other))]
    pairs, tasks = (statistics.median(one.detectable[at] for one in found) for at in (0, 1))
    first = [
        _verdict(asked, [one for one in found if one.other in CONTROLS], whole=whole),
        _counted(found),
    ]
    first += [
        f"True differences seen with a power of 80 %, in the median: {pairs:.3f} and more over pairs, {tasks:.3f} and more over tasks."
    ]
    lines = [" ".join(first), ""]
    starts = [f"{one.arm} {_both(one)}" for one in found if one.other == "single" and one.over_pairs[2] < 0]
    lines.append(f"* Better than one start, at least over pairs: {'; '.join(starts) or 'none'}.")
    large = [f"{called(arm)} {_both(one)}" for arm in ASKED_ONCE if (one := beside(rows, arm, "random text"))]
    if large:
        lines.append(f"* A large model, asked once, to random sentences: {'; '.join(large)}.")
    read = [f"{_both(one)} to {name}" for name in TOLD_LESS if (one := beside(rows, "MaaO, stronger mentor", name))]
    if read:
        lines.append(f"* What the stronger mentor reads of the walk, to the same mentor told less: {'; '.join(read)}.")
    lines.append(f"* Calls and tokens of the language model, a run: {'; '.join(f'{arm} {_llm(rows, arm)}' for arm in asked)}.")
    return "\n".join(lines)


def _verdict(asked: Sequence[str], found: Sequence[Beside], *, whole: bool) -> str:
    """Return the answer in a sentence or two: who beats every control over pairs and over tasks, or else what the closest arm came to."""
    no, yes = ("No", "Yes") if whole else ("So far no", "So far yes")
    own = {arm: [one for one in found if one.arm == arm] for arm in asked}
    winners = [arm for arm in asked if all(one.over_pairs[2] < 0 and (one.over_tasks or (0, 0, 0))[2] < 0 for one in own[arm])]
    if winners:
        does = "does" if len(winners) == 1 else "do"
        return (
            f"**{yes}: {' and '.join(winners)} {does} better than every control that asks no language model, over pairs and over tasks.**"
        )
    closest = {arm: max(one, key=lambda one: one.over_pairs[0]) for arm, one in own.items()}  # the control that did best beside it
    best = min(closest.values(), key=lambda one: one.over_pairs[0])
    return (
        f"**{no}: no mentor does better than every control that asks no language model.** Closest to all of them came {best.arm}: "
        f"{_both(best)} in `test` log-loss against its best control, `{best.other}`."
    )


def _counted(found: Sequence[Beside]) -> str:
    """Say in how many comparisons zero is left out, before and after Holm's correction over all of them."""
    lines = []
    for unit, at in (("pairs of task and seed", 0), ("tasks", 1)):
        seen = [interval for one in found if (interval := _of(one, at))]
        better, worse = sum(high < 0 for _, _, high in seen), sum(low > 0 for _, low, _ in seen)
        left = sum(p < 0.05 for p in holm([one.p_values[at] for one in found]))
        by_intervals = f"over {unit}, {better or 'none'} better and {worse or 'none'} worse by their 95 % intervals"
        lines.append(f"{by_intervals}, and {left or 'none'} after Holm's correction for all {len(found)}")
    large = sum(one.other in ASKED_ONCE for one in found)
    told = f" and {large} with a large model's texts" if large else ""
    return f"Of {len(found)} comparisons of MaaO, {len(found) - large} with controls{told}: {'; '.join(lines)}."


def comparisons(rows: Sequence[Row]) -> str:
    """Return every comparison as CSV: over all tasks with its tests, and task by task."""
    names = [
        "mentor",
        "other",
        "metric",
        "task",
        "pairs",
        "mean",
        "low",
        "high",
        "p",
        "holm",
        "tasks",
        "tasks_mean",
        "tasks_low",
        "tasks_high",
    ]
    names += ["tasks_p", "tasks_holm", "tau", "i2", "detectable", "tasks_detectable", "tokens_ratio"]
    held = io.StringIO()
    writer = csv.DictWriter(held, names, lineterminator="\n")
    writer.writeheader()
    for metric, scale in METRICS.items():
        arms = [*MENTORS, *ASKED_ONCE]
        found = [
            one for arm in arms for other in (*CONTROLS, *ASKED_ONCE) if arm != other and (one := beside(rows, arm, other, metric, scale))
        ]
        ours = [one for one in found if one.arm in MAAO]
        corrected = {
            one.arm + one.other: both for one, *both in zip(ours, *(holm([one.p_values[at] for one in ours]) for at in (0, 1)), strict=True)
        }
        for one in found:
            for line in _csv_lines(rows, one, corrected.get(one.arm + one.other, [None, None])):
                writer.writerow({"mentor": called(one.arm), "other": called(one.other), "metric": metric, **line})
    return held.getvalue()


def _csv_lines(rows: Sequence[Row], one: Beside, corrected: Sequence[float | None]) -> Iterator[dict[str, object]]:
    """Yield the lines of a comparison: all tasks, then each. Holm's p stands where it was made: over the arms of MaaO."""
    over_tasks, spread = one.over_tasks or (None,) * 3, one.spread or (None,) * 2
    figures = dict(zip(("mean", "low", "high"), one.over_pairs, strict=True))
    figures |= dict(zip(("tasks_mean", "tasks_low", "tasks_high"), over_tasks, strict=True)) | dict(zip(("tau", "i2"), spread, strict=True))
    figures |= dict(zip(("p", "tasks_p"), one.p_values, strict=True)) | dict(zip(("holm", "tasks_holm"), corrected, strict=True))
    figures |= dict(zip(("detectable", "tasks_detectable"), one.detectable, strict=True))
    yield {"task": "all", "pairs": len(one.pairs), "tasks": len(one.tasks), **_rounded(figures)}
    for task, own in one.by_task.items():
        ratio = {"tokens_ratio": tokens_ratio(rows, one.arm, one.other, task)}
        yield {"task": task, "pairs": len(own), **_rounded(dict(zip(("mean", "low", "high"), _interval(own), strict=True)) | ratio)}


def _rounded(figures: Mapping[str, float | None]) -> dict[str, str]:
    return {name: f"{figure:.4f}" for name, figure in figures.items() if figure is not None and math.isfinite(figure)}


def beside(rows: Sequence[Row], arm: str, other: str, metric: str = "loss", scale: float = 1.0) -> Beside | None:
    """Return an arm beside another where they have two pairs or more."""
    tasks = dict.fromkeys(row.task for row in rows if row.arm == arm)
    by_task = {task: [a - b for a, b in pairs_of(rows, arm, other, task, metric, scale)] for task in tasks}
    by_task = {task: own for task, own in by_task.items() if own}
    if sum(map(len, by_task.values())) < 2:
        return None
    equal = not any(unequal(costs_beside([row for row in rows if row.task == task], arm, other), other) for task in by_task)
    return Beside(arm, other, by_task, equal)


def _interval(differences: Sequence[float]) -> Interval:
    return paired_interval(differences, [0.0] * len(differences))


def _p(differences: Sequence[float]) -> float:
    return float(stats.ttest_1samp(differences, 0.0).pvalue) if len(differences) > 1 else 1.0


def _of(one: Beside, at: int) -> Interval | None:
    return one.over_tasks if at else one.over_pairs


def _figure(interval: Interval) -> str:
    mean, low, high = interval
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def _both(one: Beside) -> str:
    """Return the mean with both intervals."""
    mean, low, high = one.over_pairs
    tasks = one.over_tasks
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f} over pairs" + (f", {tasks[1]:+.3f} to {tasks[2]:+.3f} over tasks)" if tasks else ")")


def _cell(rows: Sequence[Row], arm: str, other: str) -> str:
    one = beside(rows, arm, other) if arm != other else None
    if one is None:
        return ""
    mean, low, high = one.over_pairs
    bold, mark = "**" if low > 0 or high < 0 else "", "" if one.equal_cost else "†"
    over_tasks = f" \\| {one.over_tasks[1]:+.2f} to {one.over_tasks[2]:+.2f}" if one.over_tasks else ""
    return f"{bold}{mean:+.3f}{bold}{mark} ({low:+.3f} to {high:+.3f}{over_tasks})"


def _by_task(rows: Sequence[Row], arm: str, tasks: Sequence[str]) -> list[str]:
    one = beside(rows, arm, "random text")
    if one is None:
        return [""] * (len(tasks) + 2)
    told = []
    for task in tasks:
        own = one.by_task.get(task, ())
        told.append(_figure(_interval(own)) if len(own) > 1 else "struck" if arm in SAW and task in TASKS else "")
    return [*told, *((f"{one.spread[0]:.3f}", f"{100 * one.spread[1]:.0f} %") if one.spread else ("", ""))]


def _spent(rows: Sequence[Row], arm: str, tasks: Sequence[str]) -> list[str]:
    own = [row for row in rows if row.arm == arm]
    if not own:
        return [""] * (4 + len(tasks))
    cost = mean_cost([row for row in own if row.task in tasks])
    tokens = cost["input_tokens"] + cost["output_tokens"]
    ratios = [tokens_ratio(rows, arm, "single", task) for task in tasks]
    shown = [f"{cost['gradient_steps']:.0f}", f"{cost['selection_evals']:.1f}", f"{cost['llm_calls']:.1f}", f"{tokens:,.0f}"]
    return [*shown, *(f"{ratio:.2f}" if ratio is not None else "" for ratio in ratios)]


def tokens_ratio(rows: Sequence[Row], arm: str, other: str, task: str) -> float | None:
    """Return how many times another's tokens through the frozen model an arm took in a task; None: not run there."""
    costs = costs_beside([row for row in rows if row.task == task], arm, other)
    return costs[arm]["model_tokens"] / costs[other]["model_tokens"] if costs else None


def _llm(rows: Sequence[Row], arm: str) -> str:
    cost = mean_cost([row for row in rows if row.arm == arm])
    return f"{cost['llm_calls']:.0f} and {cost['input_tokens'] + cost['output_tokens']:,.0f}"


def _head(first: str, names: Iterator[str] | Sequence[str]) -> str:
    own = list(names)
    return f"| {first} | {' | '.join(own)} |\n| --- |{' --- |' * len(own)}"


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def sought(table: Table, rows: Sequence[Row]) -> list[str]:
    """Return what was tried on the tasks of the search, and what it came to."""
    lines = [
        "Tried on two tasks that are reported nowhere else. Mean paired difference of `test` log-loss to `random text` there, below zero",
        "is better, with its 95 % interval. Few pairs: leads, not results.",
        "",
        _head("arm", ["difference to random text", "pairs", "model tokens", "looks"]),
    ]
    for arm in (one.name for one in table.arms):
        pairs = pairs_of(rows, arm, "random text", ALL, "loss", 1.0)
        if arm != "random text" and len(pairs) > 1:
            cost = mean_cost([row for row in rows if row.arm == arm])
            figures = [_figure(_interval([a - b for a, b in pairs])), str(len(pairs))]
            lines.append(_line(called(arm), [*figures, f"{cost['model_tokens']:,.0f}", f"{cost['selection_evals']:.0f}"]))
    return [*lines, "", *(f"* {one}" for one in TRIED)]


def headroom(rows: Sequence[Row], table: Table) -> list[str]:
    """Return what the plain soft prompt gains over what needs no tuning, task by task."""
    lines = [
        "| task | untuned loss | loss of equal shares | `single`, tuned | gain, 95 % (bootstrap over seeds) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for task in table.tasks:
        own = [row for row in rows if row.task == task and row.arm == "single" and row.test and row.test_untuned]
        if not own:
            continue
        shares = _equal_shares(task)
        untuned, tuned = [row.test_untuned["loss"] for row in own], [row.test["loss"] for row in own]
        gains = [min(before, shares) - after for before, after in zip(untuned, tuned, strict=True)]
        low, high = bootstrap_interval(gains) if len(gains) > 1 else (float("nan"),) * 2
        lines.append(
            f"| {task} | {statistics.mean(untuned):.3f} | {shares:.3f} | "
            f"{statistics.mean(tuned):.3f} | {statistics.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    return lines


def _equal_shares(task: str) -> float:
    """Return the loss of giving every class the same probability."""
    classes = {"BBC headlines": 5, "AG News": 4, "AG News, MiniLM": 4, "emoji": 24}
    return math.log(classes.get(task, 2))


if __name__ == "__main__":
    main()
