"""What is told of what takes long, and the bars of it."""

from __future__ import annotations

import io
import sys
import types

import pytest
from rich.console import Console

import maao
from maao.bars import Bars, NotebookBars, bars_for
from maao.config import make_config
from maao.progress import Progress, job, listening, tracked
from maao.runner import find_lr, replay, resume, run

FUNCTION = {"problem": "function", "mentor": {"name": "random_restart"}, "plan": {"rounds": 3, "steps": 4}}
RACE = {**FUNCTION, "accept": {"rule": "race", "steps": 2}}


def test_jobs_within_one_another_are_told_with_their_depth_and_ended_whatever_happens():
    seen: list[Progress] = []

    def stops():
        with job("outer"), job("inner", 3, "things") as inner:
            inner.advance(2, note="so far")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"), listening(seen.append):
        stops()
    assert [(one.told, one.depth, one.done, one.ended) for one in seen] == [
        ("outer", 0, 0, False),
        ("inner", 1, 0, False),
        ("inner", 1, 2, False),
        ("inner", 1, 2, True),
        ("outer", 0, 0, True),
    ]
    seen.clear()
    assert list(tracked("ab", "nobody listens", 2)) == ["a", "b"] and seen == []


def walks(seen: list[Progress], told: str = "walking") -> list[Progress]:
    return [one for one in seen if one.told == told]


@pytest.mark.parametrize("settings", [FUNCTION, RACE])
def test_every_step_of_a_run_is_counted_those_of_races_too(settings, tmp_path):
    seen: list[Progress] = []
    result = run(make_config(settings), tmp_path / "run", progress=seen.append)
    walked = walks(seen)
    assert walked[-1].ended and walked[-1].done == walked[-1].total == result.cost.gradient_steps
    assert all(one.total is not None and one.done <= one.total for one in walked)
    first = walked[0].total
    assert first is not None and first >= result.cost.gradient_steps  # what judging may take at most is counted from the start
    seen.clear()
    resume(result.folder, progress=seen.append)
    assert seen == []
    replay(result.folder, progress=seen.append)
    assert walks(seen, "walking again")[-1].done == result.cost.gradient_steps


def test_a_run_that_goes_on_counts_what_is_left(tmp_path):
    seen: list[Progress] = []

    class Stop(maao.Watch):
        def round(self, finished):
            if finished.index == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_config(FUNCTION), tmp_path / "run", watch=Stop())
    whole = resume(tmp_path / "run", progress=seen.append)
    left = sum(r.cost.gradient_steps for r in whole.history[2:])
    assert left == walks(seen)[-1].done < sum(r.cost.gradient_steps for r in whole.history)


def test_learning_rates_are_counted_those_that_diverge_too(tmp_path):
    seen: list[Progress] = []
    stage = {"lr_grid": [0.01, 1e30], "lr_steps": 5}
    find_lr(make_config({"problem": "function", "stage": stage}), progress=seen.append)
    tried = walks(seen, "trying learning rates")
    assert tried[0].total == tried[-1].done == 10


def test_whoever_is_told_changes_nothing(tmp_path):
    silent = run(make_config(RACE), tmp_path / "silent")
    told = run(make_config(RACE), tmp_path / "told", progress=lambda progress: None)
    assert silent.digest == told.digest


# -- bars


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80)


def test_bars_show_each_job_in_a_line_and_go_away(monkeypatch):
    monkeypatch.setattr("maao.bars.REDRAW", 0.0)
    monkeypatch.setattr("maao.bars.SHOWN_AFTER", 0.0)
    console = terminal()
    bars = Bars(console)
    with listening(bars), job("walking", 10, "steps") as walk, job("see \x1b[2J[red]"):
        walk.advance(5, note="loss 0.500")
        bars.progress.refresh()
        shown = console.file.getvalue()
        assert "walking, loss 0.500" in shown and "5/10 steps" in shown and " left" in shown and "[red]" in shown
        assert "\x1b[2J" not in shown
    assert not bars.progress.live.is_started and not bars.progress.tasks


def test_bars_are_silent_in_a_file_and_where_all_is_to_be_quiet():
    for console in (Console(file=io.StringIO()), Console(file=io.StringIO(), force_terminal=True, quiet=True)):
        with listening(Bars(console)), job("walking", 10) as walk:
            walk.advance(10)
        assert console.file.getvalue() == ""


def test_in_a_notebook_there_are_bars_by_default_and_elsewhere_where_they_are_asked_for(monkeypatch):
    assert bars_for(None) is None and bars_for(False) is None and isinstance(bars_for(True), Bars) and bars_for(print) is print
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert isinstance(bars_for(None), NotebookBars) and bars_for(False) is None


def test_a_notebooks_bars_are_one_output_written_anew(monkeypatch):
    shown: list[str] = []

    class Handle:
        def update(self, held, raw):
            shown.append(held["text/plain"])

    def display(held, raw, display_id):
        shown.append(held["text/plain"])
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("maao.bars.REDRAW_NOTEBOOK", 0.0)
    with listening(NotebookBars()), job("walking", 4, "steps") as walk, job("reading"):
        walk.advance(2)
    assert shown[-1].startswith("walking ########-------- 2/4 steps, 1 s")
    assert any(text.splitlines()[1:] == ["  reading: 1 s"] for text in shown)
