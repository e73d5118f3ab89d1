"""How a class is read from a frozen model: by label words at the answer position (decoders), or by a linear head (encoders).

A reader gives class scores ``(batch, num_classes)`` and a loss; whatever it trains beside the soft prompt it names in `initial`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.errors import ConfigError, ModelError
from maao.problems.language.forward import Inputs, PrefixCache, hidden_states, model_inputs, pad
from maao.problems.language.loading import FrozenModel
from maao.problems.language.template import Tokenized

Params = Mapping[str, Tensor]
Side = Literal["left", "right"]


class Reader(Protocol):
    """Turns a batch of tokenized examples into class scores."""

    def initial(self, seed: int) -> dict[str, Tensor]: ...

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(batch, num_classes)`` scores in fp32 whose softmax is the distribution over the classes."""
        ...

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch; `targets` are class numbers ``(batch,)``."""
        ...

    def num_terms(self, targets: Tensor) -> int:
        """Return how many terms the mean of `loss` is taken over: what a part of a batch weighs in the whole."""
        ...

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> int:
        """Return the real tokens that one pass over a batch runs through the frozen model, padding not counted."""
        ...


class LabelWords:
    """Score a class by its label word, read as the continuation of the input.

    With words of one token each, only their rows of the output matrix are multiplied, and the loss is cross-entropy over the classes. A
    word of several tokens is scored by the mean of its tokens' log-probabilities. ``objective="vocabulary"`` trains cross-entropy over the
    whole vocabulary instead, as PEFT's users do.

    Source: PET (Schick and Schuetze, 2021) for label words; the mean over tokens as in Liu et al., GPT Understands, Too, 2021.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        words: Sequence[Sequence[int]],
        *,
        objective: Literal["classes", "vocabulary"] = "classes",
        side: Side = "right",
    ) -> None:
        self.frozen = frozen
        self.words = [tuple(word) for word in words]
        self.objective = objective
        self.side: Side = side
        self._single = all(len(word) == 1 for word in self.words)
        self._first = torch.tensor([word[0] for word in self.words], device=frozen.device)
        self._plain_head = _head_is_plain(frozen)
        self.cache: PrefixCache | None = None  # keys and values of texts before the slots

    def initial(self, seed: int) -> dict[str, Tensor]:
        return {}

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        if self._single:
            return self._answer_logits(params, self._pad(params, rows), 1, self._first)[:, 0]
        return torch.stack([scores.mean(-1) for scores in self._log_probabilities(params, rows)], dim=-1)

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        if self.objective == "classes":
            return F.cross_entropy(self.class_scores(params, rows), targets)
        per_label = self._log_probabilities(params, rows)
        own = [per_label[target][i] for i, target in enumerate(targets.tolist())]  # of each example, its label's token log-probabilities
        return -torch.cat(own).mean()

    def num_terms(self, targets: Tensor) -> int:
        return len(targets) if self.objective == "classes" else sum(len(self.words[target]) for target in targets.tolist())

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> int:
        cached = self.cache is not None and all(row in self.cache for row in rows)
        context = sum((len(row.after) if cached else len(row)) + num_virtual_tokens for row in rows)
        longer = [word for word in self.words if len(word) > 1]
        return context * (1 + len(longer)) + len(rows) * sum(len(word) - 1 for word in longer)

    def keep_prefixes(self, rows: Sequence[Tokenized], max_bytes: int) -> str | None:
        """Compute the keys and values of what the rows have before their slots, to be used from now on.

        Returns why it was not done, where it was not: they take more than `max_bytes`, or the model reads them differently.
        """
        texts = {row.before for row in rows if row.before}
        if not texts:
            return None
        cache = PrefixCache(self.frozen)
        longest = max((row for row in rows if row.before), key=lambda row: len(row.before))
        cache.fill([longest])
        needed = cache.num_bytes // len(longest.before) * sum(map(len, texts))
        if needed > max_bytes:
            return f"the texts' keys and values take {needed / 2**20:.0f} MiB, more than the {max_bytes / 2**20:.0f} MiB allowed"
        params = {"prompt": self.frozen.model.get_input_embeddings()(torch.tensor([3, 4], device=self.frozen.device)).detach()}
        with torch.no_grad():
            plain = self.class_scores(params, [longest])
            self.cache = cache
            cached = self.class_scores(params, [longest])
        if not torch.allclose(plain, cached, rtol=1e-3, atol=1e-3):
            self.cache = None
            return f"{self.frozen.name} reads cached text differently"
        cache.fill(rows)
        return None

    def _log_probabilities(self, params: Params, rows: Sequence[Tokenized]) -> list[Tensor]:
        """Return for each label ``(batch, tokens of its word)`` log-probabilities over the whole vocabulary."""
        first = self._answer_logits(params, self._pad(params, rows), 1).log_softmax(-1)[:, 0]  # (batch, vocab_size)
        found = []
        for word in self.words:
            if len(word) == 1:
                found.append(first[:, list(word)])
                continue
            inputs = self._pad(params, rows, answers=[word[:-1]] * len(rows))
            log_probabilities = self._answer_logits(params, inputs, len(word)).log_softmax(-1)  # (batch, tokens, vocab_size)
            ids = torch.tensor(word, device=log_probabilities.device).expand(len(rows), -1)
            found.append(log_probabilities.gather(-1, ids[..., None])[..., 0])
        return found

    def _pad(self, params: Params, rows: Sequence[Tokenized], answers: Sequence[Sequence[int]] | None = None) -> Inputs:
        return _pad(self.frozen, params, rows, self.side, answers, self.cache)

    def _answer_logits(self, params: Params, inputs: Inputs, count: int, ids: Tensor | None = None) -> Tensor:
        """Return ``(batch, count, vocab_size)`` logits at each row's last `count` positions; with `ids`, of these tokens only."""
        rows = torch.arange(len(inputs.ids), device=inputs.ids.device)[:, None]
        where = inputs.last[:, None] - torch.arange(count - 1, -1, -1, device=inputs.ids.device)
        if not self._plain_head:
            logits = self.frozen.model(**model_inputs(self.frozen, params["prompt"], inputs)).logits[rows, where].float()
            return logits if ids is None else logits[..., ids]
        answers = hidden_states(self.frozen, params["prompt"], inputs)[rows, where]
        head = self.frozen.model.get_output_embeddings()
        weight, bias = (head.weight, head.bias) if ids is None else (head.weight[ids], None if head.bias is None else head.bias[ids])
        return F.linear(answers, weight, bias).float()


def _head_is_plain(frozen: FrozenModel) -> bool:
    """Say whether a model's logits are its last hidden states times its output matrix. Some models scale or cap them on the way."""
    probe = pad([Tokenized((0, 1, 2), ())], num_virtual_tokens=0, fill=0, device=frozen.device)
    prompt = torch.empty(0, frozen.model.get_input_embeddings().embedding_dim, device=frozen.device)
    with torch.no_grad():
        full = frozen.model(**model_inputs(frozen, prompt, probe)).logits
        plain = frozen.model.get_output_embeddings()(hidden_states(frozen, prompt, probe))
    return bool(torch.allclose(full.float(), plain.float(), rtol=1e-4, atol=1e-4))


class Head:
    """Score the classes with a linear head on the pooled last hidden states; the head is trained with the soft prompt.

    `pooling`: "mean" over all tokens, slots included; "first", the first token of the text as the model knows it (``[CLS]``); "virtual",
    the first virtual token (what PEFT's sequence classification reads with slots in front).
    """

    def __init__(
        self, frozen: FrozenModel, num_classes: int, *, pooling: Literal["mean", "first", "virtual"] = "mean", side: Side = "right"
    ) -> None:
        self.frozen = frozen
        self.num_classes = num_classes
        self.pooling = pooling
        self.side: Side = side

    def initial(self, seed: int) -> dict[str, Tensor]:
        width = self.frozen.model.get_input_embeddings().embedding_dim
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(self.num_classes, width, generator=generator) * 0.02
        return {"head.weight": weight, "head.bias": torch.zeros(self.num_classes)}

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        inputs = _pad(self.frozen, params, rows, self.side)
        hidden = hidden_states(self.frozen, params["prompt"], inputs).float()
        return F.linear(self._pool(hidden, inputs, rows), params["head.weight"].to(hidden), params["head.bias"].to(hidden))

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        return F.cross_entropy(self.class_scores(params, rows), targets)

    def num_terms(self, targets: Tensor) -> int:
        return len(targets)

    def num_tokens(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> int:
        return sum(len(row) + num_virtual_tokens for row in rows)

    def _pool(self, hidden: Tensor, inputs: Inputs, rows: Sequence[Tokenized]) -> Tensor:
        batch = torch.arange(len(rows), device=hidden.device)
        if self.pooling == "mean":
            weight = inputs.mask[..., None].to(hidden)
            return (hidden * weight).sum(1) / weight.sum(1)
        if self.pooling == "virtual":
            return hidden[batch, inputs.slots[:, 0]]
        # The first token of the text: behind the slots where they stand in front, else the first of the row.
        past_slots = torch.tensor([0 if row.before else inputs.slots.shape[1] for row in rows], device=hidden.device)
        start = inputs.slots[:, 0] - torch.tensor([len(row.before) for row in rows], device=hidden.device)
        return hidden[batch, start + past_slots]


def _pad(
    frozen: FrozenModel,
    params: Params,
    rows: Sequence[Tokenized],
    side: Side,
    answers: Sequence[Sequence[int]] | None = None,
    cache: PrefixCache | None = None,
) -> Inputs:
    fill = frozen.tokenizer.pad_token_id or 0
    count = len(params["prompt"])
    if cache is None or not all(row in cache for row in rows):
        return pad(rows, num_virtual_tokens=count, fill=fill, side=side, answers=answers, device=frozen.device)
    rest = [Tokenized((), row.after) for row in rows]
    inputs = pad(rest, num_virtual_tokens=count, fill=fill, side=side, answers=answers, device=frozen.device)
    return replace(inputs, prefix=cache.take(rows))


def label_word_ids(frozen: FrozenModel, labels: Sequence[str], words: Mapping[str, str], prefix: str) -> list[tuple[int, ...]]:
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
    found: dict[tuple[int, ...], str] = {}
    for label in labels:
        word = words[label].strip()
        if not word:
            raise ConfigError(f"The label word of '{label}' is empty: give a word the model would say.")
        ids = tuple(frozen.tokenizer(prefix + word, add_special_tokens=False).input_ids)
        if not ids or (frozen.tokenizer.unk_token_id in ids and frozen.tokenizer.unk_token_id is not None):
            raise ModelError(f"The tokenizer of {frozen.name} cannot write the label word '{word}' of '{label}'. Choose another word.")
        if ids in found:
            raise ConfigError(
                f"The labels '{found[ids]}' and '{label}' have the same label word '{word}' (tokens {ids}). Choose different words."
            )
        found[ids] = label
    return list(found)
