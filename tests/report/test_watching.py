"""A run that goes on elsewhere is seen round by round; whoever looks keeps no lock and stops when the run does."""

from __future__ import annotations

import io
import re

import pytest
from filelock import FileLock
from rich.console import Console

import maao
from maao import runner
from maao.errors import StoreError
from maao.store.run import LOCK, is_in_use
from maao.stored_run import open_run
from maao.watching import follow, legs_of, watch
from tests.api.small_runs import StopAt, config, write_data


@pytest.fixture
def stopped(llama, tmp_path):
    """The folder of a run of 5 rounds that was killed after two: it still says that it is running."""
    made = config(llama, write_data(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        maao.run(made, tmp_path / "run", watch=StopAt(1))
    with open_run(tmp_path / "run", write=True) as stored:
        stored.set_status("running")
    return tmp_path / "run"


def goes_on(folder):
    """Return what stands for waiting: while one looks, another process has the run; then it goes on to its end."""
    lock = FileLock(folder / LOCK, thread_local=False)
    lock.acquire()

    def sleep(seconds):
        lock.release()
        runner.resume(folder)

    return sleep


def printed(folder, sleep, terminal=False, width=80):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
    result = watch(folder, console, every=0.0, sleep=sleep)
    return result, console.file.getvalue()


def never(seconds):
    raise AssertionError("there is nothing to wait for")


def test_rounds_are_seen_as_they_come(stopped):
    looks = list(follow(stopped, every=0.0, sleep=goes_on(stopped)))
    assert [look.status for look in looks] == ["running", "finished"]
    assert [[finished.index for finished in look.new] for look in looks] == [[0, 1], [2, 3, 4]]
    assert looks[-1].done == legs_of(maao.load(stopped).config) == 5
    assert looks[-1].spent.calls == len(maao.load(stopped).calls) > 0
    assert not is_in_use(stopped)


def test_a_run_that_nobody_goes_on_with_is_told_and_left(stopped):
    result, text = printed(stopped, never)
    assert result.status == "interrupted" and "maao resume" in text
    assert [int(number) for number in re.findall(r"^round (\d)", text, re.M)] == [0, 1]


def test_into_a_pipe_go_plain_lines_and_the_story_last(stopped):
    _, text = printed(stopped, goes_on(stopped))
    assert "\x1b" not in text and "\r" not in text
    lines = text.splitlines()
    assert lines[0].startswith("Watching ")
    assert [int(number) for number in re.findall(r"^round (\d)", text, re.M)] == [0, 1, 2, 3, 4]
    assert any(line.startswith("Cost: ") for line in lines)


def test_at_a_terminal_nothing_is_wider_than_it(stopped):
    _, text = printed(stopped, goes_on(stopped), terminal=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "of 5, for" in plain
    assert max(len(line) for part in plain.splitlines() for line in part.split("\r")) <= 80


def test_a_damaged_or_missing_folder_is_named(tmp_path, stopped):
    with pytest.raises(StoreError, match="There is no folder"):
        list(follow(tmp_path / "none"))
    (stopped / "run.sqlite").write_bytes((stopped / "run.sqlite").read_bytes()[:5000])
    with pytest.raises(StoreError, match=r"run\.sqlite"):
        list(follow(stopped, sleep=never))
