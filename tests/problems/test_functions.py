"""Plain functions: where they are lowest, and which way is down."""

from __future__ import annotations

import math

import pytest
import torch

from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst
from maao.core.loop import alternate
from maao.core.plan import walk
from maao.errors import ConfigError
from maao.mentors.controls import NoMentor, Reproject
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FUNCTIONS, FunctionProblem

MINIMA = {"rosenbrock": 1.0, "ackley": 0.0, "rastrigin": 0.0}


def point(*values):
    return {"x": torch.tensor(values, dtype=torch.float64)}


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_minimum_is_zero_at_its_known_place(name, dim):
    assert FunctionProblem(name, dim).score([point(*[MINIMA[name]] * dim)], "test")[0].loss == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_everywhere_else_is_higher(name, seed):
    problem = FunctionProblem(name, 3)
    assert problem.score([problem.initial(seed)], "test")[0].loss > 0.01


@pytest.mark.parametrize(
    ("name", "values", "loss"),
    [
        ("rosenbrock", (0.0, 0.0), 1.0),
        ("rosenbrock", (-1.0, 2.0), 104.0),
        ("rastrigin", (1.0, -2.0), 5.0),
        ("rastrigin", (0.5, 0.0), 20.25),
    ],
)
def test_value_is_the_one_worked_out_by_hand(name, values, loss):
    assert FunctionProblem(name).score([point(*values)], "test")[0].loss == pytest.approx(loss)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradient_agrees_with_finite_differences(name, seed):
    problem = FunctionProblem(name, 3)
    x = problem.initial(seed)["x"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: problem.loss({"x": x}, None), x, eps=1e-6, atol=1e-5)


def test_gradient_of_ackley_is_finite_at_its_minimum():
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert bool(torch.autograd.grad(FunctionProblem("ackley").loss({"x": x}, None), x)[0].isfinite().all())


def test_start_lies_within_the_bound():
    assert all(FunctionProblem("ackley", 4, bound=0.5).initial(seed)["x"].abs().max() <= 0.5 for seed in range(50))


def test_words_are_worth_what_the_rounded_point_is():
    problem = FunctionProblem("rastrigin", codec=NumberCodec(2, digits=0))
    clues = problem.clues(point(0.9, 0.2))
    assert (clues.projection.text, clues.projection.score.loss) == ("1 0", pytest.approx(1.0))
    assert clues.projection.gap == pytest.approx(1.0 - problem.score([point(0.9, 0.2)], "select")[0].loss)


def test_walk_to_infinity_has_no_words_and_ends_no_run():
    problem = FunctionProblem("rosenbrock", codec=NumberCodec(2))
    wild = TorchStage("SGD", 1e308, max_grad_norm=None)
    history = tuple(alternate(problem, wild, NoMentor(), plan=walk(1), accept=AlwaysFirst(), seed=0))
    assert not math.isfinite(history[-1].score.loss) and history[-1].clues.projection is None
    advice = Reproject(NumberCodec(2)).propose(history, count=1, seed=0)
    assert advice.proposals or advice.rejected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("banana",), "Unknown function 'banana'.*rastrigin"),
        (("rosenbrock", 1), "dimension of 2 or more"),
        (("ackley", 0), "dimension"),
        (("ackley", 2, 0.0), "bound above 0"),
    ],
)
def test_impossible_function_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        FunctionProblem(*settings)
