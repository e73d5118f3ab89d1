"""Metrics against slow computations of their definitions, and against values worked out by hand."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.errors import ConfigError, DataError
from maao.evaluation.metrics import harmonic_mean, measure, normalize_answer, token_f1
from maao.types import Example

LABELS = ("a", "b", "c")
FT = ("false", "true")


def plain(label: str, **more) -> Example:
    return Example({"text": "x"}, label, **more)


def one_hot(answer: str, labels=LABELS) -> list[float]:
    return [float(label == answer) for label in labels]


def confusion(pairs) -> Counter:
    return Counter(pairs)


CASES = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30)


@given(pairs=CASES)
def test_metrics_of_classes_agree_with_a_confusion_matrix(pairs):
    table = confusion(pairs)  # (gold, answer) -> count
    found = measure(("f1_macro",), [plain(gold) for gold, _ in pairs], LABELS, [one_hot(answer) for _, answer in pairs])
    assert found["accuracy"] == pytest.approx(float(Fraction(sum(table[label, label] for label in LABELS), len(pairs))))
    recalls, f1s = [], []
    for label in LABELS:
        golds = sum(table[label, other] for other in LABELS)
        answers = sum(table[other, label] for other in LABELS)
        if golds:
            recalls.append(Fraction(table[label, label], golds))
        if golds or answers:
            precision = Fraction(table[label, label], answers) if answers else Fraction(0)
            recall = Fraction(table[label, label], golds) if golds else Fraction(0)
            f1s.append(2 * precision * recall / (precision + recall) if precision + recall else Fraction(0))
    assert found["balanced_accuracy"] == pytest.approx(float(sum(recalls) / len(recalls)))
    assert found["f1_macro"] == pytest.approx(float(sum(f1s) / len(f1s)))


def test_always_answering_the_frequent_class_is_worth_one_half():
    examples = [plain(label) for label in "aaaaaaab"]
    found = measure((), examples, ("a", "b"), [[1.0, 0.0]] * 8)
    assert found == {"accuracy": 0.875, "balanced_accuracy": 0.5}


@given(rows=st.lists(st.tuples(st.integers(0, 2), st.lists(st.floats(-30, 30), min_size=3, max_size=3)), min_size=1, max_size=8))
def test_log_loss_agrees_with_the_softmax_written_out(rows):
    found = measure(("log_loss",), [plain(LABELS[i]) for i, _ in rows], LABELS, [row for _, row in rows])["log_loss"]
    assert found == pytest.approx(-sum(math.log(math.exp(row[i]) / sum(map(math.exp, row))) for i, row in rows) / len(rows), abs=1e-9)


def test_log_loss_neither_overflows_nor_cares_about_a_shift():
    examples = [plain("a"), plain("b")]
    low = measure(("log_loss",), examples, ("a", "b"), [[0.0, 2.0], [0.0, 2.0]])["log_loss"]
    assert measure(("log_loss",), examples, ("a", "b"), [[1e4, 1e4 + 2], [-1e4, 2 - 1e4]])["log_loss"] == pytest.approx(low)
    assert measure(("log_loss",), [plain("a")], ("a", "b"), [[-math.inf, 0.0]])["log_loss"] == math.inf


def test_multiple_choice_has_scores_of_varying_number():
    examples = [plain("1", choices=("x", "y")), plain("0", choices=("x", "y", "z")), plain("2", choices=("x", "y", "z"))]
    found = measure(("log_loss",), examples, (), [[0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    assert found["accuracy"] == pytest.approx(2 / 3) and found["balanced_accuracy"] == pytest.approx(2 / 3)
    right = [math.e / (1 + math.e), 1 / (2 + math.e), math.exp(3) / (2 + math.exp(3))]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, right)) / 3)


def test_of_equal_scores_the_first_answers():
    assert measure((), [plain("a"), plain("b")], ("a", "b"), [[0.5, 0.5], [0.5, 0.5]])["accuracy"] == 0.5


# Questions


@given(
    answers=st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from(FT), st.sampled_from(FT)), min_size=1, max_size=20
    )  # group, gold, answer
)
def test_multirc_agrees_with_its_definition(answers):
    examples = [Example({"answer": "x"}, gold, group=group) for group, gold, _ in answers]
    found = measure(("f1a", "em"), examples, FT, [one_hot(answer, FT) for _, _, answer in answers])
    groups = {group: [gold == answer for other, gold, answer in answers if other == group] for group, _, _ in answers}
    assert found["em"] == pytest.approx(sum(all(right) for right in groups.values()) / len(groups))
    right = sum(gold == answer == "true" for _, gold, answer in answers)
    answered, wanted = (sum(answer[i] == "true" for answer in answers) for i in (2, 1))
    precision, recall = (right / count if count else 0.0 for count in (answered, wanted))
    assert found["f1a"] == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def test_the_multirc_example_worked_out_by_hand():
    golds, answers = ("true", "false", "true", "true"), ("true", "false", "true", "false")
    examples = [Example({"answer": "x"}, gold, group=group) for gold, group in zip(golds, ("0-0", "0-0", "0-1", "0-1"), strict=True)]
    found = measure(("f1a", "em"), examples, FT, [one_hot(answer, FT) for answer in answers])
    assert found["em"] == 0.5 and found["f1a"] == pytest.approx(0.8)  # 2 of 2 answered, 2 of 3 found


def entities(group: str, *rows: tuple[str, str, float]) -> list[tuple[Example, list[float]]]:
    return [(Example({"entity": entity}, label, group=group), [0.0, score]) for entity, label, score in rows]


def test_the_record_example_worked_out_by_hand():
    rows = [
        *entities("0-0", ("the U.S.", "true", 2.0), ("Iran", "false", 1.0)),  # right
        *entities("0-1", ("Obama", "true", 0.5), ("President Barack Obama", "true", 0.2), ("Barack H. Obama", "false", 1.0)),
        *entities("1-0", ("Paris", "true", 0.0), ("Rome", "false", 0.1)),  # wrong
        *entities("1-1", ("The US", "false", 3.0), ("US", "true", 1.0)),  # equal once normalized
    ]
    found = measure(("f1", "em"), [example for example, _ in rows], FT, [scores for _, scores in rows])
    # "barack h obama": against "obama" 2 * 1 / (3 + 1), against "president barack obama" 2 * 2 / (3 + 3)
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)
    assert found["em"] == pytest.approx(2 / 4)


def test_the_probability_of_true_chooses_the_entity_and_the_first_of_equals():
    examples = [example for example, _ in entities("0-0", ("Ann", "true", 0.0), ("Bob", "false", 0.0))]
    assert measure(("em",), examples, FT, [[-5.0, 0.0], [3.0, 1.0]])["em"] == 1.0
    assert measure(("em",), examples, FT, [[0.0, 0.0], [1.0, 1.0]])["em"] == 1.0


@given(
    st.lists(st.sampled_from(["the", "cat", "sat", "A", "Mat."]), max_size=6), st.lists(st.sampled_from(["the", "cat", "mat"]), max_size=6)
)
def test_token_f1_agrees_with_the_official_script(found, gold):
    predicted, wanted = " ".join(found), " ".join(gold)
    first, second = normalize_answer(predicted).split(), normalize_answer(wanted).split()
    shared = 0
    left = list(second)
    for word in first:
        if word in left:
            left.remove(word)
            shared += 1
    expected = 0.0
    if shared:
        precision, recall = shared / len(first), shared / len(second)
        expected = 2 * precision * recall / (precision + recall)
    assert token_f1(predicted, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "bare"), [("An  apple!", "apple"), ("O'Neil", "oneil"), ("Theatre", "theatre"), ("the a an", "")])
def test_answers_are_normalized_as_in_squad(text, bare):
    assert normalize_answer(text) == bare


# What is refused


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigError, match="no metric 'f2'"):
        measure(("f2",), [plain("a")], LABELS, [one_hot("a")])


@pytest.mark.parametrize(
    ("examples", "scores", "found"),
    [
        ([], [], "There are no examples"),
        ([plain("a")], [], "1 examples, but scores of 0"),
        ([plain("a")], [[0.0, 1.0]], "Example 1 has 3 classes, but 2 scores"),
        ([plain("1", choices=("x", "y"))], [[0.0]], "Example 1 has 2 choices, but 1 scores"),
        ([plain("a")], [[0.0, math.nan, 1.0]], "not a number"),
        ([plain("d")], [[0.0, 0.0, 1.0]], "the label 'd'"),
    ],
)
def test_scores_that_do_not_fit_are_refused(examples, scores, found):
    with pytest.raises(DataError, match=found):
        measure((), examples, LABELS, scores)


@pytest.mark.parametrize(
    ("name", "example", "labels", "found"),
    [
        ("em", plain("true"), FT, "has no group"),
        ("f1", plain("true", group="0"), FT, "field 'entity'"),
        ("f1", Example({"entity": "Bob"}, "false", group="0"), FT, "question '0' has no example with the label 'true'"),
        ("f1a", plain("a"), ("a", "b"), "needs the class 'true'"),
    ],
)
def test_metrics_of_questions_need_questions(name, example, labels, found):
    with pytest.raises(DataError, match=found):
        measure((name,), [example], labels, [[0.0, 1.0]])


def test_the_harmonic_mean_lies_nearer_to_the_smaller_number():
    assert harmonic_mean(0.5, 0.5) == 0.5
    assert harmonic_mean(82.69, 63.22) == pytest.approx(71.66, abs=0.005)  # CoOp's average over 11 data sets, as CoCoOp's paper has it
    assert harmonic_mean(0.2, 0.9) == harmonic_mean(0.9, 0.2) == pytest.approx(1 / ((1 / 0.2 + 1 / 0.9) / 2))


def test_the_harmonic_mean_with_nothing_on_one_side_is_nothing():
    assert harmonic_mean(0.0, 0.9) == harmonic_mean(0.9, 0.0) == harmonic_mean(0.0, 0.0) == 0.0


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_the_harmonic_mean_of_what_is_no_metric_is_refused(wrong):
    with pytest.raises(DataError, match="new is"):
        harmonic_mean(0.5, wrong)
