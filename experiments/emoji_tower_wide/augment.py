"""Drawings as another artist might have made them. Batched: tensors ``(batch, 3, 64, 64)`` in 0..1 on white paper."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.emoji_tower.shared import SIZE, hue

STRENGTH = 0.7  # multiplies every chance and every range; 1 learned too slowly in the minutes there are (on held-out Noto groups)


def augment(images: Tensor, may_flip: Tensor, draw: torch.Generator, strength: float = STRENGTH) -> Tensor:
    """Return drawings moved, turned, flattened, outlined, recoloured, with holes and on other grounds.

    Args:
        may_flip: ``(batch,)`` booleans: whether a mirrored drawing still shows the same thing (arrows, digits and flags do not).
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draw) * (high - low) + low

    def some(share: float) -> Tensor:
        return (torch.rand(count, generator=draw) < share * strength).view(count, 1, 1, 1)

    def sometimes(share: float, low: float, high: float) -> Tensor:
        return torch.where(some(share), uniform(low, high, 1, 1, 1), torch.zeros(1))

    ground = torch.where(some(0.25), uniform(0, 1, 3, 1, 1), torch.ones(count, 3, 1, 1))
    bare = (images.min(1, keepdim=True).values > 0.97).float()
    images = _moved(images * (1 - bare) + ground * bare, ground, may_flip, draw, strength)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    edges = (images - blurred).abs().mean(1, keepdim=True)
    images = images + (blurred - images) * sometimes(0.5, -1.5, 1.2)  # sharper or softer
    images = images - edges * sometimes(0.2, 1, 5)  # outlines
    levels = torch.randint(3, 7, (count, 1, 1, 1), generator=draw).float()
    images = torch.where(some(0.25), (images * levels).round() / levels, images)
    images = _recoloured(images, some(0.1), some(0.5), some(0.1), draw, strength)
    images = torch.where(some(0.3), images.clamp(0, 1) ** uniform(0.6, 1.7, 3, 1, 1), images)
    images = (images - 0.5) * (1 + uniform(-0.3, 0.35, 1, 1, 1) * strength) + 0.5 + uniform(-0.15, 0.15, 1, 1, 1) * strength
    across = (torch.arange(SIZE).view(1, 1, SIZE) - uniform(0, SIZE, 1, 1)).abs() < uniform(4, 11, 1, 1)
    down = (torch.arange(SIZE).view(1, SIZE, 1) - uniform(0, SIZE, 1, 1)).abs() < uniform(4, 11, 1, 1)
    return torch.where(some(0.3) & (across & down)[:, None], ground, images).clamp(0, 1)


def _moved(images: Tensor, ground: Tensor, may_flip: Tensor, draw: torch.Generator, strength: float) -> Tensor:
    count = len(images)

    def around(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=draw) * (high - low) + low) * strength

    angle, size, stretch = around(-0.3, 0.3), 1 + around(-0.2, 0.25), 1 + around(-0.12, 0.14)
    flip = torch.where((torch.rand(count, generator=draw) < 0.5) & may_flip, -1.0, 1.0)
    cos, sin = angle.cos() * size, angle.sin() * size
    rows = [
        torch.stack([cos * flip * stretch, -sin, around(-0.15, 0.15)], 1),
        torch.stack([sin * flip, cos / stretch, around(-0.15, 0.15)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images - ground, grid, align_corners=False) + ground  # zeros outside are the ground


def _recoloured(images: Tensor, grey: Tensor, turned: Tensor, far: Tensor, draw: torch.Generator, strength: float) -> Tensor:
    count = len(images)
    mean = images.mean(1, keepdim=True)
    saturation = 1 + (torch.rand(count, 1, 1, 1, generator=draw) * 1.1 - 0.5) * strength
    images = mean + (images - mean) * torch.where(grey, torch.zeros(1), saturation)
    near_by, anywhere = torch.rand(count, generator=draw) * 1.2 - 0.6, (torch.rand(count, generator=draw) * 2 - 1) * math.pi
    images = torch.where(turned, torch.einsum("bij,bjhw->bihw", hue(near_by), images), images)
    return torch.where(far, torch.einsum("bij,bjhw->bihw", hue(anywhere), images), images)
