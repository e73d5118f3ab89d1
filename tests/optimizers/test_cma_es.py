"""CMA-ES as a doer: a search that takes no gradient, run again from its losses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from maao.errors import ConfigError, ProblemError
from maao.optimizers.cma_es import LOSSES, CMAStage
from maao.problems.functions import FunctionProblem


def walk(stage, problem, state, steps):
    for _ in range(steps):
        state, _ = stage.step(problem, state)
    return state


def begun(stage, problem):
    return stage.init(problem, problem.initial(3), seed=5)


def test_it_finds_a_valley_without_a_gradient():
    problem, stage = FunctionProblem("rosenbrock", dim=2), CMAStage(population=8, dim=2)
    state = begun(stage, problem)
    with torch.no_grad():
        before = float(problem.loss(state.params, problem.batch(0, 0)))
        after = float(problem.loss(walk(stage, problem, state, 60).params, problem.batch(0, 0)))
    assert after < 0.01 < before


def test_a_search_run_again_from_its_losses_is_the_same_search():
    problem = FunctionProblem("rastrigin", dim=4)
    whole = walk(CMAStage(4, 4), problem, begun(CMAStage(4, 4), problem), 9)
    part = walk(CMAStage(4, 4), problem, begun(CMAStage(4, 4), problem), 5)
    again = walk(CMAStage(4, 4), problem, part, 4)  # a stage that has seen nothing of it
    assert torch.equal(whole.params["x"], again.params["x"])
    assert torch.equal(whole.moments[LOSSES], again.moments[LOSSES])


def test_a_restart_begins_another_search_around_the_new_start():
    problem, stage = FunctionProblem("rastrigin", dim=2), CMAStage(4, 2)
    state = walk(stage, problem, begun(stage, problem), 3)
    moved = stage.restart(state, {"x": torch.tensor([1.0, 1.0])}, seed=0)
    assert (moved.age, moved.step, dict(moved.moments)) == (0, 3, {})
    assert len(walk(stage, problem, moved, 2).moments[LOSSES]) == 2


def test_a_step_is_charged_for_every_candidate_it_runs():
    problem, stage = FunctionProblem("ackley", dim=3), CMAStage(6, 3)
    _, observation = stage.step(problem, begun(stage, problem))
    assert observation.cost.model_tokens == 7  # six candidates and the mean, forward only


@dataclass(frozen=True)
class Nowhere(FunctionProblem):
    def loss(self, params, batch):
        return super().loss(params, batch) * float("nan")


def test_a_generation_without_a_finite_loss_is_told():
    problem = Nowhere("ackley")
    with pytest.raises(ProblemError, match=r"lower stage\.size"):
        CMAStage(4, 2).step(problem, begun(CMAStage(4, 2), problem))


@pytest.mark.parametrize("settings", [{"population": 3}, {"dim": 1}, {"size": 0.0}])
def test_settings_that_make_no_search_are_refused(settings):
    with pytest.raises(ConfigError, match="CMA-ES needs"):
        CMAStage(**settings)
