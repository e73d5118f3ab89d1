"""A stage that remembers how walks began: runs that begin alike compute their common beginning once.

Steps are functions of the problem and the state, so what is remembered is what would be computed again, bit for bit, and it is counted as
if it had been. Only steps before a walk's first restart are remembered: after it, runs differ.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Generic

from maao.protocols import GradientStage, Problem
from maao.types import Observation, P, S

MOST = 4096  # steps that are remembered; a state is some copies of the params


@dataclass(frozen=True)
class Remembered(Generic[P, S]):
    """`stage`, with `steps` made before.

    Args:
        steps: what was made, by a name of where it began; shared between runs.
        run: names all that a step depends on beside the state: data, model, the stage's settings.
        digest: names a state.
    """

    stage: GradientStage[P, S]
    steps: MutableMapping[str, tuple[S, Observation[P]]]
    run: str
    digest: Callable[[S], str]

    def init(self, problem: Problem[P], params: P, *, seed: int) -> S:
        return self.stage.init(problem, params, seed=seed)

    def step(self, problem: Problem[P], state: S, *, keep: bool = False) -> tuple[S, Observation[P]]:
        if state.age != state.step:  # it was restarted
            return self.stage.step(problem, state, keep=keep)
        name = f"{self.run} {keep} {self.digest(state)}"
        made = self.steps.get(name)
        if made is None:
            made = self.stage.step(problem, state, keep=keep)
            if len(self.steps) >= MOST:
                self.steps.clear()
            self.steps[name] = made
        return made

    def restart(self, state: S, params: P, *, seed: int) -> S:
        return self.stage.restart(state, params, seed=seed)
