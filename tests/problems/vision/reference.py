"""Slow, plain computations of CLIP and of the methods' losses, formula by formula, with nothing of maao in them.

Texts stand one by one at the full length with an explicit causal mask; layers are matrix products of the checkpoint's own weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def norm(x: Tensor, layer: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def block(x: Tensor, layer: Any, heads: int, causal: bool) -> Tensor:
    """One pre-norm layer on ``(tokens, width)``."""
    own, width = layer.self_attn, x.shape[1] // heads
    held = norm(x, layer.layer_norm1)
    q, k, v = (held @ p.weight.T + p.bias for p in (own.q_proj, own.k_proj, own.v_proj))
    parts = []
    for h in range(heads):
        cols = slice(h * width, (h + 1) * width)
        scores = q[:, cols] @ k[:, cols].T / math.sqrt(width)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        parts.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ v[:, cols])
    x = x + torch.cat(parts, 1) @ own.out_proj.weight.T + own.out_proj.bias
    held = norm(x, layer.layer_norm2)
    inner = held @ layer.mlp.fc1.weight.T + layer.mlp.fc1.bias
    inner = inner * torch.sigmoid(1.702 * inner)
    return x + inner @ layer.mlp.fc2.weight.T + layer.mlp.fc2.bias


def text_feature(model: Any, ids: Sequence[int], length: int, context: Tensor | None, deep: Mapping[int, Tensor] | None = None) -> Tensor:
    """The normalised feature of one text, its positions 1 to n holding a context (and, entering later layers, other rows)."""
    text, config = model.text_model, model.config.text_config
    full = [*ids, *[ids[-1]] * (length - len(ids))]
    x = text.embeddings.token_embedding.weight[full]
    if context is not None:
        x = torch.cat([x[:1], context, x[1 + len(context) :]])
    x = x + text.embeddings.position_embedding.weight[:length]
    for number, layer in enumerate(text.encoder.layers):
        if deep and number in deep:
            x = torch.cat([x[:1], deep[number], x[1 + len(deep[number]) :]])
        x = block(x, layer, config.num_attention_heads, causal=True)
    x = norm(x, text.final_layer_norm)[len(ids) - 1] @ model.text_projection.weight.T
    return x / x.pow(2).sum().sqrt()


def image_feature(model: Any, pixels: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
    """The normalised feature of one image ``(3, height, width)``, prompts behind its tokens in the first layers."""
    vision, config = model.vision_model, model.config.vision_config
    kernel, size = vision.embeddings.patch_embedding.weight, config.patch_size
    patches = [
        (kernel * pixels[:, i : i + size, j : j + size]).sum((1, 2, 3))
        for i in range(0, pixels.shape[1], size)
        for j in range(0, pixels.shape[2], size)
    ]
    x = torch.stack([vision.embeddings.class_embedding, *patches]) + vision.embeddings.position_embedding.weight
    count = len(x)
    if prompts:
        x = torch.cat([x, prompts[0]])
    x = norm(x, vision.pre_layrnorm)
    for number, layer in enumerate(vision.encoder.layers):
        if 0 < number < len(prompts):
            x = torch.cat([x[:count], prompts[number]])
        x = block(x, layer, config.num_attention_heads, causal=False)
    x = norm(x[0], vision.post_layernorm) @ model.visual_projection.weight.T
    return x / x.pow(2).sum().sqrt()


def cross_entropy(logits: Tensor, targets: Sequence[int]) -> Tensor:
    return torch.stack([row.exp().sum().log() - row[t] for row, t in zip(logits, targets, strict=True)]).mean()


def anchored(classes: Tensor, anchors: Tensor, logits: Tensor, targets: Sequence[int], weight: float) -> Tensor:
    """KgCoOp's loss, and TCP's: cross-entropy and one minus the mean cosine with the hand-written classes."""
    cosines = torch.stack([(a * b).sum() / (a.norm() * b.norm()) for a, b in zip(classes, anchors, strict=True)])
    return cross_entropy(logits, targets) + weight * (1 - cosines.mean())


def prograd(g: Tensor, h: Tensor, weight: float) -> Tensor:
    """The gradient that ProGrad steps along."""
    if (g * h).sum() >= 0:
        return g
    unit = h / h.pow(2).sum().sqrt()
    return g - weight * (g * unit).sum() * unit


def zero_shot_distance(logits: Tensor, known: Tensor, temperature: float) -> Tensor:
    """The cross-entropy from zero-shot scores to own ones, times the temperature's square."""
    p = (known / temperature).softmax(-1)
    return -(temperature**2) * (p * (logits / temperature).log_softmax(-1)).sum(-1).mean()


def promptsrc(
    classes: Tensor,
    anchors: Tensor,
    images: Tensor,
    frozen: Tensor,
    scale: float,
    targets: Sequence[int],
    weights: tuple[float, float, float],
) -> Tensor:
    logits, known = scale * images @ classes.T, scale * frozen @ anchors.T
    p, q = known.softmax(-1), logits.softmax(-1)
    apart = (p * (p / q).log()).sum() / logits.numel()
    text = (classes - anchors).abs().sum() / classes.numel()
    image = (images - frozen).abs().sum() / images.numel()
    return cross_entropy(logits, targets) + weights[0] * text + weights[1] * image + weights[2] * apart
