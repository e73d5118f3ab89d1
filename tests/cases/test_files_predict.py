"""Files and people: `maao predict` answers one for one, and what came from outside is shown by a terminal, never obeyed."""

from __future__ import annotations

import ast
import csv
import io
import json
import sys
from pathlib import Path

import pytest

import maao
from maao import cli
from maao.config import make_config
from maao.data.checks import Unread
from maao.deploy import Deployed, Prediction
from maao.errors import DataError
from maao.predictor import Predictor
from maao.printable import printable, printable_line
from maao.runner import run
from tests.api.fixtures import llama, model_folder
from tests.api.small_runs import LABELS, pairs, values, write_config, write_csv
from tests.commands import ran

__all__ = ["llama", "model_folder"]

ESCAPE, OVERRIDE = "\x1b[2J\x1b[31m", "\u202e"


@pytest.fixture(scope="module")
def folder(llama, tmp_path_factory):
    """A finished run, with a learner of no patience and no mentor."""
    place = tmp_path_factory.mktemp("predict")
    data = {name: str(write_csv(place / f"{name}.csv", pairs(name))) for name in ("train", "select")}
    settings = values(llama, data, mentor={"name": "none"}, plan={"rounds": 1, "steps": 1}, accept={})
    return run(make_config(settings), place / "run").folder


@pytest.fixture
def said(capsys, monkeypatch):
    """Return the function that runs a command in this process: exit code, output, errors."""

    def said(*arguments, data: bytes = b"", terminal: bool = False):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        done = ran(monkeypatch, capsys, *arguments)
        return done.code, done.out, done.err

    return said


def rows_of(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out, newline="")))


# -- one for one


def test_f_one_empty_cell_refuses_no_other_row_and_all_columns_stay(said, folder, tmp_path):
    (tmp_path / "a.csv").write_text('id,text,note\n07,music film,"a, b"\n08,,NA\n09,"team\nmatch",\n', encoding="utf-8")
    code, out, err = said("predict", folder, "--file", tmp_path / "a.csv")
    rows = rows_of(out)
    assert [(row["id"], row["text"], row["note"]) for row in rows] == [
        ("07", "music film", "a, b"),
        ("08", "", "NA"),
        ("09", "team\nmatch", ""),
    ]
    assert [row["predicted"] in LABELS for row in rows] == [True, False, True] and rows[1]["probability"] == ""
    assert rows[1]["not_read"] == "the field 'text' is empty"
    assert code == 3 and "Not read: line 3: the field 'text' is empty" in err and "1 of 3 could not be read" in err


def test_f_an_empty_line_of_standard_input_shifts_no_later_line(said, folder):
    whole = said("predict", folder, "--file", "-", data=b"music film\nteam match\n")[1].splitlines()
    code, out, err = said("predict", folder, "--file", "-", data=b"music film\n\nteam match\n")
    assert out.splitlines() == [whole[0], "\t\t", whole[1]]
    assert code == 3 and "Not read: standard input, line 2: the field 'text' is empty" in err


def test_m13_bytes_that_are_not_utf8_cost_their_line_alone(said, folder):
    code, out, err = said("predict", folder, "--file", "-", data=b"ok\n\xff\xfe\nmusic\n")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[2] for line in lines] == ["ok", "\\xff\\xfe", "music"] and lines[1][:2] == ["", ""]
    assert code == 3 and "standard input, line 2: byte 0xff is not UTF-8" in err and "Traceback" not in err
    assert err.count("iconv") == 1  # what mends it is told too, once


def test_m13_halves_of_surrogate_pairs_never_reach_the_tokenizer(said, folder, tmp_path):
    code, out, err = said("predict", folder, "music", "a\ud800b", "fi\udcfflm", "nul\0")
    assert code == 3 and [line.split("\t")[0] in LABELS for line in out.splitlines()] == [True, False, False, False]
    assert "text 2: the field 'text' holds half of a surrogate pair" in err and "text 3: byte 0xff" in err and "NUL" in err
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800"}\n{"text": "music"}\n', encoding="utf-8")
    code, out, _ = said("predict", folder, "--json", "--file", tmp_path / "a.jsonl")
    first, second = json.loads(out)["predictions"]
    assert code == 3 and first["label"] is None and "surrogate" in first["not_read"] and second["label"] in LABELS
    with pytest.raises(DataError, match=r"number 2 \(the field 'text' holds half of a surrogate pair"):
        maao.load(folder).predict(["music", "\ud800"])


def test_f_only_line_breaks_end_a_line(said, folder):
    code, out, _ = said("predict", folder, "--file", "-", data="\ufeffmusic\x0cfilm\u2028team\x85\r\nmatch".encode())
    assert code == 0 and len(out.split("\n")) == 3


def test_f_malformed_rows_of_any_table_leave_the_good_ones(said, folder, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b'{"id": 1, "text": "music"}\n{"id": 2\n{"id": 3, "txt": "x"}\n{"id": 4, "text": ["x"]}\n\n{"id": 5, "text": 6}'
    )
    code, out, err = said("predict", folder, "--json", "--file", tmp_path / "a.jsonl")
    found = json.loads(out)["predictions"]
    assert code == 3 and [one["label"] in LABELS for one in found] == [True, False, False, False, True]
    assert [one["row"]["id"] for one in found if "row" in one] == [1, 3, 4, 5] and found[1]["text"] == '{"id": 2'
    for part in ("line 2: not correct JSON", "line 3: it has no 'text'", "line 4: the field 'text' is a list"):
        assert part in err
    (tmp_path / "b.csv").write_bytes(b"text,id\nmusic,1\nteam\ncaf\xe9,3\nfilm,4,5\nmatch,6\n")
    code, out, err = said("predict", folder, "--file", tmp_path / "b.csv")
    assert code == 3 and [row["predicted"] in LABELS for row in rows_of(out)] == [True, False, False, False, True]
    assert [row["id"] for row in rows_of(out)] == ["1", "", "3", "4", "6"]


def test_f_json_holds_no_nan(said, folder, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "music", "x": NaN, "y": [1.5, {"z": -Infinity}]}\n', encoding="utf-8")
    code, out, _ = said("predict", folder, "--json", "--file", tmp_path / "a.jsonl")
    (found,) = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]
    assert code == 0 and found["row"] == {"text": "music", "x": None, "y": [1.5, {"z": None}]} and found["label"] in LABELS


def test_f_nothing_readable_ends_with_code_1(said, folder):
    assert said("predict", folder, "--file", "-", data=b"\n \nx\xff\n")[0] == 1


def test_f_a_separator_is_told_for_a_table_and_never_ignored(said, folder, tmp_path):
    (tmp_path / "a.csv").write_text("id;text\n1;music, film\n", encoding="utf-8")
    code, _, err = said("predict", folder, "--file", tmp_path / "a.csv")
    assert code == 1 and "seem to be separated by semicolons" in err
    code, out, _ = said("predict", folder, "--file", tmp_path / "a.csv", "--separator", ";")
    assert code == 0 and rows_of(out)[0]["text"] == "music, film"
    assert "would be ignored" in said("predict", folder, "music", "--separator", ";")[2]
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert "Save the sheet as CSV" in said("predict", folder, "--file", tmp_path / "a.xlsx")[2]
    assert "not both" in said("predict", folder, "music", "--file", tmp_path / "a.csv")[2]


def test_f_a_table_with_text_and_sentence_is_read_by_text(said, folder, tmp_path):
    (tmp_path / "a.csv").write_text("sentence,text\nteam match,music film\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text\nmusic film\n", encoding="utf-8")
    code, out, err = said("predict", folder, "--file", tmp_path / "a.csv")
    (row,), (alone,) = rows_of(out), rows_of(said("predict", folder, "--file", tmp_path / "b.csv")[1])
    assert code == 0 and err == "" and row["sentence"] == "team match"
    assert (row["predicted"], row["probability"]) == (alone["predicted"], alone["probability"])


def test_f_one_row_with_another_key_refuses_no_other_row(said, folder, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "music"}\n{"sentence": "film"}\n{"headline": "team"}\n', encoding="utf-8")
    code, out, err = said("predict", folder, "--json", "--file", tmp_path / "a.jsonl")
    assert code == 3 and [one["label"] in LABELS for one in json.loads(out)["predictions"]] == [True, True, False]
    assert "line 3: it has no 'text', which the template reads; it has: 'headline'" in err


def test_f_advice_for_a_table_to_predict_is_what_predict_takes(said, folder, tmp_path):
    def refused(text: str, *options: str) -> str:
        (tmp_path / "a.csv").write_text(text, encoding="utf-8")
        code, _, err = said("predict", folder, "--file", tmp_path / "a.csv", *options)
        assert code == 1 and "data." not in err
        return " ".join(err.split())

    assert "Give --separator ';'." in refused("id;text\n1;music\n")
    assert "Give --separator $'\\t'." in refused("id\ttext\n1\tmusic\n")
    assert "Give --separator ','." in refused("id,text\n1,music\n", "--separator", ";")
    for separator in (";;", ""):
        assert "--separator must be one character" in refused("id,text\n1,music\n", "--separator", separator)
    text = refused("id,txt\n1,music\n")
    assert "there is no column 'text' or 'sentence'" in text and "Did you mean 'txt'?" in text and "Rename the one to read." in text


def test_f_columns_that_have_our_names_are_kept(said, folder, tmp_path):
    (tmp_path / "a.csv").write_text("predicted,text\nold,music\n", encoding="utf-8")
    (row,) = rows_of(said("predict", folder, "--file", tmp_path / "a.csv")[1])
    assert row["predicted"] == "old" and row["predicted_"] in LABELS


def test_f_python_gets_an_answer_or_a_reason_for_each(folder):
    result = maao.load(folder)
    found = result.try_predict(["music", "", {"text": None}, 3, {"sentence": "film"}])
    assert [type(one) for one in found] == [Prediction, Unread, Unread, Unread, Prediction]
    assert found[3].reason == "it is a int, which is neither a text nor a mapping of the template's fields"
    with pytest.raises(DataError, match=r"2 of 3 inputs cannot be used: number 1 .*; number 3 "):
        result.predict(["", "music", {"text": 0.5}])


def test_l6_a_frame_or_an_array_is_predicted_as_it_is(folder):
    pandas = pytest.importorskip("pandas")
    result = maao.load(folder)
    texts = ["music film", "team match"]
    expected = [one.label for one in result.predict(texts)]
    frame = pandas.DataFrame({"id": [1, 2], "text": texts}, index=[5, 3])
    for given in (frame, frame["text"], frame["text"].to_numpy(), frame.to_dict("records"), (text for text in texts)):
        assert [one.label for one in result.predict(given)] == expected
    with pytest.raises(DataError, match=r"number 2 \(it is missing"):
        result.predict(pandas.Series(["music", None]))


# -- the terminal


HOSTILE = f"red{ESCAPE}[bold]{OVERRIDE}\x07\x08\u2028\u0085"


def test_f_printable_is_shown_and_not_obeyed():
    assert printable(HOSTILE) == "red\ufffd[2J\ufffd[31m[bold]\ufffd\ufffd\ufffd\ufffd\ufffd"
    assert printable("a\r\n\tb\x7f\ud800\u200f") == "a\ufffd\n\tb\ufffd\ufffd\ufffd"
    for text in ("日本\u3000語", "n\u00a0b", "👩\u200d🚀", "می\u200cخواهم", "naïve", "\ue000"):
        assert printable(text) == text
    assert printable_line("a\n\nError: b\t c") == "a Error: b c"


def assert_shown(text: str) -> None:
    assert not {"\x1b", OVERRIDE, "\x07", "\x08"} & set(text), repr(text)


def test_f_labels_texts_and_names_from_outside_are_never_obeyed(said, llama, tmp_path):
    label = {name: f"{name}{ESCAPE}{OVERRIDE}[red]" for name in LABELS}
    place = tmp_path / f"[blink]{ESCAPE}"
    place.mkdir()
    data = {
        split: str(write_csv(place / f"{split}.csv", [(text, label[name]) for text, name in pairs(split)])) for split in ("train", "select")
    }
    replies = [f"1. music {ESCAPE}team{OVERRIDE}\n2. music team bank"] * 2
    settings = values(llama, data, mentor={"retries": 0, "chat": {"provider": "scripted", "replies": replies}}, plan__rounds=1)
    code, out, err = said("tune", write_config(place, settings), "--run", place / "run")
    assert code == 0, err
    assert "[red]" in out and "music" in out
    told = [out, err, *said("show", place / "run", "--clues", "--calls")[1:], *said("runs", place)[1:], *said("replay", place / "run")[1:]]
    told += said("predict", place / "run", f"music{ESCAPE}", "", terminal=True)[1:]
    told += said("tune", place / f"none{ESCAPE}.toml")[1:]
    told += said("predict", place / "run", "--file", place / f"none{ESCAPE}.csv")[1:]
    for text in told:
        assert_shown(text)
    exact = said("predict", place / "run", f"music{ESCAPE}")[1]  # into a pipe goes what it is
    assert ESCAPE in exact.split("\t")[0] and exact.split("\t")[2] == f"music{ESCAPE}\n"


def test_f_every_line_to_a_terminal_passes_the_one_function():
    allowed = {
        "cli.py": {"demo", "_version"},
        "cli_output.py": {"say", "tell", "document"},
        "cli_reading.py": {"predict"},
        "cli_requests.py": set(),
        "cli_setup.py": set(),
        "console.py": set(),
    }
    for file, functions in allowed.items():
        tree = ast.parse(Path(cli.__file__).with_name(file).read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name not in functions):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                assert call.func.id not in ("print", "Text"), f"{file}: {function.name} prints past `printable`"


def test_f_one_bad_picture_leaves_the_good_ones(monkeypatch):
    """The reading of pictures in parts, on a problem that refuses some: what runs the tower is tried in tests/api."""

    class Problem:
        def class_scores(self, params, inputs):
            import torch

            keys = [example.fields["image"] for example in inputs]
            if any("bad" in key for key in keys):
                raise DataError(f"{next(key for key in keys if 'bad' in key)}: cannot be read")
            return torch.tensor([[0.25, 0.75]] * len(keys)).log()

        def cuts(self, params, inputs):
            return (0,) * len(inputs)

    class Seen(Predictor):
        deployed = Deployed(None, Problem(), {}, ("cat", "dog"))

    result = Seen(make_config({"data": {"source": "emoji"}}), ("cat", "dog"), (), {})
    found = result.try_predict(["1.png", "2.png", "3.png", "bad.png", "", "4.png"])
    assert [one.label if isinstance(one, Prediction) else one.reason for one in found] == [
        "dog", "dog", "dog", "bad.png: cannot be read", "there is no file name", "dog",
    ]  # fmt: skip
    assert found[3].place == "number 4"
    with pytest.raises(
        DataError, match=r"3 of 5 inputs cannot be used: number 2 \(bad\.png: .*; number 3 \(there is no .*; number 4 \(bad2"
    ):
        result.predict(["1.png", "bad.png", "", "bad2.png", "2.png"])
