"""Read the study of knowledge out: `python -m experiments.knowledge.read_out` writes `results/knowledge.csv` and the page beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.few_labels.read_out import CELL, RESULTS, cells, head, line, with_sets
from experiments.knowledge.__main__ import HERE
from experiments.study2.figures import Difference, difference, losses, points

NOBODY, STRONG = "no mentor", "strong"
MENTORS = (STRONG, "1.5 B", "135 M")
CONTROLS = (
    "wordings",
    "names once",
    "near words",
    "random words",
    "edits",
    "corpus",
    *(f"{one}, no margin" for one in ("wordings", "edits", "corpus")),
)
DIAGNOSTIC = "shuffled"
FEEDBACK, FEEDBACK_CONTROLS = "confusions", ("second sample", "random classes")
HARM = 1.0  # points


def main() -> None:
    """Write both files from the cells that there are: those in `out/`, and of those that are kept what was not run anew."""
    kept = RESULTS / "knowledge.csv"
    known = [cells(HERE / "out", asked), *([pd.read_csv(kept)] if kept.exists() else [])]
    rows = pd.concat([held for held in known if len(held)], ignore_index=True).drop_duplicates(CELL)
    rows.sort_values(CELL).to_csv(kept, index=False, float_format="%.5f")
    (RESULTS / "knowledge.md").write_text(page(pd.read_csv(kept)), encoding="utf-8")


def asked(row: Mapping[str, Any]) -> dict[str, object]:
    """Return what a cell's mentor cost and whether its lines were taken."""
    rounds, cost = row["asked"], row["cost"]
    return {
        "calls": cost["llm_calls"],
        "tokens": cost["input_tokens"] + cost["output_tokens"],
        "taken": float(any(one["won"] for one in rounds)) if rounds else None,
    }


def beside(rows: pd.DataFrame, ours: str, other: str, labels: int, figure: str = "accuracy") -> Difference | None:
    """Return what an arm has more than another at a number of labels, data sets as unit, of the cells that both have; None: no cell."""
    return difference(rows[rows.labels == labels], ours, other, None, figure)


def with_all(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of feedback of the sets of which no arm lacks one: where nothing was confused, no reply was waited for."""
    counts = rows.groupby(["labels", "task"]).size()
    return rows[[counts[labels, task] == counts.max() for labels, task in zip(rows.labels, rows.task, strict=True)]]


def best(rows: pd.DataFrame, labels: int, controls: Sequence[str]) -> str | None:
    """Return the control that gains most at a number of labels, of those that ran on all sets, by what the reader knows only afterwards."""
    sets = with_sets(rows[rows.labels == labels]).groupby("arm")["set"].nunique()
    whole = [arm for arm in controls if sets.get(arm) == sets.get(NOBODY)]
    gains = {arm: found.mean for arm in whole if (found := beside(rows, arm, NOBODY, labels)) is not None}
    return max(gains, key=gains.__getitem__) if gains else None


def page(rows: pd.DataFrame) -> str:
    """Return the page."""
    plain = rows[rows.table == "labels"]
    labels = sorted(plain.labels.unique())
    sets = sorted(with_sets(plain)["set"].unique())
    lines = ["# Knowledge: what a mentor that says what classes mean is worth", "", *_answer(plain, labels), ""]
    lines += [
        "**A replication, no claim.** Frozen MiniLM and class features; a mentor's lines, asked for once and blind, join the labels.",
        f"The sets ({', '.join(sets)}) are known, a strong model may have seen them, and the rule of weights was chosen on their pools.",
        "The unit is the data set, so intervals stand on three of them. What was asked is in [the plan](../knowledge/plan.md), which was",
        "committed first; the cells in [knowledge.csv](knowledge.csv); the mentors' replies in [mentors](../mentors).",
        "",
        *_means(plain, labels),
        *_gains(plain, labels),
        *_harm(plain, labels),
        *_by_set(plain, labels, sets),
        *_feedback(with_all(rows[rows.table == "feedback"])),
        *_counts(plain, labels),
        *_cost(plain),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _answer(rows: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    told = []
    for count in labels:
        control = best(rows, count, CONTROLS)
        found = beside(rows, STRONG, control, count) if control else None
        if found is not None:
            told.append(f"{points(found)} at {count}")
    if not told:
        return ["Nothing can be said yet: no cell of the strong mentor has one of a control beside it."]
    return [f"A strong mentor's lines beside the best control, points of accuracy by labels a class: **{'; '.join(told)}**."]


def _means(rows: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    held = with_sets(rows)
    lines = ["## Mean over data sets: accuracy in per cent, log-loss in brackets", "", head("arm", _named(labels))]
    for arm in _there(rows, (NOBODY, *MENTORS, *CONTROLS, DIAGNOSTIC)):
        own = held[held.arm == arm].groupby(["labels", "set", "task"])[["accuracy", "loss"]].mean().groupby(["labels", "set"]).mean()
        means = own.groupby("labels").mean()
        counts, every = own.groupby("labels").size(), held["set"].nunique()
        each = []
        for count in labels:
            if count not in means.index:
                each.append("")
                continue
            few = "" if counts[count] == every else f", {counts[count]} of {every} sets"
            each.append(f"{means.accuracy[count]:.1f} ({means.loss[count]:.3f}{few})")
        lines.append(line(arm, each))
    return [*lines, ""]


def _gains(rows: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    lines = [
        "## What each adds to no mentor, points of accuracy (95 % interval, data sets as unit)",
        "",
        "Of the cells that both have, paired by set and seed.",
        "",
        head("arm", _named(labels)),
    ]
    for arm in _there(rows, (*MENTORS, *CONTROLS, DIAGNOSTIC)):
        lines.append(line(arm, _each(lambda count, arm=arm: beside(rows, arm, NOBODY, count), labels, points)))
    lines += ["", "The same of log-loss (below zero is better):", "", head("arm", _named(labels))]
    for arm in _there(rows, (*MENTORS, *CONTROLS, DIAGNOSTIC)):
        lines.append(line(arm, _each(lambda count, arm=arm: beside(rows, arm, NOBODY, count, "loss"), labels, losses)))
    lines += ["", "## Mentors beside the best control, points of accuracy", "", head("", _named(labels))]
    lines.append(line("best control", [best(rows, count, CONTROLS) or "" for count in labels]))
    for arm in _there(rows, MENTORS):
        lines.append(line(arm, _each(lambda count, arm=arm: _beside_best(rows, arm, count), labels, points)))
    return [*lines, ""]


def _beside_best(rows: pd.DataFrame, arm: str, labels: int) -> Difference | None:
    control = best(rows, labels, CONTROLS)
    return None if control is None else beside(rows, arm, control, labels)


def _harm(rows: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    lines = [
        "## How often lines were taken out of fold, and the worst cell",
        "",
        "Per cent of cells whose lines won their race (at 0 labels nothing judges), and in brackets the least difference of a set to no",
        f"mentor, in points. Harm is a set that loses more than {HARM:g} point.",
        "",
        head("arm", _named(labels)),
    ]
    for arm in _there(rows, (*MENTORS, *CONTROLS, DIAGNOSTIC)):
        each = []
        for count in labels:
            own = rows[(rows.arm == arm) & (rows.labels == count)]
            least = _least(rows, arm, count)
            if not len(own) or least is None:
                each.append("")
                continue
            told = f"{least:+.1f}" if least >= -HARM else f"**{least:+.1f}**"
            taken = "unjudged" if count == 0 else f"{100 * own.taken.mean():.0f} %"
            each.append(f"{taken} ({told})")
        lines.append(line(arm, each))
    return [*lines, ""]


def _least(rows: pd.DataFrame, arm: str, labels: int) -> float | None:
    """Return the least difference to no mentor of a set."""
    wide = with_sets(rows[rows.labels == labels]).pivot_table(index=["set", "task", "seed"], columns="arm", values="accuracy")
    if not {arm, NOBODY} <= set(wide.columns):
        return None
    found = (wide[arm] - wide[NOBODY]).dropna().groupby(["set", "task"]).mean().groupby("set").mean()
    return float(found.min()) if len(found) else None


def _by_set(rows: pd.DataFrame, labels: Sequence[int], sets: Sequence[str]) -> list[str]:
    lines = ["## Set by set: the strong mentor, and in brackets what it has more than no mentor", "", head("set", _named(labels))]
    held = with_sets(rows)
    for name in sets:
        own = held[held["set"] == name]
        each = []
        for count in labels:
            wide = own[own.labels == count].pivot_table(index=["task", "seed"], columns="arm", values="accuracy")
            there = {STRONG, NOBODY} <= set(wide.columns)
            pairs = wide[[STRONG, NOBODY]].dropna().groupby("task").mean() if there else wide.head(0)
            each.append(f"{pairs[STRONG].mean():.1f} ({(pairs[STRONG] - pairs[NOBODY]).mean():+.1f})" if len(pairs) else "")
        lines.append(line(name, each))
    return [*lines, ""]


def _feedback(rows: pd.DataFrame) -> list[str]:
    if not len(rows):
        return []
    counts = sorted(rows.labels.unique())
    lines = [
        "## Feedback: a second round with the strong mentor, points of accuracy it adds to the first",
        "",
        "`confusions` is told which classes are taken for which out of fold, and misread texts; `second sample` the same classes and only",
        f"its earlier lines; `random classes` as many others. {rows.seed.nunique()} seeds of {', '.join(sorted(rows.task.unique()))}.",
        "",
        head("second round", _named(counts)),
    ]
    for arm in _there(rows, (FEEDBACK, *FEEDBACK_CONTROLS)):
        lines.append(line(arm, _each(lambda count, arm=arm: beside(rows, arm, STRONG, count), counts, points)))
    for arm in _there(rows, FEEDBACK_CONTROLS):
        lines.append(line(f"{FEEDBACK} less {arm}", _each(lambda count, arm=arm: beside(rows, FEEDBACK, arm, count), counts, points)))
    return [*lines, ""]


def _counts(rows: pd.DataFrame, labels: Sequence[int]) -> list[str]:
    """Return how many of the planned cells there are."""
    lines = [
        "## Cells that there are",
        "",
        "A cell is a set (or domain) and a seed: 20 of an arm with five seeds, 12 of one with three.",
        "",
    ]
    lines.append(head("arm", _named(labels)))
    for arm in _there(rows, (NOBODY, *MENTORS, *CONTROLS, DIAGNOSTIC)):
        lines.append(line(arm, [len(rows[(rows.arm == arm) & (rows.labels == count)]) or "" for count in labels]))
    return [*lines, ""]


def _cost(rows: pd.DataFrame) -> list[str]:
    lines = ["## What it cost", "", head("arm", ["cells", "seeds", "calls a run", "tokens a run", "seconds a cell (median)", "MiB"])]
    for arm in _there(rows, (NOBODY, *MENTORS, *CONTROLS, DIAGNOSTIC)):
        own = rows[rows.arm == arm]
        memory = own.memory_mib.median()
        told = "" if math.isnan(memory) else f"{memory:.0f}"
        each = [len(own), own.seed.nunique(), f"{own.calls.mean():.1f}", f"{own.tokens.mean():,.0f}", f"{own.seconds.median():.0f}", told]
        lines.append(line(arm, each))
    return [*lines, ""]


def _there(rows: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    held = set(rows.arm)
    return [arm for arm in arms if arm in held]


def _named(labels: Sequence[int]) -> list[str]:
    return [f"{count} a class" for count in labels]


def _each(found: Callable[[int], Difference | None], labels: Sequence[int], told: Callable[[Difference], str]) -> list[str]:
    return ["" if (one := found(count)) is None else told(one) for count in labels]


if __name__ == "__main__":
    main()
