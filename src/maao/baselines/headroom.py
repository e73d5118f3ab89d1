"""Is there anything to gain? Before a costly comparison: what tuning gains here, and how far starts lead apart.

A mentor names starts. Where no start leads below what the frozen model does untuned, or all starts lead to the same loss, no mentor can
help, however good. Everything is measured on what judges a run, `select` or out of fold: `test` stays
unread.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from maao.build import RunComponents, build
from maao.config import MENTOR, Config
from maao.core.loop import run_leg
from maao.core.seeds import seed_for
from maao.data.splits import majority_accuracy
from maao.errors import ConfigError
from maao.evaluation.statistics import paired_interval
from maao.problems.kinds import LabelWordsOptions
from maao.problems.settings import text_method
from maao.types import Cost, Score, Splits


@dataclass(frozen=True)
class Headroom:
    """What was found. Losses and scores are those on `select`; the tuned ones are each walk's best, so they are somewhat too good.

    Attributes:
        prior: loss of always answering the shares of the classes in `train`; None where there are no classes.
        majority: accuracy of always answering the class most frequent in `train`.
        zero_shot: the frozen model without a soft prompt, where it can be read so.
        untuned: of each start, before its first step.
        tuned: of each start, the lowest loss of its walk.
    """

    prior: float | None
    majority: float | None
    zero_shot: Score | None
    untuned: tuple[Score, ...]
    tuned: tuple[Score, ...]
    steps: int
    cost: Cost

    @property
    def floor(self) -> float:
        """The lowest loss that needs no tuning: of the class shares, of zero-shot, of the untuned starts in the mean."""
        without = [self.prior, self.zero_shot.loss if self.zero_shot else None, statistics.mean(s.loss for s in self.untuned)]
        return min(loss for loss in without if loss is not None)

    @property
    def tuning(self) -> tuple[float, float, float]:
        """How far below the floor tuning comes in the mean over starts, with its 95 % interval (Student t)."""
        return paired_interval([self.floor] * len(self.tuned), [score.loss for score in self.tuned])

    @property
    def spread(self) -> float:
        """Standard deviation of the tuned losses over starts."""
        return statistics.stdev(score.loss for score in self.tuned)

    @property
    def best_start(self) -> float:
        """How far the best start lies below the mean of all: what choosing the best of these would have been worth."""
        losses = [score.loss for score in self.tuned]
        return statistics.mean(losses) - min(losses)

    def told(self) -> list[str]:
        """Return the verdict, in lines."""
        mean, low, high = self.tuning
        starts = len(self.tuned)
        gained = f"{mean:.3f} (95 % interval {low:+.3f} to {high:+.3f}, {starts} starts)"
        if low <= 0:
            told = [f"No headroom is seen: tuning from random starts lowers the loss by {gained} below what needs no tuning."]
        else:
            told = [f"There is something to tune: random starts lead {gained} below what needs no tuning."]
        told.append(
            f"Starts lead apart by {self.spread:.3f} (standard deviation of the loss); the best of {starts} lies {self.best_start:.3f} "
            "below their mean. A mentor that names starts cannot be expected to gain much more than that."
        )
        return told


def headroom(config: Config, *, starts: int = 5, watch: Callable[[int, int], None] | None = None) -> Headroom:
    """Walk from several starts of one problem, as far as the plan goes and without a mentor, and say what there is to gain.

    Args:
        config: a run's; its plan says how far to walk and when `select` is looked at. The data is that of its seed.
        starts: how many; the problem's own random starts.
        watch: told ``(starts done, starts in all)``.

    Raises:
        ConfigError: fewer than two starts, or a config whose starts are all alike (a text, labels).

    Example:
        >>> from maao.config import make_config
        >>> config = make_config({"problem": "function", "stage": {"lr": 0.1}, "plan": {"rounds": 1, "steps": 20}})
        >>> headroom(config, starts=3).steps
        40
    """
    if starts < 2:
        raise ConfigError(f"Headroom is judged over at least two starts; got {starts}.")
    if config.builder.starts_are_alike:
        raise ConfigError('All starts would be one text: set model.initial = "vocabulary" or "normal" to judge the headroom.')
    nobody = MENTOR.chosen({"name": "none"})  # whatever the config's own mentor reads, nothing reads here
    config = config.model_copy(update={"mentor": nobody, "plan": config.plan.with_options(clues=False)})
    parts = build(config)
    untuned, tuned, cost = [], [], Cost()
    began = time.perf_counter()
    for number in range(starts):
        state = parts.stage.init(
            parts.problem, parts.problem.initial(seed_for(config.seed, "headroom", number)), seed=seed_for(config.seed, "stage")
        )
        first = parts.problem.score([state.params], "select")[0]
        cost += first.cost
        best = first
        for leg in parts.plan:
            state, observations = run_leg(parts.problem, parts.stage, state, leg)
            cost = sum((observation.cost for observation in observations), cost)
            if leg.steps:
                here = parts.problem.score([state.params], "select")[0]
                cost += here.cost
                best = here if here.loss < best.loss else best
        untuned.append(first)
        tuned.append(best)
        if watch is not None:
            watch(number + 1, starts)
    splits = parts.splits
    zero_shot = _untrained(parts)
    return Headroom(
        prior=None if splits is None else _prior(splits),
        majority=None if splits is None else majority_accuracy(splits, "select"),
        zero_shot=zero_shot,
        untuned=tuple(untuned),
        tuned=tuple(tuned),
        steps=sum(leg.steps for leg in parts.plan),
        cost=replace(cost + (zero_shot.cost if zero_shot else Cost()), seconds=time.perf_counter() - began),
    )


def _prior(splits: Splits) -> float:
    """Return the loss on `select` of answering the class shares of `train` whatever the text."""
    counts = Counter(example.label for example in splits.train)
    shares = {label: counts[label] / len(splits.train) for label in counts}
    return statistics.mean(-math.log(shares[example.label]) for example in splits.judged)


def _untrained(parts: RunComponents) -> Score | None:
    """Return how label words read on the template alone, with nothing in its slots; None where that cannot be read."""
    from maao.problems.towers.text.loading import FrozenModel

    frozen, model = parts.frozen, parts.config.model
    if not isinstance(frozen, FrozenModel) or not isinstance(model.kind.options, LabelWordsOptions) or not text_method(model).in_slots:
        return None
    import torch

    nothing = {"prompt": torch.empty(0, frozen.model.get_input_embeddings().embedding_dim)}
    score: Score = parts.problem.score([nothing], "select")[0]
    return score
