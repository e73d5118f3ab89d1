"""What reads a finished run out: its story, then the tables, then its hash and folder. It computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from maao.core.lr_finder import LrSearch
from maao.evaluation.undecided import Thresholds
from maao.report.class_lines import beliefs
from maao.report.lines import (
    add_row,
    columns,
    line_of_proposal,
    metric_name,
    plain_table,
    refusals,
    short,
    shown,
)
from maao.report.on_test import FINALS, point_names, rows_on_test
from maao.report.story import Sentence, ending_of, story
from maao.report.tables import baselines_table
from maao.result import Result
from maao.types import P, Round, S, Token

STYLES = {"result": "bold", "gain": "bold"}


def report(result: Result) -> Group:
    """Return all that there is to read of a run: what came of it in sentences, rounds, `test`, details, where it is."""
    parts: list[RenderableType] = [*told(story(ending_of(result))), Text("")]
    if not result.history:
        return Group(*parts, shown(f"Run folder: {result.folder}"))
    parts.append(_rounds_table(result))
    if decided := [(r.index, told, style) for r in result.history for told, style in _decided(r)]:
        parts.append(_decided_table(decided))
    if result.finals:
        parts.append(_test_table(result))
    if (beside := result.baselines) is not None and beside.where != "test" and beside.baselines:
        parts.append(baselines_table(beside, f"\nBaselines {beside.where} ({{count}} examples, by which the tuned point was chosen)"))
    elif beside is not None:
        parts += [shown(f"Not shown: {reason}.", style="dim") for reason in beside.left_out]
    parts += [shown(told, style="dim") for told in beliefs(result.chosen.clues.line_weights)]
    if result.walks > 1:
        parts.append(shown(f"What is reported is the average of {result.walks} walks: {result.config.model.kind.options.average_costs}."))
    if result.filled:
        filled = ", ".join(f"{name} = {value!r}" for name, value in result.filled.items())
        parts.append(shown(f"Filled beside the chosen prompt: {filled}."))
    if result.lr_search is not None:
        parts.append(_search_line(result.lr_search, result.where_judged))
    if result.thresholds is not None:
        parts.append(shown(undecided_line(result.thresholds)))
    parts.append(_whole(shown(f"Final parameters: {result.digest}", style="dim")))
    parts.append(shown(f"Run folder: {result.folder} ({result.status}; maao show, resume, replay, predict, export)"))
    return Group(*parts)


def told(sentences: Sequence[Sentence]) -> list[Text]:
    """Return a story as lines for a terminal: what not to overlook is marked, a command stands in a line of its own, to be copied."""
    lines: list[Text] = []
    for said in sentences:
        lines.append(shown(said.text, style="yellow" if said.is_warning else STYLES.get(said.topic, "")))
        if said.command:
            lines.append(_whole(shown(f"    {said.command}", style="cyan")))
    return lines


def _whole(line: Text) -> Text:
    """Return a line that is never folded: what is copied from a terminal then holds no line break."""
    line.no_wrap, line.overflow = True, "ignore"
    return line


Row = tuple[tuple[str, str, str, str, str, str], str]  # cells, and the style of them


def _rounds_table(result: Result) -> Table:
    """Return a row for each round, and before it for what was proposed and judged; without words where nothing has any."""
    metric = metric_name(result.history[0].score)
    rows = [row for r in result.history for row in _round_rows(r, is_best=r.index == result.chosen.index)]
    kept = [i for i in range(6) if i != 2 or any(cells[2] for cells, _ in rows)]
    table = plain_table(shown(f"Rounds of {result.folder.name} (loss and {metric} {result.where_judged})"))
    for i in kept:
        name = ("round", "who", "text", "loss", metric, "what became of it")[i]
        table.add_column(name, justify="right" if i in (0, 3, 4) else "left", overflow="fold", max_width=48 if i == 2 else None)
    for cells, style in rows:
        add_row(table, *(cells[i] for i in kept), style=style)
    return table


def _round_rows(r: Round[P, S], *, is_best: bool) -> Iterator[Row]:
    number, scores = str(r.index), {c.proposal: c for c in r.verdict.considered}
    for i, proposal in enumerate(r.advice.proposals):
        looked = scores.get(i)
        became = "accepted" if r.verdict.chosen == i else "not taken"
        age = f" at age {looked.age}" if looked and looked.age else ""
        score = columns(looked.score if looked else None)
        yield (number, proposal.source, line_of_proposal(proposal), *score, f"{became}{age}"), "cyan"
    if None in scores:
        yield (number, "incumbent", "", *columns(scores[None].score), f"at age {scores[None].age}"), "dim"
    words = r.clues.projection.text if r.clues.projection else ""
    walked = "untuned" if r.state.step == 0 else f"walked to step {r.state.step}"
    who, became = ("all walks", "averaged") if r.leg.closing else ("doer", walked)
    yield (number, who, words, *columns(r.score), became + (", chosen" if is_best else "")), "bold" if is_best else ""


def _decided(r: Round[P, S]) -> Iterator[tuple[str, str]]:
    """Yield what was said of a round's proposals, refused of the mentor's words, and decided, each with its style."""
    for proposal in r.advice.proposals:
        if proposal.note:
            yield f"{short(line_of_proposal(proposal), 48)}: {proposal.note}", "cyan"
    yield from ((told, "dim") for told in refusals(r.advice.rejected))
    if r.leg.ask or r.leg.closing:
        yield r.verdict.reason or "nothing was proposed", ""


def _decided_table(decided: Sequence[tuple[int, str, str]]) -> Table:
    """Return the sentences about rounds: they are long, so that they have the whole width."""
    table = plain_table("\nWhat was decided, and why")
    table.add_column("round", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for number, told, style in decided:
        add_row(table, str(number), told, style=style)
    return table


def _test_table(result: Result) -> Table:
    first = next(iter(result.finals.values())).score
    examples, metric = first.num_examples, metric_name(first)
    table = plain_table(f"\nOn test ({examples:,} examples, read once)")
    table.add_column("prompt" if point_names(result) is FINALS else "")
    for name in (metric, "95 % interval", "loss"):
        table.add_column(name, justify="right")
    majority, beside = result.environment["majority"], result.baselines
    if majority is not None and metric == "accuracy" and not (beside and any(one.name == "majority" for one in beside.baselines)):
        add_row(table, "majority class", f"{majority:.3f}", "", "")
    for row in rows_on_test(result):
        style = "cyan" if row.is_baseline else "bold" if row.point == "chosen" else ""
        add_row(table, row.name, row.figure, row.interval, row.loss, style=style)
    return table


def undecided_line(thresholds: Thresholds) -> str:
    """Return what a run leaves undecided, and how many of the examples that chose this."""
    bounds = ((thresholds.confidence, thresholds.least), ("probability", thresholds.least_probability))
    below = " or ".join(f"{name} below {bound:.4g}" for name, bound in bounds if bound is not None)
    missed = f" But {thresholds.missed}." if thresholds.missed else ""
    return (
        f"Left undecided: {below}. Of the {thresholds.num_examples} examples that chose this, {thresholds.num_decided} are decided, "
        f"{thresholds.num_right} of them right.{missed}"
    )


def _search_line(search: LrSearch, where: str) -> Text:
    chosen = search.chosen
    lost = [f"{trial.rate:g}" for trial in search.trials if trial.diverged is not None]
    diverged = f"; {', '.join(lost)} diverged" if lost else ""
    others = ", ".join(f"{trial.rate:g}" for trial in search.trials)
    return shown(
        f"Learning rate: {chosen.rate:g}, the best of {others} {where} after {search.steps} steps (loss {chosen.loss:.3f}){diverged}."
    )


def clues_lines(result: Result) -> list[Text]:
    """Return what was said in words about every round's end, round by round."""
    lines = [Text("")]
    for r in result.history:
        projection = r.clues.projection
        lines.append(shown(f"Clues of round {r.index}", style="bold"))
        found = {
            "words": f"{projection.text} (gap {projection.gap:.3f})" if projection else "",
            "gradient asks for": _slots(r.clues.gradient),
            "moved towards": _slots(r.clues.displacement),
            "confusions on train": "; ".join(f"{c.label} as {c.predicted} ({c.count})" for c in r.clues.confusions[:4]),
        }
        lines += [shown(f"  {name}: {told}") for name, told in found.items() if told]
    return lines


def _slots(slots: Sequence[Sequence[Token]]) -> str:
    return " | ".join(slot[0].text for slot in slots if slot)
