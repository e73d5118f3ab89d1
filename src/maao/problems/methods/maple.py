"""MaPLe: prompts in the first layers of both towers, those of the image tower computed from those of the text tower.

Source: Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023, with its released trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound
from maao.problems.methods.layers import BothTowers, linear
from maao.problems.settings import MatcherMethodOptions
from maao.protocols import Params


class MaPLe(BothTowers):
    """``{"prompt": (n, width), "deep": (depth-1, n, width), "project.weight": (depth, image width, width), "project.bias": ...}``.

    Rows in the slots are replaced at each of the first `depth` layers of the text tower; an image's tokens are followed, in each of the
    first layers of its tower, by a projection of the same layer's rows. Loss: cross-entropy. A text restarts `prompt` (the paper's two
    rows), and with it what the first projection gives; deeper rows and the projections stay.

    No feature of an image can be kept, since what is trained stands in the image tower: every step runs it.
    """

    name: ClassVar[str] = "maple"
    title: ClassVar[str] = "MaPLe"

    def extra(self, seed: int) -> dict[str, Tensor]:
        encoder = self.bound.encoder
        layers = [linear(seed_for(seed, "project", k), encoder.text.width, encoder.input.width) for k in range(self.depth)]
        weight, bias = (torch.stack(part) for part in zip(*layers, strict=True))
        return {**super().extra(seed), "project.weight": weight, "project.bias": bias}

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        projected = zip([params["prompt"], *params["deep"]], params["project.weight"], params["project.bias"], strict=True)
        return [F.linear(rows, weight, bias) for rows, weight, bias in projected]


class MaPLeOptions(MatcherMethodOptions):
    """Settings of MaPLe."""

    depth: int | None = Field(None, ge=1, le=10_000, description="Layers with prompts; by default as the paper has it, in proportion.")

    def build(self, bound: Bound) -> MaPLe:
        return MaPLe(bound, depth=self.depth)
