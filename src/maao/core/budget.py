"""Hard caps, and where each is kept.

* gradient steps: the plan is cut before it starts, counting what judging proposals may walk at most (`cut`);
* calls, tokens, money: a chat model that wraps another refuses the call that could pass a cap (`maao.llm.budget`);
* seconds: looked at between legs (`until`).

What a search for the learning rate may take is taken off the gradient steps, and its time off the seconds, before the first leg. Ending a
run because it brings nothing new is `patience.py`.

A cap ends a run cleanly, with what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from maao.core.plan import Plan
from maao.errors import ConfigError
from maao.protocols import Acceptance
from maao.types import P, Round, S


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


def until(rounds: Iterable[Round[P, S]], seconds: float | None, spent: float = 0.0) -> Iterator[Round[P, S]]:
    """Yield rounds until they have taken `seconds` together (`spent` of them before); the clock is looked at between legs."""
    if seconds is not None and spent >= seconds:
        return
    for finished in rounds:
        yield finished
        spent += finished.cost.seconds
        if seconds is not None and spent >= seconds:
            return
