"""Tasks for baselines on features of two dimensions that are made up: an example's text holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maao.baselines.task import Task
from maao.config import Config, make_config
from maao.data.dataset import Dataset
from maao.problems.frozen import FrozenReader
from maao.types import Example, Splits


class MadeUp:
    """A frozen model whose feature of a text is the vector at the angle (in degrees) that stands in it."""

    is_unit = True
    scale = 20.0

    def __init__(self, class_angles: Sequence[float] = (0, 90)) -> None:
        self.class_angles = class_angles
        self.read = 0

    @property
    def tokens(self) -> int:
        return self.read

    def features(self, examples: Sequence[Example]) -> Tensor:
        self.read += len(examples)
        return at([float(example.fields["text"].split()[0]) for example in examples])

    def class_features(self) -> Tensor:
        return at(self.class_angles)

    def zero_shot(self, examples: Sequence[Example]) -> Tensor:
        return self.scale * self.features(examples) @ self.class_features().T

    def num_tokens(self, examples: Sequence[Example]) -> int:
        return len(examples)


def at(angles: Sequence[float]) -> Tensor:
    return torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in angles])


def part(**angles: Sequence[float]) -> tuple[Example, ...]:
    """Return examples of each class at these angles."""
    return tuple(Example({"text": f"{angle} of {label}"}, label) for label, own in angles.items() for angle in own)


class MadeUpTask(Task):
    """A task that needs no model on the disk."""

    def __init__(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        frozen: FrozenReader,
        select: Sequence[Example] = (),
        labels: Sequence[str] = (),
    ) -> None:
        labels = tuple(labels) or tuple(sorted({example.label for example in train}))
        super().__init__(config(), Dataset(Splits(tuple(train), tuple(select), tuple(test), labels), labels))
        self.made = frozen

    @property
    def frozen(self) -> FrozenReader:
        return self.made

    @property
    def tokens(self) -> int:
        return self.made.tokens


def config(**changes: Any) -> Config:
    return make_config({"mentor": {"name": "none"}, **changes})
