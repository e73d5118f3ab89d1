"""The slot mechanism: the frozen model's own forward, with the embedding rows at the slots replaced by params.

Positions are given to the model, counted over real tokens, so that padding on either side changes nothing. Where text stands before the
slots of a causal model, nothing in it depends on them: its keys and values are computed once and a step runs only what follows
(`PrefixCache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from maao.problems.language.loading import FrozenModel
from maao.problems.language.template import Tokenized


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the text before the slots: of each layer ``(batch, heads, length, head_dim)``, padded left."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor  # (batch, length)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A padded batch. `slots` are the positions of the virtual tokens, `last` the position of each row's last token."""

    ids: Tensor  # (batch, length)
    mask: Tensor  # (batch, length)
    slots: Tensor  # (batch, num_virtual_tokens)
    last: Tensor  # (batch,)
    prefix: Prefix | None = None


def pad(
    rows: Sequence[Tokenized],
    *,
    num_virtual_tokens: int,
    fill: int,
    side: Literal["left", "right"] = "right",
    answers: Sequence[Sequence[int]] | None = None,
    device: torch.device | str = "cpu",
) -> Inputs:
    """Return a padded batch of examples, each followed by the tokens of its answer, if any."""
    answers = answers or [()] * len(rows)
    sequences = [[*row.before, *[fill] * num_virtual_tokens, *row.after, *answer] for row, answer in zip(rows, answers, strict=True)]
    length = max(map(len, sequences))
    ids = torch.full((len(rows), length), fill)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    offsets = torch.tensor([length - len(s) if side == "left" else 0 for s in sequences])
    for i, sequence in enumerate(sequences):
        where = slice(int(offsets[i]), int(offsets[i]) + len(sequence))
        ids[i, where] = torch.tensor(sequence)
        mask[i, where] = 1
    first_slot = offsets + torch.tensor([len(row.before) for row in rows])
    slots = first_slot[:, None] + torch.arange(num_virtual_tokens)
    last = offsets + torch.tensor([len(s) for s in sequences]) - 1
    return Inputs(ids.to(device), mask.to(device), slots.to(device), last.to(device))


def hidden_states(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> Tensor:
    """Return the last hidden states ``(batch, length, embed_dim)`` of a batch with a soft prompt in its slots."""
    return base_model(frozen)(**model_inputs(frozen, prompt, inputs)).last_hidden_state


def model_inputs(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> dict[str, Any]:
    """Return what the frozen model's forward is called with."""
    with torch.no_grad():
        embeddings = frozen.model.get_input_embeddings()(inputs.ids)
    embeddings = embeddings.index_put(
        (torch.arange(len(inputs.ids), device=inputs.ids.device)[:, None], inputs.slots),
        prompt.to(embeddings).expand(len(inputs.ids), -1, -1),
    )
    arguments = {"inputs_embeds": embeddings, "attention_mask": inputs.mask, "position_ids": positions(frozen, inputs.mask)}
    if frozen.kind != "decoder":
        return arguments
    if inputs.prefix is None:
        return {**arguments, "use_cache": False}
    from transformers import DynamicCache

    mask = torch.cat([inputs.prefix.mask, inputs.mask], dim=1)
    arguments["attention_mask"] = mask
    arguments["position_ids"] = positions(frozen, mask)[:, inputs.prefix.mask.shape[1] :]
    return {**arguments, "past_key_values": DynamicCache(inputs.prefix.layers), "use_cache": True}


class PrefixCache:
    """Keys and values of the texts before the slots, computed once.

    All of a set of texts is computed at once, in batches that depend on nothing else, so that a resumed run finds the same bits.
    """

    def __init__(self, frozen: FrozenModel) -> None:
        self._frozen = frozen
        self._held: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self.num_tokens = 0  # tokens that were run through the model to fill it

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for pair in self._held.values() for tensor in pair)

    def __contains__(self, row: Tokenized) -> bool:
        return row.before in self._held

    def fill(self, rows: Sequence[Tokenized], batch_size: int = 32) -> None:
        """Compute and keep what the rows have before their slots."""
        texts = sorted({row.before for row in rows if row.before} - self._held.keys(), key=lambda ids: (len(ids), ids))
        for begin in range(0, len(texts), batch_size):
            chunk = texts[begin : begin + batch_size]
            inputs = pad([Tokenized(ids, ()) for ids in chunk], num_virtual_tokens=0, fill=0, device=self._frozen.device)
            with torch.no_grad():
                output = base_model(self._frozen)(
                    input_ids=inputs.ids,
                    attention_mask=inputs.mask,
                    position_ids=positions(self._frozen, inputs.mask),
                    use_cache=True,
                )
            layers = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
            keys, values = (torch.stack(part) for part in zip(*layers, strict=True))  # (layers, batch, heads, length, head_dim)
            for i, ids in enumerate(chunk):
                self._held[ids] = (keys[:, i, :, : len(ids)].clone(), values[:, i, :, : len(ids)].clone())
                self.num_tokens += len(ids)

    def take(self, rows: Sequence[Tokenized]) -> Prefix:
        """Return the kept keys and values of a batch, padded left."""
        held = [self._held[row.before] for row in rows]
        length = max(keys.shape[2] for keys, _ in held)
        depth, heads, _, width = held[0][0].shape
        both = held[0][0].new_zeros(2, depth, len(rows), heads, length, width)
        mask = torch.zeros(len(rows), length, dtype=torch.long, device=both.device)
        for i, pair in enumerate(held):
            own = pair[0].shape[2]
            mask[i, length - own :] = 1
            for kind, tensor in enumerate(pair):
                both[kind, :, i, :, length - own :] = tensor
        return Prefix(tuple(zip(both[0].unbind(), both[1].unbind(), strict=True)), mask)


def base_model(frozen: FrozenModel) -> Any:
    """Return the model without its output layer."""
    return frozen.model.base_model


def positions(frozen: FrozenModel, mask: Tensor) -> Tensor:
    """Return position ids that count real tokens from the model's first position; pads get the position of their neighbour."""
    return (mask.cumsum(-1) - 1).clamp_min(0) + first_position(frozen)


def first_position(frozen: FrozenModel) -> int:
    """Return the first position id: 0, or one past the padding id in models that count as RoBERTa does."""
    table = getattr(base_model(frozen), "embeddings", None)
    counts_from_padding = table is not None and hasattr(table, "create_position_ids_from_input_ids")
    return int(table.padding_idx) + 1 if table is not None and counts_from_padding else 0


def context_length(frozen: FrozenModel) -> int:
    """Return how many tokens the frozen model can read."""
    config = frozen.model.config
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 1_000_000
    return int(limit) - first_position(frozen)


def embedding_table(frozen: FrozenModel) -> Tensor:
    """Return ``(vocab_size, embed_dim)``, what the input embedding gives for each id (some models scale their rows)."""
    module = frozen.model.get_input_embeddings()
    if type(module) is torch.nn.Embedding:
        return module.weight.detach()
    with torch.no_grad():
        return torch.cat([module(chunk) for chunk in torch.arange(module.num_embeddings, device=frozen.device).split(8192)])
