"""The Wilson interval against values worked out elsewhere."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maao.evaluation.statistics import (
    Z95,
    bootstrap_interval,
    detectable_difference,
    effect_size,
    heterogeneity,
    holm,
    paired_interval,
    pairs_needed,
    probability_of_improvement,
    signed_rank,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_has_the_published_ends(right, count, low, high):
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_all_right_is_the_mirror_of_all_wrong():
    low, high = wilson_interval(0.0, 10)
    assert wilson_interval(1.0, 10) == pytest.approx((1 - high, 1 - low))
    assert low == 0.0


def test_one_example_says_next_to_nothing():
    assert wilson_interval(1.0, 1) == pytest.approx((1 / (1 + Z95**2), 1.0))


@given(right=st.integers(0, 500), count=st.integers(1, 500))
def test_interval_holds_the_accuracy_and_lies_within_0_and_1(right, count):
    accuracy = min(right, count) / count
    low, high = wilson_interval(accuracy, count)
    assert 0.0 <= low <= accuracy + 1e-12 and accuracy - 1e-12 <= high <= 1.0


def test_more_examples_narrow_the_interval():
    widths = [high - low for low, high in (wilson_interval(0.7, n) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)


def test_a_wider_z_widens_the_interval():
    assert wilson_interval(0.5, 50, z=2.58)[0] < wilson_interval(0.5, 50)[0]


@pytest.mark.parametrize(("accuracy", "count"), [(0.5, 0), (-0.1, 10), (1.1, 10), (math.nan, 10)])
def test_impossible_numbers_are_refused(accuracy, count):
    with pytest.raises(ValueError, match="at least one example"):
        wilson_interval(accuracy, count)


def test_paired_interval_is_the_textbook_one():
    # Differences 1, 2, 3, 4: mean 2.5, deviation 1.291, t(0.975, 3) = 3.182, half width 3.182 * 1.291 / 2 = 2.054.
    mean, low, high = paired_interval([2, 4, 6, 8], [1, 2, 3, 4])
    assert (mean, round(low, 3), round(high, 3)) == (2.5, 0.446, 4.554)


def test_paired_interval_holds_the_truth_as_often_as_it_says():
    generator = random.Random(0)
    held = 0
    for _ in range(400):
        differences = [generator.gauss(0.3, 1.0) for _ in range(6)]
        _, low, high = paired_interval(differences, [0.0] * 6)
        held += low <= 0.3 <= high
    assert 0.91 < held / 400 < 0.98


@pytest.mark.parametrize(("ours", "theirs"), [([1.0], [1.0]), ([1.0, 2.0], [1.0])])
def test_paired_interval_of_too_few_pairs_is_refused(ours, theirs):
    with pytest.raises(ValueError, match="at least two pairs"):
        paired_interval(ours, theirs)


def test_a_bootstrap_interval_holds_the_mean_about_as_often_as_it_says():
    draw = random.Random(0)
    held = 0
    for trial in range(200):
        differences = [draw.gauss(1.0, 2.0) for _ in range(20)]
        low, high = bootstrap_interval(differences, draws=500, seed=trial)
        held += low <= 1.0 <= high
    assert 0.86 <= held / 200 <= 0.99


def test_a_bootstrap_of_equal_differences_is_a_point_and_one_difference_is_refused():
    assert bootstrap_interval([0.5, 0.5]) == (0.5, 0.5)
    assert bootstrap_interval([1.0, 2.0, 4.0]) == bootstrap_interval([1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="at least two"):
        bootstrap_interval([0.5])


def test_signed_rank_is_exact_for_few_pairs():
    assert signed_rank([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(2 / 2**6)
    assert signed_rank([0.0, 0.0]) == 1.0
    assert signed_rank([1.0, -1.5, 2.0, -2.5]) > 0.5


def test_holm_steps_down_and_never_lowers_a_p_value():
    assert holm([0.01, 0.01, 0.2]) == pytest.approx((0.03, 0.03, 0.2))
    assert holm([0.5, 0.9]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


@given(values=st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_itself_and_bonferroni(values):
    corrected = holm(values)
    assert all(p <= c <= min(1.0, len(values) * p) + 1e-12 for p, c in zip(values, corrected, strict=True))
    assert [c for _, c in sorted(zip(values, corrected, strict=True))] == sorted(corrected)


def test_effect_size_is_hedges_correction_of_cohens_d():
    assert effect_size([1.0, 2.0, 3.0]) == pytest.approx(2.0 * (1 - 3 / 7))
    assert effect_size([0.0, 0.0]) == 0.0 and effect_size([0.5, 0.5]) == math.inf


def test_probability_of_improvement_counts_ties_half():
    assert probability_of_improvement([1.0], [1.0]) == 0.5
    assert probability_of_improvement([2.0, 3.0], [1.0]) == 1.0


def test_the_pairs_needed_are_those_of_the_tables():
    # G*Power, two-sided paired t test, alpha 0.05, power 0.8: d = 0.5 needs 34, d = 0.8 needs 15, d = 1 needs 10.
    assert [pairs_needed(d, 1.0) for d in (0.5, 0.8, 1.0)] == [34, 15, 10]
    assert pairs_needed(1.0, 0.0) == 2
    assert pairs_needed(1.0, 1e-15) == 2  # a spread of rounding
    assert pairs_needed(0.0101, 1.0) == pytest.approx(pairs_needed(0.0099, 1.0), rel=0.06)  # where the normal distribution takes over
    assert pairs_needed(1e-6, 1.0) == pytest.approx(7.849e12, rel=1e-3)
    with pytest.raises(ValueError, match="not zero"):
        pairs_needed(0.0, 1.0)
    with pytest.raises(ValueError, match="not zero"):
        pairs_needed(1e-17, 1.0)  # of differences that cancel but for rounding


def test_what_is_detectable_is_what_needs_so_many_pairs():
    assert detectable_difference(1.0, 34) <= 0.5 < detectable_difference(1.0, 33)  # the tables: 34 pairs for half a deviation
    assert detectable_difference(2.0, 10) == pytest.approx(2 * detectable_difference(1.0, 10))
    assert detectable_difference(0.0, 5) == 0.0
    found = [detectable_difference(1.0, count) for count in (2, 3, 4, 6, 20, 100, 1000)]
    assert found == sorted(found, reverse=True) and found[-1] == pytest.approx((Z95 + 0.8416) / math.sqrt(1000), rel=0.01)
    with pytest.raises(ValueError, match="two pairs or more"):
        detectable_difference(1.0, 1)


def test_heterogeneity_of_the_trials_of_a_vaccine():
    """Log risk ratios of 13 trials of BCG: tau2 = 0.3088, I2 = 92.12 % (Viechtbauer 2010, DerSimonian-Laird)."""
    trials = (
        *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)),
        *((180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600)),
        *((186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
    )
    effects = [math.log(a / (a + b)) - math.log(c / (c + d)) for a, b, c, d in trials]
    errors = [math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)) for a, b, c, d in trials]
    tau, share = heterogeneity(effects, errors)
    assert (round(tau**2, 4), round(100 * share, 2)) == (0.3088, 92.12)


def test_equal_effects_have_no_heterogeneity():
    assert heterogeneity([0.2, 0.2], [0.1, 0.3]) == (0.0, 0.0)
    with pytest.raises(ValueError, match="above zero"):
        heterogeneity([0.1, 0.2], [0.1, 0.0])
