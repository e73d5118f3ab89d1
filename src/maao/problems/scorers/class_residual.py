"""Class features that begin at class texts and prototypes, and are trained as they are: no prompt, and no tower runs at a step.

A *class text* is the class's name in a wording, a *prototype* the mean feature of a class's labelled examples. Sources: Snell, Swersky and
Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017 (prototypes); Yu et al., Task Residual for Tuning Vision-Language Models,
CVPR 2023 (a trained residual on class features); Yao et al., KgCoOp, CVPR 2023 (a penalty for leaving the class texts).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maao.problems.losses import mean_cross_entropy
from maao.problems.methods import Bound
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.matcher import CLASSES, LOG_SCALE, Known
from maao.problems.scorers.probes import Probe
from maao.problems.settings import ProbeOptions
from maao.problems.towers.dual import unit
from maao.protocols import Params

RESIDUAL, START, BIAS = "residual", "start", "bias"


class ClassResidual(Probe):
    """``{"residual": (num_classes, embed_dim), "start": (num_classes, embed_dim)}``, with "log_scale" ``()`` and "bias" ``(num_classes,)``.

    A class's score of a feature f is ``(scale start + residual) f``, plus the bias where there is one: as the run begins, `scale` times the
    cosine with the start, which is of length one. `start` is stored, so that a run is used and gone on with without its data, and nothing
    trains it.

    The loss is that of a maximum a posteriori estimate, divided by the weight ``N`` of all rows:

        ``(sum of w_i CE_i + class_examples * sum over classes of CE(class text, class) + anchor / 2 * |residual|^2) / N``

    where the examples of a batch stand for all of `train`.

    Args:
        features, targets: those of `train`; there may be none, and a class without an example begins at its text.
        weights: what each of them weighs, in its prototype too; None: 1.
        text_weight: examples that a class text counts as in the start of its class; 0: prototypes alone.
        anchor: what leaving the start costs: the inverse variance of a Gaussian prior of the residual.
        train_scale: train the scale of the cosine, from that of the towers.
        bias: train a bias for each class.
        class_examples: weight of each class text as one more training example; 0: they are none.
    """

    name = "class_residual"

    def __init__(
        self,
        bound: Bound,
        *,
        features: Tensor | None = None,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        text_weight: float = 1.0,
        anchor: float = 1.0,
        train_scale: bool = True,
        bias: bool = False,
        class_examples: float = 0.0,
    ) -> None:
        super().__init__(bound, features=features, targets=targets, weights=weights)
        self.text_weight, self.anchor, self.class_examples = text_weight, anchor, class_examples
        self.train_scale, self.bias = train_scale, bias

    def extra(self, seed: int) -> dict[str, Tensor]:
        texts = self.bound.anchors
        start = unit(class_starts(texts, self.known, self.targets, text_weight=self.text_weight, weights=self.known_weights))
        found = {RESIDUAL: torch.zeros_like(start), START: start}
        if self.train_scale:
            found[LOG_SCALE] = torch.tensor(math.log(self.encoder.scale))
        if self.bias:
            found[BIAS] = torch.zeros(len(texts))
        return found

    def classes(self, params: Params) -> Tensor:
        """Return the classes' features ``(num_classes, embed_dim)``, of which `scale` times those are the weights of the scores."""
        start, residual = params[START].detach().to(self.device), params[RESIDUAL].to(self.device)
        return start + residual / self.scale(params)

    def weight(self, params: Params) -> Tensor:
        """Return ``(num_classes, embed_dim)``, what a feature is multiplied by."""
        return self.scale(params) * params[START].detach().to(self.device) + params[RESIDUAL].to(self.device)

    def class_bias(self, params: Params) -> Tensor | None:
        return params.get(BIAS)

    def share(self, params: Params, inputs: Known) -> tuple[Params, Known]:
        return {**params, CLASSES: self.weight(params)}, inputs

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return self._scores(params, inputs.features)

    def loss(self, params: Params, inputs: Known, targets: Tensor) -> Tensor:
        loss = mean_cross_entropy(self.class_scores(params, inputs), targets, inputs.weights)
        examples, texts = self._num_examples, self.bound.anchors
        rows = examples + self.class_examples * len(texts)
        total = examples * loss
        if self.class_examples:
            own = F.cross_entropy(self._scores(params, texts), torch.arange(len(texts), device=texts.device), reduction="sum")
            total = total + self.class_examples * own
        if self.anchor:
            total = total + self.anchor / 2 * params[RESIDUAL].pow(2).sum().to(total)
        return total / rows

    @property
    def _num_examples(self) -> float:
        """The weight of all examples of `train`."""
        return len(self.targets) if self.known_weights is None else float(self.known_weights.sum())

    def _scores(self, params: Params, features: Tensor) -> Tensor:
        weight = params[CLASSES] if CLASSES in params else self.weight(params)
        scores = features @ weight.T
        return scores + params[BIAS].to(scores) if BIAS in params else scores


class ClassResidualOptions(ProbeOptions):
    """Settings of trained class features."""

    reads_hidden_layers: ClassVar[bool] = True

    text_weight: float = Field(1.0, ge=0, le=1e6, description="Examples that a class text counts as where its class begins; 0: none.")
    anchor: float = Field(1.0, ge=0, le=1e6, description="What leaving the start costs; 0: nothing.")
    train_scale: bool = Field(True, description="Train what the cosine is multiplied by.")
    bias: bool = Field(False, description="Train a bias for each class.")
    class_examples: float = Field(0.0, ge=0, le=1e6, description="Weight of each class text as one more training example.")

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor, weights: Tensor | None) -> ClassResidual:
        return ClassResidual(
            bound,
            features=features,
            targets=targets,
            weights=weights,
            text_weight=self.text_weight,
            anchor=self.anchor,
            train_scale=self.train_scale,
            bias=self.bias,
            class_examples=self.class_examples,
        )
