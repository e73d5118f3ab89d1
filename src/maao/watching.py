"""A run that goes on elsewhere, as it is seen in its folder: whoever looks takes nothing from who writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from maao.bars import in_words
from maao.build import build_plan
from maao.config import Config
from maao.console import print_plainly
from maao.llm.ledger import Totals
from maao.printable import dollars, times
from maao.report.lines import shown
from maao.report.rounds import round_lines
from maao.report.run import told
from maao.report.story import ending_of, story
from maao.result import Result
from maao.store.run import standing
from maao.stored_run import config_of, open_run

if TYPE_CHECKING:
    from maao.stored_run import Finished

EVERY = 1.0  # seconds between two looks


@dataclass(frozen=True)
class Look:
    """What a look into a run's folder found.

    Attributes:
        new: the rounds that were finished since the last look.
        done: how many are finished in all.
        status: "running", "finished", "stopped", "waiting" (for replies), or "interrupted": it says it is running, but nobody writes.
        spent: what calls took so far, those of the round that goes on too.
    """

    new: tuple[Finished, ...]
    done: int
    status: str
    spent: Totals


def follow(folder: Path, *, every: float = EVERY, sleep: Callable[[float], object] = time.sleep) -> Iterator[Look]:
    """Yield what is found in a run's folder, look by look, until it does not go on any more.

    It only reads: no lock is kept, and a round is seen whole or not at all.

    Raises:
        StoreError: the folder is no run, or is damaged.
    """
    with open_run(folder, write=False) as stored:
        done = 0
        while True:
            status = standing(stored.path, lambda: stored.status)
            now = stored.rounds_done  # after the status: the last round is written before the run says that it ended
            yield Look(tuple(stored.round(i) for i in range(done, now)), now, status, stored.ledger.totals())
            done = now
            if status != "running":
                return
            sleep(every)


def watch(folder: Path, console: Console, *, every: float = EVERY, sleep: Callable[[float], object] = time.sleep) -> Result:
    """Show a run that goes on elsewhere until it ends, then what came of it; return its result.

    At a terminal a line below tells how far it is; into a file or a pipe go plain lines, one for each thing that happens.
    """
    with open_run(folder, write=False) as stored:
        config = config_of(stored)
    standing = Standing(legs_of(config))
    model = f"{config.model.name}, " if "model" in config.builder.sections else ""
    print_plainly(console, shown(f"Watching {folder}: {model}mentor {config.mentor.name}, seed {config.seed}"))
    with Live(standing, console=console, transient=True, refresh_per_second=4) if console.is_terminal else nullcontext():
        for look in follow(folder, every=every, sleep=sleep):
            for finished in look.new:
                print_plainly(console, *round_lines(finished))
            standing.seen(look)
    result = Result(folder)
    print_plainly(console, Text(""), *told(story(ending_of(result))))
    return result


def legs_of(config: Config) -> int:
    """Return how many rounds a run has at most: it may end early. Loads nothing."""
    return len(build_plan(config, steps_per_epoch=1)) if config.model.method.options.is_trained else 1


@dataclass
class Standing:
    """How far a run is, in a line that is drawn anew: rounds done of so many, how long ago the last was, and how long it may still take."""

    legs: int
    done: int = 0
    calls: int = 0
    usd: float = 0.0
    since: float = field(default_factory=time.monotonic)
    _seconds: list[float] = field(default_factory=list)
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots"))

    def seen(self, look: Look) -> None:
        """Take in what a look found."""
        if look.new:
            self.since = time.monotonic()
        self._seconds += [finished.cost.seconds for finished in look.new if finished.observations]
        self.done, self.calls, self.usd = look.done, look.spent.calls, look.spent.usd

    def told(self, now: float) -> str:
        """Return the line, at a time of the clock that counts.

        Example:
            >>> standing = Standing(5, done=2, calls=1, since=10.0, _seconds=[4.0, 6.0])
            >>> standing.told(13.0)
            'round 3 of 5, for 3 s; the mentor was called once; about 12 s left'
        """
        begun = f"round {self.done + 1} of {self.legs}" if self.done < self.legs else "reading test"
        money = f", {dollars(self.usd)}" if self.usd else ""
        called = f"; the mentor was called {times(self.calls)}{money}" if self.calls else ""
        gone = now - self.since
        left = ""
        if self._seconds and self.done < self.legs:
            mean = sum(self._seconds) / len(self._seconds)
            left = f"; about {in_words(max(0.0, (self.legs - self.done) * mean - gone))} left"
        return f"{begun}, for {in_words(gone)}{called}{left}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._spinner.update(text=Text(self.told(time.monotonic()), overflow="ellipsis", no_wrap=True))
        yield self._spinner
