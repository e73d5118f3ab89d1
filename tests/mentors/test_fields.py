"""Lines that fill more than the prompt: how they are read, proposed, known again and refused."""

from __future__ import annotations

from string import Template

import pytest

from maao.codecs.numbers import NumberCodec
from maao.errors import CodecError, ConfigError
from maao.llm.scripted import Scripted
from maao.mentors.fields import ORDER, Fields, line_of
from maao.mentors.instruction import Task, wording
from maao.mentors.language_model import LanguageModelMentor
from maao.mentors.scripted import Scripted as Script
from maao.mentors.trajectory import entries, known_texts, select, shuffled
from tests.mentors.histories import WITH_FIELDS, finished

LABELS = ("bad", "good")
OWN = {"template": "{text} {slots}", "label_words": "bad: bad | good: good"}


def fill(fields):
    if "pig" in fields.get("label_words", ""):
        raise CodecError("no pigs")
    return {"frame": dict(fields)}


def fields(*names):
    return Fields(names, LABELS, fill, OWN)


def mentor(reply, *names, **options):
    return LanguageModelMentor(
        Scripted(lambda request: reply),
        Task("Find it.", LABELS, "{text} {slots}"),
        NumberCodec(1),
        template=wording("guided", filled=True),
        filled=fields(*(names or ("label_words",))),
        **options,
    )


@pytest.mark.parametrize(
    "line",
    [
        "3 | poor | great",
        '"3" | "poor" | "great"',
        "3 | bad: poor | GOOD = great",
        "| 3 | bad -> poor | great |",
        "3|poor|`great`",
        '3 | "good": great | "bad": poor',
        "3 | bad: poor | great",
    ],
)
def test_lines_are_read_however_they_are_set(line):
    assert fields("label_words").split(line) == ("3", {"label_words": "bad: poor | good: great"})


@pytest.mark.parametrize("line", ["3 | good: great | poor", "3 | bad: poor | bad: great"])
def test_labels_that_are_named_at_random_are_refused(line):
    with pytest.raises(CodecError, match="other labels than bad, good"):
        fields("label_words").split(line)


def test_all_parts_are_read_in_their_order():
    line = "3 | {text} so {slots} | bad: poor | good: great"
    assert fields(*ORDER).split(line) == ("3", {"template": "{text} so {slots}", "label_words": "bad: poor | good: great"})
    assert line_of(*fields(*ORDER).split(line)) == line


@pytest.mark.parametrize("line", ["3", "3 | poor", "3 | poor | great | fair", "| | poor | great", "3 | | great"])
def test_lines_with_other_parts_are_refused(line):
    with pytest.raises(CodecError, match="2 were asked for: a prompt, then each label with its word"):
        fields("label_words").split(line)


def test_a_mentor_proposes_params_for_all_that_it_fills():
    advice = mentor("- 3 | poor | great\n- 4 | pig | great\n- 5 | poor\n- 6 | dull | fine").propose((), count=4, seed=0)
    assert [(p.text, p.fields, p.params["frame"]) for p in advice.proposals] == [
        (text, filled, filled)
        for text, filled in (("3", {"label_words": "bad: poor | good: great"}), ("6", {"label_words": "bad: dull | good: fine"}))
    ]
    assert set(advice.proposals[0].params) == {"x", "frame"}
    assert [r.text for r in advice.rejected] == ["4 | pig | great", "5 | poor"] and advice.rejected[0].reason == "no pigs"


def test_the_same_prompt_with_other_words_is_new_and_the_same_line_is_not():
    asked = mentor("- 3 | bad: poor | good: great\n- 3 | dull | fine")
    first = asked.propose((), count=1, seed=0)
    history = (finished(1, "3", 0.5, proposals=(("3", 0.5, 5),), fields={0: first.proposals[0].fields}),)
    advice = asked.propose(history, count=2, seed=0)
    assert [p.fields["label_words"] for p in advice.proposals] == ["bad: dull | good: fine"]
    assert [r.reason for r in advice.rejected] == ["tried before"]


def test_words_that_stand_there_already_are_no_new_start():
    history = (finished(1, "3", 0.5, proposals=(("3", 0.5, 5),)),)
    advice = mentor("- 3 | bad | good").propose(history, count=1, seed=0)
    assert advice.proposals == () and "starts where another did" in advice.rejected[0].reason


def test_worked_examples_said_again_are_not_taken():
    advice = mentor("- In short, the critic thought the film was | positive: great | negative: terrible").propose((), count=1, seed=0)
    assert [r.reason for r in advice.rejected] == ["tried before"]


def test_long_lines_are_no_prose_where_they_hold_many_words():
    labels = tuple(f"label{i}" for i in range(30))
    asked = Fields(("label_words",), labels, fill)
    told = LanguageModelMentor(
        Scripted(lambda request: "- 3 | " + " | ".join(f"word {i}" for i in range(30))),
        Task("Find it.", labels),
        NumberCodec(1),
        template=wording("guided", filled=True),
        filled=asked,
    )
    assert len(told.propose((), count=1, seed=0).proposals) == 1


def test_a_script_may_fill_too():
    advice = Script(("3 | poor | great", "4 | pig | great"), NumberCodec(1), fields("label_words")).propose((), count=2, seed=0)
    assert [p.params["frame"] for p in advice.proposals] == [{"label_words": "bad: poor | good: great"}] and len(advice.rejected) == 1


def test_entries_tell_what_was_filled_where_they_stand():
    found = {entry.line: entry.ended for entry in entries(WITH_FIELDS)}
    assert found == {
        "music news label": True,
        "topic of it": False,
        "topic of it | business: money | music: sound | sport: games": False,
        "news of sport | business: money | music: sound | sport: games": True,
        "news of music | business: money | music: sound | sport: games": True,
    }
    assert known_texts(WITH_FIELDS) == set(found)
    released = [entry.line for entry in select(WITH_FIELDS, 9, "released")]
    assert released == [line for line in found if line != "music news label"]
    assert {entry.line for entry in shuffled(entries(WITH_FIELDS), 3)} == set(found)


def test_wordings_that_say_nothing_of_fields_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'chat' does not tell a mentor how to fill.*use 'guided'"):
        wording("chat", filled=True)
    own = tmp_path / "own.txt"
    own.write_text("Say $form.", encoding="utf-8")
    assert isinstance(wording(str(own), filled=True), Template)
