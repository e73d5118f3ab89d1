"""When an input is left undecided: it is like nothing that a run knows, or the answer is too uncertain. Thresholds chosen on `select`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maao.evaluation.readings import Bools, Floats, Ints, count_of, parts_of, softmax
from maao.options import Section
from maao.types import JSON, Cost, known

Confidence = Literal["energy", "score", "probability", "margin"]
UNLIKE, UNSURE = "unlike", "unsure"  # like nothing that is known; between classes
IN_WORDS = {UNLIKE: "like nothing that the run knows", UNSURE: "unsure between classes"}
Reasons: TypeAlias = npt.NDArray[np.str_]


class PredictOptions(Section):
    """When an input is left undecided. What is left out leaves none."""

    coverage: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of `select` that stays decided: what is less like the classes than all of it is left undecided.",
    )
    accuracy: float | None = Field(None, gt=0, le=1, description="Share of the decided ones that is to be right, as `select` has it.")
    confidence: Confidence = Field(
        "energy", description="What `coverage` goes by: energy, the highest score (cosine), the highest probability, its margin."
    )

    @property
    def asks(self) -> bool:
        """Whether anything is ever left undecided."""
        return self.coverage is not None or self.accuracy is not None

    def unread(self) -> Mapping[str, str]:
        if self.coverage is not None:
            return {}
        return {
            "confidence": "predict.coverage is not set, which alone reads it: set it, or drop this (predict.accuracy goes by probability)"
        }


def energy(class_scores: Floats) -> Floats:
    """Return the logarithm of the sum of the exponentials of a row's scores: how much speaks for any of the classes.

    Source: Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020 (the negative of their energy, at temperature 1).

    Example:
        >>> energy(np.log(np.array([[1.0, 3.0]]))).tolist() == [np.log(4.0)]
        True
    """
    scores = class_scores.astype(np.float64)
    top = scores.max(axis=1)
    found: Floats = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return found


def top_score(class_scores: Floats) -> Floats:
    """Return the highest score of each row: of a matcher, its scale times the highest cosine."""
    found: Floats = class_scores.max(axis=1).astype(np.float64)
    return found


def top_probability(class_scores: Floats) -> Floats:
    """Return the highest probability of each row.

    Source: Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, ICLR 2017.
    """
    found: Floats = softmax(class_scores).max(axis=1)
    return found


def top_margin(class_scores: Floats) -> Floats:
    """Return how far the highest probability of each row lies above the next."""
    held = np.sort(softmax(class_scores), axis=1)
    found: Floats = held[:, -1] - held[:, -2]
    return found


CONFIDENCES: Mapping[Confidence, Callable[[Floats], Floats]] = {
    "energy": energy,
    "score": top_score,
    "probability": top_probability,
    "margin": top_margin,
}


def confidence_of(kind: Confidence, class_scores: Floats) -> Floats:
    """Return how much each row of ``(num_inputs, num_classes)`` scores speaks for what is known, a part of the rows at a time.

    A row without numbers speaks for nothing.
    """
    parts = [CONFIDENCES[kind](class_scores[rows]) for rows in parts_of(class_scores)]
    found = np.concatenate(parts) if parts else np.zeros(0)
    return np.where(np.isnan(found), -np.inf, found)


@dataclass(frozen=True)
class Thresholds:
    """What a run leaves undecided, and what that came to on the examples by which it was chosen.

    Attributes:
        confidence: what says how much an input is like what is known.
        least: below this it is unlike all of it; None: nothing is.
        least_probability: below this the answer is unsure; None: none is.
        num_examples: how many examples the thresholds were chosen by, labelled ones that no gradient came from.
        num_decided: how many of them are decided.
        num_right: how many of those are read right.
        wanted: what was asked for, "coverage" and "accuracy".
        cost: what reading them took.
    """

    confidence: Confidence
    least: float | None
    least_probability: float | None
    num_examples: int
    num_decided: int
    num_right: int
    wanted: Mapping[str, float]
    cost: Cost = field(default_factory=Cost)

    def reasons(self, class_scores: Floats) -> Reasons:
        """Return for each row of ``(num_inputs, num_classes)`` scores why it is left undecided; "": it is decided.

        Example:
            >>> held = Thresholds("score", 1.0, 0.6, 10, 8, 8, {})
            >>> held.reasons(np.array([[0.5, 0.1], [2.0, 1.9], [4.0, 1.0]])).tolist()
            ['unlike', 'unsure', '']
        """
        found = np.full(len(class_scores), "", dtype="<U6")
        if not len(class_scores):
            return found
        if self.least_probability is not None:
            found[confidence_of("probability", class_scores) < self.least_probability] = UNSURE
        if self.least is not None:
            found[confidence_of(self.confidence, class_scores) < self.least] = UNLIKE
        return found

    @property
    def coverage(self) -> float:
        return self.num_decided / self.num_examples

    @property
    def accuracy(self) -> float:
        """The share of the decided ones that is right."""
        return self.num_right / max(1, self.num_decided)

    @property
    def missed(self) -> str:
        """Say that the wanted accuracy is not reached; "": it is, or none was wanted."""
        wanted = self.wanted.get("accuracy")
        if wanted is None or self.accuracy >= wanted:
            return ""
        return f"an accuracy of {wanted:g} is reached by no threshold: at best {self.accuracy:.3f}, where {self.coverage:.0%} is decided"

    def to_json(self) -> JSON:
        return asdict(self)

    @classmethod
    def from_json(cls, held: JSON) -> Thresholds:
        return cls(**{**known(cls, held), "cost": Cost(**held["cost"])})


def choose_thresholds(options: PredictOptions, class_scores: Floats, targets: Ints, cost: Cost) -> Thresholds:
    """Return the lowest thresholds by which labelled examples come out as was asked.

    First `coverage`: the share of all that is kept as like what is known. Then `accuracy`: of those kept, the most that are right often
    enough, the most probable first; where no number of them is, those that come nearest.

    Args:
        class_scores: ``(num_examples, num_classes)`` of examples that no gradient came from.
        targets: their classes ``(num_examples,)``.

    Example:
        >>> scores = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]]))
        >>> held = choose_thresholds(PredictOptions(accuracy=1.0), scores, np.array([0, 0, 1, 0]), Cost())
        >>> round(held.least_probability, 3), held.num_decided, held.accuracy
        (0.7, 3, 1.0)
    """
    right, kept, least, least_probability = class_scores.argmax(axis=1) == targets, np.ones(len(targets), np.bool_), None, None
    if options.coverage is not None:
        confidence = confidence_of(options.confidence, class_scores)
        least = float(np.sort(confidence)[::-1][count_of(options.coverage, len(confidence)) - 1])
        kept = confidence >= least
    if options.accuracy is not None:
        probability = confidence_of("probability", class_scores)
        least_probability = _least_probability(probability[kept], right[kept], options.accuracy)
        kept &= probability >= least_probability
    wanted = {name: value for name, value in (("coverage", options.coverage), ("accuracy", options.accuracy)) if value is not None}
    decided, hits = int(kept.sum()), int(right[kept].sum())
    return Thresholds(options.confidence, least, least_probability, len(targets), decided, hits, wanted, cost)


def _least_probability(probability: Floats, right: Bools, accuracy: float) -> float:
    order = np.argsort(-probability, kind="stable")
    levels, shares = probability[order], np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(levels[1:] != levels[:-1], True)  # equals are decided together
    levels, shares = levels[ends], shares[ends]
    enough = np.flatnonzero(shares >= min(accuracy, shares.max()))
    return float(levels[enough[-1]])  # that which decides the most
