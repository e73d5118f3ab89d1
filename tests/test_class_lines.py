"""Class lines as fields of a proposal and as JSON, and what is no line."""

from __future__ import annotations

import json

import pytest

from maao.class_lines import ClassLines, Line, fields_of_fold, has_lines
from maao.errors import CodecError, DataError

LABELS = ("bad", "so so", "good")
LINES = ClassLines(
    (
        Line("bad", "examples", "Dull.", 0.25),
        Line("bad", "descriptions", "what one would not see again", 0.25),
        Line("good", "examples", "Grëat: fun.", 0.25),
        Line("good", "examples", "A joy.", 0.25),
    )
)


def test_fields_and_json_give_back_the_same_lines():
    fields = LINES.to_fields()
    assert fields == {
        "examples.bad": "Dull.",
        "descriptions.bad": "what one would not see again",
        "examples.good": "Grëat: fun.\nA joy.",
        "lines_weight": "0.25",
    }
    assert ClassLines.from_fields(fields, LABELS) == LINES
    uneven = LINES.weighing([0.1, 0, 2, 1 / 3])
    assert ClassLines.from_json(json.loads(json.dumps(uneven.to_json())), LABELS) == uneven


def test_lines_stand_in_the_order_of_the_classes():
    told = {"good": {"descriptions": ["worth it"], "examples": ["A joy."]}, "bad": ["Dull."]}
    found = ClassLines.from_json(told, LABELS)
    assert [(line.label, line.kind) for line in found] == [("bad", "examples"), ("good", "examples"), ("good", "descriptions")]
    assert ClassLines(found.lines[::-1]).in_order(LABELS) == found
    assert found.labels() == ("bad", "good")
    assert ClassLines.from_fields({"descriptions.good": "worth it", "examples.bad": "Dull."}, LABELS).labels() == ("bad", "good")


def test_lines_of_several_weights_have_no_fields_until_one_is_said():
    uneven = LINES.weighing([1, 1, 1, 0.5])
    with pytest.raises(ValueError, match="these have 2"):
        uneven.to_fields()
    assert uneven.at(0.25).to_fields() == LINES.to_fields()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"examples.god": "Great."}, "'god', which is not there. Did you mean 'good'?"),
        ({"example.good": "Great."}, "nothing to fill that is called 'example.good'"),
        ({"examples.good": "Great.\n\nFun."}, "examples.good cannot be used: it is empty"),
        ({"examples.good": "Great.\rFun."}, "more than one line"),
        ({"examples.good": "Great.\u2028Fun."}, "more than one line"),
        ({"examples.good": "half \ud800"}, "surrogate"),
        ({"examples.good": "nul \0"}, "NUL"),
        ({"examples.good": "Great.", "lines_weight": "-1"}, "a number from 0 on"),
        ({"examples.good": "Great.", "lines_weight": "nan"}, "a number from 0 on"),
        ({"examples.good": "Great.", "lines_weight": "much"}, "a number from 0 on"),
        ({"lines_weight": "1"}, "no line of any class"),
        ({}, "no line of any class"),
    ],
)
def test_fields_that_hold_no_lines_are_refused(fields, told):
    with pytest.raises(CodecError, match=told.replace("?", r"\?")):
        ClassLines.from_fields(fields, LABELS)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ([], "this is empty"),
        ({"bda": ["x"]}, "Did you mean 'bad'"),
        ({"bad": "x"}, "are a list of texts; this is a str"),
        ({"bad": {"sentences": ["x"]}}, "not 'sentences'"),
        ({"bad": {"examples": "x"}}, "the examples of class 'bad' are a list"),
        ({"bad": ["x", 3]}, "line 2 of class 'bad': it is a int, not a text"),
        ({"bad": [["x", True]]}, "the weight True"),
        ({"bad": [["x", float("inf")]]}, "the weight inf"),
        ({"bad": ["two\nlines"]}, "more than one line"),
    ],
)
def test_json_that_holds_no_lines_is_refused(told, error):
    with pytest.raises(DataError, match=error):
        ClassLines.from_json(told, LABELS, "lines.json")


@pytest.mark.parametrize(("text", "weight"), [("", 1.0), ("a\nb", 1.0), ("a", -0.5), ("a", float("nan"))])
def test_a_line_is_checked_when_it_is_made(text, weight):
    with pytest.raises(ValueError, match=r"empty|more than one line|no number"):
        Line("bad", "examples", text, weight)


# -- lines of many, and of one fold's member


def test_a_hundred_thousand_lines_go_through_fields_and_back():
    """A moment; minutes, were lines gone through once for each class or each line."""
    labels = tuple(f"class {i}" for i in range(2_000))
    spread = ClassLines(tuple(Line(labels[i % 2_000], "examples", f"text {i} of many") for i in range(100_000)))
    in_one = ClassLines(tuple(Line("class 0", "examples", f"text {i} of many") for i in range(100_000)))
    for lines in (spread, in_one):
        assert len(ClassLines.from_fields(lines.in_order(labels).to_fields(), labels)) == 100_000


def test_lines_of_one_folds_member_are_in_the_place_of_all_others():
    fields = {"examples.bad": "Dull.\nA waste.", "descriptions.good": "worth it", "lines_weight": "0.5", "template": "{text}"}
    assert fields_of_fold(fields, 1) == fields
    apart = {**fields, "fold0.examples.bad": "Dull.", "fold10.examples.good": "A joy."}
    rest = {"lines_weight": "0.5", "template": "{text}"}
    assert fields_of_fold(apart, 0) == {**rest, "examples.bad": "Dull."}
    assert fields_of_fold(apart, 1) == rest
    assert fields_of_fold(apart, 10) == {**rest, "examples.good": "A joy."}
    assert not has_lines(["fold0.examples.bad"]) and has_lines(apart)
