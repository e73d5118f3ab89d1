"""What of a walk a mentor is shown."""

from __future__ import annotations

import math

import pytest

from maao.mentors.trajectory import entries, select, shuffled
from tests.mentors.histories import HISTORY, ended, finished, texts


def test_entries_are_judged_proposals_and_the_words_of_ends_in_the_order_seen():
    assert texts(entries(HISTORY)) == ["music news label", "topic of the news", "sport or music", "news of sport"]


def test_untuned_start_is_no_entry():
    assert texts(entries(HISTORY[:1])) == []


def test_entry_tells_what_was_reached_and_what_the_words_are_worth():
    entry = entries(HISTORY)[0]
    assert (entry.reached.loss, entry.steps, entry.words.loss) == (0.75, 20, 1.25)


def test_unwalked_proposal_is_worth_what_its_words_are():
    assert entries(HISTORY)[1].words.loss == 1.125


def test_walked_proposal_says_nothing_of_its_words_alone():
    assert entries(HISTORY)[2].words is None


def test_words_of_an_end_are_told_apart_from_a_proposal_that_was_walked_from():
    assert [(e.text, e.ended) for e in entries(HISTORY) if e.steps] == [
        ("music news label", True),
        ("sport or music", False),
        ("news of sport", True),
    ]


@pytest.mark.parametrize("age", [0, 5])
def test_blend_with_the_incumbent_says_nothing_of_the_words_alone(age):
    (entry,) = entries((finished(1, None, 2.0, proposals=(("blended", 1.5, age, 0.25),)),))
    assert (entry.words, entry.weight, entry.steps) == (None, 0.25, age)


def test_what_words_are_worth_is_kept_beside_a_better_blend():
    history = (
        finished(1, None, 2.0, proposals=(("same", 1.5, 0),)),
        finished(2, None, 2.0, proposals=(("same", 1.0, 0, 0.5),)),
    )
    (entry,) = entries(history)
    assert (entry.reached.loss, entry.weight, entry.words.loss) == (1.0, 0.5, 1.5)


def test_text_seen_twice_is_listed_once_at_its_lowest_loss():
    history = (finished(0, "same", 2.0), finished(1, "same", 0.5), finished(2, "same", 1.0))
    assert [(e.text, e.reached.loss) for e in entries(history)] == [("same", 0.5)]


def test_text_first_seen_without_a_number_is_listed_once_it_has_one():
    history = (finished(0, "same", math.nan), finished(1, "same", 0.5), finished(2, "same", math.nan))
    assert [e.reached.loss for e in select(history, 5)] == [0.5]


def test_what_words_are_worth_is_kept_when_a_lower_loss_does_not_say():
    history = (
        finished(0, "a", 3.0),
        finished(1, None, 2.0, proposals=(("same", 1.5, 0),)),
        finished(2, None, 2.0, proposals=(("same", 1.0, 4),)),
    )
    entry = entries(history)[-1]
    assert (entry.reached.loss, entry.steps, entry.words.loss) == (1.0, 4, 1.5)


@pytest.mark.parametrize("choice", ["best", "last", "first", "spread", "diverse", "contrast"])
def test_losses_that_are_no_numbers_are_left_out(choice):
    assert texts(select(ended(1.0, math.nan, 3.0), 5, choice)) == ["text 2", "text 0"]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("best", [3.0, 2.0, 1.0]),
        ("last", [6.0, 5.0, 3.0]),
        ("first", [4.0, 2.0, 1.0]),
        ("spread", [6.0, 4.0, 1.0]),
    ],
)
def test_choice_picks_its_entries_worst_first(choice, wanted):
    found = select(ended(2.0, 4.0, 1.0, 3.0, 6.0, 5.0), 3, choice)
    assert [e.reached.loss for e in found] == wanted


def test_spread_of_one_is_the_best():
    assert [e.reached.loss for e in select(ended(2.0, 4.0, 1.0), 1, "spread")] == [1.0]


@pytest.mark.parametrize("choice", ["best", "last", "first", "spread", "diverse", "contrast"])
def test_no_more_are_shown_than_asked_for(choice):
    assert [len(select(ended(2.0, 4.0, 1.0), count, choice)) for count in (0, 1, 2, 3, 9)] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("choice", ["best", "last", "first", "spread", "diverse", "contrast"])
def test_empty_history_shows_nothing(choice):
    assert select((), 5, choice) == ()


def test_a_proposal_made_to_fit_is_not_listed_twice():
    history = (finished(1, "sort news sort news", 0.5, words=1.5, age=20, proposals=(("sort news", 0.75, 5),), chosen=0),)
    (entry,) = entries(history)
    assert (entry.text, entry.reached.loss, entry.steps, entry.words.loss, entry.ended) == ("sort news", 0.5, 20, 1.5, False)


def test_two_legs_that_end_on_the_same_words_were_not_walked_from_them():
    history = (finished(1, "same words", 1.0), finished(2, "same words", 0.5))
    (entry,) = entries(history)
    assert (entry.reached.loss, entry.ended) == (0.5, True)


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(4, [6.0, 5.0, 2.0, 1.0]), (2, [6.0, 1.0]), (12, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), (8, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])],
)
def test_contrast_takes_the_k_worst_and_the_k_best(count, wanted):
    assert [e.reached.loss for e in select(ended(3.0, 6.0, 1.0, 2.0, 5.0, 4.0), count, "contrast")] == wanted


def test_diverse_takes_the_best_and_then_what_shares_fewest_words():
    history = tuple(
        finished(i, text, loss)
        for i, (text, loss) in enumerate([("sort the news", 1.0), ("sort the new", 2.0), ("a topic", 3.0), ("the news", 4.0)])
    )
    assert texts(select(history, 2, "diverse")) == ["a topic", "sort the news"]
    assert texts(select(history, 3, "diverse")) == ["a topic", "sort the new", "sort the news"]


def test_shuffled_scores_keep_caches_and_numbers_but_deal_them_anew():
    chosen = select(ended(3.0, 6.0, 1.0, 2.0, 5.0, 4.0), 6)
    dealt = shuffled(chosen, 3)
    assert sorted(texts(dealt)) == sorted(texts(chosen))
    assert [e.reached.loss for e in dealt] == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert texts(dealt) != texts(chosen)
    assert texts(shuffled(chosen, 4)) != texts(dealt)
