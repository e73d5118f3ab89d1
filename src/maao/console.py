"""What a person sees at the terminal while a run goes on. Computes nothing."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from maao.build import RunComponents
from maao.core.acceptance import race_in
from maao.core.lr_finder import Trial
from maao.crowding import busy
from maao.errors import ConfigError
from maao.estimate import Estimate
from maao.llm.budget import Caps
from maao.llm.chat import Request
from maao.mentors.built import BuiltMentor
from maao.mentors.class_lines.base import LinesOptions
from maao.printable import printable_line, times
from maao.report.class_lines import lines_rule
from maao.report.lines import few_refused, line_of_proposal, refusal, score_line, short, shown, tried
from maao.runner import Watch
from maao.types import Observation, P, Round, S

REDRAW = 0.05  # seconds between two looks of the bar: a step may take less than drawing it


class Terminal(Watch):
    """Shows a run as it goes on: what will be sent where, a bar, and a line for every round."""

    def __init__(self, console: Console, *, yes: bool = False) -> None:
        self.console = console
        self.yes = yes
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = TaskID(0)
        self._walked = 0
        self._drawn = 0.0
        self._planned = 0
        self._total = 0
        self._interrupted = False
        self._handler: Callable[[int, FrameType | None], object] | int | None = None
        self._person = False  # the mentor is a person, who types at this terminal

    def __enter__(self) -> Terminal:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    def _interrupt(self, *_: object) -> None:
        """Stop now; and where the exception is lost (raised in a callback or a finalizer, it would be), at the next step."""
        self._interrupted = True
        raise KeyboardInterrupt

    def _check_interrupt(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def paying(self, estimate: Estimate, caps: Caps) -> None:
        agree(self.console, estimate.told("This run", caps), caps, yes=self.yes)

    def rate(self, trial: Trial) -> None:
        self.console.print(shown(f"learning rate {trial.rate:g}: {tried(trial)}"))

    def started(self, parts: RunComponents, asked: BuiltMentor, folder: Path, done: int) -> None:
        self.console.print(Panel(Group(*_opening(parts, asked, folder, done)), title="maao", title_align="left"))
        self._person = parts.config.mentor.options.asks_a_person
        legs = parts.plan[done:]
        self._planned = sum(leg.steps for leg in legs)
        judging = sum(parts.accept.max_steps(leg.proposals) for leg in legs if leg.ask)
        self._total = self._planned + judging  # at most: a mentor may propose less
        self._task = self.progress.add_task("starting", total=self._total)
        self.progress.start()

    def step(self, observation: Observation[P]) -> None:
        self._check_interrupt()
        self._walked += 1
        now = time.monotonic()
        if now - self._drawn >= REDRAW:
            self._drawn = now
            self.progress.start()  # does nothing unless a person was asked
            self.progress.update(self._task, completed=self._walked, description=f"walking, loss {observation.loss:.3f}")
        if observation.note:
            self.console.print(shown(f"step {observation.step}: {observation.note}", style="yellow"))

    def call(self, request: Request) -> None:
        self.progress.update(self._task, description=printable_line(f"asking {request.model}"))
        if self._person:
            self.progress.stop()  # a bar that is drawn anew would write over what is typed

    def round(self, finished: Round[P, S]) -> None:
        self._check_interrupt()
        self.progress.update(self._task, completed=self._walked)
        for line in _round_lines(finished):
            self.console.print(line)

    def testing(self) -> None:
        self.progress.update(self._task, description="reading test, once")


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
    steps = sum(leg.steps for leg in parts.plan)
    asks = sum(leg.ask for leg in parts.plan)
    judged = f"the mentor is asked {times(asks)}; rule: {config.accept.name}" if asks else "no mentor is asked"
    walks = f"{steps} gradient steps in {len(parts.plan)} legs"
    patience = config.plan.options.patience
    early = f"; ends early after {patience} legs without a new best" if patience else ""
    yield shown(f"Plan: {walks}, {judged}{early}; seed {config.seed}")
    if isinstance(config.mentor.options, LinesOptions) and parts.splits is not None:
        race = race_in(parts.accept)
        share = 0.0 if race is None else race.share
        judged = "" if parts.splits.is_unlabelled else "out of fold" if parts.splits.num_folds else "on select"
        yield shown(f"{lines_rule(config.mentor.options, share, judged)} Why: docs/defaults.md.")
    yield shown(f"Run folder: {folder}" + (f", going on after {done} stored rounds" if done else ""))


def _round_lines(finished: Round[P, S]) -> Iterable[Text]:
    if finished.leg.ask:
        for proposal, looked in _proposals(finished):
            yield shown(f"  proposed: {proposal}   {looked}", style="cyan")
        told, more = few_refused(finished.advice.rejected)
        for rejected in told:
            yield shown(f"  {refusal(rejected, f'{short(rejected.text)} ({rejected.reason})')}", style="dim")
        if more:
            yield shown(f"  {more}", style="dim")
        yield shown(f"  {_outcome(finished)}")
    if finished.leg.closing:
        yield shown(f"  {finished.verdict.reason}", style="cyan")
    clues = finished.clues.projection
    words = f"   words: {short(clues.text, 60)}" if clues else ""
    yield shown(f"round {finished.index}: step {finished.state.step}, select {score_line(finished.score)}{words}")


def _outcome(finished: Round[P, S]) -> str:
    verdict = finished.verdict
    if verdict.chosen is None:
        return f"incumbent goes on ({verdict.reason or 'nothing proposed'})"
    return f"restart from: {short(line_of_proposal(finished.advice.proposals[verdict.chosen]), 60)} ({verdict.reason})"


def _proposals(finished: Round[P, S]) -> Iterable[tuple[str, str]]:
    scores = {c.proposal: c for c in finished.verdict.considered}
    for i, proposal in enumerate(finished.advice.proposals):
        looked = scores.get(i)
        after = f" after {looked.age} step{'s' * (looked.age > 1)}" if looked and looked.age else ""
        yield short(line_of_proposal(proposal), 70), f"{score_line(looked.score)}{after}" if looked else "not scored"
