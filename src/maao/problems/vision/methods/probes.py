"""Baselines without a prompt: the zero-shot classes themselves, a linear probe, and LP++.

Sources: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021 (zero-shot, linear probe); Huang
et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP, CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.blending import between
from maao.errors import CodecError, ConfigError
from maao.problems.settings import ProbeOptions
from maao.problems.vision.methods import Bound, Images
from maao.protocols import Params


class Probe:
    """Base: nothing runs through a tower, and no text restarts it.

    Args:
        features, targets: those of `train`, which a probe may begin from: ``(num_examples, embed_dim)`` and ``(num_examples,)``.
    """

    name: ClassVar[str]
    tunes_images: ClassVar[bool] = False

    def __init__(self, bound: Bound, *, features: Tensor | None = None, targets: Tensor | None = None) -> None:
        self.bound = bound
        self.features = torch.zeros(0, bound.encoder.embed_dim) if features is None else features
        self.targets = torch.zeros(0, dtype=torch.long) if targets is None else targets

    def bind(self, bound: Bound) -> Self:
        raise ConfigError(f"'{self.name}' is trained on its own classes and says nothing of others.")

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        raise CodecError(f"'{self.name}' has no prompt that a text could replace.")

    def normal(self, seed: int) -> None:
        return None

    def start_tokens(self, params: Params) -> int:
        return 0

    def blend(self, incumbent: Params, proposed: Params, weight: float) -> dict[str, Tensor]:
        return between(incumbent, proposed, weight)

    def realize(self, params: Params) -> Mapping[str, Tensor]:
        return params

    def in_words(self, realized: Params) -> Tensor:
        raise CodecError(f"'{self.name}' has no prompt that could be put into words.")

    def classes(self, params: Params) -> Tensor | None:
        return None

    def num_tokens(self, num_images: int) -> int:
        return 0

    def logits(self, params: Params, images: Images) -> Tensor:
        raise NotImplementedError

    def loss(self, params: Params, images: Images, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(params, images), targets)


class ZeroShot(Probe):
    """``{"classes": (num_classes, embed_dim)}``: the classes in hand-written wordings. Made to be scored, not trained."""

    name: ClassVar[str] = "zero_shot"

    def bind(self, bound: Bound) -> Self:
        return type(self)(bound, features=self.features, targets=self.targets)

    def initial(self, seed: int, rows: Tensor) -> dict[str, Tensor]:
        return {"classes": self.bound.anchors.clone()}

    def classes(self, params: Params) -> Tensor:
        return params["classes"] / params["classes"].norm(dim=-1, keepdim=True)

    def logits(self, params: Params, images: Images) -> Tensor:
        return self.bound.encoder.logits(images.features, self.classes(params))


class LinearProbe(Probe):
    """``{"weight": (num_classes, embed_dim), "bias": (num_classes,)}`` on frozen features, from zeros: logistic regression by steps."""

    name: ClassVar[str] = "linear_probe"

    def initial(self, seed: int, rows: Tensor) -> dict[str, Tensor]:
        count, width = self.bound.anchors.shape
        return {"weight": torch.zeros(count, width), "bias": torch.zeros(count)}

    def logits(self, params: Params, images: Images) -> Tensor:
        return F.linear(images.features, params["weight"], params["bias"])


class LPPlusPlus(Probe):
    """``{"weight": (num_classes, embed_dim), "blend": (num_classes,)}``: scores ``feature (weight + blend anchor)``.

    It begins, as in the paper's code, from the mean feature of each class and from one blend for all classes, 250 times the mean cosine of
    an example with its own class's text. The paper's step sizes by block are not part of it: the stage makes the steps.
    """

    name: ClassVar[str] = "lp++"

    def initial(self, seed: int, rows: Tensor) -> dict[str, Tensor]:
        count = len(self.bound.anchors)
        means = torch.stack([self.features[self.targets == c].mean(0) for c in range(count)])
        own = (self.features * self.bound.anchors[self.targets]).sum(-1)
        blend = torch.stack([own[self.targets == c].mean() for c in range(count)]).mean() * 250
        return {"weight": means, "blend": blend.expand(count).clone()}

    def logits(self, params: Params, images: Images) -> Tensor:
        return images.features @ (params["weight"] + params["blend"][:, None] * self.bound.anchors).T


class ZeroShotOptions(ProbeOptions):
    """Nothing to set, and nothing to train."""

    is_trained: ClassVar[bool] = False

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> ZeroShot:
        return ZeroShot(bound, features=features, targets=targets)


class LinearProbeOptions(ProbeOptions):
    """Nothing to set."""

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> LinearProbe:
        return LinearProbe(bound, features=features, targets=targets)


class LPPlusPlusOptions(ProbeOptions):
    """Nothing to set."""

    def build_on(self, bound: Bound, features: Tensor, targets: Tensor) -> LPPlusPlus:
        return LPPlusPlus(bound, features=features, targets=targets)
