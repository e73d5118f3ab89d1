"""What a point reads of labelled examples, from its class scores: a few numbers an example, so that many rows of many classes fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from maao.types import Example, Mistake

Floats: TypeAlias = npt.NDArray[np.floating]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

BLOCK = 2**22  # numbers of a part of the scores that is worked on at a time
NONE = -1  # no class


@dataclass(frozen=True, eq=False)
class Readings:
    """One entry an example, in their order.

    Attributes:
        targets: the class of its label ``(num_examples,)``.
        predicted: the class with the highest score, the first of equals.
        probability: how probable that one is.
        label_probability: how probable the label's own class is.
        likely: the class that confident learning takes its label for (see `likely_classes`); -1: none.
        likely_probability: how probable that one is.
    """

    targets: Ints
    predicted: Ints
    probability: Floats
    label_probability: Floats
    likely: Ints
    likely_probability: Floats

    @property
    def right(self) -> Bools:
        found: Bools = self.predicted == self.targets
        return found


def blocks(class_scores: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield probabilities ``(some, num_classes)`` in double precision, a part of the rows at a time, with which rows they are.

    Args:
        class_scores: ``(num_examples, num_classes)``, whose softmax is the distribution over the classes.
    """
    for part in parts_of(class_scores):
        yield part, softmax(class_scores[part])


def parts_of(class_scores: Floats) -> Iterator[slice]:
    """Yield which rows are worked on together."""
    rows = max(1, BLOCK // max(1, class_scores.shape[1]))
    for begin in range(0, len(class_scores), rows):
        yield slice(begin, begin + rows)


def softmax(class_scores: Floats) -> Floats:
    """Return the softmax of each row, in double precision.

    Example:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    scores = class_scores.astype(np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def readings(class_scores: Floats, targets: Ints) -> Readings:
    """Return what class scores ``(num_examples, num_classes)`` say of examples with these classes ``(num_examples,)``.

    Example:
        >>> found = readings(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
        >>> found.predicted.tolist(), found.label_probability.round(3).tolist()
        ([0, 0], [0.9, 0.4])
    """
    count, num_classes = class_scores.shape
    predicted = class_scores.argmax(axis=1).astype(np.int64) if count else np.zeros(0, np.int64)
    probability, own = np.zeros(count), np.zeros(count)
    for part, probable in blocks(class_scores):
        which = np.arange(len(probable))
        probability[part], own[part] = probable[which, predicted[part]], probable[which, targets[part]]
    likely, likely_probability = likely_classes(class_scores, targets, own, num_classes)
    return Readings(targets, predicted, probability, own, likely, likely_probability)


def likely_classes(class_scores: Floats, targets: Ints, label_probability: Floats, num_classes: int) -> tuple[Ints, Floats]:
    """Return the class that each label is taken for, -1 where there is none, and how probable it is.

    A class's own mean confidence is the mean probability that it has over the examples with its label. A label is taken for the most
    probable of the classes that are at least as probable as that; classes without a label are none of them.

    Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021, equation 1.
    """
    counts = np.bincount(targets, minlength=num_classes)
    sums = np.bincount(targets, weights=label_probability, minlength=num_classes)
    means = np.divide(sums, counts, out=np.full(num_classes, np.inf), where=counts > 0)
    likely, found = np.full(len(targets), NONE, np.int64), np.zeros(len(targets))
    for part, probable in blocks(class_scores):
        held = np.where(probable >= means, probable, -1.0)
        best = held.argmax(axis=1)
        top = held[np.arange(len(best)), best]
        likely[part] = np.where(top >= 0, best, NONE)
        found[part] = np.maximum(top, 0.0)
    return likely, found


def mistakes_in(read: Readings, examples: Sequence[Example], labels: Sequence[str]) -> tuple[Mistake, ...]:
    """Return the examples that are read wrongly, those first that are read so with the most confidence.

    Example:
        >>> one, other = Example({"text": "a"}, "x"), Example({"text": "b"}, "x")
        >>> read = readings(np.log([[0.4, 0.6], [0.1, 0.9]]), np.array([0, 0]))
        >>> [mistake.example.fields["text"] for mistake in mistakes_in(read, [one, other], ["x", "y"])]
        ['b', 'a']
    """
    found = [
        Mistake(examples[i], labels[read.predicted[i]], float(read.probability[i]), float(read.label_probability[i]))
        for i in np.flatnonzero(~read.right).tolist()
    ]
    return tuple(sorted(found, key=lambda one: (-one.probability, tuple(one.example.fields.values()))))


def suspects_in(read: Readings, examples: Sequence[Example], labels: Sequence[str]) -> tuple[Mistake, ...]:
    """Return the examples whose label looks wrong: it is taken for another class. Those first whose label is least probable beside it.

    It says where to look, not what is true: a model that has learnt the examples themselves agrees with their wrong labels, so look at
    examples that it was not tuned on.

    Source: Northcutt, Jiang and Chuang, 2021 (`likely_classes`); ordered by their normalized margin.
    """
    which = np.flatnonzero((read.likely != NONE) & (read.likely != read.targets))
    order = which[np.argsort(read.label_probability[which] - read.likely_probability[which], kind="stable")]
    return tuple(
        Mistake(examples[i], labels[read.likely[i]], float(read.likely_probability[i]), float(read.label_probability[i]))
        for i in order.tolist()
    )


def count_of(share: float, count: int) -> int:
    """Return how many of `count` are at least this share of them, one or more.

    Example:
        >>> count_of(0.55, 100), count_of(0.5, 3)  # as floats, 0.55 * 100 is a little more than 55
        (55, 2)
    """
    return max(1, math.ceil(round(share * count, 9)))
