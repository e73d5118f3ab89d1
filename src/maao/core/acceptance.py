"""What becomes of a mentor's proposals: one small rule a class, all pure, all comparing losses on `select` (lower is better).

A rule is given the state to fall back on and the proposals, and returns a `Verdict`. A score that is not a number never wins. Ties go to
the incumbent, then to the earlier proposal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from maao.core.alone import NONE_LEFT, judged_alone
from maao.core.blending import between
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.errors import ConfigError, ProblemError
from maao.options import MANY, Chosen, Section
from maao.protocols import Acceptance, GradientStage, History, Problem, Proposals
from maao.types import Considered, Cost, P, Proposal, S, Score, Verdict


def keep(state: S, reason: str = "", *, considered: tuple[Considered[P], ...] = (), cost: Cost | None = None) -> Verdict[S]:
    """Return the verdict that changes nothing."""
    return Verdict(state, None, considered, reason, cost or Cost())


def _loss(considered: Considered[P]) -> float:
    return considered.score.rank


def _spent(scores: Sequence[Score]) -> Cost:
    return sum((score.cost for score in scores), Cost())


def _full(incumbent: Any, proposal: Proposal[Any]) -> Any:
    """Return the whole params of a proposal: those it names, the incumbent's for the rest."""
    return {**incumbent, **proposal.params} if isinstance(incumbent, dict) else proposal.params


@dataclass(frozen=True, slots=True)
class AlwaysFirst:
    """Restart from the first proposal, unscored, unconditionally: the rule of the reference release."""

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]:
        if not proposals:
            return keep(state, "no proposal to judge")
        return Verdict(stage.restart(state, proposals[0].params, seed=seed), 0, reason="the first proposal, taken unscored")

    def max_steps(self, proposals: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class BestOf:
    """Restart from the proposal with the lowest loss on `select` before any walking; the incumbent is given up."""

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]:
        if not proposals:
            return keep(state, "no proposal to judge")
        scores = score_all(problem, [_full(state.params, proposal) for proposal in proposals], "select")
        considered: tuple[Considered[P], ...] = tuple(Considered(i, score) for i, score in enumerate(scores))
        best = min(range(len(proposals)), key=lambda i: _loss(considered[i]))
        if _loss(considered[best]) == math.inf:
            return keep(state, "no proposal has a finite loss", considered=considered, cost=_spent(scores))
        reason = f"the best of {len(proposals)}: loss {scores[best].loss:.3f}"
        return Verdict(stage.restart(state, proposals[best].params, seed=seed), best, considered, reason, _spent(scores))

    def max_steps(self, proposals: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class IfBetter:
    """Restart from the best proposal only if its un-walked loss on `select` is below the incumbent's.

    An un-walked loss says little about where a walk leads: this rule throws good starts away. It never loses ground.
    """

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]:
        if not proposals:
            return keep(state, "no proposal to judge")
        known = history[-1].score if history else None
        own = known or score_all(problem, [state.params], "select")[0]
        incumbent: Considered[P] = Considered(None, own, state.age)
        best = BestOf()(problem, stage, history, state, proposals, seed=seed)
        cost = best.cost if known else best.cost + own.cost
        considered = (incumbent, *best.considered)
        if best.chosen is None or _loss(best.considered[best.chosen]) >= _loss(incumbent):
            lowest = min(_loss(c) for c in best.considered)
            return keep(state, f"kept: the incumbent's loss {own.loss:.3f} is not above {lowest:.3f}", considered=considered, cost=cost)
        won = best.considered[best.chosen].score.loss
        return Verdict(best.state, best.chosen, considered, f"better: loss {won:.3f} below the incumbent's {own.loss:.3f}", cost)

    def max_steps(self, proposals: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Interpolate:
    """Move only part of the way: blend every proposal with the incumbent, then let another rule judge the blends.

    ``params = (1 - weight) * incumbent + weight * proposal``: a restart keeps part of the ground that was won. What is scored is the blend,
    and the record says so. Params that are a network's weights are not blended so: `blend` is that of a run's codec, which knows how what
    is read follows from them.
    """

    weight: float = 0.5
    rule: Acceptance[Any, Any] = field(default_factory=BestOf)
    blend: Callable[[Any, Any, float], Any] = field(default=between, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.weight <= 1.0:
            raise ConfigError(f"`accept.weight` must lie in (0, 1]; got {self.weight}. 1 is the proposal itself.")

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]:
        blended = [replace(proposal, params=self.blend(state.params, proposal.params, self.weight)) for proposal in proposals]
        verdict: Verdict[S] = self.rule(problem, stage, history, state, blended, seed=seed)
        considered = tuple(c if c.proposal is None else replace(c, weight=self.weight * c.weight) for c in verdict.considered)
        way = "" if verdict.chosen is None else f", {self.weight:g} of the way from the incumbent"
        return replace(verdict, considered=considered, reason=f"{verdict.reason}{way}")

    def max_steps(self, proposals: int) -> int:
        return self.rule.max_steps(proposals)


def _always(params: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Race:
    """Let every candidate walk a little and go on with the best, compared at **equal age**.

    Each proposal walks `steps` gradient steps and is scored. The incumbent is judged by its score at that very age: the one recorded
    then; where none was, its walk is walked again from the last stored point before that age, to the same bits, and counted. One that is
    younger walks on until it is as old, and goes on from there. A young walk would lose to an old one whatever its promise, so the
    incumbent's present score takes no part. What a proposal does not name (a head, say) begins where the incumbent's own walk began,
    not where it has got since. With `margin` > 0 a proposal must win by so much loss, with `share` > 0 by that share of the incumbent's,
    if `asks_share` of the incumbent's params.

    With `alone` > 0, and where `asks_share` of the incumbent, a proposal with class lines must first win after so many steps where no label
    trains, against what is there without it (`core/alone.py`); one that does not is not raced.

    At each age in `rungs` the worse half of the proposals drops out (successive halving): more starts are tried in as many steps. Each
    of these scores is a look at `select`, and is on record with its age.

    With `keep_walks` the verdict holds the points that were scored, so that no walk is lost (`core/averaging.py`).

    Source: successive halving, Jamieson and Talwalkar, Non-stochastic Best Arm Identification, AISTATS 2016.
    """

    steps: int = 10
    margin: float = 0.0
    rungs: tuple[int, ...] = ()
    keep_walks: bool = False
    share: float = 0.0
    asks_share: Callable[[Any], bool] = field(default=_always, repr=False, compare=False)
    alone: int = 0

    def __post_init__(self) -> None:
        if list(self.rungs) != sorted({rung for rung in self.rungs if 0 <= rung < self.steps}):
            raise ConfigError(f"`accept.rungs` are ages in rising order, below `accept.steps` = {self.steps}; got {list(self.rungs)}.")
        if self.steps < 1 or self.margin < 0:
            raise ConfigError(
                f"A race needs `accept.steps` of at least 1 and a `margin` of at least 0; got {self.steps} and {self.margin}."
            )

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]:
        if not proposals:
            return keep(state, "no proposal to judge")
        if self.alone and self.asks_share(state.params):
            apart = judged_alone(problem, stage, proposals, self.alone, seed=seed)
            able = [proposals[i] for i in apart.left]
            verdict = replace(self, alone=0)(problem, stage, history, state, able, seed=seed) if able else keep(state, NONE_LEFT)
            return apart.of_all(verdict)
        cost, notes = Cost(), []
        recorded = next((c for c in scores_by_age(history) if c.age == self.steps), None)
        own_end = state
        if recorded is None:
            young = self.last_before(history, state)
            own_end, cost, seen = self._walk(problem, stage, young, self.steps - young.age)
            if young is state:
                state, notes = own_end, [f"incumbent, {note}" for note in seen]
        walked = {i: stage.restart(state, _full(state.start, p), seed=seed_for(seed, i)) for i, p in enumerate(proposals)}
        halved: list[Considered[P]] = []
        for begin, end in pairwise((0, *self.rungs, self.steps)):
            for i, at in list(walked.items()):
                try:
                    walked[i], spent, seen = self._walk(problem, stage, at, end - begin)
                except ProblemError as error:  # no step can be made from there: it is out of the race, the run goes on
                    del walked[i]
                    cost += Cost(gradient_steps=1)
                    notes += [f"proposal {i} is out: {error}"]
                    continue
                cost += spent
                notes += [f"proposal {i}, {note}" for note in seen]
            if end < self.steps and len(walked) > 1:
                scored = score_all(problem, [at.params for at in walked.values()], "select")
                cost += _spent(scored)
                here = [self._seen(i, score, walked[i]) for i, score in zip(walked, scored, strict=True)]
                halved += here
                left = {c.proposal for c in sorted(here, key=_loss)[: (len(here) + 1) // 2]}
                walked = {i: at for i, at in walked.items() if i in left}
        # In one call, the incumbent too where it has walked: so that equal ends have equal scores, whatever is shared.
        ends = [*([] if recorded else [own_end]), *walked.values()]
        scores = iter(score_all(problem, [end.params for end in ends], "select"))
        own = recorded or self._seen(None, next(scores), own_end)
        ended = [self._seen(i, score, walked[i]) for i, score in zip(walked, scores, strict=True)]
        considered = [own, *halved, *ended]
        cost += _spent([c.score for c in (ended if recorded else [own, *ended])])
        beside = "".join(f"; {note}" for note in notes)
        if not walked:
            return keep(state, f"no proposal can be walked from{beside}", considered=tuple(considered), cost=cost)
        best = min(ended, key=_loss)
        assert best.proposal is not None
        told = f"incumbent {own.score.loss:.3f} at age {own.age}, best proposal {best.score.loss:.3f} at age {best.age}{beside}"
        share = self.share if self.asks_share(state.params) else 0.0
        if _loss(best) >= _loss(own) - self._to_win(own, share):
            return keep(state, f"kept: {told}", considered=tuple(considered), cost=cost)
        return Verdict(walked[best.proposal], best.proposal, tuple(considered), f"won: {told}", cost)

    def _to_win(self, own: Considered[P], share: float) -> float:
        """Return the loss by which a proposal must win against an incumbent of such a score."""
        return max(self.margin, share * own.score.loss if math.isfinite(own.score.loss) else 0.0)

    def max_steps(self, proposals: int) -> int:
        if self.alone:  # each proposal by itself, and beside each what is there without it
            return replace(self, alone=0).max_steps(proposals) + 2 * proposals * self.alone
        most, left = self.steps, proposals
        for begin, end in pairwise((0, *self.rungs, self.steps)):
            most += left * (end - begin)
            left = (left + 1) // 2
        return most

    def _seen(self, proposal: int | None, score: Score, at: S) -> Considered[Any]:
        """Return what is on record of a point that was scored."""
        return Considered(proposal, score, at.age, params=at.params if self.keep_walks else None)

    def last_before(self, history: History[P, S], state: S) -> S:
        """Return the last point of the present walk, stored or at hand, that is not older than the race."""
        stored = [held for r in history[_since(history) :] for held in (r.verdict.state, r.state)]
        found = [held for held in (*stored, state) if held.age <= self.steps]
        if not found:
            raise ProblemError(
                f"The incumbent is {state.age} gradient steps old, and no point of its walk is stored that is {self.steps} or younger: its "
                "score at that age cannot be found. Give the race the history of the run."
            )
        return max(reversed(found), key=lambda held: held.age)

    @staticmethod
    def _walk(problem: Problem[P], stage: GradientStage[P, S], state: S, steps: int) -> tuple[S, Cost, list[str]]:
        """Return where a walk ends, what it cost, and what happened on the way that a reader should know."""
        cost, notes = Cost(), []
        for _ in range(steps):
            state, observation = stage.step(problem, state)
            cost += observation.cost
            if observation.note:
                notes.append(f"step {observation.step}: {observation.note}")
        return state, cost, notes


def race_in(rule: Acceptance[Any, Any]) -> Race | None:
    """Return the race that judges proposals, or blends with them; None: none does.

    Example:
        >>> race_in(Interpolate(rule=Race(3))), race_in(BestOf())
        (Race(steps=3, margin=0.0, rungs=(), keep_walks=False, share=0.0, alone=0), None)
    """
    if isinstance(rule, Interpolate):
        return race_in(rule.rule)
    return rule if isinstance(rule, Race) else None


def scores_by_age(history: History[P, S]) -> list[Considered[P]]:
    """Return the recorded scores of the present walk, from its last restart on, each with its age."""
    found = list[Considered[P]]()
    for r in history[_since(history) :]:
        own = [c for c in r.verdict.considered if c.proposal == r.verdict.chosen]
        found += [Considered(None, c.score, c.age) for c in own]
        found.append(Considered(None, r.score, r.state.age))
    return found


def _since(history: History[P, S]) -> int:
    """Return the round in which the present walk began."""
    return next((r.index for r in reversed(history) if r.verdict.chosen is not None), 0)


# -- as sections of a config


class AcceptOptions(Section):
    """Settings of a rule; those of a plugin are a child of this too."""

    keep: Literal["winner", "average", "uniform"] = Field(
        "winner",
        description="What is reported at the end: the point with the lowest loss on select; or an average of all that was walked, as "
        "select picks its members, or uniformly.",
    )
    members: int = Field(
        12, ge=2, le=1000, description="Members of an average: a walk may be picked again; uniform: the best walks, at most so many."
    )

    def unread(self) -> dict[str, str]:
        return {} if self.keep != "winner" else {"members": "accept.keep is 'winner', which averages nothing: drop it"}

    def build(self) -> Acceptance[Any, Any]:
        raise NotImplementedError


class AlwaysFirstOptions(AcceptOptions):
    """`AlwaysFirst` reads no setting."""

    def build(self) -> AlwaysFirst:
        return AlwaysFirst()


class BestOfOptions(AcceptOptions):
    """`BestOf` reads no setting."""

    def build(self) -> BestOf:
        return BestOf()


class IfBetterOptions(AcceptOptions):
    """`IfBetter` reads no setting."""

    def build(self) -> IfBetter:
        return IfBetter()


class RaceOptions(AcceptOptions):
    """Settings of `Race`."""

    steps: int = Field(10, ge=1, le=MANY, description="How far candidates walk.")
    margin: float = Field(0.0, ge=0, le=1e6, description="Loss by which a candidate must win.")
    margin_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="The same as a share of the incumbent's loss, of one label a class in cross-validation; of k labels, a k-th. "
        "Not asked against an incumbent that has class lines.",
    )
    alone: int = Field(
        0,
        ge=0,
        le=MANY,
        description="Steps that class lines walk without any label, after which they must win too, in cross-validation; then each counts "
        "whole, and not by how far the model believes it. 0: not asked, nor against an incumbent that has class lines.",
    )
    rungs: list[Annotated[int, Field(ge=0, le=MANY)]] = Field(
        default_factory=list, description="Ages at which the worse half of the proposals drops out."
    )

    def build(self) -> Race:
        return Race(self.steps, self.margin, tuple(self.rungs), self.keep != "winner", self.margin_share, alone=self.alone)


class InterpolateOptions(AcceptOptions):
    """Settings of `Interpolate`, beside those of the rule that judges the blends."""

    chooses: ClassVar[Mapping[str, str]] = {"inner": "accept"}

    weight: float = Field(0.5, gt=0, le=1, description="How far to move towards a proposal.")
    inner: Chosen[AcceptOptions] = Field(Chosen("best_of", BestOfOptions()), description="Which rule judges the blends.")

    @field_validator("inner")
    @classmethod
    def _judges(cls, inner: Chosen[AcceptOptions]) -> Chosen[AcceptOptions]:
        if inner.name == "interpolate":
            raise ValueError("the rule that judges the blends blends no further: choose another")
        return inner

    def build(self) -> Interpolate:
        return Interpolate(self.weight, self.inner.options.build())
