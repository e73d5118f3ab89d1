"""Shared by scorers of models that read the prompt and a text together: rows of tokens, side by side or behind keys and values."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Self, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.problems.losses import mean_cross_entropy
from maao.problems.towers.text.forward import Inputs, PrefixCache, Side, front, pad
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.packing import cut_by_length
from maao.problems.towers.text.probes import Way, supports_front, way_of
from maao.problems.towers.text.template import Tokenized
from maao.protocols import Params

AT_A_TIME = 64  # inputs that are read together to find a start
PART_COST = 32  # what another part of a batch costs beside its tokens, in tokens: some layers' worth of small operations


class Rows(tuple[Tokenized, ...]):
    """Tokenized examples."""

    num_views = 0
    kept_tokens = 0

    def weighted(self, weights: Sequence[float | None]) -> Self:
        return type(self)(replace(row, weight=weight) for row, weight in zip(self, weights, strict=True))

    def take(self, which: Sequence[int], views: Sequence[int] | None = None) -> Self:
        return type(self)(self[i] for i in which)

    def beside(self, other: Rows) -> Self:
        return type(self)((*self, *other))


class TokenOptions(TypedDict, total=False):
    """How rows of tokens are read, whatever reads them.

    Args:
        side: where short rows are padded; by default on the right.
        class_weights: what each class weighs in the loss; by default all alike.
        balanced: those weights follow from how often each class stands in `train`.
        dropout: leave the frozen model's dropout on in training; what is dropped follows from the step's seed. By default it is off.
    """

    side: Side
    class_weights: Sequence[float] | None
    balanced: bool
    dropout: bool


class TokenScorer(ABC):
    """Base of what reads rows of tokens."""

    scores_with_gradient = True
    num_examples: float = 0.0  # of `train`, of what weighs something against them; 0: nothing does

    def __init__(self, frozen: FrozenModel, **options: Unpack[TokenOptions]) -> None:
        class_weights = options.get("class_weights")
        self.frozen = frozen
        self.side: Side = options.get("side", "right")
        self._class_weights = None if class_weights is None else torch.tensor(class_weights, device=frozen.device)
        self._dropout, self._balanced = options.get("dropout", False), options.get("balanced", False)

    @property
    def device(self) -> torch.device:
        return self.frozen.device

    def made_of(self, train: Rows, targets: Tensor) -> Self:
        """Return the scorer on other examples of `train`: balanced weights, and what is weighed against their number, are others."""
        weights = self._class_weights if self._balanced else None
        if weights is None and not self.num_examples:
            return self
        found = copy.copy(self)
        if self.num_examples:
            found.num_examples = sum(1.0 if row.weight is None else row.weight for row in train)
        if weights is not None:
            labelled = torch.tensor([row.weight is None for row in train], dtype=torch.bool)
            counts = torch.bincount(targets[labelled], minlength=len(weights)).tolist()
            found._class_weights = torch.tensor(balanced_weights(counts), device=self.frozen.device)
        return found

    @property
    def prepared_tokens(self) -> int:
        return 0

    def lengths(self, inputs: Rows) -> list[int]:
        return list(map(len, inputs))

    @contextmanager
    def reading_once(self, inputs: Rows, points: Sequence[Params]) -> Iterator[int]:
        yield 0

    def parts(self, params: Params, inputs: Rows, most: int) -> list[list[int]]:
        """Return a batch in parts of rows of similar length, each of at most `most` tokens with its padding.

        Of all ways to cut the rows, sorted by length, the one that costs least: tokens with their padding, and `PART_COST` for each part.
        Rows that are packed have no padding: they are cut into equal parts.
        """
        count = count_in_slots(params)
        widths = self.widths(count, inputs)
        order = sorted(range(len(widths)), key=lambda i: widths[i])
        if self.packs(count, inputs):
            return _cut_evenly(order, widths, most)
        cuts = cut_by_length([widths[i] for i in order], PART_COST, most)
        return [order[begin:end] for begin, end in cuts]

    def clue_parts(self, params: Params, inputs: Rows, most: int, at_a_time: int) -> Sequence[Sequence[int]]:
        return self.parts(params, inputs, most)

    @contextmanager
    def training(self, seed: int) -> Iterator[None]:
        """Let the frozen model drop out what a seed says, where that is wanted."""
        if not self._dropout:
            yield
            return
        devices = [self.frozen.device] if self.frozen.device.type == "cuda" else []
        self.frozen.model.train()
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                yield
        finally:
            self.frozen.model.eval()

    def share(self, params: Params, inputs: Rows) -> tuple[Params, Rows] | None:
        return None

    @abstractmethod
    def extra(self, seed: int) -> dict[str, Tensor]: ...

    @abstractmethod
    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor: ...

    def loss(self, params: Params, rows: Sequence[Tokenized], targets: Tensor, factor: float = 1.0) -> Tensor:
        loss, penalty = factor * self._cross_entropy(self.class_scores(params, rows), rows, targets), self.penalty(params)
        return loss if penalty is None else loss + penalty.to(loss)

    def penalty(self, params: Params) -> Tensor | None:
        """Return what joins the loss of every batch; None: nothing."""
        return None

    def _cross_entropy(self, scores: Tensor, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        if all(row.weight is None for row in rows):
            return F.cross_entropy(scores, targets, weight=self._class_weights)
        return mean_cross_entropy(scores, targets, self.weights(rows, targets))

    def weights(self, rows: Sequence[Tokenized], targets: Tensor) -> Tensor:
        own = torch.tensor([1.0 if row.weight is None else row.weight for row in rows], device=targets.device)
        return own if self._class_weights is None else own * self._class_weights[targets]

    @abstractmethod
    def num_tokens(self, params: Params, rows: Sequence[Tokenized], targets: Tensor | None = None, *, known: bool = False) -> int: ...

    @abstractmethod
    def widths(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[int]:
        """Return the tokens that each example takes in a batch of all of them."""

    def packs(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> bool:
        """Say whether these rows run one behind the other, without padding."""
        return False

    @abstractmethod
    def notes(self, num_virtual_tokens: int, rows: Sequence[Tokenized]) -> list[str]:
        """Say how rows up to the length of these are read where that is slower than it could be.

        Raises:
            ModelError: the model cannot be read so that a soft prompt works.
        """


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Return what each class weighs, by how many examples it has, so that all weigh alike together; 1 for a class without any.

    Example:
        >>> balanced_weights([3, 1, 0])
        [0.4444444444444444, 1.3333333333333333, 1.0]
    """
    return [sum(counts) / (len(counts) * count) if count else 1.0 for count in counts]


def batches(frozen: FrozenModel, lengths: Sequence[int], side: Side) -> tuple[Way, list[list[int]]]:
    """Return how rows that reach so many tokens are read, and which of them stand side by side."""
    way = way_of(frozen, max(lengths), side)
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault({"padded": 0, "equal": length, "alone": i}[way.batch], []).append(i)
    return way, list(groups.values())


def in_order(found: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Tensor:
    """Return what was found of groups of rows, row by row."""
    if len(groups) == 1:
        return found[0]
    back = torch.tensor([i for own in groups for i in own], device=found[0].device).argsort()
    return torch.cat(list(found))[back]


def batch_notes(frozen: FrozenModel, longest: int, side: Side) -> list[str]:
    """Say how rows of up to so many tokens stand side by side, where it is not as was asked for."""
    way = way_of(frozen, longest, side)
    where = f"{frozen.name} reads a text of {longest} tokens differently beside others"
    if way.batch == "alone":
        return [f"rows run one by one, which is slower: {where}"]
    if way.batch == "equal":
        return [f"only rows of the same length run together, which is slower: {where} that are longer or shorter"]
    return [] if way.side == side else [f"rows are padded on the {way.side}: {where} where padding is on the {side}"]


def stripped(rows: Sequence[Tokenized]) -> Rows:
    """Return rows without what stands before their slots."""
    return Rows(replace(row, before=()) for row in rows)


def prompt_of(params: Params, frozen: FrozenModel) -> Tensor:
    """Return what stands in the slots: the soft prompt, or no row where params are keys and values."""
    if "prompt" in params:
        return params["prompt"]
    return torch.empty(0, frozen.model.get_input_embeddings().embedding_dim, device=frozen.device)


def count_in_slots(params: Params) -> int:
    """Return how many virtual tokens run through the model in the slots; deep prompts stand in front as keys and values."""
    return len(params["prompt"]) if "prompt" in params else 0


def ahead_of(params: Params) -> int:
    """Return how many keys and values stand in front of every row."""
    return int(params["keys"].shape[2]) if "keys" in params else 0


def pad_rows(
    frozen: FrozenModel,
    params: Params,
    rows: Sequence[Tokenized],
    way: Way,
    answers: Sequence[Sequence[int]] | None = None,
    cache: PrefixCache | None = None,
) -> Inputs:
    """Return rows that stand side by side, behind keys and values where there are such."""
    fill = frozen.tokenizer.pad_token_id or 0
    held = cache if cache is not None and "keys" not in params and all(row in cache for row in rows) else None
    # Behind keys and values padding goes to the right: nothing must part a row from what stands in front of it.
    side: Side = "right" if "keys" in params or held is not None else way.side
    inputs = pad(
        rows if held is None else stripped(rows),
        num_virtual_tokens=count_in_slots(params),
        fill=fill,
        side=side,
        answers=answers,
        device=frozen.device,
    )
    if "keys" in params:
        dtype = frozen.model.get_input_embeddings().weight.dtype
        ahead = front(params["keys"].to(frozen.device, dtype), params["values"].to(frozen.device, dtype), len(rows))
        return replace(inputs, prefix=ahead, grouped=way.grouped, apart=way.grouped and supports_front(frozen))
    if held is None:
        return replace(inputs, grouped=way.grouped)
    return replace(inputs, prefix=held.take(rows), grouped=way.grouped, apart=way.grouped and supports_front(frozen))


def _cut_evenly(order: Sequence[int], widths: Sequence[int], most: int) -> list[list[int]]:
    """Return rows, in their order, in as few parts of at most `most` tokens as can be, about equally large."""
    total = sum(widths)
    aim = total / max(1, -(-total // most))
    parts: list[list[int]] = [[]]
    filled = 0
    for i in order:
        if parts[-1] and filled + widths[i] > min(most, aim + widths[i] / 2):
            parts.append([])
            filled = 0
        parts[-1].append(i)
        filled += widths[i]
    return parts
