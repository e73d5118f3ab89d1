"""Early stopping, on histories whose losses are written down."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.core.patience import is_settled, last_best, until_settled
from maao.types import Leg, Score

WALK, ASK, LOOK = Leg(2), Leg(2, ask=True), Leg(0)


def history(plan, *losses, restarts=()):
    """Rounds of a plan that ended on these losses; those in `restarts` began from a proposal."""
    return tuple(
        SimpleNamespace(index=i, leg=leg, score=Score(loss), verdict=SimpleNamespace(chosen=0 if i in restarts else None))
        for i, (leg, loss) in enumerate(zip(plan, losses, strict=False))
    )


def ends_after(plan, *losses, patience, restarts=(), min_delta=0.0):
    """Return how many rounds are made; there must be a loss for every leg."""
    rounds = history(plan, *losses, restarts=restarts)
    assert len(rounds) == len(plan)
    return len(list(until_settled(iter(rounds), plan, patience=patience, min_delta=min_delta)))


# -- plain gradient descent


@pytest.mark.parametrize(("patience", "made"), [(0, 7), (1, 4), (2, 5), (3, 6), (4, 7)])
def test_a_walk_ends_after_so_many_legs_without_a_new_best(patience, made):
    assert ends_after((WALK,) * 7, 5.0, 4.0, 3.0, 3.0, 3.5, 4.0, 5.0, patience=patience) == made


def test_a_new_best_begins_the_count_anew():
    assert ends_after((WALK,) * 7, 5.0, 6.0, 4.0, 6.0, 3.0, 4.0, 4.0, patience=2) == 7


def test_legs_without_a_step_use_no_patience_up():
    assert ends_after((LOOK, LOOK, LOOK, WALK, WALK, WALK), 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, patience=2) == 5


def test_gains_below_min_delta_count_only_once_they_add_up():
    slow = (5.0, 4.9, 4.8, 4.7, 4.6)
    assert ends_after((WALK,) * 5, *slow, patience=2) == 5
    assert ends_after((WALK,) * 5, *slow, patience=2, min_delta=0.25) == 3
    assert ends_after((WALK,) * 5, *slow, patience=3, min_delta=0.25) == 5  # the fourth is 0.3 below the first


def test_a_loss_that_is_not_a_number_is_no_best():
    assert last_best(history((WALK,) * 3, math.nan, 4.0, math.nan)) == 1
    assert last_best(history((WALK,) * 2, math.nan, math.nan)) == -1
    assert ends_after((WALK,) * 4, math.nan, math.nan, math.nan, 1.0, patience=3) == 3


# -- with a mentor


def test_no_run_ends_before_the_mentors_turn():
    """The first walk stands still for two legs, but being stuck is what the mentor is asked for."""
    assert ends_after((WALK, WALK, WALK, ASK, WALK), 3.0, 4.0, 4.0, 2.0, 1.0, patience=1) == 5


def test_a_restart_is_given_its_whole_walk():
    plan = (WALK, WALK, ASK, WALK, WALK, ASK, WALK)
    assert ends_after(plan, 3.0, 4.0, 9.0, 8.0, 7.0, 6.0, 5.0, patience=2, restarts=(2,)) == 5  # and where it is over, the run ends
    assert ends_after(plan, 3.0, 4.0, 9.0, 8.0, 2.0, 6.0, 5.0, patience=3, restarts=(2,)) == 7  # it brought a new best at its end


def test_a_mentor_whose_restarts_bring_nothing_ends_the_run():
    plan = (WALK, *(ASK, WALK) * 5)
    losses = (1.0, *(9.0, 8.0) * 5)
    assert ends_after(plan, *losses, patience=4, restarts=(1, 3, 5, 7, 9)) == 5
    assert ends_after(plan, *losses, patience=4) == 5  # refused or taken: the best is as old


def test_after_the_mentors_last_turn_the_legs_are_counted_from_the_last_restart():
    plan = (WALK, WALK, ASK, WALK, WALK, WALK, WALK)
    losses = (1.0, 2.0, 9.0, 8.0, 7.0, 6.0, 5.0)
    assert ends_after(plan, *losses, patience=3, restarts=(2,)) == 5
    assert ends_after(plan, *losses, patience=3) == 4  # refused: the walk that stood still only went on


# -- resuming


LOSSES = st.lists(st.sampled_from([1.0, 2.0, 3.0, math.nan]), min_size=1, max_size=9)


@given(
    losses=LOSSES, asks=st.sets(st.integers(0, 8)), restarts=st.sets(st.integers(0, 8)), patience=st.integers(1, 4), cut=st.integers(0, 8)
)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(losses, asks, restarts, patience, cut):
    plan = tuple(Leg(2, ask=i in asks) for i in range(len(losses)))
    rounds = history(plan, *losses, restarts=restarts & asks)
    whole = list(until_settled(iter(rounds), plan, patience=patience))
    done = tuple(whole[:cut])
    again = [*done, *until_settled(iter(rounds[len(done) :]), plan, patience=patience, history=done)]
    assert again == whole
    assert is_settled(tuple(whole), plan, patience=patience) or len(whole) == len(plan)


def test_no_leg_is_started_where_the_run_is_settled_already():
    def none():
        raise AssertionError("a leg was started")
        yield

    plan = (WALK,) * 5
    assert list(until_settled(none(), plan, patience=2, history=history(plan, 1.0, 2.0, 2.0))) == []
