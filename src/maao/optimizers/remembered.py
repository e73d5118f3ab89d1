"""A stage that remembers how walks began: runs that begin alike compute their common beginning once.

Steps are functions of the problem and the state, so what is remembered is what would be computed again, bit for bit, and it is counted as
if it had been. Steps after a walk's first restart, in which runs differ, are remembered only for a run that is walked again.
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
        restarted: the same of steps after a restart; None: they are not remembered.
    """

    stage: GradientStage[P, S]
    steps: MutableMapping[str, tuple[S, Observation[P]]]
    run: str
    digest: Callable[[S], str]
    restarted: MutableMapping[str, tuple[S, Observation[P]]] | None = None

    def init(self, problem: Problem[P], params: P, *, seed: int) -> S:
        return self.stage.init(problem, params, seed=seed)

    def step(self, problem: Problem[P], state: S, *, keep: bool = False) -> tuple[S, Observation[P]]:
        steps = self.steps if state.age == state.step else self.restarted
        if steps is None:
            return self.stage.step(problem, state, keep=keep)
        name = f"{self.run} {keep} {self.digest(state)}"
        made = steps.get(name)
        if made is None:
            made = self.stage.step(problem, state, keep=keep)
            if len(steps) >= MOST:
                steps.clear()
            steps[name] = made
        return made

    def restart(self, state: S, params: P, *, seed: int) -> S:
        return self.stage.restart(state, params, seed=seed)
