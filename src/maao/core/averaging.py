"""Keeping all walks: what a run walked is averaged at its end, in place of all but the best being thrown away.

A race walks several starts and goes on with one; a walk that a restart ends was walked as well. Every walk is represented by the best of
its points that were scored on `select`, which are on record. At the end of a run they become one point (picked on `select`), which reads an
input by the mean of what they say. So the run walks exactly as it would otherwise, no step is added, and every mentor and control is
treated alike; what is added are evaluations on `select`, one of each walk and one of the average.

The average is the point that is reported, whatever it scores: it is declared beforehand, and compared with nothing.

Source: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017 (members from
other starts); Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004 (the best on a held-out split are the members).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.protocols import Averages, GradientStage, History, Problem
from maao.types import Advice, Clues, Cost, Leg, P, Round, S, Score, Verdict

Key = tuple[int, int | None]  # where a walk began: the round, and which proposal (None: the run's own start)

CLOSING = Leg(steps=0, closing=True)


@dataclass(frozen=True, slots=True)
class Walk(Generic[P]):
    """A walk by the best of its points: `round` and `proposal` say where it began (None: where the run began), `age` how far it was."""

    params: P
    score: Score
    age: int
    round: int
    proposal: int | None


def walks(history: History[P, S]) -> tuple[Walk[P], ...]:
    """Return every walk of a run by its best scored point, the best walk first. Points that took no step are none.

    Ties go to the earlier; what scored no number is left out.
    """
    best: dict[Key, Walk[P]] = {}
    for key, point in _points(history):
        if math.isfinite(point.score.loss) and (key not in best or point.score.loss < best[key].score.loss):
            best[key] = point
    return tuple(sorted(best.values(), key=lambda walk: walk.score.loss))


def _points(history: History[P, S]) -> Iterator[tuple[Key, Walk[P]]]:
    """Give the scored points of all walks that are on record whole, in the order of scoring."""
    current: Key = (0, None)
    for r in walked(history):
        for c in r.verdict.considered:
            key = current if c.proposal is None else (r.index, c.proposal)
            if c.params is not None and c.age > 0:
                yield key, Walk(c.params, c.score, c.age, *key)
        if r.verdict.chosen is not None:
            current = (r.index, r.verdict.chosen)
        if r.state.age > 0:
            yield current, Walk(r.state.params, r.score, r.state.age, *current)


def walked(history: History[P, S]) -> History[P, S]:
    """Return the rounds of a history without the one that closes it."""
    return history[:-1] if is_closed(history) else history


def is_closed(history: History[P, S]) -> bool:
    """Say whether a run's walks are averaged already."""
    return bool(history) and history[-1].leg.closing


def close(
    problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], *, members: int, uniform: bool, seed: int
) -> Round[P, S] | None:
    """Return the round that closes a run: its walks averaged; None where there are no two to average.

    Args:
        history: the finished rounds, of a rule that keeps the points it looked at.
        members: how many members the average has. Each is picked as the walk that lowers the loss of the average on `select` most, so
            that a walk may be picked again and counts more.
        uniform: the best walks instead, so many at most, each counted once.
    """
    began = time.perf_counter()
    found = walks(history)
    if len(found) < 2 or not isinstance(problem, Averages):
        return None
    points = [walk.params for walk in found]
    counts, picking = (tuple(int(i < members) for i in range(len(found))), Cost()) if uniform else problem.pick(points, members)
    used = [(walk, count) for walk, count in zip(found, counts, strict=True) if count]
    params: P = problem.average([walk.params for walk, _ in used], [count for _, count in used])
    (score,) = score_all(problem, [params], "select")
    state = stage.restart(history[-1].state, params, seed=seed_for(seed, "average"))
    state = replace(state, params=params, start=params)  # type: ignore[type-var]  # a restart keeps what is not named, such as a template
    verdict = Verdict(state, None, (), _told(used, len(found)), picking)
    cost = picking + score.cost + Cost(seconds=time.perf_counter() - began)
    return Round(len(history), CLOSING, Advice(), verdict, (), score, Clues(), state, cost)


def _told(used: Sequence[tuple[Walk[P], int]], all_walks: int) -> str:
    """Say which walks are averaged."""
    each = ", ".join(
        f"{_name(walk)} at age {walk.age} ({walk.score.loss:.3f}{f', {count} times' if count > 1 else ''})" for walk, count in used
    )
    return f"the average of {len(used)} of {all_walks} walks: {each}"


def _name(walk: Walk[P]) -> str:
    return "the first" if walk.proposal is None else f"proposal {walk.proposal} of round {walk.round}"
