"""The nearest mean of each class's labelled examples."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.task import Floats, Integers, Part, Task, log_loss, log_softmax

SCALES = (5.0, 10.0, 20.0, 40.0, 80.0)


class Prototypes(LabelledBaseline):
    """Scores are a scale times the cosine to a class's prototype, the mean of its examples' features; the scale is chosen out of fold.

    Source: Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017.
    """

    told: ClassVar[str] = "the nearest mean of each class's labelled features"
    told_with_names: ClassVar[str] = "the nearest mean of each class's labelled features, in which its name counts as one more example"

    class_names: bool = Field(False, description="Let each class text join its class's mean as one more example.")

    def fit(self, task: Task, known: Part) -> Fitted:
        scale = self._scale(task, known)
        towards = prototypes(task, known, known, class_names=self.class_names)
        return Fitted(lambda part: log_softmax(scale * task.vectors(known, part.features) @ towards.T), {"scale": scale})

    def _scale(self, task: Task, known: Part) -> float:
        cosines = np.full((len(known), task.num_classes), np.nan)
        for left, out in task.folds(known.targets, keep_one=not self.class_names):
            towards = prototypes(task, known, known.take(left), class_names=self.class_names)
            cosines[out] = task.vectors(known, known.features[out]) @ towards.T
        held = ~np.isnan(cosines[:, 0])
        if not held.any():
            return task.frozen.scale
        return min(SCALES, key=lambda scale: log_loss(log_softmax(scale * cosines[held]), known.targets[held]))


def prototypes(task: Task, known: Part, of: Part, *, class_names: bool = False) -> Floats:
    """Return ``(num_classes, width)`` means of length one of the features of some examples; `known` says the scale of features."""
    vectors, targets = task.vectors(known, of.features), of.targets
    if class_names:
        vectors, targets = with_class_names(task, known, vectors, targets)
    sums = np.zeros((task.num_classes, vectors.shape[1]))
    np.add.at(sums, targets, vectors)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(lengths > 0, lengths, 1.0))


def with_class_names(task: Task, known: Part, vectors: Floats, targets: Integers) -> tuple[Floats, Integers]:
    """Return features of length one and their classes, with each class text as one more example."""
    names = task.vectors(known, task.class_features)
    return np.concatenate([vectors, names]), np.concatenate([targets, np.arange(task.num_classes)])
