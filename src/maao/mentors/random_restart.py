"""Random restarts: the control that asks whether any jump would do (asked for in the paper's reviews)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from maao.core.seeds import seed_for
from maao.errors import CodecError
from maao.interfaces import Codec, History
from maao.types import Advice, P, Proposal, S


@dataclass(frozen=True)
class RandomRestart(Generic[P]):
    """Proposes points drawn by `initial`, as the run's own beginning is; `codec` tells them in words for the record."""

    initial: Callable[[int], P]
    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        points = [self.initial(seed_for(seed, i)) for i in range(count)]
        return Advice(tuple(Proposal(self._words(point), point, source="random restart") for point in points))

    def _words(self, point: P) -> str:
        """Return the words of a point, or nothing where no text near it survives: it can be walked from all the same."""
        try:
            return self.codec.decode(point)
        except CodecError:
            return ""
