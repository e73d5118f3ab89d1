"""How a class is read from a frozen model: by label words (decoders, masked models, encoder-decoders), or by a linear head (encoders).

A reader gives class scores ``(batch, num_classes)`` and a loss; whatever it trains beside the soft prompt it names in `initial`. What it
reads is params as the model takes them: ``{"prompt": (num_virtual_tokens, embed_dim)}`` in the slots, or ``{"keys", "values"}``, each
``(layers, heads, length, head_dim)``, in front of everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.problems.towers.text.forward import (
    Inputs,
    PrefixCache,
    Side,
    decoder_start,
    front,
    hidden_states,
    key_values,
    logits_at,
    model_inputs,
    pad,
)
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.packing import packed_hidden_states
from maao.problems.towers.text.probes import Way, head_of, hidden_width, packs, reads_keys, speaking, way_of
from maao.problems.towers.text.template import TemplateTokenizer, Tokenized

Params = Mapping[str, Tensor]
Word = tuple[int, ...]
Pooling = Literal["mean", "first", "virtual"]

PADDING = 0.04  # rows are packed where their padding would be more than this part of them


class Reader(Protocol):
    """Turns a batch of tokenized examples into class scores."""

    def initial(self, seed: int) -> dict[str, Tensor]: ...

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(batch, num_classes)`` scores in fp32 whose softmax is the distribution over the classes."""
        ...

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch; `targets` are class numbers ``(batch,)``."""
        ...

    def weights(self, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        """Return ``(batch,)``, what each example weighs in the mean of `loss`."""
        ...

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        """Return the tokens that each example takes in a batch of all of them."""
        ...

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized], targets: Tensor | None = None) -> int:
        """Return the real tokens that `class_scores`, or with `targets` `loss`, runs through the frozen model, padding not counted."""
        ...

    def packs(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether these rows run one behind the other, without padding."""
        ...

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        """Say how rows up to the length of these are read where that is slower than it could be.

        Raises:
            ModelError: the model cannot be read so that a soft prompt works.
        """
        ...

    def share(self, params: Params, rows: Sequence[Tokenized]) -> tuple[Params, Sequence[Tokenized]] | None:
        """Return params and rows without what all the rows begin with, which is then in the params as keys and values; None: nothing."""
        ...


class LabelWords:
    """Score a class by its label word, read as the continuation of the input.

    With words of one token each, only their rows of the output matrix are multiplied, and the loss is cross-entropy over the classes. A
    word of several tokens is scored by the mean of its tokens' log-probabilities. ``objective="vocabulary"`` trains cross-entropy over the
    whole vocabulary instead, as PEFT's users do. An example that has `words` of its own (its choices) is scored by those.

    Source: PET (Schick and Schuetze, 2021) for label words; the mean over tokens as in Liu et al., GPT Understands, Too, 2021.
    """

    _spoken = 0  # tokens beside context and answer that a pass runs for each row

    def __init__(
        self,
        frozen: FrozenModel,
        words: Sequence[Word],
        *,
        objective: Literal["classes", "vocabulary"] = "classes",
        side: Side = "right",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.frozen = frozen
        self.words = [tuple(word) for word in words]
        self.objective = objective
        self.side: Side = side
        self._class_weights = _as_weights(class_weights, frozen)
        self._first = torch.tensor([word[0] for word in self.words], device=frozen.device)
        self.cache: PrefixCache | None = None  # keys and values of texts before the slots
        self.shares = True  # what all rows begin with runs once for all of them, where the model reads that alike

    def initial(self, seed: int) -> dict[str, Tensor]:
        return {}

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        if not any(row.words for row in rows) and all(len(word) == 1 for word in self.words):
            return self._logits(params, rows, [self.words[0]] * len(rows), self._first)[:, 0].float()
        columns = list(zip(*map(self._words, rows), strict=True))  # of each class, the rows' words
        found: dict[int, Tensor] = {}
        for group in self._passes(rows[0]):
            logits = self._logits(params, rows, columns[group[0]]).float()
            found |= {k: _mean_log_probability(logits, columns[k]) for k in group}
        return torch.stack([found[k] for k in range(len(columns))], dim=-1)

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        if self.objective == "classes":
            return F.cross_entropy(self.class_scores(params, rows), targets, weight=self._class_weights)
        own = [self._words(row)[target] for row, target in zip(rows, targets.tolist(), strict=True)]
        found = _mean_log_probability(self._logits(params, rows, own).float(), own)
        weights = self.weights(rows, targets)  # a word weighs as much as it has tokens: the mean is taken over all of them
        return -(found * weights).sum() / weights.sum()

    def weights(self, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        own = torch.ones(len(rows), device=targets.device) if self._class_weights is None else self._class_weights[targets]
        if self.objective == "classes":
            return own
        lengths = [len(self._words(row)[target]) for row, target in zip(rows, targets.tolist(), strict=True)]
        return own * torch.tensor(lengths, device=own.device)

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        _, count, rest = self._to_run(num_virtual_tokens, rows)
        return [len(row) + count + max(map(len, self._words(row))) - 1 for row in rest]

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized], targets: Tensor | None = None) -> int:
        once, count, rest = self._to_run(num_virtual_tokens, rows)
        if targets is None or self.objective == "classes":
            return once + sum(self._row_tokens(count, row) for row in rest)
        own = [self._words(row)[target] for row, target in zip(rows, targets.tolist(), strict=True)]
        return once + sum(self._pass_tokens(count, row, word) for row, word in zip(rest, own, strict=True))

    def _to_run(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> tuple[int, int, Sequence[Tokenized]]:
        """Return the tokens that run once for all rows, the virtual tokens of each row, and the rows as they run."""
        held = self.holds(rows)
        if num_virtual_tokens and self.can_share(num_virtual_tokens, rows):
            return num_virtual_tokens + (0 if held else len(rows[0].before)), 0, _stripped(rows)
        return 0, num_virtual_tokens, _stripped(rows) if held else rows

    def _row_tokens(self, num_virtual_tokens: int, row: Tokenized) -> int:
        words = self._words(row)
        return sum(self._pass_tokens(num_virtual_tokens, row, words[group[0]]) for group in self._passes(row))

    def _pass_tokens(self, num_virtual_tokens: int, row: Tokenized, word: Word) -> int:
        return len(row) + num_virtual_tokens + self._spoken + len(word) - 1

    # -- what is computed once

    def share(self, params: Params, rows: Sequence[Tokenized]) -> tuple[Params, Sequence[Tokenized]] | None:
        nothing = "prompt" not in params or not (len(params["prompt"]) or rows[0].before)
        if nothing or not self.can_share(len(params["prompt"]), rows):
            return None
        table = self.frozen.model.get_input_embeddings()
        if self.cache is not None and self.holds(rows):  # the text has been read: only the slots run, behind it
            prompt = params["prompt"].to(self.frozen.device, table.weight.dtype)
            keys, values = key_values(self.frozen, prompt, behind=self.cache.of(rows[0]))
        else:
            with torch.no_grad():
                before = table(torch.tensor(rows[0].before, dtype=torch.long, device=self.frozen.device))
            keys, values = key_values(self.frozen, torch.cat([before, params["prompt"].to(before)]))
        others = {name: value for name, value in params.items() if name != "prompt"}
        return {**others, "keys": keys, "values": values}, _stripped(rows)

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether all rows begin with the same text and the slots, and the model reads that once as well as many times."""
        return self._begin_alike(rows) and self.reads_kept(num_virtual_tokens, rows)

    def _begin_alike(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether several rows begin with the same text and the slots, and what they begin with may be shared."""
        return self.shares and len(rows) > 1 and all(row.before == rows[0].before and row.after for row in rows)

    def holds(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether the keys and values of all rows' texts are kept."""
        return self.cache is not None and all(row in self.cache for row in rows)

    def reads_kept(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether the model reads these rows behind keys and values that are kept as it reads the text."""
        return reads_keys(self.frozen, self._longest(num_virtual_tokens, rows))

    def _longest(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> int:
        """Return the most tokens that any of the rows reaches with the slots and its longest answer, whatever of it runs once."""
        return max(len(row) + max(map(self._tokens_behind, self._words(row))) for row in rows) + num_virtual_tokens

    def _tokens_behind(self, word: Word) -> int:
        """Return how many tokens a row is longer with this answer: the last one is only scored."""
        return len(word) - 1

    def keep_prefixes(self, num_virtual_tokens: int, rows: Sequence[Tokenized], max_bytes: int) -> str | None:
        """Compute the keys and values of what the rows have before their slots, to be used from now on.

        Returns why it was not done, where it was not: they take more than `max_bytes`, or the model reads them differently.
        """
        texts = {row.before for row in rows if row.before}
        if not texts or self.frozen.kind != "decoder":
            return None
        if not self.reads_kept(num_virtual_tokens, rows):
            return f"{self.frozen.name} reads kept keys and values differently"
        cache = PrefixCache(self.frozen)
        longest = max((row for row in rows if row.before), key=lambda row: len(row.before))
        cache.fill([longest])
        needed = cache.num_bytes // len(longest.before) * sum(map(len, texts))
        if needed > max_bytes:
            return f"the texts' keys and values take {needed / 2**20:.0f} MiB, more than the {max_bytes / 2**20:.0f} MiB allowed"
        cache.fill(rows)
        self.cache = cache
        return None

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        longest = self._longest(num_virtual_tokens, rows)
        found = _batch_notes(self.frozen, longest, self.side)
        opened = self.frozen.kind == "decoder" and num_virtual_tokens and self._begin_alike(rows)
        if opened and not reads_keys(self.frozen, longest):
            found.append(
                f"the slots run anew in every row, which is slower: {self.frozen.name} reads keys and values in their place differently"
            )
        if self._would_pack(rows) and not packs(self.frozen, longest, 0):
            found.append(f"rows are padded to one length, which is slower: {self.frozen.name} reads packed rows differently")
        return found

    # -- reading

    def _words(self, row: Tokenized) -> Sequence[Word]:
        return row.words or self.words

    def _passes(self, row: Tokenized) -> list[list[int]]:
        """Return the classes that are read in one pass each; an example's own answers one by one, whatever they run beside."""
        return [[k] for k in range(len(row.words))] if row.words else self._groups(self.words)

    def _groups(self, words: Sequence[Word]) -> list[list[int]]:
        """Return the classes that are read in one pass: those whose words are one token, since nothing of an answer is read before."""
        short = [k for k, word in enumerate(words) if len(word) == 1]
        return [*([short] if short else []), *([k] for k in range(len(words)) if k not in short)]

    def _logits(self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], ids: Tensor | None = None) -> Tensor:
        """Return ``(batch, longest word, vocab_size)`` logits where each token of a row's word is read; with `ids`, of these only."""
        ahead, count = _ahead(params), count_in_slots(params)
        if self._packs(ahead, count, rows):
            return self._packed_logits(params, rows, words, ids)
        lengths = [len(row) + self._tokens_behind(word) + count + ahead for row, word in zip(rows, words, strict=True)]
        way, groups = batches(self.frozen, lengths, self.side)
        most = max(map(len, words))
        found = [self._batch_logits(params, [rows[i] for i in own], [words[i] for i in own], most, ids, way) for own in groups]
        return _in_order(found, groups)

    def _batch_logits(
        self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], most: int, ids: Tensor | None, way: Way
    ) -> Tensor:
        """Return the logits of rows that stand side by side; `most` is the length of the longest word."""
        inputs = self._pad(params, rows, way, answers=[word[:-1] for word in words])
        lengths = torch.tensor([len(word) for word in words], device=inputs.last.device)
        first = inputs.last - (lengths - 1)
        steps = torch.arange(most, device=first.device)
        return self._read(params, inputs, torch.minimum(first[:, None] + steps, inputs.last[:, None]), ids)

    def packs(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        if self.holds(rows) and self.can_share(num_virtual_tokens, rows):
            return self._packs(len(rows[0].before) + num_virtual_tokens, 0, _stripped(rows))
        return self._packs(0, num_virtual_tokens, rows)

    def _packs(self, ahead: int, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether rows are packed as they are given, behind so many keys and values, without anything more being shared."""
        if not self._would_pack(rows):
            return False
        return packs(self.frozen, self._longest(num_virtual_tokens + ahead, rows), ahead) and head_of(self.frozen) == "plain"

    def _would_pack(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether packing is worth its while."""
        if self.frozen.kind != "decoder" or self.holds(rows):
            return False
        lengths = [len(row) for row in rows]
        return max(lengths) * len(lengths) - sum(lengths) > PADDING * sum(lengths)

    def _packed_logits(self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], ids: Tensor | None) -> Tensor:
        prompt = _prompt(params, self.frozen)
        front = (params["keys"], params["values"]) if "keys" in params else None
        sequences = [[*row.before, *[0] * len(prompt), *row.after, *word[:-1]] for row, word in zip(rows, words, strict=True)]
        hidden, starts = packed_hidden_states(self.frozen, sequences, prompt, [len(row.before) for row in rows], front)
        last = starts + torch.tensor([len(sequence) - 1 for sequence in sequences], device=starts.device)
        lengths = torch.tensor([len(word) for word in words], device=last.device)
        steps = torch.arange(int(lengths.max()), device=last.device)
        answers = hidden[torch.minimum((last - lengths + 1)[:, None] + steps, last[:, None])]
        return self._output(answers, ids)

    def _read(self, params: Params, inputs: Inputs, where: Tensor, ids: Tensor | None) -> Tensor:
        head = head_of(self.frozen)
        rows = torch.arange(len(where), device=where.device)[:, None]
        if head != "plain":
            prompt = _prompt(params, self.frozen)
            logits = (
                logits_at(self.frozen, prompt, inputs, where)
                if head == "hooked"
                else self.frozen.model(**model_inputs(self.frozen, prompt, inputs)).logits[rows, where]
            )
            return logits if ids is None else logits[..., ids]
        answers = hidden_states(self.frozen, _prompt(params, self.frozen), inputs)[rows, where]
        return self._output(answers, ids)

    def _output(self, answers: Tensor, ids: Tensor | None) -> Tensor:
        head = self.frozen.model.get_output_embeddings()
        weight, bias = (head.weight, head.bias) if ids is None else (head.weight[ids], None if head.bias is None else head.bias[ids])
        return F.linear(answers, weight, bias)

    def _pad(self, params: Params, rows: Sequence[Tokenized], way: Way, answers: Sequence[Sequence[int]] | None = None) -> Inputs:
        return _pad(self.frozen, params, rows, way, answers, self.cache)


class MaskedWords(LabelWords):
    """Score a class by its label word at the mask of a masked language model; a word of several tokens takes as many masks.

    Source: PET (Schick and Schuetze, 2021). Several masks are filled at once, not one after the other.
    """

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return False  # every token reads every other one

    def _groups(self, words: Sequence[Word]) -> list[list[int]]:
        """Return the classes that are read in one pass: those whose words take equally many masks."""
        groups: dict[int, list[int]] = {}
        for k, word in enumerate(words):
            groups.setdefault(len(word), []).append(k)
        return list(groups.values())

    def _batch_logits(
        self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], most: int, ids: Tensor | None, way: Way
    ) -> Tensor:
        mask = self.frozen.tokenizer.mask_token_id
        inputs = self._pad(params, [row.with_masks(len(word), mask) for row, word in zip(rows, words, strict=True)], way)
        assert inputs.mask_at is not None
        lengths = torch.tensor([len(word) for word in words], device=inputs.last.device)
        steps = torch.arange(most, device=inputs.last.device)
        return self._read(params, inputs, torch.minimum(inputs.mask_at[:, None] + steps, (inputs.mask_at + lengths - 1)[:, None]), ids)


class DecodedWords(LabelWords):
    """Score a class by its label word as what the decoder of an encoder-decoder says, after T5's first sentinel where the template has one.

    Source: Raffel et al., 2020 (T5), for sentinels; Lester et al., 2021, tune prompts of its encoder.
    """

    def __init__(self, frozen: FrozenModel, words: Sequence[Word], *, lead: Word = (), **options: Any) -> None:
        super().__init__(frozen, words, **options)
        self._lead: Word = (decoder_start(frozen), *lead)
        self._spoken = len(self._lead)

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return False

    def _tokens_behind(self, word: Word) -> int:
        return 0  # the decoder says it

    def _batch_logits(
        self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], most: int, ids: Tensor | None, way: Way
    ) -> Tensor:
        model = self.frozen.model
        inputs = model_inputs(self.frozen, _prompt(params, self.frozen), self._pad(params, rows, way))
        spoken = torch.tensor([[*self._lead, *word[:-1], *[0] * (most - len(word))] for word in words], device=self.frozen.device)
        logits = model(**inputs, decoder_input_ids=spoken, **speaking(self.frozen)).logits[:, len(self._lead) - 1 :]
        return logits if ids is None else logits[..., ids]


def batches(frozen: FrozenModel, lengths: Sequence[int], side: Side) -> tuple[Way, list[list[int]]]:
    """Return how rows that reach so many tokens are read, and which of them stand side by side."""
    way = way_of(frozen, max(lengths), side)
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault({"padded": 0, "equal": length, "alone": i}[way.batch], []).append(i)
    return way, list(groups.values())


def _in_order(found: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Tensor:
    """Return what was found of groups of rows, row by row."""
    if len(groups) == 1:
        return found[0]
    back = torch.tensor([i for own in groups for i in own], device=found[0].device).argsort()
    return torch.cat(list(found))[back]


def _batch_notes(frozen: FrozenModel, longest: int, side: Side) -> list[str]:
    """Say how rows of up to so many tokens stand side by side, where it is not as was asked for."""
    way = way_of(frozen, longest, side)
    where = f"{frozen.name} reads a text of {longest} tokens differently beside others"
    if way.batch == "alone":
        return [f"rows run one by one, which is slower: {where}"]
    if way.batch == "equal":
        return [f"only rows of the same length run together, which is slower: {where} that are longer or shorter"]
    return [] if way.side == side else [f"rows are padded on the {way.side}: {where} where padding is on the {side}"]


class Head:
    """Score the classes with a linear head on the pooled last hidden states; the head is trained with the soft prompt.

    `pooling`: "mean" over all tokens, slots included; "first", the first token of the text as the model knows it (``[CLS]``); "virtual",
    the first virtual token (what PEFT's sequence classification reads with slots in front). An example with choices has one score for
    each, from one row of weights.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        num_classes: int,
        *,
        pooling: Pooling = "mean",
        side: Side = "right",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.frozen = frozen
        self.num_classes = num_classes
        self.pooling: Pooling = pooling
        self.side: Side = side
        self._class_weights = _as_weights(class_weights, frozen)

    def initial(self, seed: int) -> dict[str, Tensor]:
        width = hidden_width(self.frozen)
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(self.num_classes, width, generator=generator) * 0.02
        return {"head.weight": weight, "head.bias": torch.zeros(self.num_classes)}

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        inputs_of = [choice for row in rows for choice in (row.choices or (row,))]
        beside = _ahead(params) + count_in_slots(params)
        way, groups = batches(self.frozen, [len(row) + beside for row in inputs_of], self.side)
        pooled = _in_order([self._pooled(params, [inputs_of[i] for i in own], way) for own in groups], groups)
        scores = F.linear(pooled, params["head.weight"].to(pooled), params["head.bias"].to(pooled))
        return scores.view(len(rows), -1)

    def _pooled(self, params: Params, rows: Sequence[Tokenized], way: Way) -> Tensor:
        inputs = _pad(self.frozen, params, rows, way)
        return self._pool(hidden_states(self.frozen, _prompt(params, self.frozen), inputs).float(), inputs, rows)

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        return F.cross_entropy(self.class_scores(params, rows), targets, weight=self._class_weights)

    def weights(self, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        return torch.ones(len(rows), device=targets.device) if self._class_weights is None else self._class_weights[targets]

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        choices = [row.choices or (row,) for row in rows]
        return [len(own) * (max(map(len, own)) + num_virtual_tokens) for own in choices]

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized], targets: Tensor | None = None) -> int:
        return sum(len(choice) + num_virtual_tokens for row in rows for choice in (row.choices or (row,)))

    def packs(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return False

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        longest = max(len(choice) for row in rows for choice in (row.choices or (row,)))
        return _batch_notes(self.frozen, longest + num_virtual_tokens, self.side)

    def share(self, params: Params, rows: Sequence[Tokenized]) -> None:
        return None

    def _pool(self, hidden: Tensor, inputs: Inputs, rows: Sequence[Tokenized]) -> Tensor:
        batch = torch.arange(len(rows), device=hidden.device)
        if self.pooling == "mean":
            weight = inputs.mask[..., None].to(hidden)
            return (hidden * weight).sum(1) / weight.sum(1)
        if self.pooling == "virtual":
            return hidden[batch, inputs.slots[:, 0]]
        # The first token of the text: behind the slots where they stand in front, else the first of the row.
        count = inputs.slots.shape[1]
        start = inputs.last - torch.tensor([len(row) + count - 1 for row in rows], device=hidden.device)
        past_slots = torch.tensor([0 if row.before else count for row in rows], device=hidden.device)
        return hidden[batch, start + past_slots]


def _mean_log_probability(logits: Tensor, words: Sequence[Word]) -> Tensor:
    """Return ``(batch,)`` means over each row's word of its tokens' log-probabilities; logits ``(batch, longest word, vocab_size)``."""
    count = logits.shape[1]
    ids = torch.tensor([[*word, *[0] * (count - len(word))] for word in words], device=logits.device)
    valid = torch.tensor([[1.0] * len(word) + [0.0] * (count - len(word)) for word in words], device=logits.device)
    found = logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)
    return (found * valid).sum(-1) / valid.sum(-1)


def _stripped(rows: Sequence[Tokenized]) -> list[Tokenized]:
    return [replace(row, before=()) for row in rows]


def _prompt(params: Params, frozen: FrozenModel) -> Tensor:
    """Return what stands in the slots: the soft prompt, or no row where params are keys and values."""
    if "prompt" in params:
        return params["prompt"]
    return torch.empty(0, frozen.model.get_input_embeddings().embedding_dim, device=frozen.device)


def count_in_slots(params: Params) -> int:
    """Return how many virtual tokens run through the model in the slots; deep prompts stand in front as keys and values."""
    return len(params["prompt"]) if "prompt" in params else 0


def _ahead(params: Params) -> int:
    """Return how many keys and values stand in front of every row."""
    return int(params["keys"].shape[2]) if "keys" in params else 0


def _as_weights(weights: Sequence[float] | None, frozen: FrozenModel) -> Tensor | None:
    return None if weights is None else torch.tensor(weights, device=frozen.device)


def _pad(
    frozen: FrozenModel,
    params: Params,
    rows: Sequence[Tokenized],
    way: Way,
    answers: Sequence[Sequence[int]] | None = None,
    cache: PrefixCache | None = None,
) -> Inputs:
    fill = frozen.tokenizer.pad_token_id or 0
    held = cache if cache is not None and "keys" not in params and all(row in cache for row in rows) else None
    # Behind keys and values padding goes to the right: nothing must part a row from what stands in front of it.
    side: Side = "right" if "keys" in params or held is not None else way.side
    options: dict[str, Any] = {
        "num_virtual_tokens": count_in_slots(params),
        "fill": fill,
        "side": side,
        "answers": answers,
        "device": frozen.device,
    }
    if "keys" in params:
        dtype = frozen.model.get_input_embeddings().weight.dtype
        prefix = front(params["keys"].to(frozen.device, dtype), params["values"].to(frozen.device, dtype), len(rows))
        return replace(pad(rows, **options), prefix=prefix, grouped=way.grouped)
    if held is None:
        return replace(pad(rows, **options), grouped=way.grouped)
    return replace(pad(_stripped(rows), **options), prefix=held.take(rows), grouped=way.grouped)


def label_word_ids(tokenize: TemplateTokenizer, labels: Sequence[str], words: Mapping[str, str], model: str) -> list[Word]:
    """Return the token ids of each label's word, in the order of `labels`.

    Raises:
        ConfigError: a label without a word, a word without a label, an empty word, or two labels whose words are the same tokens.
        ModelError: a word that the tokenizer cannot write.
    """
    missing = [label for label in labels if label not in words]
    if missing:
        raise ConfigError(
            f'Labels without label words: {", ".join(missing)}. Add them to `model.label_words`, for example {missing[0]} = "...".'
        )
    unknown = [label for label in words if label not in labels]
    if unknown:
        raise ConfigError(
            f"`model.label_words` names labels that the data does not have: {', '.join(unknown)}. It has: {', '.join(labels)}."
        )
    found: dict[Word, str] = {}
    for label in labels:
        word = words[label].strip()
        if not word:
            raise ConfigError(f"The label word of '{label}' is empty: give a word the model would say.")
        try:
            ids = tokenize.word(word)
        except ModelError as error:
            raise ModelError(f"The label word '{word}' of '{label}' cannot be used with {model}. {error} Choose another word.") from error
        if ids in found:
            raise ConfigError(
                f"The labels '{found[ids]}' and '{label}' have the same label word '{word}' (tokens {ids}). Choose different words."
            )
        found[ids] = label
    return list(found)
