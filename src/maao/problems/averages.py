"""Points that are read as one: by the mean of their class scores, each as often as it was picked.

An average holds its walks by name (see `maao.members`), and where they do not count alike how often each counts, whole numbers that a stage
carries along. A matcher's average is that of its class features: the inputs run through their tower once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.members import COUNTS, averaged, fold_names, walks_of
from maao.protocols import Params


def average(points: Sequence[Params], counts: Sequence[int]) -> Params:
    """Return one point that reads as several, each counted so often. What is an average itself goes into it walk by walk.

    Example:
        >>> average([{"x": torch.zeros(1)}, {"x": torch.ones(1)}], [1, 3])
        {'x': tensor([0.]), 'walk1.x': tensor([1.]), 'walk_counts': tensor([1, 3])}
    """
    each = [(walk, count * own) for point, count in zip(points, counts, strict=True) for walk, own in counted(point)]
    found: dict[str, Tensor] = averaged([walk for walk, _ in each])
    numbers = torch.tensor([count for _, count in each])
    if len(numbers.unique()) > 1:
        found |= {f"{fold}{COUNTS}": numbers.clone() for fold in fold_names(found)}
    return found


def counted(params: Params) -> list[tuple[dict[str, Tensor], int]]:
    """Return the walks that a point averages, and how often each counts; most points are one walk, which counts once."""
    walks = walks_of(params)
    counts = params[COUNTS].tolist() if COUNTS in params else [1] * len(walks)
    return list(zip(walks, counts, strict=True))


def mean_scores(scores: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return the mean of several points' scores of the same inputs, weighed by counts; that of one point is its own, to the bit.

    Example:
        >>> mean_scores([torch.tensor([[1.0, 3.0]]), torch.tensor([[3.0, 5.0]])], [1, 3]).tolist()
        [[2.5, 4.5]]
    """
    if len(scores) == 1:
        return scores[0]
    return torch.stack([count * own for own, count in zip(scores, counts, strict=True)]).sum(0) / sum(counts)


def forward_selection(scores: Sequence[Tensor], targets: Tensor, picks: int) -> tuple[int, ...]:
    """Return how often each point was picked, where each pick adds the one that leaves the mean of class scores with the lowest loss.

    A point can be picked again, so that picks become weights. Ties go to the earlier; scores that are no numbers are not picked.

    Args:
        scores: of each point ``(num_examples, num_classes)``.
        targets: class numbers ``(num_examples,)``.

    Source: Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004 (with replacement, begun at the best).

    Example:
        >>> right, wrong = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> forward_selection([wrong, right], torch.tensor([0]), 3)
        (0, 3)
    """
    counts, total = [0] * len(scores), torch.zeros_like(scores[0])
    for pick in range(1, picks + 1):
        losses = [float(F.cross_entropy((total + own) / pick, targets)) for own in scores]
        best = min(range(len(scores)), key=lambda i: (losses[i] != losses[i], losses[i]))
        counts[best] += 1
        total = total + scores[best]
    return tuple(counts)
