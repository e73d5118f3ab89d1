"""Few-shot samples: sizes, prefixes, seeds, what is fixed, and what is said where there is too little."""

import pytest

from maao.data.images.sampling import FewShot, sample_parts, sample_pool
from maao.data.sampling import default_select
from maao.errors import DataError
from maao.types import Example

LABELS = ("ant", "bee", "cat")


def pictures(sizes: dict[str, int], part: str = "") -> list[Example]:
    return [Example({"image": f"{part}{label}/{i}.png"}, label) for label, size in sizes.items() for i in range(size)]


def of_class(examples, label: str) -> list[str]:
    return [example.fields["image"] for example in examples if example.label == label]


def key_set(examples):
    return {example.fields["image"] for example in examples}


def pool(shots: int, seed: int = 0, size: int = 60, select_shots: int | None = None, test_size: int | None = None, fewer: bool = False):
    wanted = default_select(shots) if select_shots is None else select_shots
    held = pictures(dict.fromkeys(LABELS, size))
    return sample_pool(held, LABELS, FewShot(shots=shots, select_shots=wanted, test_size=test_size, seed=seed, fewer=fewer))


def test_the_fields_rule_is_as_many_as_shots_and_at_most_four():
    assert [default_select(shots) for shots in (1, 2, 4, 8, 16)] == [1, 2, 4, 4, 4]


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_shots_are_prefixes_of_larger_ones_and_test_is_the_same(seed):
    found = {shots: pool(shots, seed) for shots in (1, 2, 4, 8, 16)}
    for shots, splits in found.items():
        assert splits.test == found[16].test
        for label in LABELS:
            assert of_class(splits.train, label) == of_class(found[16].train, label)[:shots]
            assert len(of_class(splits.train, label)) == shots and len(of_class(splits.select, label)) == min(shots, 4)
            assert of_class(splits.select, label) == of_class(found[16].select, label)[: min(shots, 4)]
        everything = [example.fields["image"] for part in (splits.train, splits.select, splits.test) for example in part]
        assert len(set(everything)) == len(everything)


def test_seeds_sample_differently_and_are_judged_on_the_same_test():
    zero, one = pool(4, 0), pool(4, 1)
    assert set(of_class(zero.train, "ant")) != set(of_class(one.train, "ant"))
    assert key_set((*zero.train, *zero.select)) != key_set((*one.train, *one.select))  # not the same few pictures dealt anew
    assert zero.test == one.test and len(zero.test) == 90


def test_a_class_is_sampled_alike_whatever_the_others_and_the_order():
    held = pictures(dict.fromkeys(LABELS, 20))
    options = {"shots": 4, "select_shots": 2, "test_size": None, "seed": 3, "fewer": False}
    whole = sample_pool(held, LABELS, FewShot(**options))
    backward = sample_pool(held[::-1], LABELS, FewShot(**options))
    two = sample_pool([example for example in held if example.label != "bee"], ("ant", "cat"), FewShot(**options))
    assert whole.digest == backward.digest
    assert of_class(two.train, "cat") == of_class(whole.train, "cat")


def test_test_size_takes_the_lowest_hashes():
    assert key_set(pool(4, test_size=7).test) < key_set(pool(4).test)
    assert len(pool(4, 5, test_size=7).test) == 7 and pool(4, 5, test_size=7).test == pool(4, 6, test_size=7).test


def test_more_shots_than_pictures_name_every_short_class():
    held = pictures({"ant": 3, "bee": 30, "cat": 1})
    with pytest.raises(DataError) as caught:
        sample_pool(held, LABELS, FewShot(shots=8, select_shots=4, test_size=None, seed=0, fewer=False))
    text = str(caught.value)
    assert "2 of the classes" in text and "'cat' has 1, 'ant' has 3" in text and "bee" not in text and "data.fewer" in text


def test_what_there_is_is_taken_where_asked_and_the_short_classes_are_noted():
    held = pictures({"ant": 3, "bee": 30, "cat": 5})
    splits = sample_pool(held, LABELS, FewShot(shots=8, select_shots=4, test_size=None, seed=0, fewer=True))
    assert [len(of_class(splits.train, label)) for label in LABELS] == [2, 8, 4]
    assert [len(of_class(splits.select, label)) for label in LABELS] == [1, 4, 1]
    assert any("'ant' has 3, 'cat' has 5" in note for note in splits.notes)
    with pytest.raises(DataError, match="'cat' has 1 picture: it needs one to train and one to select"):
        sample_pool(pictures({"ant": 9, "cat": 1}), ("ant", "cat"), FewShot(shots=2, select_shots=1, test_size=None, seed=0, fewer=True))


def parts(**sizes: dict[str, int]):
    return {part: pictures(size, f"{part}/") for part, size in sizes.items()}


def test_given_parts_stay_apart():
    given = parts(train=dict.fromkeys(LABELS, 9), select=dict.fromkeys(LABELS, 6), test=dict.fromkeys(LABELS, 5))
    splits = sample_parts(given, LABELS, FewShot(shots=8, select_shots=None, test_size=None, seed=0, fewer=False))
    for name, part, size in (("train", splits.train, 24), ("select", splits.select, 12), ("test", splits.test, 15)):
        assert len(part) == size and all(key.startswith(f"{name}/") for key in key_set(part))


def test_select_comes_out_of_train_where_there_is_none():
    given = parts(train=dict.fromkeys(LABELS, 9), test=dict.fromkeys(LABELS, 5))
    splits = sample_parts(given, LABELS, FewShot(shots=5, select_shots=4, test_size=None, seed=0, fewer=False))
    assert len(splits.train) == 15 and len(splits.select) == 12 and not key_set(splits.train) & key_set(splits.select)
    assert any("out of train" in note for note in splits.notes)
    with pytest.raises(DataError, match=r"fewer than the 10 pictures .* \(6 for train and 4 for select\)"):
        sample_parts(given, LABELS, FewShot(shots=6, select_shots=4, test_size=None, seed=0, fewer=False))
    with pytest.raises(DataError, match=r"set data\.shots"):
        sample_parts(given, LABELS, FewShot(shots=None, select_shots=None, test_size=None, seed=0, fewer=False))


def test_a_class_without_a_picture_in_select_is_named_even_where_fewer_do():
    given = parts(train=dict.fromkeys(LABELS, 9), select={"ant": 4, "cat": 4}, test={"ant": 1})
    with pytest.raises(DataError, match="'bee' has no picture in select"):
        sample_parts(given, LABELS, FewShot(shots=4, select_shots=None, test_size=None, seed=0, fewer=True))
