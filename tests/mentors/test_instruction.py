"""Whole instructions, compared with files that are read in review. Set MAAO_GOLDEN=1 to write them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from maao.errors import ConfigError
from maao.mentors.fields import Fields
from maao.mentors.instruction import Shown, Task, wording, write
from maao.mentors.trajectory import select
from tests.mentors.histories import HISTORY, TOLD, WITH_FIELDS, finished

GOLDEN = Path(__file__).parent.parent / "golden"
PICTURES = Task("Name the animal in a drawing.", ("cat", "dog", "sea lion"), "{slots} <CLASS>.", max_tokens=4)
TASK = Task("Name the topic of a news headline.", ("business", "music", "sport"), "{text} {slots} Topic:", max_tokens=8)
EVERYTHING = Shown("both", True, True, True, True, True, True, True)
NOTHING = Shown("none", False, False, False, False, False, False, False)
CASES = {
    "empty": ((), Shown()),
    "history": (HISTORY, Shown()),
    "clues": (TOLD, EVERYTHING),
    "nothing": (TOLD, NOTHING),
    **{f"scores_{scores}": (HISTORY, Shown(scores)) for scores in ("none", "words", "reached")},
    "one_word": (TOLD, replace(EVERYTHING, top_words=1)),
    **{case: (WITH_FIELDS, Shown()) for case in ("label_words", "template", "both")},
}
ASKED = {"label_words": ("label_words",), "template": ("template",), "both": ("template", "label_words")}
FILES = [
    *(
        (style, case)
        for style in ("chat", "completion")
        for case in CASES
        if case not in ASKED and (style, case) != ("completion", "one_word")
    ),
    *((style, case) for style in ("vision_chat", "vision_completion") for case in ("history", "scores_none")),
    ("contrast", "history"),
    *(("guided", case) for case in ("empty", "history", "clues")),
    ("vision_guided", "history"),
    *(("guided_filled", case) for case in ("label_words", "template", "both")),
]


def instruction(style, history, shown, count=3, task=TASK, asked=()):
    own = {"template": task.template, **{f"label_words.{label}": label for label in task.labels}}
    filled = Fields(asked, task.labels, own) if asked else None
    template = wording(style.removesuffix("_filled"), shown.scores, bool(asked))
    clues = history[-1].clues if history else None
    return write(template, task, select(history, 8), clues, count=count, shown=shown, filled=filled)


@pytest.mark.parametrize(("style", "case"), FILES)
def test_instruction_matches_its_golden_file(style, case):
    task = PICTURES if style.startswith("vision") else TASK
    text = instruction(style, *CASES[case], task=task, asked=ASKED.get(case, ())) + "\n"
    path = GOLDEN / f"{style}_{case}.txt"
    if os.environ.get("MAAO_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_misread_examples_are_shown_only_where_asked():
    assert "star wins award" not in instruction("chat", TOLD, Shown())
    assert "star wins award" in instruction("chat", TOLD, Shown(examples=True))


@pytest.mark.parametrize(
    ("part", "telling"),
    [
        ("nearest", "Words nearest to the tuned vectors"),
        ("gradient", "gradient asks for"),
        ("displacement", "moved towards"),
        ("confusions", "music read as sport (4 times)"),
        ("examples", "star wins award"),
        ("gap", "by a loss of 0.500"),
        ("self_continuation", "is a list of news"),
    ],
)
def test_each_clue_is_shown_or_left_out_by_itself(part, telling):
    off = dict.fromkeys(("nearest", "gradient", "displacement", "confusions", "examples", "gap", "self_continuation"), False)
    assert telling in instruction("chat", TOLD, Shown("both", **{**off, part: True}))
    assert telling not in instruction("chat", TOLD, Shown("both", **{**dict.fromkeys(off, True), part: False}))


@pytest.mark.parametrize(
    ("top_words", "told"), [(1, "news | music | a\n"), (2, "news new | music song | a the\n"), (9, "news new | music")]
)
def test_no_more_words_a_position_are_shown_than_asked_for(top_words, told):
    assert f"Words nearest to the tuned vectors, position by position: {told}" in instruction(
        "chat", TOLD, replace(EVERYTHING, top_words=top_words)
    )


def test_a_position_without_a_word_is_refused():
    with pytest.raises(ConfigError, match="top_words = 0"):
        Shown(top_words=0)


def test_no_number_is_shown_where_scores_are_none():
    told = instruction("completion", HISTORY, NOTHING)
    assert "topic of the news" in told and "loss" not in told.lower() and not set("0123456789") & set(told)


def test_examples_of_a_wording_are_like_the_lines_that_they_are_examples_of():
    for scores in ("both", "reached", "words"):
        assert wording("completion", scores).template == wording("completion").template
    scored, unscored = wording("completion"), wording("completion", "none")
    assert scored.get_identifiers() == unscored.get_identifiers()
    assert [line for line in unscored.template.splitlines() if line.startswith("Prompt: ")] == [
        f"Prompt: {line.split('prompt: ')[1]}" for line in scored.template.splitlines() if line.startswith("Loss ")
    ]


def test_wording_that_tells_of_no_score_in_examples_is_the_same_for_all():
    assert wording("chat", "none").template == wording("chat").template


def listed(text, shown, history=HISTORY):
    (line,) = [line for line in instruction("chat", history, shown).splitlines() if line.startswith(f"- {text}")]
    return line


def test_only_what_was_walked_from_is_said_to_be():
    assert listed("sport or music", Shown()) == "- sport or music (loss 0.875 after 5 gradient steps from it)"
    assert listed("news of sport", Shown()) == (
        "- news of sport (tuned vectors whose nearest words these are: loss 0.500, accuracy 0.500; "
        "the words alone: loss 1.000, accuracy 0.250)"
    )


@pytest.mark.parametrize(
    ("age", "scores", "told"),
    [
        (0, "both", "mixed with the incumbent: loss 0.250"),
        (3, "both", "mixed with the incumbent: loss 0.250 after 3 gradient steps"),
        (0, "reached", "mixed with the incumbent: loss 0.250"),
        (0, "words", "its words alone: not measured"),
    ],
)
def test_blend_is_not_told_as_the_texts_own_score(age, scores, told):
    history = (finished(1, "an end", 2.0, proposals=(("blended", 0.25, age, 0.5),)),)
    assert listed("blended", Shown(scores), history) == f"- blended ({told})"


def test_next_line_of_a_completion_asks_for_a_loss_below_the_best():
    assert instruction("completion", HISTORY, Shown()).endswith("Loss 0.50, prompt: news of sport\nLoss 0.45, prompt:")


def test_prompt_is_told_how_many_words_it_may_have():
    assert "at most 4 words" in instruction("chat", (), Shown(), task=Task("x", max_tokens=5))


def test_count_is_told():
    assert "Propose 7 new prompts" in instruction("chat", (), Shown(), count=7)


def test_dollars_and_braces_in_a_task_are_left_alone():
    assert "Is it $5 or {text}?" in instruction("chat", (), Shown(), task=Task("Is it $5 or {text}?"))


def test_wording_of_ones_own_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("$description\n\n\n\n$clues\n\n$count!", encoding="utf-8")
    assert instruction(str(path), (), Shown()) == "Name the topic of a news headline.\n\n3!"


def test_unknown_wording_is_refused_with_those_there_are():
    with pytest.raises(
        ConfigError,
        match=r"Unknown wording 'chatt': give one of chat, completion, contrast, guided, matched_chat, .*vision_chat, vision_",
    ):
        wording("chatt")


@pytest.mark.parametrize("text", ["$descripton", "costs $ 5"])
def test_wording_with_an_unknown_field_is_refused(tmp_path, text):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown field.*\$description"):
        instruction(str(path), (), Shown())
