"""MaPLe: prompts in the first layers of both towers, those of the image tower computed from those of the text tower.

Source: Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023, with its released trainer.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.settings import MatcherMethodOptions
from maao.problems.vision.methods import DEEP_STD, Bound, Images, check_tokens, depth_of, linear, seeded
from maao.problems.vision.methods.coop import CoOp
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
    tunes_images: ClassVar[bool] = True

    def __init__(self, bound: Bound, *, depth: int | None = None) -> None:
        super().__init__(bound)
        check_tokens(bound, "MaPLe")
        self._asked = depth
        self.depth = depth_of(depth, 9, len(bound.encoder.text.layers), len(bound.encoder.input.layers))

    def options(self) -> dict[str, Any]:
        return {"depth": self._asked}

    def initial(self, seed: int, rows: Tensor) -> dict[str, Tensor]:
        deep = torch.randn(self.depth - 1, *rows.shape, generator=seeded(seed_for(seed, "deep"))) * DEEP_STD
        layers = [linear(seed_for(seed, "project", k), rows.shape[1], self.bound.encoder.input.width) for k in range(self.depth)]
        weight, bias = (torch.stack(part) for part in zip(*layers, strict=True))
        return {**self.start(rows), "deep": deep, "project.weight": weight, "project.bias": bias}

    def classes(self, params: Params) -> Tensor:
        below = {layer + 1: rows for layer, rows in enumerate(params["deep"])}
        return self.bound.encoder.text.features(self.bound.prompts, params["prompt"], below, part_tokens=self.bound.part_tokens)

    def images(self, params: Params, pixels: Tensor) -> Tensor:
        """Return the normalised features of images as the prompted tower sees them."""
        levels = [params["prompt"], *params["deep"]]
        projected = zip(levels, params["project.weight"], params["project.bias"], strict=True)
        return self.bound.encoder.input.features(pixels, [F.linear(rows, weight, bias) for rows, weight, bias in projected])

    def logits(self, params: Params, images: Images) -> Tensor:
        assert images.pixels is not None
        return self.bound.encoder.logits(self.images(params, images.pixels), self.classes(params))


class MaPLeOptions(MatcherMethodOptions):
    """Settings of MaPLe."""

    depth: int | None = Field(None, ge=1, le=10_000, description="Layers with prompts; by default as the paper has it, in proportion.")

    def build(self, bound: Bound) -> MaPLe:
        return MaPLe(bound, depth=self.depth)
