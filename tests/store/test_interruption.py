"""Whatever stops a run, the folder holds whole rounds, can be read, and goes on from there."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disk import build, can_build, environment
from sample_runs import NumpySerializer, files_in, make_history, make_round, open_run, same

from maao.errors import StoreError
from maao.llm.chat import Message, Reply, Request
from maao.store.run import RunFolder
from maao.types import Score

ROUNDS = 4
SCRIPT = Path(__file__).with_name("append_rounds.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def create(folder):
    return RunFolder.create(folder, config={}, environment={}, serializer=NumpySerializer())


def appending(folder, *, rounds=ROUNDS, die_at=0):
    command = [sys.executable, str(SCRIPT), str(folder), str(rounds), str(die_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def check_and_finish(folder, *, at_least, rounds=ROUNDS):
    """The folder holds whole rounds, no fewer than were reported stored; going on gives what an undisturbed run gives."""
    with open_run(folder) as reader:
        done = reader.rounds_done
        assert done >= at_least
        assert same(reader.history(), make_history(done))
    with open_run(folder, write=True) as run:
        for round in make_history(rounds, start=done):
            run.append(round)
        assert same(run.history(), make_history(rounds))
    assert not [name for name in files_in(folder) if name.endswith((".tmp", "-journal"))]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    create(folder).close()
    output, _ = appending(folder).communicate()
    return int(output.split()[-1])


@pytest.mark.parametrize("moment", [0.02, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_a_kill_at_any_moment_leaves_whole_rounds(tmp_path, events, moment):
    folder = tmp_path / "run"
    create(folder).close()
    process = appending(folder, die_at=1 + round(moment * (events - 1)))
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    check_and_finish(folder, at_least=len(output.split()))


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.004, 0.007])
def test_a_kill_from_outside_leaves_whole_rounds(tmp_path, delay):
    folder = tmp_path / "run"
    create(folder).close()
    process = appending(folder, rounds=200)
    for _ in range(3):
        process.stdout.readline()
    time.sleep(delay)
    process.kill()
    rest, _ = process.communicate()
    at_least = 3 + rest.count("\n")
    check_and_finish(folder, at_least=at_least, rounds=at_least + 2)


def test_a_torn_temporary_file_is_swept_when_the_run_goes_on(folder):
    with create(folder) as run:
        run.append(make_round(0))
    torn = folder / "tensors" / f"{'ab' * 32}.safetensors.tmp"
    torn.write_bytes(b"half")
    with open_run(folder) as reader:
        assert same(reader.history(), make_history(1))
    assert torn.exists()  # a reader changes nothing: it may be a writer's
    check_and_finish(folder, at_least=1)


def fail_at(call, code, function):
    calls = 0

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(code, os.strerror(code))
        return function(*arguments)

    return failing


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
@pytest.mark.parametrize(("name", "call"), [("fsync", 1), ("fsync", 3), ("replace", 1), ("replace", 2)])
def test_a_disk_full_of_tensors_keeps_the_rounds_before(folder, monkeypatch, code, name, call):
    with create(folder) as run:
        run.append(make_round(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail_at(call, code, getattr(os, name)))
            with pytest.raises(StoreError, match=f"disk is full.*1 finished round is safe. Free some space, then `maao resume {folder}`"):
                run.append(make_round(1))
        assert not [file for file in files_in(folder) if file.endswith(".tmp")]
        assert same(run.history(), make_history(1))
        run.append(make_round(1))  # space was freed while the process lived
    check_and_finish(folder, at_least=2)


def append_all(run, history):
    for round in history:
        run.append(round)


def fill(run):
    """Let the database grow no further, as on a full disk; return a function that frees it."""
    connection = run._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: connection.execute("PRAGMA max_page_count = 1000000")


def test_a_disk_full_of_rows_keeps_the_rounds_before(folder):
    with create(folder) as run:
        for round in make_history(2):
            run.append(round)
        free = fill(run)
        with pytest.raises(StoreError, match=f"disk is full.*finished rounds are safe. Free some space, then `maao resume {folder}`"):
            append_all(run, make_history(40, start=2))
        done = run.rounds_done
        assert 2 <= done < 40
        assert same(run.history(), make_history(done))
        with open_run(folder) as reader:
            assert same(reader.history(), make_history(done))
        free()
        run.append(make_round(done))
    check_and_finish(folder, at_least=done + 1, rounds=done + 2)


def test_a_disk_full_of_calls_says_so_and_keeps_what_was_recorded(folder):
    def request(sample):
        return Request("m", (Message("user", "hi"),), sample=sample)

    with create(folder) as run:
        run.ledger.put(request(0), Reply("hello"))
        free = fill(run)
        with pytest.raises(StoreError, match=r"disk is full.*0 finished rounds are safe"):
            run.ledger.put(request(1), Reply("x" * 100_000))
        assert run.ledger.get(request(0).key) == Reply("hello")
        assert run.ledger.get(request(1).key) is None
        free()
        run.ledger.put(request(1), Reply("x" * 100_000))


@pytest.mark.parametrize("limit", [1_000, 60_000, 90_000, 140_000])
def test_a_real_limit_on_file_size_is_told_as_a_full_disk(folder, limit):
    """Tensors pass the first limit, the database or its journal the others."""
    create(folder).close()
    code = f"""
import resource, sys
from sample_runs import make_history, open_run
with open_run(sys.argv[1], write=True) as run:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    for round in make_history(300):
        run.append(round)
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "StoreError: The disk is full, or a quota used up" in last and "safe. Free some space" in last
    with open_run(folder) as reader:
        stored = reader.rounds_done
    assert f"{stored} finished round" in last
    check_and_finish(folder, at_least=stored, rounds=stored + 1)


def test_a_full_disk_at_creation_is_told_and_can_be_tried_again(folder, monkeypatch):
    for name in ("fsync", "replace"):
        for call in range(1, 5 if name == "fsync" else 4):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, fail_at(call, errno.ENOSPC, getattr(os, name)))
                with pytest.raises(StoreError, match=r"disk is full.*No round was made\. Free some space, then start again"):
                    create(folder)
            assert not (folder / "run.sqlite").exists()
    create(folder).close()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_tensors_that_may_not_be_written_are_told(run, monkeypatch, code):
    monkeypatch.setattr(os, "replace", fail_at(1, code, os.replace))
    with pytest.raises(StoreError, match=r"may not be written.*Make the folder and its files writable"):
        run.append(make_round(0))
    assert run.rounds_done == 0


def test_a_database_that_may_not_be_written_is_told(run):
    run._database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match=r"may not be written.*0 finished rounds are safe"):
        run.append(make_round(0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_folder_can_be_read_but_not_written(folder):
    with create(folder) as run:
        run.append(make_round(0))
    for file in [*folder.rglob("*"), folder]:
        file.chmod(0o555 if file.is_dir() else 0o444)
    try:
        with open_run(folder) as reader:
            assert same(reader.history(), make_history(1))
        with pytest.raises(StoreError, match="may not be written"):
            open_run(folder, write=True)
    finally:
        for file in [folder, *folder.rglob("*")]:
            file.chmod(0o755)


def test_a_database_locked_by_another_program_is_told(run, folder, monkeypatch):
    run._database._connection.execute("PRAGMA busy_timeout = 10")
    browser = sqlite3.connect(folder / "run.sqlite", isolation_level=None)
    browser.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="stayed locked by another program"):
            run.append(make_round(0))
    finally:
        browser.close()
    run.append(make_round(0))
    assert same(run.history(), make_history(1))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("disk"))


def on_a_disk(library, *arguments):
    command = [sys.executable, str(SCRIPT.with_name("power_loss.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, **environment(library)}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.skipif(not can_build(), reason="what a process does to a disk is recorded by a library in C, and there is no compiler")
def test_a_power_cut_at_any_moment_leaves_all_that_was_promised(library):
    """Of what was not synced yet nothing is left, or some, some of that torn."""
    assert on_a_disk(library, "cut", "1") > 300


@pytest.mark.skipif(not can_build(), reason="calls are let fail by a library in C, and there is no compiler")
def test_a_disk_that_is_full_or_errs_at_any_moment_costs_nothing_that_was_promised(library):
    assert on_a_disk(library, "full", "1") > 300


@pytest.mark.skipif(not can_build(), reason="calls are let fail by a library in C, and there is no compiler")
def test_a_read_only_disk_is_read_and_all_else_is_told(library):
    assert on_a_disk(library, "read-only", "1") == 3


def test_a_clock_that_goes_backwards_changes_nothing(folder, monkeypatch):
    from maao.store import ledger
    from maao.store import run as run_module

    hours = iter(f"20{99 - i}-01-01T00:00:00.000+00:00" for i in range(60))
    monkeypatch.setattr(ledger, "now", lambda: next(hours))
    monkeypatch.setattr(run_module, "now", lambda: next(hours))
    requests = [Request("m", (Message("user", str(i)),)) for i in range(3)]
    with create(folder) as run:
        for round, request in zip(make_history(3), requests, strict=True):
            run.ledger.wait_for(request)
            run.append(round)
        assert list(run.ledger.awaited()) == requests
        for request in requests:
            run.ledger.put(request, Reply("x"))
        run.record_final("b", "test", Score(1.0), "")
        run.record_final("a", "test", Score(1.0), "")
        created = [call.created for call in run.ledger.calls()]
        assert created == sorted(created, reverse=True) and [call.key for call in run.ledger.calls()] == [one.key for one in requests]
        assert same(run.history(), make_history(3)) and [final.name for final in run.finals()] == ["b", "a"]


def test_an_interrupted_append_stores_nothing_and_can_be_repeated(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("maao.store.run.insert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.append(make_round(0))
    assert run.rounds_done == 0
    run.append(make_round(0))
    assert same(run.history(), make_history(1))


def test_a_kill_at_any_moment_loses_no_request_that_waits_and_no_reply(tmp_path):
    command = [sys.executable, str(SCRIPT.with_name("wait_and_answer.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 20
