"""What a baseline is given: the labelled examples of a config, `test`, and a frozen model that reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from maao.config import Config
from maao.core.seeds import seed_for
from maao.data.dataset import Dataset
from maao.data.folds import FOLDS
from maao.data.kept import once, stamps
from maao.errors import ConfigError
from maao.evaluation.metrics import Measure, measure
from maao.types import Cost, Example, Score

if TYPE_CHECKING:
    from maao.build import RunComponents
    from maao.problems.frozen import FrozenReader

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

LEAST = 1e-9  # probability that a class is given at least where a library gives it none


class Part:
    """Some labelled examples, by place, and what a frozen model makes of them, which is computed once for all parts of a part.

    Args:
        targets: class numbers ``(len(examples),)``.
        frozen: loads what reads examples; asked where a feature is first asked for.
    """

    def __init__(self, examples: Sequence[Example], targets: Integers, frozen: Callable[[], FrozenReader]) -> None:
        self.examples, self.targets = tuple(examples), targets
        self._frozen = frozen
        self._whole: tuple[Part, Integers] | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, which: Integers) -> Part:
        """Return some of them."""
        found = Part([self.examples[i] for i in which.tolist()], self.targets[which], self._frozen)
        found._whole = (self, which)
        return found

    def num_tokens(self) -> int:
        """Return how many tokens one reading of them runs through the frozen model."""
        return self._frozen().num_tokens(self.examples)

    @property
    def has_features(self) -> bool:
        """Whether features were read already."""
        return "features" in self.__dict__ or (self._whole is not None and self._whole[0].has_features)

    @cached_property
    def features(self) -> Floats:
        """``(len, width)``, as the frozen model gives them."""
        if self._whole is not None:
            whole, which = self._whole
            return whole.features[which]
        return np.asarray(self._frozen().features(self.examples).double().numpy())

    @cached_property
    def zero_shot(self) -> Floats:
        """``(len, num_classes)`` class scores without any label."""
        if self._whole is not None:
            whole, which = self._whole
            return whole.zero_shot[which]
        return np.asarray(self._frozen().zero_shot(self.examples).double().numpy())


class Task:
    """The problem of a config, for baselines.

    Args:
        config: it says data, model and seed.
        dataset: its examples.
        like: parts of a run of that config, whose model is used; None: it is loaded when something first asks for it.

    `labelled` are all labels that there are, those of `train` and of `select`; `train` and `select` are parts of them; `test` is for the
    last reading.
    """

    def __init__(self, config: Config, dataset: Dataset, like: RunComponents | None = None) -> None:
        self.config, self.dataset, self._like = config, dataset, like
        splits = dataset.splits
        self.labels = splits.labels
        self._numbers = {label: number for number, label in enumerate(splits.labels)}
        self._readers: list[FrozenReader] = []
        self.measure: Measure | None = config.data.options.measure(splits.labels)

    @cached_property
    def frozen(self) -> FrozenReader:
        """What reads examples."""
        return self._reader(self.dataset)

    @cached_property
    def labelled(self) -> Part:
        splits = self.dataset.splits
        return self._part((*splits.train, *splits.select))

    @property
    def train(self) -> Part:
        return self.labelled.take(np.arange(len(self.dataset.splits.train)))

    @property
    def select(self) -> Part:
        return self.labelled.take(np.arange(len(self.dataset.splits.train), len(self.labelled)))

    @cached_property
    def test(self) -> Part:
        return self._part(self.dataset.splits.test)

    @property
    def tokens(self) -> int:
        """The tokens that were run through the frozen model so far."""
        return sum(reader.tokens for reader in self._readers)

    @property
    def num_classes(self) -> int:
        return len(self.labels)

    @cached_property
    def class_features(self) -> Floats:
        """``(num_classes, width)``, of the class texts."""
        return np.asarray(self.frozen.class_features().double().numpy())

    def vectors(self, known: Part, features: Floats) -> Floats:
        """Return features of length one, those of hidden states first brought to the scale that they have over known examples."""
        if not self.frozen.is_unit:
            middle, spread = scale_of(known)
            features = (features - middle) / spread
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        return np.asarray(features / np.where(lengths > 0, lengths, 1.0))

    def folds(self, targets: Integers, *, count: int = FOLDS, keep_one: bool = True) -> list[tuple[Integers, Integers]]:
        """Return the ways to hold some of the examples out: the places of what is left, and of what is held out. There may be none.

        Each class is spread evenly. With `keep_one`, a class of one example is never without it, so it is not held out.
        """
        order = np.random.default_rng(seed_for(self.config.seed, "baseline folds")).permutation(len(targets))
        order = order[np.argsort(targets[order], kind="stable")]
        fold = np.empty(len(targets), dtype=np.int64)
        fold[order] = np.arange(len(targets)) % count  # the examples of one class lie side by side in this order
        counts = np.bincount(targets)
        can_go = counts[targets] > 1 if keep_one else np.ones(len(targets), dtype=bool)
        found = [(np.flatnonzero(~((fold == k) & can_go)), np.flatnonzero((fold == k) & can_go)) for k in range(count)]
        return [(left, out) for left, out in found if len(out) and len(left)]

    def score(self, part: Part, log_probabilities: Floats, cost: Cost) -> Score:
        """Return how good answers are: log-loss, and the metrics of the data."""
        rows = log_probabilities.tolist()
        metrics = measure((), part.examples, self.labels, rows) if self.measure is None else self.measure(part.examples, rows)
        return Score(log_loss(log_probabilities, part.targets), metrics, len(part), replace(cost, scored_examples=len(part)))

    def given(self, dataset: Dataset) -> Part:
        """Return the `test` of another data set with these classes, which opens its own examples."""
        found: list[FrozenReader] = []  # made once, and not before it is asked

        def reader() -> FrozenReader:
            if not found:
                found.append(self._reader(dataset))
            return found[0]

        return self._part(dataset.splits.test, reader)

    def _reader(self, dataset: Dataset) -> FrozenReader:
        made = self.config.builder.frozen(dataset, self._like)
        self._readers.append(made)
        return made

    def _part(self, examples: Sequence[Example], reader: Callable[[], FrozenReader] | None = None) -> Part:
        if any(example.choices for example in examples):
            raise ConfigError("These examples have choices of their own, and a baseline needs classes that all of them share.")
        targets = np.array([self._numbers[example.label] for example in examples], dtype=np.int64)
        return Part(examples, targets, reader or (lambda: self.frozen))


def load_task(config: Config) -> Task:
    """Return the task of a config; baselines of one process that share what they can share its features.

    Raises:
        ConfigError: the config is of a function, which has no examples.
    """
    key = (
        config.model_dump_json(include={"seed", "threads", "model", "data", "from_run"}),
        stamps(config.data.options.model_dump().values()),
    )
    return once(("task", *key), lambda: _task(config))


def _task(config: Config) -> Task:
    dataset = config.builder.load_data()
    if dataset is None:
        raise ConfigError("A baseline is made of labelled examples, and a function has none.")
    return Task(config, dataset)


def scale_of(known: Part) -> tuple[Floats, Floats]:
    """Return the mean of features and their standard deviation, both ``(width,)``; 1 where there is none."""
    spread = known.features.std(0)
    return known.features.mean(0), np.where(spread > 0, spread, 1.0)


def log_loss(log_probabilities: Floats, targets: Integers) -> float:
    """Return the mean negative log-probability of the right classes.

    Example:
        >>> log_loss(np.log([[0.5, 0.5], [0.2, 0.8]]), np.array([0, 1])) == -(math.log(0.5) + math.log(0.8)) / 2
        True
    """
    return -math.fsum(log_probabilities[np.arange(len(targets)), targets].tolist()) / len(targets)


def over_all(found: Floats, classes: Integers, num_classes: int, empty: float = math.log(LEAST)) -> Floats:
    """Return what is known of some classes as columns of all; scikit-learn answers only for the classes that it saw.

    Args:
        found: ``(n, len(classes))``, log-probabilities for example.
        classes: the class number of each column.
        empty: of a class without a column; a log-probability that is finite keeps the loss of its examples finite.

    Returns:
        ``(n, num_classes)``; `found` itself where no class is missing.

    Example:
        >>> over_all(np.array([[0.25, 0.75]]), np.array([0, 2]), 3, 0.0).tolist()
        [[0.25, 0.0, 0.75]]
    """
    if len(classes) == num_classes:
        return found
    whole = np.full((len(found), num_classes), empty)
    whole[:, classes] = found
    return whole


def log_softmax(scores: Floats) -> Floats:
    """Return the logarithm of the softmax of each row."""
    shifted = scores - scores.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
