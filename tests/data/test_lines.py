"""Example lines of classes: how they are read, what is left out, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from maao.class_lines import ClassLines, Line
from maao.config import make_config
from maao.data.lines import lines_digest, read_lines
from maao.data.lines import with_lines as join
from maao.errors import ConfigError, DataError
from maao.types import Example, Splits

GOOD, BAD = Example({"text": "Fine film"}, "good"), Example({"text": "dull"}, "bad")
SPLITS = Splits((GOOD, BAD), (Example({"text": "so so"}, "bad"),), (Example({"text": "great"}, "good"),), ("bad", "good"), notes=("one.",))


def with_lines(splits, told, weight, source):
    return join(splits, ClassLines.from_json(told, list(told)), weight, source)


def test_lines_stand_behind_train_with_their_weight_and_in_no_other_split():
    found = with_lines(SPLITS, {"good": ["a joy", "superb"], "bad": ["a bore"]}, 0.25, "lines.json")
    assert found.walked == (
        GOOD,
        BAD,
        *(Example({"text": text}, label) for text, label in [("a bore", "bad"), ("a joy", "good"), ("superb", "good")]),
    )
    assert [line.weight for line in found.lines] == [0.25, 0.25, 0.25]
    assert replace(found, lines=(), notes=SPLITS.notes) == SPLITS
    assert found.notes == (
        "one.",
        "lines.json: 3 lines of 2 classes join train, at 0.25 of the weight of a labelled example; they neither choose nor are reported.",
    )


@pytest.mark.parametrize(("line", "split"), [("fine  FILM", "train"), (" So so", "select"), ("GREAT", "test")])
def test_a_line_that_repeats_a_row_of_any_split_is_left_out_and_told(line, split):
    found = with_lines(SPLITS, {"good": [line, "a joy"], "bad": ["a bore", "A bore"]}, 0.5, "l")
    assert [line.text for line in found.lines] == ["a bore", "a joy"]
    assert f"l: 1 line left out that repeats an example of {split}." in found.notes
    assert "l: 1 line left out that repeats another line." in found.notes


def test_a_class_may_be_without_lines_and_a_line_stays_as_it_was_written():
    found = with_lines(SPLITS, {"bad": [" A  Bore "]}, 1.0, "l")
    assert found.lines == (Line("bad", "examples", " A  Bore "),)
    assert "1 line of 1 of 2 classes joins train" in found.notes[-1]


def test_a_weight_of_a_lines_own_counts_times_that_of_all():
    found = with_lines(SPLITS, {"good": [["a joy", 0.5]], "bad": {"descriptions": ["what bores"]}}, 0.5, "l")
    assert [(line.text, line.kind, line.weight) for line in found.lines] == [
        ("what bores", "descriptions", 0.5),
        ("a joy", "examples", 0.25),
    ]
    assert "at 0.25 to 0.5 of the weight" in found.notes[-1]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"goood": ["a joy"]}, "lines of the class 'goood', which the data do not have. Did you mean 'good'?"),
        ({"good": ["Meh"], "bad": ["meh"]}, "the line 'Meh' stands under two classes, 'bad' and 'good'"),
        ({"good": ["Fine film"]}, "no line is left to train on"),
    ],
)
def test_lines_that_do_not_suit_the_data_are_refused(lines, told):
    with pytest.raises(DataError) as error:
        with_lines(SPLITS, lines, 0.5, "l")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("example", "told"),
    [
        (Example({"premise": "a", "hypothesis": "b"}, "good"), "the examples have the fields 'premise', 'hypothesis'"),
        (Example({"text": "a"}, "0", ("x", "y")), "choices of their own"),
    ],
)
def test_examples_of_which_a_line_can_be_none_are_refused(example, told):
    with pytest.raises(DataError) as error:
        with_lines(Splits((example,), (), (), ("0", "good")), {"good": ["a joy"]}, 0.5, "l")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "lines are one object"),
        ("{}", "this is empty"),
        ('{"a": "b"}', "the lines of class 'a' are a list of texts; this is a str"),
        ('{"a": ["b", 3]}', "line 2 of class 'a': it is a int, not a text"),
        ('{"a": ["b", " "]}', "line 2 of class 'a': it is empty"),
        ('{"a": ["b"], "a": ["c"]}', "names 'a' more than once"),
        ('{"a": {"sentences": ["b"]}}', "of class 'a' 'examples' and 'descriptions' are read, not 'sentences'"),
        ('{"a": ["b",]', "line 1: not correct JSON"),
        (b'{"a": ["\xff"]}', "byte 0xff is not UTF-8"),
    ],
)
def test_a_file_of_another_form_is_refused(write, text, told):
    with pytest.raises(DataError) as error:
        read_lines(write("lines.json", text))
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"lines\.json: cannot be read: No such file"):
        read_lines(tmp_path / "lines.json")


def test_the_digest_follows_from_the_lines_that_are_left_alone():
    one, other = (with_lines(SPLITS, {"bad": ["a bore", *more]}, 0.5, name) for more, name in (([], "a"), (["dull"], "b")))
    assert lines_digest(one) == lines_digest(other) != lines_digest(with_lines(SPLITS, {"bad": ["a chore"]}, 0.5, "a"))
    assert lines_digest(SPLITS) == "" and one.digest == SPLITS.digest


def test_a_config_names_lines_beside_any_source_and_the_weight_is_read_with_them_alone(write):
    pool = write("pool.csv", "text,label\n" + "".join(f"{label} {i},{label}\n" for label in ("bad", "good") for i in range(6)))
    lines = write("lines.json", json.dumps({"bad": ["a bore", "bad 1"]}))
    values = {"source": str(pool), "shots": 2, "select_shots": 1, "test_size": 4}
    plain, joined = (
        make_config({"data": data}).builder.load_data() for data in (values, {**values, "lines": str(lines), "lines_weight": 0.3})
    )
    assert plain is not None and joined is not None
    assert joined.splits.parts == plain.splits.parts and joined.splits.digest == plain.splits.digest
    assert joined.splits.lines == (Line("bad", "examples", "a bore", 0.3),)
    with pytest.raises(ConfigError, match=r"'data\.lines_weight' would be ignored, since data\.lines is not set"):
        make_config({"data": {**values, "lines_weight": 0.3}})
