"""Lines that fill more than the prompt: how they are read, proposed, known again and refused."""

from __future__ import annotations

from dataclasses import replace
from string import Template

import pytest

from maao.codecs.numbers import NumberCodec
from maao.errors import CodecError, ConfigError
from maao.llm.scripted import Scripted
from maao.mentors.fields import NAMES, WORKED, Fields, line_of, worked_lines
from maao.mentors.instruction import Task, wording
from maao.mentors.language_model import LanguageModelMentor
from maao.mentors.reply import read_list
from maao.mentors.scripted import Scripted as Script
from maao.mentors.trajectory import entries, known_texts, shuffled
from maao.protocols import NO_FIELDS
from tests.mentors.histories import WITH_FIELDS, finished

LABELS = ("bad", "good")
OWN = {"template": "{text} {slots}", "label_words.bad": "bad", "label_words.good": "good"}


def words(bad, good):
    return {"label_words.bad": bad, "label_words.good": good}


class Filling(NumberCodec):
    """Numbers, with whatever is filled beside them but pigs."""

    def encode(self, text, fields=NO_FIELDS):
        encoded = super().encode(text)
        if "pig" in fields.values():
            raise CodecError("no pigs")
        return replace(encoded, params={**encoded.params, "frame": dict(fields)})


def fields(*names):
    return Fields(names, LABELS, OWN)


def mentor(reply, *names, **options):
    return LanguageModelMentor(
        Scripted(lambda request: reply),
        Task("Find it.", LABELS, "{text} {slots}"),
        Filling(1),
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
    assert fields("label_words").split(line) == ("3", words("poor", "great"))


def test_labels_that_are_left_out_keep_their_words():
    assert fields("label_words").split("3 | good: great") == ("3", words("bad", "great"))
    assert fields(*NAMES).split("3 | {text} {slots} | bad: poor") == ("3", {"template": "{text} {slots}", **words("poor", "good")})


@pytest.mark.parametrize("line", ["3 | great", "3 | fair: great"])
def test_a_word_alone_is_no_word_of_any_label(line):
    with pytest.raises(CodecError, match="no word for some labels"):
        fields("label_words").split(line)


@pytest.mark.parametrize("line", ["3 | good: great | poor", "3 | bad: poor | bad: great", "3 | good | bad"])
def test_words_whose_label_cannot_be_told_are_refused(line):
    with pytest.raises(CodecError, match="name each of bad, good before its word"):
        fields("label_words").split(line)


def test_all_parts_are_read_in_their_order():
    line = "3 | {text} so {slots} | bad: poor | good: great"
    assert fields(*NAMES).split(line) == ("3", {"template": "{text} so {slots}", **words("poor", "great")})
    assert fields(*NAMES).line(*fields(*NAMES).split(line)) == line_of(*fields(*NAMES).split(line)) == line


@pytest.mark.parametrize("line", ["3", "3 | poor | great | fair"])
def test_lines_with_other_parts_are_refused(line):
    with pytest.raises(CodecError, match="2 were asked for: a prompt, then each label with its word"):
        fields("label_words").split(line)


@pytest.mark.parametrize("line", ["3 | | great", "3 | poor | ''", "'' | poor | great"])
def test_lines_with_an_empty_part_say_so(line):
    with pytest.raises(CodecError, match="one of its parts is empty"):
        fields("label_words").split(line)


@pytest.mark.parametrize(("line", "template"), [('3 | "{text}" {slots}', '"{text}" {slots}'), (r"3 | {text}\n{slots}", "{text}\n{slots}")])
def test_templates_keep_their_quotes_and_lines(line, template):
    assert fields("template").split(line) == ("3", {"template": template})
    assert fields("template").line("3", {"template": template}) == line


@pytest.mark.parametrize("names", [("template",), ("label_words",), NAMES])
@pytest.mark.parametrize("task", WORKED)
def test_worked_lines_are_read_as_they_stand(task, names):
    lines, asked = worked_lines(task, names), Fields(names, tuple(WORKED[task][0][2]))
    assert read_list("\n".join(f"- {line}" for line in lines), count=3)[0] == lines
    assert tuple(asked.line(*asked.split(line)) for line in lines) == lines


def test_a_line_that_was_cut_is_not_taken():
    class Short(Scripted):
        def complete(self, request):
            return replace(super().complete(request), finish_reason="length")

    told = replace(mentor("", max_tokens=9), model=Short(["- 3 | poor | great\n- 4 | dull | fi"]))
    advice = told.propose((), count=3, seed=0)
    assert [p.text for p in advice.proposals] == ["3"]
    assert advice.rejected[-1].text == "- 4 | dull | fi" and "cut at 9 tokens" in advice.rejected[-1].reason


def test_a_mentor_proposes_params_for_all_that_it_fills():
    advice = mentor("- 3 | poor | great\n- 4 | pig | great\n- 5 | poor\n- 6 | dull | fine").propose((), count=4, seed=0)
    assert [(p.text, p.fields, p.params["frame"]) for p in advice.proposals] == [
        (text, filled, filled) for text, filled in (("3", words("poor", "great")), ("6", words("dull", "fine")))
    ]
    assert set(advice.proposals[0].params) == {"x", "frame"}
    assert [r.text for r in advice.rejected] == ["4 | pig | great", "5 | poor"] and advice.rejected[0].reason == "no pigs"


def test_the_same_prompt_with_other_words_is_new_and_the_same_line_is_not():
    asked = mentor("- 3 | bad: poor | good: great\n- 3 | dull | fine")
    first = asked.propose((), count=1, seed=0)
    history = (finished(1, "3", 0.5, proposals=(("3", 0.5, 5),), fields={0: first.proposals[0].fields}),)
    advice = asked.propose(history, count=2, seed=0)
    assert [p.fields for p in advice.proposals] == [words("dull", "fine")]
    assert [r.reason for r in advice.rejected] == ["tried before"]


def test_a_listed_line_said_again_is_not_new():
    ended = (finished(1, "3", 0.5, proposals=(("7", 0.5, 5),)),)
    asked = mentor("- 3 | bad: bad | good: good\n- 3 | good = good | bad = bad")
    assert "- 3 | bad: bad | good: good (" in asked.instruction(ended, 1)
    advice = asked.propose(ended, count=2, seed=0)
    assert advice.proposals == () and {r.reason for r in advice.rejected} == {"tried before"}


def test_proposals_that_fill_nothing_were_walked_where_the_walk_was():
    """Those of a mentor beside: they are listed and known with what stood around them."""
    first = finished(1, "5", 0.5, proposals=(("3", 0.5, 5),), chosen=0, fields={0: words("poor", "great")})
    second = finished(2, "6", 0.4, proposals=(("8", 0.45, 5), ("9", 0.6, 5)), chosen=0)
    found = [entry.line for entry in entries((first, second))]
    assert found == [f"{text} | bad: poor | good: great" for text in ("3", "5", "8", "9", "6")]
    advice = mentor("- 8 | bad: bad | good: good\n- 9 | poor | great").propose((first, second), count=2, seed=0)
    assert [(p.text, p.fields) for p in advice.proposals] == [("8", words("bad", "good"))]


def test_words_that_stand_there_already_are_no_new_start():
    history = (finished(1, "3", 0.5, proposals=(("3", 0.5, 5),)),)
    advice = mentor("- 3 | bad | good").propose(history, count=1, seed=0)
    assert advice.proposals == () and advice.rejected[0].reason == "tried before"


def test_worked_examples_said_again_are_not_taken():
    advice = mentor("- In tone, the writer of this letter was | formal: stiff | informal: relaxed").propose((), count=1, seed=0)
    assert [r.reason for r in advice.rejected] == ["tried before"]


def test_long_lines_are_no_prose_where_they_hold_many_words():
    labels = tuple(f"label{i}" for i in range(30))
    asked = Fields(("label_words",), labels)
    told = LanguageModelMentor(
        Scripted(lambda request: "- 3 | " + " | ".join(f"word {i}" for i in range(30))),
        Task("Find it.", labels),
        Filling(1),
        template=wording("guided", filled=True),
        filled=asked,
    )
    assert len(told.propose((), count=1, seed=0).proposals) == 1


def test_a_script_may_fill_too():
    advice = Script(("3 | poor | great", "4 | pig | great"), Filling(1), fields("label_words")).propose((), count=2, seed=0)
    assert [p.params["frame"] for p in advice.proposals] == [words("poor", "great")] and len(advice.rejected) == 1


def test_entries_tell_what_was_filled_where_they_stand():
    found = {entry.line: entry.ended for entry in entries(WITH_FIELDS)}
    assert found == {
        "music news label": True,
        "topic of it": False,
        "topic of it | business: money | music: sound | sport: games": False,
        "news of sport | business: money | music: sound | sport: games": True,
        "news of music | business: money | music: sound | sport: games": True,
    }
    assert known_texts(WITH_FIELDS) == {line.split(" | ")[0] for line in found}
    assert {entry.line for entry in shuffled(entries(WITH_FIELDS), 3)} == set(found)


def test_wordings_that_say_nothing_of_fields_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'chat' does not tell a mentor how to fill.*use 'guided'"):
        wording("chat", filled=True)
    own = tmp_path / "own.txt"
    own.write_text("Say $form.", encoding="utf-8")
    assert isinstance(wording(str(own), filled=True), Template)
