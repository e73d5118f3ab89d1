"""Attention with fewer heads for keys than for queries, without copying keys and values for each query head.

transformers repeats keys and values before its attention, forward and backward. Here the query heads that share a key head are further
queries of that head. transformers lets a model's attention be replaced by name (`AttentionInterface`); a model whose attention is given
more than the usual (caps, sinks, biases) keeps its own.

On the CPU torch's fused attention is slow for short rows, backwards above all: there the weights are computed outright, as four batched
products (`weigh`, `unweigh`), and kept for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from maao.problems.towers.text.loading import FrozenModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "maao_grouped"
OUTRIGHT = 128  # keys: with more of them the weights take much memory, and torch's own attention is no slower
SPECIAL = ("softcap", "s_aux", "position_bias", "cache")  # what some models' attention is given beside the usual


Context = Any  # autograd's, which takes whatever a function hands on to its gradient
KeyValues = tuple[Tensor, Tensor]  # each (batch, heads, length, head_dim)
_FRONT: ContextVar[Sequence[KeyValues] | None] = ContextVar("front", default=None)


class Layer(Protocol):
    """What calls an attention; its number is asked for where keys and values stand apart."""

    layer_idx: int


def base_model(frozen: FrozenModel) -> PreTrainedModel:
    """Return the model without its output layer."""
    from transformers import PreTrainedModel

    inner = frozen.model.base_model
    if inner is not frozen.model or frozen.kind == "encoder":
        # Some (OPT, BART as a decoder) have a shell around their decoder, which the model with its output layer does not call.
        within = list(inner.children()) if frozen.kind == "decoder" else []
        return within[0] if len(within) == 1 and isinstance(within[0], PreTrainedModel) else inner
    # The name that its class gives for the inner model is another one's (Llama 4).
    parts = [part for part in frozen.model.children() if isinstance(part, PreTrainedModel)]
    return parts[0] if len(parts) == 1 else inner


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float | None,
    dropout: float = 0.0,
    front: KeyValues | None = None,
) -> Tensor:
    """Return ``(batch, heads, length, head_dim)`` of queries of that shape; keys and values may have fewer heads.

    `mask` is ``(batch or 1, 1, length, keys)``: true (or 0 where it is added) for what is read. `front` are the first of these keys and
    their values, where they stand apart from the others.
    """
    batch, heads, length, width = query.shape
    ahead = 0 if front is None else front[0].shape[2]
    if computes_outright(query, ahead + key.shape[2], dropout):
        first = (key[:, :, :0], value[:, :, :0]) if front is None else front
        out: Tensor = _Outright.apply(query, key, value, *first, added(mask), width**-0.5 if scale is None else scale)
        return out
    if front is not None:
        key, value = torch.cat([front[0], key], dim=2), torch.cat([front[1], value], dim=2)
    shared = heads // key.shape[1]
    if shared > 1:
        query = query.reshape(batch, key.shape[1], shared * length, width)
        mask = mask.repeat(1, 1, shared, 1)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    return out.reshape(batch, heads, length, width)


def computes_outright(query: Tensor, keys: int, dropout: float) -> bool:
    """Say whether weights are computed outright for queries that read so many keys."""
    return query.device.type == "cpu" and query.dtype == torch.float32 and keys <= OUTRIGHT and dropout == 0.0


def added(mask: Tensor) -> Tensor:
    """Return a mask that is added to scores: 0 for what is read, else the lowest number, so that a query that reads nothing stays one."""
    return mask if mask.dtype != torch.bool else torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)


def weigh(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, shape: Sequence[int], out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what queries read of keys and values, and the weights ``(n, queries, keys)`` they read them with.

    Args:
        query: ``(n, queries, head_dim)``, scaled.
        key, value: ``(n, keys, head_dim)``.
        mask: added to the scores, which are seen as of `shape` for it.
        out: where what is read is written to.
    """
    scores = torch.bmm(query, key.transpose(1, 2))
    scores.view(shape).add_(mask)
    weights = scores.softmax(-1)
    return torch.bmm(weights, value, out=out), weights


def unweigh(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values from that of what was read."""
    moved = torch.bmm(gradient, value.transpose(1, 2))
    for_scores = torch._softmax_backward_data(moved, weights, -1, weights.dtype)
    return torch.bmm(for_scores, key), torch.bmm(for_scores.transpose(1, 2), query), torch.bmm(weights.transpose(1, 2), gradient)


class _Outright(torch.autograd.Function):
    """Attention of ``(batch, heads, length, head_dim)`` with weights computed outright.

    Keys and values in front stand apart: they are not copied to the others, and get no gradient where none is asked for.
    """

    @staticmethod
    def forward(
        context: Context, query: Tensor, key: Tensor, value: Tensor, front_key: Tensor, front_value: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        batch, heads, length, width = query.shape
        few, ahead = key.shape[1], front_key.shape[2]
        own = (query * scale).reshape(batch * few, heads // few * length, width)
        k, v, first_k, first_v = (part.reshape(batch * few, -1, width) for part in (key, value, front_key, front_value))
        if not ahead:
            out, weights = weigh(own, k, v, mask, (batch, heads, length, k.shape[1]))
        else:
            scores = own.new_empty(batch * few, own.shape[1], ahead + k.shape[1])
            scores[..., :ahead], scores[..., ahead:] = torch.bmm(own, first_k.transpose(1, 2)), torch.bmm(own, k.transpose(1, 2))
            scores.view(batch, heads, length, -1).add_(mask)
            weights = scores.softmax(-1)
            out = torch.bmm(weights[..., :ahead], first_v).baddbmm_(weights[..., ahead:], v)
        context.save_for_backward(own, k, v, first_k, first_v, weights)
        context.scale, context.shapes = scale, (query.shape, key.shape, front_key.shape)
        return out.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        own, k, v, first_k, first_v, weights = context.saved_tensors
        queries, keys, front = context.shapes
        gradient, ahead = gradients[0].reshape(own.shape), front[2]
        if not ahead:
            for_query, for_key, for_value = unweigh(gradient, own, k, v, weights)
            return for_query.mul_(context.scale).view(queries), for_key.view(keys), for_value.view(keys), None, None, None, None
        moved = torch.empty_like(weights)
        moved[..., :ahead], moved[..., ahead:] = torch.bmm(gradient, first_v.transpose(1, 2)), torch.bmm(gradient, v.transpose(1, 2))
        for_scores = torch._softmax_backward_data(moved, weights, -1, weights.dtype)
        for_query = torch.bmm(for_scores[..., :ahead], first_k).baddbmm_(for_scores[..., ahead:], k).mul_(context.scale)
        for_key, for_value = (torch.bmm(part[..., ahead:].transpose(1, 2), by) for part, by in ((for_scores, own), (weights, gradient)))
        for_front: tuple[Tensor | None, ...] = (None, None)
        if context.needs_input_grad[3] or context.needs_input_grad[4]:
            parts = ((for_scores, own), (weights, gradient))
            for_front = tuple(torch.bmm(part[..., :ahead].transpose(1, 2), by).view(front) for part, by in parts)
        return for_query.view(queries), for_key.view(keys), for_value.view(keys), *for_front, None, None


def _attention(
    module: Layer, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **options: Any
) -> tuple[Tensor, None]:
    front = _FRONT.get()
    if any(options.get(name) is not None for name in SPECIAL) or (front is None and attention_mask is None):
        if front is not None:
            raise NotImplementedError("keys and values that stand apart, in an attention that is not the usual one")
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    own = None if front is None else front[module.layer_idx]
    if attention_mask is None:
        keys = key.shape[2] + (0 if own is None else own[0].shape[2])
        attention_mask = torch.ones(1, 1, query.shape[2], keys, dtype=torch.bool, device=query.device).tril(keys - query.shape[2])
    return attend(query, key, value, attention_mask, scaling, options.get("dropout", 0.0), own).transpose(1, 2), None


def can_group_heads(frozen: FrozenModel) -> bool:
    """Say whether a model is a decoder with fewer key heads than query heads, and its attention the usual one."""
    config = base_model(frozen).config
    fewer = (getattr(config, "num_key_value_heads", None) or 10**6) < (getattr(config, "num_attention_heads", None) or 0)
    return bool(frozen.kind == "decoder" and fewer and config._attn_implementation == "sdpa")


@contextmanager
def grouped_heads(frozen: FrozenModel, front: Sequence[KeyValues] | None = None) -> Iterator[None]:
    """Let a model whose heads can be grouped use the attention above; any other is left alone.

    Args:
        front: keys and values of each layer in front of those that the model gives its attention (`Apart`).
    """
    if not can_group_heads(frozen):
        yield
        return
    from transformers.masking_utils import sdpa_mask

    token = _FRONT.set(front)
    try:
        with named_attention(frozen, NAME, _attention, sdpa_mask):
            yield
    finally:
        _FRONT.reset(token)


@contextmanager
def named_attention(frozen: FrozenModel, name: str, attention: Callable[..., object], mask: Callable[..., object]) -> Iterator[None]:
    """Let the model use an attention of ours, with masks made as it wants them."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)
    config = base_model(frozen).config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
