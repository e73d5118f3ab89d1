"""The nearest labelled examples vote."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from maao.baselines.labelled import Fitted, LabelledBaseline
from maao.baselines.linear_probe import missing
from maao.baselines.task import Floats, Integers, Part, Task, over_all

if TYPE_CHECKING:
    from sklearn.neighbors import KNeighborsClassifier

NEIGHBOURS = (1, 3, 5, 9, 15, 25)


class KNN(LabelledBaseline):
    """scikit-learn's `KNeighborsClassifier` on features of length one, votes weighed by the inverse of the distance.

    The number of neighbours k is the one with the highest accuracy in cross-validation within the labelled examples, the smallest of
    equals; 1 where nothing can be held out. One more vote is shared by all classes, so that the loss is finite.

    Source: Cover and Hart, Nearest Neighbor Pattern Classification, 1967.
    """

    told: ClassVar[str] = "the nearest labelled examples vote, on frozen features"

    def fit(self, task: Task, known: Part) -> Fitted:
        vectors = task.vectors(known, known.features)
        count = _best(task, known, vectors)
        votes = _fitted(vectors, known.targets, count)
        return Fitted(lambda part: _answers(votes, task.vectors(known, part.features), count, task.num_classes), {"k": count})


def _best(task: Task, known: Part, vectors: Floats) -> int:
    """Return the number of neighbours that is right most often on what is held out."""
    folds = task.folds(known.targets)
    least = min((len(left) for left, _ in folds), default=0)
    right = {
        count: sum(int((_fitted(vectors[a], known.targets[a], count).predict(vectors[b]) == known.targets[b]).sum()) for a, b in folds)
        for count in NEIGHBOURS
        if count <= least
    }
    return max(right, key=lambda count: right[count], default=NEIGHBOURS[0])  # the first of equals


def _fitted(vectors: Floats, targets: Integers, count: int) -> KNeighborsClassifier:
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        raise missing("knn") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that classes of one example look like numbers
        return KNeighborsClassifier(count, weights="distance", algorithm="brute").fit(vectors, targets)


def _answers(votes: KNeighborsClassifier, vectors: Floats, count: int, num_classes: int) -> Floats:
    shares = over_all(votes.predict_proba(vectors), votes.classes_, num_classes, 0.0)
    return np.asarray(np.log((shares * count + 1 / num_classes) / (count + 1)))
