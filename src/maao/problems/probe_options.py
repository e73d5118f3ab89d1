"""The settings of methods without a prompt. They stand apart from the methods, so that reading a config loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from maao.problems.settings import ProbeOptions

if TYPE_CHECKING:
    from torch import Tensor

    from maao.problems.methods import Bound
    from maao.problems.scorers.class_residual import ClassResidual
    from maao.problems.scorers.probes import LinearProbe, LPPlusPlus, ZeroShot

TEXT_WORDINGS = ("{class}", "this text is about {class}", "{class}.", "a question about {class}", "someone talking about {class}")


class ClassResidualOptions(ProbeOptions):
    """Settings of trained class features."""

    reads_hidden_layers: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **ProbeOptions.usual,
        "data": {"select": "cross_validation"},
        "stage": {"lr": 0.05, "options": {"weight_decay": 0.0}, "batch_size": 4096},
        "plan": {"rounds": 0, "steps": 100, "store_every": 25, "clues": False},
    }
    usual_with_lines: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "data": usual["data"],
        "stage": usual["stage"],
        "plan": {**usual["plan"], "rounds": 1, "clues": True},
        "accept": {"steps": 25, "alone": 100},  # at an age that is stored; out of fold, lines look better than they are
    }
    usual_with_lines_of_pictures: ClassVar[Mapping[str, Mapping[str, object]]] = {"accept": {"steps": 25, "margin_share": 0.4}}
    reads_lines_as_texts: ClassVar[bool] = True
    text_wordings: ClassVar[tuple[str, ...]] = TEXT_WORDINGS

    text_weight: float | None = Field(
        None, ge=0, le=1e6, description="Examples that class texts count as where a class begins; by default 2, of pictures 50; 0: none."
    )
    anchor: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="What leaving the start costs (a prior's precision); by default 0.003, of pictures 1; 0: nothing.",
    )
    start_scale: float | None = Field(
        None,
        gt=0,
        le=100,
        description="What the cosine with the start is multiplied by; by default the towers' scale, for texts half of it.",
    )
    train_scale: bool = Field(False, description="Train what the cosine with the start is multiplied by.")
    bias: bool = Field(True, description="Train a bias for each class.")
    class_examples: float = Field(1.0, ge=0, le=1e6, description="Weight of each class text as one more training example; 0: none.")

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> ClassResidual:
        from maao.problems.scorers.class_residual import ClassResidual

        # Features of pictures lie apart from those of all texts: what a text tower says of a class is kept, examples turn it a little.
        text_weight, anchor = (2.0, 0.003) if bound.encoder.pixels is None else (50.0, 1.0)
        return ClassResidual(
            bound,
            features=features,
            targets=targets,
            text_weight=text_weight if self.text_weight is None else self.text_weight,
            anchor=anchor if self.anchor is None else self.anchor,
            start_scale=self.start_scale,
            train_scale=self.train_scale,
            bias=self.bias,
            class_examples=self.class_examples,
        )


class ZeroShotOptions(ProbeOptions):
    """Nothing to set, and nothing to train."""

    is_trained: ClassVar[bool] = False

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> ZeroShot:
        from maao.problems.scorers.probes import ZeroShot

        return ZeroShot(bound, features=features, targets=targets)


class LinearProbeOptions(ProbeOptions):
    """Nothing to set."""

    needs_labels: ClassVar[bool] = True

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> LinearProbe:
        from maao.problems.scorers.probes import LinearProbe

        return LinearProbe(bound, features=features, targets=targets)


class LPPlusPlusOptions(ProbeOptions):
    """Nothing to set."""

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> LPPlusPlus:
        from maao.problems.scorers.probes import LPPlusPlus

        return LPPlusPlus(bound, features=features, targets=targets)
