"""The torch stage: its arithmetic, its schedules, its restarts, and what it does when a loss is not a number."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from maao.errors import ConfigError, ProblemError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import GaussianAverage, TorchStage, optimizer_names
from maao.problems.functions import FunctionProblem

ROSENBROCK = FunctionProblem("rosenbrock", dim=3)


def walk(stage, problem, steps, params=None):
    """Return all states of a walk, the start included."""
    states = [stage.init(problem, params or problem.initial(0), seed=0)]
    for _ in range(steps):
        states.append(stage.step(problem, states[-1])[0])
    return states


def gradient(problem, params):
    leaf = params.clone().requires_grad_()
    return torch.autograd.grad(problem.loss({"x": leaf}, None), leaf)[0]


@dataclass(frozen=True)
class Linear:
    """``slope . x``: its gradient is `slope` everywhere. At steps in `broken` the loss is not a number."""

    slope: tuple[float, ...] = (1.0,)
    broken: tuple[int, ...] = ()
    value: float = math.nan

    def initial(self, seed):
        return {"x": torch.zeros(len(self.slope), dtype=torch.float64)}

    def batch(self, step, seed):
        return step

    def loss(self, params, batch):
        loss = (torch.tensor(self.slope, dtype=torch.float64) * params["x"]).sum()
        return loss * self.value if batch in self.broken else loss

    def num_tokens(self, params, batch):
        return 1


def rates(stage, steps):
    """Return the learning rate of each step: how far plain gradient descent goes on a slope of 1."""
    points = [float(state.params["x"]) for state in walk(stage, Linear(), steps)]
    return [before - after for before, after in pairwise(points)]


# -- arithmetic


def test_adam_stage_matches_hand_written_adam():
    lr, b1, b2, eps = 0.05, 0.9, 0.999, 1e-8
    states = walk(TorchStage("Adam", lr, max_grad_norm=None), ROSENBROCK, 6)
    x = ROSENBROCK.initial(0)["x"].clone()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t, state in enumerate(states[1:], start=1):
        g = gradient(ROSENBROCK, x)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
        torch.testing.assert_close(state.params["x"], x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", [name for name in optimizer_names() if name not in ("LBFGS", "Muon")])
def test_stage_walks_as_the_optimizer_does_when_nothing_is_taken_apart(optimizer):
    """One live `torch.optim` object over all steps, against one rebuilt from a value at each."""
    problem = FunctionProblem("ackley", dim=3)
    stage = TorchStage(optimizer, 0.01, max_grad_norm=None)
    x = problem.initial(0)["x"].clone().requires_grad_()
    live = getattr(torch.optim, optimizer)([x], lr=0.01)
    for state in walk(stage, problem, 8)[1:]:
        live.zero_grad()
        problem.loss({"x": x}, None).backward()
        live.step()
        torch.testing.assert_close(state.params["x"], x.detach(), rtol=1e-6, atol=1e-9)


def same(one, other):
    """Whether two states are the same value, bit for bit, in the same order."""
    ways = [TorchSerializer().dump_state(state) for state in (one, other)]
    (arrays, meta), (others, other_meta) = ways
    return meta == other_meta and {name: (a.dtype, a.tobytes()) for name, a in arrays.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in others.items()
    }


class Matrices(Linear):
    """A problem of matrices in single precision, one of which no loss reads: it has no gradient."""

    def initial(self, seed):
        draw = torch.Generator().manual_seed(seed)
        return {name: torch.randn(3, 2, generator=draw) for name in ("a", "unread", "b")}

    def loss(self, params, batch):
        loss = ((params["a"] @ params["b"].T - torch.eye(3) * (1 + batch % 3)) ** 2).sum()
        return loss * math.inf if batch in self.broken else loss


@pytest.mark.parametrize("optimizer", optimizer_names())
def test_a_step_from_the_very_state_that_was_made_is_that_from_its_value(optimizer):
    """Where the optimizer goes on, and where it is taken up from the state, all bits are the same: a resumed run equals a whole one."""
    problem = Matrices(broken=(5,))
    stage = TorchStage(optimizer, 0.01, schedule="cosine", schedule_steps=12, max_grad_norm=0.5)
    state = stage.init(problem, problem.initial(3), seed=0)
    for step in range(10):
        if step == 7:
            state = stage.restart(state, {"a": torch.ones(3, 2)}, seed=0)
        value = replace(state)
        kept = {name: moment.clone() for name, moment in state.moments.items() if isinstance(moment, torch.Tensor)}
        after, seen = stage.step(problem, state)
        again, seen_again = TorchStage(optimizer, 0.01, schedule="cosine", schedule_steps=12, max_grad_norm=0.5).step(problem, value)
        assert same(after, again) and seen == seen_again
        assert all(torch.equal(moment, state.moments[name]) for name, moment in kept.items())  # a state is a value: it stays as it was
        state = after
    assert state.lr_scale == 1.0 and state.age == 3


def test_branches_that_leave_from_one_state_do_not_meet():
    problem, stage = Matrices(), TorchStage("AdamW", 0.1)
    start = stage.init(problem, problem.initial(0), seed=0)
    first = walk_on(stage, problem, start, 3)
    second = walk_on(stage, problem, stage.restart(start, {"a": torch.zeros(3, 2)}, seed=0), 2)
    assert same(walk_on(stage, problem, first, 1), walk_on(TorchStage("AdamW", 0.1), problem, start, 4))
    assert same(walk_on(stage, problem, start, 3), first) and not same(second, walk_on(stage, problem, start, 2))


def test_an_average_over_epochs_takes_the_place_of_the_last_params_for_who_goes_on():
    average = GaussianAverage(mean=1.0, std=1.0, steps_per_epoch=2)
    stages = [TorchStage("AdamW", 0.1, schedule_steps=4, average=average) for _ in range(2)]
    problem = Matrices()
    states = [stages[0].init(problem, problem.initial(0), seed=0)] * 2
    for _ in range(6):
        states = [stages[0].step(problem, states[0])[0], stages[1].step(problem, replace(states[1]))[0]]
        assert same(*states)


def walk_on(stage, problem, state, steps):
    for _ in range(steps):
        state = stage.step(problem, state)[0]
    return state


def test_lbfgs_stage_walks_as_lbfgs_does():
    problem = FunctionProblem("rosenbrock")
    x = problem.initial(0)["x"].clone().requires_grad_()
    live = torch.optim.LBFGS([x], lr=0.5, max_iter=4, line_search_fn="strong_wolfe")

    def closure():
        live.zero_grad()
        loss = problem.loss({"x": x}, None)
        loss.backward()
        return loss

    stage = TorchStage("LBFGS", 0.5, {"max_iter": 4, "line_search_fn": "strong_wolfe"}, max_grad_norm=None)
    for state in walk(stage, problem, 4)[1:]:
        live.step(closure)
        torch.testing.assert_close(state.params["x"], x.detach(), rtol=1e-9, atol=1e-12)


def test_optimizer_that_evaluates_more_than_once_pays_for_each():
    _, seen = TorchStage("LBFGS", options={"max_iter": 5}).step(ROSENBROCK, walk(TorchStage("LBFGS"), ROSENBROCK, 0)[0])
    assert seen.cost.gradient_steps == 1 and seen.cost.model_tokens > 2


def test_gradients_longer_than_the_limit_are_cut_to_it():
    (_, after) = walk(TorchStage("SGD", 1.0, max_grad_norm=2.0), Linear((30.0, 40.0)), 1)
    assert after.params["x"].tolist() == pytest.approx([-1.2, -1.6], rel=1e-6)


def test_gradients_within_the_limit_are_left_alone():
    (_, after) = walk(TorchStage("SGD", 1.0, max_grad_norm=50.1), Linear((30.0, 40.0)), 1)
    assert after.params["x"].tolist() == [-30.0, -40.0]


def test_all_params_are_clipped_together():
    class Two(Linear):
        def loss(self, params, batch):
            return 3 * params["x"].sum() + 4 * params["y"].sum()

    start = {"x": torch.zeros(1), "y": torch.zeros(1)}
    (_, after) = walk(TorchStage("SGD", 1.0, max_grad_norm=1.0), Two(), 1, start)
    assert [float(v) for v in after.params.values()] == pytest.approx([-0.6, -0.8], rel=1e-5)


def test_members_that_walk_together_are_clipped_each_by_itself():
    class Two:
        def initial(self, seed):
            return {"x": torch.zeros(1), "y": torch.zeros(1), "fold0.x": torch.zeros(1), "fold0.y": torch.zeros(1)}

        def batch(self, step, seed):
            return None

        def num_tokens(self, params, batch):
            return 1

        def loss(self, params, batch):
            return (30 * params["x"] + 40 * params["y"] + 0.3 * params["fold0.x"] + 0.4 * params["fold0.y"]).sum()

    stage = TorchStage("SGD", lr=1.0, max_grad_norm=1.0)
    moved = walk(stage, Two(), 1)[-1].params
    assert {name: pytest.approx(float(value), abs=1e-6) for name, value in moved.items()} == {
        "x": -0.6,
        "y": -0.8,
        "fold0.x": -0.3,
        "fold0.y": -0.4,
    }


# -- schedules


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [1.0, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4, 0.0]),
        ("exponential", [1.0, 0.1**0.25, 0.1**0.5, 0.1**0.75, 0.1]),
    ],
)
def test_learning_rate_follows_the_schedule(schedule, wanted):
    stage = TorchStage("SGD", 1.0, schedule=schedule, schedule_steps=4, max_grad_norm=None)
    assert rates(stage, 5) == pytest.approx(wanted, abs=1e-12)


def test_warmup_rises_to_the_whole_rate():
    assert rates(TorchStage("SGD", 1.0, warmup_steps=4, max_grad_norm=None), 6) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_schedule_is_counted_over_the_run_and_not_from_the_restart():
    stage = TorchStage("SGD", 1.0, schedule="linear", schedule_steps=4, max_grad_norm=None)
    state = stage.restart(walk(stage, Linear(), 2)[-1], {"x": torch.zeros(1, dtype=torch.float64)}, seed=0)
    assert float(stage.step(Linear(), state)[0].params["x"]) == -0.5


# -- restarts


def test_restart_clears_adam_moments_by_default():
    state = walk(TorchStage("Adam"), ROSENBROCK, 3)[-1]
    assert state.moments and not TorchStage("Adam").restart(state, ROSENBROCK.initial(1), seed=0).moments


def test_walk_after_a_restart_is_a_fresh_walk():
    stage = TorchStage("Adam")
    restarted = stage.restart(walk(stage, ROSENBROCK, 3)[-1], ROSENBROCK.initial(1), seed=0)
    fresh = stage.init(ROSENBROCK, ROSENBROCK.initial(1), seed=0)
    assert stage.step(ROSENBROCK, restarted)[0].params["x"].tolist() == stage.step(ROSENBROCK, fresh)[0].params["x"].tolist()


def test_restart_keeps_moments_where_asked():
    stage = TorchStage("Adam", on_restart="keep")
    state = walk(stage, ROSENBROCK, 3)[-1]
    assert stage.restart(state, ROSENBROCK.initial(1), seed=0).moments == state.moments


def test_restart_clears_moments_of_another_shape():
    stage = TorchStage("Adam", on_restart="keep")
    state = walk(stage, ROSENBROCK, 3)[-1]
    assert not stage.restart(state, {"x": torch.zeros(5, dtype=torch.float64)}, seed=0).moments


def test_restart_leaves_params_that_are_not_named():
    state = TorchStage().init(Linear(), {"x": torch.ones(1), "head": torch.full((1,), 7.0)}, seed=0)
    moved = TorchStage().restart(state, {"x": torch.zeros(1)}, seed=0)
    assert {name: float(value) for name, value in moved.params.items()} == {"x": 0.0, "head": 7.0}


def test_restart_takes_a_copy_of_what_it_is_given():
    given = {"x": torch.zeros(1, dtype=torch.float64)}
    state = TorchStage().restart(walk(TorchStage(), Linear(), 1)[-1], given, seed=0)
    given["x"] += 1
    assert float(state.params["x"]) == 0.0


# -- losses that are not numbers


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_rolls_back_to_the_last_good_point(value):
    problem = Linear(broken=(2,), value=value)
    states = walk(TorchStage("SGD", 1.0, max_grad_norm=None), problem, 3)
    assert float(states[2].params["x"]) == -2.0 and float(states[3].params["x"]) == -1.0


def test_rollback_says_so_and_halves_the_rate():
    stage = TorchStage("SGD", 0.5, max_grad_norm=None)
    state = walk(stage, Linear(broken=(2,)), 2)[-1]
    after, seen = stage.step(Linear(broken=(2,)), state)
    assert seen.note is not None and "back to the last good point, learning rate halved to 0.25" in seen.note
    assert (after.lr_scale, after.step, after.age) == (0.5, 3, 3)


def test_walk_goes_on_after_a_rollback_with_the_halved_rate():
    states = walk(TorchStage("SGD", 1.0, max_grad_norm=None), Linear(broken=(2,)), 5)
    assert [float(s.params["x"]) for s in states] == [0.0, -1.0, -2.0, -1.0, -1.5, -2.0]


def test_rollback_brings_back_the_moments_of_the_good_point():
    states = walk(TorchStage("Adam"), Linear(broken=(2,)), 3)
    assert states[3].moments == states[1].moments


def test_each_rollback_halves_again_and_a_restart_ends_that():
    stage = TorchStage("SGD", 1.0)
    state = walk(stage, Linear(broken=(1, 2, 3)), 4)[-1]
    assert state.lr_scale == 0.125
    assert stage.restart(state, Linear().initial(0), seed=0).lr_scale == 1.0


def test_gradient_that_is_no_number_rolls_back_too():
    class SteepRoot(Linear):
        def loss(self, params, batch):
            return params["x"].clamp_min(0).sqrt().sum() if batch == 1 else params["x"].sum()

    state = walk(TorchStage("SGD", 1.0, max_grad_norm=None), SteepRoot(), 1, {"x": torch.ones(1, dtype=torch.float64)})[-1]
    after, seen = TorchStage("SGD", 1.0, max_grad_norm=None).step(SteepRoot(), state)
    assert seen.loss == 0.0 and seen.note and float(after.params["x"]) == 1.0


def test_start_without_a_loss_is_an_error_in_words():
    with pytest.raises(ProblemError, match=r"loss is nan at the starting point of step 0.*Look at the start"):
        walk(TorchStage(), Linear(broken=(0,)), 1)


# -- settings


def test_unknown_optimizer_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"Unknown optimizer 'Adm'.*AdamW"):
        TorchStage("Adm")


@pytest.mark.parametrize("name", ["SparseAdam", "Optimizer"])
def test_optimizer_that_cannot_be_used_is_not_offered(name):
    with pytest.raises(ConfigError, match="Unknown optimizer"):
        TorchStage(name)


def test_unknown_option_is_refused():
    with pytest.raises(ConfigError, match=r"refuses its settings.*betta"):
        TorchStage("Adam", options={"betta": 1})


def test_optimizer_for_matrices_says_that_a_vector_is_none():
    with pytest.raises(ConfigError, match="Muon cannot tune these params"):
        TorchStage("Muon").init(ROSENBROCK, ROSENBROCK.initial(0), seed=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.0}, r"stage\.lr"),
        ({"lr": math.nan}, r"stage\.lr"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"schedule": "linear"}, "schedule_steps"),
    ],
)
def test_impossible_setting_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        TorchStage(**settings)


# -- storing


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("optimizer", [name for name in optimizer_names() if name != "Muon"])
def test_state_survives_storing_bit_for_bit(optimizer, steps, serializer):
    state = walk(TorchStage(optimizer, 0.01), ROSENBROCK, steps)[-1]
    arrays, meta = serializer.dump_state(state)
    again, again_meta = serializer.dump_state(serializer.load_state(arrays, json.loads(json.dumps(meta))))
    assert again_meta == meta
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in again.items()} == {k: (v.dtype, v.shape, v.tobytes()) for k, v in arrays.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_params_survive_storing_bit_for_bit(dtype, serializer):
    params = {"prompt": torch.randn(3, 4).to(dtype), "head.bias": torch.tensor([math.nan, -0.0, math.inf]).to(dtype)}
    loaded = serializer.load_params(serializer.dump_params(params))
    assert {k: (v.dtype, v.numpy().tobytes()) for k, v in loaded.items()} == {k: (v.dtype, v.numpy().tobytes()) for k, v in params.items()}


def test_a_constant_warm_up_comes_before_the_schedule() -> None:
    stage = TorchStage(lr=0.1, schedule="linear", schedule_steps=10, warmup_steps=2, warmup_lr=0.001)
    state = stage.init(FunctionProblem("rosenbrock"), FunctionProblem("rosenbrock").initial(0), seed=0)
    rates = [0.1 * stage._rate(replace(state, step=step)) for step in range(4)]
    assert rates == pytest.approx([0.001, 0.001, 0.08, 0.07])


def test_an_average_over_epochs_weighs_them_as_a_gaussian_and_begins_anew_at_a_restart() -> None:
    problem = FunctionProblem("rosenbrock")
    average = GaussianAverage(mean=2, std=1, steps_per_epoch=2)
    stage, plain = (TorchStage(lr=0.1, schedule_steps=6, average=a) for a in (average, None))
    state = other = stage.init(problem, problem.initial(0), seed=0)
    ends = []
    for step in range(6):
        state, other = stage.step(problem, state)[0], plain.step(problem, other)[0]
        if step % 2:
            ends.append(other.params["x"])
    weights = [math.exp(-((epoch - 2) ** 2) / 2) for epoch in (1, 2, 3)]
    expected = sum(w * x for w, x in zip(weights, ends, strict=True)) / sum(weights)
    torch.testing.assert_close(state.params["x"], expected)
    walked = walk(stage, problem, 2)[-1]
    assert walked.weight > 0
    begun = stage.restart(walked, problem.initial(1), seed=0)
    assert (begun.sums, begun.weight) == ({}, 0.0)
    with pytest.raises(ConfigError, match="schedule_steps"):
        TorchStage(average=average)
