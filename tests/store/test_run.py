"""A run folder: making, opening, locking, what it refuses and what it says."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from sample_runs import NumpySerializer, files_in, make_history, make_round, open_run, same

from maao.errors import StoreError
from maao.llm.ledger import Totals
from maao.store import migrations
from maao.store.listing import list_runs
from maao.store.run import RunFolder
from maao.types import Rejected, Score


def create(folder, **config):
    return RunFolder.create(folder, config=config, environment={"python": "3.11"}, serializer=NumpySerializer())


@contextlib.contextmanager
def sqlite(folder):
    """The database as a person would open it."""
    connection = sqlite3.connect(folder / "run.sqlite")
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def test_a_new_run_holds_its_config_and_environment_and_says_it_runs(folder):
    with create(folder, seed=3, name="naïve \ud800") as run:
        assert run.config == {"seed": 3, "name": "naïve \ud800"}
        assert run.environment == {"python": "3.11"}
        assert (run.status, run.status_reason, run.rounds_done, run.history()) == ("running", "", 0, ())
        assert run.created.endswith("+00:00")
    assert files_in(folder) == {"run.sqlite", "config.json", "environment.json", "run.lock"}


def test_status_is_kept_with_its_reason(run, folder):
    run.set_status("stopped", "the budget of 3 rounds is spent \ud83d")
    with open_run(folder) as reader:
        assert (reader.status, reader.status_reason) == ("stopped", "the budget of 3 rounds is spent \ud83d")


def test_creating_over_a_run_says_how_to_go_on(run, folder):
    with pytest.raises(StoreError, match=f"already holds a run. Go on with it by `maao resume {folder}`"):
        create(folder)


def test_creating_in_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"is not empty\. Choose another folder"):
        create(tmp_path)
    assert files_in(tmp_path) == {"thesis.tex"}


def test_creating_where_a_file_is_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="there is a file of that name"):
        create(tmp_path / "run")


def test_creating_in_an_empty_folder_is_fine(tmp_path):
    create(tmp_path).close()
    open_run(tmp_path).close()


def test_what_an_interrupted_create_left_behind_is_no_obstacle(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (migrations.m001_initial, interrupt))
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path / "run")
    assert "run.sqlite" not in files_in(tmp_path / "run")
    with create(tmp_path / "run") as run:
        run.append(make_round(0))


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_config_that_is_not_json_is_refused_before_anything_is_made(folder):
    with pytest.raises(StoreError, match=r"Cannot write config\.json"):
        create(folder, thing=object())
    assert not folder.exists()


def test_what_is_not_a_run_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="There is no folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="is not a run folder"):
        open_run(tmp_path)
    with sqlite(tmp_path) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="was not made by maao"):
        open_run(tmp_path)


def test_a_database_of_garbage_is_called_damaged(tmp_path):
    (tmp_path / "run.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged"):
        open_run(tmp_path)


def test_rounds_come_in_order(run):
    with pytest.raises(StoreError, match="holds 0 rounds, so the next is round 0, not 1"):
        run.append(make_round(1))
    run.append(make_round(0))
    with pytest.raises(StoreError, match="holds 1 rounds, so the next is round 1, not 0"):
        run.append(make_round(0))


def test_a_folder_opened_for_reading_cannot_be_added_to(run, folder):
    with open_run(folder) as reader:
        for write in (
            lambda: reader.append(make_round(0)),
            lambda: reader.set_status("finished"),
            lambda: reader.record_final("x", "test", Score(1), ""),
        ):
            with pytest.raises(StoreError, match="was opened for reading"):
                write()
    assert list((folder / "tensors").iterdir()) == []


def test_a_closed_folder_says_so(folder):
    run = create(folder)
    run.close()
    run.close()
    with pytest.raises(StoreError, match="is closed"):
        run.history()


def test_equal_tensors_are_written_once(run, folder):
    for round in make_history(3):
        run.append(round)
    # Per round: the state it starts from (which the round before ended on), kept params, a proposal. And the last state.
    assert len(list((folder / "tensors").iterdir())) == 3 * 3 + 1


def test_observations_proposals_and_considered_can_be_asked_for_in_sql(run, folder):
    run.append(make_round(0))
    with sqlite(folder) as connection:
        assert connection.execute("SELECT step, loss, note FROM observations").fetchall() == [(0, 0.5, "a rollback"), (1, "nan", None)]
        assert connection.execute("SELECT text, source, note FROM proposals").fetchall() == [("a \N{SNOWMAN} text", "mentor", "cut")]
        assert connection.execute("SELECT text, reason FROM rejected").fetchall() == [("Sure!", "not a proposal")]
        assert connection.execute("SELECT proposal, loss, accuracy, age, weight FROM considered").fetchall() == [
            (None, 1.0, 0.0, 0, 1.0),
            (0, 1.0, 0.0, 5, 0.5),
        ]
        assert connection.execute("SELECT json_extract(score, '$.metrics.f1'), chosen, reason FROM rounds").fetchall() == [
            (0.25, 0, "the lower loss")
        ]


def test_a_damaged_tensor_file_is_found_out_and_named(run, folder):
    run.append(make_round(0))
    for file in (folder / "tensors").iterdir():
        whole = file.read_bytes()
        for torn in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", whole[: len(whole) // 3], whole.replace(b"bias", b"bios")):
            if torn != whole:
                file.write_bytes(torn)
                with pytest.raises(StoreError, match=f"{file.name} is damaged"):
                    run.history()
        file.unlink()
        with pytest.raises(StoreError, match=f"{file.name} is missing"):
            run.history()
        file.write_bytes(whole)
    assert same(run.history(), make_history(1))


def test_a_damaged_file_is_written_anew_when_its_content_comes_again(folder):
    with create(folder) as run:
        run.append(make_round(0))
    for file in (folder / "tensors").iterdir():
        file.write_bytes(b"rot")
    with open_run(folder, write=True) as run:
        run.append(make_round(1))  # starts from the state that round 0 ended on
        with pytest.raises(StoreError, match="is damaged"):
            run.history()
    assert sum(file.read_bytes() == b"rot" for file in (folder / "tensors").iterdir()) == 3


def test_damaged_text_is_called_damaged(run, folder):
    run.append(make_round(0))
    with sqlite(folder) as connection:
        connection.execute("UPDATE rounds SET score = '{\"loss\": 1'")
    with pytest.raises(StoreError, match="round 0 is not as it was stored"):
        run.history()


@pytest.mark.parametrize("score", ['{"loss": 1', "[1]", '{"loss": "one"}', '{"los": 1.0}'])
def test_damaged_text_names_its_file(run, folder, score):
    run.record_final("untuned", "test", Score(1), "")
    with sqlite(folder) as connection:
        connection.execute("UPDATE finals SET score = ?", [score])
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged"):
        run.finals()


def test_a_folder_written_by_a_newer_maao_asks_for_an_upgrade(folder):
    create(folder).close()
    with sqlite(folder) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    for write in (False, True):
        with pytest.raises(StoreError, match=r"schema 99 of a newer maao; this one knows schemas up to 8\. Upgrade maao"):
            open_run(folder, write=write)


def test_an_older_folder_is_migrated_by_a_writer_and_left_alone_by_a_reader(folder, monkeypatch):
    with create(folder) as run:
        run.append(make_round(0))
    before = (folder / "run.sqlite").read_bytes()

    def m009_mood(connection):
        connection.execute("ALTER TABLE rounds ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m009_mood))
    with open_run(folder) as reader:
        assert same(reader.history(), make_history(1))
        assert reader._database.rows("SELECT mood FROM rounds")[0]["mood"] == "calm"
    assert (folder / "run.sqlite").read_bytes() == before
    open_run(folder, write=True).close()
    with sqlite(folder) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall() == [("9",)]
        assert connection.execute("SELECT mood FROM rounds").fetchall() == [("calm",)]


def test_a_folder_without_sums_of_attempts_is_given_them(folder, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:6])
        create(folder).close()
    with sqlite(folder) as connection:
        connection.executemany(
            "INSERT INTO attempts VALUES (NULL, 'k', '', ?, 0, 1, 100, 50, ?, '')", [("open", 0.5), ("ended", 2.0e7), ("replied", 4.0)]
        )
    with open_run(folder, write=True) as run:
        assert run.ledger.unanswered() == Totals(2, 200, 100, 0.5 + 2.0e7, unanswered=2)
    with sqlite(folder) as connection:
        assert connection.execute("SELECT replied, attempts, pico_usd FROM sums").fetchall()[1] == (1, 1, 4 * 10**12)


def test_a_migration_that_fails_leaves_the_folder_as_it_was(folder, monkeypatch):
    create(folder).close()

    def m009_broken(connection):
        connection.execute("DROP TABLE finals")
        interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, m009_broken))
        with pytest.raises(KeyboardInterrupt):
            open_run(folder, write=True)
    with open_run(folder, write=True) as run:
        assert run.finals() == ()


def test_two_writers_in_one_process_are_refused(run, folder, monkeypatch):
    monkeypatch.setattr("maao.store.run.LOCK_SECONDS", 0.05)
    with pytest.raises(StoreError, match=r"is in use by another process, which holds .*run\.lock"):
        open_run(folder, write=True)


def test_a_second_process_may_read_but_not_write(run, folder):
    run.append(make_round(0))
    code = """
import sys
from sample_runs import open_run
with open_run(sys.argv[1]) as reader:
    print(reader.rounds_done)
open_run(sys.argv[1], write=True)
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=environment())
    assert done.stdout == "1\n"
    assert "StoreError" in done.stderr and "is in use by another process" in done.stderr


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_the_lock_is_free_after_close(folder):
    create(folder).close()
    open_run(folder, write=True).close()
    with pytest.raises(ZeroDivisionError), open_run(folder, write=True):
        _ = 1 / 0
    open_run(folder, write=True).close()


def test_a_reader_sees_each_round_as_it_is_stored(run, folder):
    with open_run(folder) as reader:
        for index, round in enumerate(make_history(4)):
            run.append(round)
            assert same(reader.history(), make_history(index + 1))


def test_a_copied_folder_is_a_run_of_its_own(run, folder, tmp_path):
    run.append(make_round(0))
    shutil.copytree(folder, tmp_path / "copy")
    with open_run(tmp_path / "copy", write=True) as copy:
        copy.append(make_round(1))
        assert same(copy.history(), make_history(2))
    assert run.rounds_done == 1


def test_a_path_with_odd_characters_works(tmp_path):
    folder = tmp_path / "100% of ä?#&mode=ro"
    with create(folder) as run:
        run.append(make_round(0))
    with open_run(folder, write=True) as run:
        assert same(run.history(), make_history(1))


def test_test_is_read_once_a_run(run, folder):
    score = Score(float("inf"), {"accuracy": 0.5}, 100)
    run.record_final("untuned", "test", score, "")
    run.record_final("chosen", "test", replace(score, loss=-0.0), "lone \udc00")
    run.record_final("chosen", "select", score, "lone")
    with pytest.raises(StoreError, match="already holds what 'chosen' scored on test: test is read once a run"):
        run.record_final("chosen", "test", score, "better words")
    with open_run(folder) as reader:
        finals = reader.finals()
    assert [(f.name, f.split, f.text) for f in finals] == [
        ("untuned", "test", ""),
        ("chosen", "test", "lone \udc00"),
        ("chosen", "select", "lone"),
    ]
    assert same([f.score for f in finals], [score, replace(score, loss=-0.0), score])


def test_a_missing_config_is_said_to_be_missing(run, folder):
    (folder / "config.json").unlink()
    with pytest.raises(StoreError, match=r"config\.json"):
        _ = run.config
    (folder / "environment.json").write_text("{")
    with pytest.raises(StoreError, match=r"environment\.json is damaged"):
        _ = run.environment


def test_config_is_readable_json(folder):
    create(folder, mentor={"model": "größer"}).close()
    text = (folder / "config.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"format": 2, "mentor": {"model": "größer"}}
    assert "größer" in text


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"problem": "language"}, r"was stored in format 1 by an older maao \(0\.0\.1\); this one reads format 2.*start it again"),
        ({"format": 1, "problem": "function"}, "was stored in format 1 by an older maao"),
        ({"format": 3, "problem": "function"}, r"was stored in format 3 by a newer maao \(0\.0\.1\).*Upgrade maao"),
        ({"format": "2", "problem": "function"}, r"config\.json is damaged \(its format is 2\)"),
        ({"seed": 0}, r"config\.json is damaged \(its format is None\)"),
    ],
)
def test_a_folder_of_another_format_is_refused_with_what_made_it(folder, written, told):
    create(folder).close()
    (folder / "environment.json").write_text(json.dumps({"packages": {"maao": "0.0.1"}}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(written), encoding="utf-8")
    for write in (False, True):
        with pytest.raises(StoreError, match=told), open_run(folder, write=write) as run:
            _ = run.config
    (summary,) = list_runs(folder.parent)
    assert re.search(told, summary.problem)


@pytest.mark.parametrize(
    ("reason", "read"),
    [
        ("holds no word", Rejected("", "holds no word")),
        ("no reply: the line is dead", Rejected("", "the line is dead", "failed_call")),
        ("no reply: Call not made: the cap of 1 calls is reached", Rejected("", "Call not made: the cap of 1 calls is reached", "capped")),
    ],
)
def test_what_was_rejected_before_kinds_were_stored_has_the_kind_that_its_reason_begins_with(folder, reason, read):
    held = make_round(0)
    with create(folder) as run:
        run.append(replace(held, advice=replace(held.advice, rejected=(Rejected("", "as it is now"),))))
    with sqlite(folder) as connection:
        connection.execute("UPDATE rejected SET kind = NULL, reason = ?", (reason,))
        connection.execute("UPDATE rounds SET checksum = NULL")
    with open_run(folder) as reader:
        assert reader.history()[0].advice.rejected == (read,)
