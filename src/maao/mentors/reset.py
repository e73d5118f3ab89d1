"""Reset: restart from where the doer stands. Nothing moves, but the optimizer begins anew (is it the jump, or the fresh moments?)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from maao.protocols import Codec, History
from maao.types import Advice, P, Proposal, Rejected, S


@dataclass(frozen=True)
class Reset(Generic[P]):
    """Proposes the present point; with the rule `always_first` and moments cleared at restarts that is a reset and no more.

    Args:
        names: which of the params a restart names, those that a text could replace; empty: all.

    Source: the control S-reset, asked for in the paper's reviews.
    """

    codec: Codec[P]
    names: tuple[str, ...] = ()

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to restart from before the first round"),))
        here: Any = history[-1].state.params
        own: Any = {name: here[name] for name in self.names or here}
        return Advice((Proposal(self.codec.decode(here).text or "", own, source="reset"),))
