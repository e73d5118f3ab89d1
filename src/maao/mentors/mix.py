"""Mix: two mentors propose together, so that a race decides between them. The second also fills in for what the first leaves missing.

A hedge: where a language model's words are good starts they win the race, and where they are not, nothing is lost but their steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic

from maao.core.seeds import seed_for
from maao.protocols import History, Mentor
from maao.types import Advice, P, Proposal, S


@dataclass(frozen=True)
class Mix(Generic[P]):
    """Proposes what two mentors propose: of `count`, the second gets its `share`, rounded down, and what the first could not fill.

    Each proposal names who made it, out of `names`.

    Example:
        >>> from maao.codecs.numbers import NumberCodec
        >>> from maao.mentors.scripted import Scripted
        >>> codec = NumberCodec(1)
        >>> both = Mix(Scripted(("1", "2"), codec), Scripted(("7", "8", "9"), codec))
        >>> [(proposal.text, proposal.mentor) for proposal in both.propose((), count=3, seed=0).proposals]
        [('1', 'first'), ('2', 'first'), ('7', 'second')]
    """

    first: Mentor[P]
    second: Mentor[P]
    share: float = 0.5
    names: tuple[str, str] = ("first", "second")

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        own = count - int(count * self.share)
        one = self.first.propose(history, count=own, seed=seed)
        proposals = _by(self.names[0], one.proposals[:own])
        if len(proposals) == count:
            return replace(one, proposals=proposals)
        two = self.second.propose(history, count=count - len(proposals), seed=seed_for(seed, "beside"))
        return Advice((*proposals, *_by(self.names[1], two.proposals)), (*one.rejected, *two.rejected), one.cost + two.cost)


def _by(name: str, proposals: Sequence[Proposal[P]]) -> tuple[Proposal[P], ...]:
    return tuple(replace(proposal, mentor=name) for proposal in proposals)
