"""ProGrad: CoOp whose gradient may not work against what the zero-shot model knows.

Source: Zhu et al., Prompt-aligned Gradient for Prompt Tuning, ICCV 2023, with the step of its released trainer.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from maao.problems.methods import Bound, Matched
from maao.problems.methods.coop import CoOp, CoOpOptions

ROUNDING = 1e-5  # a direction this short beside the other is rounding: at a start in the hand-written words it is exactly zero


class ProGrad(CoOp):
    """CoOp's params. Where the gradient of the cross-entropy g and that of the distance to the zero-shot scores h point apart, the part of
    g along h is taken away ``weight`` times: ``g - weight <g, h/|h|> h/|h|``. Each tensor is looked at by itself.

    Args:
        temperature: of both distributions that are compared.
    """

    name: ClassVar[str] = "prograd"

    def __init__(self, bound: Bound, *, class_specific: bool = False, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(bound, class_specific=class_specific)
        self.weight, self.temperature = weight, temperature

    def loss(self, read: Matched) -> Tensor:
        """Return the cross-entropy; what its backward pass gives is the gradient described above."""
        scores, tuned = read.scores, read.tuned
        own = read.cross_entropy
        if not tuned or not torch.is_grad_enabled():
            return own
        known = read.zero_shot(self.bound.anchors)
        temperature = self.temperature
        apart = (known / temperature).softmax(-1) * (scores / temperature).log_softmax(-1)
        distance = -(temperature**2) * apart.sum(-1).mean()
        first = torch.autograd.grad(own, list(tuned.values()), retain_graph=True)
        second = torch.autograd.grad(distance, list(tuned.values()))
        total = own.detach()
        for value, g, h in zip(tuned.values(), first, second, strict=True):
            total = total + ((value - value.detach()) * self._aligned(g, h)).sum()  # exactly zero, but for its gradient
        return total

    def _aligned(self, g: Tensor, h: Tensor) -> Tensor:
        length = h.norm()
        if float(length) <= ROUNDING * float(g.norm()) or float((g * h).sum()) >= 0:
            return g
        unit = h / length
        return g - self.weight * (g * unit).sum() * unit

    def num_tokens(self, num_inputs: int) -> int:
        # A step counts a forward and a backward pass; here there are two backward passes.
        return super().num_tokens(num_inputs) * 3 // 2


class ProGradOptions(CoOpOptions):
    """Settings of ProGrad."""

    weight: float = Field(1.0, ge=0, le=1e6, description="How much of the part against the zero-shot direction is taken away.")
    temperature: float = Field(1.0, gt=0, le=1e6, description="Of the distributions that are compared.")

    def build(self, bound: Bound) -> ProGrad:
        return ProGrad(bound, class_specific=self.class_specific, weight=self.weight, temperature=self.temperature)
