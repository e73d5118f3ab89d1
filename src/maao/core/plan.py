"""Plans: the legs of a run, in order. A plan is a tuple of `Leg`, known before the run starts.

A leg is the unit of storing, so a long walk is several legs of which only the first asks: a stop loses at most one leg.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field

from maao.errors import ConfigError
from maao.options import MANY, Section
from maao.types import Leg

Plan = tuple[Leg, ...]

MOST_LEGS = 100_000  # of a plan: each is a row on the disk, and is known before the run starts

UNTUNED = Leg(steps=0)  # round 0 of the usual plans: the starting point, scored and put into words before anything moves


def walk(steps: int, *, store_every: int = 0, ask: bool = False, proposals: int = 3, keep_every: int = 0) -> Plan:
    """Return the legs of one walk of `steps` gradient steps, stored every `store_every` (0: at its end).

    Example:
        >>> [leg.steps for leg in walk(25, store_every=10)]
        [10, 10, 5]
    """
    if steps < 1:
        raise ConfigError(f"A walk needs at least one gradient step, not {steps}: set `plan.steps` to 1 or more.")
    if store_every < 0 or proposals < 1:
        raise ConfigError(f"`store_every` must not be negative and `proposals` must be at least 1; got {store_every} and {proposals}.")
    chunk = store_every or steps
    _check_length(-(-steps // chunk))
    sizes = [min(chunk, steps - done) for done in range(0, steps, chunk)]
    return tuple(Leg(size, ask=ask and i == 0, proposals=proposals, keep_every=keep_every) for i, size in enumerate(sizes))


def rounds(
    count: int,
    *,
    steps: int,
    store_every: int = 0,
    proposals: int = 3,
    first: Literal["walk", "ask"] = "walk",
    keep_every: int = 0,
) -> Plan:
    """Return a plan that asks the mentor `count` times and walks `steps` gradient steps after each.

    With ``first="walk"`` (Algorithm 1) the doer walks once before the mentor is asked for the first time: ``count + 1`` walks. With
    ``first="ask"`` the mentor names the first starts as well: `count` walks. Round 0 takes no step; it measures the untuned point.

    Example:
        >>> [(leg.steps, leg.ask) for leg in rounds(2, steps=20, store_every=10)]
        [(0, False), (10, False), (10, False), (10, True), (10, False), (10, True), (10, False)]
    """
    if count < 0 or (count == 0 and first == "ask"):
        raise ConfigError(f"A plan cannot have {count} rounds: use 1 or more (or 0 with first='walk' for plain prompt tuning).")
    _check_length(count * -(-steps // (store_every or steps)) if steps > 0 and store_every >= 0 else count)
    asked = walk(steps, store_every=store_every, ask=True, proposals=proposals, keep_every=keep_every)
    opening = () if first == "ask" else walk(steps, store_every=store_every, keep_every=keep_every)
    return (UNTUNED, *opening, *asked * count)


def after_epochs(ask_after: Collection[int], *, epochs: int, steps_per_epoch: int, proposals: int = 3, keep_every: int = 0) -> Plan:
    """Return the schedule of the reference release: one leg an epoch, the mentor asked after the epochs named, then a long tail.

    Example:
        >>> [leg.ask for leg in after_epochs((0, 1, 2), epochs=6, steps_per_epoch=35)]
        [False, True, True, True, False, False]
    """
    if epochs < 1 or steps_per_epoch < 1:
        raise ConfigError(f"A schedule needs at least one epoch of one step; got {epochs} epochs of {steps_per_epoch} steps.")
    _check_length(epochs)
    late = [epoch for epoch in ask_after if not 0 <= epoch < epochs - 1]
    if late:
        raise ConfigError(f"The mentor cannot be asked after epochs {late}: with {epochs} epochs, name epochs 0 to {epochs - 2}.")
    return tuple(Leg(steps_per_epoch, ask=epoch - 1 in ask_after, proposals=proposals, keep_every=keep_every) for epoch in range(epochs))


def _check_length(legs: int) -> None:
    if legs > MOST_LEGS:
        raise ConfigError(
            f"A plan of {legs:,} legs is more than the {MOST_LEGS:,} that a run may have: lower `plan.rounds` or `plan.epochs`, or store "
            "less often (`plan.store_every`). To end a run early use `plan.patience` or `budget.seconds`."
        )


# -- as sections of a config


class PlanOptions(Section):
    """Settings that every kind of plan reads."""

    clues: bool = Field(
        True, description="Say in words where each leg ended; without it rounds are cheaper, and no mentor can read a walk."
    )
    patience: int = Field(
        0, ge=0, le=MANY, description="End after so many legs without a new best on select; not before the mentor's turn. 0: never."
    )
    min_delta: float = Field(0.0, ge=0, le=1e30, description="Loss by which a new best must be lower (patience).")

    def unread(self) -> dict[str, str]:
        return {} if self.patience else {"min_delta": "there is no plan.patience: set it, or drop it"}

    def build(self, steps_per_epoch: int) -> Plan:
        raise NotImplementedError


class RoundsOptions(PlanOptions):
    """Settings of `rounds`."""

    rounds: int = Field(3, ge=0, le=MANY, description="How often the mentor is asked.")
    steps: int = Field(30, ge=1, le=MANY, description="Gradient steps of a walk.")
    store_every: int = Field(10, ge=0, le=MANY, description="A walk is stored, scored and told every so many steps.")
    proposals: int = Field(3, ge=1, le=10_000, description="Proposals asked for at a time.")
    first: Literal["walk", "ask"] = Field("walk", description="What a run begins with.")

    def build(self, steps_per_epoch: int) -> Plan:
        return rounds(self.rounds, steps=self.steps, store_every=self.store_every, proposals=self.proposals, first=self.first)


class EpochsOptions(PlanOptions):
    """Settings of `after_epochs`."""

    epochs: int = Field(10, ge=1, le=MANY, description="Epochs in all.")
    ask_after: list[Annotated[int, Field(ge=0, le=MANY)]] = Field([0, 1, 2], description="The mentor is asked after these epochs.")
    proposals: int = Field(3, ge=1, le=10_000, description="Proposals asked for at a time.")

    def build(self, steps_per_epoch: int) -> Plan:
        return after_epochs(self.ask_after, epochs=self.epochs, steps_per_epoch=steps_per_epoch, proposals=self.proposals)


class LegOptions(Section):
    """One explicit leg of a plan."""

    steps: int = Field(ge=0, le=MANY, description="Gradient steps; 0 only measures.")
    ask: bool = Field(False, description="Ask the mentor before the leg starts.")
    proposals: int = Field(3, ge=1, le=10_000, description="Proposals asked for.")
    keep_every: int = Field(0, ge=0, le=MANY, description="Store the params of every n-th step; 0: of none.")


class LegsOptions(PlanOptions):
    """A plan of explicit legs."""

    legs: list[LegOptions] = Field(default_factory=list, description="The legs.")

    def build(self, steps_per_epoch: int) -> Plan:
        if not any(leg.steps for leg in self.legs):
            raise ConfigError("plan.kind = 'legs' needs at least one leg with a gradient step: write [[plan.legs]] sections.")
        return tuple(Leg(leg.steps, leg.ask, leg.proposals, leg.keep_every) for leg in self.legs)
