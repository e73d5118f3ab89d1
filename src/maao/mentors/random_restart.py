"""Random restarts: the control that asks whether any jump would do (asked for in the paper's reviews)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from maao.core.seeds import seed_for
from maao.protocols import Codec, History
from maao.types import Advice, P, Proposal, S


@dataclass(frozen=True)
class RandomRestart(Generic[P]):
    """Proposes points that `codec` draws as the run's own beginning is drawn, and tells in words for the record."""

    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        points = [self.codec.random(seed_for(seed, i)) for i in range(count)]
        return Advice(tuple(Proposal(self.codec.decode(point).text or "", point, source="random restart") for point in points))
