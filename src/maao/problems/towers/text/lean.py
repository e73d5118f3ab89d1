"""Small parts of a decoder with gradients of our own, which take fewer passes over memory than autograd does, and keep less for it.

The model's own forward runs. Its RMS norms, gated feed-forward networks and rotations of queries and keys are replaced while it does, where
ours give the same numbers bit for bit; any other part is left alone. Gradients of norms differ in their last bits. fp32 only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Module

from maao.problems.towers.text.attention import Context, base_model
from maao.problems.towers.text.loading import FrozenModel

ROTARY = "apply_rotary_pos_emb"  # what families call the function that turns queries and keys
GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}

Turn = Callable[..., tuple[Tensor, Tensor]]
_READ: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("read", default=None)


class Norm(Protocol):
    """What families have as an RMS norm."""

    weight: Tensor
    variance_epsilon: float


class Gated(Protocol):
    """What families have as a gated feed-forward network."""

    gate_proj: Module
    up_proj: Module
    down_proj: Module


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a model can be replaced: norms, feed-forward networks in their order, and by source file what turns queries and keys."""

    norms: tuple[Module, ...]
    gated: tuple[Module, ...]
    turns: tuple[tuple[str, Turn], ...]


class _Norm(torch.autograd.Function):
    """``weight * x / sqrt(mean(x^2) + eps)``."""

    @staticmethod
    def forward(context: Context, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
        context.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = context.saved_tensors
        moved = gradients[0] * weight
        along = torch.linalg.vecdot(moved, x)[..., None] * (scale * scale / x.shape[-1])
        return moved.addcmul_(x, along, value=-1).mul_(scale), None, None


class _Gate(torch.autograd.Function):
    """``silu(gate) * up``; the first is computed again for the gradient."""

    @staticmethod
    def forward(context: Context, gate: Tensor, up: Tensor) -> Tensor:
        context.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = context.saved_tensors
        return torch.ops.aten.silu_backward(gradients[0] * up, gate), F.silu(gate).mul_(gradients[0])


class _Turned(torch.autograd.Function):
    """Pairs of a head's dimensions, the first half with the second, turned by angles; the gradient is turned back."""

    @staticmethod
    def forward(context: Context, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        context.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        found = x * cos
        found[..., :half] -= x[..., half:] * sin[..., :half]
        found[..., half:] += x[..., :half] * sin[..., half:]
        return found

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = context.saved_tensors
        (gradient,) = gradients
        half = gradient.shape[-1] // 2
        found = gradient * cos
        found[..., :half] += gradient[..., half:] * sin[..., half:]
        found[..., half:] -= gradient[..., :half] * sin[..., :half]
        return found, None, None


def _norm(module: Norm, x: Tensor) -> Tensor:
    found: Tensor = _Norm.apply(x, module.weight, module.variance_epsilon)
    return found


def _gated(module: Gated, x: Tensor) -> Tensor:
    found: Tensor = module.down_proj(_Gate.apply(module.gate_proj(x), module.up_proj(x)))
    return found


def _gated_where_read(module: Gated, x: Tensor) -> Tensor:
    """Run a feed-forward network only on the tokens that are read behind it; all others get zeros."""
    read = _READ.get()
    if read is None or x.dim() != 3:
        return _gated(module, x)
    return torch.zeros_like(x).index_put(read, _gated(module, x[read][None])[0])


def _turn(original: Turn, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *more: object, **options: object) -> tuple[Tensor, Tensor]:
    if more or options or cos.shape[-1] != query.shape[-1] or cos.dim() != 3:
        return original(query, key, cos, sin, *more, **options)
    cos, sin = cos[:, None], sin[:, None]
    return _Turned.apply(query, cos, sin), _Turned.apply(key, cos, sin)


@contextmanager
def lean(frozen: FrozenModel, read: Tensor | None = None) -> Iterator[None]:
    """Let the model's parts be ours.

    Args:
        read: where in each row ``(batch, count)`` stand the tokens whose last hidden states are read: the last layer's feed-forward network
            runs on no others. None: all are read.
    """
    parts = parts_of(frozen)
    token = _READ.set(None if read is None else _places(read))
    replaced: list[tuple[Module, Callable[..., Tensor]]] = [(module, _norm) for module in parts.norms]
    replaced += [(module, _gated_where_read if module is parts.gated[-1] else _gated) for module in parts.gated]
    replaced = [(module, ours) for module, ours in replaced if "forward" not in vars(module)]
    for module, ours in replaced:
        module.forward = partial(ours, module)
    for name, original in parts.turns:
        vars(sys.modules[name])[ROTARY] = partial(_turn, original)
    try:
        yield
    finally:
        for module, _ in replaced:
            del module.forward
        for name, original in parts.turns:
            vars(sys.modules[name])[ROTARY] = original
        _READ.reset(token)


def _places(read: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and positions, each pair once: what were there twice would count twice in the gradient."""
    rows = torch.arange(len(read), device=read.device)[:, None].expand_as(read)
    row, place = torch.stack([rows.flatten(), read.flatten()]).unique(dim=1)
    return row, place


def parts_of(frozen: FrozenModel) -> Parts:
    """Return what of a model can be replaced, tried once."""
    key = ("lean", id(frozen.model))
    if key not in frozen.tried:
        frozen.tried[key] = _find(frozen)
    found: Parts = frozen.tried[key]
    return found


def _find(frozen: FrozenModel) -> Parts:
    if frozen.kind != "decoder" or frozen.model.dtype != torch.float32:
        return Parts((), (), ())
    modules = list(base_model(frozen).modules())
    norms = tuple(module for module in modules if _is_norm(module) and _same(module, _norm, next(module.parameters()).shape[0]))
    gated = tuple(module for module in modules if set(dict(module.named_children())) == GATED and _same_gate(module))
    names = dict.fromkeys(type(module).__module__ for module in modules)
    sources = [(name, vars(sys.modules[name]).get(ROTARY)) for name in names if name in sys.modules]
    return Parts(norms, gated, tuple((name, turn) for name, turn in sources if turn is not None and _same_turn(turn)))


def _is_norm(module: Module) -> bool:
    own = dict(module.named_parameters())
    return set(own) == {"weight"} and own["weight"].dim() == 1 and "variance_epsilon" in vars(module)


def _same(module: Module, ours: Callable[..., Tensor], width: int) -> bool:
    """Say whether ours gives the same numbers for random ones."""
    x = torch.randn(1, 5, width, generator=torch.Generator().manual_seed(0)).to(next(module.parameters()))
    try:
        with torch.no_grad():
            return torch.equal(ours(module, x), module(x))
    except (TypeError, RuntimeError, AttributeError, ValueError):
        return False


def _same_gate(module: Module) -> bool:
    parts = [part for name, part in module.named_children() if name != "act_fn" and isinstance(part, torch.nn.Linear)]
    return len(parts) == 3 and _same(module, _gated, parts[0].in_features)


def _same_turn(turn: Turn) -> bool:
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 4, 5, 8, generator=draw), torch.randn(2, 2, 5, 8, generator=draw)
    cos, sin = torch.randn(1, 5, 8, generator=draw), torch.randn(1, 5, 8, generator=draw)
    try:
        wanted = turn(query, key, cos, sin)
        return all(torch.equal(a, b) for a, b in zip(_turn(turn, query, key, cos, sin), wanted, strict=True))
    except (TypeError, RuntimeError, AttributeError, ValueError):
        return False
