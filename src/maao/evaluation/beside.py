"""What a run shows beside its tuned result: what one would use without it, on the same labels and the same test examples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, Self

from maao.evaluation.statistics import Z95, exact_mcnemar
from maao.types import JSON, known

Where = Literal["test", "on select", "out of fold"]

LEVEL = 0.05  # how often chance alone may be called a loss; where the best of several is picked, this over their number


@dataclass(frozen=True)
class Beside:
    """One baseline as it was read on `test`.

    Attributes:
        name: of the baseline; `settings` are those that are not as by default.
        told: what it is, in a few words.
        loss: log-loss; infinite where a right class was given no probability.
        metrics: by name, as a run's own.
        chosen: what was chosen for it within the labels.
        tokens: run through the frozen model for it.
    """

    name: str
    told: str
    loss: float
    metrics: Mapping[str, float]
    num_examples: int
    settings: Mapping[str, bool] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """The name as people read it.

        Example:
            >>> Beside("linear_probe", "", 0.5, {}, 10, {"class_names": True}).title
            'linear probe with class names'
        """
        with_names = " with class names" if self.settings.get("class_names") else ""
        return self.name.replace("_", " ") + with_names


@dataclass(frozen=True)
class Gain:
    """How far the tuned result lies above a baseline on the same test examples, with 95 % intervals.

    Attributes:
        over: the baseline's title.
        accuracy: the tuned accuracy less the baseline's; `low` and `high` are the ends of its interval.
        loss: the tuned log-loss less the baseline's, below zero where tuning is better; None where it is not finite.
        best_of: among how many it is the best on these very examples; 1: it was fixed beforehand. A gain over the best is a gain over
            each; a loss to the best may be chance, which picked it.
        is_lost: whether a loss is shown: the interval at 1 - 0.05 / `best_of` lies below zero, and McNemar's exact test says so too.
    """

    over: str
    num_examples: int
    accuracy: float
    low: float
    high: float
    loss: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    best_of: int = 1
    is_lost: bool = False

    @property
    def told(self) -> str:
        """The verdict on tuning, in a plain sentence or two.

        Example:
            >>> print(Gain("linear probe", 500, 0.032, 0.004, 0.06).told)
            Tuning gained 3.2 points of accuracy over the linear probe (95 % interval +0.4 to +6.0, the same 500 test examples).
            >>> print(Gain("knn", 18, -0.278, -0.464, -0.036, best_of=4).told)  # doctest: +ELLIPSIS
            Tuning lies 27.8 points of accuracy below the knn, the best of 4 baselines as known afterwards (95 % interval -46.4 to ...
            >>> print(Gain("knn", 500, 0.002, -0.02, 0.024, -0.04, -0.06, -0.02).told)  # doctest: +ELLIPSIS
            Tuning is +0.2 points of accuracy beside the knn (95 % interval -2.0 to +2.4, ...): that cannot be told from chance. ...
        """
        return self.told_of("Tuning")

    def told_of(self, subject: str) -> str:
        """Return the verdict on what the compared point is called: "Tuning", or a model that was not tuned."""
        points, low, high = 100 * self.accuracy, 100 * self.low, 100 * self.high
        interval = f"95 % interval {low:+.1f} to {high:+.1f}, the same {self.num_examples} test examples"
        over = self.over if self.best_of == 1 else f"{self.over}, the best of {self.best_of} baselines as known afterwards"
        if self.low > 0:
            told = f"{subject} gained {points:.1f} points of accuracy over the {over} ({interval})."
        elif self.is_lost:
            chosen = "" if self.best_of == 1 else " It stays a loss where it is allowed for that these examples picked the best."
            told = f"{subject} lost {-points:.1f} points of accuracy to the {over} ({interval}).{chosen}"
        elif self.high < 0:
            level = f"at {100 * LEVEL / self.best_of:.3g} %"
            told = f"{subject} lies {-points:.1f} points of accuracy below the {over} ({interval}); that it lost is not shown {level}."
        else:
            told = f"{subject} is {points:+.1f} points of accuracy beside the {over} ({interval}): that cannot be told from chance."
        return f"{told}{self._loss_told}"

    @property
    def _loss_told(self) -> str:
        if self.loss is None or self.loss_low is None or self.loss_high is None:
            return ""
        if self.loss_high < 0:
            return f" Its log-loss is lower by {-self.loss:.3f} ({-self.loss_high:.3f} to {-self.loss_low:.3f})."
        if self.loss_low > 0:
            return f" Its log-loss is higher by {self.loss:.3f} ({self.loss_low:.3f} to {self.loss_high:.3f})."
        return f" In log-loss they cannot be told apart ({self.loss:+.3f}, {self.loss_low:+.3f} to {self.loss_high:+.3f})."


@dataclass(frozen=True)
class Compared:
    """The baselines of a run's end, what was gained over the one that does best on `test`, and why others are not there.

    `over_untuned` is what was gained over the point that the run began with; None: an older run did not keep it. `where` says by which
    examples they are judged: without a `test` by those that chose the tuned point, by which nothing can be said to be gained.
    """

    baselines: tuple[Beside, ...]
    gain: Gain | None = None
    left_out: tuple[str, ...] = ()
    tokens: int = 0  # run for all of this; they are no part of the run's own cost
    over_untuned: Gain | None = None
    where: Where = "test"

    @property
    def best(self) -> Beside | None:
        """The one that does best there, by accuracy, then by loss; None: there is none."""
        return max(self.baselines, key=lambda one: (next(iter(one.metrics.values()), 0.0), -one.loss), default=None)

    def to_json(self) -> JSON:
        """Return all of it as plain data; a loss that is infinite is null."""
        found = asdict(self)
        for one in found["baselines"]:
            one["loss"] = one["loss"] if math.isfinite(one["loss"]) else None
        return found

    @classmethod
    def from_json(cls, held: JSON) -> Self:
        """Return what `to_json` gave."""
        every = [{**known(Beside, one), "loss": math.inf if one["loss"] is None else one["loss"]} for one in held["baselines"]]
        baselines = tuple(Beside(**one) for one in every)
        gain = None if held["gain"] is None else Gain(**{"best_of": len(baselines), **known(Gain, held["gain"])})
        untuned = None if held.get("over_untuned") is None else Gain(**known(Gain, held["over_untuned"]))
        return cls(baselines, gain, tuple(held["left_out"]), held["tokens"], untuned, held.get("where", "test"))


def gain_over(
    over: str,
    ours: Sequence[bool],
    theirs: Sequence[bool],
    our_losses: Sequence[float] = (),
    their_losses: Sequence[float] = (),
    *,
    best_of: int = 1,
) -> Gain:
    """Return what was gained over a baseline on the same examples.

    Args:
        over: the baseline's title.
        ours, theirs: whether each example is read right.
        our_losses, their_losses: of each example; the interval of their mean difference is the normal one.
        best_of: among how many baselines this one was picked by these examples.

    Example:
        >>> found = gain_over("k", [True] * 8 + [False] * 2, [True] * 4 + [False] * 6)
        >>> round(found.accuracy, 3), round(found.low, 3), round(found.high, 3)
        (0.4, 0.021, 0.646)
    """
    wins = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    losses = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    count = len(ours)
    low, high = matched_interval(wins, losses, count)
    level = LEVEL / best_of
    at_level = matched_interval(wins, losses, count, statistics.NormalDist().inv_cdf(1 - level / 2))
    found = Gain(over, count, (wins - losses) / count, low, high, best_of=best_of)
    found = replace(found, is_lost=at_level[1] < 0 and exact_mcnemar(wins, losses) <= level)
    apart = [a - b for a, b in zip(our_losses, their_losses, strict=True)]
    if len(apart) < 2 or not all(map(math.isfinite, apart)):
        return found
    mean = math.fsum(apart) / len(apart)
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in apart) / (len(apart) - 1))
    half = Z95 * spread / math.sqrt(len(apart))
    return replace(found, loss=mean, loss_low=mean - half, loss_high=mean + half)


def matched_interval(wins: int, losses: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return the interval of the difference of two accuracies on the same `count` examples (95 % by default).

    Args:
        wins: examples that only the first reads right; `losses`: that only the second does.

    Example:
        >>> low, high = matched_interval(30, 10, 100)
        >>> round(low, 3), round(high, 3)
        (0.079, 0.313)

    Source: Agresti and Min, Simple Improved Confidence Intervals for Comparing Matched Proportions, 2005: Wald's interval with half an
        example more in each of the four cells.
    """
    more, won, lost = count + 2, wins + 0.5, losses + 0.5
    middle = (won - lost) / more
    half = z * math.sqrt(won + lost - (won - lost) ** 2 / more) / more
    return max(-1.0, middle - half), min(1.0, middle + half)
