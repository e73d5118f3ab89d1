"""What a page says of a comparison: values that a template lays out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maao.compare.page import (
    ALL,
    COSTS,
    LOSS,
    SHOWN,
    ComparisonRecord,
    Difference,
    calls_told,
    cell_told,
    costs_beside,
    differences,
    loss_verdict,
    mean_cost,
    restarts_won,
    seed_alone,
    task_by_model,
    unequal,
    verdict,
    without_loss,
    without_loss_told,
)
from maao.compare.rows import Row
from maao.printable import dollars
from maao.report.html.comparison_drawings import anytime_drawing, differences_drawing, seeds_drawing
from maao.report.html.run_view import Caps, Figure, Table, few_rows
from maao.report.html.svg import Drawing
from maao.report.story import Sentence

MOST_TASKS = 8  # that are drawn; all stand in the tables


@dataclass(frozen=True)
class ComparisonView:
    """All that a page says of a comparison. What is empty is left out."""

    anchor: str
    name: str
    status: str
    about: str
    facts: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    story: Sequence[Sentence]
    scores: Table
    apart: Drawing | None
    differences: Table | None
    seeds: Sequence[Drawing]
    every_seed: Table
    curves: Sequence[Drawing]
    fell: Table
    not_drawn: str
    costs: Table
    unequal: Sequence[str]
    won: Table | None
    reproduce: Sequence[tuple[str, str]]
    template: str = "comparison.html"

    @property
    def title(self) -> str:
        return self.name


def comparison_view(record: ComparisonRecord, folder: str, anchor: str, caps: Caps) -> ComparisonView:
    """Return what a page says of a comparison.

    Args:
        folder: where it is, as it is to be typed.
        anchor: the id of its section.
    """
    rows, baseline, metric = task_by_model(record.rows), record.baseline, record.metric
    tasks, arms = list(dict.fromkeys(row.task for row in rows)), list(dict.fromkeys(row.arm for row in rows))
    found = differences(rows, baseline, metric)
    drawn = [(i, task, [row for row in rows if row.task == task]) for i, task in enumerate(tasks[:MOST_TASKS])]
    seeds = [seeds_drawing(own, arms, task, metric, f"{anchor}-seeds-{i}") for i, task, own in drawn]
    curves = [anytime_drawing(own, arms, task, f"{anchor}-curve-{i}") for i, task, own in drawn]
    total = len(rows) if record.total is None else record.total
    heads, won = restarts_won(rows)
    called = metric.replace("_", " ")
    return ComparisonView(
        anchor,
        record.title or record.name,
        f"{len(rows)} of {total} cells",
        record.about,
        [("Baseline", baseline), ("Arms", ", ".join(arms)), ("Tasks", ", ".join(tasks)), ("Seeds", _seeds(rows))],
        list(_figures(rows, found, tasks, called)),
        list(_story(rows, found, tasks, baseline, total)),
        _scores(rows, arms, tasks, metric),
        differences_drawing(found, arms, baseline, metric, f"{anchor}-apart"),
        _differences(found, baseline, called, folder, caps) if found else None,
        [one for one in seeds if one is not None],
        _every_seed(rows, metric, folder, caps),
        [one for one in curves if one is not None],
        _fell(rows, folder, caps),
        f"{len(tasks) - MOST_TASKS} further tasks are not drawn; all stand in the tables." if len(tasks) > MOST_TASKS else "",
        _costs(rows, arms),
        list(_apart(rows, arms, baseline)),
        Table("How often a proposal became a restart, each time that the mentor was asked", heads, won) if won else None,
        [
            ("go on with it, or read it out again", f"maao compare TABLE.toml --out {folder}"),
            ("a run of it", f"maao report {folder}/runs/NAME"),
        ],
    )


def _seeds(rows: Sequence[Row]) -> str:
    return ", ".join(str(seed) for seed in sorted({row.seed for row in rows}))


def _whole(found: Sequence[Difference], tasks: Sequence[str]) -> list[Difference]:
    """Return the differences over all tasks, or those on the only one."""
    return [d for d in found if d.task == (ALL if len(tasks) > 1 else tasks[0])]


def _figures(rows: Sequence[Row], found: Sequence[Difference], tasks: Sequence[str], called: str) -> Iterator[Figure]:
    for d in [d for d in _whole(found, tasks) if d.metric != LOSS][:4] if tasks else []:
        yield Figure(f"points of {called}, {d.arm}", f"{d.mean:+.1f}", f"95 % interval {d.low:+.1f} to {d.high:+.1f}")
    yield Figure("cells", f"{len(rows):,}", f"{len(tasks)} task{'s' * (len(tasks) != 1)}, {len({row.seed for row in rows})} seeds")


def _story(rows: Sequence[Row], found: Sequence[Difference], tasks: Sequence[str], baseline: str, total: int) -> Iterator[Sentence]:
    if not rows:
        yield Sentence("state", "No cell has been run yet.", is_warning=True)
        return
    if len(rows) < total:
        yield Sentence("state", f"{len(rows)} of {total} cells have been run: what follows is of those.", is_warning=True)
    whole = _whole(found, tasks)
    losses = {d.arm: d for d in whole if d.metric == LOSS}
    for d in whole:
        if d.metric != LOSS:
            yield Sentence("gain", f"“{d.arm}” {verdict(d, baseline)}{loss_verdict(losses.get(d.arm))}")
    for told in seed_alone(rows) if whole else ():
        yield Sentence("sure", told)
    if not whole:
        yield Sentence("sure", f"Nothing is compared: no arm shares two pairs of task and seed with {baseline}.", is_warning=True)
    if without := without_loss(rows):
        yield Sentence("numbers", without_loss_told(without, len(rows)), is_warning=True)
    capped = sum(row.capped > 0 for row in rows)
    if capped:
        yield Sentence(
            "state", f"A cap kept {capped} of {len(rows)} cells from asking: they are of less advice than their arm says.", is_warning=True
        )


def _scores(rows: Sequence[Row], arms: Sequence[str], tasks: Sequence[str], metric: str) -> Table:
    told = [(arm, *(cell_told([row for row in rows if row.arm == arm and row.task == task], metric) for task in tasks)) for arm in arms]
    caption = (
        f"{metric.replace('_', ' ')} on test in per cent, mean ± standard deviation over seeds; then log-loss; in brackets how many seeds"
    )
    return Table(caption[0].upper() + caption[1:], ("arm", *tasks), told, frozenset(range(1, 1 + len(tasks))))


def _differences(found: Sequence[Difference], baseline: str, called: str, folder: str, caps: Caps) -> Table:
    rows = [
        (
            d.arm,
            d.task,
            d.metric.replace("_", " "),
            str(d.pairs),
            f"{d.mean:+.3f}",
            f"{d.low:+.3f} to {d.high:+.3f}",
            f"{d.bootstrap_low:+.3f} to {d.bootstrap_high:+.3f}",
            f"{d.corrected:.3f}",
            f"{d.effect:+.2f}" if d.effect is not None and math.isfinite(d.effect) else "–",
            "" if d.seeds_for_one is None else str(d.seeds_for_one),
        )
        for d in found
    ]
    few, cut = few_rows(rows, caps.classes, f"{folder}/results.json")
    caption = (
        f"Paired differences to {baseline} ({called} in points; a loss below zero is better): Student t, then bootstrap; p of Wilcoxon's "
        "signed-rank test, corrected for all arms by Holm"
    )
    heads = ("arm", "task", "of", "pairs", "mean", "95 % interval", "bootstrap", "p", "effect", "pairs for one point")
    return Table(caption, heads, few, frozenset(range(3, 10)), cut=cut)


def _every_seed(rows: Sequence[Row], metric: str, folder: str, caps: Caps) -> Table:
    def told(figure: float | None, times: int = 1) -> str:
        return "" if figure is None else f"{times * figure:.3f}" if times == 1 else f"{times * figure:.1f}"

    held = [(row.arm, row.task, str(row.seed), told(row.on_test(metric), 100), told(row.on_test(LOSS))) for row in rows]
    few, cut = few_rows(held, caps.rounds, f"{folder}/results.json")
    return Table(
        "Every seed", ("arm", "task", "seed", f"{metric.replace('_', ' ')}, per cent", "log-loss"), few, frozenset({2, 3, 4}), cut=cut
    )


def _fell(rows: Sequence[Row], folder: str, caps: Caps) -> Table:
    held = [
        (row.arm, row.task, str(row.seed), f"{first['select_loss']:.3f}", f"{last['select_loss']:.3f}", f"{last['model_tokens']:,.0f}")
        for row in rows
        if len(row.curve) > 1
        for first, last in [(row.curve[0], row.curve[-1])]
    ]
    few, cut = few_rows(held, caps.rounds, f"{folder}/results.json")
    return Table(
        "The same in numbers", ("arm", "task", "seed", "loss at first", "best loss", "tokens"), few, frozenset(range(2, 6)), cut=cut
    )


def _costs(rows: Sequence[Row], arms: Sequence[str]) -> Table:
    told = []
    for arm in arms:
        cost = mean_cost([row for row in rows if row.arm == arm])
        told.append((arm, *(f"{cost[name]:,.0f}" for name in COSTS), dollars(cost["usd"]) if cost["usd"] else "none"))
    heads = ("arm", *(SHOWN.get(name, name).replace("_", " ") for name in COSTS), "money")
    return Table("What a cell cost in the mean", heads, told, frozenset(range(1, 2 + len(COSTS))))


def _apart(rows: Sequence[Row], arms: Sequence[str], baseline: str) -> Iterator[str]:
    for arm in arms:
        yield from unequal(costs_beside(rows, arm, baseline), baseline)
    yield from calls_told({arm: mean_cost([row for row in rows if row.arm == arm]) for arm in arms})
