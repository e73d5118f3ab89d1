"""Bars of what goes on, at a terminal or in a notebook: a line for each job, those within others below them. Loads nothing heavy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from maao.printable import printable_line
from maao.progress import Listener
from maao.progress import Progress as Told

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

REDRAW = 0.05  # seconds between two looks of a bar: a step may take less than drawing it
REDRAW_NOTEBOOK = 0.25
SHOWN_AFTER = 0.3  # seconds that a counted job within another one must take to be shown


class Left(ProgressColumn):
    """How long a job will still take, by what it has done so far; nothing before that can be known."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["begun"]
        if task.total is None or task.finished or done <= 0 or task.elapsed is None:
            return Text("")
        return Text(f"{in_words(task.elapsed / done * (task.total - task.completed))} left")


class Done(ProgressColumn):
    """How much is done: "20/100 steps"; nothing where nothing is counted."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(f"{task.completed:g} {task.fields['unit']}".strip() if task.completed else "")
        return Text(f"{task.completed:,g}/{task.total:,g} {task.fields['unit']}".strip())


class Bars:
    """Shows jobs while they are done; a `Listener`. At what is no terminal it shows nothing.

    Example:
        >>> from maao.progress import job, listening
        >>> with listening(Bars(Console())), job("walking", 3, "steps") as walk:
        ...     walk.advance(3)
    """

    def __init__(self, console: Console) -> None:
        self.shows = console.is_terminal and not console.quiet
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            Done(),
            TimeElapsedColumn(),
            Left(),
            console=console,
            transient=True,
            disable=not self.shows,
        )
        self._room = max(12, min(48, console.width - 60))  # characters of what is done
        self._tasks: dict[int, TaskID] = {}
        self._drawn: dict[int, float] = {}
        self._began: dict[int, float] = {}

    def pause(self) -> None:
        """Take the bars away while something else writes: a bar that is drawn anew would write over what is typed."""
        self.progress.stop()

    def __call__(self, told: Told) -> None:
        if not self.shows:
            return
        if told.ended:
            self._end(told)
            return
        now = time.monotonic()
        began = self._began.setdefault(told.job, now)
        if told.job not in self._tasks:
            if told.depth and told.total is not None and now - began < SHOWN_AFTER:
                return  # one that is soon over would only flicker
            self._tasks[told.job] = self.progress.add_task(_line(told, self._room), total=told.total, unit=told.unit, begun=told.done)
        elif now - self._drawn[told.job] < REDRAW and told.done != told.total:
            return
        task = self._tasks[told.job]
        if told.total is not None and self.progress.tasks[self.progress.task_ids.index(task)].total is None:
            self.progress.update(task, begun=told.done)  # what was done before is no measure of what is left
        self._drawn[told.job] = now
        self.progress.start()  # does nothing unless it was paused
        self.progress.update(task, description=_line(told, self._room), completed=told.done, total=told.total)

    def _end(self, told: Told) -> None:
        self._began.pop(told.job, None)
        self._drawn.pop(told.job, None)
        if (task := self._tasks.pop(told.job, None)) is not None:
            self.progress.remove_task(task)
        if not self._tasks:
            self.progress.stop()


class NotebookBars:
    """The same in a notebook, in one output that is written anew; a `Listener`. It needs no widgets."""

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[Told, float]] = {}  # with when they began
        self._drawn = 0.0
        self._handle: DisplayHandle | None = None

    def __call__(self, told: Told) -> None:
        now = time.monotonic()
        began = self._jobs[told.job][1] if told.job in self._jobs else now
        self._jobs[told.job] = (told, began)
        lines = "\n".join(_plain(one, now - since) for one, since in self._jobs.values())
        if told.ended:
            del self._jobs[told.job]
        if now - self._drawn < REDRAW_NOTEBOOK and self._jobs and self._drawn:
            return
        self._drawn = now
        from IPython.display import display

        held = {"text/plain": lines}
        if self._handle is None:
            self._handle = display(held, raw=True, display_id=True)
        else:
            self._handle.update(held, raw=True)


def _plain(told: Told, seconds: float) -> str:
    """Return how far a job is, in a line without colours."""
    if told.total is None:
        return f"{_line(told)}: {in_words(seconds)}"
    part = told.done / told.total if told.total else 1.0
    left = f", {in_words(seconds / told.done * (told.total - told.done))} left" if 0 < told.done < told.total else ""
    return f"{_line(told)} {'#' * round(16 * part):-<16} {told.done:,}/{told.total:,} {told.unit}".rstrip() + f", {in_words(seconds)}{left}"


def _line(told: Told, most: int = 48) -> str:
    note = f", {told.note}" if told.note else ""
    return ("  " * told.depth + printable_line(f"{told.told}{note}"))[:most]


def in_words(seconds: float) -> str:
    """Return about how long something takes.

    Example:
        >>> in_words(0.4), in_words(42), in_words(100), in_words(7_000)
        ('1 s', '42 s', '1 min 40 s', '1 h 56 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bars_for(progress: bool | Listener | None) -> Listener | None:
    """Return who is told of a run that is made from Python, or None for nobody: a function of the caller's own, or bars.

    Args:
        progress: True: bars (on standard error); None: bars in a notebook, and nothing elsewhere; False: nothing.
    """
    if progress is None:
        progress = Console().is_jupyter
    if progress is True:
        return NotebookBars() if Console().is_jupyter else Bars(Console(stderr=True))
    return None if progress is False else progress
