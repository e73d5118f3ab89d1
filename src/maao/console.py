"""What a person sees at the terminal: progress while a run goes on, and the tables that read it out. Computes nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from maao.build import Asked, Parts
from maao.compare.headroom import Headroom
from maao.core.lr_finder import LrSearch, Trial
from maao.evaluation.metrics import harmonic_mean
from maao.evaluation.statistics import wilson_interval
from maao.llm.chat import Request
from maao.mentors.fields import line_of
from maao.printable import printable, printable_line
from maao.result import Result
from maao.runner import Watch
from maao.store.listing import RunSummary
from maao.types import Cost, Observation, Proposal, Round, Score

NEW_CLASSES = "new classes, chosen"  # the one reading on `test` beside those of a run's own classes that a mean is taken with
FINALS = {"untuned": "untuned prompt", "chosen": "tuned soft prompt", "words": "its words alone"}


class Terminal(Watch):
    """Shows a run as it goes on: what will be sent where, a bar, and a line for every round."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: Any = None
        self._walked = 0
        self._planned = 0
        self._total = 0
        self._interrupted = False
        self._handler: Any = None
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

    def rate(self, trial: Trial) -> None:
        self.console.print(shown(f"learning rate {trial.rate:g}: {_tried(trial)}"))

    def started(self, parts: Parts, asked: Asked, folder: Path, done: int) -> None:
        self.console.print(Panel(Group(*_opening(parts, asked, folder, done)), title="maao", title_align="left"))
        mentor = parts.config.mentor
        self._person = mentor.name == "person" or (mentor.name == "language_model" and mentor.chat.provider == "person")
        legs = parts.plan[done:]
        self._planned = sum(leg.steps for leg in legs)
        judging = sum(parts.accept.max_steps(leg.proposals) for leg in legs if leg.ask)
        self._total = self._planned + judging  # at most: a mentor may propose less
        self._task = self.progress.add_task("starting", total=self._total)
        self.progress.start()

    def step(self, observation: Observation[Any]) -> None:
        self._check_interrupt()
        self._walked += 1
        self.progress.start()  # does nothing unless a person was asked
        self.progress.update(self._task, completed=self._walked, description=f"walking, loss {observation.loss:.3f}")
        if observation.note:
            self.console.print(shown(f"step {observation.step}: {observation.note}", style="yellow"))

    def call(self, request: Request) -> None:
        self.progress.update(self._task, description=printable_line(f"asking {request.model}"))
        if self._person:
            self.progress.stop()  # a bar that is drawn anew would write over what is typed

    def round(self, finished: Round[Any, Any]) -> None:
        self._check_interrupt()
        for line in _round_lines(finished):
            self.console.print(line)

    def testing(self) -> None:
        self.progress.update(self._task, description="reading test, once")


def _opening(parts: Parts, asked: Asked, folder: Path, done: int) -> Iterable[Text]:
    config = parts.config
    if parts.frozen is not None and parts.splits is not None:
        sizes = ", ".join(f"{len(getattr(parts.splits, name))} {name}" for name in ("train", "select", "test"))
        yield shown(f"Frozen model: {parts.frozen.name} ({parts.frozen.kind}), template: {config.model.template!r}")
        yield shown(f"Data: {sizes}; classes: {', '.join(parts.splits.labels)}")
    if parts.encoder is not None and parts.splits is not None:
        sizes = ", ".join(f"{len(getattr(parts.splits, name))} {name}" for name in ("train", "select", "test"))
        vision = config.vision
        yield shown(f"Frozen model: {parts.encoder.name} (dual encoder), method: {vision.method}, template: {vision.template!r}")
        yield shown(f"Pictures: {sizes}; {len(parts.class_names)} classes: {_short(', '.join(parts.class_names), 120)}")
    for note in parts.notes:
        yield shown(f"  {note}", style="dim")
    yield from map(shown, asked.disclosure.splitlines())
    steps = sum(leg.steps for leg in parts.plan)
    asks = sum(leg.ask for leg in parts.plan)
    walks = f"{steps} gradient steps in {len(parts.plan)} legs"
    patience = config.plan.patience
    early = f"; ends early after {patience} legs without a new best" if patience else ""
    yield shown(f"Plan: {walks}, the mentor is asked {asks} times{early}; rule: {config.accept.rule}; seed {config.seed}")
    yield shown(f"Run folder: {folder}" + (f", going on after {done} stored rounds" if done else ""))


def _round_lines(finished: Round[Any, Any]) -> Iterable[Text]:
    if finished.leg.ask:
        for proposal, told in _proposals(finished):
            yield shown(f"  proposed: {proposal}   {told}", style="cyan")
        for rejected in finished.advice.rejected:
            yield shown(f"  not used: {_short(rejected.text)} ({rejected.reason})", style="dim")
        yield shown(f"  {_outcome(finished)}")
    clues = finished.clues.projection
    words = f"   words: {_short(clues.text, 60)}" if clues else ""
    yield shown(f"round {finished.index}: step {finished.state.step}, select {_score(finished.score)}{words}")


def _outcome(finished: Round[Any, Any]) -> str:
    verdict = finished.verdict
    if verdict.chosen is None:
        return f"incumbent goes on ({verdict.reason or 'nothing proposed'})"
    return f"restart from: {_short(_line(finished.advice.proposals[verdict.chosen]), 60)} ({verdict.reason})"


def _line(proposal: Proposal[Any]) -> str:
    return line_of(proposal.text, proposal.fields)


def _proposals(finished: Round[Any, Any]) -> Iterable[tuple[str, str]]:
    scores = {c.proposal: c for c in finished.verdict.considered}
    for i, proposal in enumerate(finished.advice.proposals):
        looked = scores.get(i)
        after = f" after {looked.age} steps" if looked and looked.age else ""
        yield _short(_line(proposal), 70), f"{_score(looked.score)}{after}" if looked else "not scored"


# -- a finished run


def report(result: Result) -> Group:
    """Return the table that reads a run out: first what makes it no run with a mentor, then rounds, `test`, cost."""
    parts: list[Any] = [shown(result.warning, style="bold red")] if result.warning else []
    parts.append(_rounds_table(result))
    if result.finals:
        parts.append(_test_table(result))
    parts.append(_summary(result))
    if result.history and result.filled:
        told = ", ".join(f"{name} = {value!r}" for name, value in result.filled.items())
        parts.append(shown(f"Filled beside the chosen prompt: {told}."))
    if result.lr_search is not None:
        parts.append(_search_line(result.lr_search))
    parts.append(cost_line(result.cost))
    if result.status_reason:
        parts.append(shown(f"Note: {result.status_reason}.", style="yellow"))
    return Group(*parts)


def _rounds_table(result: Result) -> Table:
    table = Table(title=shown(f"Rounds of {result.folder.name} (loss and accuracy on select)"), title_justify="left", expand=False)
    for name, options in (
        ("round", {"justify": "right"}),
        ("who", {}),
        ("text", {"overflow": "fold", "max_width": 48}),
        ("loss", {"justify": "right"}),
        ("accuracy", {"justify": "right"}),
        ("what became of it", {"overflow": "fold"}),
    ):
        table.add_column(name, **options)
    best = result.chosen.index
    for r in result.history:
        scores = {c.proposal: c for c in r.verdict.considered}
        for i, proposal in enumerate(r.advice.proposals):
            looked = scores.get(i)
            loss, accuracy = _columns(looked.score if looked else None)
            became = "accepted" if r.verdict.chosen == i else "not taken"
            age = f" at age {looked.age}" if looked and looked.age else ""
            note = f" ({proposal.note})" if proposal.note else ""
            _add(table, str(r.index), proposal.source, _line(proposal), loss, accuracy, f"{became}{age}{note}", style="cyan")
        if None in scores:
            loss, accuracy = _columns(scores[None].score)
            _add(table, str(r.index), "incumbent", "", loss, accuracy, f"at age {scores[None].age}", style="dim")
        for rejected in r.advice.rejected:
            _add(table, str(r.index), "mentor", _short(rejected.text, 48), "", "", f"not used: {rejected.reason}", style="dim")
        if r.leg.ask:
            _add(table, str(r.index), "rule", "", "", "", r.verdict.reason, style="dim")
        loss, accuracy = _columns(r.score)
        words = r.clues.projection.text if r.clues.projection else ""
        walked = "untuned" if r.state.step == 0 else f"walked to step {r.state.step}"
        chosen = ", chosen" if r.index == best else ""
        _add(table, str(r.index), "doer", words, loss, accuracy, walked + chosen, style="bold" if r.index == best else "")
    return table


def _test_table(result: Result) -> Table:
    examples = next(iter(result.finals.values())).score.num_examples
    table = Table(title=f"On test ({examples} examples, read once)", title_justify="left")
    table.add_column("prompt")
    for name in ("accuracy", "95 % interval", "loss"):
        table.add_column(name, justify="right")
    majority = result.environment["majority"]
    if majority is not None:
        _add(table, "majority class", f"{majority:.3f}", "", "")
    for name, final in result.finals.items():
        accuracy = final.score.accuracy
        interval = ""
        if accuracy is not None:
            low, high = wilson_interval(accuracy, final.score.num_examples)
            interval = f"{low:.3f} to {high:.3f}"
        style = "bold" if name == "chosen" else ""
        where, _, point = name.rpartition(", ")
        told = f"{where} ({final.score.num_examples} examples): {FINALS.get(point, point)}" if where else FINALS.get(point, point)
        _add(table, told, "" if accuracy is None else f"{accuracy:.3f}", interval, f"{final.score.loss:.3f}", style=style)
    if NEW_CLASSES in result.finals:
        both = [result.finals[name].score.accuracy or 0.0 for name in ("chosen", NEW_CLASSES)]
        _add(table, "harmonic mean of base and new classes, tuned", f"{harmonic_mean(*both):.3f}", "", "")
    return table


def _summary(result: Result) -> Text:
    asked = [r for r in result.history if r.leg.ask]
    proposed = sum(len(r.advice.proposals) for r in asked)
    accepted = sum(r.verdict.chosen is not None for r in asked)
    if not asked:
        return shown("No mentor was asked: plain gradient descent.")
    return shown(f"The mentor was asked {len(asked)} times and made {proposed} proposals that could be used; {accepted} became a restart.")


def _search_line(search: LrSearch) -> Text:
    chosen = search.chosen
    lost = [f"{trial.rate:g}" for trial in search.trials if trial.diverged is not None]
    diverged = f"; {', '.join(lost)} diverged" if lost else ""
    others = ", ".join(f"{trial.rate:g}" for trial in search.trials)
    return shown(
        f"Learning rate: {chosen.rate:g}, the best of {others} on select after {search.steps} steps (loss {chosen.loss:.3f}){diverged}."
    )


def _tried(trial: Trial) -> str:
    return f"diverged ({trial.diverged})" if trial.diverged is not None else f"loss {trial.loss:.3f}"


def rates_table(search: LrSearch) -> Table:
    """Return what came of every rate of a search, the chosen one in bold."""
    table = Table(title=f"Loss on select after {search.steps} steps", title_justify="left")
    table.add_column("rate", justify="right")
    table.add_column("what came of it", overflow="fold")
    for trial in search.trials:
        chosen = trial == search.chosen
        _add(table, f"{trial.rate:g}", _tried(trial) + (", the lowest" if chosen else ""), style="bold" if chosen else "")
    return table


def headroom_table(found: Headroom) -> Table:
    """Return what needs no tuning beside where each start led."""
    table = Table(title=f"On select, each start walked {found.steps} steps", title_justify="left")
    for name in ("point", "loss", "accuracy"):
        table.add_column(name, justify="left" if name == "point" else "right")
    if found.prior is not None:
        _add(table, "shares of the classes", f"{found.prior:.3f}", "" if found.majority is None else f"{found.majority:.3f}")
    if found.zero_shot is not None:
        _add(table, "no soft prompt", *_loss_and_accuracy(found.zero_shot))
    for number, (untuned, tuned) in enumerate(zip(found.untuned, found.tuned, strict=True), start=1):
        _add(table, f"start {number}, untuned", *_loss_and_accuracy(untuned))
        _add(table, f"start {number}, tuned", *_loss_and_accuracy(tuned), style="bold")
    return table


def _loss_and_accuracy(score: Score) -> tuple[str, str]:
    return f"{score.loss:.3f}", "" if score.accuracy is None else f"{score.accuracy:.3f}"


def cost_line(cost: Cost) -> Text:
    """Return what something spent, in a line."""
    money = f", ${cost.usd:.4f}" if cost.usd else ""
    return shown(
        f"Cost: {cost.gradient_steps} gradient steps, {cost.model_tokens:,} tokens through the frozen model, "
        f"{cost.selection_evals} evaluations on select, "
        f"{cost.llm_calls} mentor calls ({cost.input_tokens:,} tokens in, {cost.output_tokens:,} out{money}), {cost.seconds:.0f} s"
    )


def clues_table(result: Result) -> Table:
    """Return what was said in words about every round's end."""
    table = Table(title="Clues", title_justify="left")
    for name in ("round", "words", "gap", "gradient asks for", "moved towards", "confusions on train"):
        table.add_column(name, overflow="fold")
    for r in result.history:
        projection = r.clues.projection
        confusions = "; ".join(f"{c.label} as {c.predicted} ({c.count})" for c in r.clues.confusions[:4])
        _add(
            table,
            str(r.index),
            projection.text if projection else "",
            f"{projection.gap:.3f}" if projection else "",
            _slots(r.clues.gradient),
            _slots(r.clues.displacement),
            confusions,
        )
    return table


def runs_table(summaries: Sequence[RunSummary], folder: Path) -> Group:
    """Return the runs of a folder, a line each, and below them what is wrong with those that cannot be read."""
    table = Table(title=shown(f"Runs in {folder}"), title_justify="left")
    for name in ("run", "created", "status", "rounds", "best select loss", "best accuracy", "steps", "mentor calls"):
        table.add_column(name)
    for s in summaries:
        if s.problem:
            _add(table, s.name, "", shown("cannot be read", style="red"), "", "", "", "", "")
            continue
        _add(
            table,
            s.name,
            s.created[:19].replace("T", " "),
            s.status,
            str(s.rounds_done),
            "" if s.best_loss is None else f"{s.best_loss:.3f}",
            "" if s.best_accuracy is None else f"{s.best_accuracy:.3f}",
            str(s.cost.gradient_steps),
            str(s.cost.llm_calls),
        )
    return Group(table, *(shown(f"{s.name}: {s.problem}", style="red") for s in summaries if s.problem))


def shown(text: str, style: str = "") -> Text:
    """Return a line of text for a person to read; whatever came from outside is shown, and not obeyed by the terminal.

    Example:
        >>> shown("label \x1b[2J[red]").plain
        'label �[2J[red]'
    """
    return Text(printable(text.replace("\n", " ")), style=style)


def _add(table: Table, *cells: str | Text, style: str | None = None) -> None:
    """Add a row of plain text: a proposal or a label may hold brackets, which are no markup."""
    table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), style=style)


def _slots(slots: Sequence[Sequence[Any]]) -> str:
    return " | ".join(slot[0].text for slot in slots if slot)


def _columns(score: Score | None) -> tuple[str, str]:
    if score is None:
        return "", ""
    return f"{score.loss:.3f}", "" if score.accuracy is None else f"{score.accuracy:.3f}"


def _score(score: Score) -> str:
    accuracy = "" if score.accuracy is None else f", accuracy {score.accuracy:.3f}"
    return f"loss {score.loss:.3f}{accuracy}"


def _short(text: str, length: int = 80) -> str:
    line = printable_line(text)
    return line if len(line) <= length else line[: length - 1] + "…"
