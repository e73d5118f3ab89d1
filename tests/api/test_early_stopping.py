"""A run that brings nothing new ends, keeps its best point, says so, and is resumed and replayed to the same."""

from __future__ import annotations

import pytest

import maao
from maao.config import make_config
from maao.errors import ConfigError
from tests.api.small_runs import StopAt, digests


def settings(**plan):
    """Rastrigin from one basin: the walk settles within some ten steps and then swings."""
    return {
        "problem": "function",
        "mentor": {"name": "none"},
        "stage": {"lr": 0.05, "max_grad_norm": 0},
        "plan": {"rounds": 0, "steps": 200, "store_every": 5, **plan},
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return maao.run(make_config(settings(patience=3, min_delta=1e-3)), tmp_path_factory.mktemp("early") / "run")


def test_the_run_ends_early_and_says_why(stopped):
    best = stopped.history[-4]
    assert stopped.status == "finished" and 5 < len(stopped.history) < 41
    told = f"early stopping ended it after round {len(stopped.history) - 1}: 3 legs without a new best on select since round {best.index}"
    assert stopped.status_reason == told


def test_the_legs_are_those_of_the_whole_run_and_the_best_is_kept(stopped, tmp_path):
    whole = maao.run(make_config(settings()), tmp_path / "whole")
    assert len(whole.history) == 41 and whole.status_reason == ""
    assert digests(stopped)[:-1] == digests(whole)[: len(stopped.history)]
    assert stopped.chosen.score.loss == min(r.score.loss for r in stopped.history)


def test_it_is_replayed_to_the_same_and_returned_as_it_is(stopped):
    found = maao.replay(stopped.folder)
    assert found.equal and found.rounds == len(stopped.history)
    assert digests(maao.resume(stopped.folder)) == digests(stopped)


@pytest.mark.parametrize("before_the_end", [1, 2, 4])
def test_a_stopped_run_goes_on_to_the_same_end(stopped, tmp_path, before_the_end):
    stop = StopAt(len(stopped.history) - before_the_end)
    with pytest.raises(KeyboardInterrupt):
        maao.run(make_config(settings(patience=3, min_delta=1e-3)), tmp_path / "run", watch=stop)
    result = maao.resume(tmp_path / "run")
    assert (digests(result), result.status_reason) == (digests(stopped), stopped.status_reason)


def test_no_run_ends_before_the_mentors_turn(tmp_path):
    values = settings(rounds=2, steps=60, patience=1, min_delta=1e9)  # nothing is ever better by so much
    values["mentor"] = {"name": "random_restart"}
    result = maao.run(make_config(values), tmp_path / "run")
    assert [r.leg.ask for r in result.history].count(True) == 1 and len(result.history) == 1 + 12 + 12
    assert maao.replay(result.folder).equal


def test_time_that_ends_a_run_is_not_called_patience(tmp_path):
    values = settings(patience=3)
    values["budget"] = {"seconds": 1e-9}
    result = maao.run(make_config(values), tmp_path / "run")
    assert result.status_reason == "the time budget of 1e-09 seconds ended it after round 0"


@pytest.mark.parametrize("plan", [{"patience": -1}, {"min_delta": -0.1}, {"min_delta": float("inf")}])
def test_impatience_is_refused(plan):
    with pytest.raises(ConfigError, match=r"plan\.(patience|min_delta)"):
        make_config(settings(**plan))
