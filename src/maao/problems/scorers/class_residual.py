"""Class features that begin at class texts and prototypes, and are trained as they are: no prompt, and no tower runs at a step.

A *class text* is the class's name in a wording, a *prototype* the mean feature of a class's labelled examples. Sources: Snell, Swersky and
Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017 (prototypes); Yu et al., Task Residual for Tuning Vision-Language Models,
CVPR 2023 (a trained residual on class features); Yao et al., KgCoOp, CVPR 2023 (a penalty for leaving the class texts).
"""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.problems.losses import mean_cross_entropy
from maao.problems.methods import Bound
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.matcher import CLASSES, LOG_SCALE, Known
from maao.problems.scorers.probes import Probe
from maao.problems.towers.dual import unit
from maao.protocols import Params

RESIDUAL, START, BIAS = "residual", "start", "bias"
SCALE_PRIOR = 5.0  # inverse variance of the logarithm of a trained scale, over two


class ClassResidual(Probe):
    """``{"residual": (num_classes, embed_dim), "start": (num_classes, embed_dim), "log_scale": (), "bias": (num_classes,)}``.

    A class's score of a feature f is ``(scale start + residual) f``, plus the bias where there is one: as the run begins, `scale` times the
    cosine with the start, which is of length one. `start` is stored, so that a run is used and gone on with without its data; no gradient
    moves it, nor the scale, unless it is trained.

    The loss is that of a maximum a posteriori estimate, divided by the weight ``N`` of all rows:

        ``(sum of w_i CE_i + class_examples * sum of CE(class text, class) + anchor / 2 * |residual|^2) / N``

    where the examples of a batch stand for all of `train`, and a class text is the class in one wording. It is convex. A scale that is
    trained would lead round the anchor: it is held by ``SCALE_PRIOR (log scale - log of its start)^2``, one more term of the sum.

    Args:
        features, targets: those of `train`; there may be none, and a class without an example begins at its text.
        weights: what each of them weighs, in its prototype too; None: 1.
        text_weight: examples that a class text counts as in the start of its class; 0: prototypes alone.
        anchor: what leaving the start costs: the inverse variance of a Gaussian prior of the residual.
        start_scale: what the cosine is multiplied by as training begins; None: half of what texts are compared with, where no scale was
            learned with the towers (10), else theirs. Without an example it is the towers', and the run zero-shot.
        train_scale: train it.
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
        text_weight: float = 2.0,
        anchor: float = 0.003,
        start_scale: float | None = None,
        train_scale: bool = False,
        bias: bool = True,
        class_examples: float = 1.0,
    ) -> None:
        super().__init__(bound, features=features, targets=targets, weights=weights)
        self._ranks = {place: place for place in range(len(self.targets))}  # of places among the features of `train`
        self.text_weight, self.anchor, self.class_examples = text_weight, anchor, class_examples
        self.start_scale = start_scale
        self.train_scale, self.bias = train_scale, bias

    def made_of(self, train: Known, targets: Tensor) -> Self:
        found = super().made_of(train, targets)
        found._ranks = {place: rank for rank, place in enumerate(train.which)}
        return found

    @property
    def first_scale(self) -> float:
        if not len(self.targets):
            return self.encoder.scale
        return self.start_scale or self.encoder.scale * (0.5 if self.encoder.trains_scale else 1.0)

    def extra(self, seed: int) -> dict[str, Tensor]:
        texts = self.bound.anchors
        start = unit(class_starts(texts, self.known, self.targets, text_weight=self.text_weight, weights=self.known_weights))
        found = {RESIDUAL: torch.zeros_like(start), START: start, LOG_SCALE: torch.tensor(math.log(self.first_scale))}
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

    def scale(self, params: Params) -> float | Tensor:
        held = params if self.train_scale else {LOG_SCALE: params[LOG_SCALE].detach()}
        return super().scale(held)

    def class_bias(self, params: Params) -> Tensor | None:
        return params.get(BIAS)

    def share(self, params: Params, inputs: Known) -> tuple[Params, Known]:
        return {**params, CLASSES: self.weight(params)}, inputs

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return self._scores(params, inputs.features)

    def loss(self, params: Params, inputs: Known, targets: Tensor) -> Tensor:
        loss = mean_cross_entropy(self.class_scores(params, inputs), targets, inputs.weights)
        total = self._num_examples * loss + self._penalty(params).to(loss)
        if not self.class_examples:
            return total / self._num_examples
        texts = self.bound.texts.flatten(0, 1)  # wording by wording
        own = self._texts_beside(inputs, len(texts))
        targets = own % len(self.bound.anchors)
        share = len(self.targets) / len(inputs)  # as the examples of a batch stand for all of `train`, so do the texts beside them
        further = F.cross_entropy(self._scores(params, texts[own]), targets, reduction="sum") * share
        return (total + self.class_examples * further) / (self._num_examples + self.class_examples * len(texts))

    def _texts_beside(self, inputs: Known, count: int) -> Tensor:
        """Return which of `count` class texts a batch of examples reads: each stands beside one example, and is read with it."""
        examples = len(self.targets)
        places = torch.tensor([self._ranks[place] for place in inputs.which])
        found = (torch.arange(0, count, examples)[:, None] + places).flatten()
        return found[found < count].to(self.device)

    def _penalty(self, params: Params) -> Tensor:
        """Return what leaving the start costs, beside the sum of losses."""
        own = self.anchor / 2 * params[RESIDUAL].pow(2).sum()
        return own + SCALE_PRIOR * (params[LOG_SCALE] - math.log(self.first_scale)) ** 2 if self.train_scale else own

    @property
    def _num_examples(self) -> float:
        """The weight of all examples of `train`."""
        return len(self.targets) if self.known_weights is None else float(self.known_weights.sum())

    def _scores(self, params: Params, features: Tensor) -> Tensor:
        weight = params[CLASSES] if CLASSES in params else self.weight(params)
        scores = features @ weight.T
        return scores + params[BIAS].to(scores) if BIAS in params else scores
