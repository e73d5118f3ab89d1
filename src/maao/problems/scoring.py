"""Class scores of several points on the same inputs, with what they share read once; what scores are worth; and batches of an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import PromptMethod
from maao.problems.scorers import ClassScorer, I
from maao.progress import tracked
from maao.protocols import Params


def realized(method: PromptMethod, scorer: ClassScorer[I], params: Params) -> Params:
    """Return what the model reads of params, where the model is; the params themselves stay in the processor's memory."""
    return {name: value.to(scorer.device) for name, value in method.realize(params).items()}


def class_scores(scorer: ClassScorer[I], realized: Sequence[Params], inputs: I, at_a_time: int) -> tuple[list[Tensor], int]:
    """Return for each point ``(len(inputs), num_classes)`` scores on the CPU, and the tokens that were read once for all points.

    Inputs of similar length are scored together, so many at a time.
    """
    shared = [scorer.share(point, inputs) for point in realized]
    lengths = scorer.lengths(inputs)
    order = sorted(range(len(inputs)), key=lambda i: lengths[i])
    found: list[list[Tensor]] = [[] for _ in realized]
    once = 0
    for begin in tracked(range(0, len(order), at_a_time), "reading inputs", -(-len(order) // at_a_time), "batches"):
        chunk = order[begin : begin + at_a_time]
        part = inputs.take(chunk)
        with scorer.reading_once(part, [point for point, common in zip(realized, shared, strict=True) if common is None]) as tokens:
            for own, point, common in zip(found, realized, shared, strict=True):
                params, short = (point, part) if common is None else (common[0], common[1].take(chunk))
                own.append(scorer.class_scores(params, short).float().cpu())
        once += tokens
    back = torch.tensor(order).argsort()
    return [torch.cat(own)[back] for own in found], once


def unreadable(scores: Tensor) -> Tensor:
    """Return for each row of ``(num_examples, num_classes)`` scores whether its softmax is no distribution: the model gave no answer.

    Example:
        >>> unreadable(torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [float("-inf"), 1.0], [float("inf"), 1.0]])).tolist()
        [False, True, False, True]
    """
    return ~scores.softmax(-1).isfinite().all(-1)


def wrong_where(unread: Tensor, scores: Tensor, targets: Tensor) -> Tensor:
    """Return scores in which every row without an answer is a wrong one; the scores themselves where there is no such row."""
    if not bool(unread.any()):
        return scores
    found = scores.clone()
    found[unread] = 0.0
    found[unread, targets[unread]] = -1.0
    return found


def all_finite(params: Params) -> bool:
    """Say whether params hold nothing but finite numbers."""
    return all(bool(value.isfinite().all()) for value in params.values() if value.is_floating_point())


def accuracies(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return accuracy and balanced accuracy (the mean over classes of each class's) of scores ``(num_examples, num_classes)``.

    They are ratios of counts: 0.796, where a mean in single precision would be 0.796000003.
    """
    right = scores.argmax(-1) == targets
    have, hits = targets.bincount().tolist(), targets[right].bincount(minlength=scores.shape[1]).tolist()
    recalls = [hit / count for hit, count in zip(hits, have, strict=False) if count]
    return {"accuracy": int(right.sum()) / len(right), "balanced_accuracy": math.fsum(recalls) / len(recalls)}


def epoch_batch(count: int, size: int, step: int, seed: int) -> Tensor | None:
    """Return which of `count` examples a step takes, its part of an order drawn each epoch; None: all, if there are no more than `size`."""
    if count <= size:
        return None
    epoch, index = divmod(step, count // size)
    return _order(count, epoch, seed)[index * size : (index + 1) * size]


@lru_cache(maxsize=4)
def _order(count: int, epoch: int, seed: int) -> Tensor:
    """Return the order of an epoch, which all of its steps read."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, "epoch", epoch)))
