"""Where a linear head on frozen features begins: at zero, at features of the classes, or at logistic regression.

A head is ``weight (num_classes, width)`` and ``bias (num_classes,)``; a class's score is ``weight feature + bias``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maao.errors import ConfigError
from maao.threads import one_blas_thread

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strengths of the penalty that are tried
FOLDS = 5
Which = slice | npt.NDArray[np.int64]  # of the examples


@dataclass(frozen=True)
class LinearStart:
    """A linear head, and what is to be said of how it was found."""

    weight: Tensor
    bias: Tensor
    note: str = ""


def from_class_features(features: Tensor) -> LinearStart:
    """Return the head that scores a feature by how near it is to the classes' own features ``(num_classes, width)``.

    With the class features c and their mean m, a class's score of a feature f is ``((f - m)(c - m) - |c - m|^2 / 2) / s``, half the squared
    distance to the class but for what is the same for all of them, where s is the mean of ``|c - m|^2``: at the classes' own features the
    scores lie about one apart.

    Raises:
        ConfigError: all classes have the same feature.

    Example:
        >>> head = from_class_features(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
        >>> (head.weight @ torch.tensor([0.0, 3.0]) + head.bias).tolist()
        [-1.5, 0.5]
    """
    mean = features.mean(0)
    own = features - mean
    lengths = own.pow(2).sum(-1)
    size = lengths.mean()
    if not float(size) > 0:
        raise ConfigError("All classes begin at the same feature: give them label words that differ, or another model.head_start.")
    return LinearStart(own / size, -(own @ mean + lengths / 2) / size)


@one_blas_thread()
def logistic_regression(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    *,
    weights: Sequence[float | None] = (),
    seed: int = 0,
    with_bias: bool = True,
) -> LinearStart:
    """Return scikit-learn's logistic regression on features ``(num_examples, width)``, which are brought to one scale for it.

    The strength of its penalty is the one of `STRENGTHS` with the least loss in cross-validation within the examples given; where a class
    has a single example, it is 1. A class without an example scores below the others everywhere.

    Args:
        targets: class numbers ``(num_examples,)``.
        weights: what each example weighs; None: it is a labelled one, which weighs 1. By default all are. The strength is judged by
            labelled ones alone; the others are fitted in every part.
        seed: of the folds.
        with_bias: fit a bias; it is zero otherwise.

    Raises:
        ConfigError: scikit-learn is not installed, or all examples are of one class.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError(
            "model.head_start = 'logistic_regression' needs the package scikit-learn: pip install \"maao[sklearn]\"."
        ) from error
    values, labels = features.double().cpu().numpy(), targets.cpu().numpy()
    present = np.unique(labels)
    if len(present) < 2:
        raise ConfigError("model.head_start = 'logistic_regression' needs examples of two classes at least in train.")
    middle = values.mean(0) if with_bias else np.zeros(values.shape[1])
    spread = np.sqrt(((values - middle) ** 2).mean(0))
    spread[spread == 0] = 1.0
    scaled = (values - middle) / spread

    weighs = np.array([1.0 if weight is None else weight for weight in weights or [None] * len(labels)])
    labelled = np.array([weight is None for weight in weights or [None] * len(labels)])

    def fitted(strength: float, which: Which) -> LogisticRegression:
        model = LogisticRegression(C=strength, fit_intercept=with_bias, max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is where training begins, not where it ends
            return model.fit(scaled[which], labels[which], sample_weight=weighs[which])

    strength, told = _strength(fitted, scaled, labels, labelled, seed)
    model = fitted(strength, slice(None))
    weight, bias = model.coef_, model.intercept_ if with_bias else np.zeros(len(model.coef_))
    if len(present) == 2:  # one row, the difference of the two
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    weight = weight / spread
    bias = bias - weight @ middle
    all_weights, all_biases = np.zeros((num_classes, values.shape[1])), np.full(num_classes, bias.min() - 1 if with_bias else 0.0)
    all_weights[present], all_biases[present] = weight, bias
    note = f"the head begins at logistic regression on the {len(labels)} examples of train, with C = {strength:g} ({told})"
    return LinearStart(torch.from_numpy(all_weights).float(), torch.from_numpy(all_biases).float(), note)


def _strength(
    fitted: Callable[[float, Which], LogisticRegression],
    scaled: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    labelled: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[float, str]:
    """Return the inverse strength of the penalty, and how it was chosen."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold

    own, lines = np.flatnonzero(labelled), np.flatnonzero(~labelled)
    classes, counts = np.unique(labels[own], return_counts=True)
    if len(counts) < len(np.unique(labels)) or counts.min() < 2:
        return 1.0, "a class has one example: nothing to choose it by"
    folds = min(FOLDS, int(counts.min()))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(scaled[own], labels[own])
    split = [(np.concatenate([own[train], lines]), own[held_out]) for train, held_out in parts]

    def loss(strength: float) -> float:
        found = []
        for train, held_out in split:
            probable = fitted(strength, train).predict_proba(scaled[held_out])
            found.append(log_loss(labels[held_out], probable, labels=classes))
        return float(np.mean(found))

    return min(STRENGTHS, key=loss), f"chosen by cross-validation in {folds} parts"
