"""Read the study of few labels out: `python -m experiments.few_labels.read_out` writes `results/few_labels.csv` and the page beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.few_labels.__main__ import HERE, LABELS
from maao.evaluation.statistics import paired_interval

RESULTS = HERE.parent / "results"
OURS, PROBE = "maao", "linear probe, names"
BASELINES = ("zero-shot", "prototypes", "prototypes, names", "linear probe", PROBE, "nearest neighbours")
PARTS = ("maao, own vector alone", "maao, bare names")
MARGIN = 1.0  # points
TUNED = ["accuracy", "default there", "linear probe, names, there", "default less it", "log-loss", "default there"]
SPENT = ["seconds, H200", "seconds, one core", "MiB, one core"]
CELL = ["table", "labels", "arm", "task", "seed"]


def main() -> None:
    """Write both files from the cells that there are: those in `out/`, and of those that are kept what was not run anew."""
    kept = RESULTS / "few_labels.csv"
    known = [cells(HERE / "out"), *([pd.read_csv(kept)] if kept.exists() else [])]
    rows = pd.concat([held for held in known if len(held)], ignore_index=True).drop_duplicates(CELL)
    rows.sort_values(CELL).to_csv(kept, index=False, float_format="%.5f")
    rows = pd.read_csv(kept)
    (RESULTS / "few_labels.md").write_text(page(rows), encoding="utf-8")


def cells(place: Path, further: Callable[[Mapping[str, Any]], Mapping[str, object]] = lambda row: {}) -> pd.DataFrame:
    """Return a row for each cell: kind of table, labels a class, arm, task, seed, accuracy and log-loss on `test`, seconds and memory.

    `further` says what else of what a cell wrote is kept.
    """
    held = []
    for file in sorted(place.glob("*/rows/*.json")):
        kind, _, labels = file.parent.parent.name.partition("-")
        row = json.loads(file.read_text(encoding="utf-8"))
        test, cost = row["test"], row["cost"]
        held.append(
            {
                "table": kind,
                "labels": int(labels or 0),  # a table whose name has none
                "arm": row["arm"],
                "task": row["task"],
                "seed": row["seed"],
                "accuracy": 100 * test.get("balanced_accuracy" if kind == "emoji" else "accuracy"),
                "loss": test.get("loss"),
                "seconds": cost.get("seconds"),
                "memory_mib": row.get("memory_mib"),
                **further(row),
            }
        )
    return pd.DataFrame(held)


def with_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """Return cells with the data set of each: the domains of CLINC150 are one."""
    return rows.assign(set=rows.task.str.replace(r"^CLINC150 .*", "CLINC150", regex=True))


def by_set(rows: pd.DataFrame, figure: str = "accuracy") -> pd.DataFrame:
    """Return the mean of each data set (the domains of CLINC150 are one), arm and number of labels, over seeds."""
    tasks = with_sets(rows).groupby(["set", "task", "arm", "labels"])[figure].mean()
    return tasks.groupby(["set", "arm", "labels"]).mean().unstack("arm")


def difference(means: pd.DataFrame, other: str, labels: int | None, ours: str = OURS) -> tuple[float, float, float]:
    """Return the mean difference of the default to another arm with its interval, data sets as unit; None: averaged over all labels."""
    wide = means[[ours, other]].dropna()
    own = wide.groupby("set").mean() if labels is None else wide.xs(labels, level="labels")
    return paired_interval(list(own[ours]), list(own[other]))


def page(rows: pd.DataFrame) -> str:
    """Return the page."""
    main_rows = rows[rows.table == "labels"]
    means, losses = by_set(main_rows), by_set(main_rows, "loss")
    labels = [count for count in LABELS if count in means.index.get_level_values("labels")]
    sets = sorted(set(means.index.get_level_values("set")))
    lines = ["# Few labels on a frozen encoder, without a mentor", "", *_answer(means, losses, labels), ""]
    lines += [
        f"Frozen MiniLM, {len(sets)} data sets ({', '.join(sets)}), five draws of labels, `test` at most 1,000 by hash and read once a",
        "cell. What was asked, how the default was chosen (on pools alone), and what counts as an answer stands in",
        "[the plan](../few_labels/plan.md), which was committed first. The cells: [few_labels.csv](few_labels.csv).",
        "",
        "## Mean over data sets: accuracy in per cent, log-loss in brackets",
        "",
        head("arm", [f"{count} a class" for count in labels]),
    ]
    for arm in (*BASELINES, OURS):
        lines.append(
            line(arm, [f"{means[arm].xs(c, level='labels').mean():.1f} ({losses[arm].xs(c, level='labels').mean():.3f})" for c in labels])
        )
    lines += [
        "",
        "## The default less each baseline, points of accuracy (95 % interval, data sets as unit)",
        "",
        f"In bold where the lower end is not above -{MARGIN:g}: there it is not shown to be as good.",
        "",
        head("baseline", [*[f"{count} a class" for count in labels], "mean"]),
    ]
    for arm in BASELINES:
        lines.append(line(arm, [_told(difference(means, arm, c)) for c in labels] + [_told(difference(means, arm, None))]))
    lines += [
        "",
        "The same of log-loss (below zero is better):",
        "",
        head("baseline", [*[f"{count} a class" for count in labels], "mean"]),
    ]
    for arm in BASELINES:
        every = [difference(losses, arm, c) for c in (*labels, None)]
        lines.append(line(arm, [f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" for mean, low, high in every]))
    lines += [
        "",
        "## Set by set: the default, and in brackets what it has more than the linear probe with names",
        "",
        head("set", [f"{c} a class" for c in labels]),
    ]
    for name in sets:
        own = means.xs(name, level="set")
        lines.append(line(name, [f"{own[OURS][c]:.1f} ({own[OURS][c] - own[PROBE][c]:+.1f})" for c in labels]))
    lines += ["", *_parts(main_rows, labels), *_tuned(rows, main_rows), *_emoji(rows)]
    return "\n".join(lines) + "\n"


def _answer(means: pd.DataFrame, losses: pd.DataFrame, labels: list[int]) -> list[str]:
    mean, low, high = difference(means, PROBE, None)
    lost, below, above = difference(losses, PROBE, None)
    inferior = [(arm, c) for arm in BASELINES for c in labels if difference(means, arm, c)[1] <= -MARGIN]
    told = "above zero" if low > 0 else "not above zero"
    lines = [
        f"Against logistic regression with class names, averaged over {len(labels)} numbers of labels: **{mean:+.1f} points of accuracy",
        f"({low:+.1f} to {high:+.1f})**, {told}; log-loss {lost:+.3f} ({below:+.3f} to {above:+.3f}).",
    ]
    if inferior:
        each = "; ".join(f"{arm} at {c}" for arm, c in inferior)
        return [*lines, f"Not shown to be non-inferior (margin {MARGIN:g} point): {each}."]
    return [*lines, f"It is non-inferior (margin {MARGIN:g} point) to every baseline on the frozen encoder at every number of labels."]


def _parts(rows: pd.DataFrame, labels: list[int]) -> list[str]:
    held = rows[rows.seed.isin(rows[rows.arm == PARTS[0]].seed.unique())]
    means = by_set(held)
    if not set(PARTS) <= set(means.columns):
        return []
    lines = ["## Where the gain comes from", "", "What the default loses without a part, on the seeds where that was run:", ""]
    lines.append(head("without", [*[f"{c} a class" for c in labels], "mean"]))
    for arm, name in zip(
        PARTS, ("the hidden layer beside the encoder's own vector", "five wordings of each name: the bare name alone"), strict=True
    ):
        lines.append(line(name, [points(difference(means, OURS, c, arm)) for c in (*labels, None)]))
    return [*lines, ""]


def _tuned(rows: pd.DataFrame, frozen: pd.DataFrame) -> list[str]:
    tuned = rows[rows.table == "tuned"]
    if not len(tuned):
        return []
    beside = frozen.merge(tuned[["task", "seed", "labels"]].drop_duplicates())
    both = pd.concat([beside, tuned])
    means, losses = by_set(both), by_set(both, "loss")
    again = tuned.merge(rows[rows.table == "tuned_cpu"], on=["arm", "task", "seed", "labels"], suffixes=("", "_core"))
    sets = sorted(set(means.index.get_level_values("set")))
    lines = [
        "## SetFit and LoRA, which change the weights",
        "",
        f"Capped steps (SetFit 25 of 16 pairs, LoRA 50 of 16 texts), {tuned.seed.nunique()} draws of labels, {len(sets)} sets",
        f"({', '.join(sets)}). Neither reads the names of classes.",
        'Both were run with `model.device = "cuda"` on one NVIDIA H200, 16 cells at a time. Beside them the default and logistic',
        f"regression with names on the same sets and draws; in bold where the lower end of the 95 % interval is not above -{MARGIN:g}.",
        *_again(again),
        "",
        head("arm", ["labels a class", "cells", *TUNED, *SPENT]),
    ]
    for (arm, count), own in tuned.groupby(["arm", "labels"]):
        core = again[(again.arm == arm) & (again.labels == count)]
        at = {name: means[name].xs(count, level="labels").mean() for name in (arm, OURS, PROBE)}
        lost = {name: losses[name].xs(count, level="labels").mean() for name in (arm, OURS)}
        each = [
            count,
            len(own),
            *(f"{at[name]:.1f}" for name in (arm, OURS, PROBE)),
            _told(difference(means, arm, count)),
            *(f"{lost[name]:.3f}" for name in (arm, OURS)),
            f"{own.seconds.median():.0f}",
            *(f"{core[name].median():.0f}" if len(core) else "" for name in ("seconds_core", "memory_mib_core")),
        ]
        lines.append(line(arm, each))
    mean = [f"{points(difference(means, arm, None))} points more than {arm}" for arm in sorted(tuned.arm.unique())]
    return [*lines, "", f"Averaged over the numbers of labels the default has {' and '.join(mean)}.", ""]


def _again(again: pd.DataFrame) -> list[str]:
    """Return what is said of the cells that were run on processor cores as well."""
    if not len(again):
        return []
    each = [
        f"{own.mean():+.2f} points for {arm} ({own.abs().max():.1f} at most in a cell)"
        for arm, own in (again.accuracy_core - again.accuracy).groupby(again.arm)
    ]
    return [
        f"{len(again)} of the cells were run anew without it (`tuned_cpu` in the file of cells), on one core each, 16 at a time.",
        f"On average their accuracy differs by {' and '.join(each)};",
        "seconds and memory on one core are theirs.",
    ]


def _emoji(rows: pd.DataFrame) -> list[str]:
    held = rows[rows.table == "emoji"]
    if not len(held):
        return []
    counts = sorted(held.labels.unique())
    lines = [
        "## Emoji, a testbed",
        "",
        "24 subcategories of Twemoji drawings, mean accuracy over classes and log-loss, five seeds (each samples its own test).",
        "",
    ]
    lines.append(head("arm", [f"{c} a class" for c in counts]))
    for arm in (*BASELINES, OURS):
        own = held[held.arm == arm]
        if len(own):
            each = [own[own.labels == c] for c in counts]
            lines.append(line(arm, [f"{part.accuracy.mean():.1f} ({part.loss.mean():.3f})" for part in each]))
    return [*lines, ""]


def _told(found: tuple[float, float, float]) -> str:
    text = points(found)
    return text if found[1] > -MARGIN else f"**{text}**"


def points(found: tuple[float, float, float]) -> str:
    """Return a difference in points with its interval."""
    mean, low, high = found
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def head(first: str, names: Sequence[str]) -> str:
    """Return the head of a table of Markdown."""
    return line(first, names) + "\n| --- |" + " --- |" * len(names)


def line(first: str, cells: Sequence[object]) -> str:
    """Return a line of a table of Markdown."""
    return f"| {first} | " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
