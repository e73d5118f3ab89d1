"""TCP: prompts computed from each class's own hand-written feature replace the context in the middle of the text tower.

Source: Yao et al., TCP: Textual-based Class-aware Prompt Tuning for Visual-Language Model, CVPR 2024, with its released trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound
from maao.problems.methods.kgcoop import KgCoOp
from maao.problems.methods.layers import depth_of, linear
from maao.problems.settings import MatcherMethodOptions
from maao.protocols import Params

HIDDEN = 128


class TCP(KgCoOp):
    """``{"prompt": (num_virtual_tokens, width), "down.*", "up.*"}``: before the layer `depth` (counted from 0) the rows in the slots are
    replaced by ``up(quick_gelu(down(anchor of the class)))``. Loss: KgCoOp's.

    A text restarts `prompt`, which reaches the classes through the layers before `depth` only; the network stays.

    Args:
        depth: by default block 8 of 12 in proportion.
    """

    name: ClassVar[str] = "tcp"

    def __init__(self, bound: Bound, *, weight: float = 8.0, depth: int | None = None) -> None:
        super().__init__(bound, weight=weight)
        self.depth = min(depth_of(depth, 8, len(bound.encoder.text.layers)), len(bound.encoder.text.layers) - 1)

    def extra(self, seed: int) -> dict[str, Tensor]:
        size = self.bound.num_rows * self.bound.encoder.text.width
        down, down_bias = linear(seed_for(seed, "down"), self.bound.encoder.embed_dim, HIDDEN)
        up, up_bias = linear(seed_for(seed, "up"), HIDDEN, size)
        return {"down.weight": down, "down.bias": down_bias, "up.weight": up, "up.bias": up_bias}

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        hidden = F.linear(self.bound.anchors, params["down.weight"], params["down.bias"])
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        rows = F.linear(hidden, params["up.weight"], params["up.bias"]).view(len(self.bound.prompts), *params["prompt"].shape)
        return {self.depth: rows}

    def num_tokens(self, num_inputs: int) -> int:
        return self.bound.encoder.text.num_tokens(self.bound.prompts, shared=False)


class TCPOptions(MatcherMethodOptions):
    """Settings of TCP."""

    weight: float = Field(8.0, ge=0, le=1e6, description="Of the distance to the hand-written wordings.")
    depth: int | None = Field(None, ge=1, le=10_000, description="Block that is reached; by default as the paper has it, in proportion.")

    def build(self, bound: Bound) -> TCP:
        return TCP(bound, weight=self.weight, depth=self.depth)
