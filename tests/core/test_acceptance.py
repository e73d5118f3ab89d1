"""The acceptance rules, on a function whose losses can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from maao.core.acceptance import AlwaysFirst, BestOf, IfBetter, Interpolate, Race, scores_by_age
from maao.core.loop import alternate
from maao.core.plan import UNTUNED
from maao.errors import ConfigError, ProblemError
from maao.optimizers.torch import TorchStage
from maao.types import Advice, Clues, Cost, Leg, Proposal, Score

STAGE = TorchStage("SGD", lr=0.25, max_grad_norm=None)  # on x^2 each step halves x


@dataclass(frozen=True)
class Square:
    """``x^2``, begun at 8. Where `nan_above` is passed, losses are not numbers; `scored` records which points were scored."""

    nan_above: float = math.inf
    scored: list = field(default_factory=list)

    def initial(self, seed):
        return {"x": torch.tensor([8.0], dtype=torch.float64)}

    def batch(self, step, seed):
        return None

    def loss(self, params, batch):
        x = params["x"]
        return (x**2).sum() if float(x.detach()) <= self.nan_above else (x * math.nan).sum()

    def num_tokens(self, params, batch):
        return 1

    def score(self, points, split):
        self.scored.extend(float(params["x"]) for params in points)
        return tuple(Score(float(self.loss(params, None)), {}, 1, Cost(selection_evals=1)) for params in points)

    def clues(self, params, *, start=None, score=None):
        return Clues()


@dataclass(frozen=True)
class Proposes:
    """Proposes these points each time it is asked."""

    values: tuple[float, ...]

    def propose(self, history, *, count, seed):
        return Advice(tuple(Proposal(str(v), {"x": torch.tensor([v], dtype=torch.float64)}, "test") for v in self.values))


def at(*values):
    return Proposes(values).propose((), count=9, seed=0).proposals


def judge(rule, *values, history=(), problem=None):
    problem = problem or Square()
    state = history[-1].state if history else STAGE.init(problem, problem.initial(0), seed=0)
    return rule(problem, STAGE, history, state, at(*values), seed=0)


def walked(*legs, mentor=None, rule=None, problem=None):
    return tuple(alternate(problem or Square(), STAGE, mentor or Proposes((9.0,)), plan=legs, accept=rule or AlwaysFirst(), seed=0))


# -- always_first, best_of


def test_always_first_takes_the_first_whatever_it_is_worth():
    problem = Square()
    verdict = judge(AlwaysFirst(), 100.0, 1.0, problem=problem)
    assert (verdict.chosen, float(verdict.state.params["x"]), problem.scored) == (0, 100.0, [])


def test_best_of_takes_the_lowest_loss_and_gives_the_incumbent_up():
    verdict = judge(BestOf(), 100.0, 20.0, 30.0)
    assert (verdict.chosen, float(verdict.state.params["x"])) == (1, 20.0)


def test_best_of_gives_ties_to_the_earlier_proposal():
    assert judge(BestOf(), 5.0, -3.0, 3.0).chosen == 1


@pytest.mark.parametrize("rule", [BestOf(), IfBetter(), Race(2), Interpolate(1.0), Interpolate(1.0, Race(2))], ids=repr)
def test_a_loss_that_is_not_a_number_never_wins(rule):
    verdict = judge(rule, 50.0, 1.0, 60.0, problem=Square(nan_above=20.0))
    assert verdict.chosen == 1


@pytest.mark.parametrize("rule", [BestOf(), IfBetter(), Race(2), Interpolate(1.0), Interpolate(1.0, Race(2))], ids=repr)
def test_where_no_proposal_has_a_number_the_incumbent_goes_on(rule):
    verdict = judge(rule, 50.0, 60.0, problem=Square(nan_above=20.0))
    assert verdict.chosen is None and verdict.reason


@pytest.mark.parametrize("rule", [IfBetter(), Race(2)], ids=repr)
def test_an_incumbent_without_a_number_gives_way(rule):
    problem = Square(nan_above=9.0)
    (untuned,) = walked(UNTUNED, problem=problem)
    lost = replace(untuned, score=Score(math.nan), state=replace(untuned.state, age=2))
    assert judge(rule, 4.0, history=(lost,), problem=problem).chosen == 0


# -- if_better


@pytest.mark.parametrize(("proposed", "chosen"), [(7.9, 0), (8.0, None), (8.1, None)])
def test_if_better_moves_only_below_the_incumbents_loss(proposed, chosen):
    assert judge(IfBetter(), proposed).chosen == chosen


def test_if_better_uses_the_recorded_score_of_the_incumbent():
    problem = Square()
    history = walked(UNTUNED, problem=problem)
    problem.scored.clear()
    verdict = judge(IfBetter(), 7.0, history=history, problem=problem)
    assert problem.scored == [7.0] and verdict.cost.selection_evals == 1 and len(verdict.considered) == 2


def test_if_better_never_loses_ground():
    history = walked(UNTUNED, *[Leg(2, ask=True)] * 4, mentor=Proposes((5.0, 0.9, 20.0)), rule=IfBetter())
    losses = [r.score.loss for r in history]
    assert losses == sorted(losses, reverse=True)
    assert {r.verdict.chosen for r in history} == {None, 1}  # it moved, and it declined to


# -- interpolate


@pytest.mark.parametrize("weight", [0.1, 0.25, 0.5, 1.0])
def test_interpolate_moves_exactly_that_part_of_the_way(weight):
    verdict = judge(Interpolate(weight), 100.0)
    assert float(verdict.state.params["x"]) == (1 - weight) * 8.0 + weight * 100.0


def test_interpolate_judges_the_blends_and_not_the_proposals():
    problem = Square()
    verdict = judge(Interpolate(0.5), -8.0, 0.0, problem=problem)  # blends 0 and 4: the proposals alone would be ranked the other way
    assert (verdict.chosen, problem.scored) == (0, [0.0, 4.0])


def test_interpolate_leaves_values_that_a_proposal_does_not_name():
    state = STAGE.init(Square(), {"x": torch.tensor([8.0]), "head": torch.tensor([3.0])}, seed=0)
    named = (Proposal("0", {"x": torch.tensor([0.0])}, "test"),)
    verdict = Interpolate(0.5, AlwaysFirst())(Square(), STAGE, (), state, named, seed=0)
    assert {name: float(value) for name, value in verdict.state.params.items()} == {"x": 4.0, "head": 3.0}


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, math.nan])
def test_interpolate_refuses_a_weight_outside_its_range(weight):
    with pytest.raises(ConfigError, match=r"accept\.weight"):
        Interpolate(weight)


# -- race


def test_race_compares_an_older_incumbent_by_its_score_at_that_age():
    """x is 8 at age 0, 2 at age 2, 0.5 at age 4. A proposal of 7 stands at 1.75 at age 2: it wins there, though 0.5 is lower by now."""
    history = walked(UNTUNED, Leg(2), Leg(2))
    verdict = judge(Race(2), 7.0, history=history)
    assert (verdict.chosen, float(verdict.state.params["x"]), verdict.state.age) == (0, 1.75, 2)
    assert verdict.considered[0].score.loss == 4.0 and verdict.cost.gradient_steps == 2


def test_race_walks_an_incumbent_without_a_record_at_that_age_again():
    """x is 8 at age 0, 2 at age 2 (of which nothing is recorded), 1 at age 3. It is walked again from the start, and stays where it is."""
    history = walked(UNTUNED, Leg(3), Leg(1))
    verdict = judge(Race(2), 9.0, history=history)
    assert (verdict.considered[0].age, verdict.considered[0].score.loss) == (2, 4.0)
    assert verdict.chosen is None and verdict.state is history[-1].state
    assert verdict.cost == Cost(gradient_steps=2 + 2, model_tokens=2 * 4, selection_evals=2)
    assert verdict.cost.gradient_steps <= Race(2).max_steps(1)


def test_race_walks_on_from_the_last_stored_point_that_is_young_enough():
    history = walked(UNTUNED, Leg(2), Leg(2))
    verdict = judge(Race(3), 100.0, history=history)
    assert (verdict.considered[0].age, verdict.considered[0].score.loss) == (3, 1.0)
    assert verdict.cost.gradient_steps == 1 + 3


def test_race_without_a_point_of_the_incumbents_walk_says_so():
    state = walked(UNTUNED, Leg(3))[-1].state
    with pytest.raises(ProblemError, match="Give the race the history"):
        Race(1)(Square(), STAGE, (), state, at(1.0), seed=0)


def test_race_keeps_an_incumbent_as_it_is_now():
    history = walked(UNTUNED, Leg(2), Leg(2))
    verdict = judge(Race(2), 9.0, history=history)
    assert verdict.chosen is None and verdict.state is history[-1].state


def test_race_walks_a_younger_incumbent_on_to_the_same_age():
    history = walked(UNTUNED, Leg(1))
    verdict = judge(Race(3), 100.0, history=history)
    assert (verdict.chosen, float(verdict.state.params["x"]), verdict.state.age) == (None, 1.0, 3)
    assert verdict.cost.gradient_steps == 2 + 3


def test_race_looks_at_the_present_walk_only():
    """The walk of the incumbent began at its last restart: what was recorded before does not speak of it."""
    history = walked(UNTUNED, Leg(4), Leg(1, ask=True), mentor=Proposes((6.0,)))
    assert [(c.age, c.score.loss) for c in scores_by_age(history)] == [(1, 9.0)]
    assert judge(Race(2), 100.0, history=history).considered[0].score.loss == 2.25


def test_race_remembers_the_age_at_which_a_winner_was_scored():
    history = walked(UNTUNED, Leg(2, ask=True), mentor=Proposes((4.0,)), rule=Race(2))
    assert [(c.age, c.score.loss) for c in scores_by_age(history)] == [(2, 1.0), (4, 0.0625)]


def test_race_gives_ties_to_the_incumbent():
    assert judge(Race(2), 8.0, -8.0).chosen is None


def test_race_gives_ties_among_proposals_to_the_earlier():
    assert judge(Race(1), -2.0, 2.0).chosen == 0


@pytest.mark.parametrize(("margin", "chosen"), [(0.0, 0), (0.9, 0), (1.1, None)])
def test_race_asks_for_the_margin(margin, chosen):
    """After a step from 8 the loss is 16, from 7.745967 it is 15."""
    assert judge(Race(1, margin), math.sqrt(60), history=()).chosen == chosen


def test_race_goes_on_when_a_proposal_cannot_be_walked_from():
    verdict = judge(Race(1), 50.0, 1.0, problem=Square(nan_above=20.0))
    assert [c.proposal for c in verdict.considered] == [None, 1]
    assert verdict.cost.gradient_steps == 3


@pytest.mark.parametrize(("share", "chosen"), [(0.0, 0), (0.06, 0), (0.07, None)])
def test_race_asks_for_a_share_of_the_incumbents_loss(share, chosen):
    """The same points: 15 is a sixteenth below 16."""
    assert judge(Race(1, share=share), math.sqrt(60), history=()).chosen == chosen


@pytest.mark.parametrize(("asked", "margin", "chosen"), [(4.0, 0.0, None), (9.0, 0.0, 0), (9.0, 1.1, None)])
def test_race_asks_for_a_share_only_of_the_incumbents_that_it_is_asked_of(asked, margin, chosen):
    """The incumbent has walked from 8 to 4. What it is not asked of is beaten by the margin alone."""
    rule = Race(1, margin, share=0.07, asks_share=lambda params: float(params["x"]) == asked)
    assert judge(rule, math.sqrt(60), history=()).chosen == chosen


@pytest.mark.parametrize(("steps", "margin"), [(0, 0.0), (3, -1.0)])
def test_race_refuses_settings_that_make_no_race(steps, margin):
    with pytest.raises(ConfigError, match="race needs"):
        Race(steps, margin)


def test_halving_walks_only_the_better_half_on():
    """Each step halves x: at age 1 the proposals 6, 4, 2, 1 stand at 3, 2, 1, 0.5; the last two go on to age 3, at 0.25 and 0.125."""
    verdict = judge(Race(3, rungs=(1,)), 6.0, 4.0, 2.0, 1.0, history=())
    assert [(c.proposal, c.age, c.score.loss) for c in verdict.considered] == [
        (None, 3, 1.0),
        *[(0, 1, 9.0), (1, 1, 4.0), (2, 1, 1.0), (3, 1, 0.25)],
        *[(2, 3, 0.0625), (3, 3, 0.015625)],
    ]
    assert (verdict.chosen, verdict.state.age) == (3, 3)
    assert verdict.cost.gradient_steps == 3 + 4 * 1 + 2 * 2 <= Race(3, rungs=(1,)).max_steps(4)
    assert verdict.cost.selection_evals == len(verdict.considered)


def test_halving_before_the_first_step_judges_unwalked_starts():
    verdict = judge(Race(2, rungs=(0,)), 1.0, 4.0, history=())
    assert [(c.proposal, c.age) for c in verdict.considered] == [(None, 2), (0, 0), (1, 0), (0, 2)]


@pytest.mark.parametrize("rungs", [(2, 1), (1, 1), (3,), (-1,)])
def test_rungs_that_are_no_ages_of_the_race_are_refused(rungs):
    with pytest.raises(ConfigError, match=r"accept\.rungs"):
        Race(3, rungs=rungs)


@dataclass(frozen=True)
class WithHead(Square):
    """``(x - h)^2``: `h` is what a proposal does not name."""

    def initial(self, seed):
        return {**super().initial(seed), "h": torch.tensor([0.0], dtype=torch.float64)}

    def loss(self, params, batch):
        return ((params["x"] - params["h"]) ** 2).sum()


def test_race_begins_what_a_proposal_does_not_name_where_the_incumbent_began():
    problem, slow = WithHead(), TorchStage("SGD", lr=0.05, max_grad_norm=None)
    mentor, plan = Proposes((9.0,)), (UNTUNED, Leg(3))
    history = tuple(alternate(problem, slow, mentor, plan=plan, accept=AlwaysFirst(), seed=0))
    state = history[-1].state
    assert float(state.params["h"]) != 0.0  # the incumbent's has been trained
    verdict = Race(1)(problem, slow, history, state, at(0.5), seed=0)
    assert verdict.chosen == 0
    assert float(verdict.state.start["h"]) == 0.0 and float(verdict.state.start["x"]) == 0.5


def test_race_says_which_proposal_could_not_be_walked_and_why():
    problem = Square(nan_above=100.0)
    state = STAGE.init(problem, problem.initial(0), seed=0)
    verdict = Race(1)(problem, STAGE, (), state, at(1000.0, 1.0), seed=0)
    assert verdict.chosen == 1
    assert "proposal 0 is out" in verdict.reason and "nan" in verdict.reason
