"""PromptSRC: independent prompts in both towers, held near what the frozen towers say. With all weights zero it is IVLP.

Source: Khattak et al., Self-regulating Prompts: Foundational Model Adaptation without Forgetting, ICCV 2023, with its released trainer.
The Gaussian average of its weights over epochs is the stage's (`stage.average`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound, Matched
from maao.problems.methods.layers import DEEP_STD, BothTowers, seeded
from maao.problems.settings import MatcherMethodOptions
from maao.protocols import Params


class PromptSRC(BothTowers):
    """``{"prompt": (n, width), "deep": (depth-1, n, width), "vision": (depth, m, image width)}``.

    Loss: cross-entropy + ``text_weight`` mean|w - w'| + ``image_weight`` mean|z - z'| + ``score_weight`` KL(frozen scores, scores) divided
    by their number, where w' are the anchors and z' the frozen tower's features of the same view. A text restarts `prompt`; all else stays.

    No feature of an image can be kept but the frozen one, since what is trained stands in the image tower: every step runs it.

    Args:
        num_image_tokens: rows among an image's tokens.
    """

    name: ClassVar[str] = "promptsrc"
    title: ClassVar[str] = "PromptSRC"

    def __init__(
        self,
        bound: Bound,
        *,
        depth: int | None = None,
        num_image_tokens: int = 4,
        text_weight: float = 25.0,
        image_weight: float = 10.0,
        score_weight: float = 1.0,
    ) -> None:
        super().__init__(bound, depth=depth)
        self.num_image_tokens = num_image_tokens
        self.text_weight, self.image_weight, self.score_weight = text_weight, image_weight, score_weight

    def extra(self, seed: int) -> dict[str, Tensor]:
        shape = (self.depth, self.num_image_tokens, self.bound.encoder.input.width)
        return {**super().extra(seed), "vision": torch.randn(shape, generator=seeded(seed_for(seed, "vision"))) * DEEP_STD}

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        return list(params["vision"])

    def loss(self, read: Matched) -> Tensor:
        assert read.classes is not None
        anchors, scores = self.bound.anchors, read.scores
        known = read.zero_shot(anchors)
        apart = F.kl_div(scores.log_softmax(-1), known.log_softmax(-1), reduction="sum", log_target=True) / scores.numel()
        return (
            read.cross_entropy
            + self.text_weight * (read.classes - anchors).abs().mean()
            + self.image_weight * (read.inputs - read.frozen).abs().mean()
            + self.score_weight * apart
        )

    def num_tokens(self, num_inputs: int) -> int:
        return super().num_tokens(num_inputs) + num_inputs * self.num_image_tokens


class PromptSRCOptions(MatcherMethodOptions):
    """Settings of PromptSRC."""

    depth: int | None = Field(None, ge=1, le=10_000, description="Layers with prompts; by default as the paper has it, in proportion.")
    num_image_tokens: int = Field(4, ge=1, le=10_000, description="Rows among an image's tokens.")
    text_weight: float = Field(25.0, ge=0, le=1e6, description="Of the distance to the hand-written wordings.")
    image_weight: float = Field(10.0, ge=0, le=1e6, description="Of the distance to the frozen image features.")
    score_weight: float = Field(1.0, ge=0, le=1e6, description="Of the distance to the frozen scores.")

    def build(self, bound: Bound) -> PromptSRC:
        return PromptSRC(bound, **self.model_dump())
