"""A class read by a linear head on the hidden states of a frozen model; the head is trained with the soft prompt.

An encoder's hidden states are pooled. A causal decoder's may be pooled too, or be read at the answer position, the last token of the
input, which has seen all of it; texts before the slots are then read once for a whole run, as they are for label words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.problems.scorers import DataStart
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.head_starts import LinearStart, from_class_features, logistic_regression
from maao.problems.scorers.label_words import AnswerScorer
from maao.problems.scorers.tokens import (
    AT_A_TIME,
    TokenOptions,
    TokenScorer,
    ahead_of,
    batch_notes,
    batches,
    count_in_slots,
    in_order,
    pad_rows,
    prompt_of,
)
from maao.problems.towers.text.forward import Inputs, hidden_states
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.probes import Way, hidden_width
from maao.problems.towers.text.template import Tokenized
from maao.protocols import Params

Pooling = Literal["mean", "first", "virtual", "last"]
HeadStart = Literal["random", "zeros", "class_texts", "prototypes", "class_texts_and_prototypes", "logistic_regression"]

STD = 0.02  # of a random start
WEIGHT, BIAS, START = "head.weight", "head.bias", "head.start"
READS_TEXTS = ("class_texts", "class_texts_and_prototypes")  # starts at texts of the classes
READS_TRAIN = ("prototypes", "class_texts_and_prototypes", "logistic_regression")  # and at examples


class HeadSettings(TypedDict, total=False):
    """Where a head begins, and what holds it there.

    Args:
        start: "random" (standard deviation 0.02), "zeros", or what the model gives at the start of the soft prompt for the texts of the
            classes, for the examples of `train` ("prototypes"), for both, or logistic regression on the latter.
        class_rows: the inputs whose texts are those of the classes, for a start there.
        text_weight: examples that a class text counts as, in a start at both.
        anchor: what leaving the start costs: ``anchor / 2 |weight - start|^2 / num_examples`` joins the loss.
        num_examples: of `train`; what weighs less counts less.
        bias: whether the head has one; stock heads of decoders have none.
    """

    start: HeadStart
    class_rows: Sequence[Tokenized]
    text_weight: float
    anchor: float
    num_examples: float
    bias: bool


class Head:
    """Base: score the classes with ``{"head.weight": (num_classes, width), "head.bias": (num_classes,)}`` on one vector of an input.

    An example with choices has one score for each, from one row of weights. A head with an anchor has its first weights with it, as
    "head.start", which no gradient moves.

    Args:
        num_classes: rows of the head.
    """

    pooling: Pooling

    def __init__(self, frozen: FrozenModel, num_classes: int, **settings: Unpack[HeadSettings]) -> None:
        self.frozen, self.num_classes = frozen, num_classes
        self.head_start: HeadStart = settings.get("start", "random")
        self.bias = settings.get("bias", True)
        self._class_rows = settings.get("class_rows", ())
        self._text_weight, self._anchor = settings.get("text_weight", 1.0), settings.get("anchor", 0.0)
        self.num_examples = settings.get("num_examples", 1.0) if self._anchor else 0.0

    def extra(self, seed: int) -> dict[str, Tensor]:
        """Return the head of a random start or one of zeros; `start` then says more where data do."""
        width = hidden_width(self.frozen)
        if self.head_start == "random":
            weight = torch.randn(self.num_classes, width, generator=torch.Generator().manual_seed(seed)) * STD
        else:
            weight = torch.zeros(self.num_classes, width)
        return self._named(weight, torch.zeros(self.num_classes))

    def start(self, realized: Params, train: Sequence[Tokenized], targets: Tensor, seed: int) -> DataStart:
        """Return the head that begins at data, as the model reads them with these params; nothing where data say nothing.

        Raises:
            ConfigError: these data have no such start.
        """
        texts, examples = self._starts_from(train)
        if self.head_start in READS_TRAIN and not examples and not texts:
            raise ConfigError(f"model.head_start = '{self.head_start}' needs examples in train.")
        if not texts and not examples:
            return DataStart({})
        with torch.no_grad():
            found = self._found(self._all_features(realized, texts), self._all_features(realized, examples), examples, targets, seed)
        return DataStart(self._named(found.weight, found.bias), found.note)

    def start_tokens(self, realized: Params, train: Sequence[Tokenized]) -> int:
        """Return the tokens that finding the start runs through the model."""
        return sum(len(row) + count_in_slots(realized) for rows in self._starts_from(train) for row in choices_of(rows))

    def penalty(self, params: Params) -> Tensor | None:
        """Return what leaving the start costs; None: nothing."""
        if START not in params:
            return None
        return self._anchor / 2 * (params[WEIGHT] - params[START].detach()).pow(2).sum() / self.num_examples

    def _starts_from(self, train: Sequence[Tokenized]) -> tuple[Sequence[Tokenized], Sequence[Tokenized]]:
        """Return the texts of classes, and the examples, that the head begins at."""
        return self._class_rows if self.head_start in READS_TEXTS else (), train if self.head_start in READS_TRAIN else ()

    def _all_features(self, realized: Params, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(len(rows), width)``, what a head reads of rows."""
        parts = [self.features(realized, rows[begin : begin + AT_A_TIME]).float().cpu() for begin in range(0, len(rows), AT_A_TIME)]
        return torch.cat(parts) if parts else torch.zeros(0, hidden_width(self.frozen))

    def _found(self, texts: Tensor, examples: Tensor, rows: Sequence[Tokenized], targets: Tensor, seed: int) -> LinearStart:
        weights = [row.weight for row in rows]
        if self.head_start == "logistic_regression":
            folds = seed_for(seed, "head start", "folds")
            return logistic_regression(examples, targets, self.num_classes, weights=weights, seed=folds, with_bias=self.bias)
        if self.head_start == "class_texts":
            return from_class_features(texts)
        text_weight = self._text_weight if len(texts) else 0.0
        weight = torch.tensor([1.0 if one is None else one for one in weights])
        if not len(texts):  # a class without an example is like any input
            any_input = examples.mean(0) if set(weights) <= {None} else weight @ examples / weight.sum()
            texts = any_input.expand(self.num_classes, -1)
        return from_class_features(class_starts(texts, examples, targets[: len(rows)], text_weight=text_weight, weights=weight))

    def _named(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        found = {WEIGHT: weight, BIAS: bias} if self.bias else {WEIGHT: weight}
        return {**found, START: weight.clone()} if self._anchor else found

    def features(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(inputs, width)`` in fp32, one vector for each row, or for each choice of each row."""
        raise NotImplementedError

    def pool(self, hidden: Tensor, inputs: Inputs, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(batch, width)`` of hidden states ``(batch, length, width)``."""
        raise NotImplementedError

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        found = self.features(params, rows)
        bias = params[BIAS].to(found) if BIAS in params else None
        return F.linear(found, params[WEIGHT].to(found), bias).view(len(rows), -1)


class PooledHead(Head, TokenScorer):
    """A head on pooled hidden states.

    `pooling`: "mean" over all tokens, slots included; "first", the first token of the text as the model knows it (``[CLS]``); "virtual",
    the first virtual token (what PEFT's sequence classification reads with slots in front).
    """

    def __init__(
        self,
        frozen: FrozenModel,
        num_classes: int,
        head: HeadSettings | None = None,
        *,
        pooling: Pooling = "mean",
        **options: Unpack[TokenOptions],
    ) -> None:
        TokenScorer.__init__(self, frozen, **options)
        Head.__init__(self, frozen, num_classes, **(head or {}))
        self.pooling: Pooling = pooling

    def features(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        inputs_of = choices_of(rows)
        beside = ahead_of(params) + count_in_slots(params)
        way, groups = batches(self.frozen, [len(row) + beside for row in inputs_of], self.side)
        return in_order([self._pooled(params, [inputs_of[i] for i in own], way) for own in groups], groups)

    def _pooled(self, params: Params, rows: Sequence[Tokenized], way: Way) -> Tensor:
        inputs = pad_rows(self.frozen, params, rows, way)
        return self.pool(hidden_states(self.frozen, prompt_of(params, self.frozen), inputs).float(), inputs, rows)

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        return widths_of_choices(num_virtual_tokens, rows)

    def num_tokens(self, params: Params, rows: Sequence[Tokenized], targets: Tensor | None = None, *, known: bool = False) -> int:
        return sum(len(choice) + count_in_slots(params) for choice in choices_of(rows))

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        longest = max(map(len, choices_of(rows)))
        return batch_notes(self.frozen, longest + num_virtual_tokens, self.side)

    def pool(self, hidden: Tensor, inputs: Inputs, rows: Sequence[Tokenized]) -> Tensor:
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


class AnswerHead(Head, AnswerScorer):
    """A head on the hidden state at the answer position of a causal decoder: the last token of the input, where label words are read."""

    pooling: Pooling = "last"

    def __init__(self, frozen: FrozenModel, num_classes: int, head: HeadSettings | None = None, **options: Unpack[TokenOptions]) -> None:
        words = [(0,)]  # any of one token: none is said
        AnswerScorer.__init__(self, frozen, words, **options)
        Head.__init__(self, frozen, num_classes, **(head or {}))

    def features(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        inputs_of = choices_of(rows)
        return self._logits(params, inputs_of, self.words * len(inputs_of))[:, 0].float()

    def pool(self, hidden: Tensor, inputs: Inputs, rows: Sequence[Tokenized]) -> Tensor:
        return hidden[torch.arange(len(rows), device=hidden.device), inputs.last]

    # Choices have texts of their own: nothing that the rows begin with stands for all of them.

    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        return widths_of_choices(num_virtual_tokens, rows) if _chosen(rows) else super().widths(num_virtual_tokens, rows)

    def num_tokens(self, params: Params, rows: Sequence[Tokenized], targets: Tensor | None = None, *, known: bool = False) -> int:
        if _chosen(rows):
            return sum(len(choice) + count_in_slots(params) for choice in choices_of(rows))
        return super().num_tokens(params, rows, targets, known=known)

    def can_share(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return not _chosen(rows) and super().can_share(num_virtual_tokens, rows)

    def supports_kv_cache(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return not _chosen(rows) and super().supports_kv_cache(num_virtual_tokens, rows)

    def prefill(self, num_virtual_tokens: int, rows: Sequence[Tokenized], max_bytes: int) -> str | None:
        return None if _chosen(rows) else super().prefill(num_virtual_tokens, rows, max_bytes)

    def packs(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        return not _chosen(rows) and super().packs(num_virtual_tokens, rows)

    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        return super().notes(num_virtual_tokens, choices_of(rows))


def choices_of(rows: Sequence[Tokenized]) -> list[Tokenized]:
    """Return the inputs of rows: each row, or each of its choices."""
    return [choice for row in rows for choice in (row.choices or (row,))]


def widths_of_choices(num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
    """Return the tokens that each row takes, its choices padded to one length."""
    choices = [row.choices or (row,) for row in rows]
    return [len(own) * (max(map(len, own)) + num_virtual_tokens) for own in choices]


def _chosen(rows: Sequence[Tokenized]) -> bool:
    return any(row.choices for row in rows)
