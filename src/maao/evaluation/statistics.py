"""Intervals that say how sure a number is. Every function names its estimator."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
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


def difference_interval(first: float, second: float, num_examples: int, z: float = Z95) -> tuple[float, float]:
    """Return the interval of the difference of two accuracies, each over `num_examples` examples of its own (95 % by default).

    On the same examples it is too wide where the two err alike; it needs no more than both accuracies.

    Example:
        >>> low, high = difference_interval(0.7, 0.65, 20)
        >>> round(low, 3), round(high, 3)
        (-0.226, 0.317)

    Source: Newcombe, Interval Estimation for the Difference between Independent Proportions, 1998, method 10: from both Wilson intervals.
    """
    (low, high), (other_low, other_high) = wilson_interval(first, num_examples, z), wilson_interval(second, num_examples, z)
    apart = first - second
    return apart - math.hypot(first - low, other_high - second), apart + math.hypot(high - first, second - other_low)


def exact_mcnemar(wins: int, losses: int) -> float:
    """Return the p-value, of both sides, of McNemar's exact test: whether of examples that only one reads right, each has half.

    Args:
        wins: examples that only the first reads right; `losses`: that only the second does.

    Example:
        >>> exact_mcnemar(0, 5), exact_mcnemar(3, 3)
        (0.0625, 1.0)

    Source: McNemar, Note on the Sampling Error of the Difference between Correlated Proportions or Percentages, 1947, with the binomial
        distribution in place of its normal limit. As scipy.stats.binomtest gives it, without scipy, which a plain install lacks.
    """
    count, term, tail = wins + losses, 1, 0
    for k in range(min(wins, losses) + 1):
        tail += term
        term = term * (count - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << count))


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


def bootstrap_interval(
    differences: Sequence[float], confidence: float = 0.95, *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated bootstrap interval of the mean of paired differences.

    Raises:
        ValueError: fewer than two differences.

    Example:
        >>> low, high = bootstrap_interval([0.02, 0.04, 0.01, 0.03, 0.05])
        >>> 0.015 < low < 0.03 < high < 0.045
        True

    Source: Efron, Better Bootstrap Confidence Intervals, 1987; scipy.stats.bootstrap.
    """
    if len(differences) < 2:
        raise ValueError(f"A bootstrap needs at least two differences; got {len(differences)}.")
    if len(set(differences)) == 1:
        return differences[0], differences[0]  # nothing to resample
    import numpy as np
    from scipy import stats

    found = stats.bootstrap(
        (np.asarray(differences),), np.mean, confidence_level=confidence, n_resamples=draws, rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def signed_rank(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test that paired differences lie about zero; exact for few pairs.

    With fewer than six pairs it cannot fall below 0.05, whatever the differences.

    Example:
        >>> signed_rank([0.1, 0.2, 0.3, 0.4, 0.5])
        0.0625

    Source: Wilcoxon, Individual Comparisons by Ranking Methods, 1945.
    """
    if not any(differences):
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(list(differences)).pvalue)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values corrected for being many: below 0.05, so that the chance of one false finding among all stays below 5 %.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return tuple(corrected)


def effect_size(differences: Sequence[float]) -> float:
    """Return the mean of paired differences over their standard deviation (Cohen's d of differences), corrected for few pairs.

    Infinite where all differences are the same and not zero.

    Example:
        >>> round(effect_size([0.02, 0.04, 0.01, 0.03, 0.05]), 3)
        1.518

    Source: Cohen, Statistical Power Analysis, 1988; the correction is Hedges', 1981.
    """
    if len(differences) < 2:
        raise ValueError(f"An effect size needs at least two differences; got {len(differences)}.")
    mean, spread = statistics.mean(differences), statistics.stdev(differences)
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread * (1 - 3 / (4 * (len(differences) - 1) - 1))


def probability_of_improvement(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return how often a figure of ours is above one of theirs, over all pairs; ties count half.

    Example:
        >>> probability_of_improvement([1, 2, 3], [0, 2])
        0.75

    Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021.
    """
    if not ours or not theirs:
        raise ValueError("A probability of improvement needs figures on both sides.")
    held = sorted(theirs)
    wins = sum(0.5 * (bisect_left(held, a) + bisect_right(held, a)) for a in ours)
    return wins / (len(ours) * len(theirs))


def pairs_needed(difference: float, spread: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many pairs (seeds) show a mean difference with that power in a two-sided paired t test.

    Args:
        difference: the true mean difference that is to be seen.
        spread: standard deviation of the paired differences, in the same unit.

    Example:
        >>> pairs_needed(1.0, 3.0)  # one point, where seeds differ by three
        73

    Source: Cohen, Statistical Power Analysis, 1988, with the noncentral t distribution.
    """
    if spread < 0 or abs(difference) <= 1e-9 * spread:
        raise ValueError(f"Give a difference that is not zero beside a spread of at least zero; got {difference} and {spread}.")
    size = math.inf if spread == 0 else abs(difference) / spread
    if size >= 20:  # two pairs show it with a power of 0.97, and far beyond that the noncentral t distribution is not a number
        return 2
    if size < 0.01:  # so many that the t distribution is the normal one
        normal = statistics.NormalDist()
        return math.ceil(((normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)) / size) ** 2)
    count = 2
    while _power(size, count, confidence) < power:
        count += 1 if count < 1000 else count // 100
    return count


def detectable_difference(spread: float, pairs: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest true mean difference that so many pairs (seeds, or tasks) show with that power in a two-sided paired t test.

    Args:
        spread: standard deviation of the paired differences; the result is in its unit.

    Raises:
        ValueError: fewer than two pairs, or a spread below zero.

    Example:
        >>> round(detectable_difference(3.0, 73), 2)  # the other way round than `pairs_needed`
        1.0

    Source: Cohen, Statistical Power Analysis, 1988, with the noncentral t distribution.
    """
    if spread < 0 or pairs < 2:
        raise ValueError(f"Give a spread of at least zero and two pairs or more; got {spread} and {pairs}.")
    from scipy import optimize

    high = 1 / math.sqrt(pairs)
    while _power(high, pairs, confidence) < power:  # never far above it, where the noncentral t distribution is not a number
        high *= 1.5
    return spread * float(optimize.brentq(lambda size: _power(size, pairs, confidence) - power, 0.0, high))


def _power(size: float, count: int, confidence: float) -> float:
    """Return the power of a two-sided paired t test for a mean of `size` standard deviations of the differences."""
    from scipy import stats

    bound, centre = float(stats.t.ppf(0.5 + confidence / 2, count - 1)), size * math.sqrt(count)
    wrong_side = float(stats.nct.cdf(-bound, count - 1, centre)) if centre < 6 else 0.0  # below 1e-9 beyond, and there scipy has no number
    return float(stats.nct.sf(bound, count - 1, centre)) + wrong_side


def heterogeneity(effects: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """Return how far true effects lie apart: their between-task standard deviation tau, and I2, its share in what is seen (0 to 1).

    Args:
        effects: one estimate a task (a study, say), in any unit, which tau has too.
        errors: the standard error of each, above zero.

    Raises:
        ValueError: fewer than two tasks, lists of different length, or an error that is not above zero.

    Example:
        >>> tau, share = heterogeneity([0.1, 0.3, 0.5], [0.05, 0.05, 0.05])
        >>> round(tau, 3), round(share, 3)
        (0.194, 0.938)

    Source: DerSimonian and Laird, Meta-analysis in Clinical Trials, 1986; Higgins and Thompson, Quantifying Heterogeneity, 2002.
    """
    if len(effects) != len(errors) or len(effects) < 2 or min(errors) <= 0:
        raise ValueError(f"Give two effects or more, each with a standard error above zero; got {list(effects)} and {list(errors)}.")
    weights = [1 / error**2 for error in errors]
    whole = sum(weights)
    mean = sum(w * effect for w, effect in zip(weights, effects, strict=True)) / whole
    seen = sum(w * (effect - mean) ** 2 for w, effect in zip(weights, effects, strict=True))  # Cochran's Q
    beyond = max(0.0, seen - (len(effects) - 1))
    return math.sqrt(beyond / (whole - sum(w**2 for w in weights) / whole)), beyond / seen if seen else 0.0
