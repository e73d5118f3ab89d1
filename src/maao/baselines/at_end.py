"""The end of a run: the cheap baselines on its labels and its `test`, beside the tuned result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maao import choices
from maao.baselines.labelled import LabelledBaseline, Reading
from maao.baselines.task import Floats, Integers, Part, Task, log_softmax
from maao.errors import ConfigError, MaaoError
from maao.evaluation.beside import Beside, Compared, Gain, Where, gain_over
from maao.progress import tracked

if TYPE_CHECKING:
    from torch import Tensor

    from maao.build import RunComponents
    from maao.data.dataset import Dataset
    from maao.types import Splits

MOST_TOKENS = 20_000  # that the end of a run may run through a model for baselines, where no feature is kept
SHARE = 10  # or one part in so many of what the run itself spent, where that is more
MOST_FOLDED = 5_000  # labels times classes that what takes long is fitted to fold by fold at the end of a run (about 5 s)


UNTUNED = "untuned model"
EARLIER = "point it began from"  # of a run with `from_run`, which has been tuned before


def compared(parts: RunComponents, tuned: Tensor, untuned: Tensor, spent: int) -> Compared:
    """Return the config's baselines on `test`, and what the tuned point gained over the best of them and over the untuned point there.

    What would run too many tokens, needs a package that is not there, or cannot be read so, is left out with the reason. What goes wrong
    here never keeps a run from its end, whatever it is: the tuned result is there already, and the reason is told in its place.

    Args:
        tuned: class scores of the chosen point on `test`, ``(num_examples, num_classes)``; `untuned` those of the first point.
        spent: the tokens of the run.
    """
    try:
        found = _compared(parts, tuned, spent)
    except Exception as error:
        found = Compared((), None, (f"all baselines: {_told(error)}",))
    began = UNTUNED if parts.config.from_run is None else EARLIER
    return replace(found, over_untuned=over_untuned(parts.examples, tuned, untuned, began))


def over_untuned(examples: Splits, tuned: Tensor, untuned: Tensor, began: str = UNTUNED) -> Gain | None:
    """Return what was gained on `test` over the first point, called `began`; None where examples are judged in groups."""
    if any(example.group for example in examples.test):
        return None
    numbers = {label: i for i, label in enumerate(examples.labels)}
    targets = np.array([numbers[example.label] for example in examples.test], dtype=np.int64)
    own, first = (_log_probabilities(scores.double().numpy()) for scores in (tuned, untuned))
    return _gain(targets, own, began, first)


def _log_probabilities(scores: Floats) -> Floats:
    """Return the log-probabilities of class scores; NaN in every row that holds no numbers, which answers nothing."""
    bad = ~np.isfinite(scores.max(1, keepdims=True))
    return np.where(bad, np.nan, log_softmax(np.where(bad, 0.0, scores)))


def _compared(parts: RunComponents, tuned: Tensor, spent: int) -> Compared:
    if not parts.config.baselines:
        return Compared(())
    task = _task(parts)
    return _over_best(task, task.test, parts.config.baselines, tuned.double().numpy(), max(MOST_TOKENS, spent // SHARE))


def compared_where_chosen(parts: RunComponents, spent: int) -> Compared:
    """Return the config's baselines on the examples that chose the tuned point, for a run without `test`: no gain follows from these.

    They read `select` having learnt from `train`; where all labels are cross-validated, each label is read by what learnt from others. What
    cannot be read is left out as in `compared`.
    """
    folded = bool(parts.examples.num_folds)
    where: Where = "out of fold" if folded else "on select"
    if not parts.config.baselines or not parts.examples.judged:
        return Compared((), where=where)
    try:
        task = _task(parts)
        known, read = (task.labelled, None) if folded else (task.train, task.select)
        found, left_out = _read(task, known, read, parts.config.baselines, max(MOST_TOKENS, spent // SHARE))
    except Exception as error:  # as above
        return Compared((), None, (f"all baselines: {_told(error)}",), where=where)
    return Compared(tuple(one for one, _ in found), None, left_out, sum(one.tokens for one, _ in found), where=where)


def compared_on(parts: RunComponents, dataset: Dataset, class_scores: Floats, names: Sequence[str], most: float = math.inf) -> Compared:
    """Return baselines that learn from all labels of a run on the `test` of a data set, and what the tuned point gained over the best.

    Args:
        dataset: labelled examples with the run's classes, and what opens them.
        class_scores: of the tuned point on them, ``(num_examples, num_classes)``.
        names: which baselines, each with class names where it can take them.
        most: tokens that may be run for them.
    """
    task = _task(parts)
    return _over_best(task, task.given(dataset), names, class_scores, most)


def _task(parts: RunComponents) -> Task:
    return Task(parts.config, parts.config.builder.reread(parts), like=parts)


def _over_best(task: Task, read: Part, names: Sequence[str], tuned: Floats, most: float) -> Compared:
    found, left_out = _read(task, task.labelled, read, names, most)
    if not found:
        return Compared((), None, left_out)
    best, answers = max(found, key=lambda one: (one[0].metrics["accuracy"], -one[0].loss))  # of equals the one with the lowest loss
    gain = _gain(read.targets, _log_probabilities(tuned), best.title, answers, len(found))
    return Compared(tuple(beside for beside, _ in found), gain, left_out, sum(beside.tokens for beside, _ in found))


def _read(
    task: Task, known: Part, read: Part | None, names: Sequence[str], most: float
) -> tuple[list[tuple[Beside, Floats]], tuple[str, ...]]:
    """Return what baselines answer that learnt from some examples, and why others are left out; read as None: out of fold."""
    room, left_out = most, list[str]()
    found: list[tuple[Beside, Floats]] = []
    for name in tracked(names, "reading baselines", len(names), "baselines"):
        try:
            baseline = with_class_names(name)
            price = baseline.price(known, read)
            if price > room:
                raise ConfigError(f"it would run {price:,} tokens, and the end of a run may run {most:,}")
            if read is None and baseline.takes_long and len(known) * task.num_classes > MOST_FOLDED:
                told = f"with {len(known):,} labels of {task.num_classes} classes it takes long fold by fold"
                raise ConfigError(f"{told} (maao baselines CONFIG --only {name} reads it so)")
            reading = baseline.out_of_fold(task) if read is None else baseline.reads(task, known, read)
            found.append(as_beside(name, baseline, reading))
        except Exception as error:  # of a library too
            left_out.append(f"{name}: {_told(error)}")
            continue
        room -= price
    return found, tuple(left_out)


def _told(error: Exception) -> str:
    """Return what an error says; of one that is not ours, its kind too."""
    said = str(error).rstrip(".")
    return said if isinstance(error, MaaoError) else f"{type(error).__name__}: {said}"


def with_class_names(name: str) -> LabelledBaseline:
    """Return a baseline by name, with class names where it can take them. Raises `ConfigError` for what is no baseline on labels."""
    kind = choices.load("baseline", name)
    if not issubclass(kind, LabelledBaseline):
        raise ConfigError("it is an arm of a comparison, and cannot be shown beside a run")
    made: LabelledBaseline = kind.model_validate({"class_names": True} if "class_names" in kind.model_fields else {})
    return made


def as_beside(name: str, baseline: LabelledBaseline, read: Reading) -> tuple[Beside, Floats]:
    score, settings = read.score, {key: value for key, value in baseline.model_dump().items() if isinstance(value, bool) and value}
    beside = Beside(
        name,
        baseline.told_with_names if settings.get("class_names") else baseline.told,
        score.loss,
        dict(score.metrics),
        score.num_examples,
        settings,
        dict(read.chosen),
        score.cost.model_tokens,
        score.cost.seconds,
    )
    return beside, read.log_probabilities


def _gain(targets: Integers, tuned: Floats, over: str, theirs: Floats, best_of: int = 1) -> Gain:
    """Return what the tuned point gained on `test` over something else that answered there."""

    def right(answers: Floats) -> list[bool]:
        return [bool(one) for one in (answers.argmax(1) == targets) & np.isfinite(answers.max(1))]  # no number is no answer

    def losses(answers: Floats) -> list[float]:
        return [-float(one) for one in answers[np.arange(len(targets)), targets]]

    return gain_over(over, right(tuned), right(theirs), losses(tuned), losses(theirs), best_of=best_of)
