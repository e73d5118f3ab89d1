"""The slot mechanism: the frozen model's own forward, with the embedding rows at the slots replaced by params.

Positions are given to the model, counted over real tokens, so that padding on either side changes nothing. Keys and values may stand in
front of a batch instead of tokens (`Prefix`): those of text before the slots of a causal model, computed once since nothing in it depends
on them (`PrefixCache`); those of slots that open every row, or stand behind a text that all rows begin with, computed once a step; or
deep prompts, which are keys and values.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from maao.errors import ModelError
from maao.problems.language.attention import base_model, grouped_heads
from maao.problems.language.loading import FrozenModel
from maao.problems.language.template import Tokenized

Params = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values in front of a batch: of each layer ``(batch, heads, length, head_dim)``, padded left."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor  # (batch, length)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A padded batch. `slots` are the positions of the virtual tokens, `last` the position of each row's last token.

    `mask_at` is the position of each row's first mask token, `segments` the token types, both only where a model has such.
    """

    ids: Tensor  # (batch, length)
    mask: Tensor  # (batch, length)
    slots: Tensor  # (batch, num_virtual_tokens)
    last: Tensor  # (batch,)
    prefix: Prefix | None = None
    mask_at: Tensor | None = None  # (batch,)
    segments: Tensor | None = None  # (batch, length)


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

    def in_row(index: int, row: Tokenized) -> int:
        """Return where a token that has this index in the text stands in the padded row."""
        return index + (num_virtual_tokens if index >= len(row.before) else 0)

    mask_at = segments = None
    if any(row.mask_at is not None for row in rows):
        mask_at = (offsets + torch.tensor([in_row(row.mask_at or 0, row) for row in rows])).to(device)
    if any(row.second is not None for row in rows):
        places = torch.arange(length)
        starts = torch.tensor([in_row(row.second, row) if row.second is not None else length for row in rows]) + offsets
        segments = ((places >= starts[:, None]) & (mask == 1)).long().to(device)
    return Inputs(ids.to(device), mask.to(device), slots.to(device), last.to(device), None, mask_at, segments)


def hidden_states(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> Tensor:
    """Return the last hidden states ``(batch, length, embed_dim)`` of a batch with a soft prompt in its slots."""
    with grouped_heads(frozen):
        return base_model(frozen)(**model_inputs(frozen, prompt, inputs)).last_hidden_state


def logits_at(frozen: FrozenModel, prompt: Tensor, inputs: Inputs, where: Tensor) -> Tensor:
    """Return the model's own logits ``(batch, count, vocab_size)`` at the positions `where`, ``(batch, count)``, and computed nowhere else.

    Whatever a model does to its last hidden states (a transform, a scale, a cap), it does to those of these positions only.
    """
    rows = torch.arange(len(where), device=where.device)[:, None]

    def keep(module: Any, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[rows, where]
        return output

    handle = base_model(frozen).register_forward_hook(keep)
    try:
        return frozen.model(**model_inputs(frozen, prompt, inputs)).logits
    finally:
        handle.remove()


def model_inputs(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> dict[str, Any]:
    """Return what the frozen model's forward is called with."""
    with torch.no_grad():
        embed = base_model(frozen).embeddings if frozen.embed_twice else frozen.model.get_input_embeddings()
        embeddings = embed(inputs.ids)
    if inputs.slots.shape[1]:
        embeddings = embeddings.index_put(
            (torch.arange(len(inputs.ids), device=inputs.ids.device)[:, None], inputs.slots),
            prompt.to(embeddings).expand(len(inputs.ids), -1, -1),
        )
    arguments: dict[str, Any] = {"inputs_embeds": embeddings, "attention_mask": inputs.mask}
    if frozen.kind == "encoder_decoder":  # positions are relative there
        return arguments
    if inputs.segments is not None and getattr(frozen.model.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = inputs.segments
    if inputs.prefix is None:
        arguments["position_ids"] = positions(frozen, inputs.mask)
        return {**arguments, "use_cache": False} if frozen.kind == "decoder" else arguments
    from transformers import DynamicCache

    mask = torch.cat([inputs.prefix.mask, inputs.mask], dim=1)
    arguments["position_ids"] = positions(frozen, mask)[:, inputs.prefix.mask.shape[1] :]
    arguments["past_key_values"] = DynamicCache(inputs.prefix.layers)
    if frozen.kind == "decoder":
        return {**arguments, "attention_mask": mask, "use_cache": True}
    # An encoder makes no mask for keys that are given to it: each token reads all of them.
    every = mask[:, None, None, :].bool().expand(-1, 1, inputs.ids.shape[1], -1)
    arguments["attention_mask"] = torch.zeros(every.shape, dtype=embeddings.dtype, device=every.device).masked_fill(
        ~every, torch.finfo(embeddings.dtype).min
    )
    return arguments


def key_values(frozen: FrozenModel, embeddings: Tensor, *, behind: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Return the keys and values, each ``(layers, heads, length, head_dim)``, of one row of embeddings ``(length, embed_dim)``.

    With keys and values `behind` which the row stands (of the same shape; decoders), they come first in what is returned.

    Raises:
        ModelError: a model that takes no keys and values from outside.
    """
    from transformers import DynamicCache

    if not takes_keys(frozen):
        raise ModelError(
            f"{frozen.name} ({type(frozen.model).__name__}) takes no keys and values from outside, so it cannot have deep prompts. "
            'Use model.method = "prompt_tuning" or "p_tuning".'
        )
    before = 0 if behind is None else behind[0].shape[2]
    held = DynamicCache() if behind is None else DynamicCache([(k[None], v[None]) for k, v in zip(*behind, strict=True)])
    mask = torch.ones(1, before + len(embeddings), dtype=torch.long, device=frozen.device)
    places = positions(frozen, mask)[:, before:]
    inputs = embeddings.to(frozen.model.get_input_embeddings().weight.dtype)[None].to(frozen.device)
    options = {"use_cache": True} if frozen.kind == "decoder" else {}
    base_model(frozen)(inputs_embeds=inputs, attention_mask=mask, position_ids=places, past_key_values=held, **options)
    return torch.cat([layer.keys for layer in held.layers]), torch.cat([layer.values for layer in held.layers])


def takes_keys(frozen: FrozenModel) -> bool:
    """Say whether a model's forward takes keys and values."""
    if frozen.kind == "encoder_decoder":
        return False
    return "past_key_values" in inspect.signature(base_model(frozen).forward).parameters


def front(keys: Tensor, values: Tensor, batch: int) -> Prefix:
    """Return keys and values ``(layers, heads, length, head_dim)`` in front of each row of a batch."""
    layers = tuple((k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in zip(keys, values, strict=True))
    return Prefix(layers, torch.ones(batch, keys.shape[2], dtype=torch.long, device=keys.device))


class PrefixCache:
    """Keys and values of the texts before the slots, computed once.

    All of a set of texts is computed at once, in batches that depend on nothing else, so that a resumed run finds the same bits.
    """

    def __init__(self, frozen: FrozenModel) -> None:
        self._frozen = frozen
        self._held: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._last: tuple[tuple[tuple[int, ...], ...], Prefix] | None = None  # a full batch is asked for at every step
        self.num_tokens = 0  # tokens that are run through the model to fill it (in this run, or in one before that kept them)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for pair in self._held.values() for tensor in pair)

    def __contains__(self, row: Tokenized) -> bool:
        return row.before in self._held

    def fill(self, rows: Sequence[Tokenized], batch_size: int = 8) -> None:
        """Compute and keep what the rows have before their slots, in batches of texts of similar length."""
        texts = sorted({row.before for row in rows if row.before} - self._held.keys(), key=lambda ids: (len(ids), ids))
        for begin in range(0, len(texts), batch_size):
            chunk = texts[begin : begin + batch_size]
            kept = self._frozen.texts
            for ids, pair in zip(chunk, self._read(chunk) if kept is None else kept.get(chunk, self._read), strict=True):
                self._held[ids] = pair
                self.num_tokens += len(ids)

    def _read(self, texts: Sequence[tuple[int, ...]]) -> list[tuple[Tensor, Tensor]]:
        """Run texts through the model; return the keys and values of each."""
        inputs = pad([Tokenized(ids, ()) for ids in texts], num_virtual_tokens=0, fill=0, device=self._frozen.device)
        with torch.no_grad():
            output = base_model(self._frozen)(
                input_ids=inputs.ids,
                attention_mask=inputs.mask,
                position_ids=positions(self._frozen, inputs.mask),
                use_cache=True,
            )
        layers = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        keys, values = (torch.stack(part) for part in zip(*layers, strict=True))  # (layers, batch, heads, length, head_dim)
        return [(keys[:, i, :, : len(ids)].clone(), values[:, i, :, : len(ids)].clone()) for i, ids in enumerate(texts)]

    def of(self, row: Tokenized) -> tuple[Tensor, Tensor]:
        """Return the kept keys and values of a row's text, each ``(layers, heads, length, head_dim)``."""
        return self._held[row.before]

    def take(self, rows: Sequence[Tokenized]) -> Prefix:
        """Return the kept keys and values of a batch, padded left."""
        texts = tuple(row.before for row in rows)
        if self._last is None or self._last[0] != texts:
            self._last = texts, self._stack(rows)
        return self._last[1]

    def _stack(self, rows: Sequence[Tokenized]) -> Prefix:
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


def activation_bytes(frozen: FrozenModel, tokens: int = 64) -> float:
    """Return the bytes that a forward pass keeps for its backward, for each token: what a gradient step's memory grows with."""
    weights = {parameter.data_ptr() for parameter in frozen.model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # alive, so that no address is used twice
        return tensor

    kept: list[Tensor] = []
    width = frozen.model.get_input_embeddings().embedding_dim
    prompt = torch.zeros(tokens, width, device=frozen.device, requires_grad=True)
    inputs = pad([Tokenized((), ())], num_virtual_tokens=tokens, fill=0, device=frozen.device)
    arguments = model_inputs(frozen, prompt, inputs)
    if frozen.kind == "encoder_decoder":
        arguments["decoder_input_ids"] = torch.zeros(1, 2, dtype=torch.long, device=frozen.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        base_model(frozen)(**arguments)
    return sum(seen.values()) / tokens


def reads_alike(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Say whether two readings of the same input differ by no more than rounding does.

    The largest difference is measured against the largest value, and half of the digits of `dtype`, in which the model computes, must
    agree: two ways through the same sums seldom differ by more, and another reading almost always does.
    """
    found, wanted = found.float(), wanted.float()
    most = torch.finfo(dtype).eps ** 0.5 * float(wanted.abs().max())
    return float((found - wanted).abs().max()) <= most  # never where one of them is not a number


def positions(frozen: FrozenModel, mask: Tensor) -> Tensor:
    """Return position ids that count real tokens from the model's first position; pads get the position of their neighbour."""
    return (mask.cumsum(-1) - 1).clamp_min(0) + first_position(frozen)


def first_position(frozen: FrozenModel) -> int:
    """Return the first position id: 0, or one past the padding id in models that count as RoBERTa does."""
    table = getattr(base_model(frozen), "embeddings", None)
    names = ("create_position_ids_from_input_ids", "create_position_ids_from_inputs_embeds")  # RoBERTa has both, MPNet the second
    counts_from_padding = table is not None and any(hasattr(table, name) for name in names)
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
