"""Trying learning rates, on a function whose walks can be worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from maao.core.lr_finder import LrSearch, Trial, try_rates
from maao.errors import ConfigError
from maao.optimizers.torch import TorchStage
from maao.types import Cost
from tests.core.test_acceptance import Square


def descend(lr):
    return TorchStage("SGD", lr=lr, max_grad_norm=None)  # on x^2 a step multiplies x by 1 - 2 lr


def search(*rates, steps=2, problem=None, stage_at=descend):
    return LrSearch(steps, tuple(try_rates(problem or Square(), stage_at, rates, steps=steps, seed=0)))


def test_each_rate_walks_from_the_runs_beginning_and_is_scored_at_its_end():
    found = search(0.125, 0.25, 0.75)
    assert [trial.loss for trial in found.trials] == [(8 * 0.75**2) ** 2, (8 * 0.5**2) ** 2, (8 * 0.5**2) ** 2]


def test_the_lowest_loss_is_chosen_and_ties_go_to_the_lower_rate():
    assert search(0.125, 0.25).chosen.rate == 0.25
    assert search(0.75, 0.25).chosen.rate == 0.25  # both halve x, one of them by leaping over zero


def test_a_search_costs_its_steps_and_a_look_for_each_rate():
    cost = search(0.1, 0.2, 0.3, steps=4).cost
    assert (cost.gradient_steps, cost.selection_evals, cost.model_tokens) == (12, 3, 2 * 12)
    assert cost.seconds > 0


def test_the_seed_is_that_of_the_run():
    """What is tried begins where a run with this seed does, and sees its batches."""
    seen = []

    class Seeded(Square):
        def initial(self, seed):
            seen.append(("initial", seed))
            return super().initial(seed)

        def batch(self, step, seed):
            seen.append((step, seed))

    from maao.core.acceptance import BestOf
    from maao.core.loop import alternate
    from maao.mentors.controls import NoMentor
    from maao.types import Leg

    list(try_rates(Seeded(), descend, (0.1,), steps=2, seed=5))
    tried = list(seen)
    seen.clear()
    list(alternate(Seeded(), descend(0.1), NoMentor(), plan=(Leg(2),), accept=BestOf(), seed=5))
    assert tried == seen


def test_a_rate_that_runs_away_is_told_and_never_chosen():
    found = search(0.25, 1e200, steps=3)
    assert found.chosen.rate == 0.25
    lost = found.trials[1]
    assert lost.diverged and "step 1" in lost.diverged and math.isnan(lost.loss)
    assert (lost.cost.gradient_steps, lost.cost.selection_evals) == (2, 0)  # it ends where it is lost, and is not looked at


def test_an_end_that_is_not_finite_has_diverged():
    found = search(0.25, 1e200, steps=1)
    assert found.trials[1].diverged == "the loss on select is inf"


def test_a_start_from_which_no_step_can_be_made_is_told():
    found = search(0.25, problem=Square(nan_above=1.0))
    assert "no good point to go back to" in found.trials[0].diverged


def test_a_search_in_which_all_diverged_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match=r"all diverged: 1e\+200 \(.*\); 1e\+201 \(.*\). Give lower rates"):
        search(1e200, 1e201, steps=3).chosen  # noqa: B018


def test_a_search_is_told_in_plain_json_without_losing_anything():
    found = LrSearch(3, (Trial(0.1, 0.123456789012345, None, Cost(3, 12, 4, 1, seconds=0.5)), Trial(9.0, math.inf, "gone")))
    text = json.dumps(found.to_json(), allow_nan=False)
    again = LrSearch.from_json(json.loads(text))
    assert again.trials[0] == found.trials[0] and again.trials[0].cost.seconds == 0.5
    assert math.isnan(again.trials[1].loss) and again.trials[1].diverged == "gone"
    assert json.loads(text)["chosen"] == 0.1
