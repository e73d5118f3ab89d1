"""Intervals that say how sure a number is. Every function names its estimator."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Z95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


def wilson_interval(accuracy: float, num_examples: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of an accuracy over `num_examples` independent examples (95 % by default).

    It says how far chance in *these* test examples reaches; how far another seed would land is another question, answered by more seeds.

    Example:
        >>> low, high = wilson_interval(0.8, 500)
        >>> round(low, 3), round(high, 3)
        (0.763, 0.833)

    Source: Wilson, Probable Inference, 1927.
    """
    if num_examples < 1 or not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"An interval needs an accuracy in [0, 1] and at least one example; got {accuracy} and {num_examples}.")
    shrink = 1 + z**2 / num_examples
    middle = (accuracy + z**2 / (2 * num_examples)) / shrink
    half = z / shrink * math.sqrt(accuracy * (1 - accuracy) / num_examples + z**2 / (4 * num_examples**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_interval(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of paired differences, ours minus theirs, and both ends of its Student t interval.

    Args:
        ours, theirs: one figure for each pair (a seed, say), in the same order; any unit, which the result has too.
        confidence: how often such an interval holds the true mean of the differences, if these are about normal.

    Raises:
        ValueError: fewer than two pairs, or lists of different length.

    Example:
        >>> mean, low, high = paired_interval([0.62, 0.65, 0.64], [0.60, 0.61, 0.63])
        >>> round(mean, 4), round(low, 4), round(high, 4)
        (0.0233, -0.0146, 0.0613)

    Source: Student, The Probable Error of a Mean, 1908.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"A paired interval needs at least two pairs; got {len(ours)} and {len(theirs)} figures.")
    from scipy import stats  # extra "stats"

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.mean(differences)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(differences) - 1)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half
