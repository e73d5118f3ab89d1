"""A stage that tells of every step it makes, for progress bars. It changes nothing: a wrapper is a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from maao.protocols import GradientStage, Problem
from maao.types import Observation, P, S


@dataclass(frozen=True)
class Watched(Generic[P, S]):
    """`stage`, with `on_step` called after each step."""

    stage: GradientStage[P, S]
    on_step: Callable[[Observation[P]], None]

    def init(self, problem: Problem[P], params: P, *, seed: int) -> S:
        return self.stage.init(problem, params, seed=seed)

    def step(self, problem: Problem[P], state: S, *, keep: bool = False) -> tuple[S, Observation[P]]:
        state, observation = self.stage.step(problem, state, keep=keep)
        self.on_step(observation)
        return state, observation

    def restart(self, state: S, params: P, *, seed: int) -> S:
        return self.stage.restart(state, params, seed=seed)
