"""Beside: two mentors propose together, so that a race decides between them. The second also fills in for what the first leaves missing.

A hedge: where a language model's words are good starts they win the race, and where they are not, nothing is lost but their steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from maao.core.seeds import seed_for
from maao.protocols import History, Mentor
from maao.types import Advice, P, S


@dataclass(frozen=True)
class Beside(Generic[P]):
    """Proposes what two mentors propose: of `count`, the second gets its `share`, rounded down, and what the first could not fill.

    Example:
        >>> from maao.codecs.numbers import NumberCodec
        >>> from maao.mentors.scripted import Scripted
        >>> codec = NumberCodec(1)
        >>> both = Beside(Scripted(("1", "2"), codec), Scripted(("7", "8", "9"), codec))
        >>> [proposal.text for proposal in both.propose((), count=3, seed=0).proposals]
        ['1', '2', '7']
    """

    first: Mentor[P]
    second: Mentor[P]
    share: float = 0.5

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        own = count - int(count * self.share)
        one = self.first.propose(history, count=own, seed=seed)
        proposals = one.proposals[:own]
        if len(proposals) == count:
            return one
        two = self.second.propose(history, count=count - len(proposals), seed=seed_for(seed, "beside"))
        return Advice((*proposals, *two.proposals), (*one.rejected, *two.rejected), one.cost + two.cost)
