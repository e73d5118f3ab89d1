"""What the controls of class lines write: all told apart, all drawn from a seed, and each as its paper says."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from maao.class_lines import alike, fault_of
from maao.mentors.class_lines import writers
from maao.mentors.class_lines.writers import WORDINGS, edited, edits, most_confident, near_words, random_words, told_apart, wordings

NEAR = {"lost": ["missing", "gone", "losing"], "card": ["cards", "cart", "id"], "my": ["your"]}
TEXTS = ("where is my card", "i have lost my card today", "my card did not come")


def near(word):
    return NEAR.get(word, [])


def test_wordings_can_be_told_apart_and_each_holds_the_name():
    found = list(wordings("lost card"))
    assert len({alike(text) for text in found}) == len(WORDINGS) == 24
    assert all("lost card" in text and fault_of(text) is None for text in found)
    assert list(wordings("{class}"))[1] == "this is about {class}"  # a name is never read as a wording


def test_near_words_stand_in_the_places_of_the_names_words_and_are_its_own_never():
    found = told_apart(near_words("lost card", near, random.Random(1)), 11, set())
    assert len(found) == 11
    for text in found[:4]:
        first, second = text.split()
        assert first in NEAR["lost"] and second in NEAR["card"]
    assert set(" ".join(found).split()) <= {*NEAR["lost"], *NEAR["card"]}


def test_a_name_of_one_word_has_more_lines_than_near_words_and_an_unknown_word_none():
    found = told_apart(near_words("card", near, random.Random(1)), 11, set())
    assert len(found) == 11 and set(found[:3]) == set(NEAR["card"])
    assert told_apart(near_words("xyzzy", near, random.Random(1)), 11, set()) == []


def test_random_words_follow_the_name_and_half_are_letters_of_the_same_length():
    words = ["music", "film", "song", "team", "match", "goal"]
    found = told_apart(random_words("lost card", words, random.Random(4)), 6, set())
    ends = [text.removeprefix("lost card, which has ").rstrip(".").split() for text in found]
    assert all(text.startswith("lost card, which has ") for text in found)
    assert [set(end) <= set(words) for end in ends] == [True, False] * 3
    lengths = {len(word) for word in words}
    assert all(len(end) == 2 and {len(word) for word in end} <= lengths for end in ends)
    assert found == told_apart(random_words("lost card", words, random.Random(4)), 6, set())
    assert found != told_apart(random_words("lost card", words, random.Random(5)), 6, set())


@pytest.mark.parametrize(
    ("edit", "check"),
    [
        ("_swapped", lambda old, new: Counter(old) == Counter(new)),
        ("_shortened", lambda old, new: len(new) == len(old) - 2 and not Counter(new) - Counter(old)),
        ("_lengthened", lambda old, new: len(new) == len(old) + 2 and set(new) == set(old)),
        ("_exchanged", lambda old, new: sum(a != b for a, b in zip(old, new, strict=True)) == 2 and "card" not in new),
    ],
)
def test_each_edit_changes_so_many_words_and_no_others(edit, check):
    words = ["i", "lost", "this", "card", "at", "the", "bank"]
    for seed in range(20):
        assert check(words, getattr(writers, edit)(words, 2, near, random.Random(seed)))


def test_an_edit_changes_a_tenth_of_the_words_and_one_of_few():
    long = " ".join(f"w{i}" for i in range(30))
    kept = [len(set(long.split()) & set(edited(long, near, random.Random(seed)).split())) for seed in range(30)]
    assert min(kept) == 27 and max(kept) == 30
    assert edited("card", lambda word: [], random.Random(0)) in ("card", "card card")
    assert edited("  ", near, random.Random(0)) == ""


def test_edits_take_the_texts_in_turn_and_give_back_none_of_them():
    found = told_apart(edits(TEXTS, near, random.Random(2)), 11, {alike(text) for text in TEXTS})
    assert len({alike(text) for text in found}) == 11
    assert not {alike(text) for text in found} & {alike(text) for text in TEXTS}
    words = {word for text in TEXTS for word in text.split()} | {word for pool in NEAR.values() for word in pool}
    assert {word for text in found for word in text.split()} <= words
    assert list(islice(edits((), near, random.Random(2)), 3)) == []


def test_the_most_confident_are_those_that_are_read_as_the_class_first_to_last():
    rows = [[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]
    assert most_confident(rows, 2) == [[1, 3], [2, 4], []]
    assert most_confident([], 2) == []


def test_what_is_taken_is_bounded_and_told_apart():
    seen = {"b"}
    assert told_apart(["a", "A ", "", "B", "c"], 5, seen) == ["a", "c"] and seen == {"a", "b", "c"}
    assert told_apart(iter(lambda: "always the same", None), 3, set()) == ["always the same"]
