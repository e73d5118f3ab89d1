"""Hard caps, and where each is kept.

* gradient steps: the plan is cut before it starts, counting what judging proposals may walk at most (`cut`);
* calls, tokens, money: a chat model that wraps another refuses the call that could pass a cap (`maao.llm.budget`);
* seconds: a run's `Clock` is looked at before each step and each token of a call. What is cut is stored as far as it came.

What a search for the learning rate may take is taken off the gradient steps, and its time off the seconds, before the first leg. Ending a
run because it brings nothing new is `patience.py`.

A cap ends a run cleanly, with what it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Generic

from maao.core.plan import Plan
from maao.errors import ConfigError
from maao.protocols import Acceptance, GradientStage, Problem
from maao.types import Leg, Observation, P, S


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a run may spend; None means no cap."""

    gradient_steps: int | None = None
    llm_calls: int | None = None
    llm_tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                remedy = "choose the mentor 'none'" if name.startswith(("llm", "usd")) else "leave it out for no cap"
                raise ConfigError(f"A budget of {value} {name} leaves nothing to do: give a number above zero, or {remedy}.")


def cut(plan: Plan, gradient_steps: int | None, accept: Acceptance[P, S]) -> Plan:
    """Return the longest beginning of a plan that can never pass `gradient_steps`; the last leg may be shortened.

    What an acceptance rule may walk to judge proposals counts in full, since it is not known beforehand how many will come.
    """
    if gradient_steps is None:
        return plan
    kept, left = [], gradient_steps
    for leg in plan:
        left -= accept.max_steps(leg.proposals) if leg.ask else 0
        if left < 0 or (left == 0 and leg.steps > 0):
            break
        kept.append(replace(leg, steps=min(leg.steps, left)))
        left -= leg.steps
        if left < 0:
            break
    if not any(leg.steps for leg in kept):
        raise ConfigError(
            f"A budget of {gradient_steps} gradient steps (what a search for the learning rate may take is off it already) does not reach "
            "the first step of the plan. Raise `budget.gradient_steps`."
        )
    return tuple(kept)


class Clock:
    """The seconds of a run: what its rounds took, and the one that is going on. None: there is no cap.

    What a round took is stored with it, so that a run that goes on knows what is left. A round in which the time runs out ends at the next
    step, is stored as far as it came, and takes all that was left: the run ends behind it, also where it is killed before it says so.

    Args:
        seconds: the most seconds of all rounds together.
        spent: those that were spent before.
        now: gives the time, in seconds from any moment.

    Example:
        >>> times = iter([100.0, 103.0, 111.0])
        >>> clock = Clock(10.0, 1.0, now=lambda: next(times))
        >>> _ = clock.begin()
        >>> clock.left(), clock.left()
        (6.0, -2.0)
    """

    def __init__(self, seconds: float | None = None, spent: float = 0.0, *, now: Callable[[], float] = perf_counter) -> None:
        self.seconds, self.spent, self._now = seconds, spent, now
        self._began: float | None = None

    @property
    def has_cap(self) -> bool:
        return self.seconds is not None

    def begin(self) -> float:
        """A round begins; return the time."""
        self._began = self._now()
        return self._began

    def end(self) -> float:
        """A round ends; return the seconds that it took."""
        assert self._began is not None, "no round was begun"
        taken = self._now() - self._began
        self._began = None
        self.spent += taken
        return taken

    def left(self) -> float:
        """Return the seconds that are left: none or less where the time is up, infinity where there is no cap."""
        if self.seconds is None:
            return math.inf
        return self.seconds - self.spent - (0.0 if self._began is None else self._now() - self._began)

    @property
    def is_up(self) -> bool:
        return self.left() <= 0


def was_cut(leg: Leg, planned: Leg) -> bool:
    """Return whether the time ended a stored leg before it was as far as planned.

    Example:
        >>> was_cut(Leg(4), Leg(10)), was_cut(Leg(10), Leg(10))
        (True, False)
    """
    return leg.unjudged or leg.steps < planned.steps


class TimeIsUp(Exception):
    """A step was not made, since the seconds of the run are spent. It does not leave the loop."""


@dataclass(frozen=True)
class InTime(Generic[P, S]):
    """`stage`, which makes no step once the time is up, but raises `TimeIsUp`."""

    stage: GradientStage[P, S]
    clock: Clock

    def init(self, problem: Problem[P], params: P, *, seed: int) -> S:
        return self.stage.init(problem, params, seed=seed)

    def step(self, problem: Problem[P], state: S, *, keep: bool = False) -> tuple[S, Observation[P]]:
        if self.clock.is_up:
            raise TimeIsUp
        return self.stage.step(problem, state, keep=keep)

    def restart(self, state: S, params: P, *, seed: int) -> S:
        return self.stage.restart(state, params, seed=seed)
