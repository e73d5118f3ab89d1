"""The method: gradient legs, alternated with a mentor's restarts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from maao.class_lines import has_lines
from maao.core.acceptance import keep
from maao.core.budget import Clock, InTime, TimeIsUp, was_cut
from maao.core.plan import Plan
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.errors import NotFinite
from maao.protocols import Acceptance, GradientStage, History, Mentor, Prefills, Problem
from maao.types import LINES_WEIGHT, Advice, Cost, Leg, Observation, P, Round, S, Verdict

TAKEN_BACK = "; taken back, since "  # in a verdict's reason, before why nothing can be walked from the restart that it gave
UNJUDGED = "the time was up before the proposals were judged: all goes on as it was"


def alternate(
    problem: Problem[P],
    stage: GradientStage[P, S],
    mentor: Mentor[P],
    *,
    plan: Plan,
    accept: Acceptance[P, S],
    seed: int,
    history: History[P, S] = (),
    clock: Clock | None = None,
) -> Iterator[Round[P, S]]:
    """Alternate gradient legs with a mentor's restarts; yield each `Round` as it ends. Pass a stored `history` to go on from it.

    The seconds of `clock` end a leg at the next step, and the run behind that leg; proposals that the time did not suffice to judge are
    left. Both stand in the leg as it is stored, so that a plan of stored legs finds the same without a clock.

    Source: Algorithm 1 of Guo et al., LLM as a Complementary Optimizer to Gradient Descent, 2024.
    """
    clock = clock or Clock()
    prefills = problem if isinstance(problem, Prefills) else None
    state = standing(problem, stage, history, seed=seed)
    for index, leg in enumerate(plan[len(history) :], start=len(history)):
        if clock.is_up or (clock.has_cap and history and was_cut(history[-1].leg, plan[index - 1])):
            return
        clock.begin()
        advice: Advice[P] = Advice()
        verdict = keep(state)
        if leg.ask:  # with an empty history too: a mentor may name the first starts
            advice = mentor.propose(history, count=leg.proposals, seed=seed_for(seed, "mentor", index))
            judged = _judge_in_time(problem, stage, accept, history, state, advice, leg, seed=seed, clock=clock)
            leg = replace(leg, unjudged=judged is None)
            verdict = _with_lines_told(judged or keep(state, UNJUDGED), advice)
        try:
            longest = max(leg.steps, leg.tried) if verdict.chosen is not None else leg.steps
            end, observations = run_leg(problem, stage, verdict.state, replace(leg, steps=longest), clock)
        except NotFinite as error:
            if verdict.chosen is None:
                raise
            verdict, leg = _taken_back(verdict, state, error), replace(leg, tried=max(leg.steps, leg.tried))
            end, observations = run_leg(problem, stage, state, leg, clock)
        state, leg = end, replace(leg, steps=len(observations))
        score = score_all(problem, [state.params], "select")[0]
        clues = problem.clues(state.params, start=state.start, score=score)
        walked = sum((o.cost for o in observations), Cost())
        prefilled = Cost() if prefills is None else _prefill_cost(prefills, history, advice, verdict)
        cost = advice.cost + prefilled + verdict.cost + walked + score.cost + clues.cost + Cost(seconds=clock.end())
        history = (*history, Round(index, leg, advice, verdict, observations, score, clues, state, cost))
        yield history[-1]


def standing(problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], *, seed: int) -> S:
    """Return where a run stands after some rounds; with none, where it begins."""
    if history:
        return history[-1].state
    return stage.init(problem, problem.initial(seed_for(seed, "initial")), seed=seed_for(seed, "stage"))


def judge(
    problem: Problem[P],
    stage: GradientStage[P, S],
    accept: Acceptance[P, S],
    history: History[P, S],
    state: S,
    advice: Advice[P],
    *,
    seed: int,
) -> Verdict[S]:
    """Return what a rule makes of the proposals of the round that comes next. `seed` is the run's."""
    return accept(problem, stage, history, state, advice.proposals, seed=seed_for(seed, "accept", len(history)))


def _taken_back(verdict: Verdict[S], state: S, error: NotFinite) -> Verdict[S]:
    """Return a verdict whose restart cannot be walked from: what was there before goes on."""
    return replace(verdict, state=state, chosen=None, reason=f"{verdict.reason}{TAKEN_BACK}{error}", cost=verdict.cost + error.cost)


def _judge_in_time(
    problem: Problem[P],
    stage: GradientStage[P, S],
    accept: Acceptance[P, S],
    history: History[P, S],
    state: S,
    advice: Advice[P],
    leg: Leg,
    *,
    seed: int,
    clock: Clock,
) -> Verdict[S] | None:
    """Return what a rule makes of proposals; None where the time does not suffice, or did not when the leg was stored."""
    if leg.unjudged or clock.is_up:
        return None
    try:
        return judge(problem, InTime(stage, clock) if clock.has_cap else stage, accept, history, state, advice, seed=seed)
    except TimeIsUp:
        return None


def _with_lines_told(verdict: Verdict[S], advice: Advice[P]) -> Verdict[S]:
    """Return a verdict whose reason says what became of class lines, where some were proposed."""
    if not any(has_lines(proposal.fields) for proposal in advice.proposals):
        return verdict
    fields = {} if verdict.chosen is None else advice.proposals[verdict.chosen].fields
    told = f"the mentor's lines count, at {fields.get(LINES_WEIGHT, '1')}" if has_lines(fields) else "the mentor's lines were left out"
    return replace(verdict, reason=f"{verdict.reason}; {told}" if verdict.reason else told)


def _prefill_cost(problem: Prefills, history: History[P, S], advice: Advice[P], verdict: Verdict[S]) -> Cost:
    """Return what the proposals that a rule looked at cost beside their walks and scores."""
    known = [params for r in history for params in _looked_at(r.advice, r.verdict)]
    return problem.prefill_cost(_looked_at(advice, verdict), known)


def _looked_at(advice: Advice[P], verdict: Verdict[S]) -> list[P]:
    seen = {verdict.chosen, *(considered.proposal for considered in verdict.considered)}
    return [proposal.params for i, proposal in enumerate(advice.proposals) if i in seen]


def run_leg(
    problem: Problem[P], stage: GradientStage[P, S], state: S, leg: Leg, clock: Clock | None = None
) -> tuple[S, tuple[Observation[P], ...]]:
    """Walk one leg, or as far as the time goes; return where it ended and what was seen on the way."""
    observations: list[Observation[P]] = []
    for i in range(leg.steps):
        if clock is not None and clock.is_up:
            break
        try:
            state, observation = stage.step(problem, state, keep=leg.keep_every > 0 and i % leg.keep_every == 0)
        except NotFinite as error:
            raise NotFinite(str(error), sum((seen.cost for seen in observations), error.cost)) from error
        observations.append(observation)
    return state, tuple(observations)


def best_round(history: History[P, S]) -> Round[P, S]:
    """Return the round with the point to report: the one that ended on the lowest loss on `select`, or the average that closes a run.

    Ties go to the earlier, what is no finite number never wins. Where nothing judges, it is the last.
    """
    if history[-1].leg.closing or all(r.score.is_unjudged for r in history):
        return history[-1]
    return min(history, key=lambda r: r.score.rank)
