"""Thresholds are chosen so that labelled examples come out as was asked, and leave alike whatever is read later."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import logsumexp

from maao.config import make_config
from maao.errors import ConfigError
from maao.evaluation.confidence import coverage_curve
from maao.evaluation.evaluation import evaluation
from maao.evaluation.readings import softmax
from maao.evaluation.undecided import CONFIDENCES, PredictOptions, Thresholds, choose_thresholds, confidence_of
from maao.types import Cost, Example, Score


def made(count: int = 200, seed: int = 0):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 3, count)
    scores = draw.normal(0, 1.5, (count, 3)) + np.eye(3)[targets] * 2
    return scores.astype(np.float32), targets


def chosen(**asked):
    return choose_thresholds(PredictOptions(**asked), *made(), Cost(selection_evals=1))


def test_confidences_are_what_they_are_called():
    scores, _ = made()
    double, ordered = scores.astype(float), np.sort(softmax(scores), axis=1)
    assert CONFIDENCES["energy"](scores) == pytest.approx(logsumexp(double, axis=1), rel=1e-12)
    assert (CONFIDENCES["score"](scores) == double.max(axis=1)).all()
    assert (CONFIDENCES["probability"](scores) == ordered[:, -1]).all()
    assert (CONFIDENCES["margin"](scores) == ordered[:, -1] - ordered[:, -2]).all()
    assert confidence_of("energy", np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("confidence", list(CONFIDENCES))
@pytest.mark.parametrize("coverage", [1.0, 0.9, 0.505, 0.123])
def test_a_coverage_keeps_that_share_of_what_it_was_chosen_by(confidence, coverage):
    scores, _ = made()
    held = chosen(coverage=coverage, confidence=confidence)
    reasons = held.reasons(scores)
    assert (reasons == "").sum() == held.num_decided == np.ceil(200 * coverage)
    assert set(reasons) <= {"", "unlike"} and held.least_probability is None
    assert CONFIDENCES[confidence](scores)[reasons == ""].min() > CONFIDENCES[confidence](scores)[reasons != ""].max(initial=-np.inf)


def test_a_share_that_is_a_whole_number_of_examples_is_that_number():
    scores = np.log(np.linspace([0.5, 0.5], [0.99, 0.01], 100))
    held = choose_thresholds(PredictOptions(coverage=0.55, confidence="probability"), scores, np.zeros(100, int), Cost())
    assert held.num_decided == 55  # 0.55 * 100 is 55.00000000000001
    (point,) = coverage_curve(np.arange(100.0), np.ones(100, bool), (0.55,))
    assert point.num_examples == 55
    tiny = choose_thresholds(PredictOptions(coverage=1e-12, confidence="probability"), scores, np.zeros(100, int), Cost())
    assert tiny.num_decided == 1


def test_an_accuracy_decides_the_most_that_are_right_so_often():
    scores, targets = made()
    held = chosen(accuracy=0.9)
    probability, right = softmax(scores).max(axis=1), scores.argmax(axis=1) == targets
    assert right.mean() < 0.9 <= held.accuracy and held.coverage < 1 and not held.missed
    shares = {level: right[probability >= level].mean() for level in probability}
    assert held.least_probability == min(level for level, share in shares.items() if share >= 0.9)
    assert (held.reasons(scores) == "unsure").sum() == 200 - held.num_decided
    assert chosen(accuracy=0.01).num_decided == 200


def test_an_accuracy_that_is_not_reached_is_told():
    scores, targets = made()
    wrong = np.where(softmax(scores).max(axis=1) > 0.6, (scores.argmax(axis=1) + 1) % 3, targets)  # the surest are wrong
    held = choose_thresholds(PredictOptions(accuracy=0.99), scores, wrong, Cost())
    assert held.missed.startswith("an accuracy of 0.99 is reached by no threshold: at best 0.")
    probability, right = softmax(scores).max(axis=1), scores.argmax(axis=1) == wrong
    assert held.accuracy == max(right[probability >= level].mean() for level in probability) < 0.99


def test_both_go_together_and_unlike_is_told_first():
    scores, targets = made()
    held = chosen(coverage=0.9, accuracy=0.9)
    reasons = held.reasons(scores)
    kept = CONFIDENCES["energy"](scores) >= held.least
    assert kept.sum() == 180 and set(reasons[~kept]) == {"unlike"} and set(reasons[kept]) == {"", "unsure"}
    decided = reasons == ""
    assert (scores.argmax(axis=1) == targets)[decided].mean() == held.accuracy >= 0.9


def test_thresholds_are_stored_and_read_back():
    held = chosen(coverage=0.95, accuracy=0.9)
    assert Thresholds.from_json(json.loads(json.dumps(held.to_json()))) == held


def test_an_evaluation_counts_what_is_left_undecided():
    scores, targets = made()
    held = chosen(coverage=0.9, accuracy=0.9)
    examples, others = [Example({"text": str(i)}, "abc"[t]) for i, t in enumerate(targets)], [Example({"text": "x"}, "other")] * 40
    far = (scores[:40] * 0.3).astype(np.float32)
    found = evaluation(examples, "abc", scores, Score(0.0), others=(others, far), thresholds=held)
    own = found.decided
    assert own is not None and (own.num_decided, own.coverage, own.accuracy) == (held.num_decided, held.coverage, held.accuracy)
    assert own.num_unlike + own.num_unsure + own.num_decided == 200 and own.num_unlike == 20
    left = (held.reasons(far) != "").sum()
    assert (own.none_undecided, own.accuracy_with_none) == (left / 40, (held.num_right + left) / 240)
    assert found.accuracy == (scores.argmax(axis=1) == targets).mean()  # of the most probable class, decided or not


def test_what_nothing_reads_is_refused():
    with pytest.raises(ConfigError, match=r"'predict.confidence' would be ignored, since predict.coverage is not set"):
        make_config({"predict": {"accuracy": 0.9, "confidence": "margin"}})
    with pytest.raises(ConfigError, match=r"'predict.coverage' would be ignored, since problem is 'function'"):
        make_config({"problem": "function", "mentor": {"name": "none"}, "predict": {"coverage": 0.9}})
    with pytest.raises(ConfigError, match=r"'predict.accuracy'.*less than or equal to 1"):
        make_config({"predict": {"accuracy": 95}})
