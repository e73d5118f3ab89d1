"""Logistic regression on the features of a frozen model: what most people would use."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from maao.baselines.labelled import Fitted, LabelledBaseline, check_several_classes
from maao.baselines.prototypes import with_class_names
from maao.baselines.task import FOLDS, Floats, Integers, Part, Task, log_loss, over_all
from maao.errors import ConfigError
from maao.threads import one_blas_thread

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # inverse strengths of the penalty, for features of length one
ALONE = 100.0  # where each class has one label, and nothing can be held out to choose by
FEW, FOLDS_OF_MANY = 500, 3  # beyond so many labels there are fewer folds


class LinearProbe(LabelledBaseline):
    """scikit-learn's `LogisticRegression`; its C is the one with the least log-loss in cross-validation within the labelled examples.

    Where each class has a single label, C is 100; with `class_names` even those can be held out, since the class keeps its name. Features
    of a language model are brought to one scale first; those of a matcher are taken as they are, of length one. A class without a
    label or name is given a probability of 1e-9, so that the loss is finite.

    Source: Radford et al., 2021 (linear probe); Lin et al., Multimodality Helps Unimodality, CVPR 2023 (class texts as examples).
    """

    takes_long: ClassVar[bool] = True
    told: ClassVar[str] = "logistic regression on frozen features"
    told_with_names: ClassVar[str] = "logistic regression on frozen features, with each class's name as one more example of it"

    class_names: bool = Field(False, description="Let each class text be one more example of its class.")

    def fit(self, task: Task, known: Part) -> Fitted:
        if not self.class_names:
            check_several_classes("linear_probe", known.targets, ", or read it with class_names")
        strength = self._strength(task, known)
        model = _fitted(_regression(), strength, *self._examples(task, known, known))
        return Fitted(lambda part: _answers(model, task.vectors(known, part.features), task.num_classes), {"C": strength})

    def _examples(self, task: Task, known: Part, of: Part) -> tuple[Floats, Integers]:
        vectors = task.vectors(known, of.features)
        return with_class_names(task, known, vectors, of.targets) if self.class_names else (vectors, of.targets)

    def _strength(self, task: Task, known: Part) -> float:
        """Return the C with the least held-out loss. The search goes up, and ends where the loss has risen twice in a row."""
        folds = task.folds(known.targets, count=FOLDS if len(known) <= FEW else FOLDS_OF_MANY, keep_one=not self.class_names)
        if not folds:
            return ALONE
        vectors = task.vectors(known, known.features)
        data = [(_regression(), *self._examples(task, known, known.take(left)), out) for left, out in folds]
        losses: list[float] = []
        for strength in STRENGTHS:
            total = 0.0
            for model, seen, targets, out in data:
                found = _answers(_fitted(model, strength, seen, targets), vectors[out], task.num_classes)
                total += log_loss(found, known.targets[out]) * len(out)
            losses.append(total)
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        return STRENGTHS[losses.index(min(losses))]


def _regression() -> LogisticRegression:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise missing("linear_probe") from error
    return LogisticRegression(max_iter=1000, tol=1e-5, warm_start=True)


@one_blas_thread()
def _fitted(model: LogisticRegression, strength: float, vectors: Floats, targets: Integers) -> LogisticRegression:
    """Return the model fitted anew, from where it last ended: the optimum is one, and the way to it short."""
    model.set_params(C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes of one example; of steps that did not suffice, where C is far too large
        return model.fit(vectors.astype(np.float32), targets)


@one_blas_thread()
def _answers(model: LogisticRegression, vectors: Floats, num_classes: int) -> Floats:
    found = np.asarray(model.predict_log_proba(vectors.astype(np.float32)), dtype=np.float64)
    return over_all(found, model.classes_, num_classes)


def missing(name: str) -> ConfigError:
    """Return what to say where scikit-learn is not there."""
    return ConfigError(f"The baseline '{name}' needs the package scikit-learn: pip install \"maao[sklearn]\".")
