"""How a class is read: by label words (*verbalizers*), a head, a matcher of inputs and class texts, or a probe on kept features.

A scorer gives class scores ``(batch, num_classes)`` and a loss; whatever it trains beside the prompt it names in `extra`. What it reads is
params as a model takes them (`PromptMethod.realize`) and a batch of inputs, which know how to take some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from maao.class_lines import Line
from maao.protocols import Params
from maao.types import Example


class Inputs(Protocol):
    """Some examples, as a scorer reads them."""

    @property
    def num_views(self) -> int:
        """How many random views of each there are to train on; 0: each is read as it is."""
        ...

    @property
    def kept_tokens(self) -> int:
        """What reading them once ran through the model; 0: they are read at every step, and what that takes is counted there."""
        ...

    def __len__(self) -> int: ...

    def weighted(self, weights: Sequence[float | None]) -> Self:
        """Return the same, each weighing so much in the training loss; None: it is a labelled example, which weighs 1."""
        ...

    def take(self, which: Sequence[int], views: Sequence[int] | None = None) -> Self:
        """Return some of them, by their places here, in one view each (None: as they are)."""
        ...

    def beside(self, other: Self) -> Self:
        """Return these and others behind them."""
        ...


I = TypeVar("I", bound=Inputs)  # noqa: E741
Given = TypeVar("Given", bound=Inputs, contravariant=True)
I_co = TypeVar("I_co", bound=Inputs, covariant=True)


class InputReader(Protocol[I_co]):
    """Turns examples into inputs."""

    @property
    def prepared_tokens(self) -> int:
        """The tokens that reading ran through the model so far."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that an example must have."""
        ...

    def split(self, examples: Sequence[Example], *, train: bool) -> I_co:
        """Return a split of labelled examples."""
        ...

    def given(self, examples: Sequence[Example]) -> I_co:
        """Return examples that someone asks about. Raises `ConfigError` for those that lack a field."""
        ...

    def cuts(self, examples: Sequence[Example]) -> tuple[int, ...]:
        """Return how many tokens of each example do not fit the model's context."""
        ...

    def readable(self, example: Example) -> str:
        """Return what stands for an example in words."""
        ...


class ClassScorer(Protocol[I]):
    """Turns what a model reads and a batch of inputs into class scores.

    Params are realized ones; what is not of the method, such as a head, passes through a method as it is.
    """

    scores_with_gradient: bool  # the pass that gives clues their gradient gives their scores too; else they are a pass of their own

    @property
    def device(self) -> torch.device: ...

    def extra(self, seed: int) -> dict[str, Tensor]:
        """Return what is trained beside the prompt, as it begins."""
        ...

    def class_scores(self, params: Params, inputs: I) -> Tensor:
        """Return ``(batch, num_classes)`` scores in fp32 whose softmax is the distribution over the classes."""
        ...

    def loss(self, params: Params, inputs: I, targets: Tensor, factor: float = 1.0) -> Tensor:
        """Return the mean training loss of a batch; `targets` are class numbers ``(batch,)``.

        `factor`: what the mean over the examples is multiplied by, and nothing that joins the loss beside it: how much the examples of
        this batch weigh, against what as many of `train` weigh on the average. So a batch of rows that weigh little counts little.
        """
        ...

    def weights(self, inputs: I, targets: Tensor) -> Tensor:
        """Return ``(batch,)``, what each example weighs in the mean of `loss`."""
        ...

    def num_tokens(self, params: Params, inputs: I, targets: Tensor | None = None, *, known: bool = False) -> int:
        """Return the real tokens that `class_scores`, or with `targets` `loss`, runs through the frozen model, padding not counted.

        `known`: what stands before the slots was read beforehand, for several points.
        """
        ...

    # -- what is computed once, and what runs together

    def share(self, params: Params, inputs: I) -> tuple[Params, I] | None:
        """Return params with what is the same for all inputs, computed once, and the inputs without it; None: nothing is."""
        ...

    def reading_once(self, inputs: I, points: Sequence[Params]) -> AbstractContextManager[int]:
        """Keep what these points read of the inputs alike while they are scored; give the tokens that this took."""
        ...

    def lengths(self, inputs: I) -> list[int]:
        """Return how long each input is: those of similar length are scored together."""
        ...

    def parts(self, params: Params, inputs: I, most: int) -> list[list[int]]:
        """Return a batch in parts that a training step runs one after the other, each of at most `most` tokens."""
        ...

    def clue_parts(self, params: Params, inputs: I, most: int, at_a_time: int) -> Sequence[Sequence[int]]:
        """Return all inputs of a split in parts for the gradient of clues; `at_a_time` are scored together."""
        ...

    def training(self, seed: int) -> AbstractContextManager[None]:
        """What holds during a training step, such as dropout that a seed says."""
        ...

    @property
    def prepared_tokens(self) -> int:
        """The tokens that were run through the model before the first step."""
        ...


@dataclass(frozen=True)
class DataStart:
    """What begins at data, in place of what `ClassScorer.extra` gives of it, and what is to be said of how it was found."""

    params: Mapping[str, Tensor]
    note: str = ""


@runtime_checkable
class StartsFromData(Protocol[Given]):
    """Capability of a scorer: what it trains beside the prompt may begin at the examples of `train`."""

    def start(self, realized: Params, train: Given, targets: Tensor, seed: int) -> DataStart:
        """Return what begins at data, read with these realized params."""
        ...

    def start_tokens(self, realized: Params, train: Given) -> int:
        """Return the tokens that this runs through the model."""
        ...


@runtime_checkable
class MadeOfTrain(Protocol[Given]):
    """Capability of a scorer: something of it follows from the examples of `train`, so that it is another one for others.

    A scorer that looks at `train` when it is made and is not one of these would let an example that is left out train all the same.
    """

    def made_of(self, train: Given, targets: Tensor) -> Self:
        """Return the same scorer, made of these examples and their classes ``(num_examples,)``."""
        ...


@runtime_checkable
class ReadsClassLines(Protocol):
    """Capability of a scorer: it reads some class lines as texts of the classes, beside their names. All others are rows of `train`."""

    def reads(self, line: Line) -> bool:
        """Say whether a line is a text of its class here, and no row."""
        ...

    def with_lines(self, lines: Sequence[Line], labels: Sequence[str]) -> Self:
        """Return the same scorer, which reads these lines too; `labels` are the classes in their order."""
        ...

    def line_scores(self, params: Params, lines: Sequence[Line]) -> Tensor:
        """Return ``(num_lines, num_classes)`` scores of lines that it reads, as if they were inputs."""
        ...

    def doubting(self, params: Params) -> Params:
        """Return the point by which lines are believed or not, where these are the params that a run begins at."""
        ...
