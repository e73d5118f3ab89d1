"""Whatever stops a run, it goes on to the same end, bit for bit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import maao
from maao.errors import DataError, StoreError
from maao.runner import Replay
from tests.api.small_runs import REPLIES, Notes, StopAt, config, digests, pairs, write_csv, write_data

ROOT = Path(__file__).parents[2]
MOMENTS = [
    *(f"step:{n}" for n in (1, 9, 16)),
    *(f"call:{n}" for n in (1, 3, 4)),
    *(f"round:{n}" for n in (1, 3, 5)),
    "testing:1",
    *(f"final:{n}" for n in (1, 3)),
]


@pytest.fixture(scope="module")
def killed(llama, tmp_path_factory):
    """What came of a run that nothing stopped (under "") and of those killed at each moment."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.kill_runs", str(llama), str(folder), *MOMENTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {found["moment"]: found for found in map(json.loads, done.stdout.splitlines())}


def test_the_run_that_nothing_stops_has_all_the_events(killed):
    whole = killed[""]
    assert whole["signal"] == 0
    events = dict(whole["told"]["events"])  # four proposals and an incumbent walk 2 steps each
    assert events.pop("call") == 2 + 4  # the second time, the first two samples were tried before
    assert events == {"step": 8 + 4 * 2 + 2, "round": 5, "testing": 1, "final": 3}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(killed, moment):
    found, whole = killed[moment], killed[""]
    assert found["signal"] == signal.SIGKILL
    assert found["digests"] == whole["told"]["digests"]
    assert found["after"]["status"] == "finished"
    assert found["after"]["rounds"] == 5
    assert {n: f[1] for n, f in found["after"]["finals"].items()} == {n: f[1] for n, f in whole["told"]["finals"].items()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_stored_round_is_walked_again_and_no_recorded_call_repeated(killed, moment):
    found, whole = killed[moment], killed[""]
    again, events = found["events"], whole["told"]["events"]
    assert again.get("round", 0) == events["round"] - found["before"]["rounds"]
    assert again.get("call", 0) == events["call"] - found["before"]["calls"]
    assert found["after"]["calls"] == events["call"]


@pytest.mark.parametrize("moment", [m for m in MOMENTS if m.startswith("final")])
def test_what_was_read_of_test_before_a_kill_is_not_read_again(killed, moment):
    found = killed[moment]
    assert found["before"]["finals"] and found["before"]["status"] == "interrupted"
    for name, final in found["before"]["finals"].items():
        assert found["after"]["finals"][name] == final  # the date included
    assert found["events"].get("final", 0) == 3 - len(found["before"]["finals"])


# -- stopped otherwise


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(llama, data, tmp_path_factory):
    return maao.run(config(llama, data), tmp_path_factory.mktemp("whole") / "run")


def stopped(llama, data, folder, index=2):
    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data), folder, watch=StopAt(index))
    return folder


@pytest.mark.parametrize("index", range(5))
def test_an_interrupted_run_says_so_and_goes_on(llama, data, whole, tmp_path, index):
    folder = stopped(llama, data, tmp_path / "run", index)
    found = maao.load(folder)
    assert (found.status, found.status_reason, len(found.history)) == ("stopped", "interrupted", index + 1)
    result = maao.resume(folder)
    assert (result.status, result.status_reason) == ("finished", "")
    assert digests(result) == digests(whole)


def test_a_run_whose_rows_share_a_text_goes_on_to_the_same_bits(llama, data, tmp_path):
    settings = config(llama, data, model__template="about the news {slots} {text} Topic:")
    unbroken = maao.run(settings, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        maao.run(settings, tmp_path / "run", watch=StopAt(1))
    assert digests(maao.resume(tmp_path / "run")) == digests(unbroken)


def test_a_finished_run_is_returned_as_it_is(whole, llama):
    class Nothing(maao.Watch):
        def started(self, *_):
            raise AssertionError("a finished run was started again")

    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*") if path.is_file() and path.name != "run.lock"}
    result = maao.resume(whole.folder, watch=Nothing())
    assert digests(result) == digests(whole)
    assert result.finals == whole.finals
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_finished_run_needs_neither_model_nor_data_to_be_read(llama, tmp_path):
    data = write_data(tmp_path)
    folder = maao.run(config(llama, data), tmp_path / "run").folder
    for file in data.values():
        Path(file).unlink()
    assert maao.resume(folder).finals
    assert maao.load(folder).predict(["music film"])  # the model is needed here, the data is not


def test_data_that_changed_is_refused(llama, tmp_path):
    data = write_data(tmp_path)
    folder = stopped(llama, data, tmp_path / "run")
    write_csv(Path(data["train"]), [*pairs("train")[:-1], ("something else", pairs("train")[-1][1])])
    with pytest.raises(StoreError, match=r"The data has changed since the run .* began .*Bring the old data back, or start a new run"):
        maao.resume(folder)
    Path(data["train"]).unlink()
    with pytest.raises(DataError, match="there is no such file"):
        maao.resume(folder)
    write_csv(Path(data["train"]), pairs("train"))
    assert maao.resume(folder).status == "finished"


def changed_model(llama, folder):
    """Copy a model and change one number of it."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(llama, folder)

    def change():
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][0] += 1e-3
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return folder, change


def test_weights_that_changed_are_refused(llama, data, tmp_path):
    model, change = changed_model(llama, tmp_path / "model")
    finished = maao.run(config(model, data), tmp_path / "finished")
    folder = stopped(model, data, tmp_path / "run")
    change()
    told = r"The weights of the frozen model have changed since the run .* began \(its hash was blake2b:.*Bring the old model back"
    fresh = maao.load(finished.folder)
    for use in (
        lambda: maao.resume(folder),
        lambda: maao.replay(folder),
        lambda: fresh.predict(["music"]),
        lambda: fresh.save(tmp_path / "out", "tensor"),
    ):
        with pytest.raises(StoreError, match=told):
            use()
    assert len(fresh.history) == 5  # what is stored can still be read


def test_a_wording_that_changed_is_refused(llama, data, tmp_path):
    file = tmp_path / "wording.txt"
    file.write_text("Give $count prompts.\n$listing\n", encoding="utf-8")
    changes = {"mentor__wording": str(file)}
    finished = maao.run(config(llama, data, **changes), tmp_path / "finished")
    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data, **changes), tmp_path / "run", watch=StopAt(2))
    file.write_text("Please give $count prompts.\n$listing\n", encoding="utf-8")
    for use in (lambda: maao.resume(tmp_path / "run"), lambda: maao.replay(finished.folder)):
        with pytest.raises(StoreError, match=r"The wording of the mentor's instruction has changed .*Bring the old wording back"):
            use()
    file.unlink()
    assert maao.load(finished.folder).predict(["music"])  # nobody is asked here


def test_a_run_that_recorded_no_hash_of_weights_and_wording_can_be_used(llama, data, whole, tmp_path):
    folder = stopped(llama, data, tmp_path / "run")
    file = folder / "environment.json"
    environment = json.loads(file.read_text(encoding="utf-8"))
    assert environment.pop("weights").startswith("blake2b:") and environment.pop("wording").startswith("sha256:")
    file.write_text(json.dumps(environment), encoding="utf-8")
    assert digests(maao.resume(folder)) == digests(whole)
    assert maao.replay(folder).equal and maao.load(folder).predict(["music"])


def test_a_run_in_use_is_refused_and_can_be_read(llama, data, tmp_path):
    class LookMeanwhile(maao.Watch):
        told = ""

        def round(self, finished):
            if finished.index == 2:
                with pytest.raises(StoreError) as error:
                    maao.resume(tmp_path / "run")
                self.told = str(error.value)
                self.read = maao.load(tmp_path / "run")

    watch = LookMeanwhile()
    maao.run(config(llama, data), tmp_path / "run", watch=watch)
    assert "is in use by another process" in watch.told
    assert watch.read.status == "running" and len(watch.read.history) == 3


def test_a_newer_schema_is_told(llama, data, tmp_path):
    folder = stopped(llama, data, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    connection.close()
    for use in (maao.resume, maao.load, maao.replay):
        with pytest.raises(StoreError, match="was written with schema 99 of a newer maao"):
            use(folder)


def test_a_folder_that_holds_something_is_refused(llama, data, whole, tmp_path):
    with pytest.raises(StoreError, match=r"already holds a run. Go on with it by `maao resume"):
        maao.run(config(llama, data), whole.folder)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"is not empty. Choose another folder"):
        maao.run(config(llama, data), tmp_path)
    with pytest.raises(StoreError, match="there is a file of that name"):
        maao.run(config(llama, data), tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("use", [maao.resume, maao.load, maao.replay])
def test_what_is_no_run_folder_is_told(tmp_path, use):
    with pytest.raises(StoreError, match="There is no folder"):
        use(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"is not a run folder: it holds no run.sqlite"):
        use(tmp_path)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(llama, data, whole, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FillAt(maao.Watch):
        def round(self, finished):
            if finished.index == 2:
                monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StoreError, match=r"disk is full.*3 finished rounds are safe. Free some space, then `maao resume"):
        maao.run(config(llama, data), tmp_path / "run", watch=FillAt())
    assert len(maao.load(tmp_path / "run").history) == 3
    monkeypatch.undo()
    assert digests(maao.resume(tmp_path / "run")) == digests(whole)


def test_a_disk_full_from_the_start_makes_no_run(llama, data, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"disk is full.*No round was made"):
            maao.run(config(llama, data), tmp_path / "run")
    assert maao.run(config(llama, data), tmp_path / "run").status == "finished"  # what it left behind is no obstacle


def test_a_copied_run_goes_on_where_it_was_copied_to(llama, data, whole, tmp_path):
    import shutil

    shutil.copytree(stopped(llama, data, tmp_path / "run"), tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run")
    assert digests(maao.resume(tmp_path / "elsewhere")) == digests(whole)


def test_a_run_without_a_finished_round_can_be_gone_on_with(llama, data, whole, tmp_path):
    class StopBefore(maao.Watch):
        def started(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data), tmp_path / "run", watch=StopBefore())
    found = maao.load(tmp_path / "run")
    assert found.history == ()
    for use in (lambda: found.chosen, lambda: found.text, lambda: found.digest, lambda: found.predict(["a"])):
        with pytest.raises(StoreError, match="has no finished round yet: `maao resume"):
            use()
    with pytest.raises(StoreError, match="no finished round to replay"):
        maao.replay(tmp_path / "run")
    assert digests(maao.resume(tmp_path / "run")) == digests(whole)


# -- replay


def test_a_replay_makes_no_call_and_finds_the_same(whole):
    found = maao.replay(whole.folder)
    assert found == Replay(5, 5, 0, whole.digest, whole.digest)
    assert found.equal


def test_a_replay_changes_nothing_in_the_folder(whole):
    before = {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()}
    maao.replay(whole.folder)
    assert before == {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()}


def test_a_part_of_a_run_can_be_replayed(llama, data, tmp_path):
    found = maao.replay(stopped(llama, data, tmp_path / "run", index=3))
    assert found.equal and found.rounds == 4


def tamper(folder, old, new):
    with contextlib.closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        (reply,) = connection.execute("SELECT reply FROM calls ORDER BY id LIMIT 1").fetchone()
        assert old in reply
        connection.execute("UPDATE calls SET reply = ? WHERE id = (SELECT min(id) FROM calls)", (reply.replace(old, new),))
    connection.close()


def test_a_reply_that_was_tampered_with_is_found_out(llama, data, tmp_path):
    one_ask = config(llama, data, plan__rounds=1)
    result = maao.run(one_ask, tmp_path / "run")
    tamper(result.folder, "music team bank", "sport world film")
    found = maao.replay(result.folder)
    assert not found.equal and found.same == 1  # round 0 was made before anyone was asked


def test_a_reply_that_changes_what_is_asked_next_is_found_out(llama, data, tmp_path):
    result = maao.run(config(llama, data), tmp_path / "run")
    tamper(result.folder, REPLIES[0].split("\n")[0], "1. film")
    with pytest.raises(maao.MaaoError, match="needs a call that was never recorded"):
        maao.replay(result.folder)


def test_a_plan_shorter_than_what_is_stored_is_told(llama, data, tmp_path):
    result = maao.run(config(llama, data), tmp_path / "run")
    file = result.folder / "config.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"rounds": 2', '"rounds": 1'), encoding="utf-8")
    with pytest.raises(StoreError, match="plans 3 legs, but 5 rounds are stored: was it changed"):
        maao.replay(result.folder)


def test_versions_that_differ_are_noted(llama, data, tmp_path):
    folder = stopped(llama, data, tmp_path / "run")
    file = folder / "environment.json"
    environment = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**environment, "packages": {**environment["packages"], "torch": "0.1"}}), encoding="utf-8")
    watch = Notes()
    maao.resume(folder, watch=watch)
    assert any("versions differ from those the run began with: torch 0.1 -> " in note for note in watch.notes)
