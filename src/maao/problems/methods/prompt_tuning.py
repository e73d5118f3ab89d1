"""Prompt tuning: the embedding rows in the slots are trained as they are.

Source: Lester, Al-Rfou and Constant, The Power of Scale for Parameter-Efficient Prompt Tuning, 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maao.core.blending import between
from maao.problems.settings import TextMethodOptions, TextParts
from maao.protocols import Params

if TYPE_CHECKING:
    from torch import Tensor


class PromptTuning:
    """``{"prompt": (num_virtual_tokens, embed_dim)}``. A text restarts it exactly: its tokens' rows are the params."""

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        return {"prompt": rows}

    def extra(self, seed: int) -> dict[str, Tensor]:
        return {}

    def normal(self, seed: int) -> None:
        return None

    def start_tokens(self, params: Params) -> int:
        return 0

    def realize(self, params: Params) -> dict[str, Tensor]:
        return dict(params)

    def to_vocabulary_space(self, realized: Params) -> Tensor:
        return realized["prompt"]

    def blend(self, old: Params, new: Params, weight: float) -> dict[str, Tensor]:
        return between(old, new, weight)


class PromptTuningOptions(TextMethodOptions):
    """Prompt tuning has no settings of its own."""

    def build(self, parts: TextParts) -> PromptTuning:
        return PromptTuning()
