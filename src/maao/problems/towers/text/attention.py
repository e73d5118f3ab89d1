"""Attention with fewer heads for keys than for queries, without copying keys and values for each query head.

transformers repeats keys and values before its attention, forward and backward. Here the query heads that share a key head are further
queries of that head. transformers lets a model's attention be replaced by name (`AttentionInterface`); a model whose attention is given
more than the usual (caps, sinks, biases) keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from maao.problems.towers.text.loading import FrozenModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "maao_grouped"
SPECIAL = ("softcap", "s_aux", "position_bias", "cache")  # what some models' attention is given beside the usual


def base_model(frozen: FrozenModel) -> PreTrainedModel:
    """Return the model without its output layer."""
    from transformers import PreTrainedModel

    inner = frozen.model.base_model
    if inner is not frozen.model or frozen.kind == "encoder":
        return inner
    # The name that its class gives for the inner model is another one's (Llama 4).
    parts = [part for part in frozen.model.children() if isinstance(part, PreTrainedModel)]
    return parts[0] if len(parts) == 1 else inner


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float | None, dropout: float = 0.0) -> Tensor:
    """Return ``(batch, heads, length, head_dim)`` of queries of that shape; keys and values may have fewer heads.

    `mask` is ``(batch or 1, 1, length, keys)``: true (or 0 where it is added) for what is read.
    """
    batch, heads, length, width = query.shape
    shared = heads // key.shape[1]
    if shared > 1:
        query = query.reshape(batch, key.shape[1], shared * length, width)
        mask = mask.repeat(1, 1, shared, 1)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    return out.reshape(batch, heads, length, width)


def _attention(
    module: Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **options: Any
) -> tuple[Tensor, None]:
    if attention_mask is None or any(options.get(name) is not None for name in SPECIAL):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    return attend(query, key, value, attention_mask, scaling, options.get("dropout", 0.0)).transpose(1, 2), None


def can_group_heads(frozen: FrozenModel) -> bool:
    """Say whether a model is a decoder with fewer key heads than query heads, and its attention the usual one."""
    config = base_model(frozen).config
    fewer = (getattr(config, "num_key_value_heads", None) or 10**6) < (getattr(config, "num_attention_heads", None) or 0)
    return bool(frozen.kind == "decoder" and fewer and config._attn_implementation == "sdpa")


@contextmanager
def grouped_heads(frozen: FrozenModel) -> Iterator[None]:
    """Let a model whose heads can be grouped use the attention above; any other is left alone."""
    if not can_group_heads(frozen):
        yield
        return
    from transformers.masking_utils import sdpa_mask

    with named_attention(frozen, NAME, _attention, sdpa_mask):
        yield


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
