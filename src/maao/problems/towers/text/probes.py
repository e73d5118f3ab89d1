"""Ways to read a frozen model faster than text by text, each tried on the model itself before it is used.

The rule: what is computed for a text is what the model's own forward computes for that text alone, whatever stands beside it and however
long it is. Input embeddings in place of tokens, padding, packing, keys and values in place of text are shortcuts. Each is compared with
the plain forward on rows as long as those that are to be read (rounded up, so that it is seldom done again), since windows, chunks and
position tables show only there. A shortcut that gives something else is left; where none is right, the model is refused.

What was found is kept in `FrozenModel.tried`: it depends on the model and the length alone, so that a resumed run reads as it did before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from maao.errors import ModelError, is_out_of_memory
from maao.problems.towers.text.attention import base_model, can_group_heads
from maao.problems.towers.text.forward import (
    FIRST,
    Inputs,
    Prefix,
    PrefixCache,
    Side,
    context_length,
    decoder_start,
    first_positions,
    front,
    heads_of,
    key_values,
    logits_where,
    model_inputs,
    pad,
    takes_keys,
)
from maao.problems.towers.text.lean import lean
from maao.problems.towers.text.loading import Arguments, FrozenModel, without_dropout
from maao.problems.towers.text.packing import packed_hidden_states
from maao.problems.towers.text.template import Tokenized

if TYPE_CHECKING:
    from transformers.modeling_outputs import ModelOutput

T = TypeVar("T")
Ids = tuple[int, ...]

SMALL = 16  # tokens: nothing is tried on less
LARGER = 16  # times, hidden states that a head is tried on
STEP = 1024  # lengths above this are rounded up to its multiples, those below to a power of two
ELSE = "A soft prompt has no place in it: choose another model."
TROUBLES = (TypeError, RuntimeError, ValueError, AttributeError, LookupError, AssertionError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Way:
    """How rows stand side by side.

    `batch`: "padded" (rows of any length), "equal" (only rows of one length, which need no padding), "alone" (each by itself). `side` is
    where padding goes; `grouped`: heads that share keys are grouped (`grouped_heads`).
    """

    batch: Literal["padded", "equal", "alone"]
    side: Side
    grouped: bool


def reads_alike(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Say whether two readings ``(..., width)`` of the same input differ by no more than rounding does.

    Each token's largest difference is measured against its largest value. In fp32 two thirds of the digits must agree (on SmolLM2 two ways
    through the same sums differ by 1e-6, and 2e-5 is let pass), in coarser precisions half of them: another reading seldom comes so near,
    but what rounding hides (a window shorter by one token, in bf16) is not seen there.
    """
    if found.shape != wanted.shape:
        return False
    found, wanted = found.float(), wanted.float()
    part = torch.finfo(dtype).eps ** (2 / 3 if dtype == torch.float32 else 1 / 2)
    return bool(((found - wanted).abs().amax(-1) <= part * wanted.abs().amax(-1)).all())  # never where one of them is not a number


def require(frozen: FrozenModel, length: int) -> None:
    """Raise `ModelError` unless a soft prompt works in this model, in rows of so many tokens."""
    _size(frozen, length)


def way_of(frozen: FrozenModel, length: int, side: Side) -> Way:
    """Return the fastest right way to read rows of up to `length` tokens side by side, padded on `side` if that is one.

    Raises:
        ModelError: the model cannot be read by its input embeddings.
    """
    if frozen.embed is not None:  # no plain forward is like it
        return Way("padded", side, True)
    size = _size(frozen, length)
    return _once(frozen, ("way", size, side), lambda: _find_way(frozen, size, side))


def supports_packing(frozen: FrozenModel, length: int, ahead: int) -> bool:
    """Say whether rows that reach `length` tokens, `ahead` of them keys and values before every row, can be read one behind the other."""
    if frozen.kind != "decoder" or frozen.embed is not None:
        return False
    size = _size(frozen, length)
    return _once(frozen, ("packs", size, ahead > 0), lambda: _tried(lambda: _pack_alike(frozen, size, behind=ahead > 0)))


def supports_tail(frozen: FrozenModel) -> bool:
    """Say whether a decoder's last layer can do without the tokens that are not read behind it (`lean`)."""
    return frozen.kind == "decoder" and frozen.embed is None and _once(frozen, ("tail",), lambda: _tried(lambda: _tail_alike(frozen)))


def supports_kv_cache(frozen: FrozenModel, length: int) -> bool:
    """Say whether a causal model reads keys and values in place of tokens as it reads the tokens, in rows of up to `length` tokens."""
    if frozen.kind != "decoder" or not takes_keys(frozen):
        return False
    way = way_of(frozen, length, "right")
    if way.batch != "padded" or way.side != "right":  # behind keys and values padding stands on the right
        return False
    size = _size(frozen, length)
    return _once(frozen, ("keys", size), lambda: _tried(lambda: _keys_alike(frozen, size)))


def supports_front(frozen: FrozenModel) -> bool:
    """Say whether attention may read keys and values in front of rows where they stand, without a copy of them beside the rows' own."""
    if frozen.embed is not None or not can_group_heads(frozen) or not takes_keys(frozen):
        return False
    return _once(frozen, ("front",), lambda: _tried(lambda: _keys_alike(frozen, SMALL, apart=True)))


def head_of(frozen: FrozenModel) -> Literal["plain", "hooked", "whole"]:
    """Return how logits follow from the last hidden states: "plain" (times the output matrix: no scale, cap or transform), "hooked" (by
    whatever the model does, at the wanted positions only), "whole" (by its whole forward)."""
    return _once(frozen, ("head",), lambda: _find_head(frozen))


def continues_vectors(frozen: FrozenModel) -> bool:
    """Say whether a decoder can go on from vectors as it does from the tokens that they stand for."""
    return frozen.kind == "decoder" and _once(frozen, ("continues",), lambda: _tried(lambda: _continue_alike(frozen)))


def speaking(frozen: FrozenModel) -> dict[str, bool]:
    """Return how an encoder-decoder is called to score an answer: without a cache of it, where it reads the answer as it does with one."""

    def find() -> dict[str, bool]:
        tokens, spoken = torch.tensor([_ids(frozen, SMALL)], device=frozen.device), _spoken(frozen, 1)
        plain = frozen.model(input_ids=tokens, decoder_input_ids=spoken).logits
        without = frozen.model(input_ids=tokens, decoder_input_ids=spoken, use_cache=False).logits
        return {"use_cache": False} if reads_alike(without, plain, plain.dtype) else {}

    return _once(frozen, ("speaking",), find)


def try_behind(frozen: FrozenModel, keys: Tensor, values: Tensor) -> None:
    """Read a few rows behind keys and values ``(layers, heads, length, head_dim)`` as labels are read; raises what the model raises.

    Raises:
        ModelError: the model pays them no heed.
    """
    rows = [Tokenized(row, ()) for row in _rows(frozen, SMALL)]
    inputs = _batch(frozen, rows, way_of(frozen, SMALL, "right"))
    with torch.no_grad(), without_dropout(frozen):
        behind = _states(frozen, _no_rows(frozen), replace(inputs, prefix=front(keys, values, len(rows))))
        if reads_alike(behind[0], _states(frozen, _no_rows(frozen), inputs)[0], behind[0].dtype):
            raise ModelError(f"{frozen.name} ({type(frozen.model).__name__}) pays no heed to keys and values from outside.")


def hidden_width(frozen: FrozenModel) -> int:
    """Return the width of a model's last hidden states: some embed more narrowly, and configs name it in several ways."""
    ids = torch.tensor([_ids(frozen, SMALL)], device=frozen.device)
    return _once(frozen, ("width",), lambda: int(base_model(frozen)(input_ids=ids).last_hidden_state.shape[-1]))


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Say in words that a model cannot do something, where trying it fails."""
    with caught() as found:
        yield
    if found:
        raise ModelError(f"{what}: {reason_of(found[0])}.") from found[0]


@contextmanager
def caught(*further: type[Exception]) -> Iterator[list[Exception]]:
    """Give a list that holds the trouble of a model in which the block ended, if it did. Want of memory is no trouble of a model's."""
    kinds: tuple[type[Exception], ...] = (*TROUBLES, *further)
    found: list[Exception] = []
    try:
        yield found
    except kinds as error:
        if is_out_of_memory(error):
            raise
        found.append(error)


def reason_of(error: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


# -- the plain forward, and what is compared with it


def _size(frozen: FrozenModel, length: int) -> int:
    """Return the length that is tried for rows of up to `length` tokens; the model has then been found to read input embeddings there."""
    rounded = max(SMALL, 1 << (length - 1).bit_length()) if length <= STEP else -(-length // STEP) * STEP
    rounded = min(rounded, max(length, context_length(frozen)))
    if frozen.embed is not None:
        return rounded
    for size in dict.fromkeys((rounded, max(SMALL, length))):  # the round length may lie beyond a limit that no config names
        try:
            trouble = _once(frozen, ("plain", size), partial(_trouble_with, frozen, size))
        except RuntimeError as error:
            if size == max(SMALL, length) or not is_out_of_memory(error):
                raise
            continue
        if trouble is None:
            return size
    raise ModelError(str(trouble))


def _trouble_with(frozen: FrozenModel, size: int) -> str | None:
    """Return why a soft prompt cannot work in rows of this many tokens; None: it can."""
    name = f"{frozen.name} ({type(frozen.model).__name__})"
    for key in [key for key in frozen.tried if key[0] == "alone"]:  # of another length: they take memory, and are seldom wanted again
        del frozen.tried[key]
    with torch.no_grad(), without_dropout(frozen):
        with caught() as found:
            ids = _ids(frozen, size)
            plain, again = _alone(frozen, ids), _plain(frozen, ids)
        if found:
            shorter = " If shorter ones will do, set model.max_length." if size > SMALL else ""
            return f"{name} cannot be read by the embeddings of {size} tokens: {reason_of(found[0])}.{shorter}"
        if not bool(torch.isfinite(plain).all()):
            return f"{name} gives values that are no numbers for a text of {size} tokens. Is model.dtype right for it?"
        if not reads_alike(again, plain, plain.dtype):
            return f"{name} reads the same text differently each time, so nothing can be compared or tuned on it. Choose another model."
        if frozen.kind == "decoder" and not _is_causal(frozen, ids, plain):
            return f"{name} is no causal model: what it gives for a token depends on the tokens behind it. Choose another model."
        return _trouble_with_embeddings(frozen, name, ids, plain) or (_trouble_with_gradient(frozen, name, ids) if size == SMALL else None)


def _trouble_with_gradient(frozen: FrozenModel, name: str, ids: Ids) -> str | None:
    """Return why nothing can be tuned in front of a model whose forward is right; None: a gradient reaches the embeddings."""
    inputs = _batch(frozen, [Tokenized((), ())], Way("alone", "right", False), len(ids))
    with torch.enable_grad():
        rows = frozen.model.get_input_embeddings()(torch.tensor(ids, device=frozen.device)).detach().requires_grad_()
        with caught() as found:
            read = _states(frozen, rows, inputs)[0].float()
            (gradient,) = torch.autograd.grad((read * torch.linspace(-1, 1, read.shape[-1], device=read.device)).sum(), rows)
            if bool(gradient.any()):  # in half precision it may overflow here, and not in a loss
                return None
    said = reason_of(found[0]) if found else "it is zero"
    return f"{name} passes no gradient on to its input embeddings ({said}), so no soft prompt can be tuned. Choose another model."


def _trouble_with_embeddings(frozen: FrozenModel, name: str, ids: Ids, plain: Tensor) -> str | None:
    """Return why input embeddings cannot stand in for tokens; the first position id that makes them do so is kept."""
    said = "it gives other values for them"
    known = FIRST in frozen.tried
    for first in (frozen.tried[FIRST],) if known else first_positions(frozen):
        frozen.tried[FIRST] = first
        with caught() as found:
            if all(_reads_embeddings(frozen, part) for part in (ids, ids[:-1])):  # some cut texts into chunks: an odd length too
                return None if _reads_between_words(frozen, ids, plain) else f"{name} reads only the embeddings of words. {ELSE}"
        if found:
            said = reason_of(found[0])
    if not known:
        del frozen.tried[FIRST]
    return f"{name} does not read input embeddings as it reads the tokens they stand for ({said}). {ELSE}"


def _reads_embeddings(frozen: FrozenModel, ids: Ids) -> bool:
    return _alike(frozen, _read(frozen, [ids], Way("alone", "right", False)), [ids])


def _reads_between_words(frozen: FrozenModel, ids: Ids, plain: Tensor) -> bool:
    """Say whether a model reads vectors that are near a word's as it reads the word; some look up which word a vector is (Gemma 4)."""
    off = torch.finfo(plain.dtype).eps
    inputs = _batch(frozen, [Tokenized((), ())], Way("alone", "right", False), len(ids))
    embeddings = frozen.model.get_input_embeddings()(torch.tensor(ids, device=frozen.device))
    return _tried(lambda: _near(_states(frozen, embeddings * (1 + off), inputs)[0], plain))


def _near(found: Tensor, wanted: Tensor) -> bool:
    """Say whether two readings of what is nearly the same are nearly the same, in a coarse precision too."""
    return float((found - wanted).float().abs().max()) <= 0.25 * float(wanted.float().abs().max())


def _is_causal(frozen: FrozenModel, ids: Ids, plain: Tensor) -> bool:
    half = len(ids) // 2
    others = ids[:half] + ids[: len(ids) - half]  # of the same length: some models scale positions by it
    return reads_alike(_plain(frozen, others)[:half], plain[:half], plain.dtype)


def _plain(frozen: FrozenModel, ids: Ids) -> Tensor:
    """Return what the model's own forward gives for a text alone: hidden states ``(length, width)``, or logits of a few spoken tokens."""
    tokens = torch.tensor([ids], device=frozen.device)
    if frozen.kind == "encoder_decoder":
        return frozen.model(input_ids=tokens, decoder_input_ids=_spoken(frozen, 1)).logits[0]
    return _run(frozen, {"input_ids": tokens})[0]


def _run(frozen: FrozenModel, arguments: Arguments) -> Tensor:
    """Return ``(batch, length, width)`` of a forward as labels are read from it: hidden states, or logits if these are no plain product."""
    head = "plain" if frozen.kind == "encoder" else head_of(frozen)
    if head == "plain":
        return base_model(frozen)(**arguments).last_hidden_state
    if head == "whole":
        return frozen.model(**arguments).logits
    seen: list[Tensor] = []

    def keep(module: Module, given: object, output: ModelOutput) -> ModelOutput:
        seen.append(output.last_hidden_state)
        output.last_hidden_state = output.last_hidden_state[:, -1:]  # the logits of one token are enough
        return output

    handle = base_model(frozen).register_forward_hook(keep)
    try:
        frozen.model(**arguments)
    finally:
        handle.remove()
    return seen[0]


def _alone(frozen: FrozenModel, ids: Ids) -> Tensor:
    """Return the same, kept: it is what every shortcut is compared with."""
    return _once(frozen, ("alone", ids), lambda: _plain(frozen, ids))


def _read(frozen: FrozenModel, rows: Sequence[Ids], way: Way) -> list[Tensor]:
    """Return the same of rows in one batch, by their input embeddings."""
    return _states(frozen, _no_rows(frozen), _batch(frozen, [Tokenized(row, ()) for row in rows], way))


def _states(frozen: FrozenModel, prompt: Tensor, inputs: Inputs) -> list[Tensor]:
    arguments = model_inputs(frozen, prompt, inputs)
    if frozen.kind == "encoder_decoder":
        spoken = _spoken(frozen, len(inputs.ids))
        return list(frozen.model(**arguments, decoder_input_ids=spoken, **speaking(frozen)).logits)
    with heads_of(frozen, inputs):
        found = _run(frozen, arguments)
    return [own[mask.bool()] for own, mask in zip(found, inputs.mask, strict=True)]


def _batch(frozen: FrozenModel, rows: Sequence[Tokenized], way: Way, num_virtual_tokens: int = 0) -> Inputs:
    inputs = pad(rows, num_virtual_tokens=num_virtual_tokens, fill=frozen.tokenizer.pad_token_id or 0, side=way.side, device=frozen.device)
    return replace(inputs, grouped=way.grouped)


def _spoken(frozen: FrozenModel, rows: int) -> Tensor:
    return torch.tensor([[decoder_start(frozen), *_ids(frozen, 2)]] * rows, device=frozen.device)


def _no_rows(frozen: FrozenModel) -> Tensor:
    return torch.empty(0, frozen.model.get_input_embeddings().embedding_dim, device=frozen.device)


def _ids(frozen: FrozenModel, count: int) -> Ids:
    """Return ordinary tokens, the same for each model."""
    tokenizer = frozen.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    known = range(min(len(tokenizer), frozen.model.get_input_embeddings().num_embeddings))
    drawn = random.Random(0)
    usual = [i for i in drawn.sample(known, min(len(known), 512)) if i not in special] or list(known)
    return tuple(drawn.choice(usual) for _ in range(count))


def _rows(frozen: FrozenModel, size: int) -> list[Ids]:
    """Return rows of unequal length, the longest of `size` tokens: the others stand before and behind more padding than is usual."""
    ids = _ids(frozen, size)
    return [ids[: size // 2 + 1], ids, ids[-5:]]


def _alike(frozen: FrozenModel, found: Sequence[Tensor], rows: Sequence[Ids], since: Sequence[int] | None = None) -> bool:
    """Say whether rows were read as they are alone; `since`: only from that token of each row."""
    wanted = [_alone(frozen, row) for row in rows]
    since = since or [0] * len(rows)
    return all(reads_alike(own, plain[begin:], plain.dtype) for own, plain, begin in zip(found, wanted, since, strict=True))


def _once(frozen: FrozenModel, key: tuple[object, ...], find: Callable[[], T]) -> T:
    if key not in frozen.tried:
        with torch.no_grad(), without_dropout(frozen):
            frozen.tried[key] = find()
    found: T = frozen.tried[key]
    return found


def _tried(attempt: Callable[[], bool]) -> bool:
    """Return what an attempt says; one that fails is none."""
    with caught(ModelError):
        return attempt()
    return False


# -- the shortcuts


def _find_way(frozen: FrozenModel, size: int, side: Side) -> Way:
    longest = _ids(frozen, size)
    rows = {"padded": _rows(frozen, size), "equal": [longest, longest[::-1], longest[1:] + longest[:1]]}
    other: Side = "left" if side == "right" else "right"
    grouping = (True, False) if can_group_heads(frozen) else (True,)  # of other models both are the same forward
    ways = [
        *(Way("padded", where, grouped) for where in (side, other) for grouped in grouping),
        *(Way("equal", side, grouped) for grouped in grouping),
    ]

    def is_right(way: Way) -> bool:
        return _tried(lambda: _alike(frozen, _read(frozen, rows[way.batch], way), rows[way.batch]))

    return next(filter(is_right, ways), Way("alone", side, False))


def _pack_alike(frozen: FrozenModel, size: int, *, behind: bool) -> bool:
    rows, begin = _rows_behind(frozen, size, size // 2 if behind else 0)
    table = frozen.model.get_input_embeddings()
    ahead = key_values(frozen, table(torch.tensor(rows[0][:begin], device=frozen.device))) if begin else None
    rest = [row[begin:] for row in rows]
    hidden, starts = packed_hidden_states(frozen, rest, _no_rows(frozen), [0] * len(rest), ahead)
    found = [hidden[start : start + len(row)] for start, row in zip(starts.tolist(), rest, strict=True)]
    return _alike(frozen, found, rows, [begin] * len(rows))


def _tail_alike(frozen: FrozenModel) -> bool:
    """Say whether the tokens that are read have the states that they have where all are computed."""
    rows = [row[-5:] for row in _rows(frozen, SMALL)]
    tokens = torch.tensor(rows, device=frozen.device)
    where = torch.tensor([[1, 4]] * len(rows), device=frozen.device)
    plain = base_model(frozen)(input_ids=tokens).last_hidden_state
    with lean(frozen, where):
        found = base_model(frozen)(input_ids=tokens).last_hidden_state
    index = torch.arange(len(rows), device=frozen.device)[:, None]
    return reads_alike(found[index, where], plain[index, where], plain.dtype)


def _keys_alike(frozen: FrozenModel, size: int, *, apart: bool | None = None) -> bool:
    """Say whether all is read alike behind a text that all rows share, the same in two parts, and behind texts of the rows' own."""
    apart = supports_front(frozen) if apart is None else apart
    table = frozen.model.get_input_embeddings()
    way = Way("padded", "right", True) if apart else way_of(frozen, size, "right")
    rows, begin = _rows_behind(frozen, size, size // 2)
    embeddings = table(torch.tensor(rows[0][:begin], device=frozen.device))
    some = begin // 2
    first = key_values(frozen, embeddings[:some])
    shared = [key_values(frozen, embeddings), key_values(frozen, embeddings[some:], behind=first)]
    if not all(_reads_behind(frozen, front(*pair, len(rows)), rows, [begin] * len(rows), way, apart) for pair in shared):
        return False
    own = _rows(frozen, size)
    begins = [len(row) // 2 for row in own]
    kept = [Tokenized(row[:begin], row[begin:]) for row, begin in zip(own, begins, strict=True)]
    cache = PrefixCache(replace(frozen, texts=None))
    cache.fill(kept)
    return _reads_behind(frozen, cache.take(kept), own, begins, way, apart)


def _rows_behind(frozen: FrozenModel, size: int, begin: int) -> tuple[list[Ids], int]:
    """Return rows of unequal length that have their first `begin` tokens in common, and how many these are."""
    ids = _ids(frozen, size)
    return [ids[: begin + (size - begin) // 2 + 1], ids, ids[:begin] + ids[-3:]], begin


def _reads_behind(frozen: FrozenModel, ahead: Prefix, rows: Sequence[Ids], begins: Sequence[int], way: Way, apart: bool) -> bool:
    rest = [Tokenized(row[begin:], ()) for row, begin in zip(rows, begins, strict=True)]
    inputs = replace(_batch(frozen, rest, way), prefix=ahead, apart=apart and way.grouped)
    return _alike(frozen, _states(frozen, _no_rows(frozen), inputs), rows, begins)


def _find_head(frozen: FrozenModel) -> Literal["plain", "hooked", "whole"]:
    if frozen.kind == "encoder_decoder":
        return "whole"
    tokens = torch.tensor([_ids(frozen, SMALL)], device=frozen.device)

    def hooked() -> bool:
        full = frozen.model(input_ids=tokens).logits[0, -2:]
        where = torch.tensor([[SMALL - 2, SMALL - 1]], device=frozen.device)
        return reads_alike(logits_where(frozen, {"input_ids": tokens}, where)[0], full, full.dtype)

    if _tried(lambda: _head_is_plain(frozen, tokens)):
        return "plain"
    return "hooked" if _tried(hooked) else "whole"


def _head_is_plain(frozen: FrozenModel, tokens: Tensor) -> bool:
    """Say whether logits are the last hidden states times the output matrix.

    Both are taken from one forward, so that they differ by little more than one rounding; and the hidden states are made larger on their
    way to the head, since a cap hardly changes a logit that is small.
    """
    seen: list[Tensor] = []

    def enlarge(module: Module, given: object, output: ModelOutput) -> ModelOutput:
        output.last_hidden_state = output.last_hidden_state * LARGER
        seen.append(output.last_hidden_state)
        return output

    head = frozen.model.get_output_embeddings()
    handle = base_model(frozen).register_forward_hook(enlarge)
    try:
        logits = frozen.model(input_ids=tokens).logits[0].float()
    finally:
        handle.remove()
    if head is None or len(seen) != 1:
        return False
    plain = head(seen[0])[0]
    return bool((plain.float() - logits).abs().max() <= 4 * torch.finfo(plain.dtype).eps * logits.abs().max())


def _continue_alike(frozen: FrozenModel) -> bool:
    ids = torch.tensor([_ids(frozen, 8)], device=frozen.device)
    options: Arguments = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": frozen.tokenizer.pad_token_id or 0}
    mask = torch.ones_like(ids)
    from_ids = frozen.model.generate(input_ids=ids, attention_mask=mask, **options)[0, ids.shape[1] :]
    embeddings = frozen.model.get_input_embeddings()(ids)
    return torch.equal(frozen.model.generate(inputs_embeds=embeddings, attention_mask=mask, **options)[0], from_ids)
