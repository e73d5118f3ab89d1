"""MaPLe: prompts in the first layers of both towers, those of the image tower computed from those of the text tower.

Source: Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023, with its released trainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound
from maao.problems.methods.coop import CoOp
from maao.problems.methods.layers import DEEP_STD, check_tokens, depth_of, linear, seeded
from maao.problems.settings import MatcherMethodOptions
from maao.protocols import Params


class MaPLe(CoOp):
    """``{"prompt": (n, width), "deep": (depth-1, n, width), "project.weight": (depth, image width, width), "project.bias": ...}``.

    Rows in the slots are replaced at each of the first `depth` layers of the text tower; an image's tokens are followed, in each of the
    first layers of its tower, by a projection of the same layer's rows. Loss: cross-entropy. A text restarts `prompt` (the paper's two
    rows), and with it what the first projection gives; deeper rows and the projections stay.

    No feature of an image can be kept, since what is trained stands in the image tower: every step runs it.

    Args:
        depth: layers with prompts; by default 9 of 12 in proportion.
    """

    name: ClassVar[str] = "maple"
    tunes_inputs: ClassVar[bool] = True

    def __init__(self, bound: Bound, *, depth: int | None = None) -> None:
        super().__init__(bound)
        check_tokens(bound, "MaPLe")
        self.depth = depth_of(depth, 9, len(bound.encoder.text.layers), len(bound.encoder.input.layers))

    def extra(self, seed: int) -> dict[str, Tensor]:
        text, encoder = (self.bound.num_rows, self.bound.encoder.text.width), self.bound.encoder
        deep = torch.randn(self.depth - 1, *text, generator=seeded(seed_for(seed, "deep"))) * DEEP_STD
        layers = [linear(seed_for(seed, "project", k), encoder.text.width, encoder.input.width) for k in range(self.depth)]
        weight, bias = (torch.stack(part) for part in zip(*layers, strict=True))
        return {"deep": deep, "project.weight": weight, "project.bias": bias}

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        return {layer + 1: rows for layer, rows in enumerate(params["deep"])}

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        projected = zip([params["prompt"], *params["deep"]], params["project.weight"], params["project.bias"], strict=True)
        return [F.linear(rows, weight, bias) for rows, weight, bias in projected]


class MaPLeOptions(MatcherMethodOptions):
    """Settings of MaPLe."""

    depth: int | None = Field(None, ge=1, le=10_000, description="Layers with prompts; by default as the paper has it, in proportion.")

    def build(self, bound: Bound) -> MaPLe:
        return MaPLe(bound, depth=self.depth)
