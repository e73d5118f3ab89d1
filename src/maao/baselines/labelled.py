"""Base of baselines that learn from labelled examples and tell the classes of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from maao.baselines.outcome import Figures, Outcome, figures, spent
from maao.baselines.task import Floats, Integers, Part, Task, load_task
from maao.config import Config
from maao.errors import ConfigError
from maao.options import Section
from maao.types import Cost, Score

Answer = Callable[[Part], Floats]  # examples to log-probabilities ``(len, num_classes)``


@dataclass(frozen=True)
class Fitted:
    """A baseline that has read its labelled examples.

    Attributes:
        answer: tells classes.
        chosen: what was chosen for it by cross-validation, or was fixed for want of labels, by name.
        cost: what learning cost, beside the reading of features.
        memory_mib: the most memory that the process held meanwhile; None: it is not measured.
    """

    answer: Answer
    chosen: Mapping[str, float] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    memory_mib: float | None = None


@dataclass(frozen=True)
class Reading:
    """How a baseline did on some examples."""

    score: Score
    log_probabilities: Floats
    chosen: Mapping[str, float]
    memory_mib: float | None = None


class LabelledBaseline(Section):
    """Base: a way to tell classes that learns from all labels there are, and reads `test` once.

    `takes_long`: it is fitted by an optimizer.
    `learns` says whether it would learn something of an example that is held out, `needs_labels` whether it looks at labels at all;
    `told` is what it is, in a few words; `told_with_names` what it is with its `class_names`, where it has such an option.
    """

    takes_long: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    told: ClassVar[str]
    told_with_names: ClassVar[str] = ""

    def price(self, known: Part, read: Part | None = None) -> int:
        """Return the tokens that learning from some examples and reading others will run through the frozen model, not its own copy.

        Args:
            read: the others; None: each of the first is read by what learnt from the rest of them.
        """
        return sum(part.num_tokens() for part in (known, read) if part is not None and not part.has_features)

    def fit(self, task: Task, known: Part) -> Fitted:
        """Return the baseline with these examples known to it.

        Raises:
            ConfigError: it cannot be made of them, or needs a package that is not there.
        """
        raise NotImplementedError

    def on_test(self, task: Task) -> Reading:
        """Learn from all labelled examples, and read `test`. Raises `ConfigError` where there is no `test`."""
        if not len(task.test):
            raise ConfigError("There is no `test` to read a baseline on: give one, or see what `maao baselines` shows without it.")
        return self.reads(task, task.labelled, task.test)

    def reads(self, task: Task, known: Part, part: Part) -> Reading:
        """Learn from some examples, and read others. Raises `ConfigError` where it learns from labels, and there is none."""
        if self.needs_labels and not len(known):
            raise ConfigError("it learns from labels, and there is none")
        began, before = time.perf_counter(), task.tokens
        fitted = self.fit(task, known)
        return self._reading(task, part, fitted.answer(part), fitted, began, before)

    def out_of_fold(self, task: Task) -> Reading:
        """Read the labelled examples, each by the baseline that learnt from other ones; `test` is not touched.

        A class of a single example is not held out where the baseline needs it.

        Raises:
            ConfigError: there is no label, or no example can be held out.
        """
        began, before, known = time.perf_counter(), task.tokens, task.labelled
        if not len(known):
            raise ConfigError("there is no label to be read by: look at `test` (--test)")
        if not self.learns:
            fitted = self.fit(task, known)
            return self._reading(task, known, fitted.answer(known), fitted, began, before)
        found = np.full((len(known), task.num_classes), np.nan)
        cost, memory = Cost(), [0.0]
        for left, out in task.folds(known.targets):
            fitted = self.fit(task, known.take(left))
            found[out] = fitted.answer(known.take(out))
            cost += fitted.cost
            memory.append(fitted.memory_mib or 0.0)
        read = np.flatnonzero(~np.isnan(found[:, 0]))
        if not len(read):
            raise ConfigError("No label can be held out: each class has a single one. Look at `test` (--test), or give more labels.")
        whole = Fitted(lambda part: found, {}, cost, max(memory) or None)
        return self._reading(task, known.take(read), found[read], whole, began, before)

    def run(self, config: Config, folder: Path) -> Outcome:
        """Return the row of a cell."""
        read = self.on_test(load_task(config))
        memory: Figures = {} if read.memory_mib is None else {"memory_mib": read.memory_mib}
        return {"test": figures(read.score), "chosen": dict(read.chosen), "cost": spent(read.score.cost), **memory}

    def _reading(self, task: Task, part: Part, found: Floats, fitted: Fitted, began: float, before: int) -> Reading:
        read = Cost(model_tokens=task.tokens - before, seconds=time.perf_counter() - began)
        cost = replace(fitted.cost + read, seconds=read.seconds)
        return Reading(task.score(part, found, cost), found, fitted.chosen, fitted.memory_mib)


def check_several_classes(name: str, targets: Integers, advice: str = "") -> None:
    """Raise `ConfigError` where labels are all of one class, between which and others nothing can be learnt."""
    if len(np.unique(targets)) < 2:
        raise ConfigError(f"{name} tells classes apart, and all labels are of one class: label examples of another one too{advice}.")
