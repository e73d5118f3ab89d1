"""Cross-validation: how labels are dealt to folds, and what data say of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from maao.config import make_config
from maao.data.folds import deal, told_alone
from maao.data.protocols import PROTOCOLS, check_same
from maao.data.splits import few_shot, from_parts, known_parts
from maao.errors import ConfigError, DataError
from maao.types import Example

LABELS = ("a", "b", "c")


def examples(*counts: int) -> list[Example]:
    return [Example({"text": f"{label} {i}"}, label) for label, count in zip(LABELS, counts, strict=False) for i in range(count)]


def shares(few: list[Example], folds: tuple[int, ...]) -> dict[str, list[int]]:
    """Return how many examples of each class every fold has."""
    found = {label: Counter(fold for one, fold in zip(few, folds, strict=True) if one.label == label) for label in LABELS}
    return {label: [own[fold] for fold in range(max(folds) + 1)] for label, own in found.items()}


@pytest.mark.parametrize(
    ("counts", "asked", "folds"),
    [((8, 8, 8), 5, 5), ((2, 2, 2), 5, 2), ((7, 1, 2), 5, 5), ((3, 1, 1), 5, 3), ((1, 1, 1), 5, 3), ((1, 1, 1), 2, 2), ((9, 0, 4), 3, 3)],
)
def test_folds_are_stratified_and_at_most_as_many_as_the_most_frequent_class_has_labels(counts, asked, folds):
    few = examples(*counts)
    dealt = deal(few, LABELS, asked, seed=3)
    sizes = Counter(dealt)
    assert set(sizes) == set(range(folds)) and max(sizes.values()) - min(sizes.values()) <= 1
    assert all(max(own) - min(own) <= 1 for own in shares(few, dealt).values())


def test_folds_follow_the_seed_and_not_the_order_of_the_examples():
    few = examples(6, 6, 6)
    assert deal(few[::-1], LABELS, 3, seed=0) == tuple(reversed(deal(few, LABELS, 3, seed=0)))
    assert deal(few, LABELS, 3, seed=0) != deal(few, LABELS, 3, seed=1)


def test_questions_are_dealt_whole():
    few = [Example({"text": f"{q} {i}"}, LABELS[i % 2], group=f"q{q}") for q in range(5) for i in range(4)]
    dealt = deal(few, LABELS, 3, seed=0)
    assert max(dealt) == 2 and all(len({fold for one, fold in zip(few, dealt, strict=True) if one.group == f"q{q}"}) == 1 for q in range(5))


def test_one_label_cannot_both_train_and_judge_and_none_need_not():
    assert deal([], LABELS, 5, seed=0) == ()
    with pytest.raises(DataError, match="one labelled example only"):
        deal(examples(1), LABELS, 5, seed=0)


def test_classes_of_one_example_are_told_of_three_by_name():
    for counts, told in (
        ((3, 1, 2), "The class 'b' has one example: out of fold it is known by its name (or its lines) alone."),
        ((1, 1, 2), "2 classes have one example each ('a', 'b'): out of fold such a class is known by its name (or its lines) alone."),
    ):
        few = examples(*counts)
        assert told_alone(few, deal(few, LABELS, 5, seed=0)) == (told.replace("'b'", repr(LABELS[1])).replace("'a'", repr(LABELS[0])),)
        assert told_alone(few, ()) == ()  # examples apart judge
    many = [Example({"text": label}, label) for label in "stuvwxyz"]
    assert "8 classes have one example each ('s', 't', 'u' and 5 more)" in told_alone(many, deal(many, tuple("stuvwxyz"), 5, seed=0))[0]
    pairs = examples(2, 2, 2)
    assert told_alone(pairs, deal(pairs, LABELS, 5, seed=0)) == ()
    questions = [Example({"text": f"{i}"}, LABELS[i], group=f"q{i}") for i in range(2)]
    assert told_alone(questions, deal(questions, LABELS, 5, seed=0)) == ()


def test_all_labels_of_parts_train_and_none_is_set_apart():
    few = examples(4, 2, 1)
    splits = from_parts(few, None, examples(6)[4:], folds=5)
    assert splits.train == tuple(few) and not splits.select and splits.num_folds == 4 and splits.judged == tuple(few)
    assert any("1 to 4 examples of each class" in note for note in splits.notes)
    other = from_parts(few, None, splits.test, folds=5, seed=1)
    assert other.folds != splits.folds and other.digest != splits.digest


def test_a_pool_gives_the_same_test_and_the_same_first_labels():
    pool = examples(40, 40, 40)
    apart = few_shot(pool, shots=4, select_shots=4, test_size=30, seed=2)
    folded = few_shot(pool, shots=4, select_shots=0, test_size=30, seed=2, folds=5)
    assert (folded.train, folded.test, folded.select) == (apart.train, apart.test, ())
    assert few_shot(pool, shots=8, select_shots=0, test_size=30, seed=2, folds=5).train[:12] == folded.train


def test_classes_may_have_fewer_labels_than_asked_for_or_none():
    few = from_parts(examples(5, 2), None, (), labels=LABELS, shots=4, folds=5)
    assert Counter(one.label for one in few.train) == {"a": 4, "b": 2}
    assert any("0 to 4 examples of each class" in note and "(4 were asked for)" in note for note in few.notes)
    assert any("train: has no example of 'c'" in note for note in few.notes)
    none = from_parts((), None, examples(1, 1), labels=LABELS, folds=5)
    assert not none.train and not none.folds and any("no label is spent" in note for note in none.notes)


def test_what_is_set_apart_to_choose_by_is_refused_beside_folds():
    with pytest.raises(ConfigError, match="sets no examples apart"):
        from_parts(examples(4, 4), examples(5, 5)[4:5], (), folds=5)
    with pytest.raises(ConfigError, match="at least 2"):
        from_parts(examples(4, 4), None, (), folds=1)


def test_folds_that_are_known_are_kept_and_checked():
    few = from_parts(examples(4, 4), None, (), folds=4)
    again = known_parts(few.train, (), (), labels=few.labels, folds=few.folds)
    assert replace(again, notes=few.notes) == few
    with pytest.raises(DataError, match="folds must give each of the 8 examples"):
        known_parts(few.train, (), (), labels=few.labels, folds=few.folds[1:])


def test_results_of_a_cross_validation_are_not_compared_with_others_in_silence():
    named = make_config({"data": {"select": "cross_validation", "folds": 3}}).data.options.protocol_name
    assert named == "cross-validation-3" and make_config({}).data.options.protocol_name is None
    with pytest.raises(ConfigError, match="cannot be compared"):
        check_same([{"protocol": "full"}, {"protocol": named}], [replace(PROTOCOLS["full"], name=named)])
    pictures = make_config(
        {"model": {"kind": "matcher", "name": "packaged:emoji-vit"}, "data": {"source": "emoji", "select": "cross_validation"}}
    )
    assert pictures.data.options.protocol_name == "emoji-8-cross-validation-5"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"shots": 0}, "set data.select = 'cross_validation'"),
        ({"folds": 3}, "data.select is not 'cross_validation'"),
        ({"select": "cross_validation", "select_shots": 3}, "sets no examples apart"),
        ({"select": "cross_validation", "protocol": "full", "source": "hub:x"}, "says which examples choose"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(data, told):
    with pytest.raises(ConfigError, match=told):
        make_config({"data": data})
