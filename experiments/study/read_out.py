"""Read the study out: `python -m experiments.study.read_out` writes `experiments/results/study.md` from the rows that there are.

The question is asked of log-loss first, which sees differences that the accuracy of 200 examples cannot. Differences are paired by task and
seed; tasks in which an arm was not run are left out of its comparison.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from maao.compare import Row, Table, read_rows, read_table
from maao.compare.page import ALL, mean_cost, pairs_of, unequal
from maao.evaluation.statistics import bootstrap_interval, paired_interval

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
STUDY = RESULTS / "study.md"
CONTROLS = (
    "single",
    "random text, halving",
    "random text, template",
    "random text",
    "vocabulary restart",
    "hand-written texts",
    "hand-written templates",
    "perturb 0.01",
    "perturb 0.1",
    "perturb 1",
    "reproject",
    "evolution on tokens",
)
MAAO = ("MaaO, template", "MaaO, best variant", "MaaO, stronger mentor", "MaaO, packaged mentor")
MENTORS = (
    *MAAO,
    "LLM without scores",
    "LLM without the trajectory",
    "OPRO",
    "EvoPrompt-DE",
)
PLAIN = {  # what the first paragraph names
    "single": "one start",
    "random text": "random sentences",
    "random text, halving": "random sentences with halving",
    "random text, template": "random sentences in random templates",
    "hand-written texts": "hand-written texts",
    "hand-written templates": "hand-written templates",
}
# Tasks by how the frozen model reads a prompt. Fixed when only seed 0 had been run: what is said of groups is still a look after the fact.
GROUPS = {
    "SmolLM2, label words": ("BBC headlines", "SST-2", "AG News"),
    "MiniLM, trained head": ("AG News, MiniLM", "SST-2, MiniLM"),
    "emoji, CoOp": ("emoji",),
}
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


def main() -> None:
    table = read_table(HERE / "study.toml")
    rows = read_rows(RESULTS / "study")
    searched = sought(read_table(HERE / "search.toml"), read_rows(RESULTS / "search"))
    STUDY.write_text(page(table, rows, searched), encoding="utf-8")
    print(STUDY.read_text(encoding="utf-8"))


def page(table: Table, rows: Sequence[Row], searched: Sequence[str]) -> str:
    """Return the page: the plain answer, then what stands behind it; `searched` tells of the search for variants."""
    seeds = {arm: len({row.seed for row in rows if row.arm == arm}) for arm in (*CONTROLS, *MENTORS)}
    done = {(row.arm, row.task, row.seed) for row in rows}
    wanted = [(arm.name, task) for arm in table.arms for task in table.tasks_of(arm)]
    whole = [seed for seed in table.seeds if all((*cell, seed) in done for cell in wanted)]
    planned = len(wanted) * len(table.seeds)
    lines = [f"# {table.title}", "", answer(rows, whole=len(rows) >= planned), ""]
    if len(rows) < planned:
        lines += [f"**{len(rows)} of {planned} cells have been run** (whole seeds: {', '.join(map(str, whole)) or 'none'}).", ""]
    lines += [table.about.strip(), "", "## Every arm with a mentor against every control", ""]
    lines += [
        "Mean paired difference of `test` log-loss, below zero is better for the arm, with its 95 % interval (Student t over pairs of task"
    ]
    lines += ["and seed), and in brackets that of accuracy in points.", ""]
    there = [arm for arm in MENTORS if seeds[arm]]
    lines += ["| control | " + " | ".join(there) + " |", "| --- |" + " --- |" * len(there)]
    for control in CONTROLS:
        if seeds[control]:
            lines.append(f"| {control} | " + " | ".join(_difference(rows, arm, control) for arm in there) + " |")
    lines += ["", "## Where: the difference to random sentences, by how the frozen model reads a prompt", ""]
    lines += ["The same difference to `random text`, the control that asks whether any fluent words would do.", ""]
    lines += ["| arm | " + " | ".join(GROUPS) + " |", "| --- |" + " --- |" * len(GROUPS)]
    for arm in (*there, *(c for c in CONTROLS if seeds[c] and c != "random text")):
        own = [_difference([row for row in rows if row.task in tasks], arm, "random text") for tasks in GROUPS.values()]
        lines.append(f"| {arm} | " + " | ".join(own) + " |")
    lines += ["", "## Where: the difference to `single`, task by task", ""]
    tasks = [task for task in table.tasks if any(row.task == task and row.arm != "single" for row in rows)]
    lines += ["| arm | " + " | ".join(tasks) + " |", "| --- |" + " --- |" * len(tasks)]
    for arm in (*there, *(c for c in CONTROLS if seeds[c] and c != "single")):
        own = [_difference([row for row in rows if row.task == task], arm, "single") for task in tasks]
        lines.append(f"| {arm} | " + " | ".join(own) + " |")
    lines += ["", "## What was sought", "", *searched]
    lines += ["", "## Headroom", "", *headroom(rows, table)]
    lines += [
        "",
        "## What it cost, a cell",
        "",
        "| arm | steps | model tokens | looks | LLM calls | LLM tokens |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm in (*CONTROLS, *MENTORS):
        own_rows = [row for row in rows if row.arm == arm]
        if own_rows:
            cost = mean_cost(own_rows)
            spent = cost["input_tokens"] + cost["output_tokens"]
            shown = (
                f"{cost['gradient_steps']:.0f}",
                f"{cost['model_tokens']:,.0f}",
                f"{cost['selection_evals']:.1f}",
                f"{cost['llm_calls']:.1f}",
                f"{spent:,.0f}",
            )
            lines.append(f"| {arm} | {' | '.join(shown)} |")
    lines += ["", "All rows, differences with Holm's correction, and plots: [study/page.md](study/page.md). How it is run: `python -m"]
    lines += ["experiments.study study --commit` (`experiments/README.md`). Settings and variants were chosen on the two tasks of"]
    lines += ["`experiments/study/search.toml`, whose page is [search/page.md](search/page.md)."]
    return "\n".join(lines) + "\n"


def _difference(rows: Sequence[Row], arm: str, control: str) -> str:
    loss, points = (_beside(rows, arm, control, *scaled) for scaled in (("loss", 1.0), ("accuracy", 100.0)))
    if loss is None or points is None:
        return ""
    sure = "**" if _is_sure(loss) else ""
    return f"{sure}{loss[0]:+.3f}{sure} ({loss[1]:+.3f} to {loss[2]:+.3f}) [{points[0]:+.1f}, {points[1]:+.1f} to {points[2]:+.1f}]"


def answer(rows: Sequence[Row], *, whole: bool) -> str:
    """Return the first lines: did the mentor help, where, by how much, at what cost?"""
    asked = [arm for arm in MAAO if _beside(rows, arm, "single")]
    if not asked:
        return "No arm with a mentor has been run yet."
    intervals = {(arm, control): interval for arm in asked for control in CONTROLS if (interval := _beside(rows, arm, control))}
    told = [_verdict(asked, intervals, whole=whole)]
    below, above = sum(high < 0 for _, _, high in intervals.values()), sum(low > 0 for _, low, _ in intervals.values())
    told.append(
        f"Of {len(intervals)} comparisons of MaaO with a control, over all tasks, the 95 % interval of the difference in `test` log-loss "
        f"lies below zero in {below} (the mentor is better) and above zero in {above}."
    )
    sure = []
    for arm in asked:
        for group, tasks in GROUPS.items():
            one = _beside([row for row in rows if row.task in tasks], arm, "random text")
            if one is not None and _is_sure(one):
                sure.append(f"{arm} on {group}, {'better' if one[0] < 0 else 'worse'} ({_figure(one)})")
    told.append(f"By frozen model, told apart from random sentences: {'; '.join(sure) or 'none'}.")
    lines = [" ".join(told), ""]
    for arm in asked:
        figures = [
            f"{_figure(intervals[arm, control])}{'' if equal(rows, arm, control) else '†'} against {name}"
            for control, name in PLAIN.items()
            if (arm, control) in intervals
        ]
        lines.append(f"* {arm}, {_spent(rows, arm)}: {', '.join(figures)}.")
    read = [
        f"{_figure(one)} to {name}"
        for name in ("LLM without scores", "LLM without the trajectory")
        if (one := _beside(rows, "MaaO, stronger mentor", name)) is not None
    ]
    if read:
        lines.append(f"* What the stronger mentor reads of the walk, to the same mentor told less: {', '.join(read)}.")
    lines += ["", "Differences are paired by task and seed; below zero is better."]
    if any("†" in line for line in lines):
        lines[-1] += " († not at equal cost: tokens or looks at `select` differ by more than a tenth.)"
    return "\n".join(lines)


def _verdict(asked: Sequence[str], intervals: Mapping[tuple[str, str], tuple[float, float, float]], *, whole: bool) -> str:
    """Return the answer in a sentence or two: who beats every control, or else what the closest arm came to."""
    no, yes = ("No", "Yes") if whole else ("So far no", "So far yes")
    own = {arm: {control: one for (name, control), one in intervals.items() if name == arm} for arm in asked}
    winners = [arm for arm in asked if all(high < 0 for _, _, high in own[arm].values())]
    if winners:
        does = "does" if len(winners) == 1 else "do"
        return f"**{yes}: {' and '.join(winners)} {does} better than every control that asks no language model.**"
    closest = {arm: max(found.items(), key=lambda item: item[1][0]) for arm, found in own.items()}  # the control that did best beside it
    best = min(asked, key=lambda arm: closest[arm][1][0])
    control, figure = closest[best]
    helped = [f"{arm} by {_figure(own[arm]['single'])}" for arm in asked if own[arm]["single"][2] < 0]
    return (
        f"**{no}: no mentor does better than every control that asks no language model.** "
        + (f"Better than one start: {', '.join(helped)}. " if helped else "")
        + f"Closest to all of them came {best}: {_figure(figure)} against its best control, {control}."
    )


def _spent(rows: Sequence[Row], arm: str) -> str:
    cost = mean_cost([row for row in rows if row.arm == arm])
    return f"{cost['llm_calls']:.0f} calls and {cost['input_tokens'] + cost['output_tokens']:,.0f} LLM tokens a run"


def sought(table: Table, rows: Sequence[Row]) -> list[str]:
    """Return what was tried on the tasks of the search, and what it came to."""
    lines = [
        "Tried on two tasks that are reported nowhere else. Mean paired difference of `test` log-loss to `random text` there, below zero",
        "is better, with its 95 % interval. Few pairs: leads, not results.",
        "",
        "| arm | difference to random text | pairs | model tokens | looks |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in (one.name for one in table.arms):
        pairs = pairs_of(rows, arm, "random text", ALL, "loss", 1.0)
        if arm != "random text" and len(pairs) > 1:
            cost = mean_cost([row for row in rows if row.arm == arm])
            lines.append(
                f"| {arm} | {_figure(_interval(pairs))} | {len(pairs)} | {cost['model_tokens']:,.0f} | {cost['selection_evals']:.0f} |"
            )
    return [*lines, "", *(f"* {one}" for one in TRIED)]


def _beside(rows: Sequence[Row], arm: str, control: str, metric: str = "loss", scale: float = 1.0) -> tuple[float, float, float] | None:
    """Return the mean difference on `test` and its 95 % interval, where there are two pairs or more."""
    both = pairs_of(rows, arm, control, ALL, metric, scale)
    return _interval(both) if len(both) > 1 else None


def _interval(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    return paired_interval([a for a, _ in pairs], [b for _, b in pairs])


def _is_sure(interval: tuple[float, float, float]) -> bool:
    return interval[1] > 0 or interval[2] < 0


def _figure(interval: tuple[float, float, float]) -> str:
    mean, low, high = interval
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def equal(rows: Sequence[Row], arm: str, control: str) -> bool:
    """Say whether two arms cost about the same where both were run: tokens through the frozen model, and looks at `select`."""
    sides = {name: {(row.task, row.seed): row for row in rows if row.arm == name} for name in (arm, control)}
    both = sides[arm].keys() & sides[control].keys()
    return not unequal({name: mean_cost([own[key] for key in both]) for name, own in sides.items()}, control)


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
