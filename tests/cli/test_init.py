"""`maao init`: what it finds in files of each form, what it asks, and that what it writes runs as it stands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import maao as library
from maao.data.files import SEPARATORS
from maao.first_config import look
from tests.api.small_runs import pairs, write_table
from tests.tiny_sentence import sentence_folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return sentence_folder(tmp_path_factory.mktemp("encoder"))[0]


def as_rows(split: str) -> list[dict[str, str]]:
    return [{"id": f"{split}-{i}", "message": text, "intent": label} for i, (text, label) in enumerate(pairs(split))]


def write_rows(path: Path, rows: list[dict[str, str]], separator: str = ",") -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        write_table(path, list(rows[0]), [tuple(row.values()) for row in rows], "\t" if path.suffix == ".tsv" else separator)
    return path


@pytest.mark.parametrize("name", ["a.csv", "b;.csv", "c|.csv", "d.tsv", "e.jsonl", "f.parquet"])
def test_what_is_written_runs_as_it_stands(maao, encoder, tmp_path, monkeypatch, name):
    separator = name[1] if name[1] in SEPARATORS else ","
    (tmp_path / "data").mkdir()
    file = write_rows(tmp_path / "data" / name, as_rows("train"), separator)
    test = write_rows(tmp_path / "data" / f"test{name}", as_rows("test"), separator)
    (tmp_path / "my").mkdir()
    config = tmp_path / "my" / "my.toml"
    done = maao("init", file, "--test", test, "--to", config, "--model", encoder)
    assert done.code == 0 and done.err == "", done.err
    assert "18 labelled texts of 3 classes, 6 to 6 a class" in done.out
    assert "the text is the column 'message', the label the column 'intent'" in done.out
    assert f"Next: maao tune {config}" in done.out
    held = tomllib.loads(config.read_text(encoding="utf-8"))
    assert held["data"]["train"] == f"../data/{name}" and held["data"].get("separator") == (separator if separator != "," else None)
    monkeypatch.chdir(tmp_path)
    tuned = maao("tune", config, "--run", "run", "--set", "plan.steps=4", "--set", "plan.rounds=1", "--json")
    assert tuned.code == 0, tuned.err
    found = json.loads(tuned.out)
    assert found["status"] == "finished" and found["test"]["chosen"]["num_examples"] == 18
    assert found["labels"] == ["business", "music", "sport"]


def test_the_config_is_commented_and_names_the_classes(maao, tmp_path):
    file = write_rows(tmp_path / "a.csv", as_rows("train"))
    assert maao("init", file, "--to", tmp_path / "a.toml", "--model", "any").code == 0
    text = (tmp_path / "a.toml").read_text(encoding="utf-8")
    assert text.startswith("# Written by `maao init` from ") and "\n# business 6, music 6, sport 6\n" in text
    assert all("#" in line for line in text.splitlines() if "=" in line)
    assert 'kind = "matcher"' in text and '# test = "test.csv"' in text
    assert_refused(maao("init", file, "--to", tmp_path / "a.toml"), "is there already, and is not written over")
    assert_refused(maao("init", file, "--to", tmp_path / "none" / "a.toml"), "there is no folder")


def assert_refused(done, *told):
    assert done.code == 1 and done.out == "" and done.err.startswith("Error: "), done
    for part in told:
        assert part in done.err, done.err


def test_a_folder_of_pictures_is_read_as_such(maao, tmp_path, monkeypatch):
    from PIL import Image

    folder = tmp_path / "pictures"
    for label, colour in (("cat", 60), ("dog", 190)):
        (folder / label).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (8, 8), (colour, 10 * i, 5 * i)).save(folder / label / f"{i}.png")
    done = maao("init", folder, "--to", tmp_path / "pictures.toml", "--model", "packaged:emoji-vit")
    assert done.code == 0, done.err
    monkeypatch.chdir(tmp_path)
    tuned = maao("tune", "pictures.toml", "--set", "plan.steps=2", "--set", "plan.rounds=1", "--json")
    assert tuned.code == 0 and json.loads(tuned.out)["test"]["chosen"]["num_examples"] > 0, tuned.err


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"a": "x y z", "b": "w v u", "c": "t s r"}] * 3, ("which column is the label is not clear: none looks like it", "--label")),
        (
            [{"one": f"a text {i}", "two": f"a word {i}", "label": "ab"[i % 2]} for i in range(6)],
            ("which column is the text is not clear: 'one', 'two' could each be it", "--text", "Columns: 'one', 'two', 'label'"),
        ),
        ([{"text": f"text {i}", "label": "a"} for i in range(4)], ("all 4 examples have the label 'a'",)),
        ([{"text": f"text {i}", "label": f"{i}"} for i in range(4)], ("each of the 4 labels", "Is it the column of the label?")),
        ([{"text": "", "label": "a"}, {"text": "b", "label": "b"}], ("the field 'text' is empty",)),
    ],
)
def test_what_is_not_clear_is_an_error_in_words(maao, tmp_path, rows, told):
    file = write_rows(tmp_path / "a.csv", rows)
    assert_refused(maao("init", file, "--to", tmp_path / "a.toml", "--yes"), *told)
    assert not (tmp_path / "a.toml").exists()


def test_errors_are_those_of_the_readers(maao, tmp_path):
    (tmp_path / "old.csv").write_bytes("text,label\ncaf\xe9,a\n".encode("latin-1"))
    assert_refused(maao("init", tmp_path / "old.csv"), "line 2: byte 0xe9 is not UTF-8", "iconv")
    assert_refused(maao("init", tmp_path / "od.csv"), "Did you mean 'old.csv'?")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    assert_refused(maao("init", tmp_path / "a.xlsx"), "Save the sheet as CSV")
    file = write_rows(tmp_path / "a.csv", as_rows("train"))
    assert_refused(maao("init", file, "--label", "intnt"), "there is no column 'intnt'", "Did you mean 'intent'?")
    assert_refused(maao("init", tmp_path, "--label", "intent"), "'--label' would be ignored")


def test_a_class_with_one_example_is_told_where_a_config_is_made_and_where_it_is_run(maao, encoder, tmp_path, monkeypatch):
    rows = [row for row in as_rows("train") if row["intent"] != "music"]
    file = write_rows(tmp_path / "a.csv", [*rows, next(row for row in as_rows("train") if row["intent"] == "music")])
    told = "The class 'music' has one example: out of fold it is known by its name (or its lines) alone."
    made = maao("init", file, "--to", tmp_path / "a.toml", "--model", encoder, "--json")
    assert made.code == 0 and told in json.loads(made.out)["told"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    one_step = ("--set", "plan.steps=1", "--set", "plan.rounds=1", "--set", "baselines=[]")
    assert told in maao("tune", "a.toml", *one_step).out


@pytest.mark.parametrize(
    ("name", "rows", "such"),
    [
        ("a.csv", [("a good film", "pos"), *((f"film {i}", ("pos", "neg")[i % 2]) for i in range(12))], "such as text,label."),
        ("b.csv", [("pos", "a good film"), *((("pos", "neg")[i % 2], f"film {i}") for i in range(12))], "such as label,text."),
        ("c.csv", [("7", "a good film", "pos"), *((f"1{i}", f"film {i}", ("pos", "neg")[i % 2]) for i in range(12))], "names its columns"),
    ],
)
def test_a_file_without_a_header_is_told_once(maao, tmp_path, name, rows, such):
    file = write_table(tmp_path / name, rows[0], rows[1:])
    done = maao("init", file)
    assert_refused(done, "line 1 seems to be data: the file has no header; add a first line", such)
    assert done.err.count("pos") == 1 and "data.labels" not in done.err


def test_an_unusual_header_is_read_and_told(maao, tmp_path):
    rows = [{"phrase": f"a text {i}", "kind": "ab"[i % 2]} for i in range(6)]
    done = maao("init", write_rows(tmp_path / "a.csv", rows), "--to", tmp_path / "a.toml", "--model", "any")
    assert done.code == 0 and "Line 1 is read as the header; if it is an example" in done.out
    usual = maao("init", write_rows(tmp_path / "b.csv", as_rows("train")), "--to", tmp_path / "b.toml", "--model", "any")
    assert usual.code == 0 and "Line 1" not in usual.out


def test_what_leaves_rows_out_is_told(maao, tmp_path):
    file = write_rows(tmp_path / "a.csv", [*({"text": f"t {i}", "label": "ab"[i % 2]} for i in range(6)), {"text": "t", "label": ""}])
    assert_refused(maao("init", file), "line 8 (the label is empty). Mend these rows, or remove them: no setting leaves rows out.")


def test_columns_may_be_said(tmp_path):
    rows = [{"one": f"a text {i}", "two": f"a word {i}", "kind": "ab"[i % 2], "label": "cd"[i % 2]} for i in range(6)]
    found = look(write_rows(tmp_path / "a.csv", rows), text="two", label="kind")
    assert (found.text, found.label, dict(found.counts)) == ("two", "kind", {"a": 3, "b": 3})


def test_where_somebody_is_there_the_columns_are_asked_about(tmp_path):
    asked: list[tuple[str, str]] = []

    def ask(which, names, found):
        asked.append((which, found))
        return "two" if which == "text" else found

    rows = [{"one": f"a text {i}", "two": f"a word {i}", "label": "ab"[i % 2]} for i in range(6)]
    found = look(write_rows(tmp_path / "a.csv", rows), ask=ask)
    assert asked == [("label", "label"), ("text", "one")] and found.text == "two"


def test_examples_that_stand_in_both_files_are_dropped_and_told(maao, tmp_path):
    file = write_rows(tmp_path / "a.csv", as_rows("train"))
    test = write_rows(tmp_path / "t.csv", [*as_rows("test"), as_rows("train")[0]])
    done = maao("init", file, "--test", test, "--to", tmp_path / "a.toml", "--model", "any")
    assert done.code == 0 and "stand in" in done.out and "drop_repeats = true" in (tmp_path / "a.toml").read_text()


def test_a_usual_column_is_named_where_another_usual_one_is_there(maao, tmp_path):
    rows = [{"text": f"a text {i}", "sentence": f"a word {i}", "label": "ab"[i % 2]} for i in range(6)]
    done = maao("init", write_rows(tmp_path / "a.csv", rows), "--text", "sentence", "--to", tmp_path / "a.toml", "--model", "any")
    assert done.code == 0, done.err
    assert library.read_config(tmp_path / "a.toml").texts.text_fields == {"text": "sentence"}


def test_what_dropping_repeats_does_not_mend_is_told(maao, tmp_path):
    file = write_rows(tmp_path / "a.csv", as_rows("train"))
    test = write_rows(tmp_path / "t.csv", [as_rows("train")[0], {"id": "x", "message": "a zebra", "intent": "animals"}])
    assert_refused(maao("init", file, "--test", test, "--to", tmp_path / "a.toml", "--model", "any"), "animals")


def test_a_place_that_cannot_be_written_is_told(maao, tmp_path):
    file = write_rows(tmp_path / "a.csv", as_rows("train"))
    assert_refused(maao("init", file, "--to", "/proc/a.toml", "--model", "any"), "Cannot write /proc/a.toml")


def test_labels_that_are_numbers_want_names(maao, tmp_path):
    rows = [{"text": f"some text {i}", "label": str(i % 2)} for i in range(6)]
    done = maao("init", write_rows(tmp_path / "a.jsonl", rows), "--to", tmp_path / "a.toml", "--model", "any", "--json")
    held = json.loads(done.out)
    assert held["counts"] == {"0": 3, "1": 3} and any("data.label_names" in told for told in held["told"])
    assert '# label_names = { "0" = "...", "1" = "..." }' in (tmp_path / "a.toml").read_text()
    assert library.read_config(tmp_path / "a.toml").model.kind.name == "matcher"
