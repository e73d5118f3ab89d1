"""Read the second study out: `python -m experiments.study2.read_out` writes `results/study2.csv`, its page, and its plots."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.few_labels.read_out import CELL, RESULTS, cells, head, line, with_sets
from experiments.study2 import plots
from experiments.study2.__main__ import HERE, LABELS
from experiments.study2.figures import (
    BLOTTED,
    FREE,
    JUDGED,
    NOBODY,
    OTHERS,
    PRIMARY,
    REPLICATION,
    SEEN,
    STRONG,
    UNSEEN,
    WEAK,
    Difference,
    best,
    by_set,
    difference,
    lacking,
    losses,
    of,
    points,
    variances,
    worth,
)
from maao.evaluation.statistics import detectable_difference, holm, pairs_needed

AIM, MARGIN, LEVEL = 5.0, 1.0, 0.05  # points; of p-values
PLANNED = {"secondary": 9, "feedback": 4, "prompts": 6}  # comparisons that Holm's correction is over, run or not
FREE_STRONG = "strong, no margin"
OLD_JUDGE, NEW_JUDGE, SHUFFLED = "strong, old judge", "strong, new judge", "shuffled, new judge"
UNLIKE = {
    "strong, unlike": tuple(f"{name}, as few" for name in ("wordings", "random words", "edits", "corpus")),
    "strong, unlike in letters": tuple(f"{name}, as few in letters" for name in ("wordings", "edits", "corpus")),
}
REPLIES = ("reply 0", "reply 1", "reply 2")
FEEDBACK, SECOND = "confusions", ("second sample", "random classes")
PARTS = {"all seven": PRIMARY, "seen": SEEN, "unseen": UNSEEN, "without HWU64 and emoji": tuple(s for s in PRIMARY if s not in BLOTTED)}
WAYS = ("starts", "templates")
SOFT_SEEDS = 3
RIVALS = ("random text", "strong, no trajectory", "written once")
PRICED = (("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"))


def main() -> None:
    """Write the table, the page and the plots from the cells in `out/`, and of those that are kept what was not run anew."""
    kept = RESULTS / "study2.csv"
    known = [cells(HERE / "out", asked), *([pd.read_csv(kept)] if kept.exists() else [])]
    rows = pd.concat([held for held in known if len(held)], ignore_index=True).drop_duplicates(CELL)
    rows.sort_values(CELL).to_csv(kept, index=False, float_format="%.5f")
    rows = pd.read_csv(kept)
    plots.draw(rows, RESULTS / "study2")
    (RESULTS / "study2.md").write_text(page(rows, similar(HERE / "data")), encoding="utf-8")


def asked(row: Mapping[str, Any]) -> dict[str, object]:
    """Return what a cell's mentor cost, whether its proposals were taken, and what its walked candidates have on `test`."""
    rounds, cost, walked = row.get("asked") or (), row["cost"], row.get("walked") or {}
    return {
        "calls": cost.get("llm_calls", 0),
        "input_tokens": cost.get("input_tokens", 0),
        "output_tokens": cost.get("output_tokens", 0),
        "taken": float(any(one["won"] for one in rounds)) if rounds else None,
        "walked_mean": 100 * walked["mean"]["accuracy"] if walked else None,
        "walked_best": 100 * walked["best"]["accuracy"] if walked else None,
        "walked_mean_loss": walked["mean"]["loss"] if walked else None,
        "walked_best_loss": walked["best_by_loss"]["loss"] if walked else None,
    }


def similar(folder: Path) -> pd.DataFrame:
    """Return every recorded line of the strong mentor with its similarity to the data, by set; nothing where the files are not there."""
    found = []
    for file in sorted(folder.glob("*-similar.json")):
        for sample, lines in enumerate(json.loads(file.read_text(encoding="utf-8"))):
            found += [{"set": file.name.removesuffix("-similar.json"), "sample": sample, **each} for each in lines]
    return pd.DataFrame(found)


def page(rows: pd.DataFrame, lines: pd.DataFrame) -> str:
    """Return the page of some cells."""
    held = rows[with_sets(rows)["set"].isin((*PRIMARY, *REPLICATION))]
    parts = [
        ["# The second study: what a mentor's knowledge is worth", "", *_answer(held), ""],
        [
            "What was asked stands in [the plan](../study2/plan.md), which was committed first; the cells in [study2.csv](study2.csv); the",
            "replies in [mentors](../mentors). `make study` makes anew what the replies allow, without a call.",
            "",
        ],
        ["![Accuracy against labels](study2/labels.png)", "", "![Seen and unseen sets](study2/unseen.png)", ""],
        _primary(held),
        _secondary(held),
        _means(held),
        _by_set(held),
        _contamination(held, lines),
        _feedback(held),
        _variance(held),
        _prompts(rows),
        _cost(held),
        _replication(held),
        _judge(held),
        _counts(held),
    ]
    return "\n".join(one for part in parts for one in part).rstrip() + "\n"


# -- the answer


def _answer(rows: pd.DataFrame) -> list[str]:
    """Return what the study says: the primary answer, and a line for each of the other questions."""
    found = {arm: one for arm in OTHERS if (one := difference(of(rows, "labels", 2), STRONG, arm)) is not None}
    told, known = ["Nothing can be said yet of the primary comparison."], list[str]()
    if found:
        least = min(found, key=lambda arm: found[arm].mean)
        told, known = _primary_answer(rows, found, least), _knowledge(rows, least)
    others = [*known, *_weaker(rows), *_second_round(rows), *_soft(rows), *_spent(rows), *_worth(rows)]
    return [*told, *([""] if others else []), *(f"* {one}" for one in others)]


def _primary_answer(rows: pd.DataFrame, found: Mapping[str, Difference], least: str) -> list[str]:
    missing = lacking(of(rows, "labels", 2), (STRONG, *OTHERS))
    yes = all(one.mean >= AIM and one.low > 0 for one in found.values())
    answer = f"So far ({missing} cells are lacking)" if missing else "Yes" if yes else "Not shown"
    every = f"all {len(OTHERS)} controls" if len(found) == len(OTHERS) else f"{len(found)} of {len(OTHERS)} controls"
    return [
        f"**{answer}: with 2 labels a class, a strong mentor's lines about classes have {points(found[least])}",
        f"points of accuracy more than the closest of {every} ({least}), {len(found[least].sets)} sets as unit.**",
        *_nearly_nobody(rows),
    ]


def _nearly_nobody(rows: pd.DataFrame) -> list[str]:
    kept = _kept(of(rows, "labels", 2), JUDGED, PRIMARY)
    return [f"{len(JUDGED)} of them are judged as the mentor is; they were {kept}, and are `{NOBODY}` in the others."] if kept else []


def _kept(cells_: pd.DataFrame, arms: Sequence[str], sets: Sequence[str]) -> str:
    """Tell in how many cells of some arms their lines were kept, of those of which it is known."""
    taken = cells_[cells_.arm.isin(arms) & cells_.task.isin(sets)].taken.dropna()
    return f"kept in {taken.sum():.0f} of {len(taken)} cells" if len(taken) else ""


def _knowledge(rows: pd.DataFrame, least: str) -> list[str]:
    told = []
    for name in ("seen", "unseen"):
        own = difference(of(rows, "labels", 2), STRONG, least, PARTS[name])
        if own is None:
            continue
        each = ", ".join(f"{one} {value:+.1f}" for one, value in own.sets.items())
        if name == "seen":
            told.append(f"On sets that it may know: {points(own)} ({each}).")
        else:
            alone = f"By themselves these show nothing (mean {points(own)}): too few for the plan's wish that they carry the claim."
            told.append(f"On sets that no model can know: {each}. {alone}")
    others = []
    for labels in LABELS:
        own_cells = of(rows, "labels", labels)
        control = best(own_cells)
        own = difference(own_cells, STRONG, control) if control else None
        if labels != 2 and own is not None:
            others.append(f"{points(own, len(PRIMARY))} at {labels}")
    told += [f"By labels a class, to the best control there: {'; '.join(others)}."] if others else []
    reached, curve = _curves(rows)
    if len(reached) > 1:
        each = ", ".join(f"{accuracy:.1f} at {labels} ({dict(curve)[labels]:.1f})" for labels, accuracy in reached.items())
        told.append(f"Its accuracy by labels a class, and in brackets that of the best control: {each}.")
    return told


def _weaker(rows: pd.DataFrame) -> list[str]:
    told = []
    for mentor in WEAK:
        each = []
        for labels in (0, 2):
            own = of(rows, "labels", labels)
            control = best(own)
            found = difference(own, mentor, control) if control else None
            if found is None:
                continue
            taken = _kept(own, (mentor,), tuple(found.sets)) if labels else ""
            kept = f", its lines {taken}" if taken else ""
            above = f"; not worse by {MARGIN:g} point, p {found.above(MARGIN):.2f}" if labels and len(found.sets) > 1 else ""
            each.append(f"less {control} at {labels} {points(found, len(PRIMARY))}{kept}{above}")
        told += [f"{mentor}: {'; '.join(each)}"] if each else []
    return [f"Lines of weaker mentors, judged where there are labels, each less the best control. {'. '.join(told)}."] if told else []


def needed(found: Difference) -> str:
    """Tell how many such sets or tasks would show a difference as large as the one that was seen, with a power of 80 %."""
    if len(found.sets) < 2:
        return ""
    if abs(found.mean) <= found.spread / 35:
        return "more than 10,000"
    return f"{pairs_needed(found.mean, found.spread):,}"


def _wanted(found: Difference, units: str) -> str:
    count = "" if found.p < LEVEL else needed(found)
    return f", {count} {units}" if count else ""


WANTED = "(behind what is not shown: how many would show as much, were it so, with a power of 80 %)"


def _second_round(rows: pd.DataFrame) -> list[str]:
    each = []
    for labels in (2, 4):
        for other in SECOND:
            own = difference(complete(of(rows, "feedback", labels)), FEEDBACK, other)
            if own is not None:
                each.append(f"{points(own, len(PRIMARY))} to {other} at {labels}{_wanted(own, 'sets')}")
    if not each:
        return []
    least = min(_feedback_tests(rows), key=lambda one: one[3], default=None)
    shown = "not shown to differ" if least is None or least[3] >= LEVEL else "differing at the least p-value by Holm"
    return [f"A second round that is told what went wrong, in points, {shown} {WANTED}: {'; '.join(each)}."]


def _soft(rows: pd.DataFrame) -> list[str]:
    cells_ = rows[rows.table == "prompts"]
    each = []
    for way in WAYS:
        for rival in RIVALS:
            own = difference(cells_, f"{STRONG}, {way}", f"{rival}, {way}", tuple(cells_.task.unique()), "loss")
            if own is not None:
                each.append(f"{losses(own)} to {rival} ({way}){_wanted(own, 'tasks')}")
    told = f"Soft prompts ({_seeds(cells_)}), log-loss, below zero is better for the mentor that reads the walk {WANTED}"
    return [f"{told}: {'; '.join(each)}."] if each else []


def _seeds(cells_: pd.DataFrame) -> str:
    """Tell how many seeds each way into a soft prompt has in all its arms and tasks."""
    told = []
    for way in WAYS:
        own = cells_[cells_.arm.str.endswith(f", {way}")]
        told += [f"{way}: {own.groupby(['arm', 'task']).seed.nunique().min()} of {SOFT_SEEDS} seeds"] if len(own) else []
    return ", ".join(told)


def _worth(rows: pd.DataFrame) -> list[str]:
    reached, curve = _curves(rows)
    each = []
    for labels in (0, 1, 2):
        if labels in reached and curve[-1][0] > labels:
            found = worth(curve, reached[labels])
            without = f"more than {curve[-1][0]}" if found is None else f"{found:.1f}"
            each.append(f"{labels} label{' with the mentor is' if labels == 1 else 's with the mentor are'} worth {without} without")
    return [f"In labels a class: {'; '.join(each)}."] if each else []


def _curves(rows: pd.DataFrame) -> tuple[dict[int, float], list[tuple[int, float]]]:
    """Return, by labels, what the strong mentor reaches, and what the best control does; of sets that have all of it."""
    reached, curve = {}, []
    for labels in LABELS:
        own = of(rows, "labels", labels)
        control = best(own)
        if control is None:
            continue
        means = by_set(own)
        means = means[means.index.isin(PRIMARY)]
        if not set(PRIMARY) <= set(means[NOBODY].dropna().index):
            continue
        curve.append((labels, float(means[control].mean())))
        if STRONG in means and means[STRONG].notna().all():
            reached[labels] = float(means[STRONG].mean())
    return reached, curve


# -- tables


def _primary(rows: pd.DataFrame) -> list[str]:
    own = of(rows, "labels", 2)
    found = {arm: {name: difference(own, STRONG, arm, sets) for name, sets in PARTS.items()} for arm in OTHERS}
    found = {arm: each for arm, each in found.items() if each["all seven"] is not None}
    if not found:
        return []
    lines = [
        "## The primary comparison: strong less each other arm, 2 labels a class, points of accuracy",
        "",
        f"95 % intervals, sets as unit. All must be beaten, so nothing is corrected. The aim was +{AIM:g} and an interval above zero.",
        "",
        head("less", list(PARTS)),
    ]
    lines += [
        line(arm, ["" if one is None else points(one, len(PARTS[part])) for part, one in each.items()]) for arm, each in found.items()
    ]
    closest = min((each["all seven"] for each in found.values() if each["all seven"]), key=lambda one: one.mean)
    count = len(closest.sets)
    free = difference(own, FREE_STRONG, STRONG)
    if free is not None:
        each = ", ".join(f"{name} {value:+.1f}" for name, value in free.sets.items())
        lines += [
            "",
            "Looked at afterwards, no part of any answer: the same lines judged without a margin (`strong, no margin`) less `strong`:",
            f"{points(free, len(PRIMARY))} ({each}). The judge keeps good lines out where labels are few and noisy.",
        ]
    if count > 1:
        lines += [
            "",
            f"Power: to the closest control sets differ by a standard deviation of {closest.spread:.1f} points, so that {count} sets show",
            f"a mean of {detectable_difference(closest.spread, count):.1f} points with a power of 80 %.",
        ]
    return [*lines, ""]


def secondary(rows: pd.DataFrame) -> list[tuple[str, Difference, float, str]]:
    """Return the secondary comparisons of the plan: what it is, the difference, its p-value, and the figure that it is of."""
    found: list[tuple[str, Difference | None, str]] = []
    for labels in (0, 1, 4, 8, 16):
        own = of(rows, "labels", labels)
        control = best(own)
        found.append((f"strong less {control}, {labels} a class", difference(own, STRONG, control) if control else None, "accuracy"))
    own = of(rows, "labels", 2)
    control = best(own)
    found.append(
        (f"strong less {control}, 2 a class, log-loss", difference(own, STRONG, control, figure="loss") if control else None, "loss")
    )
    plain = of(rows, "head", 2)
    other = best(plain, among=(NOBODY, *FREE))
    found.append(
        (f"a head that begins at random: strong less {other}, 2 a class", difference(plain, STRONG, other) if other else None, "accuracy")
    )
    told = [(name, one, one.p, figure) for name, one, figure in found if one is not None and not math.isnan(one.p)]
    for mentor in WEAK:
        one = difference(own, mentor, control) if control else None
        if one is not None and len(one.sets) > 1:
            told.append((f"{mentor}, judged, less {control}, 2 a class: not worse by {MARGIN:g}", one, one.above(MARGIN), "accuracy"))
    return told


def _secondary(rows: pd.DataFrame) -> list[str]:
    found = secondary(rows)
    if not found:
        return []
    lines = [
        "## Secondary comparisons",
        "",
        "Each to the best control there, chosen afterwards in its favour; p-values by Holm over all nine that were planned"
        + (f" ({PLANNED['secondary'] - len(found)} not run: it counts as the largest)." if len(found) < PLANNED["secondary"] else "."),
        "",
        head("comparison", ["difference (95 %)", "sets", "p", "p by Holm"]),
    ]
    for (name, one, p, figure), corrected in zip(found, corrected_over("secondary", [p for _, _, p, _ in found]), strict=True):
        lines.append(line(name, [points(one) if figure == "accuracy" else losses(one), len(one.sets), f"{p:.3f}", f"{corrected:.3f}"]))
    return [*lines, ""]


def _means(rows: pd.DataFrame) -> list[str]:
    lines = ["## Mean over the primary sets: accuracy in per cent, log-loss in brackets", ""]
    for name in ("all seven", "seen", "unseen"):
        lines += _mean_table(rows, PARTS[name], name)
    return lines


def _mean_table(rows: pd.DataFrame, sets: Sequence[str], name: str) -> list[str]:
    counts = [labels for labels in LABELS if len(of(rows, "labels", labels))]
    lines = [head(name, [f"{count} a class" for count in counts])]
    for arm in (STRONG, *OTHERS, *WEAK):
        each = []
        for count in counts:
            own = of(rows, "labels", count)
            accuracy, loss = by_set(own), by_set(own, "loss")
            if arm not in accuracy:
                each.append("")
                continue
            mine = accuracy[arm][accuracy.index.isin(sets)].dropna()
            few = "" if len(mine) == len(sets) else f", {len(mine)} of {len(sets)} sets"
            each.append(f"{mine.mean():.1f} ({loss[arm][mine.index].mean():.3f}{few})" if len(mine) else "")
        if any(each):
            lines.append(line(arm, each))
    return [*lines, ""]


def _by_set(rows: pd.DataFrame) -> list[str]:
    counts = [labels for labels in LABELS if len(of(rows, "labels", labels))]
    lines = [
        "## Set by set: the strong mentor, and in brackets what it has more than the best control of that set",
        "",
        head("set", [f"{count} a class" for count in counts]),
    ]
    for name in PRIMARY:
        each = []
        for count in counts:
            own = of(rows, "labels", count)
            control = best(own, (name,))
            found = difference(own, STRONG, control, (name,)) if control else None
            each.append("" if found is None else f"{by_set(own)[STRONG][name]:.1f} ({found.mean:+.1f}, {control})")
        lines.append(line(name, each))
    return [*lines, ""]


def _contamination(rows: pd.DataFrame, lines: pd.DataFrame) -> list[str]:
    told = ["## Contamination", ""]
    if len(lines):
        told += [
            "Similarity of the strong mentor's lines to the nearest row of their set (pool and test): Jaccard over runs of three words,",
            "and of three letters.",
            "",
            head("set", ["lines", "median, words", "above 0.3, words", "median, letters", "above 0.3, letters", "repeat a row"]),
        ]
        for name, own in lines.groupby("set"):
            each = [f"{own[grams].median():.2f} | {100 * (own[grams] > 0.3).mean():.0f} %" for grams in ("words", "letters")]
            told.append(line(str(name), [len(own), *each, f"{100 * (own.letters >= 1).mean():.1f} %"]))
        told.append("")
    told += [
        "Without the lines above 0.3, judged as ever, less the best of `no mentor` and of controls that keep at most as many lines of each",
        "class (and are judged without a margin), points of accuracy:",
        "",
        head("", ["0 a class", "2 a class"]),
    ]
    for ours, others in UNLIKE.items():
        for name in ("all seven", "seen", "unseen"):
            each = []
            for count in (0, 2):
                own = of(rows, "labels", count)
                control = best(own, PARTS[name], (NOBODY, *others)) if ours in set(own.arm) else None
                found = difference(own, ours, control, PARTS[name]) if control else None
                each.append("" if found is None else f"{points(found, len(PARTS[name]))} to {control}")
            if any(each):
                told.append(line(f"{ours}: {name}", each))
    return [*told, ""]


def complete(cells_: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of feedback whose task and seed all of its arms have."""
    arms = (STRONG, FEEDBACK, *SECOND)
    own = cells_[cells_.arm.isin(arms)]
    return own[own.groupby(["task", "seed"]).arm.transform("nunique") == len(arms)]


def _feedback(rows: pd.DataFrame) -> list[str]:
    lines = [
        "## Feedback: a second round of the strong mentor, points of accuracy",
        "",
        head("", ["2 a class", "4 a class"]),
    ]
    for ours, other in ((FEEDBACK, STRONG), (SECOND[0], STRONG), (SECOND[1], STRONG), *((FEEDBACK, other) for other in SECOND)):
        each = []
        for labels in (2, 4):
            found = difference(complete(of(rows, "feedback", labels)), ours, other)
            each.append("" if found is None else points(found, len(PRIMARY)))
        lines.append(line(f"{ours} less {'the first round alone' if other == STRONG else other}", each))
    if not len(rows[rows.table == "feedback"]):
        return []
    told = [f"{other} at {labels}: {p:.2f}" for labels, other, _, p in _feedback_tests(rows)]
    if told:
        lines += ["", f"Two-sided p-values by Holm over all four, `{FEEDBACK}` less {'; '.join(told)}."]
    return [*lines, ""]


def _feedback_tests(rows: pd.DataFrame) -> list[tuple[int, str, Difference, float]]:
    """Return the planned comparisons of feedback that there are, with their p-values by Holm."""
    found = [(labels, other, difference(complete(of(rows, "feedback", labels)), FEEDBACK, other)) for labels in (2, 4) for other in SECOND]
    there = [(labels, other, one) for labels, other, one in found if one is not None and not math.isnan(one.p)]
    return [(*one, p) for one, p in zip(there, corrected_over("feedback", [one.p for *_, one in there]), strict=True)]


def corrected_over(what: str, p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values by Holm over all comparisons that were planned; one that was not run counts as one."""
    return holm([*p_values, *[1.0] * (PLANNED[what] - len(p_values))])[: len(p_values)]


def _variance(rows: pd.DataFrame) -> list[str]:
    found = variances(of(rows, "labels", 2), REPLIES)
    found = found[found.index.isin(PRIMARY)] if len(found) else found
    if not len(found):
        return []
    lines = [
        "## Between replies and between draws of labels, 2 labels a class",
        "",
        "Standard deviations in points, by analysis of variance of three replies by five draws.",
        "",
        head("set", ["between replies", "between draws", "what is left"]),
    ]
    for name, own in [*found.iterrows(), ("mean of variances", found.mean())]:
        lines.append(line(str(name), [f"{math.sqrt(own[column]):.2f}" for column in ("replies", "draws", "left")]))
    return [*lines, ""]


def _prompts(rows: pd.DataFrame) -> list[str]:
    own = rows[rows.table == "prompts"]
    if not len(own):
        return []
    tasks = tuple(sorted(own.task.unique()))
    lines = [
        "## Soft prompts of SmolLM2",
        "",
        f"{', '.join(tasks)}; tasks as unit; {_seeds(own)}. What the mentor that reads the walk has more,",
        "log-loss (below zero is better) and points of accuracy:",
        "",
        head("way in", ["less", "log-loss", "accuracy", "p (log-loss)", "p by Holm", "detectable at 80 %", "tasks to show as much"]),
    ]
    found = [(way, rival, difference(own, f"{STRONG}, {way}", f"{rival}, {way}", tasks, "loss")) for way in WAYS for rival in RIVALS]
    there = [(way, rival, one) for way, rival, one in found if one is not None and not math.isnan(one.p)]
    for (way, rival, one), p in zip(there, corrected_over("prompts", [one.p for *_, one in there]), strict=True):
        accuracy = difference(own, f"{STRONG}, {way}", f"{rival}, {way}", tasks)
        assert accuracy is not None
        lines.append(
            line(
                way,
                [
                    rival,
                    losses(one),
                    points(accuracy),
                    f"{one.p:.2f}",
                    f"{p:.2f}",
                    f"{detectable_difference(one.spread, len(one.sets)):.3f}",
                    needed(one),
                ],
            )
        )
    lines += [
        "",
        "Log-loss on `test` of what was chosen, of the mean walked candidate, and of the best one (known only on `test`):",
        "",
        head("arm", [*tasks, "mean walked", "best walked"]),
    ]
    for arm, cells_ in own.groupby("arm"):
        each = [f"{cells_[cells_.task == task].loss.mean():.3f}" if len(cells_[cells_.task == task]) else "" for task in tasks]
        walked = ["" if math.isnan(value) else f"{value:.3f}" for value in (cells_.walked_mean_loss.mean(), cells_.walked_best_loss.mean())]
        lines.append(line(str(arm), [*each, *walked]))
    return [*lines, ""]


def _cost(rows: pd.DataFrame) -> list[str]:
    own = paid(rows)
    if not len(own):
        return []
    lines = [
        "## Cost of a run with the strong mentor, 2 labels a class, and what it bought",
        "",
        "Tokens are a quarter of the characters. Points are those over the best control of the mean.",
        "",
        head(
            "set",
            [
                "calls",
                "tokens in",
                "tokens out",
                *(f"{model}, US cents" for _, model in PRICED),
                "points",
                "points a cent",
                "seconds",
                "seconds, no mentor",
            ],
        ),
    ]
    control = best(of(rows, "labels", 2))
    plain = of(rows, "labels", 2)
    for name in PRIMARY:
        mine = own[own.task == name]
        if not len(mine):
            continue
        tokens, cents = token_cost(mine)
        gained = difference(plain, STRONG, control, (name,)) if control else None
        bought = ["", ""] if gained is None else [f"{gained.mean:+.1f}", f"{gained.mean / (sum(cents) / len(cents)):+.1f}"]
        without = plain[(plain.arm == NOBODY) & (with_sets(plain)["set"] == name)].seconds.median()
        lines.append(
            line(
                name,
                [
                    f"{mine.calls.mean():.0f}",
                    *(f"{count:,}" for count in tokens),
                    *(f"{cent:.1f}" for cent in cents),
                    *bought,
                    f"{mine.seconds.median():.0f}",
                    f"{without:.0f}",
                ],
            )
        )
    curve = _curves(rows)[1]
    lines += [
        "",
        "Best control by labels a class: " + ", ".join(f"{accuracy:.1f} at {labels}" for labels, accuracy in curve) + ".",
        *_worth(rows),
    ]
    return [*lines, ""]


def _spent(rows: pd.DataFrame) -> list[str]:
    cents = [each for _, mine in paid(rows).groupby("task") for each in token_cost(mine)[1]]
    if not cents:
        return []
    return [f"What is asked for a set costs {min(cents):.1f} to {max(cents):.1f} US cents at the list prices of {len(PRICED)} providers."]


def paid(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the strong mentor with 2 labels a class on the primary sets whose tokens are known."""
    own = of(rows, "labels", 2)
    return own[(own.arm == STRONG) & own.task.isin(PRIMARY)].dropna(subset=["input_tokens", "output_tokens"])


def token_cost(cells_: pd.DataFrame) -> tuple[tuple[int, int], list[float]]:
    """Return the mean tokens of some cells, in and out, and what they cost at each price, in US cents."""
    tokens = round(cells_.input_tokens.mean()), round(cells_.output_tokens.mean())
    return tokens, [100 * price(provider, model, *tokens) for provider, model in PRICED]


def price(provider: str, model: str, input_tokens: int, output_tokens: int) -> float:
    """Return the list price of a call in US dollars."""
    from genai_prices import Usage, calc_price

    found = calc_price(Usage(input_tokens=input_tokens, output_tokens=output_tokens), model_ref=model, provider_id=provider)
    return float(found.total_price)


def _replication(rows: pd.DataFrame) -> list[str]:
    lines = [
        "## Replication: known sets, no part of any claim above",
        "",
        "Strong less the best control, points of accuracy, sets as unit; in brackets behind it each set.",
        "",
        head("labels a class", ["seeds", "best control", "difference", "each set"]),
    ]
    for labels in LABELS:
        own = of(rows, "labels", labels)
        own = own[with_sets(own)["set"].isin(REPLICATION)]
        control = best(own, REPLICATION)
        found = difference(own, STRONG, control, REPLICATION) if control else None
        if found is not None:
            each = ", ".join(f"{name} {value:+.1f}" for name, value in found.sets.items())
            seeds = own[own.arm == STRONG].groupby("task").seed.nunique().min()
            lines.append(line(str(labels), [seeds, control, points(found, len(REPLICATION)), each]))
    return [*lines, ""] if len(lines) > 5 else []


def _judge(rows: pd.DataFrame) -> list[str]:
    lines = [
        "## Not of the plan: another judge",
        "",
        "The judge that was chosen on [other sets](judge.md), frozen before these cells ran, less the one of this study: strong lines,",
        "points of accuracy; and lines under shuffled classes, which it is to leave out, less `no mentor` (3 seeds).",
        "",
        head("labels a class", ["old", "new", "new less old", "log-loss", "of each set", "shuffled less no mentor"]),
    ]
    for labels in (1, 2, 4):
        own = of(rows, "judge", labels)
        gain, lost = difference(own, NEW_JUDGE, OLD_JUDGE), difference(own, NEW_JUDGE, OLD_JUDGE, figure="loss")
        if gain is None or lost is None:
            continue
        means = by_set(own)[[OLD_JUDGE, NEW_JUDGE]].dropna().mean()
        harm = difference(pd.concat([own, of(rows, "labels", labels)]), SHUFFLED, NOBODY)
        told = ", ".join(f"{name} {value:+.1f}" for name, value in gain.sets.items())
        figures = [f"{means[OLD_JUDGE]:.1f}", f"{means[NEW_JUDGE]:.1f}", points(gain, len(PRIMARY)), losses(lost), told]
        lines.append(line(str(labels), [*figures, "" if harm is None else points(harm, len(PRIMARY))]))
    return [*lines, ""] if len(lines) > 6 else []


def _counts(rows: pd.DataFrame) -> list[str]:
    lines = ["## Cells that there are", "", head("table", ["cells", "arms", "tasks", "seeds", "core hours"])]
    for (table, labels), own in rows.groupby(["table", "labels"]):
        name = table if table == "prompts" else f"{table}, {labels} a class"
        lines.append(
            line(str(name), [len(own), own.arm.nunique(), own.task.nunique(), own.seed.nunique(), f"{own.seconds.sum() / 3600:.1f}"])
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
