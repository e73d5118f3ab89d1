"""Perturb: jump from the best point in a random direction (the control that asks whether any jump would do)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from maao.core.loop import best_round
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.protocols import Codec, History
from maao.types import Advice, P, Proposal, Rejected, S


@dataclass(frozen=True)
class Perturb(Generic[P]):
    """Proposes ``best + size * rms(best) * noise``, with the root mean square over all entries, and standard normal noise.

    Args:
        size: how far, beside the point's own length: 0.01, 0.1 and 1 are the sizes that the field's controls use.
        noise: ``(value, seed) -> value-shaped standard normal numbers`` for an array of the tuned values.
        names: which of the params jump, those that a text could replace; empty: all.

    Source: the control M-pert, asked for in the paper's reviews.
    """

    codec: Codec[P]
    noise: Callable[[Any, int], Any]
    size: float = 0.1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.size > 0:
            raise ConfigError(f"The size of a jump must be above zero; got {self.size}.")

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to jump from before the first round"),))
        best: Any = best_round(history).state.params
        proposals = []
        for i in range(count):
            moved: Any = {}
            for name in self.names or best:
                value = best[name]
                rms = float((value**2).mean()) ** 0.5
                moved[name] = value + self.size * rms * self.noise(value, seed_for(seed, i, name))
            whole: Any = {**best, **moved}
            proposals.append(Proposal(self.codec.decode(whole).text or "", moved, source=f"perturb {self.size:g}"))
        return Advice(tuple(proposals))
