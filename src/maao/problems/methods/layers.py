"""Shared by methods that put rows into later layers, or train small networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maao.errors import ConfigError
from maao.problems.methods import Bound

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


def check_tokens(bound: Bound, name: str) -> None:
    """Refuse an image tower that has no place for prompts. Raises `ConfigError`."""
    if not bound.encoder.input.width:
        raise ConfigError(
            f"{name} puts prompts among the tokens of an image, and the image tower of {bound.encoder.name} works on none: choose coop, "
            "kgcoop, prograd, cocoop or tcp."
        )
