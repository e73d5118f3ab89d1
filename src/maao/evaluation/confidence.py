"""What confidence is worth: whether it is as high as the share that is right, and how right the surest examples are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maao.evaluation.readings import Bools, Floats, count_of

BINS = 15
SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Bin:
    """The examples whose confidence is above `low` and at most `high` (in the first bin, from 0): their mean, and the share read right."""

    low: float
    high: float
    num_examples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence lies from accuracy.

    Attributes:
        error: the expected calibration error, the mean over bins of ``|accuracy - confidence|``, each weighed by its share of examples.
        bins: those that hold examples.
        num_bins: bins of equal width from 0 to 1, those without examples too.
    """

    error: float
    bins: tuple[Bin, ...]
    num_bins: int = BINS


def calibration(probability: Floats, right: Bools, num_bins: int = BINS) -> Calibration:
    """Return how far the probability of what is read lies from the share that is read right, in bins of equal width.

    Args:
        probability: of the class that is read ``(num_examples,)``.
        right: whether it is the label ``(num_examples,)``.

    Example:
        >>> round(calibration(np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, True, True, False])).error, 3)
        0.1

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, with their 15 bins.
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    which = np.searchsorted(edges[1:-1], probability)
    counts = np.bincount(which, minlength=num_bins)
    sums = np.bincount(which, weights=probability, minlength=num_bins)
    rights = np.bincount(which, weights=right, minlength=num_bins)
    found = [
        Bin(float(edges[i]), float(edges[i + 1]), int(counts[i]), float(sums[i] / counts[i]), float(rights[i] / counts[i]))
        for i in np.flatnonzero(counts).tolist()
    ]
    error = math.fsum(abs(one.accuracy - one.confidence) * one.num_examples for one in found) / max(1, len(probability))
    return Calibration(error, tuple(found), num_bins)


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Where only examples of at least this confidence are decided: the share of them that is, and how many of those are right."""

    confidence: float
    coverage: float
    num_examples: int
    accuracy: float


def coverage_curve(confidence: Floats, right: Bools, shares: Sequence[float] = SHARES) -> tuple[CoveragePoint, ...]:
    """Return how right the surest examples are, for some shares of them. Examples of equal confidence are decided together.

    Example:
        >>> [(p.coverage, p.accuracy) for p in coverage_curve(np.array([0.9, 0.8, 0.4, 0.3]), np.array([1, 1, 0, 1]) > 0, (1.0, 0.5))]
        [(1.0, 0.75), (0.5, 1.0)]

    Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017.
    """
    order = np.sort(confidence)[::-1]
    found: dict[float, CoveragePoint] = {}
    for share in shares:
        bound = order[count_of(share, len(order)) - 1]
        decided = confidence >= bound
        count = int(decided.sum())
        found.setdefault(float(bound), CoveragePoint(float(bound), count / len(order), count, float(right[decided].mean())))
    return tuple(found.values())


def risk_coverage_area(confidence: Floats, right: Bools) -> float:
    """Return the area under the curve of error against coverage: the mean, over all coverages, of the error of the surest. Lower is better.

    Examples of equal confidence count as in an order that nobody chose: each adds the mean error of those that are as sure.

    Example:
        >>> risk_coverage_area(np.array([0.9, 0.8, 0.4, 0.3]), np.array([1, 1, 1, 0]) > 0)
        0.0625

    Source: Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019 (AURC).
    """
    _, which, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(which, weights=~right) / counts  # mean error of each level, the surest first
    errors = np.repeat(wrong, counts)
    return float(np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1)))
