"""Plans, what a budget leaves of them, and seeds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.core.acceptance import BestOf, Race
from maao.core.budget import Budget, Clock, cut
from maao.core.plan import UNTUNED, after_epochs, rounds, walk
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.types import Leg

LEGS = st.lists(st.builds(Leg, st.integers(0, 20), ask=st.booleans(), proposals=st.integers(1, 4)), max_size=8).map(tuple)
RULES = st.one_of(st.just(BestOf()), st.builds(Race, st.integers(1, 5)))

GOLDEN_SEEDS = [3456079177858693020, 2331052326859358921, 9017786801053569391]


def most_steps(plan, accept):
    return sum(leg.steps + (accept.max_steps(leg.proposals) if leg.ask else 0) for leg in plan)


# -- plans


def test_rounds_walk_once_before_the_mentor_is_first_asked():
    assert rounds(2, steps=5) == (UNTUNED, Leg(5), Leg(5, ask=True), Leg(5, ask=True))


def test_rounds_can_ask_before_the_first_walk():
    assert rounds(2, steps=5, first="ask") == (UNTUNED, Leg(5, ask=True), Leg(5, ask=True))


def test_only_the_first_leg_of_a_stored_walk_asks():
    asked = rounds(1, steps=5, store_every=2, proposals=4, keep_every=3)[4:]
    assert asked == (Leg(2, True, 4, 3), Leg(2, False, 4, 3), Leg(1, False, 4, 3))


def test_no_round_is_plain_prompt_tuning():
    assert rounds(0, steps=7) == (UNTUNED, Leg(7))


@given(steps=st.integers(1, 60), store_every=st.integers(0, 70))
def test_a_walk_has_all_its_steps_however_it_is_stored(steps, store_every):
    plan = walk(steps, store_every=store_every)
    assert sum(leg.steps for leg in plan) == steps
    assert all(0 < leg.steps <= (store_every or steps) for leg in plan)


def test_released_schedule_is_one_leg_an_epoch_and_a_tail():
    plan = after_epochs((0, 1, 2), epochs=20, steps_per_epoch=35)
    assert len(plan) == 20 and {leg.steps for leg in plan} == {35}
    assert [i for i, leg in enumerate(plan) if leg.ask] == [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: walk(0), "at least one gradient step"),
        (lambda: walk(5, store_every=-1), "must not be negative"),
        (lambda: walk(5, proposals=0), "at least 1"),
        (lambda: rounds(-1, steps=5), "cannot have -1 rounds"),
        (lambda: rounds(0, steps=5, first="ask"), "use 1 or more"),
        (lambda: rounds(2, steps=0), "plan.steps"),
        (lambda: after_epochs((0,), epochs=0, steps_per_epoch=3), "at least one epoch"),
        (lambda: after_epochs((0,), epochs=3, steps_per_epoch=0), "at least one epoch"),
        (lambda: after_epochs((0, 2), epochs=3, steps_per_epoch=3), r"after epochs \[2\].*name epochs 0 to 1"),
        (lambda: after_epochs((-1,), epochs=3, steps_per_epoch=3), r"after epochs \[-1\]"),
    ],
)
def test_impossible_plan_is_refused_in_words(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


# -- budgets


@given(plan=LEGS, budget=st.integers(1, 120), accept=RULES)
def test_a_cut_plan_never_exceeds_the_budget(plan, budget, accept):
    try:
        kept = cut(plan, budget, accept)
    except ConfigError:
        return
    assert most_steps(kept, accept) <= budget


@given(plan=LEGS, budget=st.integers(1, 120), accept=RULES)
def test_a_cut_plan_is_a_beginning_with_at_most_its_last_leg_shortened(plan, budget, accept):
    try:
        kept = cut(plan, budget, accept)
    except ConfigError:
        return
    assert kept[:-1] == plan[: len(kept) - 1]
    assert kept[-1].steps <= plan[len(kept) - 1].steps
    assert (kept[-1].ask, kept[-1].proposals) == (plan[len(kept) - 1].ask, plan[len(kept) - 1].proposals)


@given(plan=LEGS, budget=st.integers(1, 120), accept=RULES)
def test_a_cut_plan_could_not_be_longer(plan, budget, accept):
    try:
        kept = cut(plan, budget, accept)
    except ConfigError:
        return
    if kept != plan:
        left = budget - most_steps(kept, accept)
        shortened = kept[-1].steps < plan[len(kept) - 1].steps
        refused = plan[len(kept)] if not shortened else None
        assert left == 0 or (refused is not None and refused.ask and accept.max_steps(refused.proposals) >= left)


def test_the_last_leg_is_shortened():
    assert [leg.steps for leg in cut(rounds(1, steps=10), 14, BestOf())] == [0, 10, 4]


def test_a_race_is_paid_for_beforehand():
    assert [leg.steps for leg in cut(rounds(1, steps=10, proposals=2), 22, Race(2))] == [0, 10, 6]
    assert [leg.steps for leg in cut(rounds(1, steps=10, proposals=2), 16, Race(2))] == [0, 10]


def test_without_a_cap_the_plan_stays():
    assert cut(rounds(1, steps=10), None, BestOf()) == rounds(1, steps=10)


def test_budget_that_reaches_no_step_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"does not reach the first step.*budget\.gradient_steps"):
        cut((Leg(5, ask=True, proposals=3),), 8, Race(2))


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("gradient_steps", "leave it out"),
        ("seconds", "leave it out"),
        ("llm_calls", "mentor 'none'"),
        ("llm_tokens", "mentor 'none'"),
        ("usd", "mentor 'none'"),
    ],
)
def test_budget_of_nothing_is_refused_with_the_remedy(name, remedy, value):
    with pytest.raises(ConfigError, match=remedy):
        Budget(**{name: value})


def test_a_clock_counts_what_rounds_took_and_the_one_that_goes_on():
    times = iter([10.0, 12.0, 13.0, 50.0, 54.0])
    clock = Clock(9.0, 1.0, now=lambda: next(times))
    assert clock.left() == 8.0
    clock.begin()
    assert clock.left() == 6.0 and clock.end() == 3.0
    assert clock.left() == 5.0  # what passes between rounds does not count
    clock.begin()
    assert clock.end() == 4.0 and clock.left() == 1.0 and not clock.is_up


def test_a_clock_without_a_cap_is_never_up():
    clock = Clock()
    clock.begin()
    assert clock.left() == math.inf and not clock.is_up and not clock.has_cap


def test_the_time_that_was_spent_before_counts():
    assert Clock(9.0, 9.0).is_up and not Clock(9.0, 8.0).is_up


# -- seeds


def test_seeds_never_change():
    """Written down once: a change here would change every published run."""
    assert [seed_for(0), seed_for(0, "initial"), seed_for(7, "mentor", 3)] == GOLDEN_SEEDS


def test_seeds_are_numbers_that_every_generator_takes():
    assert all(0 <= seed_for(seed, "a") < 2**63 for seed in range(200))


def test_each_purpose_has_its_own_seed():
    purposes = [("mentor", 1), ("mentor", 11), ("accept", 1), ("stage",), ("initial",), ("epoch", 1, 1)]
    assert len({seed_for(seed, *purpose) for seed in range(20) for purpose in purposes}) == 20 * len(purposes)
