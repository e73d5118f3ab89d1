"""Prompt methods for dual encoders: what is trained, what scores it gives images, and with which loss. One file a method.

A method is bound to the frozen towers and to the prompts of some classes; bound to others (`bind`), the same params judge those. Params are
named tensors. `prompt`, the rows in the slots of the first layer, is what a mentor's text replaces; what else a method trains stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from maao.errors import ConfigError
from maao.problems.towers.class_prompts import Prompt
from maao.problems.towers.dual import DualEncoder
from maao.protocols import Params

DEEP_STD = 0.02  # of prompts in later layers and among an image's tokens, as CLIP initialises its embeddings


@dataclass(frozen=True)
class Bound:
    """What is frozen: the towers, the prompts of the classes with their slots, and the classes' features in hand-written wordings.

    `part_tokens` bounds the memory of a step: beyond so many tokens, classes run in parts and each part runs twice. 0: no bound.
    """

    encoder: DualEncoder
    prompts: tuple[Prompt, ...]
    anchors: Tensor  # (num_classes, embed_dim), normalised
    part_tokens: int = 0


@dataclass(frozen=True)
class Images:
    """Pictures of a batch: `features` ``(batch, embed_dim)`` as the frozen tower sees them, `pixels` for towers that are tuned."""

    features: Tensor
    pixels: Tensor | None = None


class Method(Protocol):
    """A prompt method of dual encoders."""

    name: ClassVar[str]
    tunes_images: ClassVar[bool]  # what it trains reaches the image tower, so that no feature can be computed beforehand

    def bind(self, bound: Bound) -> Method:
        """Return the method for other classes or other prompts."""
        ...

    def initial(self, seed: int, rows: Tensor) -> dict[str, Tensor]:
        """Return all params of a start at these embedding rows ``(num_virtual_tokens, width)``."""
        ...

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the params that a text (its embedding rows) replaces at a restart; the others stay."""
        ...

    def normal(self, seed: int) -> dict[str, Tensor] | None:
        """Return a random start of the method's own; None: start from random rows."""
        ...

    def start_tokens(self, params: Params) -> int:
        """Return the tokens that `start` ran through the model to make these params; 0 where it asks no model."""
        ...

    def realize(self, params: Params) -> Params: ...

    def blend(self, incumbent: Params, proposed: Params, weight: float) -> dict[str, Tensor]:
        """Return a start that reads as ``(1 - weight) * incumbent + weight * proposed``, for the names that are proposed."""
        ...

    def in_words(self, realized: Params) -> Tensor:
        """Return ``(num_virtual_tokens, width)``, the part of the params (or of their gradient) that is compared with words."""
        ...

    def logits(self, params: Params, images: Images) -> Tensor:
        """Return ``(batch, num_classes)`` scores."""
        ...

    def loss(self, params: Params, images: Images, targets: Tensor) -> Tensor: ...

    def num_tokens(self, num_images: int) -> int:
        """Return how many tokens one pass over a batch runs through the frozen towers, without those of the inputs themselves."""
        ...

    def classes(self, params: Params) -> Tensor | None:
        """Return the classes' features ``(num_classes, embed_dim)``, normalised; None: they differ from image to image."""
        ...


def depth_of(asked: int | None, twelfths: int, *layers: int) -> int:
    """Return a depth: the one asked for, or what the paper uses of twelve layers in proportion.

    Raises:
        ConfigError: a tower has fewer layers.

    Example:
        >>> depth_of(None, 9, 12, 12), depth_of(None, 8, 6)
        (9, 4)
    """
    fewest = min(layers)
    if asked is None:
        return max(1, round(twelfths * fewest / 12))
    if not 1 <= asked <= fewest:
        raise ConfigError(f"model.depth = {asked}, and the towers have {' and '.join(map(str, layers))} layers: give 1 to {fewest}.")
    return asked


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int, inside: int, outside: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear layer as torch initialises it, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(inside, outside)
    return layer.weight.detach().clone(), layer.bias.detach().clone()


def check_tokens(bound: Bound, name: str) -> None:
    """Refuse an image tower that has no place for prompts. Raises `ConfigError`."""
    if not bound.encoder.input.width:
        raise ConfigError(
            f"{name} puts prompts among the tokens of an image, and the image tower of {bound.encoder.name} works on none: choose coop, "
            "kgcoop, prograd, cocoop or tcp."
        )
