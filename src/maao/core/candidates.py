"""What a run walked and a rule compared, those that lost too: each candidate at the point by which it was compared.

A run stores the scores of what its rule looked at, and not the points of the losers. They are functions of what is stored (the proposals,
the point to fall back on, the seeds), so the rule is asked again: it walks the same walks, and now keeps the points. Nothing of the run is
changed by that, and what it costs is no part of the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic

from maao.core.acceptance import Interpolate, Race, race_in
from maao.core.averaging import Key
from maao.core.loop import TAKEN_BACK, judge, standing
from maao.errors import ProblemError
from maao.protocols import Acceptance, GradientStage, History, Problem
from maao.types import Considered, Cost, P, Round, S, Score, Verdict

CLOSE = 1e-3  # share by which a loss may differ when it is walked again: on the CPU none does, other devices may sum in another order


@dataclass(frozen=True, slots=True)
class Candidate(Generic[P]):
    """A walk by the point at which a race compared it; of a proposal that dropped out at a rung, the point where it did.

    `leg` is the round that asked, `proposal` its place among the proposals (None: the incumbent), `score` that on `select`, `age` how far
    it had walked, and `chosen` whether that race went on with it.
    """

    leg: int
    proposal: int | None
    params: P
    score: Score
    age: int
    chosen: bool


def candidates(
    problem: Problem[P], stage: GradientStage[P, S], accept: Acceptance[P, S], history: History[P, S], *, seed: int
) -> tuple[tuple[Candidate[P], ...], Cost]:
    """Return what the races of a run compared, in their order, and what it cost to walk it again.

    A walk that several races compared (the incumbent's, most often) is there once, where it came first. A proposal that took no step (it
    dropped out before, or none can be made from it) has not walked, and is left out. Rules that are no race, by itself or of blends, walk
    nothing: there are none.

    Args:
        history: the finished rounds of a run of these very parts, from its beginning. `seed` is its seed.

    Raises:
        ProblemError: a race comes out otherwise than it is on record.
    """
    race = race_in(accept)
    if race is None:
        return (), Cost()
    keeping = _keeping(accept, race)
    found: dict[Key, Candidate[P]] = {}
    current: Key = (0, None)
    cost = Cost()
    for r in history:
        if r.leg.ask and r.advice.proposals and not r.leg.unjudged:
            before = history[: r.index]
            state = standing(problem, stage, before, seed=seed)
            again = judge(problem, stage, keeping, before, state, r.advice, seed=seed)
            _check_same(r, again)
            cost += again.cost
            for c in _ends(again.considered):
                key = current if c.proposal is None else (r.index, c.proposal)
                # Without params it is an incumbent whose score at that age is on record, and so is the point, unless it is here already.
                params = race.last_before(before, state).params if c.params is None else c.params
                found.setdefault(key, Candidate(r.index, c.proposal, params, c.score, c.age, c.proposal == again.chosen))
        if r.verdict.chosen is not None:
            current = (r.index, r.verdict.chosen)
    return tuple(found.values()), cost


def _keeping(rule: Acceptance[P, S], race: Race) -> Acceptance[P, S]:
    """Return a rule whose race keeps the points that it compares."""
    kept = replace(race, keep_walks=True)
    return replace(rule, rule=kept) if isinstance(rule, Interpolate) else kept


def _ends(considered: Sequence[Considered[P]]) -> list[Considered[P]]:
    """Return the last look at each candidate that walked, in the order of their first look: at rungs there are several at one."""
    return [c for c in {c.proposal: c for c in considered}.values() if c.age > 0]


def _check_same(r: Round[P, S], again: Verdict[S]) -> None:
    """Refuse a race that came out otherwise than it is on record."""
    stored = r.verdict

    def equal(a: Considered[P], b: Considered[P]) -> bool:
        same = a.score.loss == b.score.loss or (math.isnan(a.score.loss) and math.isnan(b.score.loss))
        return (a.proposal, a.age) == (b.proposal, b.age) and (same or math.isclose(a.score.loss, b.score.loss, rel_tol=CLOSE))

    pairs = zip(stored.considered, again.considered, strict=False)
    chosen = again.chosen if TAKEN_BACK in stored.reason else stored.chosen
    if len(stored.considered) != len(again.considered) or chosen != again.chosen or not all(equal(a, b) for a, b in pairs):
        raise ProblemError(
            f"The race of round {r.index} comes out otherwise than it is on record ({again.reason}; on record: {stored.reason}): its walks "
            "cannot be read again. Has something changed since, or does this device not repeat its sums?"
        )
