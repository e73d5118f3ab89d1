"""Keeping all walks, on a function whose losses can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from maao.core.acceptance import AlwaysFirst, Interpolate, InterpolateOptions, Race
from maao.core.averaging import close, is_closed, walked, walks
from maao.core.loop import alternate, best_round
from maao.core.plan import UNTUNED
from maao.members import walks_of
from maao.options import Chosen
from maao.types import Cost, Leg, Round, Score
from tests.core.test_acceptance import STAGE, Proposes, Square


@dataclass(frozen=True)
class Averaging(Square):
    """``x^2``, where an average stands at the mean of its walks; picked is every point, the first of them twice."""

    def average(self, points, counts):
        each = [point["x"] for point, count in zip(points, counts, strict=True) for _ in range(count)]
        return {f"walk{i}.x" if i else "x": x for i, x in enumerate(each)}

    def pick(self, points, picks):
        return (2, *[1] * (len(points) - 1)), Cost(selection_evals=len(points))

    def score(self, points, split):
        means = [{"x": torch.stack([walk["x"] for walk in walks_of(point)]).mean(0)} for point in points]
        return super().score(means, split)


def run(*legs, rule, values=(4.0, -3.0), problem=None):
    return tuple(alternate(problem or Averaging(), STAGE, Proposes(values), plan=(UNTUNED, *legs), accept=rule, seed=0))


def found(history):
    return [(walk.round, walk.proposal, walk.age, float(walk.params["x"])) for walk in walks(history)]


def test_every_walk_stands_for_itself_by_its_best_point():
    history = run(Leg(1), Leg(1, ask=True), rule=Race(1, keep_walks=True))
    # The run's own start 8 -> 4; proposals 4 -> 2 and -3 -> -1.5, which wins and walks on to -0.75.
    assert found(history) == [(2, 1, 2, -0.75), (2, 0, 1, 2.0), (0, None, 1, 4.0)]


def test_what_the_last_walk_has_beside_is_no_part_of_the_average():
    *before, last = run(Leg(1), Leg(1, ask=True), rule=Race(1, keep_walks=True))
    framed = replace(last.state, params={**last.state.params, "frame": torch.zeros(1, dtype=torch.uint8)})
    closing = close(Averaging(), STAGE, (*before, replace(last, state=framed)), members=4, uniform=True, seed=0)
    assert set(closing.state.params) == set(closing.state.start) == {"x", "walk1.x", "walk2.x"}


def test_points_that_took_no_step_are_no_walks():
    assert found(run(rule=Race(1))) == []


def test_a_rule_that_records_no_points_keeps_the_walks_that_a_restart_ends():
    history = run(Leg(1), Leg(1, ask=True), Leg(1), rule=AlwaysFirst())
    assert found(history) == [(2, 0, 2, 1.0), (0, None, 1, 4.0)]


def test_rungs_leave_the_points_of_those_that_dropped_out():
    history = run(Leg(1, ask=True), rule=Race(2, rungs=(1,), keep_walks=True), values=(4.0, -3.0, 16.0, 32.0))
    assert {(proposal, age, x) for _, proposal, age, x in found(history)} == {
        (None, 2, 2.0),
        (0, 2, 1.0),
        (1, 3, -0.375),
        (2, 1, 8.0),
        (3, 1, 16.0),
    }


def test_a_race_keeps_no_points_unless_it_is_asked_to():
    history = run(Leg(1), Leg(1, ask=True), rule=Race(1))
    assert all(c.params is None for r in history for c in r.verdict.considered)
    assert found(history) == [(2, 1, 2, -0.75), (0, None, 1, 4.0)]


def test_keeping_walks_changes_no_step():
    def losses(rule):
        return [(r.score, r.state.params, r.verdict.chosen, r.verdict.reason) for r in run(Leg(1), Leg(1, ask=True), rule=rule)]

    assert losses(Race(1)) == losses(Race(1, keep_walks=True))


def test_what_scored_no_number_is_left_out():
    history = run(Leg(1, ask=True), rule=Race(1, keep_walks=True), values=(400.0, -3.0), problem=Averaging(nan_above=100.0))
    assert all(not math.isnan(walk.score.loss) for walk in walks(history)) and len(walks(history)) == 2


def closed(members=9, *, uniform=False, **options):
    history = run(Leg(1), Leg(1, ask=True), rule=Race(1, keep_walks=True), **options)
    return history, close(Averaging(), STAGE, history, members=members, uniform=uniform, seed=0)


def test_the_average_of_what_is_picked_closes_a_run():
    history, closing = closed()
    assert isinstance(closing, Round) and closing.leg.closing and closing.index == len(history)
    assert [float(walk["x"]) for walk in walks_of(closing.state.params)] == [-0.75, -0.75, 2.0, 4.0]
    assert closing.score.loss == 1.125**2 and closing.cost.selection_evals == 4 and closing.cost.gradient_steps == 0
    assert closing.verdict.reason == (
        "the average of 3 of 3 walks: proposal 1 of round 2 at age 2 (0.562, 2 times), proposal 0 of round 2 at age 1 (4.000), the first "
        "at age 1 (16.000)"
    )


def test_a_uniform_average_is_of_the_best_walks():
    _, closing = closed(members=2, uniform=True)
    assert [float(walk["x"]) for walk in walks_of(closing.state.params)] == [-0.75, 2.0]
    assert closing.score.loss == 0.625**2 and closing.cost.selection_evals == 1


def test_the_average_is_reported_whatever_it_scores():
    history, closing = closed(values=(4.0, 3.0))
    whole = (*history, closing)
    assert closing.score.loss > best_round(history).score.loss and best_round(whole) is closing
    assert is_closed(whole) and not is_closed(history) and walked(whole) == history and walks(whole) == walks(history)


def test_one_walk_is_not_averaged():
    history = run(Leg(2), rule=Race(1))
    assert close(Averaging(), STAGE, history, members=9, uniform=False, seed=0) is None


def test_blends_of_a_race_are_kept_as_they_were_walked():
    history = run(Leg(1, ask=True), rule=Interpolate(0.5, Race(1, keep_walks=True)), values=(4.0,))
    (blend, own) = sorted(found(history), key=lambda walk: walk[1] is None)
    assert blend == (1, 0, 2, 1.5) and own == (0, None, 1, 4.0)  # half way from 8 to 4 is 6, which walks to 3 and on to 1.5


def test_a_blending_rule_passes_on_what_becomes_of_the_walks():
    options = InterpolateOptions.model_validate({"inner": "race", "keep": "average"})
    rule = options.build()
    assert isinstance(rule, Interpolate) and rule.rule == Race(10, keep_walks=True)
    assert isinstance(options.inner, Chosen)


def test_a_score_that_is_equal_leaves_the_earlier_point():
    history = run(Leg(1), Leg(0), rule=Race(1))
    assert found(history) == [(0, None, 1, 4.0)] and Score(16.0).loss == walks(history)[0].score.loss


@pytest.mark.parametrize(
    ("given", "told"), [({"members": 3}, "accept.keep is 'winner'"), ({"keep": "all"}, "'winner', 'average' or 'uniform'")]
)
def test_settings_that_say_nothing_are_refused(given, told):
    from maao.config import make_config
    from maao.errors import ConfigError

    with pytest.raises(ConfigError, match=told):
        make_config({"accept": {"rule": "race", **given}})
