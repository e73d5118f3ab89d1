"""The loop: Algorithm 1, equal beginnings, and resuming."""

from __future__ import annotations

import pytest

from maao.codecs.numbers import NumberCodec
from maao.core.acceptance import AlwaysFirst, BestOf, IfBetter, Interpolate, Race
from maao.core.budget import Clock
from maao.core.loop import TAKEN_BACK, alternate, best_round
from maao.core.plan import UNTUNED, after_epochs, rounds, walk
from maao.core.seeds import seed_for
from maao.errors import NotFinite
from maao.mentors.controls import NoMentor, RandomRestart, Reproject
from maao.mentors.scripted import Scripted
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.testing import assert_same_history
from maao.types import Cost, Leg, total_cost

CODEC = NumberCodec(2)
PROBLEM = FunctionProblem("rosenbrock", codec=CODEC)
STAGE = TorchStage(lr=0.05)
MENTORS = {
    "none": NoMentor(),
    "random_restart": RandomRestart(CODEC),
    "reproject": Reproject(CODEC),
    "scripted": Scripted(("0.9 0.8", "2 2", "nonsense", "-1 1", "0.5 0.5", "3 -3", "1 1"), CODEC),
}
RULES = {
    "always_first": AlwaysFirst(),
    "best_of": BestOf(),
    "if_better": IfBetter(),
    "interpolate": Interpolate(0.3),
    "race": Race(2),
    "race with a margin": Race(3, 0.5),
    "interpolate race": Interpolate(0.5, Race(1)),
}


def run(mentor="scripted", rule="always_first", plan=None, seed=0, history=(), stage=STAGE):
    plan = rounds(3, steps=4, store_every=2, proposals=2) if plan is None else plan
    return (*history, *alternate(PROBLEM, stage, MENTORS[mentor], plan=plan, accept=RULES[rule], seed=seed, history=history))


def test_loop_does_what_algorithm_1_does():
    """Algorithm 1 written out once more by hand: walk, then each time restart from the first proposal and walk again."""
    state = STAGE.init(PROBLEM, PROBLEM.initial(seed_for(0, "initial")), seed=seed_for(0, "stage"))
    ends = [state]
    for text in (None, "0.9 0.8", "2 2", None):  # not asked before the first walk; the third text of the script cannot be read
        if text:
            state = STAGE.restart(state, CODEC.encode(text).params, seed=0)
        for _ in range(4):
            state, _ = STAGE.step(PROBLEM, state)
        ends.append(state)
    found = run(plan=rounds(3, steps=4, proposals=1))
    assert [r.state.params["x"].tolist() for r in found] == [end.params["x"].tolist() for end in ends]


@pytest.mark.parametrize("mentor", MENTORS)
@pytest.mark.parametrize("rule", RULES)
def test_the_beginning_is_the_same_for_every_mentor_and_rule(mentor, rule, serializer):
    plan = rounds(1, steps=4, store_every=2)
    first = sum(not leg.ask for leg in plan[:3])
    assert_same_history(run(mentor, rule, plan)[:first], run("none", "always_first", plan)[:first], serializer)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mentor", MENTORS)
@pytest.mark.parametrize("on_restart", ["clear", "keep"])
def test_resumed_run_equals_uninterrupted_run_at_every_leg(mentor, rule, on_restart, serializer):
    stage = TorchStage(lr=0.05, on_restart=on_restart)
    whole = run(mentor, rule, stage=stage)
    for stop_after in range(len(whole)):
        assert_same_history(run(mentor, rule, history=whole[:stop_after], stage=stage), whole, serializer)


def test_a_run_can_open_with_the_mentors_own_starts():
    history = run(plan=rounds(1, steps=2, proposals=2, first="ask"))
    assert [r.leg.ask for r in history] == [False, True]
    assert [p.text for p in history[1].advice.proposals] == ["0.9 0.8", "2 2"]


def test_a_mentor_is_asked_at_the_first_leg_too():
    (only,) = run(plan=(Leg(1, ask=True, proposals=1),))
    assert only.verdict.chosen == 0 and only.state.start["x"].tolist() == [0.9, 0.8]


def test_another_seed_gives_another_run():
    assert run(seed=1)[0].score != run(seed=2)[0].score


def test_round_says_what_it_cost():
    (untuned, walked, asked) = run("scripted", "best_of", (UNTUNED, *walk(3), Leg(2, ask=True, proposals=2)))
    assert untuned.cost == Cost(gradient_steps=0, model_tokens=2, scored_examples=2, selection_evals=2)
    assert walked.cost.gradient_steps == 3 and walked.cost.model_tokens == 2 * 3 + 2
    assert asked.cost.selection_evals == 2 + 2  # two proposals, the end and its words
    assert total_cost((untuned, walked, asked)).gradient_steps == 5
    assert all(r.cost.seconds > 0 for r in (untuned, walked, asked))


def test_observations_keep_params_where_the_leg_asks_for_it():
    _, walked = run(plan=(UNTUNED, Leg(5, keep_every=2)))
    assert [o.params is not None for o in walked.observations] == [True, False, True, False, True]
    assert walked.observations[2].params["x"].tolist() != walked.state.params["x"].tolist()


def test_first_observation_of_a_leg_speaks_of_where_it_began():
    untuned, walked = run(plan=(UNTUNED, Leg(2)))
    assert walked.observations[0].loss == untuned.score.loss and walked.observations[0].step == 0


def test_finished_plan_yields_nothing_more():
    whole = run()
    assert run(history=whole) == whole


def test_best_round_is_the_lowest_and_the_earlier_of_equals():
    history = run("none", plan=(UNTUNED, UNTUNED, *walk(4), UNTUNED))
    assert best_round(history).index == 2
    assert best_round(history[:2]).index == 0


def test_reference_release_schedule_asks_after_the_epochs_named():
    history = run(plan=after_epochs((0, 2), epochs=5, steps_per_epoch=3, proposals=1))
    assert [(r.verdict.chosen, len(r.observations)) for r in history] == [(None, 3), (0, 3), (None, 3), (0, 3), (None, 3)]


def test_what_a_problem_charges_for_proposals_is_charged_for_those_that_were_looked_at():
    class Charging(FunctionProblem):
        def prefill_cost(self, points, known):
            asked.append((len(points), len(known)))
            return Cost(model_tokens=1000 * len(points))

    def cost(problem, rule):
        plan = rounds(2, steps=1, proposals=2)
        return [r.cost.model_tokens for r in alternate(problem, STAGE, MENTORS["scripted"], plan=plan, accept=rule, seed=0)]

    for rule, looked_at in ((AlwaysFirst(), (1, 1)), (BestOf(), (2, 1))):  # the third text of the script cannot be read
        asked = []
        extra = [more - own for more, own in zip(cost(Charging("rosenbrock", codec=CODEC), rule), cost(PROBLEM, rule), strict=True)]
        first, second = looked_at
        assert asked == [(0, 0), (0, 0), (first, 0), (second, first)] and extra == [0, 0, 1000 * first, 1000 * second]


# -- the time of a run


class Looks(Clock):
    """A clock by which each look takes a second."""

    def __init__(self, seconds, spent=0.0):
        self.looked = 0
        super().__init__(seconds, spent, now=self.look)

    def look(self):
        self.looked += 1
        return float(self.looked)


def in_time(seconds, mentor="scripted", rule="race", history=(), plan=None, stage=STAGE):
    plan = rounds(2, steps=4, proposals=2) if plan is None else plan
    spent = total_cost(history).seconds
    made = alternate(
        PROBLEM, stage, MENTORS[mentor], plan=plan, accept=RULES[rule], seed=0, history=history, clock=Looks(seconds, spent)
    )  # fmt: skip
    return (*history, *made)


@pytest.mark.parametrize("rule", ["race", "interpolate race", "always_first"])
def test_a_run_whose_time_is_up_is_the_beginning_of_a_whole_one_wherever_that_is(rule, serializer):
    """Walked again by the legs that it stored, without a clock, it is the same; and it is gone on with no more."""
    whole = run("scripted", rule, rounds(2, steps=4, proposals=2))
    ends = set()
    for seconds in range(1, 60):
        history = in_time(seconds, rule=rule)
        last = history[-1].leg
        ends.add((len(history), last.steps, last.unjudged))
        assert_same_history(run("scripted", rule, tuple(r.leg for r in history)), history, serializer)
        assert_same_history(history[:-1], whole[: len(history) - 1], serializer)
        walked = [o.loss for o in history[-1].observations]
        assert last.unjudged or walked == [o.loss for o in whole[len(history) - 1].observations][: last.steps]
        assert in_time(seconds, rule=rule, history=history) == history
        assert len(history) == len(whole) or total_cost(history).seconds >= seconds
    assert {steps for index, steps, _ in ends if index == 2} == {0, 1, 2, 3, 4}
    assert (len(whole), 4, False) in ends
    assert any(unjudged for _, _, unjudged in ends)


def test_a_race_that_the_time_ends_leaves_all_as_it_was(serializer):
    found = next(h for h in map(in_time, range(1, 60)) if h[-1].leg.unjudged)
    last, before = found[-1], found[-2]
    assert last.advice.proposals and last.verdict.chosen is None and not last.observations
    assert last.verdict.reason == "the time was up before the proposals were judged: all goes on as it was"
    assert serializer.dump_state(last.state)[1] == serializer.dump_state(before.state)[1]
    assert last.score == before.score


def test_where_the_time_ended_a_leg_a_run_is_not_gone_on_with_whatever_its_seconds_say():
    """They are sums of measured numbers: what the leg says decides."""
    history = next(h for h in map(in_time, range(1, 60)) if h[-1].leg.steps == 2)
    assert in_time(1000.0, history=history) == history


class GivesOut(TorchStage):
    """No more than two steps can be made from the mentor's first proposal."""

    def step(self, problem, state, *, keep=False):
        if state.age == 2 and state.start["x"].tolist() == [0.9, 0.8]:
            raise NotFinite("The loss is nan.")
        return super().step(problem, state, keep=keep)


@pytest.mark.parametrize("rule", ["race", "always_first"])
def test_a_restart_that_was_taken_back_is_taken_back_again_wherever_the_time_ended_its_leg(rule, serializer):
    """The walk of the restart may have been longer than that of the leg that is stored."""
    stage, planned = GivesOut(lr=0.05), rounds(2, steps=4, proposals=2)
    cut = set()
    for seconds in range(1, 60):
        history = in_time(seconds, rule=rule, stage=stage)
        last = history[-1]
        assert_same_history(run("scripted", rule, tuple(r.leg for r in history), stage=stage), history, serializer)
        assert in_time(seconds, rule=rule, history=history, stage=stage) == history
        if TAKEN_BACK in last.verdict.reason and last.leg.steps < planned[last.index].steps:
            cut.add(last.leg.steps)
    assert cut == {0, 1, 2, 3}
