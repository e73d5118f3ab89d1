"""A finished round in lines for a terminal: what was proposed, what became of it, where the round ended. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from maao.printable import dollars
from maao.report.lines import line_of_proposal, refusals, score_line, short, shown, tokens_told
from maao.types import P, Round, S


def round_lines(finished: Round[P, S]) -> Iterable[Text]:
    """Yield the lines."""
    if finished.leg.ask:
        for proposal, looked in _proposals(finished):
            yield shown(f"  proposed: {proposal}   {looked}", style="cyan")
        yield from (shown(f"  {told}", style="dim") for told in refusals(finished.advice.rejected))
        if (cost := finished.advice.cost).usd:
            calls = f"{cost.llm_calls} call{'s' * (cost.llm_calls != 1)}"
            yield shown(f"  {calls}, {tokens_told(cost.input_tokens, cost.output_tokens)}, {dollars(cost.usd)}", style="dim")
        yield shown(f"  {_outcome(finished)}")
    if finished.leg.closing:
        yield shown(f"  {finished.verdict.reason}", style="cyan")
    clues = finished.clues.projection
    words = f"   words: {short(clues.text, 60)}" if clues else ""
    yield shown(f"round {finished.index}: step {finished.state.step}, select {score_line(finished.score)}{words}")


def _outcome(finished: Round[P, S]) -> str:
    verdict = finished.verdict
    if verdict.chosen is None:
        return f"incumbent goes on ({verdict.reason or 'nothing proposed'})"
    return f"restart from: {short(line_of_proposal(finished.advice.proposals[verdict.chosen]), 60)} ({verdict.reason})"


def _proposals(finished: Round[P, S]) -> Iterable[tuple[str, str]]:
    scores = {c.proposal: c for c in finished.verdict.considered}
    for i, proposal in enumerate(finished.advice.proposals):
        looked = scores.get(i)
        after = f" after {looked.age} step{'s' * (looked.age > 1)}" if looked and looked.age else ""
        yield short(line_of_proposal(proposal), 70), f"{score_line(looked.score)}{after}" if looked else "not scored"
