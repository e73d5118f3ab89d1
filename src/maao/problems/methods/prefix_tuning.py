"""Prefix tuning: keys and values of every layer are trained, in front of everything the model reads (deep prompts).

Sources: Li and Liang, Prefix-Tuning, 2021 (with a projection: embeddings through a small network); Liu et al., P-Tuning v2, 2022 (without).
A text restarts it through the frozen model: what that reads of the text, its keys and values, are the params. For a causal model with the
slots first that is exact. Behind other text, or in a bidirectional model, the text's tokens would read what stands around them, which keys
and values computed by themselves do not: a start near the text, whose gap every round stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NoReturn

import torch
from pydantic import Field
from torch import Tensor, nn

from maao.core.blending import between
from maao.errors import ModelError
from maao.problems.methods import others
from maao.problems.methods.residual import ENCODER, Residual
from maao.problems.settings import TextMethodOptions, TextParts
from maao.problems.towers.text.attention import base_model
from maao.problems.towers.text.forward import key_values, positions
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.probes import refused, try_behind
from maao.protocols import Params, TokenCodec

KEYS, VALUES = "prefix.keys", "prefix.values"
STD = 0.02  # of a normal start, as the reference release's tables


class Projection(nn.Module):
    """Embeddings ``(num_virtual_tokens, width)`` through two layers to the keys and values of all layers."""

    def __init__(self, num_virtual_tokens: int, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(num_virtual_tokens, width))
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, out))

    def forward(self) -> Tensor:
        return self.layers(self.input)


class PrefixTuning:
    """``{"prefix.keys", "prefix.values"}``, each ``(layers, heads, num_virtual_tokens, head_dim)``; with a projection ``encoder.*`` too.

    With a projection the keys and values are where a text put them, and what is trained is the network whose change is added to them (the
    residual form of `residual.py`).

    Args:
        frozen: the model, which turns rows into keys and values.
        projection: train a network instead of the keys and values themselves.
        hidden: width inside the network.
        seed: fixes the network's beginning.
    """

    def __init__(self, frozen: FrozenModel, num_virtual_tokens: int, *, projection: bool = False, hidden: int = 512, seed: int = 0) -> None:
        self._frozen = frozen
        width = frozen.model.get_input_embeddings().embedding_dim
        with torch.no_grad(), refused(f"{frozen.name} cannot have deep prompts, so use another model.method"):
            keys, values = key_values(frozen, torch.zeros(num_virtual_tokens, width))
            try_behind(frozen, keys, values)
        self._shape = keys.shape
        size = 2 * keys[:, :, 0].numel()
        self._network = Residual(lambda: Projection(num_virtual_tokens, width, hidden, size), seed) if projection else None

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            keys, values = key_values(self._frozen, rows)
        return self._beginning(keys.float().cpu(), values.float().cpu())

    def extra(self, seed: int) -> dict[str, Tensor]:
        return {}

    def normal(self, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        keys, values = torch.randn(2, *self._shape, generator=generator) * STD
        return self._beginning(keys, values)

    def start_tokens(self, params: Params) -> int:
        return int(params[KEYS].shape[2])

    def realize(self, params: Params) -> dict[str, Tensor]:
        rest = others(params, [KEYS, VALUES, ENCODER])
        keys, values = params[KEYS], params[VALUES]
        if self._network is None:
            return {**rest, "keys": keys, "values": values}
        moved = self._network.change(params)[: keys.shape[2]]
        layers, heads, count, width = keys.shape
        added = moved.view(count, layers, 2, heads, width).permute(2, 1, 3, 0, 4)  # PEFT's layout: of each layer its keys, then its values
        return {**rest, "keys": keys.detach() + added[0], "values": values.detach() + added[1]}

    def to_vocabulary_space(self, realized: Params) -> Tensor:
        """Return the first layer's values ``(num_virtual_tokens, heads x head_dim)``: what single words have too."""
        first = realized["values"][0]
        return first.transpose(0, 1).flatten(1)

    def blend(self, old: Params, new: Params, weight: float) -> dict[str, Tensor]:
        """Blend the keys and values that are read, and not the networks that lead to them."""
        with torch.no_grad():
            read = between(self.realize(old), self.realize({**old, **new}), weight)
        rest = between(old, others(new, [KEYS, VALUES, ENCODER]), weight)
        return {**rest, **self._beginning(read["keys"], read["values"])}

    def _beginning(self, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {KEYS: keys, VALUES: values, **({} if self._network is None else self._network.fresh())}


class _Seen(Exception):
    def __init__(self, values: Tensor) -> None:
        self.values = values


def value_table(frozen: FrozenModel, table: Tensor, chunk: int = 4096) -> Tensor:
    """Return ``(vocab_size, heads x head_dim)``: the first layer's values of each word standing alone at the first position.

    Only the first layer's projections are computed; the pass ends there. In models that add positions to words (GPT-2, BERT) a word's
    values differ a little from place to place, and the nearest words of a deep prompt are a guess.
    """
    from transformers import DynamicCache

    class Ended(DynamicCache):
        def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> NoReturn:
            raise _Seen(value_states)

    options = {"use_cache": True} if frozen.kind == "decoder" else {}
    found = []
    for rows in table.split(chunk):
        mask = torch.ones(len(rows), 1, dtype=torch.long, device=frozen.device)
        inputs = rows.to(frozen.model.get_input_embeddings().weight.dtype)[:, None].to(frozen.device)
        try:
            with torch.no_grad():
                base_model(frozen)(
                    inputs_embeds=inputs, attention_mask=mask, position_ids=positions(frozen, mask), past_key_values=Ended(), **options
                )
        except _Seen as seen:
            found.append(seen.values.transpose(1, 2).flatten(1).float().cpu())
        else:
            raise ModelError(f"{frozen.name} shows no keys and values of its first layer, so a deep prompt cannot be put into words.")
    return torch.cat(found)


class PrefixTuningOptions(TextMethodOptions):
    """Settings of the network, if there is to be one."""

    in_slots: ClassVar[bool] = False
    any_codec: ClassVar[bool] = False

    projection: bool = Field(False, description="Train a network instead of the keys and values themselves.")
    hidden: int | None = Field(None, ge=2, le=8_192, description="Width inside the network; by default 512.")

    def unread(self) -> Mapping[str, str]:
        told = "prefix_tuning has a network only where you set model.projection = true: do so, or drop it"
        return {} if self.projection else {"hidden": told}

    def build(self, parts: TextParts) -> PrefixTuning:
        count, hidden = parts.num_virtual_tokens, self.hidden or 512
        return PrefixTuning(parts.frozen, count, projection=self.projection, hidden=hidden, seed=parts.seed)

    def words(self, parts: TextParts) -> TokenCodec[Params]:
        return parts.codec_of(value_table(parts.frozen, parts.table))
