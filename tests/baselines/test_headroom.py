"""What there is to gain, before a costly comparison."""

from __future__ import annotations

import math

import pytest

from maao.baselines.headroom import Headroom, headroom
from maao.config import make_config
from maao.errors import ConfigError
from maao.types import Cost, Score
from tests.api.small_runs import LABELS, config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def found(tuned, *, prior=1.0, zero_shot=None, untuned=2.0):
    scores = tuple(Score(loss) for loss in tuned)
    return Headroom(prior, 0.5, zero_shot, tuple(Score(untuned) for _ in tuned), scores, 10, Cost())


def test_what_needs_no_tuning_is_the_lowest_of_three():
    assert found([0.5, 0.5]).floor == 1.0
    assert found([0.5, 0.5], zero_shot=Score(0.8)).floor == 0.8
    assert found([0.5, 0.5], prior=None, untuned=0.6).floor == 0.6


def test_gain_and_spread_over_starts():
    room = found([0.4, 0.6, 0.8])
    mean, low, high = room.tuning
    assert mean == pytest.approx(0.4) and low < 0.4 < high
    assert room.spread == pytest.approx(0.2) and room.best_start == pytest.approx(0.2)
    assert "There is something to tune" in found([0.4, 0.41, 0.42]).told()[0]
    assert "0.400" in room.told()[0]


def test_none_is_seen_where_starts_do_not_lead_below_the_class_shares():
    assert found([0.9, 1.1, 1.0]).told()[0].startswith("No headroom is seen")


def test_a_language_problem_is_judged_on_select_alone(llama, data):
    made = config(llama, data, mentor__name="none")
    told: list[tuple[int, int]] = []
    room = headroom(made, starts=3, watch=lambda done, total: told.append((done, total)))
    assert len(room.tuned) == 3 and told == [(1, 3), (2, 3), (3, 3)]
    assert len({score.loss for score in room.untuned}) == 3  # three starts, not one three times
    assert all(tuned.loss <= untuned.loss for tuned, untuned in zip(room.tuned, room.untuned, strict=True))
    assert room.zero_shot is not None and math.isfinite(room.zero_shot.loss)
    assert room.prior == pytest.approx(math.log(len(LABELS)))
    assert room.cost.gradient_steps == 3 * room.steps and room.cost.selection_evals > 3
    assert headroom(made, starts=3) == room


def test_what_a_mentor_reads_is_no_obstacle(llama, data, tmp_path):
    (tmp_path / "corpus.txt").write_text("One sentence of five words.", encoding="utf-8")
    made = config(llama, data, mentor__name="random_text", mentor__corpus=str(tmp_path / "corpus.txt"))
    assert headroom(made, starts=2) == headroom(config(llama, data, mentor__name="none"), starts=2)


@pytest.mark.parametrize(("changes", "told"), [({"model__initial": "labels"}, "one text"), ({}, "at least two")])
def test_what_cannot_be_judged_is_said(llama, data, changes, told):
    with pytest.raises(ConfigError, match=told):
        headroom(config(llama, data, mentor__name="none", **changes), starts=1 if not changes else 3)


def test_a_plain_function_has_no_classes():
    room = headroom(make_config({"problem": "function", "stage": {"lr": 0.1}, "plan": {"rounds": 1, "steps": 5}}), starts=2)
    assert room.prior is None and room.zero_shot is None and room.majority is None
