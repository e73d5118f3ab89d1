"""Class features that begin at class texts and prototypes, and are trained as they are: no prompt, and no tower runs at a step.

A *class text* is the class's name in a wording, a *prototype* the mean feature of a class's labelled examples. Sources: Snell, Swersky and
Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017 (prototypes); Yu et al., Task Residual for Tuning Vision-Language Models,
CVPR 2023 (a trained residual on class features); Yao et al., KgCoOp, CVPR 2023 (a penalty for leaving the class texts).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.class_lines import Line
from maao.problems.losses import mean_cross_entropy
from maao.problems.methods import Bound
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.matcher import CLASSES, LOG_SCALE, Known, line_features
from maao.problems.scorers.probes import Probe
from maao.problems.towers.dual import unit
from maao.protocols import Params

RESIDUAL, START, BIAS = "residual", "start", "bias"
SCALE_PRIOR = 5.0  # inverse variance of the logarithm of a trained scale, over two


@dataclass(frozen=True)
class ClassTexts:
    """Texts of classes: features ``(num_texts, embed_dim)``, and of each its class and its weight ``(num_texts,)``; None: all weigh 1."""

    features: Tensor
    classes: Tensor
    weights: Tensor | None = None

    def beside(self, features: Tensor, classes: Tensor, weights: Tensor) -> ClassTexts:
        """Return these and others behind them."""
        own = torch.ones(len(self.features), device=self.features.device) if self.weights is None else self.weights
        return ClassTexts(*(torch.cat([a, b.to(a)]) for a, b in ((self.features, features), (self.classes, classes), (own, weights))))

    @property
    def weight(self) -> float:
        """What all weigh together."""
        return len(self.features) if self.weights is None else float(self.weights.sum())


class ClassResidual(Probe):
    """``{"residual": (num_classes, embed_dim), "start": (num_classes, embed_dim), "log_scale": (), "bias": (num_classes,)}``.

    A class's score of a feature f is ``(scale start + residual) f``, plus the bias where there is one: as the run begins, `scale` times the
    cosine with the start, which is of length one. `start` is stored, so that a run is used and gone on with without its data; no gradient
    moves it, nor the scale, unless it is trained.

    The loss is that of a maximum a posteriori estimate, divided by the weight ``N`` of all rows:

        ``(sum of w_i CE_i + class_examples * sum of CE(class text, class) + anchor / 2 * |residual|^2) / N``

    where the examples of a batch stand for all of `train`, and a class text is the class in one wording. It is convex. A scale that is
    trained would lead round the anchor: it is held by ``SCALE_PRIOR (log scale - log of its start)^2``, one more term of the sum.

    Class lines are rows of `train` where the inputs are texts. Of pictures they are further texts of a class, each counting by its weight:
    in the mean of the class's texts, which it begins at, and in the loss (Pratt et al., What does a platypus look like?, ICCV 2023).

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
        features = bound.texts.flatten(0, 1)  # wording by wording
        numbers = torch.arange(len(features), device=features.device) % len(bound.anchors)
        self.class_texts = ClassTexts(features, numbers)
        self.start_scale = start_scale
        self.train_scale, self.bias = train_scale, bias

    def made_of(self, train: Known, targets: Tensor) -> Self:
        found = super().made_of(train, targets)
        found._ranks = {place: rank for rank, place in enumerate(train.which)}
        return found

    def reads(self, line: Line) -> bool:
        return self.encoder.pixels is not None

    def with_lines(self, lines: Sequence[Line], labels: Sequence[str]) -> Self:
        if not lines:
            return self
        found = copy.copy(self)
        features, tokens = line_features(self.encoder, [line.text for line in lines])
        found.prepared_tokens = self.prepared_tokens + tokens
        number = {label: i for i, label in enumerate(labels)}
        numbers, weights = torch.tensor([number[line.label] for line in lines]), torch.tensor([line.weight for line in lines])
        found.class_texts = self.class_texts.beside(features, numbers, weights)
        return found

    def line_scores(self, params: Params, lines: Sequence[Line]) -> Tensor:
        return self._scores(params, line_features(self.encoder, [line.text for line in lines])[0])

    def doubting(self, params: Params) -> Params:
        return {**params, LOG_SCALE: torch.tensor(math.log(self.encoder.scale))}

    @property
    def texts(self) -> Tensor:
        """What stands for each class in words ``(num_classes, embed_dim)``, normalised: the mean of its texts, each by its weight."""
        own = self.class_texts
        if own.weights is None:
            return self.bound.anchors
        return unit(torch.zeros_like(self.bound.anchors).index_add(0, own.classes, own.weights[:, None] * own.features))

    @property
    def first_scale(self) -> float:
        if not len(self.targets):
            return self.encoder.scale
        return self.start_scale or self.encoder.scale * (0.5 if self.encoder.trains_scale else 1.0)

    def extra(self, seed: int) -> dict[str, Tensor]:
        texts = self.texts
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

    def loss(self, params: Params, inputs: Known, targets: Tensor, factor: float = 1.0) -> Tensor:
        total = self._penalty(params).to(self.bound.anchors)
        if len(inputs):
            loss = factor * mean_cross_entropy(self.class_scores(params, inputs), targets, inputs.weights)
            total = self._num_examples * loss + total.to(loss)
        if not self.class_examples:
            return total / (self._num_examples or 1)
        texts = self.class_texts
        own = self._texts_beside(inputs, len(texts.features))
        share = len(self.targets) / len(inputs) if len(inputs) else 1.0  # as a batch stands for all of `train`, so do the texts beside it
        scores, classes = self._scores(params, texts.features[own]), texts.classes[own]
        if texts.weights is None:
            further = F.cross_entropy(scores, classes, reduction="sum") * share
        else:
            further = (texts.weights[own] * F.cross_entropy(scores, classes, reduction="none")).sum() * share
        return (total + self.class_examples * further) / (self._num_examples + self.class_examples * texts.weight)

    def _texts_beside(self, inputs: Known, count: int) -> Tensor:
        """Return which of `count` class texts a batch of examples reads: each stands beside one example, and is read with it."""
        examples = len(self.targets)
        if not examples:
            return torch.arange(count, device=self.device)
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
