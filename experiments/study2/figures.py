"""The figures of the second study, from a row a cell: means of sets, differences with sets as unit, variances, and worth in labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from experiments.few_labels.read_out import with_sets
from maao.evaluation.statistics import paired_interval

SEEN = ("HWU64", "Yahoo", "DBpedia", "TREC", "emoji")
UNSEEN = ("docstrings", "test names")
PRIMARY = (*SEEN, *UNSEEN)
BLOTTED = ("HWU64", "emoji")  # which had a part in choosing something before
REPLICATION = ("AG News", "BBC headlines", "SST-2", "banking77", "CLINC150")

NOBODY, STRONG, PROBE = "no mentor", "strong", "linear probe, names"
JUDGED = ("names once", "wordings", "near words", "random words", "edits", "corpus")
FREE = tuple(f"{name}, no margin" for name in JUDGED)
CONTROLS = (*JUDGED, *FREE, PROBE)
OTHERS = (NOBODY, *CONTROLS)
WEAK = ("1.5 B", "135 M")


@dataclass(frozen=True)
class Difference:
    """What an arm has more than another: the mean over sets with its 95 % interval, its two-sided p-value, and each set.

    The interval and the p-value are not numbers where there are fewer than two sets.
    """

    mean: float
    low: float
    high: float
    p: float
    sets: dict[str, float]

    def above(self, margin: float) -> float:
        """Return the one-sided p-value that the mean lies above minus a margin: non-inferiority."""
        return float(ttest_1samp(list(self.sets.values()), -margin, alternative="greater").pvalue)

    @property
    def spread(self) -> float:
        """The standard deviation between sets."""
        return float(np.std(list(self.sets.values()), ddof=1))


def of(rows: pd.DataFrame, table: str, labels: int) -> pd.DataFrame:
    """Return the cells of one table."""
    return rows[(rows.table == table) & (rows.labels == labels)]


def wide(cells: pd.DataFrame, figure: str = "accuracy") -> pd.DataFrame:
    """Return cells by set, task and seed, an arm a column."""
    return with_sets(cells).pivot_table(index=["set", "task", "seed"], columns="arm", values=figure)


def by_set(cells: pd.DataFrame, figure: str = "accuracy") -> pd.DataFrame:
    """Return the mean of each set, over its seeds and then its tasks, an arm a column."""
    return wide(cells, figure).groupby(["set", "task"]).mean().groupby("set").mean()


def difference(
    cells: pd.DataFrame, ours: str, other: str, sets: Sequence[str] | None = PRIMARY, figure: str = "accuracy"
) -> Difference | None:
    """Return what an arm has more than another on some sets (None: all), of cells that both have, paired by task and seed; None: none."""
    table = wide(cells, figure)
    if not {ours, other} <= set(table.columns):
        return None
    means = table[[ours, other]].dropna().groupby(["set", "task"]).mean().groupby("set").mean()
    means = means if sets is None else means[means.index.isin(sets)]
    if not len(means):
        return None
    each = {str(name): float(value) for name, value in (means[ours] - means[other]).items()}
    if len(means) < 2:
        return Difference(next(iter(each.values())), math.nan, math.nan, math.nan, each)
    mean, low, high = paired_interval(list(means[ours]), list(means[other]))
    return Difference(mean, low, high, float(ttest_1samp(list(each.values()), 0).pvalue), each)


def best(cells: pd.DataFrame, sets: Sequence[str] = PRIMARY, among: Sequence[str] = OTHERS) -> str | None:
    """Return the arm of the highest mean accuracy, of those that have every cell of `no mentor` on these sets: known only afterwards."""
    table = wide(cells)
    if NOBODY not in table.columns:
        return None
    table = table[table.index.get_level_values("set").isin(sets) & table[NOBODY].notna()]
    whole = [arm for arm in among if arm in table.columns and table[arm].notna().all()]
    if not len(table) or not whole:
        return None
    means = table[whole].groupby(["set", "task"]).mean().groupby("set").mean().mean()
    return max(whole, key=lambda arm: float(means[arm]))


def lacking(cells: pd.DataFrame, arms: Sequence[str], sets: Sequence[str] = PRIMARY, seeds: int = 5) -> int:
    """Return how many cells of some arms on some sets are not there."""
    own = with_sets(cells)
    own = own[own.arm.isin(arms) & own["set"].isin(sets)]
    return len(arms) * len(sets) * seeds - len(own[["arm", "task", "seed"]].drop_duplicates())


def variances(cells: pd.DataFrame, replies: Sequence[str]) -> pd.DataFrame:
    """Return, for each set, the variance components of accuracy: between replies, between draws of labels, and what is left.

    Two-way random effects without repeats, by the method of moments (analysis of variance), in squared points; below zero is zero.
    """
    found = {}
    for (name, task), own in wide(cells).groupby(["set", "task"]):
        if not set(replies) <= set(own.columns):
            continue
        grid = own[list(replies)].dropna().to_numpy()
        draws, samples = grid.shape
        if draws < 2:
            continue
        rows, columns, mean = grid.mean(axis=1), grid.mean(axis=0), grid.mean()
        left = float(((grid - rows[:, None] - columns[None] + mean) ** 2).sum() / ((draws - 1) * (samples - 1)))
        between_draws = samples * float(rows.var(ddof=1))
        between_replies = draws * float(columns.var(ddof=1))
        found[name, task] = {
            "replies": max(0.0, (between_replies - left) / draws),
            "draws": max(0.0, (between_draws - left) / samples),
            "left": left,
        }
    return pd.DataFrame.from_dict(found, orient="index").groupby(level=0).mean() if found else pd.DataFrame()


def worth(means: Sequence[tuple[int, float]], reached: float) -> float | None:
    """Return at how many labels a class a curve reaches an accuracy, interpolated over log2(labels + 1); None: nowhere.

    Example:
        >>> worth([(1, 60.0), (3, 70.0)], 70.0), worth([(1, 60.0), (3, 70.0)], 71.0), worth([(1, 60.0), (3, 70.0)], 50.0)
        (3.0, None, 1.0)
    """
    before: tuple[int, float] | None = None
    for labels, accuracy in means:
        if accuracy >= reached:
            if before is None:
                return float(labels)
            share = (reached - before[1]) / (accuracy - before[1])
            start, end = math.log2(before[0] + 1), math.log2(labels + 1)
            return round(float(2 ** (start + share * (end - start)) - 1), 6)
        before = labels, accuracy
    return None


def points(found: Difference, planned: int = 0) -> str:
    """Return a difference in points, with its interval if there is one, and of how many sets it is if these are fewer than planned."""
    few = f", {len(found.sets)} of {planned} sets" if len(found.sets) < planned else ""
    return _told(found, lambda value: f"{value:+.1f}") + few


def losses(found: Difference) -> str:
    """Return a difference of log-loss, with its interval where there is one."""
    return _told(found, lambda value: f"{value:+.3f}")


def _told(found: Difference, form: Callable[[float], str]) -> str:
    return form(found.mean) if math.isnan(found.low) else f"{form(found.mean)} ({form(found.low)} to {form(found.high)})"
