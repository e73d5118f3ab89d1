"""Splits: disjoint whatever the pool, the same for the same seed, one test for every seed; and all that is refused."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.data.splits import few_shot, from_parts, majority_accuracy
from maao.errors import ConfigError, DataError
from maao.types import Example, Splits


def example(text: str, label: str) -> Example:
    return Example({"text": text}, label)


def pool_of(**sizes: int) -> list[Example]:
    return [example(f"{label} {index}", label) for label, size in sizes.items() for index in range(size)]


def keys(examples) -> list[str]:
    return [json.dumps(dict(each.fields), sort_keys=True) for each in examples]


def labels_of(examples) -> list[str]:
    return [each.label for each in examples]


def few(pool, *, shots=2, select_shots=1, test_size=4, seed=0, labels=None) -> Splits:
    return few_shot(pool, shots=shots, select_shots=select_shots, test_size=test_size, seed=seed, labels=labels)


def message(make, *args, error=DataError, **kwargs) -> str:
    with pytest.raises(error) as caught:
        make(*args, **kwargs)
    return str(caught.value)


POOL = pool_of(bad=12, good=12)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).filter(str.strip)
POOLS = st.lists(
    st.tuples(TEXTS, st.sampled_from("abc")),
    min_size=12, max_size=40, unique_by=lambda pair: pair[0],
).map(lambda pairs: [example(*pair) for pair in pairs])  # fmt: skip
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.none() | st.integers(0, 8))


def try_few(pool, sizes, seed) -> Splits | None:
    try:
        return few_shot(pool, shots=sizes[0], select_shots=sizes[1], test_size=sizes[2], seed=seed)
    except DataError as error:  # a random pool may be too small; nothing else is wrong with it
        if "were asked" in str(error) or "one class only" in str(error):
            return None
        raise


# few_shot


@given(pool=POOLS, sizes=SIZES, seed=st.integers())
def test_splits_of_any_pool_are_disjoint_parts_of_it_with_the_sizes_asked(pool, sizes, seed):
    splits = try_few(pool, sizes, seed)
    if splits is None:
        return
    together = keys((*splits.train, *splits.select, *splits.test))
    assert len(together) == len(set(together))
    assert set(together) <= set(keys(pool))
    for label in splits.labels:
        assert labels_of(splits.train).count(label) == sizes[0]
        assert labels_of(splits.select).count(label) == sizes[1]
    spare = len(pool) - len(splits.labels) * (sizes[0] + sizes[1])
    assert len(splits.test) == (spare if sizes[2] is None else min(spare, sizes[2]))


@given(pool=POOLS, sizes=SIZES, seed=st.integers(), order=st.randoms(use_true_random=False))
def test_the_same_seed_gives_the_same_splits_in_whatever_order_the_pool_comes(pool, sizes, seed, order):
    shuffled = list(pool)
    order.shuffle(shuffled)
    once, again = try_few(pool, sizes, seed), try_few(shuffled, sizes, seed)
    assert once == again


@given(pool=POOLS, sizes=SIZES, seeds=st.tuples(st.integers(), st.integers()))
def test_the_test_split_is_the_same_for_every_seed(pool, sizes, seeds):
    sizes = (*sizes[:2], sizes[2] or 3)
    one, other = (try_few(pool, sizes, seed) for seed in seeds)
    assert (one is None) == (other is None)
    assert one is None or one.test == other.test


def test_the_test_split_holds_the_lowest_hashes():
    def digest(each: Example) -> str:
        text = json.dumps({"fields": dict(each.fields), "label": each.label}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    assert few(POOL).test == tuple(sorted(POOL, key=digest)[:4])


def test_the_sizes_of_train_and_select_do_not_move_the_test_split():
    assert few(POOL, shots=1).test == few(POOL, shots=3, select_shots=3).test


def test_seeds_sample_differently():
    assert len({few(POOL, seed=seed).digest for seed in range(5)}) == 5


def test_more_shots_add_to_train_and_leave_select_as_it_is():
    small, large = few(POOL, shots=2), few(POOL, shots=4)
    assert large.train[: len(small.train)] == small.train
    assert large.select == small.select


def test_classes_take_turns():
    assert labels_of(few(POOL, shots=3).train) == ["bad", "good"] * 3


def test_splits_do_not_depend_on_the_process():
    code = (
        "from maao.data.splits import few_shot; from maao.types import Example;"
        "pool = [Example({'text': f'{label} {i}'}, label) for label in ('bad', 'good') for i in range(12)];"
        "print(few_shot(pool, shots=2, select_shots=1, test_size=4, seed=0).digest)"
    )
    env = {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == few(POOL).digest


def test_repeats_are_dropped_and_counted():
    splits = few([*POOL, *POOL[:3]])
    assert replace(splits, notes=()) == replace(few(POOL), notes=())
    assert any("3 examples dropped" in note for note in splits.notes)


def test_a_text_with_two_labels_names_both():
    text = message(few, [*POOL, example("bad 0", "good")])
    assert "'bad 0' has two labels, 'bad' and 'good'" in text


def test_too_few_examples_name_the_class_and_the_numbers():
    text = message(few, pool_of(bad=30, good=3), shots=3, select_shots=2, test_size=0)
    assert "Class 'good'" in text and "3 examples for train and 2 for select" in text and "the pool has 3" in text


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("sizes", "left"), [({"shots": 3, "select_shots": 2}, 14), ({"shots": 8, "select_shots": 4}, 0)])
def test_a_small_pool_gives_test_what_train_and_select_spare_the_same_for_every_seed(sizes, left, seed):
    splits = few(POOL, test_size=500, seed=seed, **sizes)
    assert len(splits.test) == left and splits.test == few(POOL, test_size=500, seed=99, **sizes).test
    assert len(splits.train) == 2 * sizes["shots"] and len(splits.select) == 2 * sizes["select_shots"]
    assert any(f"test: {left} of 24 examples, fewer than the 500 of test_size" in note for note in splits.notes)


def hash_of(each):
    content = json.dumps({"fields": dict(each.fields), "label": each.label}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def test_a_pool_with_room_gives_test_its_lowest_hashes_whatever_is_sampled():
    splits = few(POOL, shots=1, select_shots=1, test_size=6)
    assert list(splits.test) == sorted(POOL, key=hash_of)[:6]
    assert splits.test == few(POOL, shots=3, select_shots=2, test_size=6, seed=7).test
    assert not any("fewer than" in note for note in splits.notes)


def test_all_the_rest_goes_to_test_when_no_size_is_given_and_a_note_says_what_that_means():
    splits = few(POOL, test_size=None)
    assert len(splits.test) == 24 - 6
    assert any("differs from seed to seed" in note for note in splits.notes)


@pytest.mark.parametrize("sizes", [{"shots": 0}, {"select_shots": 0}, {"test_size": -1}])
def test_sizes_that_cannot_be_are_refused(sizes):
    assert "must be at least" in message(few, POOL, error=ConfigError, **sizes)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ([], "empty"),
        (pool_of(good=20), "one class only ('good')"),
        ([*POOL, example(" ", "good")], "example 25 (the field 'text' is empty)"),
        ([*POOL, example("x", "")], "example 25 (the label is empty)"),
        ([*POOL, Example({}, "good")], "no text field"),
        ([*POOL, Example({"txt": "x"}, "good")], "same fields"),
        ([*POOL, Example({"text": 3}, "good")], "not text"),
    ],
)
def test_pools_that_cannot_be_used_are_refused(pool, said):
    assert said in message(few, pool)


def test_labels_fix_the_order_of_the_classes():
    splits = few(POOL, labels=["good", "bad"])
    assert splits.labels == ("good", "bad") and labels_of(splits.train)[0] == "good"
    assert few(POOL).labels == ("bad", "good")
    assert splits.digest != few(POOL).digest


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["bad"], "'good', which is not among labels"), (["bad", "good", "god"], "no example of class 'god'. Did you mean 'good'?")],
)
def test_labels_that_do_not_fit_the_pool_are_refused(labels, said):
    assert said in message(few, POOL, labels=labels)


def test_labels_that_repeat_are_refused():
    assert "more than once" in message(few, POOL, labels=["bad", "good", "bad"], error=ConfigError)


def test_the_digest_is_of_the_labels_and_the_three_splits():
    splits = few(POOL)
    content = {"labels": list(splits.labels)} | {
        name: [{"fields": dict(each.fields), "label": each.label} for each in getattr(splits, name)] for name in ("train", "select", "test")
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert splits.digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


# from_parts

TRAIN, SELECT, TEST = POOL[:4] + POOL[12:16], POOL[4:6] + POOL[16:18], POOL[6:9] + POOL[18:19]


def test_parts_that_need_nothing_stay_as_they_are():
    splits = from_parts(TRAIN, SELECT, TEST)
    assert (splits.train, splits.select, splits.test) == (tuple(TRAIN), tuple(SELECT), tuple(TEST))
    assert splits.labels == ("bad", "good") and splits.notes == () and splits.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ((TRAIN, [*SELECT, TRAIN[0]], TEST), "train and select share 1 example, such as 'bad 0'"),
        ((TRAIN, SELECT, [TRAIN[1], *TEST, TRAIN[0]]), "train and test share 2 examples, such as 'bad 1'"),
        ((TRAIN, SELECT, [*TEST, SELECT[0]]), "select and test share 1 example, such as 'bad 4'"),
        ((TRAIN, SELECT, [*TEST, example("bad 0", "good")]), "1 of them with different labels"),
    ],
)
def test_an_example_in_two_parts_is_refused_with_counts_and_names(parts, names):
    text = message(from_parts, *parts)
    assert names in text and "drop_repeats=True" in text


def test_drop_repeats_drops_from_the_later_part_and_counts():
    splits = from_parts(TRAIN, [*SELECT, TRAIN[0]], [TRAIN[1], *TEST, SELECT[0], example("bad 2", "good"), TEST[0]], drop_repeats=True)
    assert (splits.train, splits.select, splits.test) == (tuple(TRAIN), tuple(SELECT), tuple(TEST))
    assert splits.notes == (
        "test: 1 example dropped that repeat another one; 7 are left.",
        "select: 1 example dropped that train has too; 4 are left.",
        "test: 2 examples dropped that train has too (1 with a different label); 5 are left.",
        "test: 1 example dropped that select has too; 4 are left.",
    )


@given(parts=st.tuples(POOLS, POOLS, POOLS), sampled=st.booleans(), seed=st.integers())
def test_parts_are_disjoint_after_drop_repeats(parts, sampled, seed):
    train, select, test = parts
    try:
        splits = from_parts(train, None if sampled else select, test, seed=seed, drop_repeats=True)
    except DataError as error:
        if any(word in str(error) for word in ("is empty without", "never does", "one class only", "were asked")):
            return
        raise
    together = keys((*splits.train, *splits.select, *splits.test))
    assert len(together) == len(set(together))


def test_a_part_that_drop_repeats_leaves_empty_is_refused():
    assert "select is empty" in message(from_parts, TRAIN, TRAIN[:2], TEST, drop_repeats=True)
    assert "test is empty" in message(from_parts, TRAIN, SELECT, TRAIN[:2], drop_repeats=True)


def test_repeats_within_a_part_are_kept_with_a_note():
    splits = from_parts(TRAIN, SELECT, [*TEST, TEST[0]])
    assert len(splits.test) == 5
    assert splits.notes == ("test: 1 of 5 examples repeat another one of test; they are kept (drop_repeats=True drops them).",)


@pytest.mark.parametrize("drop_repeats", [False, True])
def test_a_text_with_two_labels_is_refused_in_train_and_noted_in_test(drop_repeats):
    text = message(from_parts, [*TRAIN, example("bad 0", "good")], SELECT, TEST, drop_repeats=drop_repeats)
    assert "train: 'bad 0' has two labels, 'bad' and 'good'" in text
    splits = from_parts(TRAIN, SELECT, [*TEST, example("bad 6", "good")], drop_repeats=drop_repeats)
    assert len(splits.test) == 5
    assert splits.notes == (
        "test: 1 example kept whose text has another label too, such as 'bad 6' ('bad' and 'good'): no answer gets both right.",
    )


@pytest.mark.parametrize("name", ["select", "test"])
def test_a_label_that_train_lacks_is_named(name):
    parts = {"train": TRAIN, "select": SELECT, "test": TEST}
    parts[name] = [*parts[name], example("so so", "goood")]
    assert f"{name} holds the label 'goood', which train never does" in message(from_parts, **parts)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (([], SELECT, TEST), "train is empty"),
        ((TRAIN, [], TEST), "select is empty. Pass None"),
        ((TRAIN[:4], SELECT[:2], TEST[:3]), "one class only"),
        ((TRAIN, SELECT, [example("", "good")]), "test: 1 of 1 examples cannot be used"),
        ((TRAIN, SELECT, [Example({"premise": "x"}, "good")]), "'premise', but those of train have 'text'"),
    ],
)
def test_parts_that_cannot_be_used_are_refused(parts, said):
    assert said in message(from_parts, *parts)


def test_no_test_at_all_is_noted():
    splits = from_parts(TRAIN, SELECT, ())
    assert splits.test == () and any("test is empty" in note for note in splits.notes)


def test_a_class_that_test_lacks_is_noted():
    assert "test: has no example of 'bad'." in from_parts(TRAIN, SELECT, TEST[3:]).notes


def test_select_is_taken_out_of_train_half_of_each_class_unless_told():
    splits = from_parts(TRAIN, None, TEST, seed=3)
    assert sorted(labels_of(splits.select)) == sorted(labels_of(splits.train)) == ["bad"] * 2 + ["good"] * 2
    assert set(keys(splits.train)) | set(keys(splits.select)) == set(keys(TRAIN))
    assert splits.notes == ("select: half the examples of each class, taken out of train with seed 3.",)
    assert from_parts(TRAIN, None, TEST, seed=3) == splits
    splits = from_parts(TRAIN, None, TEST, shots=2, select_shots=1)
    assert (len(splits.train), len(splits.select)) == (4, 2)


def test_a_repeat_in_train_cannot_come_into_select():
    splits = from_parts([*TRAIN, *TRAIN], None, TEST)
    assert not set(keys(splits.train)) & set(keys(splits.select)) and len(splits.train) == 4


@pytest.mark.parametrize(
    "sizes",
    [{"shots": 4}, {"select_shots": 4}, {"shots": 2, "select_shots": 3}],
)
def test_a_train_part_too_small_to_take_select_out_of_is_refused(sizes):
    assert "Class 'bad': train has 4 examples of it, but" in message(from_parts, TRAIN, None, TEST, **sizes)


def test_a_class_of_one_example_cannot_be_in_train_and_select():
    assert "Class 'good': train has 1 example of it" in message(from_parts, TRAIN[:5], None, TEST)


def test_parts_are_cut_down_where_that_is_asked():
    splits = from_parts(TRAIN, SELECT, TEST, shots=3, select_shots=1, test_size=2, seed=5)
    assert (len(splits.train), len(splits.select), len(splits.test)) == (6, 2, 2)
    assert len(splits.notes) >= 3
    assert splits.test == from_parts(TRAIN, SELECT, TEST, shots=1, test_size=2, seed=6).test


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"shots": 5}, "Class 'bad': train has 4 examples of it, but 5 were asked"),
        ({"select_shots": 3}, "Class 'bad': select has 2 examples of it, but 3 were asked"),
        ({"test_size": 5}, "test_size asks for 5 examples, but test has 4"),
    ],
)
def test_parts_too_small_for_what_is_asked_are_refused(sizes, said):
    assert said in message(from_parts, TRAIN, SELECT, TEST, **sizes)


# majority_accuracy


def test_the_majority_is_that_of_train():
    splits = from_parts([*TRAIN, example("more", "good")], SELECT, TEST)
    assert majority_accuracy(splits) == 0.25  # "good" is most frequent in train, and 1 of 4 in test
    assert majority_accuracy(splits, on="select") == 0.5


def test_a_tie_goes_to_the_first_label():
    assert majority_accuracy(from_parts(TRAIN, SELECT, TEST)) == 0.75
    assert majority_accuracy(from_parts(TRAIN, SELECT, TEST, labels=["good", "bad"])) == 0.25


def test_there_is_no_accuracy_on_an_empty_or_unknown_split():
    splits = from_parts(TRAIN, SELECT, ())
    assert "test is empty" in message(majority_accuracy, splits)
    assert "'dev'" in message(majority_accuracy, splits, on="dev", error=ConfigError)


# Choices and groups


def choice(text: str, label: str, *choices: str) -> Example:
    return Example({"text": text}, label, choices=choices)


def questions(count: int, start: int = 0) -> list[Example]:
    """Of `count` questions, each with one right answer and two wrong ones."""
    return [
        Example({"question": f"q{number}", "answer": answer}, label, group=str(number))
        for number in range(start, start + count)
        for answer, label in (("x", "true"), ("y", "false"), ("z", "false"))
    ]


def whole(part) -> bool:
    return all(sum(other.group == each.group for other in part) == 3 for each in part)


def test_digests_of_plain_examples_are_those_of_former_versions():
    splits = from_parts([example("a", "0"), example("b", "1")], [example("c", "0")], [example("d", "1")])
    assert splits.digest == "sha256:955b9427d8cb11f4c5abaf43226a50404ac9c1efbcf0c91a5b1aecb1fc7a4e1b"


def test_choices_and_groups_count_in_the_digest():
    def digest(**more) -> str:
        train = [replace(example("a", "0"), **more), replace(example("b", "1"), **more)]
        return from_parts(train, [replace(example("c", "0"), **more)], []).digest

    assert len({digest(), digest(choices=("x", "y")), digest(choices=("y", "x")), digest(group="1"), digest(group="2")}) == 5


def test_only_equal_choices_make_a_repeat():
    train = [choice("a", "0", "x", "y"), choice("a", "1", "x", "z"), choice("b", "0", "x", "y"), choice("b", "0", "x", "y")]
    splits = from_parts(train, [choice("a", "0", "w", "x")], [], drop_repeats=True)
    assert len(splits.train) == 3 and len(splits.select) == 1
    assert "share 1 example" in message(from_parts, train, [choice("a", "0", "x", "y")], [])


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (choice("a", "2", "x", "y"), "the label '2' is not the position of a choice: '0', '1'"),
        (choice("a", "0", "x"), "it has one choice only"),
        (choice("a", "0", "x", "x"), "two of its choices are the same"),
        (choice("a", "0", "x", " "), "choice 1 is empty"),
        (Example({"text": "a"}, "0", group="\0"), "the group holds a NUL"),
    ],
)
def test_bad_choices_are_named(bad, found):
    assert f"example 1 ({found}" in message(from_parts, [bad], [], [])


def test_choices_are_for_all_or_none():
    assert "example 1 has, example 2 has not" in message(from_parts, [choice("a", "0", "x", "y"), example("b", "1")], [], [])
    train = [choice("a", "0", "x", "y"), choice("b", "1", "x", "y")]
    assert "The examples of train have choices, but those of select have none" in message(from_parts, train, [example("c", "0")], [])


def test_questions_are_chosen_whole():
    train, test = questions(20), questions(20, start=50)
    splits = from_parts(train, None, test, select_share=0.25, test_size=10, seed=1)
    assert whole(splits.train) and whole(splits.select) and whole(splits.test)
    assert not {each.group for each in splits.train} & {each.group for each in splits.select}
    assert len(splits.test) == 9 and len(splits.select) == 15 and len(splits.train) == 45
    assert splits.test == from_parts(train[::-1], None, test[::-1], test_size=10, seed=2).test
    assert splits.select == from_parts(train[::-1], None, test, select_share=0.25, seed=1).select
    given = from_parts(train, test, [], select_shots=4)
    assert whole(given.select) and len(given.select) == 12


def test_shots_are_taken_from_what_the_questions_of_select_leave():
    splits = from_parts(questions(10), None, [], shots=2, select_shots=3, seed=1)
    assert labels_of(splits.train) == ["false", "true"] * 2 and len(splits.select) == 9
    assert not {each.group for each in splits.train} & {each.group for each in splits.select}
    lumped = [Example({"answer": f"{label} {number}"}, label, group="0") for number in range(3) for label in ("false", "true")]
    lumped.append(Example({"answer": "y"}, "false", group="1"))
    assert "0 examples of it are left in train beside the questions of select" in message(from_parts, lumped, None, [], select_shots=1)


def test_a_question_that_does_not_fit_is_refused():
    assert "a question is taken whole" in message(from_parts, questions(4), questions(2, start=10), questions(2, start=20), test_size=2)


def test_a_pool_of_questions_is_refused():
    assert "Give it in parts" in message(few, questions(9), error=ConfigError)


def test_the_same_text_under_two_questions_never_stands_in_two_splits():
    twice = [replace(each, group=f"{each.group} again") for each in questions(6)]
    splits = from_parts(questions(6) + twice, None, [], select_share=0.5, seed=0)
    assert not set(keys(splits.train)) & set(keys(splits.select))


@pytest.mark.parametrize("share", [0.0, 1.0, -1])
def test_a_share_that_cannot_be_is_refused(share):
    assert "select_share must lie between 0 and 1" in message(from_parts, POOL, None, [], select_share=share, error=ConfigError)


def test_a_share_of_each_class_is_held_out():
    splits = from_parts(pool_of(bad=20, good=7), None, [], select_share=0.1)
    assert sorted(labels_of(splits.select)) == ["bad", "bad", "good"] and len(splits.train) == 24
