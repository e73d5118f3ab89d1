"""All that labelled examples say of a classifier: `Evaluation`, made of its class scores. Figures are scikit-learn's where it has them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from maao.errors import DataError, MaaoError
from maao.evaluation.confidence import Calibration, CoveragePoint, calibration, coverage_curve, risk_coverage_area
from maao.evaluation.readings import Bools, Floats, Ints, Readings, blocks, mistakes_in, parts_of, readings, suspects_in
from maao.evaluation.statistics import wilson_interval
from maao.evaluation.undecided import UNLIKE, UNSURE, Confidence, PredictOptions, Thresholds, confidence_of
from maao.types import JSON, Confusion, Example, Mistake, Score

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ClassReport:
    """How one class is read.

    Attributes:
        num_examples: how many have its label (the support).
        num_predicted: how many are read as it.
        precision: of those read as it, the share that has its label; 0 where none is.
        recall: of those with its label, the share that is read as it; 0 where none has it.
        f1: the harmonic mean of both.
    """

    label: str
    num_examples: int
    num_predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class NoneOfThese:
    """Examples of no class that the run knows.

    Attributes:
        num_examples: how many there are.
        labels: the labels that they have, with how many have each.
        confidence: what says how much an example is like what the run knows (`maao.evaluation.undecided`).
        auroc: how often it is higher for an example of a known class than for one of these (ties count half); 0.5 is chance.
    """

    num_examples: int
    labels: Mapping[str, int]
    confidence: Confidence
    auroc: float


@dataclass(frozen=True, slots=True)
class Decided:
    """What comes of it that a run leaves some undecided.

    Attributes:
        num_unlike: examples of known classes that are left undecided as unlike all that the run knows.
        num_unsure: those left undecided as between classes.
        num_decided: those decided.
        coverage: the share of examples of known classes that is decided.
        accuracy: the share of the decided ones that is right; `interval` is its 95 % Wilson interval. 0 where none is.
        none_undecided: of the examples of none of the classes, the share that is left undecided, as it should be; None: there are none.
        accuracy_with_none: the share of all examples that is dealt with rightly: of known classes read right and decided, of others left
            undecided. None: there are no others.
    """

    num_unlike: int
    num_unsure: int
    num_decided: int
    coverage: float
    accuracy: float
    interval: tuple[float, float]
    none_undecided: float | None = None
    accuracy_with_none: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """How a classifier does on labelled examples.

    Attributes:
        of: what was evaluated, in words.
        score: loss and metrics as the run itself reports them.
        labels: the classes, in the order of the run.
        num_examples: examples of known classes; all but `none_of_these` is about them.
        accuracy: the share that is read right; `interval` is its 95 % Wilson interval over these examples.
        balanced_accuracy: the mean recall of the classes that occur.
        macro_f1: the mean F1 of the classes that occur or are read.
        log_loss: the mean negative log (nats) of the label's probability; scikit-learn bounds it where that is nearly 0.
        calibration: how far confidence lies from accuracy.
        coverage: accuracy where only the surest are decided.
        risk_coverage_area: the mean error over all coverages.
        classes: of each class that occurs or is read.
        confusions: which labels are read as which others, the most frequent first.
        mistakes: what is read wrongly, with the most confidence first.
        suspects: labels that look wrong; `predicted` is the class that the label is taken for.
        none_of_these: examples whose label is no class of the run, where they were counted so.
        decided: what comes of it that the run leaves some undecided; None: it leaves none. All else is about the most probable class.
        notes: what a reader should know of how the examples were read.
    """

    of: str
    score: Score
    labels: tuple[str, ...]
    num_examples: int
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    calibration: Calibration
    coverage: tuple[CoveragePoint, ...]
    risk_coverage_area: float
    classes: tuple[ClassReport, ...]
    confusions: tuple[Confusion, ...]
    mistakes: tuple[Mistake, ...]
    suspects: tuple[Mistake, ...]
    none_of_these: NoneOfThese | None = None
    decided: Decided | None = None
    notes: tuple[str, ...] = ()

    @property
    def confusion_matrix(self) -> npt.NDArray[np.int64]:
        """How many examples of each class (rows) are read as each (columns): ``(num_classes, num_classes)``, in the order of `labels`."""
        place = {label: i for i, label in enumerate(self.labels)}
        found = np.zeros((len(place), len(place)), np.int64)
        for one in self.confusions:
            found[place[one.label], place[one.predicted]] = one.count
        for own in self.classes:
            i = place[own.label]
            found[i, i] = own.num_examples - found[i].sum()
        return found

    def __repr__(self) -> str:
        return f"Evaluation({self.of!r}, {self.num_examples} examples, accuracy {self.accuracy:.4g}, macro F1 {self.macro_f1:.4g})"

    def to_json(self) -> JSON:
        """Return all of it as plain data. The confusion matrix is given by its cells off the diagonal: label, read as, count."""
        none = self.none_of_these
        return {
            "of": self.of,
            "num_examples": self.num_examples,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "calibration": asdict(self.calibration),
            "coverage": [asdict(point) for point in self.coverage],
            "risk_coverage_area": self.risk_coverage_area,
            "metrics": dict(self.score.metrics),
            "loss": self.score.loss,
            "labels": list(self.labels),
            "classes": [asdict(own) for own in self.classes],
            "confusions": [[one.label, one.predicted, one.count] for one in self.confusions],
            "mistakes": [_plain(one) for one in self.mistakes],
            "suspects": [_plain(one) for one in self.suspects],
            "none_of_these": None if none is None else {**asdict(none), "labels": dict(none.labels)},
            "decided": None if self.decided is None else asdict(self.decided),
            "notes": list(self.notes),
        }


def _plain(one: Mistake) -> JSON:
    return {
        **{name: text for name, text in one.example.fields.items() if name != "content"},
        "label": one.example.label,
        "predicted": one.predicted,
        "probability": one.probability,
        "label_probability": one.label_probability,
    }


def evaluation(
    examples: Sequence[Example],
    labels: Sequence[str],
    class_scores: Floats,
    score: Score,
    *,
    of: str = "the examples",
    others: tuple[Sequence[Example], Floats] | None = None,
    thresholds: Thresholds | None = None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Return all that labelled examples say.

    Args:
        examples: whose labels are all among `labels`.
        labels: the classes, in the order of the scores.
        class_scores: ``(num_examples, num_classes)``, whose softmax is the distribution over the classes.
        score: what the run itself says of them.
        of: what they are, in words.
        others: examples of none of the classes, and their class scores.
        thresholds: what is left undecided.

    Raises:
        DataError: there are no examples, or the model gives no number for some.
        MaaoError: scikit-learn is not installed.

    Example:
        >>> examples = [Example({"text": "fine"}, "good"), Example({"text": "dull"}, "bad"), Example({"text": "drab"}, "bad")]
        >>> found = evaluation(examples, ["bad", "good"], np.log([[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]]), Score(0.69))
        >>> round(found.accuracy, 3), found.balanced_accuracy, [mistake.example.fields["text"] for mistake in found.mistakes]
        (0.667, 0.75, ['drab'])
    """
    if not examples:
        raise DataError(f"There are no examples in {of} to evaluate on.")
    _check_numbers(examples, class_scores, of)
    if others is not None:
        _check_numbers(*others, of)
    metrics = _sklearn_metrics()
    numbers = {label: i for i, label in enumerate(labels)}
    targets = np.array([numbers[example.label] for example in examples], np.int64)
    read = readings(class_scores, targets)
    accuracy = float(metrics.accuracy_score(targets, read.predicted))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")  # which costs no class its recall
        balanced = float(metrics.balanced_accuracy_score(targets, read.predicted))
    return Evaluation(
        of,
        score,
        tuple(labels),
        len(examples),
        accuracy,
        wilson_interval(accuracy, len(examples)),
        balanced,
        float(metrics.f1_score(targets, read.predicted, average="macro", zero_division=0)),
        _log_loss(metrics, class_scores, targets),
        calibration(read.probability, read.right),
        coverage_curve(read.probability, read.right),
        risk_coverage_area(read.probability, read.right),
        _class_reports(metrics, read, labels),
        _confusions(metrics, read, labels),
        mistakes_in(read, examples, labels),
        suspects_in(read, examples, labels),
        None if others is None else _none_of_these(metrics, class_scores, *others, thresholds),
        None if thresholds is None else _decided(read, class_scores, None if others is None else others[1], thresholds),
        tuple(notes),
    )


def _check_numbers(examples: Sequence[Example], class_scores: Floats, of: str) -> None:
    """Refuse examples for which a model gives no number: figures over the others alone would flatter it."""
    bad = [rows.start + i for rows in parts_of(class_scores) for i in np.flatnonzero(_no_number(class_scores[rows])).tolist()]
    if bad:
        first = " / ".join(examples[bad[0]].fields.values())
        raise DataError(
            f"{of}: for {len(bad)} of {len(examples)} examples the model gives no number (NaN or infinity), for {first[:60]!r} first. "
            "Half precision overflows so (model.dtype), or the point was tuned away: look at its losses (maao show)."
        )


def _no_number(class_scores: Floats) -> Bools:
    """Return for each row whether its softmax is no distribution."""
    top = class_scores.max(axis=1)  # NaN where there is one
    found: Bools = ~np.isfinite(top)
    return found


def _sklearn_metrics() -> ModuleType:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise MaaoError('Evaluating needs the package scikit-learn: pip install "maao[sklearn]".') from error
    found: ModuleType = sklearn.metrics
    return found


def _log_loss(metrics: ModuleType, class_scores: Floats, targets: Ints) -> float:
    """Return scikit-learn's log-loss, taken a part of the rows at a time: it makes several copies of what it is given."""
    classes = range(class_scores.shape[1])
    parts = [float(metrics.log_loss(targets[rows], held, labels=classes, normalize=False)) for rows, held in blocks(class_scores)]
    return sum(parts) / len(targets)


def _class_reports(metrics: ModuleType, read: Readings, labels: Sequence[str]) -> tuple[ClassReport, ...]:
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        read.targets, read.predicted, labels=range(len(labels)), zero_division=0
    )
    predicted = np.bincount(read.predicted, minlength=len(labels))
    return tuple(
        ClassReport(label, int(support[i]), int(predicted[i]), float(precision[i]), float(recall[i]), float(f1[i]))
        for i, label in enumerate(labels)
        if support[i] or predicted[i]
    )


def _confusions(metrics: ModuleType, read: Readings, labels: Sequence[str]) -> tuple[Confusion, ...]:
    matrix = metrics.confusion_matrix(read.targets, read.predicted, labels=range(len(labels)))
    cells = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix).tolist() if i != j]
    return tuple(Confusion(labels[i], labels[j], count) for count, i, j in sorted(cells, key=lambda cell: (-cell[0], *cell[1:])))


def _none_of_these(
    metrics: ModuleType, known: Floats, examples: Sequence[Example], class_scores: Floats, thresholds: Thresholds | None
) -> NoneOfThese:
    confidence = PredictOptions().confidence if thresholds is None else thresholds.confidence
    is_known = np.repeat([1, 0], [len(known), len(examples)])
    found = np.concatenate([confidence_of(confidence, known), confidence_of(confidence, class_scores)])
    counts = Counter(example.label for example in examples)
    return NoneOfThese(len(examples), dict(sorted(counts.items())), confidence, float(metrics.roc_auc_score(is_known, found)))


def _decided(read: Readings, known: Floats, others: Floats | None, thresholds: Thresholds) -> Decided:
    reasons = thresholds.reasons(known)
    decided = reasons == ""
    count, right = int(decided.sum()), int(read.right[decided].sum())
    accuracy = right / max(1, count)
    interval = wilson_interval(accuracy, count) if count else (0.0, 1.0)
    unlike, unsure = int((reasons == UNLIKE).sum()), int((reasons == UNSURE).sum())
    left = None if others is None else int((thresholds.reasons(others) != "").sum())
    none = None if left is None or others is None else left / len(others)
    whole = None if left is None or others is None else (right + left) / (len(known) + len(others))
    return Decided(unlike, unsure, count, count / len(known), accuracy, interval, none, whole)
