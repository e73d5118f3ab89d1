"""A run's copy elsewhere: what is there after each leg, what is taken from there, and what a mirror that fails does to a run: nothing."""

from __future__ import annotations

import re
import shutil

import pytest

import maao
from maao import runner
from maao.config import make_config
from maao.errors import ConfigError, StoreError
from maao.store.mirror import Mirror, check_mirror
from tests.api.small_runs import digests

fsspec = pytest.importorskip("fsspec")

FUNCTION = {
    "seed": 0,
    "threads": 1,
    "problem": "function",
    "stage": {"lr": 0.05},
    "plan": {"rounds": 3, "steps": 2, "clues": False},
    "mentor": {"name": "random_restart"},
}


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


class Told(runner.Watch):
    def __init__(self, at_round=None) -> None:
        self.told: list[str] = []
        self.rounds = 0
        self._at_round = at_round

    def note(self, told: str) -> None:
        self.told.append(told)

    def round(self, finished) -> None:
        self.rounds += 1
        if self._at_round is not None:
            self._at_round(self.rounds)


def config(mirror):
    return make_config({**FUNCTION, "store": {"mirror": mirror} if mirror else {}})


def test_a_run_is_copied_after_each_leg_and_goes_on_from_its_copy_bit_for_bit(memory, tmp_path):
    whole = runner.run(config(None), tmp_path / "whole")

    def stop(done):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(config("memory://runs"), tmp_path / "first", watch=Told(stop))
    shutil.rmtree(tmp_path / "first")
    again = runner.resume(tmp_path / "first", mirror="memory://runs")
    assert again.status == "finished" and digests(again) == digests(whole)
    shutil.rmtree(tmp_path / "first")  # the end is there too
    assert Mirror("memory://runs", "first").pull(tmp_path / "first") >= 4
    assert digests(maao.load(tmp_path / "first")) == digests(whole) and maao.load(tmp_path / "first").status == "finished"


def test_objects_are_written_once_and_named_by_what_they_hold(memory, tmp_path):
    mirror = tmp_path / "mirror"
    seen: dict[str, tuple[int, bytes]] = {}

    def look(done):
        for file in (path for path in mirror.rglob("*") if path.is_file()):
            now = (file.stat().st_mtime_ns, file.read_bytes())
            assert seen.setdefault(str(file), now) == now

    runner.run(config(str(mirror)), tmp_path / "first", watch=Told(look))
    look(None)
    names = {path.name for path in (mirror / "first" / "objects").iterdir()}
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in names)
    assert not any("lock" in path.name for path in mirror.rglob("*"))
    assert Mirror(str(mirror), "first").push(tmp_path / "first") == 0  # nothing is lacking


def test_a_mirror_that_fails_stops_no_run_is_told_once_and_is_caught_up(memory, tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*arguments, **options):
        raise PermissionError("no space")

    def mend(done):
        if done == 3:
            monkeypatch.undo()

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    watch = Told(mend)
    result = runner.run(config("memory://runs"), tmp_path / "first", watch=watch)
    assert result.status == "finished" and len(watch.told) == 2
    assert "could not be copied to memory://runs: PermissionError: no space. The run goes on" in watch.told[0]
    assert watch.told[1] == "memory://runs has all of the run again."
    Mirror("memory://runs", "first").pull(tmp_path / "taken" / "first")
    assert digests(maao.load(tmp_path / "taken" / "first")) == digests(result)


def test_a_finished_run_whose_copy_lacks_something_is_caught_up_by_resume(memory, tmp_path):
    runner.run(config("memory://runs"), tmp_path / "first")
    memory.store.clear()
    runner.resume(tmp_path / "first")
    assert Mirror("memory://runs", "first").holds_run()


def test_what_is_cut_off_or_damaged_is_not_taken(memory, tmp_path):
    runner.run(config("memory://runs"), tmp_path / "first")
    mirror = Mirror("memory://runs", "first")
    states = sorted(memory.glob("/runs/first/states/*"))
    memory.pipe_file(states[-1], b'{"run.sq')  # the last state was cut off: the one before it is the run
    mirror.pull(tmp_path / "a" / "first")
    for path in memory.glob("/runs/first/objects/*"):
        memory.pipe_file(path, b"other")
    with pytest.raises(StoreError, match=r"memory://runs is damaged: .* is not what was copied there"):
        mirror.pull(tmp_path / "b" / "first")
    assert not (tmp_path / "b" / "first" / "run.sqlite").exists()
    memory.pipe_file(states[-1], b'{"../../evil": "0", "run.sqlite": "0"}')
    memory.pipe_file("/runs/first/objects/0", b"")
    with pytest.raises(StoreError, match="names a file outside of the run"):
        mirror.pull(tmp_path / "c" / "first")


def test_a_pull_that_fails_is_told_leaves_nothing_and_can_be_done_again(memory, tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    whole = runner.run(config("memory://runs"), tmp_path / "first")
    shutil.rmtree(tmp_path / "first")
    read, taken = MemoryFileSystem.cat_file, []

    def fail(system, path, *arguments, **options):
        if "/objects/" in path:
            taken.append(path)
            if len(taken) == 2:
                raise PermissionError("the line is down")
        return read(system, path, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    told = r"the run could not be taken from memory://runs: PermissionError: the line is down\. Nothing of it is here yet"
    with pytest.raises(StoreError, match=told):
        runner.resume(tmp_path / "first", mirror="memory://runs")
    assert list(tmp_path.iterdir()) == []
    assert digests(runner.resume(tmp_path / "first", mirror="memory://runs")) == digests(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_what_cannot_be_is_refused_before_anything_is_loaded(memory, tmp_path):
    runner.run(config("memory://runs"), tmp_path / "first")
    with pytest.raises(ConfigError, match=r"holds a run of the name 'first' already.*maao resume .* --mirror memory://runs"):
        runner.run(config("memory://runs"), tmp_path / "elsewhere" / "first")
    with pytest.raises(StoreError, match="holds no run of the name 'second'"):
        runner.resume(tmp_path / "second", mirror="memory://runs")
    with pytest.raises(StoreError, match="is there already"):
        Mirror("memory://runs", "first").pull(tmp_path / "first")
    with pytest.raises(ConfigError, match="a config is stored"):
        runner.run(config("ftp://me:secret@host/runs"), tmp_path / "third")
    with pytest.raises(ConfigError, match="cannot be reached"):
        runner.run(config("nowhere://runs"), tmp_path / "fourth")
    check_mirror("s3://bucket/runs")
