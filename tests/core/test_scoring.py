"""Several points are scored together where a problem can."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from maao.core.acceptance import BestOf, IfBetter, Race
from maao.core.scoring import score_all
from maao.errors import ProblemError
from maao.types import Cost, Score
from tests.core.test_acceptance import Square, at, judge


@dataclass(frozen=True)
class Together(Square):
    """``x^2``, whose points are scored together for less."""

    asked: list = field(default_factory=list)

    def score(self, points, split):
        self.asked.append((len(points), split))
        return tuple(Score(float(p["x"]) ** 2, {}, 1, Cost(selection_evals=1, model_tokens=1)) for p in points)


def points(*values):
    return [proposal.params for proposal in at(*values)]


@pytest.mark.parametrize("problem", [Square(), Together()], ids=["one by one", "together"])
def test_scores_come_in_the_order_of_the_points(problem):
    assert [score.loss for score in score_all(problem, points(3.0, 1.0, 2.0), "select")] == [9.0, 1.0, 4.0]
    assert score_all(problem, [], "select") == ()


def test_one_point_is_scored_too():
    problem = Together()
    assert score_all(problem, points(3.0), "test")[0].loss == 9.0
    assert problem.asked == [(1, "test")]


@pytest.mark.parametrize("rule", [BestOf(), IfBetter()], ids=repr)
def test_the_rules_score_all_candidates_in_one_call_and_what_they_cost_adds_up(rule):
    problem = Together()
    verdict = judge(rule, 5.0, 2.0, 7.0, problem=problem)
    incumbent = [(1, "select")] if isinstance(rule, IfBetter) else []  # which if_better looks at as well
    assert verdict.chosen == 1 and problem.asked == [*incumbent, (3, "select")]
    assert verdict.cost.model_tokens == verdict.cost.selection_evals == len(verdict.considered) == 3 + len(incumbent)


def test_a_score_too_few_is_refused():
    class Short(Square):
        def score(self, points, split):
            return (Score(1.0),)

    with pytest.raises(ProblemError, match=r"Short.score gave 1 scores for 2 points"):
        score_all(Short(), points(1.0, 2.0), "select")


def test_a_race_scores_all_that_walked_in_one_call():
    problem = Together()
    verdict = judge(Race(2), 5.0, 2.0, 7.0, problem=problem)
    assert problem.asked == [(4, "select")]  # the incumbent, younger than the race, has walked too
    assert (verdict.chosen, verdict.cost.selection_evals, verdict.cost.gradient_steps) == (1, 4, 8)
    assert [(c.proposal, c.score.loss) for c in verdict.considered] == [(None, 4.0), (0, 25 / 16), (1, 0.25), (2, 49 / 16)]
