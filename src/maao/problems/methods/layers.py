"""Shared by methods that put rows into later layers, or train small networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.problems.methods import Bound
from maao.problems.methods.coop import CoOp
from maao.protocols import Params

DEEP_STD = 0.02  # of prompts in later layers and among an input's tokens, as CLIP initialises its embeddings


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


class BothTowers(CoOp):
    """Base of what puts rows into the first layers of both towers; ``"deep"`` holds those of the text tower's behind the first.

    Args:
        depth: layers with prompts; by default 9 of 12 in proportion.

    Raises:
        ConfigError: an image tower that has no place for prompts, or fewer layers.
    """

    title: ClassVar[str]  # as its paper writes it
    tunes_inputs: ClassVar[bool] = True

    def __init__(self, bound: Bound, *, depth: int | None = None) -> None:
        super().__init__(bound)
        if not bound.encoder.input.width:
            raise ConfigError(
                f"{self.title} puts prompts among the tokens of an image, and the image tower of {bound.encoder.name} works on none: "
                "choose coop, kgcoop, prograd, cocoop or tcp."
            )
        self.depth = depth_of(depth, 9, len(bound.encoder.text.layers), len(bound.encoder.input.layers))

    def extra(self, seed: int) -> dict[str, Tensor]:
        shape = (self.depth - 1, self.bound.num_rows, self.bound.encoder.text.width)
        return {"deep": torch.randn(shape, generator=seeded(seed_for(seed, "deep"))) * DEEP_STD}

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        return {layer + 1: rows for layer, rows in enumerate(params["deep"])}
