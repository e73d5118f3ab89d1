"""What a point gets wrong, and where its gradient points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.problems.gradients import summed_gradients
from maao.problems.methods import PromptMethod
from maao.problems.scorers import ClassScorer, I
from maao.problems.scoring import realized
from maao.protocols import Params, Vocabulary
from maao.types import Confusion, Example, Misclassified, Splits, Token


@dataclass(frozen=True)
class Errors:
    """The examples of `train` that are read wrongly.

    Args:
        scores: ``(num_train, num_classes)``.
        pairs: the number of each and the class that it was read as.
    """

    splits: Splits
    scores: Tensor
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, splits: Splits, scores: Tensor, targets: Tensor) -> Errors:
        read = zip(scores.argmax(-1).tolist(), targets.tolist(), strict=True)
        return cls(splits, scores, tuple((i, p) for i, (p, t) in enumerate(read) if p != t))

    def confusions(self) -> tuple[Confusion, ...]:
        """Return which labels are read as which, the most frequent first."""
        counts = Counter((self.splits.train[i].label, self.splits.labels[p]) for i, p in self.pairs)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Confusion(label, predicted, count) for (label, predicted), count in ranked)

    def most_confident(self, most: int, readable: Callable[[Example], str]) -> tuple[Misclassified, ...]:
        """Return the examples that are misread with the most confidence, each as `readable` tells it."""
        confidence = self.scores.softmax(-1)
        worst = sorted(self.pairs, key=lambda pair: (-float(confidence[pair[0], pair[1]]), pair[0]))[:most]
        shown: Sequence[tuple[Example, str]] = [(self.splits.train[i], self.splits.labels[p]) for i, p in worst]
        return tuple(Misclassified(readable(example), example.label, predicted) for example, predicted in shown)


def gradient(
    method: PromptMethod, scorer: ClassScorer[I], params: Params, inputs: I, targets: Tensor, most: int, at_a_time: int
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the mean loss over inputs with respect to what is compared with words, and the class scores.

    Args:
        most: tokens that run at a time.
        at_a_time: inputs that are scored at a time.
    """
    with torch.no_grad():
        point = realized(method, scorer, params)
    leaves = {name: point[name].detach().clone().requires_grad_() for name in point if name in ("prompt", "keys", "values")}
    scores: list[Tensor] = []

    def part_loss(read: Params, part: I, which: list[int]) -> Tensor:
        own = scorer.class_scores(read, part)
        scores.append(own.detach().cpu())
        return F.cross_entropy(own, targets[which].to(own.device), reduction="sum") / len(inputs)

    parts = scorer.clue_parts(point, inputs, most, at_a_time)
    found = summed_gradients(scorer, {**point, **leaves}, list(leaves.values()), inputs, parts, part_loss)
    total = {name: torch.zeros_like(value) if own is None else own for (name, value), own in zip(leaves.items(), found, strict=True)}
    back = torch.tensor([i for part in parts for i in part]).argsort()
    return method.to_vocabulary_space(total), torch.cat(scores)[back]


def pointing(words: Vocabulary, directions: Tensor | None, count: int) -> tuple[tuple[Token, ...], ...]:
    """Return the words that directions point to; none where nothing moves, or one is no finite number."""
    if directions is None or not bool(directions.any()) or not bool(directions.isfinite().all()):
        return ()
    return words.nearest(directions, count)
