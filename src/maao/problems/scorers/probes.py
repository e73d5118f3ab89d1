"""Baselines without a prompt, on kept features: the zero-shot classes themselves, a linear probe, and LP++.

Sources: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021 (zero-shot, linear probe); Huang
et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP, CVPR 2024.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.errors import CodecError, ConfigError
from maao.problems.losses import mean_cross_entropy
from maao.problems.methods import Bound
from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.scorers.matcher import Known, KnownScorer
from maao.protocols import Params


class NoPrompt(PromptTuning):
    """The method of what has no prompt: nothing runs through a tower, and no text restarts it."""

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        raise CodecError("A probe has no prompt that a text could replace.")

    def to_vocabulary_space(self, realized: Params) -> Tensor:
        raise CodecError("A probe has no prompt that could be put into words.")


class Probe(KnownScorer):
    """Base: class scores of kept features.

    Args:
        features, targets: those of `train`, which a probe may begin from: ``(num_examples, embed_dim)`` and ``(num_examples,)``.
        weights: what each of them weighs ``(num_examples,)``; None: all alike.
    """

    def __init__(
        self, bound: Bound, *, features: Tensor | None = None, targets: Tensor | None = None, weights: Tensor | None = None
    ) -> None:
        super().__init__(bound)
        self.known_weights = weights
        self.known = torch.zeros(0, bound.encoder.embed_dim) if features is None else features
        self.targets = torch.zeros(0, dtype=torch.long) if targets is None else targets

    def made_of(self, train: Known, targets: Tensor) -> Self:
        """Return the probe on other examples of `train`."""
        found = copy.copy(self)
        found.known, found.targets, found.known_weights = train.features_of.of(train.which), targets, train.weights
        return found

    def bind(self, bound: Bound) -> Self:
        """Return the probe for other classes. Raises `ConfigError`: it is trained on its own."""
        raise ConfigError(f"'{self.name}' is trained on its own classes and says nothing of others.")

    def extra(self, seed: int) -> dict[str, Tensor]:
        raise NotImplementedError

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        raise NotImplementedError

    def loss(self, params: Params, inputs: Known, targets: Tensor, factor: float = 1.0) -> Tensor:
        return factor * mean_cross_entropy(self.class_scores(params, inputs), targets, inputs.weights)

    def num_tokens(self, params: Params, inputs: Known, targets: Tensor | None = None, *, known: bool = False) -> int:
        return 0


class ZeroShot(Probe):
    """``{"classes": (num_classes, embed_dim)}``: the classes in hand-written wordings. Made to be scored, not trained."""

    name = "zero_shot"

    def bind(self, bound: Bound) -> Self:
        return type(self)(bound, features=self.known, targets=self.targets, weights=self.known_weights)

    def extra(self, seed: int) -> dict[str, Tensor]:
        return {"classes": self.bound.anchors.clone()}

    def classes(self, params: Params) -> Tensor:
        return params["classes"] / params["classes"].norm(dim=-1, keepdim=True)

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return self.encoder.logits(inputs.features, self.classes(params))


class LinearProbe(Probe):
    """``{"weight": (num_classes, embed_dim), "bias": (num_classes,)}`` on frozen features, from zeros: logistic regression by steps."""

    name = "linear_probe"

    def extra(self, seed: int) -> dict[str, Tensor]:
        count, width = self.bound.anchors.shape
        return {"weight": torch.zeros(count, width), "bias": torch.zeros(count)}

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return F.linear(inputs.features, params["weight"], params["bias"])


class LPPlusPlus(Probe):
    """``{"weight": (num_classes, embed_dim), "blend": (num_classes,)}``: scores ``feature (weight + blend anchor)``.

    It begins, as in the paper's code, from the mean feature of each class and from one blend for all classes, 250 times the mean cosine of
    an example with its own class's text; each example counts by its weight. A class without an example begins at its text, and says
    nothing of the blend. The paper's step sizes by block are not part of it: the stage makes the steps.
    """

    name = "lp++"

    def extra(self, seed: int) -> dict[str, Tensor]:
        texts = self.bound.anchors.to(self.known)
        own = (self.known * texts[self.targets]).sum(-1)
        there = [c for c in range(len(texts)) if bool((self.targets == c).any())]
        means = texts.clone()
        for c in there:
            means[c] = self._mean_of(c, self.known)
        near = [self._mean_of(c, own) for c in there] or [torch.ones(())]
        return {"weight": means, "blend": (torch.stack(near).mean() * 250).expand(len(texts)).clone()}

    def _mean_of(self, c: int, values: Tensor) -> Tensor:
        """Return the mean of a class's values ``(num_examples, ...)``, each by its weight."""
        own = values[self.targets == c]
        if self.known_weights is None:
            return own.mean(0)
        weights = self.known_weights[self.targets == c]
        return torch.tensordot(weights, own, 1) / weights.sum()

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return inputs.features @ (params["weight"] + params["blend"][:, None] * self.bound.anchors).T
