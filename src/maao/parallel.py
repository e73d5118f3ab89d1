"""Gradient steps by several processes together, each with its own copy of the frozen model and a part of every batch (data-parallel).

Process 0 runs everything: it alone reads the command line, asks the mentor, scores, and writes the run folder. The others follow it: they
build the same problem from the config that it sends, and compute their part of each batch that it steps on. `accelerate launch` or
`torchrun` starts them (docs/scale.md); a process that was started alone does all by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from maao.config import unread_sections
from maao.errors import ConfigError
from maao.problems.kinds import TextOptions
from maao.types import Clues, Observation, Score, Split, Splits

if TYPE_CHECKING:
    from torch import Tensor

    from maao.build import RunComponents
    from maao.optimizers.torch import TorchState
    from maao.protocols import GradientStage, Params, Problem
    from maao.types import JSON

PATIENCE = timedelta(days=7)  # how long followers wait: a mentor may be a person


_led: list[_Group] = []  # the processes that this one leads, within `lead`


def num_processes() -> int:
    """Return how many processes share the steps of runs here."""
    return _led[-1].share.count if _led else 1


@contextmanager
def lead() -> Iterator[None]:
    """Within this, the processes that a launcher started together share the steps of runs. Only process 0 ever gets inside.

    The others follow it until it leaves, and then end. A process that was started alone gets inside and shares nothing.

    Example:
        >>> with lead():
        ...     num_processes()
        1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    group = _Group()
    if group.share.rank:
        group.follow()
        raise SystemExit(0)
    _led.append(group)
    try:
        yield
    finally:
        _led.remove(group)
        group.tell(None)


class _Build(NamedTuple):
    """Build the problem of this config; the splits are examples at hand, or those that a run keeps."""

    config: JSON
    splits: Splits | None


class _Loss(NamedTuple):
    """Compute your part of a batch's loss and gradient."""

    params: dict[str, Tensor]
    trained: frozenset[str]
    step: int
    seed: int


_Told = _Build | _Loss | None  # None: it is over


class _Group:
    """The processes that were started together."""

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError as error:
            raise ConfigError('Several processes together need Accelerate: pip install "maao[accelerate]".') from error
        import torch

        on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        self._accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        from maao.problems.shares import Share

        self.share = Share(self._accelerator.process_index, self._accelerator.num_processes, self._sum)

    def tell(self, told: _Told) -> _Told:
        """Send from process 0 to all others; return what it sent."""
        from accelerate.utils import broadcast_object_list

        held = [told]
        broadcast_object_list(held, from_process=0)
        return held[0]

    def follow(self) -> None:
        """Compute this process's part of every batch that process 0 steps on, until that ends."""
        from maao.build import build
        from maao.config import make_config
        from maao.problems.shares import sharing

        problem: Problem[Params] | None = None
        while (told := self.tell(None)) is not None:
            if isinstance(told, _Build):
                problem = build(make_config(told.config, "process 0"), told.splits).problem
            elif problem is not None:
                params = {name: value.requires_grad_() if name in told.trained else value for name, value in told.params.items()}
                with sharing(self.share):
                    problem.loss(params, problem.batch(told.step, told.seed))

    def _sum(self, flat: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(flat.to(self._accelerator.device), reduction="sum")
        return total.cpu()


def begin_together(parts: RunComponents, splits: Splits | None) -> None:
    """Let the processes that this one leads, if any, build the problem of the run that has these parts, to share its steps.

    Args:
        splits: what the run was built from in place of its config's data section; None: from that.

    Raises:
        ConfigError: its steps cannot be shared.
    """
    if num_processes() == 1:
        return
    if not isinstance(parts.config.model.kind.options, TextOptions) or parts.splits is None:
        raise ConfigError(
            "Several processes share the steps of models that read each text at every step (model.kind 'decoder', 'masked', "
            "'encoder_decoder' or 'head'). What reads features that are computed once has nothing to share: start it as one process."
        )
    if parts.config.model.kind.options.is_divided:
        raise ConfigError(
            "Processes that share steps hold the whole model each, and model.device_map divides one: start it as one process, or drop "
            "model.device_map."
        )
    values = parts.config.model_dump(mode="json", exclude=unread_sections(parts.config))
    _led[-1].tell(_Build(values, splits))


def shared_by_all(stage: GradientStage[Params, TorchState]) -> GradientStage[Params, TorchState]:
    """Return the stage whose steps all processes share; the stage itself where there is one process."""
    return stage if num_processes() == 1 else ByAll(stage)


@dataclass(frozen=True)
class ByAll:
    """`stage`, whose losses are computed by all processes. What it makes of them is its own."""

    stage: GradientStage[Params, TorchState]

    def init(self, problem: Problem[Params], params: Params, *, seed: int) -> TorchState:
        return self.stage.init(problem, params, seed=seed)

    def step(self, problem: Problem[Params], state: TorchState, *, keep: bool = False) -> tuple[TorchState, Observation[Params]]:
        return self.stage.step(_Shared(problem, state.step, state.seed), state, keep=keep)

    def restart(self, state: TorchState, params: Params, *, seed: int) -> TorchState:
        return self.stage.restart(state, params, seed=seed)


@dataclass(frozen=True)
class _Shared:
    """A problem at one step of a walk, whose loss all processes compute together."""

    problem: Problem[Params]
    at: int
    seed: int

    def initial(self, seed: int) -> Params:
        return self.problem.initial(seed)

    def batch(self, step: int, seed: int) -> object:
        return self.problem.batch(step, seed)

    def loss(self, params: Params, batch: object) -> Tensor:
        from maao.problems.shares import sharing

        trained = frozenset(name for name, value in params.items() if value.requires_grad)
        held = {name: value.detach().cpu() for name, value in params.items()}
        group = _led[-1]
        group.tell(_Loss(held, trained, self.at, self.seed))
        with sharing(group.share):
            return self.problem.loss(params, batch)

    def num_tokens(self, params: Params, batch: object) -> int:
        return self.problem.num_tokens(params, batch)

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        return self.problem.score(points, split)

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        return self.problem.clues(params, start=start, score=score)
