"""Prompt tuning: the embedding rows in the slots are trained as they are.

Source: Lester, Al-Rfou and Constant, The Power of Scale for Parameter-Efficient Prompt Tuning, 2021.
"""

from __future__ import annotations

from torch import Tensor

from maao.core.blending import between
from maao.protocols import Params


class PromptTuning:
    """``{"prompt": (num_virtual_tokens, embed_dim)}``. A text restarts it exactly: its tokens' rows are the params."""

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        return {"prompt": rows}

    def normal(self, seed: int) -> None:
        return None

    def start_tokens(self, params: Params) -> int:
        return 0

    def realize(self, params: Params) -> dict[str, Tensor]:
        return dict(params)

    def in_words(self, realized: Params) -> Tensor:
        return realized["prompt"]

    def blend(self, incumbent: Params, proposed: Params, weight: float) -> dict[str, Tensor]:
        return between(incumbent, proposed, weight)
