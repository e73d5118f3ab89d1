"""Labels that are none, or that are one class under two names: refused, never counted as classes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from maao.api import tune
from maao.builder import load_data
from maao.config import make_config
from maao.data.files import read_examples
from maao.data.memory import examples_in_memory, splits_in_memory, things_to_predict, to_predict
from maao.data.splits import few_shot, from_parts
from maao.errors import ConfigError, DataError
from maao.types import Example

pandas = pytest.importorskip("pandas")
datasets = pytest.importorskip("datasets")

NAMES = {"0": "bad", "1": "good"}
EXPECTED = (Example({"text": "dull"}, "bad"), Example({"text": "fine"}, "good"))


def told(given, error=DataError, **columns) -> str:
    with pytest.raises(error) as caught:
        examples_in_memory(given, "train", **columns)
    return str(caught.value)


# -- L6: one set of rules


def frame(**more):
    return pandas.DataFrame({"id": [7, 8], "text": ["dull", "fine"], "label": [0, 1], **more})


FORMS = {
    "pairs": lambda: [("dull", 0), ("fine", 1)],
    "tuple of pairs": lambda: (("dull", 0), ("fine", 1)),
    "arrays of pairs": lambda: np.array([["dull", "0"], ["fine", "1"]]),
    "mappings": lambda: [{"text": "dull", "label": 0, "id": 7}, {"text": "fine", "label": "1", "score": 0.5}],
    "generator": lambda: (pair for pair in [("dull", 0), ("fine", 1)]),
    "floats": lambda: [("dull", 0.0), ("fine", np.float64(1))],
    "columns": lambda: {"text": ["dull", "fine"], "label": np.array([0, 1]), "id": [7, 8]},
    "frame": frame,
    "frame with missing numbers": lambda: frame().astype({"label": "float64"}),
    "frame of nullable numbers": lambda: frame().astype({"label": "Int64", "text": "string"}),
    "frame of categories": lambda: frame().astype({"label": "category"}),
    "Series": lambda: (frame()["text"], frame()["label"]),
    "lists": lambda: (["dull", "fine"], np.array([0, 1])),
    "arrays": lambda: (np.array([["dull"], ["fine"]]), np.array([[0], [1]])),
    "frame and Series": lambda: (frame()[["text", "id"]], frame()["label"]),
    "frame and frame": lambda: (frame()[["text"]], frame()[["label"]]),
    "Dataset": lambda: datasets.Dataset.from_dict({"text": ["dull", "fine"], "label": [0, 1], "id": [7, 8]}),
    "column of a Dataset": lambda: (datasets.Dataset.from_dict({"text": ["dull", "fine"]})["text"], np.array([0.0, 1.0])),
}


@pytest.mark.parametrize("form", FORMS)
def test_l6_every_form_gives_the_examples_that_a_file_gives(form, tmp_path):
    (tmp_path / "a.csv").write_text("id,text,label\n7,dull,0\n8,fine,1\n", encoding="utf-8")
    assert read_examples(tmp_path / "a.csv", label_names=NAMES) == EXPECTED
    assert examples_in_memory(FORMS[form](), "train", label_names=NAMES) == EXPECTED


def test_l6_ready_examples_obey_the_rules_of_rows():
    ready = [Example({"text": "dull"}, " 0"), Example({"text": "fine"}, "1\n", choices=("a", "b"), group="g")]
    (first, second) = examples_in_memory(ready, "train", label_names={"0": "bad", "1": "0"})
    assert first == EXPECTED[0] and second == Example({"text": "fine"}, "0", choices=("a", "b"), group="g")
    assert "example 2 (the label '2' is not in label_names). label_names knows '0', '1'." in told(
        [Example({"text": "dull"}, "0"), Example({"text": "fine"}, "2")], label_names=NAMES
    )
    assert "example 1 (the label is missing" in told([Example({"text": "dull"}, None)], label_names=NAMES)
    for columns in ({"text_fields": {"text": "headline"}}, {"label_field": "verdict"}):
        (name,) = columns
        assert f"data.{name} would be ignored: train holds ready examples" in told(ready, ConfigError, **columns)


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, np.float32("nan"), np.datetime64("NaT"), pandas.NA, pandas.NaT])
def test_l6_a_missing_label_is_refused_with_its_row(missing):
    assert "example 2 (the label is missing" in told([("a", "x"), ("b", missing)])
    assert "row 2 (the label is missing" in told(pandas.DataFrame({"text": ["a", "b"], "label": ["x", missing]}))
    assert "example 2 (the label is missing" in told((["a", "b", "c"], ["x", missing, "y"]))
    assert "example 1 (the field 'text' is missing" in told([{"text": missing, "label": "x"}])


def test_l6_nan_never_becomes_a_class():
    numbers = pandas.DataFrame({"text": ["a", "b", "c"], "label": [0, None, 1]})
    text = told(numbers)
    assert "1 of 3 rows cannot be used: row 2 (the label is missing" in text


def test_l6_the_word_nan_is_a_text_in_files_and_in_memory():
    assert examples_in_memory([("nan", "nan"), ("None", "x")], "train") == (Example({"text": "nan"}, "nan"), Example({"text": "None"}, "x"))


def test_l6_settings_for_columns_hold_in_memory_too():
    rows = [{"headline": "dull", "verdict": True, "text": 3.5}, {"headline": "fine", "verdict": False, "text": None}]
    columns = {"text_fields": {"text": "headline"}, "label_field": "verdict", "label_names": {"true": "bad", "false": "good"}}
    assert examples_in_memory(rows, "train", **columns) == EXPECTED
    assert examples_in_memory(pandas.DataFrame(rows), "train", **columns) == EXPECTED
    assert "the label '2' is not in label_names" in told([("a", 2)], label_names=NAMES)
    assert "there is no column 'verdict'" in told([{"text": "a", "label": 1}], label_field="verdict")


def test_l6_class_names_of_a_dataset_are_used():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    data = datasets.Dataset.from_dict({"text": ["dull", "fine"], "label": [0, 1]}, features=features)
    assert examples_in_memory(data, "train") == EXPECTED
    hidden = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    assert "1 of 1 rows have no label" in told(hidden)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([("a", ["x", "y"])], "the label is a list: an example has one label"),
        ([("a", {"x"})], "the label is a set: an example has one label"),
        ([{"text": "a", "label": np.array([0, 1])}], "the label is a ndarray: an example has one label"),
        ((["a", "b", "c"], np.eye(3)), "y has the shape (3, 3): an example has one label"),
        ((["a", "b", "c"], pandas.DataFrame(np.eye(3))), "y has the shape (3, 3)"),
        ((["a", "b", "c"], ["x", "y"]), "X has 3 examples and y 2"),
        ((["a", "b"], ["x", "y"]), "may be (X, y) or two pairs"),
        ({("a", "x")}, "is a set, which has no order"),
        ("text", "which is not read. Give a pandas frame"),
        (3, "is a int, which is not read. Give a pandas frame"),
        ({"text": "a", "label": "b"}, "is one mapping"),
        ({"text": ["a"], "label": ["x", "y"]}, "different lengths: 'text' 1, 'label' 2"),
        ([("a", "x", "z")], "give pairs (text, label)"),
        ([("a", 0.5)], "the label is the number 0.5: numbers are not predicted (there is no regression), give classes"),
        ([(b"a", "x")], "the field 'text' is a bytes, not text"),
        ([("a", pandas.Timestamp("2024-01-05"))], "the label is a Timestamp, not text"),
    ],
)  # fmt: skip
def test_l6_what_cannot_be_used_is_told(given, said):
    assert said in told(given)


def test_l6_a_frame_with_two_columns_of_one_name_is_refused():
    assert "'text' names more than one column" in told(pandas.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"]))


def test_l6_series_in_another_order_are_refused():
    rows = pandas.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "z"]})
    assert "in another order" in told((rows["text"], rows["label"].sort_index(ascending=False)))
    later = rows["label"].set_axis([10, 11, 12])
    assert [example.label for example in examples_in_memory((rows["text"], later), "train")] == ["x", "y", "z"]


def test_l6_texts_without_a_name_stand_for_the_only_field():
    assert examples_in_memory([("a", "x")], "train", fields=("headline",)) == (Example({"headline": "a"}, "x"),)
    assert "reads 'head', 'body', so a mere text is not enough" in told([("a", "x")], fields=("head", "body"))


def test_l6_a_dict_of_splits_is_taken_apart():
    parts = datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": ["a"], "label": [0]}) for name in ("train", "validation", "test")}
    )
    train, select, test = splits_in_memory(parts)
    assert (train, select, test) == (parts["train"], parts["validation"], parts["test"])
    with pytest.raises(DataError, match="'unsupervised' would not be read"):
        splits_in_memory({"train": [], "unsupervised": []})
    assert splits_in_memory(frame()) is None and splits_in_memory([("a", "b")]) is None


def test_l6_a_test_split_without_its_labels_gives_way_to_the_one_for_choices(monkeypatch):
    from maao import api

    seen = {}
    monkeypatch.setattr(api, "run", lambda config, folder, splits, mentor, watch, progress: seen.update(splits=splits))
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})

    def part(name, labels):
        rows = {"text": [f"{name} {i}" for i in range(len(labels))], "label": labels}
        return datasets.Dataset.from_dict(rows, features=features)

    parts = {"train": part("a", [0, 1] * 4), "validation": part("b", [0, 1]), "test": part("c", [-1, -1])}
    tune(model="m", train=datasets.DatasetDict(parts), folder="x")
    splits = seen["splits"]
    assert [example.fields["text"] for example in splits.test] == ["b 0", "b 1"] and splits.labels == ("bad", "good")
    assert len(splits.train) == len(splits.select) == 4 and "the split 'test' cannot be used" in splits.notes[0]


def test_l6_streams_are_refused():
    stream = datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_iterable_dataset()
    assert "load it whole" in told(stream)


def test_l6_without_pandas_nothing_needs_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas")
    assert examples_in_memory([("dull", 0), ("fine", 1)], "train", label_names=NAMES) == EXPECTED


@pytest.mark.parametrize(
    "given",
    [
        ["dull", "fine"],
        np.array(["dull", "fine"]),
        pandas.Series(["dull", "fine"]),
        frame(),
        [{"text": "dull"}, Example({"text": "fine"}, "")],
    ],
    ids=["list", "array", "Series", "frame", "mixed"],
)
def test_l6_predict_takes_the_same_forms(given):
    found = [to_predict(thing, ("text",), {}, "") for thing in things_to_predict(given)]
    assert [one.fields["text"] for one in found] == ["dull", "fine"]


def test_l6_tune_reads_frames_and_splits_by_the_same_rules(monkeypatch):
    from maao import api

    seen = {}
    monkeypatch.setattr(api, "run", lambda config, folder, splits, mentor, watch, progress: seen.update(splits=splits, config=config))
    rows = [{"headline": f"{word} {i}", "verdict": word == "fine", "id": i} for i in range(4) for word in ("dull", "fine")]
    settings = {
        "data.text_fields": {"text": "headline"},
        "data.label_field": "verdict",
        "data.label_names": {"true": "good", "false": "bad"},
    }
    tune(model="m", train={"train": pandas.DataFrame(rows[:4]), "validation": rows[4:6], "test": rows[6:]}, folder="x", settings=settings)
    splits = seen["splits"]
    assert splits.labels == ("bad", "good") and [len(part) for part in (splits.train, splits.select, splits.test)] == [4, 2, 2]
    assert splits.train[0] == Example({"text": "dull 0"}, "bad")
    with pytest.raises(ConfigError, match="holds several splits already"):
        tune(model="m", train={"train": rows}, test=rows, folder="x")
    hidden = [{**row, "verdict": None} for row in rows[6:]]
    with pytest.raises(DataError, match="the label is missing"):
        tune(model="m", train={"train": rows[:4], "validation": rows[4:6], "test": hidden}, folder="x", settings=settings)


# -- L7: labels that are one class, or none


def pool(*labels: str) -> list[Example]:
    return [Example({"text": f"text {number} {label}"}, label) for label in labels for number in range(4)]


def test_l7_labels_that_differ_only_in_case_and_a_repeated_header_stop_the_run(tmp_path):
    rows = "".join(f"t{i} {label},{label}\n" for i in range(4) for label in ("Business", "business", "music"))
    (tmp_path / "typo.csv").write_text(f"text,label\n{rows}text,label\n", encoding="utf-8")
    config = {"data": {"source": str(tmp_path / "typo.csv"), "shots": 1, "test_size": 1}}
    with pytest.raises(DataError, match=r"line 14 \(it repeats the header; delete it\)"):
        load_data(make_config(config))
    (tmp_path / "typo.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"'Business' \(4 examples\), 'business' \(4 examples\).*data\.label_names.*data\.labels"):
        load_data(make_config(config))
    config["data"]["labels"] = ["Business", "business", "music"]  # listed, so meant
    assert load_data(make_config(config)).splits.labels == ("Business", "business", "music")
    config["data"] |= {"labels": None, "label_names": {"Business": "business", "business": "business", "music": "music"}}
    assert load_data(make_config(config)).splits.labels == ("business", "music")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pos", "Pos"), ("sci tech", "sci  tech"), ("sci tech", "sci\u00a0tech"),
        ("caf\u00e9", "cafe\u0301"), ("1", "1.0"), ("1", "\uff11"),
        ("7", "007"), ("news", "ne\u200bws"), ("Stra\u00dfe", "STRASSE"), ("true", "True"),
    ],
)  # fmt: skip
def test_l7_labels_that_a_reader_takes_for_one_are_refused(one, other):
    for split in (lambda labels: few_shot(pool(one, other, "x"), shots=1, select_shots=1, test_size=1, seed=0, labels=labels),
                  lambda labels: from_parts(pool(one, other, "x"), None, (), labels=labels)):  # fmt: skip
        with pytest.raises(DataError, match="Labels differ only in case"):
            split(None)
        assert set(split([one, other, "x"]).labels) == {one, other, "x"}


def test_l7_a_label_of_select_in_other_case_is_refused_too():
    with pytest.raises(DataError, match="Labels differ only in case"):
        from_parts(pool("pos", "neg"), [Example({"text": "a"}, "Pos")], ())


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("1", "2"), ("0.1", "0.2"), ("1_0", "10"), ("c++", "c"), ("no", "not")])
def test_l7_labels_that_differ_are_left_alone(one, other):
    assert len(from_parts(pool(one, other), None, ()).labels) == 2


def test_l7_a_label_that_is_the_name_of_its_column_is_refused_unless_listed():
    rows = [("text", "label"), ("a", "x")]
    assert "example 1 (it repeats the header" in told(rows)
    assert "example 1 (the label is 'label', the name of its column" in told([("some text", "label"), ("a", "x")])
    assert len(examples_in_memory(rows, "train", labels=["label", "x"])) == 2
    assert examples_in_memory(rows[:1], "train", label_names={"label": "tag"}) == (Example({"text": "text"}, "tag"),)


def test_l7_an_id_column_taken_for_the_label_is_told():
    rows = [Example({"text": f"text {i}"}, f"id-{i}") for i in range(30)]
    with pytest.raises(DataError, match=r"No two of the 30 examples have the same label.* data\.label_field"):
        from_parts(rows[:20], rows[20:25], rows[25:])
