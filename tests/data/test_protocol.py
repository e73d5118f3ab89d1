"""Protocols: what splits they make, and which results may be compared."""

import pytest

from maao.data.protocols import FEW_SHOT_16, FEWGLUE_32, FULL, PROTOCOLS, RELEASED, check_same, protocol_named, splits_by
from maao.errors import ConfigError, DataError
from maao.types import Example


def pool(size: int, start: int = 0) -> list[Example]:
    return [Example({"text": f"{label} {index}"}, label) for label in ("bad", "good") for index in range(start, start + size)]


def sizes(splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.select), len(splits.test)


def test_sixteen_shots_train_and_sixteen_others_choose():
    splits = splits_by(FEW_SHOT_16, pool(40), None, pool(700, start=100), seed=3)
    assert sizes(splits) == (32, 32, 1400)
    assert [e.label for e in splits.train].count("bad") == [e.label for e in splits.select].count("bad") == 16


def test_fewglue_is_used_as_published_but_for_at_most_500_of_the_validation_set():
    train, select = pool(16), pool(16, start=50)
    splits = splits_by(FEWGLUE_32, train, select, pool(300, start=100))
    assert sizes(splits) == (32, 32, 500)
    assert splits.train == tuple(train) and splits.select == tuple(select)
    assert splits.test == splits_by(FEWGLUE_32, train, select, pool(300, start=100)[::-1], seed=9).test
    assert sizes(splits_by(FEWGLUE_32, train, select, pool(30, start=100))) == (32, 32, 60)


def test_full_holds_out_a_tenth_of_each_class_to_choose_by():
    train = pool(100)[:-60]  # 100 bad, 40 good
    splits = splits_by(FULL, train, None, pool(50, start=100))
    assert sizes(splits) == (126, 14, 100)
    assert [e.label for e in splits.select].count("good") == 4
    assert not set(map(str, splits.train)) & set(map(str, splits.select))


def test_released_chooses_and_reports_by_the_same_examples_and_says_so():
    held_out = pool(10, start=100)
    splits = splits_by(RELEASED, pool(5), None, held_out)
    assert splits.select == tuple(held_out) and splits.test == ()
    assert RELEASED.biased and "biased" in splits.notes[0]
    assert any("test is empty" in note for note in splits.notes)
    assert not any(protocol.biased for protocol in PROTOCOLS.values() if protocol != RELEASED)


def test_parts_that_a_protocol_does_not_use_are_refused():
    with pytest.raises(ConfigError, match="'fewglue-32' chooses by dev32"):
        splits_by(FEWGLUE_32, pool(16), None, pool(5, start=50))
    for protocol in (FULL, RELEASED):
        with pytest.raises(ConfigError, match=f"'{protocol.name}' .* give no select"):
            splits_by(protocol, pool(16), pool(2, start=30), pool(5, start=50))
    with pytest.raises(DataError, match="it is empty"):
        splits_by(FULL, pool(16), None, [])


def test_results_of_one_protocol_are_compared():
    assert check_same([{"protocol": "fewglue-32"}, {"protocol": "fewglue-32", "shots": None}]) == FEWGLUE_32
    assert check_same([{"protocol": "few-shot-16"}, {"protocol": "few-shot-16", "shots": 16}]) == FEW_SHOT_16


def test_results_of_different_protocols_are_refused_with_both_named():
    with pytest.raises(ConfigError) as caught:
        check_same([{"protocol": "full"}, {"protocol": "full"}, {"protocol": "released"}])
    text = str(caught.value)
    assert "result 1 is of 'full' (all shots" in text and "result 3 of 'released'" in text and "biased" in text


def test_results_of_different_shots_are_refused():
    with pytest.raises(ConfigError, match=r"result 1 is of 'few-shot-16' \(16 shots.*result 2 of 'few-shot-16' \(4 shots"):
        check_same([{"protocol": "few-shot-16"}, {"protocol": "few-shot-16", "shots": 4}])


@pytest.mark.parametrize(
    ("rows", "found"),
    [([], "no results"), ([{"accuracy": 1.0}], "Result 1 does not say"), ([{"protocol": "ful"}], "Did you mean 'full'")],
)
def test_results_without_a_known_protocol_are_refused(rows, found):
    with pytest.raises(ConfigError, match=found):
        check_same(rows)


def test_an_unknown_protocol_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'fewglue-32'"):
        protocol_named("fewglue32")
