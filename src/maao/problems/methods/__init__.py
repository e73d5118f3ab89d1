"""Prompt methods: what is trained, and what of it a frozen model reads. One file a method.

A method turns params (named tensors, what an optimizer moves and a run stores) into what a scorer takes: embedding rows in the slots
(``"prompt"``), or keys and values in front of everything. A text restarts each of them, exactly where that can be; what else a method
trains stays. Methods of matchers (a text tower and an input tower) stand among the words of the classes, and say what later layers read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from maao.protocols import Params

if TYPE_CHECKING:
    from torch import Tensor

    from maao.problems.towers.class_prompts import Prompt
    from maao.problems.towers.dual import DualEncoder


class PromptMethod(Protocol):
    """What is trained."""

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the params of a start at these embedding rows ``(num_virtual_tokens, embed_dim)``, all that a text restarts."""
        ...

    def extra(self, seed: int) -> dict[str, Tensor]:
        """Return what else is trained, as it begins: what a text leaves as it is."""
        ...

    def normal(self, seed: int) -> dict[str, Tensor] | None:
        """Return a random start of the method's own; None: start from random rows."""
        ...

    def start_tokens(self, params: Params) -> int:
        """Return the tokens that `start` ran through the model to make these params; 0 where it asks no model."""
        ...

    def realize(self, params: Params) -> dict[str, Tensor]:
        """Return what the model reads; params that are not the method's pass through."""
        ...

    def to_vocabulary_space(self, realized: Params) -> Tensor:
        """Return ``(num_virtual_tokens, width)``, the part of what the model reads (or of its gradient) that is compared with words."""
        ...

    def blend(self, old: Params, new: Params, weight: float) -> dict[str, Tensor]:
        """Return a start that reads as ``(1 - weight) * old + weight * new``, for the names of `new`."""
        ...


@dataclass(frozen=True)
class Bound:
    """What is frozen: the towers, the prompts of the classes with their slots, and the classes' features in hand-written wordings.

    `part_tokens` bounds the memory of a step: beyond so many tokens, classes run in parts and each part runs twice. 0: no bound.
    """

    encoder: DualEncoder
    prompts: tuple[Prompt, ...]
    anchors: Tensor  # (num_classes, embed_dim), normalised
    part_tokens: int = 0
    wordings: Tensor | None = None  # (num_wordings, num_classes, embed_dim), the anchors wording by wording; None: they are of one

    @property
    def texts(self) -> Tensor:
        """The classes' features in each wording ``(num_wordings, num_classes, embed_dim)``, normalised."""
        return self.anchors[None] if self.wordings is None else self.wordings

    @property
    def num_rows(self) -> int:
        """How many rows stand in the slots of a class."""
        return len(self.prompts[0].slots)


@dataclass(frozen=True)
class Matched:
    """What a matcher read of a batch, for a method's loss.

    Args:
        scores: ``(batch, num_classes)``.
        targets: class numbers ``(batch,)``.
        classes: features ``(num_classes, embed_dim)``; None where they differ from input to input.
        inputs: features ``(batch, embed_dim)`` as they were read, and `frozen` as the tower that nothing is put into reads them.
        tuned: the params that a gradient is wanted of.
        scale: of the cosine.
        weights: what each input weighs in the loss ``(batch,)``; None: all alike.
        factor: what the mean over the batch is multiplied by (see `ClassScorer.loss`).
    """

    scores: Tensor
    targets: Tensor
    classes: Tensor | None
    inputs: Tensor
    frozen: Tensor
    tuned: Mapping[str, Tensor]
    scale: float | Tensor
    weights: Tensor | None = None
    factor: float = 1.0

    @property
    def cross_entropy(self) -> Tensor:
        """The mean over the batch, each input by its weight."""
        from maao.problems.losses import mean_cross_entropy  # a config names methods before torch is loaded

        return self.factor * mean_cross_entropy(self.scores, self.targets, self.weights)

    def zero_shot(self, anchors: Tensor) -> Tensor:
        """Return the scores ``(batch, num_classes)`` of classes that nothing is tuned of, on inputs read by the frozen tower."""
        scale = self.scale if isinstance(self.scale, float) else self.scale.detach()  # what is known does not move
        found: Tensor = scale * self.frozen @ anchors.T
        return found


class MatcherMethod(PromptMethod, Protocol):
    """A method of a matcher, bound to the frozen towers and to some classes; bound to others, the same params judge those."""

    name: ClassVar[str]
    tunes_inputs: ClassVar[bool]  # what it trains reaches the input tower, so that no feature can be computed beforehand
    moves_by_input: ClassVar[bool]  # rows differ from input to input
    bound: Bound

    def bind(self, bound: Bound) -> MatcherMethod:
        """Return the method for other classes or other prompts."""
        ...

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        """Return the rows that replace what enters later layers of the text tower at the slots, by layer."""
        ...

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        """Return the rows among an input's tokens, of the first layers of its tower; none where `tunes_inputs` is False."""
        ...

    def moved(self, params: Params, features: Tensor) -> Tensor:
        """Return the rows in the slots for each input ``(batch, num_virtual_tokens, width)``, where they differ."""
        ...

    def loss(self, read: Matched) -> Tensor: ...

    def num_tokens(self, num_inputs: int) -> int:
        """Return how many tokens of class texts one pass over a batch runs through the frozen text tower."""
        ...


def others(params: Params, own: Sequence[str]) -> dict[str, Tensor]:
    """Return the params that do not belong to a method: those whose names do not begin with one of `own`."""
    return {name: value for name, value in params.items() if not name.startswith(tuple(own))}
