"""Reproject: put the best point into words and start from them, without a language model (what does projection alone do?)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from maao.core.loop import best_round
from maao.errors import CodecError
from maao.protocols import Codec, History
from maao.types import Advice, P, Proposal, Rejected, S


@dataclass(frozen=True)
class Reproject(Generic[P]):
    """Proposes the words of the point with the lowest loss on `select` so far: ``encode(decode(best))``."""

    codec: Codec[P]

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        if not history:
            return Advice(rejected=(Rejected("", "there is no point to put into words before the first round"),))
        words = self.codec.decode(best_round(history).state.params)
        if words.text is None:
            return Advice(rejected=(Rejected("", words.note),))
        try:
            encoded = self.codec.encode(words.text)
        except CodecError as error:
            return Advice(rejected=(Rejected("", str(error)),))
        return Advice((Proposal(encoded.text, encoded.params, source="reproject", note=encoded.note),))
