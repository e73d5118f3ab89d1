"""Shared by problems that read classes: batches of an epoch, accuracies, and what is read wrongly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maao.core.seeds import seed_for
from maao.types import Confusion, Example, Misread, Splits


def accuracies(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return accuracy and balanced accuracy (the mean over classes of each class's) of scores ``(num_examples, num_classes)``.

    They are ratios of counts: 0.796, where a mean in single precision would be 0.796000003.
    """
    right = scores.argmax(-1) == targets
    recalls = [_share(right[targets == c]) for c in targets.unique().tolist()]
    return {"accuracy": _share(right), "balanced_accuracy": math.fsum(recalls) / len(recalls)}


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def epoch_batch(count: int, size: int, step: int, seed: int) -> list[int]:
    """Return which of `count` examples a step takes: all if there are no more than `size`, else its part of an order drawn each epoch."""
    if count <= size:
        return list(range(count))
    epoch, index = divmod(step, count // size)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, "epoch", epoch))).tolist()
    return order[index * size : (index + 1) * size]


@dataclass(frozen=True)
class Wrong:
    """The examples of `train` that are read wrongly.

    Args:
        scores: ``(num_train, num_classes)``.
        pairs: the number of each and the class that it was read as.
    """

    splits: Splits
    scores: Tensor
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, splits: Splits, scores: Tensor, targets: Tensor) -> Wrong:
        read = zip(scores.argmax(-1).tolist(), targets.tolist(), strict=True)
        return cls(splits, scores, tuple((i, p) for i, (p, t) in enumerate(read) if p != t))

    def confusions(self) -> tuple[Confusion, ...]:
        """Return which labels are read as which, the most frequent first."""
        counts = Counter((self.splits.train[i].label, self.splits.labels[p]) for i, p in self.pairs)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Confusion(label, predicted, count) for (label, predicted), count in ranked)

    def worst(self, most: int, told: Callable[[Example], str]) -> tuple[Misread, ...]:
        """Return the examples that are misread with the most confidence, each as `told` tells it."""
        confidence = self.scores.softmax(-1)
        worst = sorted(self.pairs, key=lambda pair: (-float(confidence[pair[0], pair[1]]), pair[0]))[:most]
        shown: Sequence[tuple[Example, str]] = [(self.splits.train[i], self.splits.labels[p]) for i, p in worst]
        return tuple(Misread(told(example), example.label, predicted) for example, predicted in shown)
