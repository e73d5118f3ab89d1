"""A race compares at equal age, whatever the plan: the incumbent's score at that very age is recorded, or its walk is walked again."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maao
from maao.config import make_config
from maao.core.acceptance import Interpolate, Race
from maao.core.budget import cut
from maao.core.loop import alternate
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.store.digest import round_digest
from maao.types import Advice, Leg, Proposal, total_cost

PROBLEM = FunctionProblem("rastrigin")
STAGE = TorchStage(lr=0.05)


class Numbers:
    """Proposes points that differ from round to round, better and worse than the incumbent."""

    def propose(self, history, *, count, seed):
        generator = torch.Generator().manual_seed(seed)
        points = [4 * torch.rand(2, generator=generator, dtype=torch.float64) - 2 for _ in range(count)]
        return Advice(tuple(Proposal("", {"x": point}, "test") for point in points))


LEGS = st.builds(Leg, steps=st.integers(0, 7), ask=st.booleans(), proposals=st.integers(1, 4))
PLANS = st.lists(LEGS, min_size=1, max_size=6).filter(lambda legs: any(leg.steps for leg in legs)).map(tuple)
RACES = st.integers(1, 6).flatmap(
    lambda steps: st.builds(Race, st.just(steps), rungs=st.sets(st.integers(0, steps - 1), max_size=2).map(lambda r: tuple(sorted(r))))
)
RULES = st.one_of(RACES, st.builds(Interpolate, st.sampled_from([0.5, 1.0]), RACES))


def play(plan, rule, history=()):
    return (*history, *alternate(PROBLEM, STAGE, Numbers(), plan=plan, accept=rule, seed=0, history=history))


@settings(max_examples=40)
@given(plan=PLANS, rule=RULES)
def test_l13_a_race_compares_at_equal_age_in_any_plan(plan, rule):
    race = rule.rule if isinstance(rule, Interpolate) else rule
    steps = race.steps
    history = play(plan, rule)
    own_score = walked_to(steps)  # of the incumbent at that age: first of the walk from the beginning, then of what won the last race
    for r in (r for r in history if r.leg.ask):
        (own,) = [c for c in r.verdict.considered if c.proposal is None]
        assert (own.age, own.score.loss) == (steps, own_score)
        assert {c.age for c in r.verdict.considered} <= {steps, *race.rungs}
        assert r.verdict.reason.count(f"at age {steps}") == 2
        assert r.verdict.cost.gradient_steps <= rule.max_steps(len(r.advice.proposals))
        if r.verdict.chosen is not None:
            (own_score,) = [c.score.loss for c in r.verdict.considered if (c.proposal, c.age) == (r.verdict.chosen, steps)]


def walked_to(age):
    """Return the loss of the first walk at an age, walked by hand."""
    state = STAGE.init(PROBLEM, PROBLEM.initial(seed_for(0, "initial")), seed=seed_for(0, "stage"))
    for _ in range(age):
        state, _ = STAGE.step(PROBLEM, state)
    return PROBLEM.score([state.params], "select")[0].loss


@settings(max_examples=15)
@given(plan=PLANS, rule=RULES, cut_at=st.integers(0, 6))
def test_l13_a_race_that_is_gone_on_with_is_the_same_bit_for_bit(plan, rule, cut_at):
    whole = play(plan, rule)
    again = play(plan, rule, history=whole[:cut_at])
    serializer = TorchSerializer()
    assert [round_digest(r, serializer) for r in whole] == [round_digest(r, serializer) for r in again]


@settings(max_examples=30)
@given(plan=PLANS, rule=RACES, steps=st.integers(1, 60))
def test_l13_what_is_walked_again_counts_for_the_budget(plan, rule, steps):
    try:
        kept = cut(plan, steps, rule)
    except ConfigError:
        return
    assert total_cost(play(kept, rule)).gradient_steps <= steps


@pytest.mark.parametrize(("age", "missing"), [(2, 2), (5, 0), (6, 1), (8, 0), (9, 1)])
def test_l13_only_the_steps_that_are_missing_are_walked_again(age, missing):
    """The incumbent walks 5 and 3 steps: what is recorded at age 5 or 8 costs nothing."""
    plan = (Leg(0), Leg(5), Leg(3), Leg(0, ask=True, proposals=1))
    (verdict,) = [r.verdict for r in play(plan, Race(age)) if r.leg.ask]
    assert verdict.considered[0].score.loss == walked_to(age)
    assert verdict.cost.gradient_steps == missing + age
    assert verdict.cost.selection_evals == 1 + (missing > 0)


def test_l13_the_case_as_it_was_reported(tmp_path):
    """plan.steps = 8 and accept.steps = 2 said: won: incumbent at age 8, best proposal at age 2."""
    values = {
        "problem": "function",
        "threads": 1,
        "plan": {"rounds": 2, "steps": 8, "store_every": 0},
        "accept": {"steps": 2},
        "mentor": {"name": "random_restart"},
    }
    result = maao.run(make_config(values), tmp_path / "run")
    for r in (r for r in result.history if r.leg.ask):
        assert {c.age for c in r.verdict.considered} == {2}
        assert re.match(r"(won|kept): incumbent [\d.]+ at age 2, best proposal [\d.]+ at age 2", r.verdict.reason)
    assert maao.replay(tmp_path / "run").equal
