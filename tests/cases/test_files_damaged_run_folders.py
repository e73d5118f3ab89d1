"""Every file of a run folder, damaged in every way: each command says which file is wrong, in a line, and none ends in a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import maao
from maao.config import make_config
from maao.errors import StoreError
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import config
from tests.commands import Done, ran
from tests.tiny import tiny_splits

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def command(capsys, monkeypatch) -> Callable[..., Done]:
    """Return the function that runs a command in this process."""
    return partial(ran, monkeypatch, capsys)


@pytest.fixture(scope="module")
def language(llama, tmp_path_factory) -> Path:  # noqa: F811
    """A run whose examples came from memory, with recorded calls, that says it was stopped: so that `resume` goes on with it."""
    folder = tmp_path_factory.mktemp("language") / "run"
    maao.run(config(llama, {}, plan__rounds=1, plan__steps=2), folder, splits=tiny_splits())
    with contextlib.closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        connection.execute("UPDATE meta SET value = 'stopped' WHERE key = 'status'")
    return folder


@pytest.fixture(scope="module")
def function(tmp_path_factory) -> Path:
    """A finished run on a plain function: three rounds of which one asks, and a search for the learning rate."""
    folder = tmp_path_factory.mktemp("function") / "run"
    settings = {
        "problem": "function",
        "threads": 1,
        "stage": {"lr_grid": [0.01, 0.1], "lr_steps": 2},
        "plan": {"rounds": 1, "steps": 3},
        "accept": {"steps": 2},
        "mentor": {"name": "scripted", "texts": ["1 1", "2 2", "nonsense"]},
    }
    maao.run(make_config(settings), folder)
    return folder


def cut(part: Callable[[bytes], int]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(file.read_bytes()[: part(file.read_bytes())]) and None


def holds(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content) and None


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def cannot_be_opened(file: Path) -> None:
    """A link to itself: no user, not even root, can open it."""
    file.unlink()
    file.symlink_to(file)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": holds(b""),
    "cut to a byte": cut(lambda data: 1),
    "cut in half": cut(lambda data: len(data) // 2),
    "cut near its end": cut(lambda data: len(data) - 9),
    "[]": holds(b"[]"),
    "{}": holds(b"{}"),
    "null": holds(b"null"),
    "a text": holds(b'"x"'),
    "nested": holds(b"[" * 100_000),
    "a long number": holds(b'{"labels": ' + b"9" * 5000 + b"}"),
    "random bytes": holds(random.Random(0).randbytes(3000)),
    "a folder": folder_instead,
    "unreadable": cannot_be_opened,
    "missing": Path.unlink,
}
FILES = ("config.json", "environment.json", "run.sqlite", "examples.json", "tensors")
NEEDS = {"examples.json": ("runs", "resume", "replay")}  # what is tuned can be read, used and exported without its examples
COMMANDS = ("runs", "show", "predict", "export", "resume", "replay")


def play(command: Callable[..., Done], name: str, run: Path) -> Done:
    further = {"predict": ("the news",), "export": ("--to", run.parent / "out")}
    return command(name, run.parent if name == "runs" else run, *further.get(name, ()))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_f_a_damaged_file_is_named_by_every_command(command, language, tmp_path, file, damage):
    shutil.copytree(language, tmp_path / "runs" / "bad")
    run = tmp_path / "runs" / "bad"
    target = sorted((run / "tensors").iterdir())[0] if file == "tensors" else run / file
    DAMAGES[damage](target)
    if file == "tensors":  # the rounds' own files: of others (kept observations, proposals) only a reading of the rounds knows
        for other in sorted((run / "tensors").iterdir())[1:]:
            DAMAGES[damage](other)
    needed = NEEDS.get(file, COMMANDS)
    for name in COMMANDS if damage in ("missing", "{}") else needed:
        done = play(command, name, run)
        if name == "runs":
            assert done.code == 0
            told = done.out.partition("bad: ")[2].replace("\n", "")  # below the table, broken into lines
            assert file in told, done.out
        elif name in needed:
            assert done.code == 1, (name, done.told())
            assert done.err.startswith("Error: ") and done.err.count("\n") == 1, done.err
            assert file in done.err, done.err
            assert not done.out.strip()
        else:
            assert done.code == 0, (name, done.told())


def test_f_one_damaged_run_hides_no_other(command, function, tmp_path):
    for number, damage in enumerate(DAMAGES):
        run = tmp_path / f"run-{number}"
        shutil.copytree(function, run)
        DAMAGES[damage](run / ("environment.json", "run.sqlite", "config.json")[number % 3])
    shutil.copytree(function, tmp_path / "well")
    summaries = {summary.name: summary for summary in maao_list(tmp_path)}
    assert len(summaries) == len(DAMAGES) + 1
    assert summaries["well"].problem is None and summaries["well"].rounds_done == 3
    assert all(summary.problem for name, summary in summaries.items() if name != "well")
    done = command("runs", tmp_path)
    assert done.code == 0 and "well" in done.out


def maao_list(folder: Path):
    from maao.store.listing import list_runs

    return list_runs(folder)


# -- inside run.sqlite

ROUNDS = {
    "round 0 is gone": "DELETE FROM rounds WHERE round = 0",
    "a round in the middle is gone": "DELETE FROM rounds WHERE round = 1",
    "the last round is gone, its parts are not": "DELETE FROM rounds WHERE round = 2",
    "all rounds are gone": "DELETE FROM rounds",
    "the observations are gone": "DELETE FROM observations",
    "one observation is gone": "DELETE FROM observations WHERE round = 1 AND position = 1",
    "the proposals are gone": "DELETE FROM proposals",
    "what was rejected is gone": "DELETE FROM rejected",
    "what was considered is gone": "DELETE FROM considered",
    "a number of another round": "UPDATE observations SET loss = loss + 1",
    "a round twice": "UPDATE rounds SET round = 7 WHERE round = 2",
}
VALUES = {
    "no status": "DELETE FROM meta WHERE key = 'status'",
    "an odd status": "UPDATE meta SET value = x'ff00' WHERE key = 'status'",
    "a status of no run": "UPDATE meta SET value = 'well' WHERE key = 'status'",
    **{
        f"{table}.{column} = {value}": f"UPDATE {table} SET {column} = {value}"
        for table, columns in {
            "rounds": ("leg", "score", "clues", "cost", "advice_cost", "verdict_cost", "verdict_meta", "state_meta", "chosen", "loss"),
            "observations": ("step", "loss", "cost"),
            "proposals": ("fields", "params_tensors", "text"),
            "considered": ("proposal", "age", "weight", "score"),
        }.items()
        for column in columns
        for value in ("'[1]'", "x'ff'", "cast(x'ff' AS TEXT)")
    },
}
OTHERS = {
    "no table of rounds": "DROP TABLE rounds",
    "no table of observations": "DROP TABLE observations",
    "no table of finals": "DROP TABLE finals",
    "no column": "ALTER TABLE rounds DROP COLUMN cost",
    "nothing about itself": "DELETE FROM meta",
    "schema 0": "UPDATE meta SET value = '0' WHERE key = 'schema_version'",
    "schema -1": "UPDATE meta SET value = '-1' WHERE key = 'schema_version'",
    "schema of many digits": f"UPDATE meta SET value = '{'9' * 5000}' WHERE key = 'schema_version'",
    "a schema in words": "UPDATE meta SET value = 'two' WHERE key = 'schema_version'",
    "a newer schema": "UPDATE meta SET value = '99' WHERE key = 'schema_version'",
    "an older schema than it has": "UPDATE meta SET value = '1' WHERE key = 'schema_version'",
}


def damaged_copy(run: Path, tmp_path: Path, statement: str) -> Path:
    copy = tmp_path / "runs" / "bad"
    shutil.copytree(run, copy)
    with contextlib.closing(sqlite3.connect(copy / "run.sqlite")) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("UPDATE meta SET value = 'stopped' WHERE key = 'status'")
        connection.execute(statement)
    return copy


@pytest.mark.parametrize("statement", [*ROUNDS.values(), *OTHERS.values(), *VALUES.values()], ids=[*ROUNDS, *OTHERS, *VALUES])
def test_f_damage_inside_the_database_is_told(command, function, tmp_path, statement):
    changed = damaged_copy(function, tmp_path, statement)
    verbs = ("show",) if statement in VALUES.values() or "finals" in statement else ("show", "resume", "replay")
    for name in verbs:
        done = command(name, changed)
        assert done.code == 1, (name, done.told())
        assert done.err.startswith("Error: ") and done.err.count("\n") == 1, done.err
        assert "run.sqlite" in done.err or "schema 99" in done.err
    (summary,) = maao_list(changed.parent)
    if "finals" not in statement:  # a listing reads no finals
        assert summary.problem is not None


@pytest.mark.parametrize("value", ["'[1]'", "x'ff'", "cast(x'ff' AS TEXT)"])
@pytest.mark.parametrize("column", ["request", "reply", "input_tokens", "usd", "seconds"])
def test_f_damaged_calls_are_told(command, language, tmp_path, column, value):
    run = damaged_copy(language, tmp_path, f"UPDATE calls SET {column} = {value}")
    done = command("show", run, "--calls")
    if (column, value) == ("reply", "'[1]'"):  # a text that is no reply: it is asked for again when the run goes on
        assert done.code == 0 and "cannot be used: it is damaged" in done.out
    else:
        assert done.code == 1 and "run.sqlite is damaged" in done.err
    assert command("show", run).code == 0  # rounds are whole


def test_f_without_its_calls_a_run_is_shown_and_not_replayed(command, language, tmp_path):
    run = damaged_copy(language, tmp_path, "DELETE FROM calls")
    assert command("show", run).code == 0
    done = command("replay", run)
    assert done.code == 1 and done.err.startswith("Error: ") and done.err.count("\n") == 1


def test_f_a_round_of_an_older_schema_is_read_without_its_checksum(function, tmp_path):
    run = damaged_copy(function, tmp_path, "UPDATE rounds SET checksum = NULL")
    assert len(maao.load(run).history) == 3


@pytest.mark.parametrize(("column", "value"), [("cost", "'[1]'"), ("state_meta", "'{}'"), ("state_meta", "'[]'"), ("leg", "'7'")])
def test_f_rounds_without_checksum_are_checked_by_their_types(command, function, tmp_path, column, value):
    run = damaged_copy(function, tmp_path, f"UPDATE rounds SET checksum = NULL, {column} = {value}")
    done = command("show", run)
    assert done.code == 1 and done.err.startswith("Error: ") and "damaged" in done.err


def test_f_a_leftover_journal_is_no_obstacle(command, function, tmp_path):
    run = damaged_copy(function, tmp_path, "UPDATE meta SET value = 'finished' WHERE key = 'status'")
    (run / "run.sqlite-journal").write_bytes(os.urandom(700))
    assert command("show", run).code == 0


def test_f_a_folder_in_place_of_the_lock_is_told_by_resume(command, function, tmp_path):
    run = damaged_copy(function, tmp_path, "UPDATE meta SET value = 'stopped' WHERE key = 'status'")
    (run / "run.lock").unlink(missing_ok=True)
    (run / "run.lock").mkdir()
    done = command("resume", run)
    assert done.code == 1 and "run.lock" in done.err and done.err.count("\n") == 1
    assert command("show", run).code == 0


def test_f_a_missing_folder_of_tensors_is_told(command, function, tmp_path):
    run = damaged_copy(function, tmp_path, "UPDATE meta SET value = 'stopped' WHERE key = 'status'")
    shutil.rmtree(run / "tensors")
    for name in ("show", "resume", "replay"):
        done = command(name, run)
        assert done.code == 1 and "is missing" in done.err
    (run / "tensors").rmdir()
    (run / "tensors").write_text("x")
    for name in ("show", "resume", "replay"):
        done = command(name, run)
        assert done.code == 1 and "tensors" in done.err


def test_f_an_environment_of_other_types_is_told_by_its_key(function, tmp_path):
    run = damaged_copy(function, tmp_path, "UPDATE meta SET value = 'stopped' WHERE key = 'status'")
    whole = json.loads((run / "environment.json").read_text())
    for key in ("labels", "packages", "prepared_tokens", "majority", "lr_search", "weights", "threads"):
        (run / "environment.json").write_text(json.dumps({**whole, key: [1, {"a": []}]}))
        with pytest.raises(StoreError, match=rf"environment.json is damaged \({key}"):
            maao.load(run)
