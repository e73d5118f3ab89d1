"""Tables of more or less than a run: a search for the learning rate, the headroom of a task, the runs of a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table

from maao.baselines.headroom import Headroom
from maao.core.lr_finder import LrSearch
from maao.evaluation.beside import Beside, Compared
from maao.evaluation.statistics import wilson_interval
from maao.report.lines import add_row, columns, metric_name, plain_table, shown, tried
from maao.store.listing import RunSummary
from maao.types import Score

WIDE = 72  # columns from which on a run's line says what it spent


def rates_table(search: LrSearch) -> Table:
    """Return what came of every rate of a search, the chosen one in bold."""
    table = plain_table(f"Loss on select after {search.steps} steps")
    table.add_column("rate", justify="right")
    table.add_column("what came of it", overflow="fold")
    for trial in search.trials:
        chosen = trial == search.chosen
        add_row(table, f"{trial.rate:g}", tried(trial) + (", the lowest" if chosen else ""), style="bold" if chosen else "")
    return table


def baselines_table(found: Compared, where: str, tuned: Score | None = None) -> Group:
    """Return what one would use instead, a line each, and below what each is and which could not be read.

    Args:
        where: on which examples; "{count}" in it is their number.
        tuned: what was tuned does on them.
    """
    table = plain_table(where.format(count=f"{max((one.num_examples for one in found.baselines), default=0):,}"))
    metric = next((metric_name(Score(one.loss, one.metrics)) for one in found.baselines), "accuracy")
    for name in ("baseline", metric, "95 % interval", "loss", "seconds"):
        table.add_column(name, justify="right" if name in (metric, "loss", "seconds") else "left", overflow="fold")
    what: list[str] = []
    own = [] if tuned is None else [Beside("tuned", "", tuned.loss, tuned.metrics, tuned.num_examples)]
    for one in (*found.baselines, *own):
        figure = next(iter(one.metrics.values()), math.nan)
        low, high = wilson_interval(figure, one.num_examples) if metric == "accuracy" else (0.0, 0.0)
        interval = f"{low:.3f} to {high:.3f}" if metric == "accuracy" else ""
        seconds = "" if one in own else f"{one.seconds:.1f}"
        add_row(table, one.title, f"{figure:.3f}", interval, f"{one.loss:.3f}", seconds, style="bold" if one in own else None)
        if one in own:
            continue
        chosen = ", ".join(f"{name} = {value:g}" for name, value in one.chosen.items())
        what.append(f"{one.title}: {one.told}{f' (chosen: {chosen})' if chosen else ''}.")
    what += [f"Not shown: {reason}." for reason in found.left_out]
    return Group(table, *(shown(told, style="dim") for told in what))


def headroom_table(found: Headroom) -> Table:
    """Return what needs no tuning beside where each start led."""
    table = plain_table(f"On what judges a run, each start walked {found.steps} steps")
    metric = metric_name(found.untuned[0])
    for name in ("point", "loss", metric):
        table.add_column(name, justify="left" if name == "point" else "right")
    if found.prior is not None:
        majority = "" if found.majority is None or metric != "accuracy" else f"{found.majority:.3f}"
        add_row(table, "shares of the classes", f"{found.prior:.3f}", majority)
    if found.zero_shot is not None:
        add_row(table, "no soft prompt", *columns(found.zero_shot))
    for number, (untuned, tuned) in enumerate(zip(found.untuned, found.tuned, strict=True), start=1):
        add_row(table, f"start {number}, untuned", *columns(untuned))
        add_row(table, f"start {number}, tuned", *columns(tuned), style="bold")
    return table


def runs_table(summaries: Sequence[RunSummary], folder: Path, width: int = 80) -> Group:
    """Return the runs of a folder, a line each, and below them what is wrong with those that cannot be read.

    Args:
        width: columns that there are to read it in; in few, what a run spent is left out.
    """
    table = plain_table(shown(f"Runs in {folder} (lowest loss and highest accuracy of those that choose)"))
    names = ("run", "created", "status", "rounds", "loss", "accuracy", *(("steps", "calls") if width >= WIDE else ()))
    for name in names:
        right = name not in names[:3]
        least = len(name) if right else 10
        table.add_column(name, overflow="fold", no_wrap=right, justify="right" if right else "left", min_width=least)
    for s in summaries:
        if s.problem:
            add_row(table, s.name, "", shown("cannot be read", style="red"))
            continue
        spent = (str(s.cost.gradient_steps), str(s.cost.llm_calls)) if width >= WIDE else ()
        add_row(
            table,
            s.name,
            s.created[:16].replace("T", " "),
            s.status,
            str(s.rounds_done),
            "" if s.best_loss is None else f"{s.best_loss:.3f}",
            "" if s.best_accuracy is None else f"{s.best_accuracy:.3f}",
            *spent,
        )
    return Group(table, *(shown(f"{s.name}: {s.problem}", style="red") for s in summaries if s.problem))
