"""Intervals that say how sure a number is. Every function names its estimator."""

from __future__ import annotations

import math

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
