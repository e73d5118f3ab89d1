"""An evaluation says what scikit-learn's own functions say of the same predictions, and what lies beyond them by its definition."""

from __future__ import annotations

import io
import json
import sys
import warnings

import numpy as np
import pytest
from rich.console import Console
from scipy.special import logsumexp
from sklearn import metrics
from sklearn.calibration import calibration_curve

from maao.errors import ConfigError, DataError, MaaoError
from maao.evaluation.confidence import calibration, coverage_curve, risk_coverage_area
from maao.evaluation.evaluation import evaluation
from maao.evaluation.readings import BLOCK, readings, softmax
from maao.evaluation.statistics import wilson_interval
from maao.report.evaluation import evaluation_report
from maao.report.evaluation_plot import plot_evaluation
from maao.types import Example, Score

LABELS = ("a", "b", "c", "never", "only read")


def made(count: int = 400, seed: int = 0):
    """Return class scores that are right in about two thirds, and the class numbers: one class never occurs, one is read alone."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 3, count)
    scores = draw.normal(0, 2, (count, len(LABELS)))
    scores[:, 3] = -9
    scores[np.arange(count), targets] += 2.5
    return scores.astype(np.float32), targets


def examples(targets):
    return [Example({"text": f"text {i}"}, LABELS[target]) for i, target in enumerate(targets)]


@pytest.fixture(scope="module")
def found():
    scores, targets = made()
    return evaluation(examples(targets), LABELS, scores, Score(0.5, {"accuracy": 0.5}))


def test_figures_are_those_of_scikit_learn(found):
    scores, targets = made()
    predicted, probable = scores.argmax(1), softmax(scores)
    assert found.accuracy == metrics.accuracy_score(targets, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class is read that no example has
        assert found.balanced_accuracy == metrics.balanced_accuracy_score(targets, predicted)
    assert found.macro_f1 == metrics.f1_score(targets, predicted, average="macro")
    assert found.log_loss == pytest.approx(metrics.log_loss(targets, probable, labels=range(5)), rel=1e-12)
    assert (found.confusion_matrix == metrics.confusion_matrix(targets, predicted, labels=range(5))).all()
    report = metrics.classification_report(targets, predicted, labels=range(5), target_names=LABELS, output_dict=True, zero_division=0)
    assert [own.label for own in found.classes] == ["a", "b", "c", "only read"]
    for own in found.classes:
        theirs = report[own.label]
        assert (own.precision, own.recall, own.f1) == (theirs["precision"], theirs["recall"], theirs["f1-score"])
        assert (own.num_examples, own.num_predicted) == (theirs["support"], (predicted == LABELS.index(own.label)).sum())
    assert found.interval == wilson_interval(found.accuracy, 400)
    assert found.num_examples == 400 and 0.5 < found.accuracy < 0.8


def test_calibration_bins_are_those_of_scikit_learn(found):
    scores, targets = made()
    probable, right = softmax(scores).max(1), scores.argmax(1) == targets
    accuracy, confidence = calibration_curve(right, probable, n_bins=15, strategy="uniform")
    assert [one.accuracy for one in found.calibration.bins] == pytest.approx(list(accuracy), rel=1e-12)
    assert [one.confidence for one in found.calibration.bins] == pytest.approx(list(confidence), rel=1e-12)
    counts = [one.num_examples for one in found.calibration.bins]
    assert sum(counts) == 400
    assert found.calibration.error == pytest.approx(np.average(abs(accuracy - confidence), weights=counts), rel=1e-12)


def test_calibration_is_perfect_where_confidence_is_the_share_that_is_right():
    right = np.array([True] * 3 + [False])
    assert calibration(np.full(4, 0.75), right).error == 0.0
    assert calibration(np.full(4, 1.0), right).error == 0.25
    assert calibration(np.array([0.0, 1.0]), np.array([False, True])).bins[0].low == 0.0


def test_the_surest_are_decided_and_equals_together():
    confidence, right = np.array([0.9, 0.7, 0.7, 0.2]), np.array([True, True, False, False])
    points = coverage_curve(confidence, right, (1.0, 0.5, 0.25))
    assert [(p.confidence, p.coverage, p.num_examples, p.accuracy) for p in points] == [
        (0.2, 1.0, 4, 0.5),
        (0.7, 0.75, 3, 2 / 3),
        (0.9, 0.25, 1, 1.0),
    ]
    assert risk_coverage_area(confidence, right) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
    assert risk_coverage_area(confidence[[0, 2, 1, 3]], right[[0, 2, 1, 3]]) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)


def test_coverage_is_the_curve_of_accuracy_over_the_surest(found):
    scores, targets = made()
    order = np.argsort(-softmax(scores).max(1))
    right = (scores.argmax(1) == targets)[order]
    for point in found.coverage:
        assert point.accuracy == right[: point.num_examples].mean() and point.coverage == point.num_examples / 400
    assert found.risk_coverage_area == pytest.approx(np.mean(np.cumsum(~right) / np.arange(1, 401)), rel=1e-9)
    assert found.coverage[0].num_examples == 400 and found.coverage[-1].num_examples == 100


def test_mistakes_are_all_that_is_read_wrongly_the_most_confident_first(found):
    scores, targets = made()
    probable, predicted = softmax(scores), scores.argmax(1)
    wrong = {f"text {i}": (predicted[i], probable[i].max(), probable[i][targets[i]]) for i in np.flatnonzero(predicted != targets)}
    assert {m.example.fields["text"]: (LABELS.index(m.predicted), m.probability, m.label_probability) for m in found.mistakes} == wrong
    assert [m.probability for m in found.mistakes] == sorted((m.probability for m in found.mistakes), reverse=True)


def test_labels_that_were_turned_look_wrong_and_others_do_not():
    draw = np.random.default_rng(1)
    truth = draw.integers(0, 3, 300)
    scores = np.eye(3)[truth] * 4 + draw.normal(0, 0.5, (300, 3))
    given = truth.copy()
    turned = draw.permutation(300)[:30]
    given[turned] = (truth[turned] + 1) % 3
    found = evaluation(examples(given), LABELS[:3], scores, Score(0.0))
    suspects = {int(one.example.fields["text"].split()[1]): one for one in found.suspects}
    assert set(suspects) <= set(turned.tolist()) and len(suspects) > 15  # a class's own mean confidence is a high bar for some
    assert all(one.predicted == LABELS[truth[i]] and one.label_probability < one.probability for i, one in suspects.items())
    gaps = [one.label_probability - one.probability for one in found.suspects]
    assert gaps == sorted(gaps)


def test_a_label_is_taken_for_a_class_by_the_rule_of_confident_learning():
    probable = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    read = readings(np.log(probable), np.array([0, 0, 1, 1]))
    means = [(0.9 + 0.6) / 2, (0.7 + 0.2) / 2]  # 0.75 and 0.45
    assert [0 if p[0] >= means[0] else 1 if p[1] >= means[1] else -1 for p in probable] == read.likely.tolist() == [0, -1, 1, 0]


def test_examples_of_none_of_the_classes_are_told_from_the_others_by_confidence():
    scores, targets = made()
    far = scores[:50] * 0.1
    others = [Example({"text": str(i)}, "elsewhere" if i % 2 else "nowhere") for i in range(50)]
    found = evaluation(examples(targets), LABELS, scores, Score(0.5), others=(others, far))
    assert found.none_of_these is not None
    known = np.repeat([1, 0], [400, 50])
    assert found.none_of_these.auroc == metrics.roc_auc_score(known, logsumexp(np.r_[scores, far].astype(float), axis=1))
    assert found.none_of_these.confidence == "energy"
    assert found.none_of_these.labels == {"elsewhere": 25, "nowhere": 25} and found.num_examples == 400


def test_all_of_it_is_plain_json(found):
    held = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert held["accuracy"] == found.accuracy and held["accuracy_interval"] == list(found.interval)
    assert len(held["mistakes"]) == len(found.mistakes) and held["mistakes"][0]["text"] == found.mistakes[0].example.fields["text"]
    assert sum(count for *_, count in held["confusions"]) == len(found.mistakes)
    assert held["calibration"]["bins"][0]["num_examples"] == found.calibration.bins[0].num_examples


def test_scores_of_many_rows_are_read_in_parts():
    count = BLOCK // 2 + 3  # two parts
    scores = np.tile(np.array([[0.0, 1.0], [2.0, 0.0]], np.float32), (count // 2 + 1, 1))[:count]
    targets = np.zeros(count, np.int64)
    read = readings(scores, targets)
    assert read.label_probability[-1] == softmax(scores[-1:])[0, 0] and read.likely[-1] in (-1, 0)
    assert read.right.sum() == count // 2


def test_nothing_to_evaluate_on_is_told():
    with pytest.raises(DataError, match="There are no examples in the file to evaluate on"):
        evaluation([], LABELS, np.zeros((0, 5)), Score(0.0), of="the file")


def test_what_is_missing_is_told_with_how_to_get_it(monkeypatch, found, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r'Plots need matplotlib: pip install "maao\[plot\]"'):
        plot_evaluation(found, tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    scores, targets = made()
    with pytest.raises(MaaoError, match=r'needs the package scikit-learn: pip install "maao\[sklearn\]"'):
        evaluation(examples(targets), LABELS, scores, Score(0.5))


def test_a_report_of_many_classes_shows_the_worst_in_80_columns():
    draw = np.random.default_rng(0)
    names = [f"a_class_of_its_own_{i}_with_a_name_that_is_long" for i in range(40)]
    targets = np.repeat(np.arange(40), 10)
    scores = draw.normal(0, 1, (400, 40)) + 2.5 * np.eye(40)[targets]
    many = evaluation([Example({"text": "word " * 40}, names[t]) for t in targets], names, scores, Score(1.0), of="many.csv")
    for every_class, shown in ((False, 12), (True, 40)):
        console = Console(width=80, file=io.StringIO())
        console.print(evaluation_report(many, every_class=every_class))
        lines = console.file.getvalue().splitlines()
        assert all(len(line) <= 80 for line in lines)
        table = lines[lines.index(next(line for line in lines if line.startswith(" class "))) + 2 :]
        whole = "".join(line[:27].strip() for line in table[: next(i for i, line in enumerate(table) if not line.strip())])
        worst = sorted(many.classes, key=lambda own: (own.f1, -own.num_examples))[:shown]
        assert whole == "".join(own.label for own in worst)
        assert {line[:27].strip() for line in table} > {"with_a_name_that_is_long"}  # broken between words
        assert ("(12 of 40; --all shows every one)" in " ".join(lines)) is (not every_class)
