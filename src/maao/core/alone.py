"""What proposals with class lines are worth by themselves: no label trains, and all labels judge.

Out of fold a class lacks a part of its labels, all of them where it has one: so whatever says something of it looks better than it is, and
lines that do harm pass. A point that trains on lines alone has seen no label, and neither has the one that is there without lines: their
losses on all labels can be compared as they are, with no fold and no margin. Lines that do not win here know less than the names of the
classes do, and are left out. Those that do are then judged beside the labels, as any proposal is: with many labels lines may know more than
the names, and less than the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from maao.class_lines import has_lines
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.errors import CodecError, ProblemError
from maao.protocols import GradientStage, JudgesAlone, Prefills, Problem, Proposals
from maao.types import Cost, P, S, Score, Verdict

ALONE = "trained on no label"  # a part of a verdict's reason begins so
NONE_LEFT = "kept: no proposal is left to race"


@dataclass(frozen=True, slots=True)
class JudgedAlone:
    """Which proposals are left, by their places; what was found, in words; and what it cost. A part of a verdict on all proposals."""

    left: tuple[int, ...]
    told: str
    cost: Cost

    def of_all(self, verdict: Verdict[S]) -> Verdict[S]:
        """Return the verdict of those that are left as one of all proposals."""
        chosen = None if verdict.chosen is None else self.left[verdict.chosen]
        considered = tuple(c if c.proposal is None else replace(c, proposal=self.left[c.proposal]) for c in verdict.considered)
        reason = "; ".join(filter(None, (verdict.reason, self.told)))
        return replace(verdict, chosen=chosen, considered=considered, reason=reason, cost=verdict.cost + self.cost)


def judged_alone(problem: Problem[P], stage: GradientStage[P, S], proposals: Proposals, steps: int, *, seed: int) -> JudgedAlone:
    """Return which proposals are left: those with class lines that win with no label in training, and all others.

    Args:
        steps: how far they walk, and what is there without them.
    """
    left, told, cost = list[int](), list[tuple[float, float]](), Cost()
    for i, proposal in enumerate(proposals):
        if not has_lines(proposal.fields) or not isinstance(problem, JudgesAlone):
            left.append(i)
            continue
        try:
            (own, without), spent = _scores(problem, stage, proposal.fields, steps, seed_for(seed, "alone", i))
        except (CodecError, ProblemError):  # nothing can be walked on: not better
            continue
        cost += spent
        told.append((own.loss, without.loss))
        if own.loss < without.loss:
            left.append(i)
    if not told:
        return JudgedAlone(tuple(left), "", cost)
    if isinstance(problem, Prefills):  # those that are left are looked at once more, and counted then
        cost += problem.prefill_cost([proposal.params for i, proposal in enumerate(proposals) if i not in left], [])
    best, without_any = min(told)
    return JudgedAlone(tuple(left), f"{ALONE} log-loss {best:.3f} with them, {without_any:.3f} without", cost)


def _scores(
    problem: JudgesAlone[Any], stage: GradientStage[Any, Any], fields: Mapping[str, str], steps: int, seed: int
) -> tuple[tuple[Score, ...], Cost]:
    """Return the score of what fields say, and of what is there without them, each after so many steps; and what it cost."""
    apart, encoded = problem.without_labels(fields)
    start = stage.init(apart, apart.initial(seed), seed=seed)
    ends, cost = [], encoded.cost
    for state in (stage.restart(start, encoded.params, seed=seed), start):
        for _ in range(steps):
            state, observation = stage.step(apart, state)
            cost += observation.cost
        ends.append(state.params)
    scores = score_all(apart, ends, "select")
    return scores, sum((score.cost for score in scores), cost)
