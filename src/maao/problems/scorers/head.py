"""A class read by a linear head on the hidden states of a frozen model; the head is trained with the soft prompt.

An encoder's hidden states are pooled. A causal decoder's may be pooled too, or be read at the answer position, the last token of the
input, which has seen all of it; texts before the slots are then read once for a whole run, as they are for label words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.problems.scorers.head_starts import LinearStart, from_class_texts, logistic_regression
from maao.problems.scorers.label_words import AnswerScorer
from maao.problems.scorers.tokens import (
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
HeadStart = Literal["random", "zeros", "class_texts", "logistic_regression"]

STD = 0.02  # of a random start
AT_A_TIME = 64  # inputs that are read to find a start
WEIGHT, BIAS = "head.weight", "head.bias"


class Head:
    """Base: score the classes with ``{"head.weight": (num_classes, width), "head.bias": (num_classes,)}`` on one vector of an input.

    An example with choices has one score for each, from one row of weights.

    Args:
        num_classes: rows of the head.
        start: where it begins: "random" (standard deviation 0.02), "zeros", at the texts of the classes, or at logistic regression on
            `train`, both on what the model gives at the start of the soft prompt.
        class_rows: the inputs whose texts are those of the classes, for a start there.
        bias: whether the head has one; stock heads of decoders have none.
    """

    pooling: Pooling

    def __init__(
        self,
        frozen: FrozenModel,
        num_classes: int,
        *,
        start: HeadStart = "random",
        class_rows: Sequence[Tokenized] = (),
        bias: bool = True,
    ) -> None:
        self.frozen, self.num_classes = frozen, num_classes
        self.head_start: HeadStart = start
        self.bias = bias
        self._class_rows = class_rows
        self.start_note = ""  # how the last start was found

    def extra(self, seed: int) -> dict[str, Tensor]:
        """Return the head of a random start or one of zeros; `start` then says more where data do."""
        width = hidden_width(self.frozen)
        if self.head_start == "random":
            weight = torch.randn(self.num_classes, width, generator=torch.Generator().manual_seed(seed)) * STD
        else:
            weight = torch.zeros(self.num_classes, width)
        return self._named(weight, torch.zeros(self.num_classes))

    def start(self, realized: Params, train: Sequence[Tokenized], targets: Tensor) -> Mapping[str, Tensor]:
        """Return the head that begins at data, as the model reads them with these params; nothing where data say nothing.

        Raises:
            ConfigError: these data have no such start.
        """
        rows = self._starts_from(train)
        if not rows:
            if self.head_start == "logistic_regression":
                raise ConfigError("model.head_start = 'logistic_regression' needs examples in train.")
            return {}
        with torch.no_grad():
            parts = [rows[begin : begin + AT_A_TIME] for begin in range(0, len(rows), AT_A_TIME)]
            features = torch.cat([self.features(realized, part).float().cpu() for part in parts])
        found = self._found(features, targets)
        self.start_note = found.note
        return self._named(found.weight, found.bias)

    def start_tokens(self, realized: Params, train: Sequence[Tokenized]) -> int:
        """Return the tokens that finding the start runs through the model."""
        return sum(len(row) + count_in_slots(realized) for row in choices_of(self._starts_from(train)))

    def _starts_from(self, train: Sequence[Tokenized]) -> Sequence[Tokenized]:
        return {"class_texts": self._class_rows, "logistic_regression": train}.get(self.head_start, ())

    def _found(self, features: Tensor, targets: Tensor) -> LinearStart:
        if self.head_start == "class_texts":
            return from_class_texts(features)
        return logistic_regression(features, targets, self.num_classes, seed=seed_for(0, "folds"), with_bias=self.bias)

    def _named(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        return {WEIGHT: weight, BIAS: bias} if self.bias else {WEIGHT: weight}

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
        *,
        pooling: Pooling = "mean",
        start: HeadStart = "random",
        class_rows: Sequence[Tokenized] = (),
        bias: bool = True,
        **options: Unpack[TokenOptions],
    ) -> None:
        TokenScorer.__init__(self, frozen, **options)
        Head.__init__(self, frozen, num_classes, start=start, class_rows=class_rows, bias=bias)
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

    def __init__(
        self,
        frozen: FrozenModel,
        num_classes: int,
        *,
        start: HeadStart = "random",
        class_rows: Sequence[Tokenized] = (),
        bias: bool = True,
        **options: Unpack[TokenOptions],
    ) -> None:
        words = [(0,)]  # any of one token: none is said
        AnswerScorer.__init__(self, frozen, words, **options)
        Head.__init__(self, frozen, num_classes, start=start, class_rows=class_rows, bias=bias)

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
