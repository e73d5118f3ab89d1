"""Rows of different lengths in one sequence, without padding: what each token goes through by itself runs once over all of them.

Only attention knows rows: there, rows of similar length are laid side by side (padded within a group, where it costs little). transformers
lets a model's attention be replaced by name (`AttentionInterface`), so this serves every causal model whose attention is the plain one, or
sees only so many tokens back. A model that does something else there (caps, biases, chunks) gives other numbers, which `probes.py` finds
out before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Module

from maao.problems.towers.text.attention import (
    SPECIAL,
    Context,
    added,
    attend,
    base_model,
    computes_outright,
    named_attention,
    unweigh,
    weigh,
)
from maao.problems.towers.text.forward import first_position
from maao.problems.towers.text.lean import lean
from maao.problems.towers.text.loading import Arguments, FrozenModel

NAME = "maao_packed"
GROUP_COST = 64  # what another group costs beside its padded tokens, in tokens


@dataclass(frozen=True, slots=True)
class Moves:
    """Where queries and keys of `heads` key heads stand in the groups, which hold the places of a row head by head.

    Queries are moved with all query heads of a key head at once. `queries` gives for each of their places the row to take of
    ``(tokens * heads)``, `tokens` the place of each of these. `keys` and `own` are the same of keys, taken from ``(heads * (prefix +
    tokens))`` and back to ``(heads * tokens)``.
    """

    queries: Tensor
    tokens: Tensor
    keys: Tensor
    own: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Where tokens stand: rows one behind the other, sorted by length, and side by side in groups, behind `prefix` keys that all read.

    `spread` gives for each place in the groups the token that stands there, `back` for each token its place in the groups. `groups` are
    the groups' sizes (rows, length), `masks` ``(1, 1, length, prefix + length)``; `windows` holds the masks of layers that see only so
    many tokens back, `moves` what heads of so many keys move by.
    """

    spread: Tensor
    back: Tensor
    groups: tuple[tuple[int, int], ...]
    masks: tuple[Tensor, ...]
    prefix: int
    windows: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    moves: dict[int, Moves] = field(default_factory=dict)

    @property
    def most_keys(self) -> int:
        return self.prefix + max(length for _, length in self.groups)

    def within(self, window: int | None) -> tuple[Tensor, ...]:
        """Return the masks of a layer whose tokens see `window` tokens back, themselves included; None: all."""
        if window is None:
            return self.masks
        if window not in self.windows:
            self.windows[window] = tuple(mask & _near(mask, window) for mask in self.masks)
        return self.windows[window]


def _near(mask: Tensor, window: int) -> Tensor:
    """Return ``(length, prefix + length)``: which keys a query that stands so many keys further on still sees."""
    length, keys = mask.shape[-2:]
    own = torch.arange(length, device=mask.device)[:, None] + (keys - length)
    return torch.arange(keys, device=mask.device)[None, :] > own - window


_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


def layout(lengths: Sequence[int], prefix: int, device: torch.device) -> Layout:
    """Return the layout of rows of these lengths, shortest first, behind `prefix` keys that all of them read."""
    groups = _grouped(lengths)
    spread, back, masks, first_token, first_place = [], [], [], 0, 0
    begin = 0
    for rows, length in groups:
        own = torch.tensor(lengths[begin : begin + rows])
        begin += rows
        places = torch.arange(length)
        valid = places < own[:, None]  # (rows, length)
        starts = first_token + own.cumsum(0) - own
        spread.append(torch.where(valid, starts[:, None] + places, 0).flatten())
        back.append((first_place + torch.arange(rows)[:, None] * length + places)[valid])
        causal = places[None, :] <= places[:, None]
        reads = torch.cat([torch.ones(length, prefix, dtype=torch.bool), causal], dim=1)
        masks.append(reads[None, None].to(device))
        first_token += int(own.sum())
        first_place += rows * length
    return Layout(torch.cat(spread).to(device), torch.cat(back).to(device), tuple(groups), tuple(masks), prefix)


def moves(held: Layout, heads: int) -> Moves:
    """Return how queries and keys with so many key heads are moved."""
    if heads not in held.moves:
        device = held.spread.device
        total, head = len(held.back), torch.arange(heads, device=device)[:, None]
        queries, keys, places, own, place, first = [], [], [], [], 0, 0
        for rows, length in held.groups:
            token = held.spread[place : place + rows * length].view(rows, 1, length)
            front = torch.arange(held.prefix, device=device).expand(rows, 1, -1)
            queries.append((token * heads + head).flatten())
            keys.append((torch.cat([front, held.prefix + token], dim=2) + head * (held.prefix + total)).flatten())
            row = torch.arange(rows, device=device)[:, None, None] * heads + head
            places.append((place * heads + row * length + torch.arange(length, device=device)).transpose(1, 2).flatten(0, 1))
            within = held.prefix + torch.arange(length, device=device)
            own.append((first + row * (held.prefix + length) + within).transpose(1, 2).flatten(0, 1))
            place += rows * length
            first += rows * heads * (held.prefix + length)
        tokens, mine = (torch.cat(part)[held.back] for part in (places, own))  # (tokens, heads)
        held.moves[heads] = Moves(torch.cat(queries), tokens.flatten(), torch.cat(keys), mine.T.flatten())
    return held.moves[heads]


def _grouped(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return (rows, length) of groups of rows sorted by length: the cut with the least padding, a group costing `GROUP_COST`."""
    return [(end - begin, lengths[end - 1]) for begin, end in cut_by_length(lengths, GROUP_COST)]


def cut_by_length(lengths: Sequence[int], cost: int, most: int | None = None) -> list[tuple[int, int]]:
    """Return where to cut rows sorted by length, shortest first, as (begin, end): of all ways the one that costs least.

    A part costs its tokens with their padding, and `cost` tokens more. None has more than `most` tokens, unless it is a single row.

    Example:
        >>> cut_by_length([3, 4, 30], cost=5), cut_by_length([3, 4, 30], cost=100), cut_by_length([3, 4, 30], cost=100, most=40)
        ([(0, 2), (2, 3)], [(0, 3)], [(0, 2), (2, 3)])
    """
    best = [(0, 0)]  # of the first n rows: the least cost, and where the last part begins
    for end in range(1, len(lengths) + 1):
        options = []
        for begin in range(end - 1, -1, -1):
            tokens = (end - begin) * lengths[end - 1]
            if most is not None and tokens > most and begin < end - 1:
                break
            options.append((best[begin][0] + tokens + cost, begin))
        best.append(min(options))
    cuts, end = [], len(lengths)
    while end:
        cuts.append((best[end][1], end))
        end = best[end][1]
    return cuts[::-1]


class _Move(torch.autograd.Function):
    """Take slices of dimension 2 to other places. Each is wanted once at most, so the gradient takes them back the same way."""

    @staticmethod
    def forward(context: Context, value: Tensor, to: Tensor, back: Tensor) -> Tensor:
        context.save_for_backward(back)
        return value.index_select(2, to)

    @staticmethod
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (back,) = context.saved_tensors
        return gradients[0].index_select(2, back), None, None


class _MoveBack(torch.autograd.Function):
    """Take from the groups what is a token there; places that are padding get no gradient."""

    @staticmethod
    def forward(context: Context, value: Tensor, back: Tensor) -> Tensor:
        context.save_for_backward(back)
        context.places = value.shape[2]
        return value.index_select(2, back)

    @staticmethod
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, None]:
        (back,) = context.saved_tensors
        gradient = gradients[0]
        spread = gradient.new_zeros(*gradient.shape[:2], context.places, *gradient.shape[3:])
        return spread.index_copy_(2, back, gradient), None


class _Outright(torch.autograd.Function):
    """Attention of packed rows with weights computed outright, group by group: each query, key and value moves once in, and once back."""

    @staticmethod
    def forward(
        context: Context, query: Tensor, key: Tensor, value: Tensor, held: Layout, masks: tuple[Tensor, ...], scale: float
    ) -> Tensor:
        heads, few, total, width = query.shape[1], key.shape[1], query.shape[2], query.shape[3]
        to, shared = moves(held, few), heads // few
        q = query.transpose(1, 2).reshape(total * few, shared * width).index_select(0, to.queries).mul_(scale).view(-1, width)
        k, v = (part.reshape(-1, width).index_select(0, to.keys) for part in (key, value))
        out, weights = torch.empty_like(q), []
        for (queries, keys, shape), mask in zip(_parts(held, few, shared, width), masks, strict=True):
            spread = (shape[0], -1, width)
            weights.append(
                weigh(q[queries].view(spread), k[keys].view(spread), v[keys].view(spread), mask, shape, out[queries].view(spread))[1]
            )
        context.save_for_backward(q, k, v, *weights)
        context.held, context.scale, context.few, context.shape = held, scale, few, (1, total, heads, width)
        return out.view(-1, shared * width).index_select(0, to.tokens).view(context.shape)

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, *weights = context.saved_tensors
        held, few, (_, total, heads, width) = context.held, context.few, context.shape
        to, shared = moves(held, few), heads // few
        # Places that are padding get no gradient.
        moved = q.new_zeros(len(q) // shared, shared * width)
        moved.index_copy_(0, to.tokens, gradients[0].reshape(-1, shared * width))
        gradient, for_queries, for_keys, for_values = moved.view_as(q), torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        fronts = q.new_zeros(2, few, held.prefix, width)
        for (queries, keys, shape), own in zip(_parts(held, few, shared, width), weights, strict=True):
            given, asked, read, said = (part.view(shape[0], -1, width) for part in (gradient[queries], q[queries], k[keys], v[keys]))
            found = unweigh(given, asked, read, said, own)
            for kept, part, where in zip((for_queries, for_keys, for_values), found, (queries, keys, keys), strict=True):
                kept[where] = part.view(-1, width)
            for front, part in zip(fronts, found[1:], strict=True):
                front += part.view(-1, few, shape[3], width)[:, :, : held.prefix].sum(0)
        own_keys, own_values = (
            torch.cat([front, part.index_select(0, to.own).view(few, total, width)], dim=1)[None]
            for front, part in zip(fronts, (for_keys, for_values), strict=True)
        )
        back = for_queries.view(-1, shared * width).index_select(0, to.tokens).mul_(context.scale).view(1, total, heads, width)
        return back.transpose(1, 2), own_keys, own_values, None, None, None


def _parts(held: Layout, few: int, shared: int, width: int) -> Iterator[tuple[slice, slice, tuple[int, int, int, int]]]:
    """Yield which rows of the moved queries and keys are a group's, and the shape of its scores, ``(n, length, shared, keys)``."""
    query = key = 0
    for rows, length in held.groups:
        keys = held.prefix + length
        queries, own = slice(query, query + rows * few * length * shared), slice(key, key + rows * few * keys)
        query, key = queries.stop, own.stop
        yield queries, own, (rows * few, length, shared, keys)


def _attention(
    module: Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of packed rows ``(1, heads, tokens, head_dim)``; keys and values may begin with a prefix that all rows read."""
    held = _LAYOUT.get()
    special = [name for name in SPECIAL if options.get(name) is not None]
    if held is None or special:
        raise NotImplementedError(f"attention with {', '.join(special)}")
    if computes_outright(query, held.most_keys, options.get("dropout", 0.0)):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        masks = tuple(added(mask)[0, 0, :, None] for mask in held.within(options.get("sliding_window")))
        return _Outright.apply(query, key, value, held, masks, scale), None
    prefix = held.prefix
    front = [None if not prefix else part[:, :, :prefix] for part in (key, value)]
    query, key, value = (_Move.apply(part, held.spread, held.back) for part in (query, key[:, :, prefix:], value[:, :, prefix:]))
    found, place = [], 0
    for (rows, length), mask in zip(held.groups, held.within(options.get("sliding_window")), strict=True):
        here = slice(place, place + rows * length)
        place += rows * length
        q, k, v = (part[0, :, here].unflatten(1, (rows, length)).transpose(0, 1) for part in (query, key, value))
        if prefix:
            k, v = (torch.cat([f.expand(rows, -1, -1, -1), part], dim=2) for f, part in zip(front, (k, v), strict=True) if f is not None)
        out = attend(q, k, v, mask, scaling, options.get("dropout", 0.0))
        found.append(out.transpose(0, 1).flatten(1, 2))  # (heads, places, head_dim)
    together = _MoveBack.apply(torch.cat(found, dim=1)[None], held.back)
    return together.transpose(1, 2), None


@contextmanager
def _packed(frozen: FrozenModel, held: Layout) -> Iterator[None]:
    """Let the model's attention read packed rows."""
    token = _LAYOUT.set(held)
    try:
        with named_attention(frozen, NAME, _attention, lambda *_, **__: None):
            yield
    finally:
        _LAYOUT.reset(token)


def packed_hidden_states(
    frozen: FrozenModel,
    sequences: Sequence[Sequence[int]],
    prompt: Tensor,
    first_slots: Sequence[int],
    front: tuple[Tensor, Tensor] | None,
    tail: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the last hidden states ``(tokens, embed_dim)`` of packed rows, and each row's first token in them ``(batch,)``.

    Args:
        sequences: token ids of the rows; at their slots any.
        prompt: ``(num_virtual_tokens, embed_dim)``, the rows in the slots.
        first_slots: where in each row the slots begin.
        front: keys and values ``(layers, heads, length, head_dim)`` that all rows read.
        tail: only so many tokens at the end of each row are read; the last hidden states of others are not the model's then.
    """
    from transformers import DynamicCache

    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    lengths = [len(sequences[i]) for i in order]
    starts = torch.zeros(len(sequences), dtype=torch.long)
    starts[order] = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    before = 0 if front is None else front[0].shape[2]
    ids = torch.tensor([token for i in order for token in sequences[i]], device=frozen.device)
    positions = torch.cat([torch.arange(length) for length in lengths]) + before + (first_position(frozen) or 0)
    with torch.no_grad():
        embeddings = frozen.model.get_input_embeddings()(ids)
    if len(prompt):
        slots = (starts + torch.tensor(list(first_slots)))[:, None] + torch.arange(len(prompt))
        embeddings = embeddings.index_put((slots.to(frozen.device).flatten(),), prompt.to(embeddings).repeat(len(sequences), 1))
    options: Arguments = {"use_cache": False}
    if front is not None:
        layers = [(k[None].to(embeddings), v[None].to(embeddings)) for k, v in zip(*front, strict=True)]
        options = {"past_key_values": DynamicCache(layers), "use_cache": True}
    read = None
    if tail is not None:
        ends = torch.tensor(lengths).cumsum(0)[:, None] - 1 - torch.arange(tail)
        read = ends.flatten().clamp_min(0).unique()[None].to(frozen.device)
    with _packed(frozen, layout(lengths, before, frozen.device)), lean(frozen, read):
        hidden = base_model(frozen)(
            inputs_embeds=embeddings[None], attention_mask=None, position_ids=positions[None].to(frozen.device), **options
        ).last_hidden_state[0]
    return hidden, starts.to(frozen.device)
