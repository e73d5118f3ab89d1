"""What commands print where: one document with --json, little with --quiet, nothing but text into a pipe, and how they exit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from maao.cli import app
from maao.cli_output import CODES, Output
from tests.api.small_runs import pairs, to_toml, write_config, write_csv

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"
FUNCTION = {"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 3}}


@pytest.fixture
def function(tmp_path):
    (tmp_path / "f.toml").write_text(to_toml(FUNCTION), encoding="utf-8")
    return tmp_path / "f.toml"


def documented() -> dict[str, list[str]]:
    """Return the keys that docs/commands.md names, by command."""
    found: dict[str, list[str]] = {}
    section = DOCS.read_text(encoding="utf-8").split("## Documents")[1].split("\n## ")[0]
    for block in section.split("\n### ")[1:]:
        heading, _, body = block.partition("\n")
        keys = re.findall(r"^\| `([a-z0-9_]+)`", body, flags=re.M)
        for command in re.findall(r"`maao ([a-z -]+?)`", heading):
            found[command] = keys
    return found


def document(done, command: str) -> dict[str, object]:
    """Return the one document of a command, whose keys are those that the docs name."""
    assert done.code == 0, done.err
    held = json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert sorted(held) == sorted(documented()[command]), command
    return held


def test_commands_that_make_runs_print_one_document(maao, function, tmp_path):
    done = maao("tune", function, "--run", tmp_path / "run", "--json")
    held = document(done, "tune")
    assert held["status"] == "finished" and len(held["rounds"]) == 3 and held["story"][-1]["command"].startswith("maao show")
    assert "round 2: step 6" in done.err
    again = document(maao("resume", tmp_path / "run", "--json"), "resume")
    assert {**again, "story": 0} == {**held, "story": 0}
    replayed = document(maao("replay", tmp_path / "run", "--json"), "replay")
    assert replayed["equal"] is True and replayed["recorded"] == held["params"]
    listed = document(maao("runs", tmp_path, "--json"), "runs")
    assert [one["name"] for one in listed["runs"]] == ["run"] and listed["runs"][0]["best_loss"] == held["chosen"]["loss"]


def test_a_search_and_baselines_print_one_document(maao, settings, function, tmp_path):
    found = document(maao("find-lr", function, "--json"), "find-lr")
    assert found["chosen"] in [trial["rate"] for trial in found["trials"]]
    config = write_config(tmp_path, settings)
    shown = maao("baselines", config, "--only", "majority", "--json")
    assert [one["name"] for one in document(shown, "baselines")["baselines"]] == ["majority"] and shown.err == "majority: 0.0 s\n"
    walked = json.loads(maao("baselines", function, "--headroom", "2", "--json").out)
    assert list(walked) == ["headroom"] and len(walked["headroom"]["tuned"]) == 2


def test_commands_that_read_a_run_print_one_document(maao, run, tmp_path):
    held = document(maao("show", run, "--json"), "show")
    assert held["test"]["chosen"]["num_examples"] == 18 and held["gain"]["over_untuned"]["over"] == "untuned model"
    more = json.loads(maao("show", run, "--clues", "--calls", "--lines", "--json").out)
    assert set(more) - set(held) == {"clues", "calls", "lines"} and len(more["calls"]) == 2
    assert more["calls"][0]["request"]["messages"] and more["clues"][0]["confusions"]
    labelled = document(maao("predict", run, "music film", "--json"), "predict")
    assert labelled["predictions"][0]["text"] == "music film"
    file = write_csv(tmp_path / "test.csv", pairs("test"))
    assert document(maao("evaluate", run, file, "--json"), "evaluate")["num_examples"] == 18
    exported = document(maao("export", run, "--to", tmp_path / "out", "--json"), "export")
    assert all(Path(path).exists() for paths in exported["written"].values() for path in paths) and exported["not_written"]
    assert document(maao("report", run, "--to", tmp_path / "page.html", "--json"), "report")["bytes"] > 1000


def test_the_other_commands_print_one_document(maao, run, tmp_path):
    assert document(maao("doctor", "--json"), "doctor")["findings"][0]["name"] == "python"
    assert Path(document(maao("where", "packaged:all-minilm-l6-v2", "--json"), "where")["path"]).exists()
    assert document(maao("requests", "list", run, "--json"), "requests list")["open"] == []
    assert document(maao("requests", "export", run, "--to", tmp_path / "a.jsonl", "--json"), "requests export")["requests"] == 0
    told = document(maao("requests", "record", run, "--to", tmp_path / "r.jsonl", "--json"), "requests record")
    assert told["added"] == told["replies"] == 2
    file = write_csv(tmp_path / "a.csv", pairs("train"))
    assert document(maao("init", file, "--to", tmp_path / "a.toml", "--model", "any", "--json"), "init")["counts"]["music"] == 6


def test_an_error_leaves_standard_output_empty(maao, tmp_path):
    done = maao("show", tmp_path / "none", "--json")
    assert (done.code, done.out) == (1, "") and done.err.startswith("Error: ")


# -- quiet, and plain


def test_quiet_prints_the_result_alone(maao, function, run, tmp_path):
    done = maao("tune", function, "--run", tmp_path / "run", "--quiet")
    assert done.code == 0 and done.err == "" and done.out.startswith("The point that is used has loss ") and "round 1:" not in done.out
    both = maao("tune", function, "--run", tmp_path / "both", "-q", "--json")
    assert both.err == "" and json.loads(both.out)["status"] == "finished"
    told = maao("predict", run, "music film", "", "--quiet")
    assert told.code == 3 and told.err == "" and len(told.out.splitlines()) == 2


def test_a_question_is_put_where_all_else_is_quiet(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = Output(as_json=True, quiet=True)
    assert out.going_on.quiet and not out.asking.quiet and out.asking.stderr


@pytest.mark.parametrize("width", [80, 60])
def test_into_a_pipe_goes_plain_text_whose_tables_fit(maao, run, settings, tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    commands = (
        ("show", run),
        ("show", run, "--clues"),
        ("runs", run.parent),
        ("evaluate", run, write_csv(tmp_path / "test.csv", pairs("test"))),
        ("baselines", write_config(tmp_path, settings), "--only", "majority", "--only", "prototypes", "--test"),
    )
    for command in commands:
        done = maao(*command)
        assert done.code == 0 and "\x1b" not in done.out and "\r" not in done.out
        lines = done.out.splitlines()
        rules = [i for i, line in enumerate(lines) if set(line.strip()) == {"─"}]
        assert rules or "evaluate" in command, command
        for rule in rules:
            head = [lines[rule - 1], lines[rule]]
            body = [line for line in lines[rule + 1 :] if line.strip()][:1]
            assert all(len(line) <= width for line in (*head, *body)), (command, head)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]{4,}", text))


def test_no_word_is_broken_in_a_narrow_table(maao, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    wide = words_of(maao("show", run).out)
    monkeypatch.setenv("COLUMNS", "60")
    assert words_of(maao("show", run).out) == wide


def test_a_verdict_has_the_whole_width(maao, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert re.search(r"^ +1  (won|kept): incumbent [\d.]+ at age 2, best proposal [\d.]+ at age 2 *$", maao("show", run).out, flags=re.M)


# -- what typer brings


def test_the_version_and_the_exit_codes_are_told(maao):
    import maao as library

    done = maao("--version")
    assert (done.code, done.out) == (0, f"maao {library.__version__}\n")
    told = " ".join(maao("--help").out.split())
    documented_codes = dict(re.findall(r"^\| (\d+) \| (.+) \|$", DOCS.read_text(encoding="utf-8"), flags=re.M))
    for code, meaning in CODES.items():
        assert f"{code} {meaning}" in told and documented_codes[str(code)] == meaning


def commands_in(group: Any, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words that each command is called by, and what typer made of it."""
    yield above, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands_in(command, *above, name)


def test_help_tells_every_word_that_is_written_within_80_columns(maao, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = {words: maao(*words, "--help").out for words, _ in commands_in(typer.main.get_command(app))}
    assert ("predict",) in shown and ("requests", "list") in shown
    for words, command in commands_in(typer.main.get_command(app)):
        lines, told = shown[words].splitlines(), "".join(shown[words].split())  # without white space, which folding changes
        assert max(map(len, lines)) <= 80, words
        for text in (command.help, *(param.help for param in command.params if param.name != "help"), command.epilog):
            assert "".join((text or "").split()) in told, (words, text)
        if words:
            first = "".join(command.help.partition("\n\n")[0].split())
            assert first in "".join(shown[words[:-1]].split()), words  # in the list of its group, whole
    assert "What a run leaves undecided (its [predict]) has no label." in " ".join(shown[("predict",)].split())


def test_a_command_that_is_not_written_so_exits_with_2(maao):
    assert maao("tune", "--nothing").code == 2 and maao("nothing").code == 2 and maao("tune").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_completion(shell):
    command, environment = Path(sys.executable).with_name("maao"), {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run([command, "--show-completion", shell], capture_output=True, text=True, timeout=60, env=environment)
    assert shown.returncode == 0 and "_MAAO_COMPLETE" in shown.stdout and "maao" in shown.stdout
    asked = {"_MAAO_COMPLETE": f"complete_{shell}", "COMP_WORDS": "maao eva", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "maao eva"}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = subprocess.run([command], capture_output=True, text=True, timeout=60, env={**os.environ, **asked})
    assert "evaluate" in found.stdout and "doctor" not in found.stdout
