"""What every mentor of class lines does with the lines that it says: made fit, told apart, proposed at several weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.class_lines import ClassLines, Line, alike, fault_of
from maao.errors import CodecError, ConfigError
from maao.mentors.class_lines.base import LinesOptions, Said, Wanted, cleaned, incumbent_fields, lines_told, usable
from maao.mentors.context import MentorContext
from maao.types import Advice, Cost, Rejected
from tests.mentors.histories import finished
from tests.mentors.lines import CLASSES, LinesCodec, Sayer, lines

TOLD = lines(("calories", ["how many calories are in rice"]), ("recipe", ["how do i make a pie", "walk me through a curry"]))


def sayer(said=TOLD, weights=(0.5, 1.0, 0.25)):
    return Sayer(LinesCodec(), Wanted(CLASSES, weights=weights), "someone", said if isinstance(said, Said) else Said(said))


def test_the_same_lines_are_proposed_at_each_weight():
    advice = sayer().propose((), count=3, seed=0)
    assert [p.fields["lines_weight"] for p in advice.proposals] == ["0.5", "1", "0.25"]
    for proposal in advice.proposals:
        assert proposal.text == "" and proposal.source == "someone" and proposal.note is None
        assert ClassLines.from_fields(proposal.fields, CLASSES).at(1.0) == TOLD
    assert [float(p.params["x"][1]) for p in advice.proposals] == [0.5, 1.0, 0.25]


def test_fewer_proposals_than_weights_say_which_are_left_out():
    proposals = sayer().propose((), count=1, seed=0).proposals
    assert [(p.fields["lines_weight"], p.note) for p in proposals] == [("0.5", "not tried at 1, 0.25: plan.proposals is 1")]


def test_what_was_said_and_what_it_cost_come_with_the_advice():
    said = Said(ClassLines((*TOLD, Line("bread", "examples", "bake it"))), (Rejected("", "talk"),), Cost(llm_calls=2))
    advice = sayer(said).propose((), count=3, seed=0)
    assert advice.cost == Cost(llm_calls=2)
    assert advice.rejected == (Rejected("", "talk"), Rejected("bake it", "there is no class 'bread'"))


def test_what_weighing_the_lines_cost_comes_with_the_advice_once_for_all_weights():
    class Weighs(LinesCodec):
        def encode(self, text, fields=None):
            return replace(super().encode(text, fields), cost=Cost(model_tokens=7))

    mentor = replace(sayer(Said(TOLD, (), Cost(llm_calls=2))), codec=Weighs())
    assert mentor.propose((), count=3, seed=0).cost == Cost(llm_calls=2, model_tokens=7)


def test_a_mentor_without_a_line_proposes_nothing_and_says_so():
    assert sayer(ClassLines()).propose((), count=3, seed=0) == Advice((), (Rejected("", "there is no line of any class"),))


def test_what_the_codec_cannot_take_is_told_once():
    class Refuses(LinesCodec):
        def encode(self, text, fields=None):
            raise CodecError("pictures take descriptions alone")

    advice = replace(sayer(), codec=Refuses()).propose((), count=3, seed=0)
    assert advice.rejected == (Rejected("3 examples of 2 classes at weight 0.5", "pictures take descriptions alone"),)


# -- what becomes of a line


def test_a_line_of_two_classes_is_left_out_of_both():
    said = lines(("calories", ["Is it  heavy?", "a"]), ("recipe", ["is it heavy?", "b"]))
    found, rejected = usable(said, CLASSES)
    assert found == lines(("calories", ["a"]), ("recipe", ["b"]))
    assert [(r.text, r.reason) for r in rejected] == [
        ("Is it heavy?", "said of 'calories' and of 'recipe'"),
        ("is it heavy?", "said of 'recipe' and of 'calories'"),
    ]


def test_lines_come_in_the_order_of_the_classes():
    said = lines(("recipe", ["b"]), ("calories", ["a"]))
    assert usable(said, CLASSES)[0].labels() == ("calories", "recipe")


def test_what_was_said_before_is_not_said_again_of_any_class():
    found, rejected = usable(lines(("recipe", ["Old one", "new"])), CLASSES, {alike("old one"): "calories"})
    assert found == lines(("recipe", ["new"])) and rejected[0].reason == "said of 'calories' before"


@pytest.mark.parametrize(
    ("text", "reason"), [("?!", "holds no word"), ("\x1b\x07", "holds no word"), ("x" * 1001, "longer than 1,000 characters")]
)
def test_what_is_no_text_of_a_class_is_left_out(text, reason):
    found, rejected = usable(lines(("recipe", [text])), CLASSES)
    assert not len(found) and [r.reason for r in rejected] == [reason]


def test_no_more_than_a_hundred_lines_are_told_as_left_out():
    rejected = usable(lines(*[("bread", [f"line {i}"]) for i in range(500)]), CLASSES)[1]
    assert len(rejected) == 100 and rejected[-2].reason == "401 more lines became no line either"


@given(st.text())
def test_a_cleaned_text_is_one_printable_line(text):
    found = cleaned(text)
    assert found == cleaned(found) and len(found.splitlines()) <= 1
    assert found.replace("\u200c", "").replace("\u200d", "").isprintable()
    found.encode()


@given(st.lists(st.tuples(st.sampled_from((*CLASSES, "bread")), st.text(min_size=1, max_size=9).filter(lambda t: fault_of(t) is None))))
def test_every_line_is_kept_or_told(told):
    said = ClassLines(tuple(Line(label, "examples", text) for label, text in told))
    found, rejected = usable(said, CLASSES)
    assert len(found) + len(rejected) == len(said)
    for line in found:
        assert any(line.label == own.label and alike(line.text) == alike(cleaned(own.text)) for own in said)
    assert len({alike(line.text) for line in found}) == len(found)


# -- what stands now


def test_the_present_lines_are_those_of_the_last_proposal_with_lines_that_was_taken():
    own, other = TOLD.at(1.0).to_fields(), lines(("recipe", ["other"])).to_fields()
    taken = finished(1, None, 0.5, proposals=(("", 0.5, 0), ("", 0.6, 0)), chosen=1, fields={0: other, 1: {**own, "lines_weight": "0.25"}})
    kept = finished(2, None, 0.5, proposals=(("", 0.7, 0),), fields={0: other})
    words = finished(3, None, 0.5, proposals=(("a prompt", 0.7, 0),), chosen=0)
    history = (taken, kept, words)
    assert incumbent_fields(()) == {} and incumbent_fields(history) == {**own, "lines_weight": "0.25"}
    assert sayer().weights_after(history) == (0.25, 0.5, 1.0)


def test_counts_of_lines_are_told_in_words():
    assert lines_told({}) == lines_told({"template": "{text}"}) == ""
    assert lines_told({"descriptions.a": "x\ny", "descriptions.b": "z"}) == "3 descriptions of 2 classes"


# -- settings


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"examples": 0, "descriptions": 0}, "both 0"), ({"weights": [0.5, 0.25, 0.5]}, r"mentor.weights names 0.5 twice")],
)
def test_settings_that_cannot_be_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        LinesOptions(**settings).check()


def test_a_problem_without_classes_is_refused():
    with pytest.raises(ConfigError, match="this problem has none"):
        LinesOptions().wanted(MentorContext(LinesCodec(), lambda m: m, lambda o: o))
