"""Classes read by label words (*verbalizers*), as the continuation of an input.

Source: PET (Schick and Schuetze, 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.problems.scorers import DataStart
from maao.problems.scorers.calibration import CALIBRATION, Calibration, calibrating
from maao.problems.scorers.tokens import (
    AT_A_TIME,
    Rows,
    TokenOptions,
    TokenScorer,
    ahead_of,
    batch_notes,
    batches,
    count_in_slots,
    in_order,
    pad_rows,
    prompt_of,
    stripped,
)
from maao.problems.towers.text.forward import Inputs, PrefixCache, hidden_states, key_values, logits_at, model_inputs
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.packing import packed_hidden_states
from maao.problems.towers.text.probes import Way, head_of, supports_kv_cache, supports_packing, supports_tail
from maao.problems.towers.text.template import TemplateTokenizer, Tokenized
from maao.protocols import Params

Word = tuple[int, ...]
Objective = Literal["classes", "vocabulary"]

PADDING = 0.04  # rows are packed where their padding would be more than this part of them


class AnswerScorer(TokenScorer):
    """Base of what reads classes where the model answers, behind the input; an example's words are what it may answer.

    What is read there, in the model's last hidden states, is for `_read` and `_output` to say: here, the states themselves.
    """

    _spoken = 0  # tokens beside context and answer that a pass runs for each row

    def __init__(self, frozen: FrozenModel, words: Sequence[Word], **options: Unpack[TokenOptions]) -> None:
        super().__init__(frozen, **options)
        self.words = [tuple(word) for word in words]
        self.cache: PrefixCache | None = None  # keys and values of texts before the slots
        # What all rows begin with runs once for all of them, where the model reads that alike; what runs once would drop nothing.
        self.shares = not self._dropout

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        _, count, rest = self._to_run(num_virtual_tokens, rows)
        return [len(row) + count + max(map(len, self._words(row))) - 1 for row in rest]

    def num_tokens(self, params: Params, rows: Sequence[Tokenized], targets: Tensor | None = None, *, known: bool = False) -> int:
        if known:  # one by one: none of it is shared
            return sum(self.num_tokens(params, [replace(row, before=())]) for row in rows)
        once, count, rest = self._to_run(count_in_slots(params), rows)
        return once + sum(self._row_tokens(count, row) for row in rest)

    def _to_run(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> tuple[int, int, Sequence[Tokenized]]:
        """Return the tokens that run once for all rows, the virtual tokens of each row, and the rows as they run."""
        held = self.holds(rows)
        if num_virtual_tokens and self.can_share(num_virtual_tokens, rows):
            return num_virtual_tokens + (0 if held else len(rows[0].before)), 0, stripped(rows)
        return 0, num_virtual_tokens, stripped(rows) if held else rows

    def _row_tokens(self, num_virtual_tokens: int, row: Tokenized) -> int:
        words = self._words(row)
        return sum(self._pass_tokens(num_virtual_tokens, row, words[group[0]]) for group in self._passes(row))

    def _pass_tokens(self, num_virtual_tokens: int, row: Tokenized, word: Word) -> int:
        return len(row) + num_virtual_tokens + self._spoken + len(word) - 1

    # -- what is computed once

    def share(self, params: Params, rows: Sequence[Tokenized]) -> tuple[Params, Rows] | None:
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
        return {**others, "keys": keys, "values": values}, stripped(rows)

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether all rows begin with the same text and the slots, and the model reads that once as well as many times."""
        return self._begin_alike(rows) and self.supports_kv_cache(num_virtual_tokens, rows)

    def _begin_alike(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether several rows begin with the same text and the slots, and what they begin with may be shared."""
        return self.shares and len(rows) > 1 and all(row.before == rows[0].before and row.after for row in rows)

    def holds(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether the keys and values of all rows' texts are kept."""
        return self.cache is not None and all(row in self.cache for row in rows)

    def supports_kv_cache(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether the model reads these rows behind keys and values that are kept as it reads the text."""
        return supports_kv_cache(self.frozen, self._longest(num_virtual_tokens, rows))

    def _longest(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> int:
        """Return the most tokens that any of the rows reaches with the slots and its longest answer, whatever of it runs once."""
        return max(len(row) + max(map(self._tokens_behind, self._words(row))) for row in rows) + num_virtual_tokens

    def _tokens_behind(self, word: Word) -> int:
        """Return how many tokens a row is longer with this answer: the last one is only scored."""
        return len(word) - 1

    def prefill(self, num_virtual_tokens: int, rows: Sequence[Tokenized], max_bytes: int) -> str | None:
        """Compute the keys and values of what the rows have before their slots, to be used from now on.

        Returns why it was not done, where it was not: they take more than `max_bytes`, or the model reads them differently.
        """
        texts = {row.before for row in rows if row.before}
        if not texts or self.frozen.kind != "decoder":
            return None
        if not self.supports_kv_cache(num_virtual_tokens, rows):
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

    @contextmanager
    def reading_once(self, inputs: Rows, points: Sequence[Params]) -> Iterator[int]:
        """Keep the keys and values of these rows' texts while several points are scored on them; give the tokens that this took."""
        slots = all("prompt" in point for point in points)  # deep prompts stand in front of all text
        worth_it = len(points) > 1 and self.frozen.kind == "decoder" and slots and any(row.before for row in inputs)
        if not worth_it or self.holds(inputs) or not self.supports_kv_cache(max(map(count_in_slots, points)), inputs):
            yield 0
            return
        kept, self.cache = self.cache, PrefixCache(self.frozen)
        try:
            self.cache.fill(inputs)
            yield self.cache.num_tokens
        finally:
            self.cache = kept

    @property
    def prepared_tokens(self) -> int:
        """The tokens of the texts whose keys and values are kept."""
        return 0 if self.cache is None else self.cache.num_tokens

    def clue_parts(self, params: Params, inputs: Rows, most: int, at_a_time: int) -> Sequence[Sequence[int]]:
        # Rows whose texts are held are short: they run as many at a time as they are scored.
        if self.holds(inputs) and not self.can_share(count_in_slots(params), inputs):
            return [range(begin, min(begin + at_a_time, len(inputs))) for begin in range(0, len(inputs), at_a_time)]
        return self.parts(params, inputs, most)

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        longest = self._longest(num_virtual_tokens, rows)
        found = batch_notes(self.frozen, longest, self.side)
        opened = self.frozen.kind == "decoder" and num_virtual_tokens and self._begin_alike(rows)
        if opened and not supports_kv_cache(self.frozen, longest):
            found.append(
                f"the slots run anew in every row, which is slower: {self.frozen.name} reads keys and values in their place differently"
            )
        if self._would_pack(rows) and not supports_packing(self.frozen, longest, 0):
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
        ahead, count = ahead_of(params), count_in_slots(params)
        if self._packs(ahead, count, rows):
            return self._packed_logits(params, rows, words, ids)
        lengths = [len(row) + self._tokens_behind(word) + count + ahead for row, word in zip(rows, words, strict=True)]
        way, groups = batches(self.frozen, lengths, self.side)
        most = max(map(len, words))
        found = [self._batch_logits(params, [rows[i] for i in own], [words[i] for i in own], most, ids, way) for own in groups]
        return in_order(found, groups)

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
            return self._packs(len(rows[0].before) + num_virtual_tokens, 0, stripped(rows))
        return self._packs(0, num_virtual_tokens, rows)

    def _packs(self, ahead: int, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether rows are packed as they are given, behind so many keys and values, without anything more being shared."""
        if not self._would_pack(rows):
            return False
        return supports_packing(self.frozen, self._longest(num_virtual_tokens + ahead, rows), ahead)

    def _would_pack(self, rows: Sequence[Tokenized]) -> bool:
        """Say whether packing is worth its while."""
        if self.frozen.kind != "decoder" or self.holds(rows):
            return False
        lengths = [len(row) for row in rows]
        return max(lengths) * len(lengths) - sum(lengths) > PADDING * sum(lengths)

    def _packed_logits(self, params: Params, rows: Sequence[Tokenized], words: Sequence[Word], ids: Tensor | None) -> Tensor:
        prompt = prompt_of(params, self.frozen)
        front = (params["keys"], params["values"]) if "keys" in params else None
        sequences = [[*row.before, *[0] * len(prompt), *row.after, *word[:-1]] for row, word in zip(rows, words, strict=True)]
        most = max(map(len, words))
        tail = most if supports_tail(self.frozen) else None
        hidden, starts = packed_hidden_states(self.frozen, sequences, prompt, [len(row.before) for row in rows], front, tail)
        last = starts + torch.tensor([len(sequence) - 1 for sequence in sequences], device=starts.device)
        lengths = torch.tensor([len(word) for word in words], device=last.device)
        steps = torch.arange(most, device=last.device)
        answers = hidden[torch.minimum((last - lengths + 1)[:, None] + steps, last[:, None])]
        return self._output(answers, ids)

    def _read(self, params: Params, inputs: Inputs, where: Tensor, ids: Tensor | None) -> Tensor:
        rows = torch.arange(len(where), device=where.device)[:, None]
        read = where if supports_tail(self.frozen) else None
        return self._output(hidden_states(self.frozen, prompt_of(params, self.frozen), inputs, read)[rows, where], ids)

    def _output(self, answers: Tensor, ids: Tensor | None) -> Tensor:
        return answers

    def _pad(self, params: Params, rows: Sequence[Tokenized], way: Way, answers: Sequence[Sequence[int]] | None = None) -> Inputs:
        return pad_rows(self.frozen, params, rows, way, answers, self.cache)


class WordSettings(TypedDict, total=False):
    """How label words are trained, and what is taken from their scores.

    Args:
        objective: cross-entropy over the classes, or over the vocabulary.
        calibration: how much of a score is the class's whatever the input is (see `calibration.py`).
        content_free: the inputs without content, of a contextual calibration.
    """

    objective: Objective
    calibration: Calibration
    content_free: Sequence[Tokenized]


class LabelWords(AnswerScorer):
    """Score a class by its label word, read as the continuation of the input.

    With words of one token each, only their rows of the output matrix are multiplied, and the loss is cross-entropy over the classes. A
    word of several tokens is scored by the mean of its tokens' log-probabilities. ``objective="vocabulary"`` trains cross-entropy over the
    whole vocabulary instead, as PEFT's users do. An example that has `words` of its own (its choices) is scored by those.

    With a calibration there is the param "calibration" ``(num_classes,)``, which is added to the scores: it begins at what the first prompt
    says, and is trained with the prompt.

    Source: PET (Schick and Schuetze, 2021) for label words; the mean over tokens as in Liu et al., GPT Understands, Too, 2021.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        words: Sequence[Word],
        settings: WordSettings | None = None,
        **options: Unpack[TokenOptions],
    ) -> None:
        super().__init__(frozen, words, **options)
        own = settings or {}
        self.objective: Objective = own.get("objective", "classes")
        self.calibration: Calibration = own.get("calibration", "none")
        self._content_free = own.get("content_free", ())
        self._first = torch.tensor([word[0] for word in self.words], device=frozen.device)

    def extra(self, seed: int) -> dict[str, Tensor]:
        return {} if self.calibration == "none" else {CALIBRATION: torch.zeros(len(self.words))}

    def start(self, realized: Params, train: Rows, targets: Tensor, seed: int) -> DataStart:
        """Return the calibration of the prompt that these params are.

        Raises:
            ConfigError: there is no input to calibrate by.
        """
        rows = self._calibrated_on(train)
        if self.calibration == "none":
            return DataStart({})
        if not rows:
            raise ConfigError("model.calibration = 'batch' reads the inputs of train, and there are none: use 'contextual'.")
        plain = {name: value for name, value in realized.items() if name != CALIBRATION}
        parts = [rows[begin : begin + AT_A_TIME] for begin in range(0, len(rows), AT_A_TIME)]
        scores = torch.cat([self.class_scores(plain, part).float().cpu() for part in parts])
        read = "inputs of train" if self.calibration == "batch" else "inputs without content"
        return DataStart({CALIBRATION: calibrating(scores, self.calibration)}, f"label words are calibrated on {len(rows)} {read}")

    def start_tokens(self, realized: Params, train: Rows) -> int:
        """Return the tokens that finding it runs through the model."""
        return sum(self._row_tokens(count_in_slots(realized), row) for row in self._calibrated_on(train))

    def _calibrated_on(self, train: Sequence[Tokenized]) -> Sequence[Tokenized]:
        found: dict[Calibration, Sequence[Tokenized]] = {"none": (), "contextual": self._content_free, "batch": train}
        return found[self.calibration]

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        scores = self._word_scores(params, rows)
        return scores + params[CALIBRATION].to(scores) if CALIBRATION in params else scores

    def _word_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        if not any(row.words for row in rows) and all(len(word) == 1 for word in self.words):
            return self._logits(params, rows, [self.words[0]] * len(rows), self._first)[:, 0].float()
        columns = list(zip(*map(self._words, rows), strict=True))  # of each class, the rows' words
        found: dict[int, Tensor] = {}
        for group in self._passes(rows[0]):
            logits = self._logits(params, rows, columns[group[0]]).float()
            found |= {k: _mean_log_probability(logits, columns[k]) for k in group}
        return torch.stack([found[k] for k in range(len(columns))], dim=-1)

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor, factor: float = 1.0) -> Tensor:
        if self.objective == "classes":
            return super().loss(params, rows, targets, factor)
        own = [self._words(row)[target] for row, target in zip(rows, targets.tolist(), strict=True)]
        found = _mean_log_probability(self._logits(params, rows, own).float(), own)
        weights = self.weights(rows, targets)  # a word weighs as much as it has tokens: the mean is taken over all of them
        return -factor * (found * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def weights(self, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        own = super().weights(rows, targets)
        if self.objective == "classes":
            return own
        lengths = [len(self._words(row)[target]) for row, target in zip(rows, targets.tolist(), strict=True)]
        return own * torch.tensor(lengths, device=own.device)

    def num_tokens(self, params: Params, rows: Sequence[Tokenized], targets: Tensor | None = None, *, known: bool = False) -> int:
        if known or targets is None or self.objective == "classes":
            return super().num_tokens(params, rows, targets, known=known)
        once, count, rest = self._to_run(count_in_slots(params), rows)
        own = [self._words(row)[target] for row, target in zip(rows, targets.tolist(), strict=True)]
        return once + sum(self._pass_tokens(count, row, word) for row, word in zip(rest, own, strict=True))

    def _packs(self, ahead: int, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return super()._packs(ahead, num_virtual_tokens, rows) and head_of(self.frozen) == "plain"

    def _read(self, params: Params, inputs: Inputs, where: Tensor, ids: Tensor | None) -> Tensor:
        head = head_of(self.frozen)
        if head != "plain":
            rows = torch.arange(len(where), device=where.device)[:, None]
            prompt = prompt_of(params, self.frozen)
            logits = (
                logits_at(self.frozen, prompt, inputs, where)
                if head == "hooked"
                else self.frozen.model(**model_inputs(self.frozen, prompt, inputs)).logits[rows, where]
            )
            return logits if ids is None else logits[..., ids]
        return super()._read(params, inputs, where, ids)

    def _output(self, answers: Tensor, ids: Tensor | None) -> Tensor:
        head = self.frozen.model.get_output_embeddings()
        weight, bias = (head.weight, head.bias) if ids is None else (head.weight[ids], None if head.bias is None else head.bias[ids])
        return F.linear(answers, weight.to(answers.device), None if bias is None else bias.to(answers.device))


def _mean_log_probability(logits: Tensor, words: Sequence[Word]) -> Tensor:
    """Return ``(batch,)`` means over each row's word of its tokens' log-probabilities; logits ``(batch, longest word, vocab_size)``."""
    count = logits.shape[1]
    ids = torch.tensor([[*word, *[0] * (count - len(word))] for word in words], device=logits.device)
    valid = torch.tensor([[1.0] * len(word) + [0.0] * (count - len(word)) for word in words], device=logits.device)
    found = logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)
    return (found * valid).sum(-1) / valid.sum(-1)


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
