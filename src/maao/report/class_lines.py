"""What became of the class lines that a mentor said, in a sentence: how far they are believed, and what they gained or would have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from maao.class_lines import ClassLines, has_lines
from maao.core.acceptance import Race
from maao.core.alone import ALONE
from maao.core.loop import best_round
from maao.mentors.class_lines.base import LinesOptions
from maao.printable import printable_line
from maao.protocols import History
from maao.report.lines import short
from maao.types import LINES_WEIGHT, LineWeight, P, Round, S, Score

SHOWN = 3  # lines that are believed most, and as many that are believed least


def lines_verdicts(history: History[P, S], where: str) -> list[str]:
    """Return a sentence for each round in which lines were proposed; and one, where the point that is used is older than any that count.

    Args:
        where: by which examples points were judged: "out of fold", say.
    """
    found, without = list[str](), "without"
    for r in history:
        if any(has_lines(proposal.fields) for proposal in r.advice.proposals):
            found.append(_told(r, where, without))
        if _takes_lines(r):
            without = "with those before"
    taken = [r.index for r in history if _takes_lines(r)]
    if taken and not (used := best_round(history)).leg.closing and used.index < taken[0]:
        found.append(f"But the point that is used has none of them: that of round {used.index} did best (log-loss {used.score.loss:.3f}).")
    return found


def lines_rule(options: LinesOptions, race: Race | None, where: str) -> str:
    r"""Say before a run which lines it asks for, what they weigh, and how they are judged.

    Args:
        race: that judges them; None: another rule does.
        where: by which examples they are judged: "out of fold", say; "" where there is no labelled example.

    Example:
        >>> print(lines_rule(LinesOptions(), Race(share=0.2), "out of fold").replace("; ", ";\n"))
        Class lines: 8 examples and 3 descriptions a class, each at 0.5 of a labelled example, times how far it is believed;
        out of fold they must lower the loss by more than 20 %.
        >>> print(lines_rule(LinesOptions(), Race(alone=100), "out of fold").replace("; ", ";\n"))
        Class lines: 8 examples and 3 descriptions a class, each at 0.5 of a labelled example;
        they must lower the loss out of fold, and where no label trains.
    """
    weights = " or ".join(f"{weight:g}" for weight in options.weights)
    alone, share = (0, 0.0) if race is None or not where else (race.alone, race.share)
    told = f"Class lines: {options.asked_for}, each at {weights} of a labelled example{'' if alone else ', times how far it is believed'}"
    if not where:
        return f"{told}; there is no label to judge them by."
    by = f" by more than {100 * share:.0f} %" if share else ""
    if alone:
        return f"{told}; they must lower the loss {where}{by}, and where no label trains."
    return f"{told}; {where} they must lower the loss{by}."


def _takes_lines(r: Round[P, S]) -> bool:
    return r.verdict.chosen is not None and has_lines(r.advice.proposals[r.verdict.chosen].fields)


def beliefs(weights: Sequence[LineWeight]) -> list[str]:
    """Return in a few lines how far a point believes its class lines: the mean, and those believed most and least.

    Example:
        >>> for told in beliefs([LineWeight("pin", "a new pin", 0.5), LineWeight("pin", "where is my card", 0.04)]):
        ...     print(told)
        Each of its 2 lines weighs 0.27 of a labelled example on average (0.04 to 0.50).
          0.50 pin: a new pin
          0.04 pin: where is my card
    """
    if not weights:
        return []
    ranked = sorted(weights, key=lambda line: -line.weight)
    mean = sum(line.weight for line in ranked) / len(ranked)
    span = f"{ranked[-1].weight:.2f} to {ranked[0].weight:.2f}"
    told = [f"Each of its {len(ranked)} lines weighs {mean:.2f} of a labelled example on average ({span})."]
    ends = ranked if len(ranked) <= 2 * SHOWN else [*ranked[:SHOWN], None, *ranked[-SHOWN:]]
    return told + ["  ..." if line is None else f"  {line.weight:.2f} {short(f'{line.label}: {line.text}', 70)}" for line in ends]


def listed(lines: ClassLines) -> list[str]:
    """Return all class lines of a point in lines of text, class by class, each behind what it weighs beside a labelled example.

    Example:
        >>> from maao.class_lines import Line
        >>> listed(ClassLines((Line("pin", "examples", "a new pin", 0.5), Line("pin", "descriptions", "about pins", 0.25))))
        ['pin', '  0.50 a new pin', '  0.25 (description) about pins']
    """
    found: dict[str, list[str]] = {}
    for line in lines:
        kind = "(description) " if line.kind == "descriptions" else ""
        own = found.setdefault(line.label, [printable_line(line.label)])
        own.append(f"  {line.weight:.2f} {kind}{printable_line(line.text)}")
    return [told for own in found.values() for told in own]


def _told(r: Round[P, S], where: str, without: str) -> str:
    who = "The mentor's lines" if without == "without" else f"The mentor's lines of round {r.index}"
    own, chosen = _judged(r, None), r.verdict.chosen
    if chosen is not None and _takes_lines(r):
        weight = float(r.advice.proposals[chosen].fields.get(LINES_WEIGHT, "1"))
        taken, found = f"{who} count, at {weight:g} of the weight of a labelled example", _judged(r, chosen)
        if found is None or own is None:
            return f"{taken}: they were taken unjudged."
        return f"{taken}: {where} log-loss {found.loss:.3f} with them, {own.loss:.3f} {without}{_alone(r, '; ')}."
    scores = [score for i, p in enumerate(r.advice.proposals) if has_lines(p.fields) and (score := _judged(r, i)) is not None]
    if not scores:
        return f"{who} were left out: {_alone(r, 'by themselves they know less than the names do, ') or 'none was walked from and judged'}."
    best, against = min(score.loss for score in scores), own if chosen is None else _judged(r, chosen)
    if against is None:
        return f"{who} were left out: {where} log-loss {best:.3f} with them."
    did = _compared(best, against.loss) if chosen is None else "another proposal did better"
    than = without if chosen is None else "with that"
    return f"{who} were left out: {where} {did} (log-loss {best:.3f} with them, {against.loss:.3f} {than}){_alone(r, '; ')}."


def _alone(r: Round[P, S], before: str) -> str:
    """Return what was found where no label trains, behind other words; "" where that was not asked."""
    return next((f"{before}{part}" for part in r.verdict.reason.split("; ") if part.startswith(ALONE)), "")


def _compared(loss: float, incumbent: float) -> str:
    if f"{loss:.3f}" == f"{incumbent:.3f}":
        return "they did no better"
    return "they did worse" if loss > incumbent else "they did better by less than the rule's margin"


def _judged(r: Round[P, S], proposal: int | None) -> Score | None:
    """Return the last score of a proposal (None: of the incumbent) that was a number; None where there is none."""
    scores = [c.score for c in r.verdict.considered if c.proposal == proposal and not math.isnan(c.score.loss)]
    return scores[-1] if scores else None
