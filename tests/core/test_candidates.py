"""What races compared, read again from a history, on a function whose points can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maao.core.acceptance import AlwaysFirst, BestOf, Interpolate, Race
from maao.core.candidates import candidates
from maao.core.loop import alternate
from maao.core.plan import UNTUNED
from maao.errors import ProblemError
from maao.types import Considered, Leg
from tests.core.test_acceptance import STAGE, Proposes, Square


def run(*legs, rule, values=(4.0, -3.0), problem=None):
    return tuple(alternate(problem or Square(), STAGE, Proposes(values), plan=(UNTUNED, *legs), accept=rule, seed=0))


def found(history, rule, problem=None):
    """Return leg, proposal, age, point and whether it was chosen; each step halves a point, each score is its square."""
    each, _ = candidates(problem or Square(), STAGE, rule, history, seed=0)
    assert [c.score.loss for c in each] == [float(c.params["x"]) ** 2 for c in each]
    return [(c.leg, c.proposal, c.age, float(c.params["x"]), c.chosen) for c in each]


def test_each_candidate_is_where_it_was_compared_losers_too():
    rule = Race(1)
    history = run(Leg(1), Leg(1, ask=True), rule=rule)
    assert all(c.params is None for r in history for c in r.verdict.considered)
    # The run's own start 8 -> 4, on record at age 1; proposals 4 -> 2 and -3 -> -1.5, which wins.
    assert found(history, rule) == [(2, None, 1, 4.0, False), (2, 0, 1, 2.0, False), (2, 1, 1, -1.5, True)]


def test_an_incumbent_is_there_once_whatever_races_it_took_part_in():
    rule = Race(2)
    # Round 1: 8 -> 2 beside 20 -> 5 and 24 -> 6; kept. Round 2: it again, at age 2, where it is no longer. Then 16 -> 4 ...
    history = run(Leg(1, ask=True), Leg(1, ask=True), rule=rule, values=(20.0, 24.0))
    assert found(history, rule) == [
        (1, None, 2, 2.0, True),
        (1, 0, 2, 5.0, False),
        (1, 1, 2, 6.0, False),
        (2, 0, 2, 5.0, False),
        (2, 1, 2, 6.0, False),
    ]


def test_a_winner_is_the_incumbent_of_the_next_race_and_not_another_candidate():
    rule = Race(1)
    history = run(Leg(1, ask=True), Leg(1, ask=True), rule=rule, values=(4.0,))
    assert found(history, rule) == [(1, None, 1, 4.0, False), (1, 0, 1, 2.0, True), (2, 0, 1, 2.0, False)]


def test_an_incumbent_whose_score_at_that_age_is_not_on_record_is_walked_again():
    rule = Race(2)
    history = run(Leg(3), Leg(1, ask=True), rule=rule)
    assert found(history, rule) == [(2, None, 2, 2.0, False), (2, 0, 2, 1.0, False), (2, 1, 2, -0.75, True)]


def test_what_drops_out_at_a_rung_is_where_it_did_and_what_never_walked_is_none():
    rule = Race(3, rungs=(0, 1))
    history = run(Leg(1, ask=True, proposals=4), rule=rule, values=(4.0, -3.0, 6.0, 7.0))
    assert found(history, rule) == [
        (1, None, 3, 1.0, False),
        (1, 0, 1, 2.0, False),
        (1, 1, 3, -0.375, True),
    ]


def test_of_blends_the_blend_is_the_candidate():
    rule = Interpolate(0.5, Race(1))
    # Half of the way from 8 to 4 and to -3: 6 -> 3, 2.5 -> 1.25.
    history = run(Leg(1, ask=True), rule=rule)
    assert found(history, rule) == [(1, None, 1, 4.0, False), (1, 0, 1, 3.0, False), (1, 1, 1, 1.25, True)]


def test_what_no_step_can_be_made_from_is_no_candidate_and_walks_that_are_kept_are_read_alike():
    class Gives(Square):
        def loss(self, params, batch):
            if float(params["x"].detach()) == 100.0:
                raise ProblemError("no step from here")
            return super().loss(params, batch)

    rule = Race(1, keep_walks=True)
    history = run(Leg(1), Leg(1, ask=True), rule=rule, values=(100.0, 4.0), problem=Gives())
    assert found(history, rule, Gives()) == [(2, None, 1, 4.0, False), (2, 1, 1, 2.0, True)]


@pytest.mark.parametrize("rule", [AlwaysFirst(), BestOf(), Interpolate(0.5)], ids=repr)
def test_a_rule_that_walks_nothing_has_none(rule):
    assert found(run(Leg(1), Leg(1, ask=True), rule=rule), rule) == []


def test_it_costs_what_the_races_cost():
    rule = Race(2, rungs=(1,))
    history = run(Leg(1), Leg(1, ask=True), Leg(1, ask=True), rule=rule)
    _, cost = candidates(Square(), STAGE, rule, history, seed=0)
    assert cost == history[2].verdict.cost + history[3].verdict.cost and cost.gradient_steps > 0


@pytest.mark.parametrize("changed", ["score", "chosen", "count"])
def test_a_race_that_comes_out_otherwise_is_refused(changed):
    rule = Race(1)
    *before, last = run(Leg(1), Leg(1, ask=True), rule=rule)
    verdict, seen = last.verdict, last.verdict.considered
    other = {
        "score": replace(verdict, considered=(*seen[:2], replace(seen[2], score=replace(seen[2].score, loss=2.3)))),
        "chosen": replace(verdict, chosen=0),
        "count": replace(verdict, considered=(*seen, Considered(2, seen[2].score, 1))),
    }[changed]
    with pytest.raises(ProblemError, match="The race of round 2 comes out otherwise than it is on record"):
        found((*before, replace(last, verdict=other)), rule)
