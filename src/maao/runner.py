"""A run is driven here: from its config to its end, on from where it stopped, or again on its recorded replies.

A run is a folder. Everything here drives the generator `alternate` and hands each finished round to the store; nothing is kept elsewhere.
(This module is not called `run`: once imported, it would stand in the place of the function `maao.run`.)
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, runtime_checkable

import numpy as np

from maao.bars import bars_for
from maao.baselines.at_end import compared, compared_where_chosen
from maao.build import RunComponents, build, build_stage
from maao.build_mentor import build_mentor
from maao.class_lines import has_lines
from maao.config import MENTOR, Config, unread_sections
from maao.core.averaging import close, is_closed, walked
from maao.core.budget import Clock, was_cut
from maao.core.loop import alternate, best_round
from maao.core.lr_finder import LR_GRID, LR_SEARCH, LrSearch, Trial, try_rates
from maao.core.patience import is_settled, last_best, until_settled
from maao.core.plan import Plan
from maao.core.seeds import seed_for
from maao.data.folds import CROSS_VALIDATION
from maao.data.splits import known_parts
from maao.environment import environment, refuse_changed, refuse_other_code
from maao.errors import ConfigError, MaaoError, NotFinite, StoreError, Waiting
from maao.estimate import Estimate, caps_of, estimated
from maao.evaluation.undecided import choose_thresholds
from maao.llm.batch import replies_from
from maao.llm.budget import Caps
from maao.llm.chat import Reply, Request, request_from_json
from maao.llm.ledger import MemoryLedger, Wrapper
from maao.llm.secrets import variable_in
from maao.llm.sent import sent
from maao.mentors.built import BuiltMentor, OwnMentor
from maao.mentors.restarts_all import RestartsAll
from maao.optimizers.options import GradientOptions
from maao.optimizers.watched import Watched
from maao.origin import keep_seen, kept_apart
from maao.parallel import begin_together, num_processes, shared_by_all
from maao.printable import times
from maao.progress import Job, Listener, job, listening
from maao.protocols import ChatModel, GradientStage, Params
from maao.result import Result, gave_nothing
from maao.sharing import shared_stage
from maao.store.digest import params_digest, round_digest
from maao.store.mirror import Mirror, Mirroring, check_mirror
from maao.store.recorded import IN_RUN
from maao.store.run import ENVIRONMENT, RunFolder, check_vacant, claimed, read_json
from maao.stored_run import (
    config_of,
    keep_compared,
    keep_sent,
    keep_splits,
    keep_thresholds,
    kept_compared,
    kept_splits,
    kept_thresholds,
    open_run,
    recorded_in,
    torch_serializer,
)
from maao.tracking import Tracking
from maao.troubles import troubles_of_round
from maao.types import Cost, Observation, Splits, failed_calls, total_cost
from maao.waiting import counted, how_to_go_on, read_waits, record_beside

if TYPE_CHECKING:
    from maao.optimizers.torch import TorchState
    from maao.protocols import GradientStage, Params
    from maao.stored_run import Finished, Rounds, Stored


GIVEN = "given"  # in environment.json: a hash of the config as it was given, before anything was filled in


class Watch:
    """Told what happens while a run goes on. Does nothing; the terminal's bars are a child of it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def rate(self, trial: Trial) -> None:
        """A learning rate was tried, before the run starts."""

    def started(self, parts: RunComponents, asked: BuiltMentor, folder: Path, done: int) -> None: ...

    def step(self, observation: Observation[Params]) -> None: ...

    def call(self, request: Request) -> None: ...

    def round(self, finished: Finished) -> None: ...

    def testing(self) -> None: ...

    def note(self, told: str) -> None:
        """Something that a person should know, and that stops nothing."""
        logging.getLogger("maao").warning(told)


@runtime_checkable
class BeforePaying(Protocol):
    """A `Watch` that is asked before a run begins which may cost money."""

    def paying(self, estimate: Estimate, caps: Caps) -> None:
        """Return to let it begin; raise to keep it from that."""
        ...


def _before_paying(parts: RunComponents, watch: Watch, done: int) -> None:
    """Say what a run will ask of a model that may cost money, to whoever wants to know."""
    if isinstance(watch, BeforePaying):
        estimate = estimated(parts, done)
        if estimate is not None and not estimate.is_free:
            watch.paying(estimate, caps_of(parts.budget))


class NotifyingModel(Wrapper):
    """A chat model that says so before it is asked."""

    def __init__(self, model: ChatModel, on_call: Callable[[Request], None]) -> None:
        super().__init__(model)
        self.on_call = on_call

    def complete(self, request: Request) -> Reply:
        with job(f"asking {request.model}"):
            self.on_call(request)
            return self.model.complete(request)


@dataclass(frozen=True)
class Replay:
    """What a replay found: how many rounds are the same bit for bit, and how many model calls were made.

    `llm_calls` is 0 for maao's own mentors and for those that ask through `MentorContext.record`. Any other mentor of one's own or of a
    plugin is asked again; whom it asks then is not known: None. `warning` is that of the recorded run (see `Result.warning`).
    """

    rounds: int
    same: int
    llm_calls: int | None
    recorded: str
    replayed: str
    warning: str = ""

    @property
    def equal(self) -> bool:
        return self.same == self.rounds and self.recorded == self.replayed


def run(
    config: Config,
    folder: str | Path,
    *,
    splits: Splits | None = None,
    mentor: OwnMentor | None = None,
    watch: Watch | None = None,
    progress: bool | Listener | None = None,
) -> Result:
    """Run a config into a new folder; or go on with the run in it, if that waits for replies and was begun by the same call.

    With `stage.lr_grid`, the learning rate is searched first, once: the stored config holds the one that was chosen as `stage.lr`, the
    recorded environment what was tried and what it cost.

    Args:
        splits: examples at hand, in place of the config's data section; they are kept in the run folder.
        mentor: a mentor of your own, in place of the config's, or a function that makes one from a `MentorContext`, what it may use of
            the run (to resume such a run, pass it again). It reads no setting: the config has no [mentor] section, or names "custom".
        watch: told of rounds, steps and calls as they come.
        progress: True: bars of all that takes long, with the time that is left (on standard error, or in the notebook); a function: told
            of each change, as a `maao.Progress`; None: bars in a notebook, nothing elsewhere; False: nothing.

    Raises:
        Waiting: replies come as a file and are not there yet (docs/batch.md).
    """
    with listening(bars_for(progress)):
        return _run(config, folder, splits, mentor, watch or Watch())


def _run(config: Config, folder: str | Path, splits: Splits | None, mentor: OwnMentor | None, watch: Watch) -> Result:
    _refuse_keys(config)
    config.tracker.options.check()
    _check_mirror(config, Path(folder))
    splits = None if splits is None else _checked(splits)
    given = given_digest(config, splits)
    if _waits_at(Path(folder), given):
        return resume(folder, mentor=mentor, watch=watch, progress=False)
    if splits is not None:
        splits = splits if config.from_run is None else kept_apart(splits, config.from_run)
        judged = {"select": CROSS_VALIDATION} if splits.num_folds else {} if splits.is_unlabelled else {"select": None}
        config = config.model_copy(update={"data": config.data.with_options(source=IN_RUN, train=None, **judged)})
    if mentor is not None:
        config = _with_own_mentor(config)
    with suppress(OSError):  # what cannot be looked at is told when the folder is made
        check_vacant(Path(folder))  # before a model is loaded for nothing
    config.mentor.options.check_sending(config.model.speaker)
    with job("getting ready"):
        parts = build(config, splits)
        if parts.splits is not None and splits is not None and config.from_run is not None:
            kept_apart(parts.splits, config.from_run)  # example lines join examples at hand as the problem is built
        _check_undecided(parts)
        asked = build_mentor(parts, MemoryLedger(), own=mentor)  # what is wrong with it is said before a folder is made
    if any(leg.ask for leg in parts.plan):
        _before_paying(parts, watch, 0)
        asked.models.reach()
    with job("noting what the run depends on"):
        recorded = {**environment(parts), GIVEN: given}
    if config.stage.options.lr_grid:
        search = _search(parts, config.stage.options.lr_grid, watch, splits)
        _check_time_left(parts, search)
        parts = _at_rate(parts, search.chosen.rate)
        recorded = {**recorded, LR_SEARCH: search.to_json()}
    values = parts.config.model_dump(mode="json", exclude=unread_sections(parts.config))
    stored = RunFolder.create(folder, config=values, environment=recorded, serializer=torch_serializer())
    with stored, replies_from(record_beside(stored.path)):
        if splits is not None:
            keep_splits(stored.path, splits)
        if parts.splits is not None:
            keep_seen(stored.path, parts.splits, parts.config.from_run)
        return _drive(stored, parts, *_mentor(stored, parts, mentor, watch), watch)


@contextmanager
def folder_for(folder: str | Path | None, parent: Path, name: str, config: Config, splits: Splits | None = None) -> Iterator[Path]:
    """Give the folder that was asked for; else the run of that name, numbered or not, that was begun with the same and waits for replies;
    else a free folder, which nobody else is given meanwhile."""
    if folder is not None:
        yield Path(folder)
        return
    given = given_digest(config, None if splits is None else _checked(splits))
    candidates = sorted((path for path in parent.glob(f"{glob.escape(name)}*") if path.is_dir()), key=lambda path: (len(path.name), path))
    waiting = next((path for path in candidates if _waits_at(path, given)), None)
    with free_folder(parent, name) if waiting is None else nullcontext(waiting) as place:
        yield place


def given_digest(config: Config, splits: Splits | None = None) -> str:
    """Return a hash of what a run is asked to be: its config as it was given, and examples at hand."""
    content = json.dumps(config.model_dump(mode="json", exclude={"tracker", "store"}), sort_keys=True) + (
        "" if splits is None else splits.digest
    )
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def was_given(folder: Path) -> str:
    """Return the hash of what a run was asked to be; "" for one that did not store it."""
    return str(read_json(folder, ENVIRONMENT).get(GIVEN, ""))


def _waits_at(folder: Path, given: str) -> bool:
    """Return whether a folder holds a run that was begun so, and waits for replies."""
    try:
        return read_waits(folder).stopped and was_given(folder) == given
    except MaaoError:  # whatever else is there is told where a run is to be made
        return False


def _refuse_keys(config: Config) -> None:
    """Refuse a config that holds a key: it is stored, and shown."""
    named = [variable for chat in config.mentor.options.chats for variable in chat.key_variables]
    held = variable_in(config.model_dump_json(exclude_unset=True), *named)
    if held:
        raise ConfigError(
            f"The config holds what the variable {held} holds (or 8 or more characters of it), and a config is stored: a key belongs into "
            "the variable alone."
        )


def _with_own_mentor(config: Config) -> Config:
    """Return a config whose mentor is one of the caller's own, which reads no setting."""
    given = config.mentor
    if given.name != "custom" and given != MENTOR.chosen():
        told = ", ".join(f"mentor.{key}" for key in ("name", *given.options.changed()))
        raise ConfigError(
            f"A mentor of your own takes the place of the config's, whose {told} would be ignored: drop its [mentor] section."
        )
    return config.model_copy(update={"mentor": MENTOR.chosen({"name": "custom"})})


def find_lr(
    config: Config, *, splits: Splits | None = None, watch: Watch | None = None, progress: bool | Listener | None = None
) -> LrSearch:
    """Try learning rates from a run's own beginning, without a run folder and without asking the mentor.

    Tries `stage.lr_grid`, or `LR_GRID` where it is empty: each rate walks `stage.lr_steps` steps and is scored on `select` where it ends.

    Raises:
        ConfigError: every rate diverged, or the budget does not reach.

    Example:
        >>> from maao.config import make_config
        >>> config = make_config({"problem": "function", "stage": {"lr_grid": [0.001, 0.1]}})
        >>> find_lr(config).chosen.rate
        0.1
    """
    if not isinstance(config.stage.options, GradientOptions):
        raise ConfigError(f"stage.kind is '{config.stage.name}', which has no learning rate to search for.")
    if not config.stage.options.lr_grid:
        config = config.model_copy(update={"stage": config.stage.with_options(lr_grid=list(LR_GRID))})
    with listening(bars_for(progress)):
        parts = build(config, None if splits is None else _checked(splits))
        search = _search(parts, config.stage.options.lr_grid, watch or Watch())
    search.chosen  # noqa: B018  (raises where there is none)
    return search


def resume(
    folder: str | Path,
    *,
    mentor: OwnMentor | None = None,
    mirror: str | None = None,
    watch: Watch | None = None,
    progress: bool | Listener | None = None,
) -> Result:
    """Go on with a run where its last finished round ended; a finished run is returned as it is. `progress`: as of `run`.

    Args:
        mirror: where the run is taken from if there is no folder here: the `store.mirror` that it was copied to.
    """
    if mirror is not None and not Path(folder).exists():
        Mirror(mirror, Path(folder).absolute().name).pull(Path(folder))
    with listening(bars_for(progress)), replies_from(record_beside(Path(folder))), open_run(folder, write=True) as stored:
        if stored.status == "finished":
            Mirroring(config_of(stored).store.mirror, stored.path, (watch or Watch()).note).copy()
            return Result(folder)
        _check_mentor(stored, mentor, "resume")
        watch = watch or Watch()
        with job("getting ready"):
            parts = rebuild(stored)
            asked, clock = _mentor(stored, parts, mentor, watch)
        _before_paying(parts, watch, len(stored.history()))
        asked.models.reach()  # where it cannot be asked, the run stays as it is
        stored.set_status("running")
        return _drive(stored, parts, asked, clock, watch)


def replay(
    folder: str | Path, *, mentor: OwnMentor | None = None, watch: Watch | None = None, progress: bool | Listener | None = None
) -> Replay:
    """Run again from the beginning on the recorded replies, without asking any model, and compare bit for bit.

    A mentor of your own, or of a plugin, is asked again: it makes no call either if it asks through `MentorContext.record` (see `Replay`).
    """
    with listening(bars_for(progress)), open_run(folder, write=False) as stored:
        history = stored.history()
        if not history:
            raise StoreError(f"The run {folder} has no finished round to replay.")
        _check_mentor(stored, mentor, "replay")
        with job("getting ready"):
            parts = rebuild(stored)
        legs = len(walked(history))
        if len(parts.plan) < legs:
            raise StoreError(f"{folder}/config.json plans {len(parts.plan)} legs, but {legs} rounds are stored: was it changed?")
        asked = build_mentor(parts, stored.ledger, own=mentor, replay=history)
        (watch or Watch()).started(parts, asked, stored.path, 0)
        begin_together(parts, kept_splits(stored.path, parts.config))
        again: Rounds = ()
        parts = replace(parts, plan=_as_walked(parts.plan, history))
        with job("walking again", _steps_left(parts)[0], "steps") as walking:
            for finished in _alternate(parts, asked, (), watch or Watch(), walking):
                again = (*again, finished)
                (watch or Watch()).round(finished)
        again += _closing(parts, again) if is_closed(history) else ()
        serializer = torch_serializer()
        digests = [(round_digest(a, serializer), round_digest(b, serializer)) for a, b in zip(history, again, strict=True)]
        same = next((i for i, (a, b) in enumerate(digests) if a != b), len(digests))
        recorded, replayed = (params_digest(h[-1].state.params, serializer) for h in (history, again))
        return Replay(len(history), same, asked.live_calls, recorded, replayed, gave_nothing(history, parts.config))


def free_folder(parent: Path, name: str) -> AbstractContextManager[Path]:
    """Give a folder of that name, numbered if it must be, in which there is nothing, and that no other process is given meanwhile.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, free_folder(Path(place), "demo") as one, free_folder(Path(place), "demo") as other:
        ...     one.name, other.name
        ('demo', 'demo-2')
    """
    name = name.encode()[:200].decode(errors="ignore")  # the longest that every file system takes, with a number behind it
    return claimed(parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))


# -- parts of it


class Patience(TypedDict):
    """When a run ends early (see `core/patience.py`)."""

    patience: int
    min_delta: float


def _mentor(stored: Stored, parts: RunComponents, own: OwnMentor | None, watch: Watch) -> tuple[BuiltMentor, Clock]:
    """Return the mentor, and the clock of the run's seconds that its calls keep to."""
    search = recorded_in(stored).get(LR_SEARCH)
    before = Cost() if search is None else LrSearch.from_json(search).cost
    clock = Clock(parts.budget.seconds, (before + total_cost(stored.history())).seconds)
    return build_mentor(parts, stored.ledger, own=own, clock=clock, wrap=lambda model: NotifyingModel(model, watch.call)), clock


def _as_walked(plan: Plan, history: Rounds) -> Plan:
    """Return the legs of a plan that were walked. The last is as it is on record where the time ended it, or else as it is planned."""
    legs = plan[: len(walked(history))]
    last = history[len(legs) - 1].leg if legs else None
    if last is None or not was_cut(last, legs[-1]):
        return legs
    return (*legs[:-1], replace(legs[-1], steps=min(last.steps, legs[-1].steps), unjudged=last.unjudged, tried=last.tried))


def _drive(stored: Stored, parts: RunComponents, asked: BuiltMentor, clock: Clock, watch: Watch) -> Result:
    """Go on with an open run to its end, storing each round as it ends."""
    history = stored.history()
    watch.started(parts, asked, stored.path, len(history))
    tracking = Tracking(parts.config.tracker.options.build, watch.note)
    tracking.start(parts, stored.path, stored.created, history)
    mirroring = Mirroring(parts.config.store.mirror, stored.path, watch.note)
    mirroring.copy()
    begin_together(parts, kept_splits(stored.path, parts.config))
    ended, walk_ended = "failed", ""
    try:
        if not is_closed(history):
            with job("walking", _steps_left(parts)[len(history)], "steps") as walking:
                rounds = _alternate(parts, asked, history, watch, walking, clock)
                try:
                    for finished in until_settled(rounds, parts.plan, history=history, **_patience(parts)):
                        stored.append(finished)
                        mirroring.copy()
                        tracking.round(finished)
                        watch.round(finished)
                        for trouble in troubles_of_round(finished, history):
                            watch.note(trouble.text)
                        history = (*history, finished)
                except NotFinite as error:
                    walk_ended = _walk_ended(history, error)
                    watch.note(walk_ended)
            for finished in _closing(parts, history):
                stored.append(finished)
                history = (*history, finished)
                tracking.round(finished)
                watch.round(finished)
        _choose_undecided(stored, parts, history)
        _read_test(stored, parts, history, watch)
        _keep_sent(stored, parts, asked)
        _check_stored(stored, history)
        stored.set_status("finished", _why_short(parts, history, walk_ended))
        ended = "finished"
        mirroring.copy()
    except KeyboardInterrupt:
        if ended != "finished":
            ended = "stopped"
            stored.set_status("stopped", "interrupted")
        raise
    except NotFinite as error:  # nothing is stored that could be used
        ended = "stopped"
        stored.set_status("stopped", str(error).rstrip("."))
        raise
    except Waiting:
        ended, count = "waiting", len(stored.ledger.awaited())
        stored.set_status("waiting", f"it waits for {counted(count)} (maao requests)")
        told = f"{stored.path} waits for {counted(count)}. Go on with:"
        raise Waiting(f"{told}\n{how_to_go_on(stored.path, f'maao resume {stored.path}')}", count) from None
    finally:  # a tracker is told last: where it hangs and is stopped, the run is whole
        if ended != "finished":
            _keep_sent_so_far(stored, parts, asked, watch)
        asked.models.close()
        tracking.finish(ended, history, stored.finals)
    return Result(stored.path, parts, history)


def _check_mirror(config: Config, folder: Path) -> None:
    """Refuse a mirror that cannot be used, or that holds another run of this name."""
    url = config.store.mirror
    if url is None:
        return
    check_mirror(url)
    with suppress(StoreError):  # a mirror out of reach is told as the run goes on, and stops nothing
        if Mirror(url, folder.absolute().name).holds_run():
            raise ConfigError(
                f"{url} holds a run of the name {folder.name!r} already. Go on with it: `maao resume {folder} --mirror {url}`; or give "
                "this one another folder (--run)."
            )


def _closing(parts: RunComponents, history: Rounds) -> Rounds:
    """Return the round that averages a run's walks; none where its rule keeps one walk, or there is only one."""
    rule = parts.config.accept.options
    if rule.keep == "winner":
        return ()
    uniform = rule.keep == "uniform"
    closing = close(parts.problem, parts.stage, history, members=rule.members, uniform=uniform, seed=parts.config.seed)
    return () if closing is None else (closing,)


def _patience(parts: RunComponents) -> Patience:
    return {"patience": parts.config.plan.options.patience, "min_delta": parts.config.plan.options.min_delta}


def _search(parts: RunComponents, rates: Sequence[float], watch: Watch, splits: Splits | None = None) -> LrSearch:
    """Try rates with the run's own stage, from its own beginning."""

    def stage_at(rate: float) -> GradientStage[Params, TorchState]:
        stage = build_stage(parts.config, parts.plan, parts.accept, parts.average_every, lr=rate)
        return Watched(shared_by_all(stage), tell)

    def tell(seen: Observation[Params]) -> None:
        if clock.is_up:
            raise ConfigError(
                f"The search for a learning rate took all of the budget of {parts.budget.seconds:g} seconds, and nothing was begun: raise "
                "`budget.seconds`, try fewer rates or steps (stage.lr_grid, stage.lr_steps), or set stage.lr."
            )
        trying.advance(note=f"loss {seen.loss:.3f}")

    begin_together(parts, splits)
    trials = []
    steps = parts.config.stage.options.lr_steps
    clock = Clock(parts.budget.seconds)
    clock.begin()
    with job("trying learning rates", steps * len(rates), "steps") as trying:
        for trial in try_rates(parts.problem, stage_at, rates, steps=steps, seed=parts.config.seed):
            trials.append(trial)
            watch.rate(trial)
            trying.advance(steps * len(trials) - trying.done)  # of one that diverged, the steps that it need not make
    return LrSearch(steps, tuple(trials))


def _check_time_left(parts: RunComponents, search: LrSearch) -> None:
    if parts.budget.seconds is not None and search.cost.seconds >= parts.budget.seconds:
        raise ConfigError(
            f"The search for a learning rate took {search.cost.seconds:.3g} seconds, all of the budget of {parts.budget.seconds:g}: raise "
            f"`budget.seconds`, or set stage.lr = {search.chosen.rate:g}, which it found, and leave stage.lr_grid out."
        )


def _at_rate(parts: RunComponents, rate: float) -> RunComponents:
    """Return a run's parts with another learning rate, in their config too. `lr_grid` stays: its steps count for the budget."""
    config = parts.config.model_copy(update={"stage": parts.config.stage.with_options(lr=rate)})
    return replace(parts, config=config, stage=build_stage(config, parts.plan, parts.accept, parts.average_every))


def _steps_left(parts: RunComponents) -> list[int]:
    """Return for each number of legs how many steps those behind it may take, with what judging may walk: a race may take fewer."""
    most = [leg.steps + (parts.accept.max_steps(leg.proposals) if leg.ask else 0) for leg in reversed(parts.plan)]
    return [*accumulate(most, initial=0)][::-1]


def _alternate(
    parts: RunComponents, asked: BuiltMentor, history: Rounds, watch: Watch, walking: Job, clock: Clock | None = None
) -> Iterator[Finished]:
    """Yield the rounds behind some. After each that was taken in, `walking` is told what is left: races may end early."""

    def seen(observation: Observation[Params]) -> None:
        walking.advance(note=f"loss {observation.loss:.3f}")
        watch.step(observation)

    stage = Watched(shared_by_all(shared_stage(parts)), seen)
    folds = 0 if parts.splits is None else parts.splits.num_folds
    mentor = RestartsAll(asked.mentor, folds) if folds else asked.mentor
    seed = parts.config.seed
    rounds = alternate(parts.problem, stage, mentor, plan=parts.plan, accept=parts.accept, seed=seed, history=history, clock=clock)
    left = _steps_left(parts)
    for finished in rounds:
        yield finished
        walking.advance(0, total=walking.done + left[finished.index + 1])


def _walk_ended(history: Rounds, error: NotFinite) -> str:
    """Say why a walk ends before its plan. Raises the error where nothing is stored that could be used."""
    if not any(r.score.is_unjudged or math.isfinite(r.score.loss) for r in history):
        raise error
    return f"its walk ended after round {len(history) - 1}: {str(error).rstrip('.')}; the best point that is stored is used"


def _why_short(parts: RunComponents, history: Rounds, walk_ended: str = "") -> str:
    """Say what was planned and did not come about: legs that a cap took away, calls that were not made or gave no reply."""
    if parts.splits is not None and parts.splits.is_unlabelled:
        taken = next((r.advice.proposals[r.verdict.chosen] for r in history if r.verdict.chosen is not None), None)
        walked_on = "the lines of data.lines were taken as they are" if parts.splits.lines else "nothing was tuned"
        lines = taken is not None and has_lines(taken.fields)
        asked = "the mentor's first lines were taken as they came" if lines else "the mentor's first proposal was taken as it came"
        did = walked_on if taken is None else asked
        return f"no label was given: {did}, and nothing could be checked"
    told = []
    averaged, history = is_closed(history), walked(history)
    if walk_ended:
        told.append(walk_ended)
    elif len(history) < len(parts.plan) and is_settled(tuple(history), parts.plan, **_patience(parts)):
        patience, best = parts.config.plan.options.patience, last_best(tuple(history), parts.config.plan.options.min_delta)
        legs = "a leg" if patience == 1 else f"{patience} legs"
        told.append(f"early stopping ended it after round {len(history) - 1}: {legs} without a new best on select since round {best}")
    elif ended := _time_told(history, parts.plan):
        told.append(f"the time budget of {parts.budget.seconds:g} seconds ended it {ended}")
    elif parts.plan_was_cut:
        told.append(f"the budget of {parts.config.budget.gradient_steps} gradient steps shortened its plan")
    failed = failed_calls(tuple(history))
    unmade = sum(failure.kind == "capped" for failure in failed)
    if unmade:
        told.append(f"the budget kept the mentor from being asked {times(unmade)}")
    if len(failed) > unmade:
        told.append(f"the mentor gave no reply {times(len(failed) - unmade)}")
    elif gave_nothing(history, parts.config):
        told.append("the mentor gave nothing usable")
    if parts.config.accept.options.keep != "winner" and not averaged:
        told.append("there were no two walks to average")
    return "; ".join(told)


def _time_told(history: Rounds, plan: Plan) -> str:
    """Say where the time ended a run; "": it did not."""
    if not history:
        return "before its first round"
    last = len(history) - 1
    leg, planned = history[last].leg, plan[last]
    if leg.unjudged:
        return f"in round {last}, before the mentor's proposals were judged"
    if was_cut(leg, planned):
        return f"in round {last}, after {leg.steps} of {planned.steps} steps"
    return f"after round {last}" if len(history) < len(plan) else ""


def _check_undecided(parts: RunComponents) -> None:
    """Refuse to leave anything undecided where no labelled example says what, before a run begins."""
    if parts.config.predict.asks and not parts.examples.judged:
        raise ConfigError("predict.coverage and predict.accuracy need labelled examples that choose, and there are none: drop them.")


def _choose_undecided(stored: Stored, parts: RunComponents, history: Rounds) -> None:
    """Choose what is left undecided, if anything is to be, by the examples that chose the point."""
    options = parts.config.predict
    if not options.asks or not history or kept_thresholds(stored.path) is not None:
        return
    ((score, class_scores),) = parts.problem.judged([best_round(history).state.params], "select")
    places = {label: i for i, label in enumerate(parts.examples.labels)}
    targets = np.array([places[example.label] for example in parts.examples.judged])
    keep_thresholds(stored.path, choose_thresholds(options, class_scores.numpy(), targets, score.cost))


def _read_test(stored: Stored, parts: RunComponents, history: Rounds, watch: Watch) -> None:
    """Read `test` once, for the declared points: the untuned prompt, the chosen soft prompt, its words; and baselines beside them.

    Without a `test`, baselines alone, where the run chose.
    """
    if parts.splits is None or not history:
        return
    if not parts.splits.test:
        if kept_compared(stored.path) is None:
            keep_compared(stored.path, compared_where_chosen(parts, total_cost(history).model_tokens))
        return
    done = {final.name for final in stored.finals()}
    watch.testing()
    with job("reading test"):
        _read_points(stored, parts, history, done)


def _read_points(stored: Stored, parts: RunComponents, history: Rounds, done: set[str]) -> None:
    problem, codec = parts.problem, parts.codec
    untuned = problem.initial(seed_for(parts.config.seed, "initial"))
    chosen = best_round(history)
    points = {"untuned": (untuned, codec.decode(untuned).text or ""), "chosen": (chosen.state.params, "")}
    alone = best_round(walked(history))
    if is_closed(history):
        points["best_walk"] = (alone.state.params, "")
    if alone.clues.projection is not None:
        words = alone.clues.projection.text
        points["words"] = ({**alone.state.params, **codec.encode(words).params}, words)
    sets = problem.transfer_sets
    further = {f"{name}, {point}": (where, params) for name, where in sets.items() for point, (params, _) in points.items()}
    with_baselines = kept_compared(stored.path) is None
    if done >= {*points, *further} and not with_baselines:
        return
    # All are scored, also where a stop left some recorded: scored with fewer, the others could differ in their last bits.
    read = dict(zip(points, problem.judged([params for params, _ in points.values()], "test"), strict=True))
    for name, (score, _) in read.items():
        if name not in done:
            stored.record_final(name, "test", score, points[name][1])
    for name, (where, params) in further.items():
        if name not in done:
            stored.record_final(name, "test", where.score([params], "test")[0], "")
    if with_baselines:
        keep_compared(stored.path, compared(parts, read["chosen"][1], read["untuned"][1], total_cost(history).model_tokens))


def _check_mentor(stored: Stored, mentor: OwnMentor | None, verb: str) -> None:
    """Refuse to go on with another mentor than the run began with."""
    name = config_of(stored).mentor.name
    if name == "custom" and mentor is None:
        raise ConfigError(
            f"The run {stored.path} has a mentor of your own: {verb} it from Python, with `maao.{verb}({str(stored.path)!r}, mentor=...)`."
        )
    if name != "custom" and mentor is not None:
        raise ConfigError(f"The run {stored.path} began with the mentor '{name}' of its config: {verb} it without a mentor of your own.")


def _keep_sent(stored: Stored, parts: RunComponents, asked: BuiltMentor) -> None:
    """Record what was sent to whom, and whether training text was in it, where a model was asked, whether it replied or not."""
    held = []
    for call in stored.ledger.calls():
        with suppress(ValueError):  # a call of an older maao that cannot be read: `maao show --calls` says so
            held.append((request_from_json(call.request), call.note))
    unanswered = stored.ledger.asked_in_vain()
    if held or unanswered:
        examples = () if parts.splits is None else parts.splits.train
        texts = (text for example in examples for text in example.fields.values())
        models = asked.models
        keep_sent(stored.path, sent(asked.disclosure, models.to, held, texts, leaves=models.leaves, unanswered=unanswered))


def _keep_sent_so_far(stored: Stored, parts: RunComponents, asked: BuiltMentor, watch: Watch) -> None:
    """Record what was sent, of a run that ends before its end; where that cannot be written, say so, and why it ends too."""
    try:
        _keep_sent(stored, parts, asked)
    except (MaaoError, OSError) as error:
        watch.note(f"What was sent could not be recorded: {error}")


def _check_stored(stored: Stored, history: Rounds) -> None:
    """Read the chosen prompt back from the disk and compare, before the run counts as done."""
    if not history:
        return
    serializer = torch_serializer()
    index = best_round(history).index
    read, held = stored.round(index), history[index]
    if params_digest(read.state.params, serializer) != params_digest(held.state.params, serializer):
        raise StoreError(f"The chosen prompt reads back from {stored.path} differently from what was tuned. Is the disk sound?")


def rebuild(stored: Stored) -> RunComponents:
    """Build a stored run's parts again, and make sure that they are the same."""
    config, recorded = config_of(stored), recorded_in(stored)
    threads = config.threads or recorded.get("threads")
    refuse_other_code(stored.path, recorded, config)
    parts = build(config.model_copy(update={"threads": threads}), kept_splits(stored.path, config))
    now = environment(parts)
    refuse_changed(stored.path, recorded, now)
    differences = [
        f"{name} {old} -> {now['packages'].get(name)}" for name, old in recorded["packages"].items() if now["packages"].get(name) != old
    ]
    began, here = recorded.get("processes", 1), num_processes()
    if began != here:
        parts = replace(
            parts, notes=(*parts.notes, f"it began with {began} processes and goes on with {here}; results may differ in the last bits")
        )
    notes = (f"versions differ from those the run began with: {', '.join(differences)}; results may differ in the last bits",)
    return replace(parts, notes=(*parts.notes, *notes)) if differences else parts


def _checked(splits: Splits) -> Splits:
    """Return examples at hand, checked, with the hash of what they hold, however they were made."""
    if splits.lines:
        raise ConfigError("Example lines come from a file: give splits without them, and name the file in data.lines.")
    checked = known_parts(splits.train, splits.select, splits.test, labels=splits.labels, folds=splits.folds)
    return replace(checked, notes=splits.notes)
