"""Read a comparison out: rows in, differences with honest statistics, a page and plots. Computes no run."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from maao.baselines.outcome import Figures
from maao.compare.rows import Row, Walked, read_rows
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
from maao.llm.budget import Caps
from maao.llm.ledger import Totals
from maao.options import Section, Text
from maao.printable import dollars, markdown, printable
from maao.store.attempts import Spending
from maao.store.files import write_text_durably
from maao.store.recorded import Record
from maao.store.run import read_json
from maao.waiting import ROWS, counted, read_waits, runs_of

if TYPE_CHECKING:
    from maao.compare.table import Table

PAGE = "page.md"
RESULTS = "results.json"
SPENDING = "spending.sqlite"  # what all cells spend together, call by call
SHOWN_CAPPED = 6
ALL = "all tasks"
LOSS = "loss"
COSTS = ("gradient_steps", "model_tokens", "selection_evals", "llm_calls", "input_tokens", "output_tokens")
SHOWN = {"selection_evals": "looks"}  # how a page calls what has a longer name
EFFECT_PAIRS = 4  # from which there is an effect size: its correction for few pairs is 0 at two, and a spread of three says little
VERDICT_PAIRS = 3  # from which an arm is said to be better or worse
UNEQUAL = 0.1  # how far costs may lie apart before the page says so


@dataclass(frozen=True)
class Difference:
    """How an arm did beside the baseline, over pairs of equal task and seed. A metric in points; below zero is better for a loss."""

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
    effect: float | None  # none below `EFFECT_PAIRS`
    better: float  # how often a figure of the arm is better than one of the baseline
    seeds_for_one: int | None  # pairs that would show a difference of one point (a metric)


def check_protocols(rows: Sequence[Row]) -> None:
    """Refuse to compare rows of one task that followed different protocols, where they name one. Raises `ConfigError`."""
    from maao.data.protocols import IMAGE_PROTOCOLS, PROTOCOLS, Protocol, check_same

    unnamed = {row.protocol for row in rows if row.protocol} - {*PROTOCOLS, *IMAGE_PROTOCOLS}
    departed = [Protocol(name, "its name says how it departs from a known one") for name in sorted(unnamed)]
    for task in dict.fromkeys(row.task for row in rows):
        own = [row.model_dump(include={"protocol", "shots"}, exclude_unset=True) for row in rows if row.task == task]
        named = next((row["protocol"] for row in own if row.get("protocol")), None)
        if named is not None:
            check_same(own, departed)


def differences(rows: Sequence[Row], baseline: str, metric: str = "accuracy") -> list[Difference]:
    """Return how each arm did beside the baseline, for each task and over all, in a metric and in loss, from two pairs on."""
    found: list[Difference] = []
    tasks = list(dict.fromkeys(row.task for row in rows))
    arms = [arm for arm in dict.fromkeys(row.arm for row in rows) if arm != baseline]
    for task in (*tasks, ALL) if len(tasks) > 1 else tasks:
        for name, scale in ((metric, 100.0), (LOSS, 1.0)):
            raw = [(arm, pairs) for arm in arms if len(pairs := pairs_of(rows, arm, baseline, task, name, scale)) > 1]
            corrected = holm([signed_rank([a - b for a, b in pairs]) for _, pairs in raw])
            for (arm, pairs), p in zip(raw, corrected, strict=True):
                found.append(_difference(arm, task, name, pairs, p))
    return found


def pairs_of(rows: Sequence[Row], arm: str, baseline: str, task: str, metric: str, scale: float) -> list[tuple[float, float]]:
    """Return figures of an arm and of the baseline on `test`, pair by pair of equal model, task and seed; `task` may be `ALL`."""
    sides: list[dict[tuple[str, str, int], float]] = [
        {
            (row.model, row.task, row.seed): scale * figure
            for row in rows
            if row.arm == side and task in (row.task, ALL) and (figure := row.on_test(metric)) is not None
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
        effect_size(apart) if len(apart) >= EFFECT_PAIRS else None,
        1 - better if metric == LOSS else better,
        pairs_needed(1.0, spread) if metric != LOSS and spread > 0 else None,
    )


class Page(Protocol):
    """A way to read a comparison out: a `Section` whose fields are its own settings, which stand beside `page` in a table."""

    def write(self, table: Table, rows: Sequence[Row], place: Path, total: int) -> Mapping[str, object]:
        """Write ``page.md`` and plots of what there is of so many cells; return what ``results.json`` is to hold beside the rows."""
        ...


@dataclass(frozen=True)
class WaitingCells:
    """How many cells of a comparison wait, and for how many replies in all: cells share requests."""

    cells: int
    replies: int

    def told(self, total: int) -> str:
        """Say so, of so many cells.

        Example:
            >>> WaitingCells(2, 1).told(6)
            '2 of 6 cells wait for 1 reply.'
        """
        return f"{self.cells} of {counted(total, 'cell', 'cells')} wait{'s' * (self.cells == 1)} for {counted(self.replies)}."


def waiting_in(place: Path, names: Collection[str] | None = None) -> WaitingCells:
    """Return what the cells of a comparison wait for, or those of some names."""
    cells, keys = 0, set[str]()
    for run in runs_of(place):
        if (names is None or run.name in names) and not (place / ROWS / f"{run.name}.json").exists():
            awaited = read_waits(run).awaited
            cells += bool(awaited)
            keys |= {request.key for request in awaited}
    return WaitingCells(cells, len(keys))


def read_out(table: Table, place: Path, total: int) -> Path:
    """Write ``results.json``, ``page.md`` and the plots of what there is of so many cells; return the page."""
    with FileLock(place / ".read-out.lock"):
        rows = read_rows(place)
        check_protocols(rows)
        page: Page = table.page.options
        more = page.write(table, rows, place, total)
        spent, capped = Spending(place / SPENDING).spent(), [row for row in rows if row.capped]
        if spent.calls:
            _say_first(place / PAGE, _spent_told(spent, table.budget.caps))
            more = {"spent": {**asdict(spent), "usd": spent.usd if math.isfinite(spent.usd) else None}, **more}
        if capped:
            _say_first(place / PAGE, _capped_told(capped, total))
        if without := without_loss(rows):
            _say_first(
                place / PAGE, f"**{without_loss_told([row.model_copy(update={'arm': markdown(row.arm)}) for row in without], total)}**"
            )
        waiting = waiting_in(place)
        if waiting.cells:
            _say_first(place / PAGE, f"**{waiting.told(total)}** `maao requests list {place}` says which; the same command goes on.")
            more = {"waiting": asdict(waiting), **more}
        held = [row.model_dump(exclude_unset=True) for row in rows]
        about = {"title": table.title, "about": table.about.strip(), "total": total}
        record = {"name": table.name, "baseline": table.baseline, **about, "rows": held, **more}
        write_text_durably(place / RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return place / PAGE


def without_loss(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of cells that were read on `test` and have no loss there that is a finite number."""
    return [row for row in rows if row.test is not None and row.test.get("examples") and LOSS not in row.test]


def without_loss_told(without: Sequence[Row], total: int) -> str:
    """Say so, of so many cells."""
    arms = ", ".join(dict.fromkeys(row.arm for row in without))
    unread = sum(row.test.get("unread", 0) > 0 for row in without if row.test is not None)
    wrong = f" In {unread} of them the model gave no number for some examples, which count as read wrongly." if unread else ""
    return (
        f"{counted(len(without), 'cell', 'cells')} of {total} have no finite loss on test (arms: {arms}), and are in nothing that is said "
        f"of losses.{wrong}"
    )


def _capped_told(capped: Sequence[Row], total: int) -> str:
    """Say which cells a cap kept from asking: they are no measure of their mentor."""
    named = ", ".join(markdown("/".join(str(part) for part in row.key if part != "")) for row in capped[:SHOWN_CAPPED])
    more = f" and {len(capped) - SHOWN_CAPPED} more" if len(capped) > SHOWN_CAPPED else ""
    return (
        f"**A cap kept {counted(len(capped), 'cell', 'cells')} of {total} from asking**, whose figures are of less advice than their arm "
        f"says: {named}{more}. To run them anew with a higher cap, remove their files in `rows/` and their folders in `runs/`."
    )


def _spent_told(spent: Totals, caps: Caps) -> str:
    """Say what all cells spent together, and of which caps."""

    def of(cap: float | None, form: str) -> str:
        return "" if cap is None else f" of at most {form.format(cap)}"

    money = f"; {dollars(spent.usd)}" if spent.usd or caps.usd else ""
    unanswered = f", {spent.unanswered} of them without a reply and counted at their most" if spent.unanswered else ""
    return (
        f"Spent together: {counted(spent.calls, 'call', 'calls')}{of(caps.calls, '{:,}')}{unanswered}; {spent.tokens:,} tokens"
        f"{of(caps.tokens, '{:,}')}{money}{of(caps.usd, '${:g}')}."
    )


def _say_first(page: Path, told: str) -> None:
    """Put a line under a page's title, whoever wrote the page."""
    title, _, rest = page.read_text(encoding="utf-8").partition("\n")
    write_text_durably(page, f"{title}\n\n{told}\n{rest}")


class Differences(Section):
    """A page that says of every arm how it did beside the baseline, with plots.

    `metric` is what is read of `test` beside the loss: a share, shown in per cent.
    """

    metric: Text = "accuracy"

    def write(self, table: Table, rows: Sequence[Row], place: Path, total: int) -> Mapping[str, object]:
        told = task_by_model(rows)
        found = differences(told, table.baseline, self.metric)
        write_text_durably(place / PAGE, page_text(table, told, found, total, self.metric))
        if rows:
            plot(told, found, place, self.metric)
        return {"metric": self.metric, "differences": [asdict(d) for d in found]}


def task_by_model(rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows whose tasks are told apart by their models, where there are several: a task with another model is another task."""
    if len({row.model for row in rows}) < 2:
        return rows
    return [row.model_copy(update={"task": f"{row.task}, {row.model}"}) for row in rows]


class ComparisonRecord(Record):
    """results.json, as far as it is read again. Older ones have no title, and hold no count of all cells."""

    name: str
    baseline: str
    title: str = ""
    about: str = ""
    total: int | None = None
    metric: str = "accuracy"
    rows: list[Row]


def read_comparison(place: Path) -> ComparisonRecord:
    """Return what a comparison came to when it was read out last.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return ComparisonRecord.model_validate(read_json(place, RESULTS, ComparisonRecord))


def page_text(table: Table, rows: Sequence[Row], found: Sequence[Difference], total: int, metric: str = "accuracy") -> str:
    """Return the page: a plain answer first, then scores, differences and costs."""
    lines = [f"# {markdown(table.title or table.name)}", ""]
    if about := printable(table.about.strip()):
        lines += [about, ""]
    if not rows:
        return "\n".join([*lines, "No cell has been run yet."]) + "\n"
    if len(rows) < total:
        lines += [f"**{len(rows)} of {total} cells have been run**: what follows is of those.", ""]
    baseline = table.baseline
    rows = [row.model_copy(update={"task": markdown(row.task), "arm": markdown(row.arm)}) for row in rows]
    found = [replace(d, task=markdown(d.task), arm=markdown(d.arm)) for d in found]
    baseline = markdown(baseline)
    tasks = list(dict.fromkeys(row.task for row in rows))
    whole = [d for d in found if d.task == (ALL if len(tasks) > 1 else tasks[0])]
    losses, called = {d.arm: d for d in whole if d.metric == LOSS}, metric.replace("_", " ")
    lines += [*(f"* **{d.arm}** {verdict(d, baseline)}{loss_verdict(losses.get(d.arm))}" for d in whole if d.metric != LOSS), ""]
    lines += [f"`test` {called} in per cent, mean ± standard deviation over seeds; then log-loss; in brackets how many seeds.", ""]
    lines += ["| arm | " + " | ".join(tasks) + " |", "| --- |" + " --- |" * len(tasks)]
    for arm in dict.fromkeys(row.arm for row in rows):
        shown = [cell_told([row for row in rows if row.arm == arm and row.task == task], metric) for task in tasks]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    lines += [
        "",
        f"Paired differences to {baseline} ({called} in points; a loss below zero is better). Intervals: Student t, then bootstrap.",
    ]
    lines += ["p: Wilcoxon's signed-rank test, corrected for all arms by Holm.", *seed_alone(rows), ""]
    lines += [
        "| arm | task | | pairs | mean | 95 % interval | bootstrap | p | effect | better | pairs for one point |",
        "| --- |" * 1 + " --- |" * 10,
    ]
    for d in found:
        needed = "" if d.seeds_for_one is None else str(d.seeds_for_one)
        effect = "-" if d.effect is None else f"{d.effect:+.2f}"
        lines.append(
            f"| {d.arm} | {d.task} | {d.metric} | {d.pairs} | {d.mean:+.3f} | {d.low:+.3f} to {d.high:+.3f} | {d.bootstrap_low:+.3f} to "
            f"{d.bootstrap_high:+.3f} | {d.corrected:.3f} | {effect} | {d.better:.2f} | {needed} |"
        )
    lines += [
        "",
        "What a cell cost in the mean:",
        "",
        "| arm | " + " | ".join(SHOWN.get(name, name) for name in COSTS) + " |",
        "| --- |" + " --- |" * len(COSTS),
    ]
    costs = {arm: mean_cost([row for row in rows if row.arm == arm]) for arm in dict.fromkeys(row.arm for row in rows)}
    for arm, cost in costs.items():
        lines.append(f"| {arm} | " + " | ".join(f"{cost[name]:,.0f}" for name in COSTS) + " |")
    apart = [line for arm in costs for line in unequal(costs_beside(rows, arm, baseline), baseline)]
    lines += ["", *apart, *calls_told(costs), *won(rows), *ceiling(rows)]
    return "\n".join(lines) + "\n"


def verdict(d: Difference, baseline: str) -> str:
    """Return what is to be said of an arm, behind its name."""
    told = f"{d.mean:+.2f} points (95 % interval {d.low:+.2f} to {d.high:+.2f}, {d.pairs} pairs of task and seed)"
    if d.pairs < VERDICT_PAIRS:
        return f"beside {baseline}: too few pairs to say; {told}."
    if d.low > 0:
        return f"is better than {baseline} by {told}."
    if d.high < 0:
        return f"is worse than {baseline}: {told}."
    return f"cannot be told apart from {baseline}: {told}."


def loss_verdict(d: Difference | None) -> str:
    """Return the same of its loss, as a sentence behind that; "" where there is none."""
    if d is None:
        return ""
    if d.pairs < VERDICT_PAIRS:
        sure = "too few pairs to say"
    else:
        sure = "lower" if d.high < 0 else "higher" if d.low > 0 else "not told apart"
    return f" Its log-loss: {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}), {sure}."


def seed_alone(rows: Sequence[Row]) -> list[str]:
    """Return a line where the seeds of every task share labels and test examples: what intervals over seeds do not cover then."""
    held: dict[tuple[str, str, str], set[str | None]] = {}
    for row in rows:
        held.setdefault((row.arm, row.model, row.task), set()).add(row.data)
    if len({row.seed for row in rows}) < 2 or any(len(own) > 1 or None in own for own in held.values()):
        return []
    told = "All seeds of a task share its labels and its test examples: the intervals cover the seed alone, not other labels or other test "
    return [f"{told}examples."]


def cell_told(rows: Sequence[Row], metric: str) -> str:
    """Return what seeds of an arm on a task came to: the metric in per cent with its spread, the loss, and how many seeds."""
    figures = [100 * figure for row in rows if (figure := row.on_test(metric)) is not None]
    losses = [figure for row in rows if (figure := row.on_test(LOSS)) is not None]
    if not figures:
        return ""
    spread = f" ± {statistics.stdev(figures):.1f}" if len(figures) > 1 else ""
    loss = f"; {statistics.mean(losses):.3f}" if losses else ""
    return f"{statistics.mean(figures):.1f}{spread}{loss} ({len(figures)})"


def mean_cost(rows: Sequence[Row]) -> dict[str, float]:
    """Return what a cell of these rows cost in the mean, by kind. Money is NaN where a row does not know it."""
    costs = {name: statistics.mean(row.cost.get(name, 0.0) for row in rows) for name in COSTS}
    return {**costs, "usd": statistics.mean(_usd(row) for row in rows)}


def _usd(row: Row) -> float:
    """Return the money that a row says; of one that asked a model and says none, it is not known."""
    return row.cost.get("usd", math.nan if row.cost.get("llm_calls") else 0.0)


def costs_beside(rows: Sequence[Row], arm: str, baseline: str) -> dict[str, dict[str, float]]:
    """Return what a cell of an arm and one of the baseline cost in the mean, over the cells that both have; empty where there is none."""
    sides = {name: {(row.model, row.task, row.seed): row for row in rows if row.arm == name} for name in (arm, baseline)}
    both = sides[arm].keys() & sides[baseline].keys()
    return {name: mean_cost([own[key] for key in sorted(both)]) for name, own in sides.items()} if both else {}


def unequal(costs: Mapping[str, Mapping[str, float]], baseline: str) -> list[str]:
    """Return a line for every arm whose tokens or looks lie more than a tenth from the baseline's: it is not compared at equal cost."""
    if baseline not in costs:
        return []
    told = []
    for arm, cost in costs.items():
        apart = [
            f"{cost[name] / theirs:.2f} times the {SHOWN.get(name, name).replace('_', ' ')}"
            for name in ("model_tokens", "selection_evals")
            if (theirs := costs[baseline][name]) and abs(cost[name] - theirs) > UNEQUAL * theirs
        ]
        if apart:
            told.append(f"Not at equal cost: {arm} took {' and '.join(apart)} of {baseline}.")
    return told


def calls_told(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a line for every arm whose mentor asked a model: what that cost, beside what all arms spend."""
    return [
        f"Extra cost: the mentor of {arm} made {cost['llm_calls']:,.1f} calls a cell ({cost['input_tokens']:,.0f} tokens in, "
        f"{cost['output_tokens']:,.0f} out{_money(cost)})."
        for arm, cost in costs.items()
        if cost["llm_calls"]
    ]


def _money(cost: Mapping[str, float]) -> str:
    return f", {dollars(cost['usd'])}" if cost["usd"] else ""


def won(rows: Sequence[Row]) -> list[str]:
    """Return a table of what became of proposals: how many could be used, and how often one became a restart, each time of asking."""
    heads, told = restarts_won(rows)
    if not told:
        return []
    lines = [
        "",
        "How often a proposal became a restart, each time that the mentor was asked, and how many of those wanted could be used:",
        "",
    ]
    lines += [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in told)]


def restarts_won(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the lines of that table, arm by arm; no lines where no mentor was asked."""
    times = max((len(row.asked) for row in rows), default=0)
    told = list[list[str]]()
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [row.asked for row in rows if row.arm == arm and row.asked]
        if own:
            usable = f"{sum(a.usable for one in own for a in one)} of {sum(a.wanted for one in own for a in one)}"
            by_time = [[one[i] for one in own if len(one) > i] for i in range(times)]
            told.append([arm, usable, *(f"{sum(a.won for a in asked)} of {len(asked)}" if asked else "" for asked in by_time)])
    return ["arm", "usable", *(f"time {i + 1}" for i in range(times))], told


def ceiling(rows: Sequence[Row]) -> list[str]:
    """Return a table of what each arm's candidates are worth on `test`: in the mean, and the best of each cell."""
    held: dict[str, list[tuple[Figures, Walked]]] = {}
    for row in rows:
        if row.walked is not None and row.test is not None:
            held.setdefault(row.arm, []).append((row.test, row.walked))
    if not held:
        return []
    told = (
        "The ceiling of any choice: accuracy on `test` in per cent, then log-loss, of what was reported, of a run's walked candidates in "
        "the mean, and of the best of them (by accuracy; by loss). The best is chosen by `test`: a bound, no result."
    )
    lines = ["", told, "", "| arm | cells | candidates | reported | their mean | the best |", "| --- |" + " --- |" * 5]
    for arm, own in held.items():
        reported, mean = [test for test, _ in own], [walked.mean for _, walked in own]
        best = f"{_mean_of([w.best for _, w in own], 'accuracy', 100):.1f}; {_mean_of([w.best_by_loss for _, w in own], LOSS):.3f}"
        shown = [f"{_mean_of(each, 'accuracy', 100):.1f}; {_mean_of(each, LOSS):.3f}" for each in (reported, mean)]
        lines.append(f"| {arm} | {len(own)} | {statistics.mean(w.count for _, w in own):.1f} | {' | '.join(shown)} | {best} |")
    return lines


def _mean_of(each: Sequence[Figures], name: str, times: int = 1) -> float:
    return times * statistics.mean(one[name] for one in each)


def plot(rows: Sequence[Row], found: Sequence[Difference], place: Path, metric: str = "accuracy") -> None:
    """Draw the anytime curves (every seed), the differences with their intervals, and cost against gain."""
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError('Plots need matplotlib: pip install "maao[plot]"') from error

    matplotlib.use("Agg")
    with matplotlib.rc_context({"text.parse_math": False}):  # a name with two dollars is no formula
        _plot(rows, found, place, metric)


def _plot(rows: Sequence[Row], found: Sequence[Difference], place: Path, metric: str) -> None:
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(row.task for row in rows))
    arms = list(dict.fromkeys(row.arm for row in rows))
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
                if row.task == task:
                    own = row.curve
                    axis.step([p[key] for p in own], [p["select_loss"] for p in own], where="post", color=colors[row.arm], alpha=0.6)
            axis.set_title(task)
            axis.set_xlabel(label)
            axis.set_ylabel("best loss on select")
        handles = [pyplot.Line2D([], [], color=colors[arm], label=arm) for arm in arms]
        figure.legend(handles=handles, fontsize=8, loc="outside right upper")
        _save(figure, place / f"anytime-{key.replace('_', '-')}.png")
    whole = sorted((d for d in found if d.metric == metric), key=lambda d: d.task != ALL)  # what is asked first stands at the top
    if whole:
        figure, axis = pyplot.subplots(figsize=(7, 1 + 0.3 * len(whole)), layout="constrained")
        for i, d in enumerate(whole):
            axis.errorbar(d.mean, i, xerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm])
        axis.set_yticks(range(len(whole)), [f"{d.arm}, {d.task}" for d in whole], fontsize=8)
        axis.set_ylim(len(whole), -1)
        axis.axvline(0, color="#888888", linewidth=1)
        axis.set_xlabel(f"points of test {metric.replace('_', ' ')}, with 95 % intervals")
        _save(figure, place / "differences.png")
    overall = [d for d in whole if d.task == ALL or len(tasks) == 1]
    if overall:
        figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
        for d in overall:
            cost = mean_cost([row for row in rows if row.arm == d.arm])
            spent = cost["input_tokens"] + cost["output_tokens"]
            axis.errorbar(
                spent, d.mean, yerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=3, color=colors[d.arm], label=d.arm
            )
        axis.axhline(0, color="#888888", linewidth=1)
        axis.set_xlabel("tokens of the mentor, a cell")
        axis.set_ylabel(f"points of test {metric.replace('_', ' ')} above the baseline")
        figure.legend(fontsize=8, loc="outside right upper")
        _save(figure, place / "cost-and-gain.png")


def _save(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
