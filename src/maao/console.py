"""What a person sees at the terminal while a run goes on. Computes nothing."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from maao.bars import Bars
from maao.build import RunComponents
from maao.core.acceptance import race_in
from maao.core.lr_finder import Trial
from maao.crowding import busy
from maao.errors import ConfigError, Terminated
from maao.estimate import Estimate
from maao.llm.budget import Caps
from maao.llm.chat import Request
from maao.mentors.built import BuiltMentor
from maao.mentors.class_lines.base import LinesOptions
from maao.printable import times
from maao.progress import listening
from maao.report.class_lines import lines_rule
from maao.report.lines import short, shown, tried
from maao.report.rounds import round_lines
from maao.runner import Watch
from maao.types import Observation, P, Round, S


class Terminal(Watch):
    """Shows a run as it goes on: what will be sent where, a bar, and a line for every round."""

    def __init__(self, console: Console, *, yes: bool = False, asking: Console | None = None) -> None:
        self.console = console
        self.asking = asking or console
        self.yes = yes
        self.bars = Bars(console)
        self._told = ExitStack()
        self._interrupted: type[KeyboardInterrupt] | None = None
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._person = False  # the mentor is a person, who types at this terminal

    def __enter__(self) -> Self:
        self._told.enter_context(listening(self.bars))
        if threading.current_thread() is threading.main_thread():
            self._handlers = {one: signal.signal(one, self._interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        self._told.close()
        self.bars.pause()
        for one, handler in self._handlers.items():
            signal.signal(one, handler)

    def _interrupt(self, number: int, _: FrameType | None) -> None:
        """Stop now; and where the exception is lost (raised in a callback or a finalizer, it would be), at the next step."""
        self._interrupted = KeyboardInterrupt if number == signal.SIGINT else Terminated
        raise self._interrupted

    def _check_interrupt(self) -> None:
        if self._interrupted is not None:
            raise self._interrupted

    def paying(self, estimate: Estimate, caps: Caps) -> None:
        self.bars.pause()
        agree(self.asking, estimate.told("This run", caps), caps, yes=self.yes)

    def rate(self, trial: Trial) -> None:
        print_plainly(self.console, shown(f"learning rate {trial.rate:g}: {tried(trial)}"))

    def started(self, parts: RunComponents, asked: BuiltMentor, folder: Path, done: int) -> None:
        opening = tuple(_opening(parts, asked, folder, done))
        if self.console.is_terminal:
            self.console.print(Panel(Group(*opening), title="maao", title_align="left"))
        else:
            print_plainly(self.console, *opening)
        self._person = parts.config.mentor.options.asks_a_person

    def step(self, observation: Observation[P]) -> None:
        self._check_interrupt()
        if observation.note:
            print_plainly(self.console, shown(f"step {observation.step}: {observation.note}", style="yellow"))

    def call(self, request: Request) -> None:
        if self._person:
            self.bars.pause()

    def round(self, finished: Round[P, S]) -> None:
        self._check_interrupt()
        print_plainly(self.console, *round_lines(finished))

    def note(self, told: str) -> None:
        print_plainly(self.console, shown(told, style="yellow"))


def print_plainly(console: Console, *parts: RenderableType, fold: bool = False) -> None:
    """Print lines and tables; into a file or a pipe a line is not folded unless it is to be, so that it can be searched for."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text) and not console.is_terminal and not fold)


def agree(console: Console, told: str, caps: Caps, *, yes: bool) -> None:
    """Tell what may cost money, and go on where that is agreed to: by `yes`, by an answer at the terminal, or, without one, by a cap.

    Raises:
        ConfigError: it is not.
    """
    console.print(shown(told, style="yellow"))
    if yes:
        return
    if console.is_terminal and sys.stdin.isatty():
        if console.input("Go on? [y/N] ", markup=False).strip().lower() in ("y", "yes"):
            return
        raise ConfigError("Nothing was begun.")
    if not caps.bind:
        raise ConfigError(
            "Nothing was begun: there is no terminal to ask at. Give --yes, or cap what may be spent ([budget] llm_calls, llm_tokens, usd)."
        )


def _opening(parts: RunComponents, asked: BuiltMentor, folder: Path, done: int) -> Iterable[Text]:
    import torch

    config = parts.config
    if parts.frozen is not None and parts.splits is not None:
        model, sizes = config.model, ", ".join(f"{len(part)} {name}" for name, part in parts.splits.parts.items())
        yield shown(f"Frozen model: {model.name} ({parts.frozen.kind}), method: {model.method.name}, template: {model.template!r}")
        yield shown(f"Data: {sizes}; {len(parts.class_names)} classes: {short(', '.join(parts.class_names), 120)}")
    for note in parts.notes:
        yield shown(f"  {note}", style="dim")
    if told := busy(torch.get_num_threads()):
        yield shown(f"  {told}", style="yellow")
    yield from map(shown, asked.disclosure.splitlines())
    if told := config.tracker.options.told():
        yield shown(told)
    steps = sum(leg.steps for leg in parts.plan)
    asks = sum(leg.ask for leg in parts.plan)
    judged = f"the mentor is asked {times(asks)}; rule: {config.accept.name}" if asks else "no mentor is asked"
    walks = f"{steps} gradient steps in {len(parts.plan)} legs"
    patience = config.plan.options.patience
    early = f"; ends early after {patience} legs without a new best" if patience else ""
    yield shown(f"Plan: {walks}, {judged}{early}; seed {config.seed}")
    if isinstance(config.mentor.options, LinesOptions) and parts.splits is not None:
        judged = "" if parts.splits.is_unlabelled else "out of fold" if parts.splits.num_folds else "on select"
        yield shown(f"{lines_rule(config.mentor.options, race_in(parts.accept), judged)} Why: docs/defaults.md.")
    yield shown(f"Run folder: {folder}" + (f", going on after {done} stored rounds" if done else ""))
