"""One vector of a text or a picture: which of a model's last hidden states it is, or what is made of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput

Pooling = Literal["mean", "first", "last", "max", "weighted_mean", "pooler"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pooled(output: ModelOutput, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Return one vector ``(batch, width)`` for each row of a model's output.

    Args:
        output: what transformers' models return, with ``last_hidden_state`` of shape ``(batch, length, width)``.
        mask: ``(batch, length)``, one where a token is real; real tokens come first. None: all are.
        pooling: the mean or the largest of the real tokens' states, the first or the last of them, their mean weighted by position
            (Muennighoff, SGPT, 2022), or what the model's own pooler says.

    Example:
        >>> from types import SimpleNamespace
        >>> states = torch.tensor([[[1.0], [4.0], [9.0]]])
        >>> output, mask = SimpleNamespace(last_hidden_state=states), torch.tensor([[1, 1, 0]])
        >>> [float(pooled(output, mask, pooling)) for pooling in ("mean", "first", "last", "max", "weighted_mean")]
        [2.5, 1.0, 4.0, 4.0, 3.0]
    """
    if pooling == "pooler":
        result: Tensor = output.pooler_output
        return result.flatten(1)
    states: Tensor = output.last_hidden_state
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[:, -1] if mask is None else states[torch.arange(len(states), device=states.device), mask.sum(-1) - 1]
    if mask is None and pooling == "mean":
        return states.flatten(2).mean(-1) if states.dim() == 4 else states.mean(1)
    kept = torch.ones_like(states[..., :1]) if mask is None else mask[..., None].to(states)
    if pooling == "max":
        return states.masked_fill(kept == 0, -torch.inf).amax(1)
    if pooling == "weighted_mean":
        kept = kept * torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)[:, None]
    return (states * kept).sum(1) / kept.sum(1)


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean ``(batch, width)`` of the states ``(batch, length, width)`` where the mask ``(batch, length)`` is one.

    Example:
        >>> mean_of(torch.tensor([[[1.0], [4.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
        [[2.5]]
    """
    kept = mask[..., None].to(states)
    return (states * kept).sum(1) / kept.sum(1)
