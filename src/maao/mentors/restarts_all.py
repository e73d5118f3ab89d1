"""A mentor whose proposals restart all members that walk together alike, where they name the full one alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maao.members import for_all, full_member
from maao.protocols import History, Mentor, Params
from maao.types import Advice, S


@dataclass(frozen=True)
class RestartsAll:
    """`mentor`, for a point with so many folds. What a proposal says of a fold's member itself stays as it is."""

    mentor: Mentor[Params]
    folds: int

    def propose(self, history: History[Params, S], *, count: int, seed: int) -> Advice[Params]:
        advice: Advice[Params] = self.mentor.propose(history, count=count, seed=seed)
        whole = [replace(p, params={**for_all(full_member(p.params), self.folds), **p.params}) for p in advice.proposals]
        return replace(advice, proposals=tuple(whole))
