"""KgCoOp: CoOp held near the classes' features in hand-written wordings.

Source: Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context Optimization, CVPR 2023. The distance is the released
code's, one minus the mean cosine; the paper writes the squared distance, which is twice that.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from maao.problems.methods import Bound, Matched
from maao.problems.methods.coop import CoOp, CoOpOptions


class KgCoOp(CoOp):
    """CoOp's params; loss: cross-entropy + ``weight`` (1 - mean over classes of the cosine with the hand-written wording)."""

    name: ClassVar[str] = "kgcoop"

    def __init__(self, bound: Bound, *, class_specific: bool = False, weight: float = 8.0) -> None:
        super().__init__(bound, class_specific=class_specific)
        self.weight = weight

    def loss(self, read: Matched) -> Tensor:
        assert read.classes is not None
        return read.cross_entropy + self.weight * (1 - (read.classes * self.bound.anchors).sum(-1).mean())


class KgCoOpOptions(CoOpOptions):
    """Settings of KgCoOp."""

    weight: float = Field(8.0, ge=0, le=1e6, description="Of the distance to the hand-written wordings.")

    def build(self, bound: Bound) -> KgCoOp:
        return KgCoOp(bound, class_specific=self.class_specific, weight=self.weight)
