"""Random restarts: the control that asks whether any jump would do (asked for in the paper's reviews)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from maao.core.seeds import seed_for
from maao.core.words import in_words
from maao.protocols import Codec, History
from maao.types import Advice, P, Proposal, S


@dataclass(frozen=True)
class RandomRestart(Generic[P]):
    """Proposes points drawn by `initial`, as the run's own beginning is; `codec` tells them in words for the record."""

    initial: Callable[[int], P]
    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        points = [self.initial(seed_for(seed, i)) for i in range(count)]
        return Advice(tuple(Proposal(in_words(self.codec, point), point, source="random restart") for point in points))
