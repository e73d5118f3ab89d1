"""The slot mechanism: the frozen model's own forward, with the embedding rows at the slots replaced by params.

Positions are given to the model, counted over real tokens, so that padding on either side changes nothing. Keys and values may stand in
front of a batch instead of tokens (`Prefix`): those of text before the slots of a causal model, computed once since nothing in it depends
on them (`PrefixCache`); those of slots that open every row, or stand behind a text that all rows begin with, computed once a step; or
deep prompts, which are keys and values.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import Module

from maao.errors import ModelError
from maao.problems.towers.text.attention import base_model, grouped_heads
from maao.problems.towers.text.lean import lean
from maao.problems.towers.text.loading import Arguments, FrozenModel
from maao.problems.towers.text.template import Tokenized

if TYPE_CHECKING:
    from transformers import DynamicCache
    from transformers.modeling_outputs import ModelOutput

Side = Literal["left", "right"]

# What families call the most tokens that they read, the encoder's first where a decoder has a limit of its own.
LIMITS = ("max_encoder_position_embeddings", "max_position_embeddings", "max_source_positions", "n_positions", "max_seq_len", "n_ctx")
UNLIMITED = 1_000_000  # tokens, where a model names no limit
FIRST = ("first position",)  # where `FrozenModel.tried` holds the first position id


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values in front of a batch: of each layer ``(batch, heads, length, head_dim)``, padded left."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor  # (batch, length)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A padded batch. `slots` are the positions of the virtual tokens, `last` the position of each row's last token.

    `mask_at` is the position of each row's first mask token, `segments` the token types, both only where a model has such. `grouped`: heads
    that share keys may be grouped (`grouped_heads`); `apart`: attention may read the prefix where it stands, without a copy (only where
    they are grouped).
    """

    ids: Tensor  # (batch, length)
    mask: Tensor  # (batch, length)
    slots: Tensor  # (batch, num_virtual_tokens)
    last: Tensor  # (batch,)
    prefix: Prefix | None = None
    mask_at: Tensor | None = None  # (batch,)
    segments: Tensor | None = None  # (batch, length)
    grouped: bool = True
    apart: bool = False


def pad(
    rows: Sequence[Tokenized],
    *,
    num_virtual_tokens: int,
    fill: int,
    side: Side = "right",
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


def hidden_states(frozen: FrozenModel, prompt: Tensor, inputs: Inputs, read: Tensor | None = None) -> Tensor:
    """Return the last hidden states ``(batch, length, embed_dim)`` of a batch with a soft prompt in its slots.

    With `read`, ``(batch, count)``, only those at these positions are the model's (`lean`).
    """
    with heads_of(frozen, inputs, read):
        return base_model(frozen)(**model_inputs(frozen, prompt, inputs)).last_hidden_state


@contextmanager
def heads_of(frozen: FrozenModel, inputs: Inputs, read: Tensor | None = None) -> Iterator[None]:
    """Let heads be grouped where these inputs may be read so, and parts of the model be ours."""
    front = inputs.prefix.layers if inputs.prefix is not None and inputs.apart else None
    with grouped_heads(frozen, front) if inputs.grouped else nullcontext(), lean(frozen, read):
        yield


def logits_at(frozen: FrozenModel, prompt: Tensor, inputs: Inputs, where: Tensor) -> Tensor:
    """Return the model's own logits ``(batch, count, vocab_size)`` at the positions `where`, ``(batch, count)``, and computed nowhere else.

    Whatever a model does to its last hidden states (a transform, a scale, a cap), it does to those of these positions only.
    """
    with heads_of(frozen, inputs):
        return logits_where(frozen, model_inputs(frozen, prompt, inputs), where)


def logits_where(frozen: FrozenModel, arguments: Arguments, where: Tensor) -> Tensor:
    """Return the same of a forward with these arguments."""
    rows = torch.arange(len(where), device=where.device)[:, None]

    def keep(module: Module, arguments: object, output: ModelOutput) -> ModelOutput:
        output.last_hidden_state = output.last_hidden_state[rows, where]
        return output

    handle = base_model(frozen).register_forward_hook(keep)
    try:
        return frozen.model(**arguments).logits
    finally:
        handle.remove()


def model_inputs(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> Arguments:
    """Return what the frozen model's forward is called with."""
    with torch.no_grad():
        embed = frozen.embed or frozen.model.get_input_embeddings()
        embeddings = embed(inputs.ids)
    if inputs.slots.shape[1]:
        embeddings = embeddings.index_put(
            (torch.arange(len(inputs.ids), device=inputs.ids.device)[:, None], inputs.slots),
            prompt.to(embeddings).expand(len(inputs.ids), -1, -1),
        )
    arguments: Arguments = {"inputs_embeds": embeddings, "attention_mask": inputs.mask}
    if frozen.kind == "encoder_decoder":  # positions are the model's own: those of rows that are padded on the left may be others
        return arguments
    if inputs.segments is not None and getattr(frozen.model.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = inputs.segments
    if inputs.prefix is None:
        arguments |= {"position_ids": positions(frozen, inputs.mask), "use_cache": False if frozen.kind == "decoder" else None}
        return _accepted(frozen, arguments)
    from transformers import DynamicCache

    held = DynamicCache(beside_layers(frozen, inputs.prefix.layers))
    if inputs.apart:
        held.update = _as_given
    mask = torch.cat([inputs.prefix.mask, inputs.mask], dim=1)
    places = positions(frozen, mask)
    arguments["position_ids"] = None if places is None else places[:, inputs.prefix.mask.shape[1] :]
    arguments["past_key_values"] = held
    if frozen.kind == "decoder":
        return _accepted(frozen, {**arguments, "attention_mask": mask, "use_cache": True})
    # An encoder makes no mask for keys that are given to it: each token reads all of them.
    every = mask[:, None, None, :].bool().expand(-1, 1, inputs.ids.shape[1], -1)
    arguments["attention_mask"] = torch.zeros(every.shape, dtype=embeddings.dtype, device=every.device).masked_fill(
        ~every, torch.finfo(embeddings.dtype).min
    )
    return _accepted(frozen, arguments)


def beside_layers(frozen: FrozenModel, pairs: Sequence[tuple[Tensor, Tensor]]) -> Sequence[tuple[Tensor, Tensor]]:
    """Return the keys and values of each layer on the device where that layer is."""
    if frozen.layer_devices is None or len(frozen.layer_devices) != len(pairs):
        return pairs
    return [(keys.to(place), values.to(place)) for (keys, values), place in zip(pairs, frozen.layer_devices, strict=True)]


def _as_given(keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    """Take the place of a cache's `update`: what stands in front is not put before them, attention reads it where it is."""
    return keys, values


def _accepted(frozen: FrozenModel, arguments: Arguments) -> Arguments:
    """Return the arguments that are given and that a model's forward takes: not all know positions, or have keys and values."""
    known = _arguments(frozen)
    return {name: value for name, value in arguments.items() if value is not None and name in known}


def _arguments(frozen: FrozenModel) -> frozenset[str]:
    """Return the names of what a model's forward takes."""
    key = ("arguments",)
    if key not in frozen.tried:
        inner = base_model(frozen)
        takes = [frozenset(inspect.signature(part.forward).parameters) for part in (inner, *inner.children())]
        # Some wrap their decoder, and hand on whatever they are given.
        frozen.tried[key] = next((names for names in takes if "inputs_embeds" in names), takes[0])
    found: frozenset[str] = frozen.tried[key]
    return found


def key_values(frozen: FrozenModel, embeddings: Tensor, *, behind: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Return the keys and values, each ``(layers, heads, length, head_dim)``, of one row of embeddings ``(length, embed_dim)``.

    With keys and values `behind` which the row stands (of the same shape; decoders), they come first in what is returned.

    Raises:
        ModelError: a model that takes no keys and values from outside.
    """
    from transformers import DynamicCache

    if not takes_keys(frozen):
        raise _keyless(frozen)
    before = 0 if behind is None else behind[0].shape[2]
    held = (
        DynamicCache()
        if behind is None
        else DynamicCache(beside_layers(frozen, [(k[None], v[None]) for k, v in zip(*behind, strict=True)]))
    )
    mask = torch.ones(1, before + len(embeddings), dtype=torch.long, device=frozen.device)
    places = positions(frozen, mask)
    arguments = {
        "inputs_embeds": embeddings.to(frozen.model.get_input_embeddings().weight.dtype)[None].to(frozen.device),
        "attention_mask": mask,
        "position_ids": None if places is None else places[:, before:],
        "past_key_values": held,
        "use_cache": True if frozen.kind == "decoder" else None,
    }
    with lean(frozen):
        base_model(frozen)(**_accepted(frozen, arguments))
    keys, values = _stacked(frozen, held)
    return keys[:, 0], values[:, 0]


def _stacked(frozen: FrozenModel, held: DynamicCache) -> tuple[Tensor, Tensor]:
    """Return the keys and values of a filled cache, each ``(layers, batch, heads, length, head_dim)``.

    Raises:
        ModelError: some layers keep none, or others' are wider or longer.
    """
    parts = [[getattr(layer, name, None) for layer in held.layers] for name in ("keys", "values")]
    keys, values = ([own.to(frozen.device) for own in part if own is not None] for part in parts)
    alike = all(own.shape == part[0].shape for part in (keys, values) for own in part)
    if not keys or not alike or {len(keys), len(values)} != {len(held.layers)}:
        raise _keyless(frozen)
    return torch.stack(keys), torch.stack(values)


def _keyless(frozen: FrozenModel) -> ModelError:
    return ModelError(
        f"{frozen.name} ({type(frozen.model).__name__}) takes no keys and values from outside, of the same shape in every layer, so it "
        'cannot have deep prompts. Use model.method = "prompt_tuning" or "p_tuning".'
    )


def takes_keys(frozen: FrozenModel) -> bool:
    """Say whether a model's forward takes keys and values."""
    return frozen.kind != "encoder_decoder" and "past_key_values" in _arguments(frozen)


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
        from transformers import DynamicCache

        inputs = pad([Tokenized(ids, ()) for ids in texts], num_virtual_tokens=0, fill=0, device=self._frozen.device)
        held = DynamicCache()  # of a model's own, layers with a window would keep that much alone
        arguments = {
            "attention_mask": inputs.mask,
            "position_ids": positions(self._frozen, inputs.mask),
            "past_key_values": held,
            "use_cache": True,
        }
        with torch.no_grad():
            base_model(self._frozen)(input_ids=inputs.ids, **_accepted(self._frozen, arguments))
        keys, values = _stacked(self._frozen, held)
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


def positions(frozen: FrozenModel, mask: Tensor) -> Tensor | None:
    """Return position ids that count real tokens from the model's first position; pads get the position of their neighbour.

    None: the model counts for itself.
    """
    first = first_position(frozen)
    return None if first is None else (mask.cumsum(-1) - 1).clamp_min(0) + first


def first_position(frozen: FrozenModel) -> int | None:
    """Return the first position id, as it was found by trying (`probes.py`), or else as a model's layers suggest it."""
    found: int | None = frozen.tried[FIRST] if FIRST in frozen.tried else first_positions(frozen)[0]
    return found


def first_positions(frozen: FrozenModel) -> tuple[int | None, ...]:
    """Return what the first position id may be, the likeliest first: 0, one past the padding id (as RoBERTa counts), or the model's own."""
    table = getattr(base_model(frozen), "embeddings", None)
    names = ("create_position_ids_from_input_ids", "create_position_ids_from_inputs_embeds")  # RoBERTa has both, MPNet the second
    counts_from_padding = table is not None and any(hasattr(table, name) for name in names)
    text = frozen.model.config.get_text_config()
    past = (getattr(table, "padding_idx", None) if counts_from_padding else getattr(text, "pad_token_id", None)) or 0
    return (past + 1, 0, None) if counts_from_padding else (0, past + 1, None)


def context_length(frozen: FrozenModel) -> int:
    """Return how many tokens the frozen model can read, as far as its config says so."""
    config = frozen.model.config
    places = (config, config.get_text_config(encoder=True) if frozen.kind == "encoder_decoder" else config.get_text_config())
    found = [value for place in places for name in LIMITS if isinstance(value := getattr(place, name, None), int) and value > 0]
    return (found[0] if found else UNLIMITED) - (first_position(frozen) or 0)


def decoder_start(frozen: FrozenModel) -> int:
    """Return the token that an encoder-decoder's decoder begins with.

    Raises:
        ModelError: neither its config nor its generation config names one.
    """
    sources = (getattr(frozen.model, "generation_config", None), frozen.model.config, frozen.model.config.get_text_config(decoder=True))
    for name in ("decoder_start_token_id", "bos_token_id"):
        for source in sources:
            found = getattr(source, name, None)
            if isinstance(found, int):
                return found
    raise ModelError(
        f"{frozen.name} does not say which token its decoder begins with: set decoder_start_token_id in its config.json (mBART begins with "
        "the code of the language)."
    )


def embedding_table(frozen: FrozenModel) -> Tensor:
    """Return ``(vocab_size, embed_dim)``, what the input embedding gives for each id (some models scale their rows)."""
    module = frozen.model.get_input_embeddings()
    if type(module) is torch.nn.Embedding:
        return module.weight.detach()
    with torch.no_grad():
        return torch.cat([module(chunk) for chunk in torch.arange(module.num_embeddings, device=frozen.device).split(8192)])
