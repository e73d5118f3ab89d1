"""Metrics of classes, multiple choice, and questions of several examples. All lie in [0, 1] and are better when higher, but `log_loss`.

Every metric starts from the same thing: per example one score a class, or one a choice. A metric is a function (`Metric`) with a row in the
table `metric` of `choices.py`; which of them a run reports is for its task and for `data.metrics` to say.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from maao import choices
from maao.errors import ConfigError, DataError, MaaoError
from maao.types import Example

ALWAYS = ("accuracy", "balanced_accuracy")
Measure = Callable[[Sequence[Example], Sequence[Sequence[float]]], Mapping[str, float]]  # examples and their scores to metrics by name
Metric = Callable[[Sequence[Example], Sequence[str], Sequence[Sequence[float]]], float]  # of examples, labels and scores: see `measure`
POSITIVE = "true"  # the class of a right answer (MultiRC) or entity (ReCoRD)


def measure(
    names: Sequence[str], examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Return the named metrics, and always "accuracy" and "balanced_accuracy".

    The answer is the class with the highest score; the first of equals. Names:

    * `accuracy`: the share of right answers. Chance depends on how frequent the classes are; see `balanced_accuracy`.
    * `balanced_accuracy`: the mean, over the classes that occur, of the share of a class's examples that is answered right. Always
      answering one class gives 1 / classes.
    * `f1_macro`: the mean F1 over the classes that occur or are answered (CB).
    * `f1a`: the F1 of "true" over all answers of all questions together (MultiRC).
    * `em`: of examples in groups, the share of questions with every answer judged right (MultiRC); where the examples have a field
      `entity`, the share of questions whose chosen entity is, normalized, one of the right ones (ReCoRD).
    * `f1`: token F1 of the chosen entity against the right ones, the best of them, mean over questions (ReCoRD).
    * `log_loss`: mean negative log of the probability (nats) that a softmax of the scores gives to the right answer. Lower is better.

    In ReCoRD, the entity with the highest probability of "true" among those of its group is chosen, the first of equals.

    Args:
        names: which metrics.
        examples: what was answered, `num_examples` of them.
        labels: the classes, in the order of the scores; of no use where examples have choices.
        scores: for each example `num_classes` numbers, or as many as it has choices: logits or log-probabilities.

    Raises:
        ConfigError: there is no metric of that name.
        DataError: there is no example; there are more or fewer scores than examples, classes or choices; a score is not a number; a label
            is not among `labels`; a metric of questions is asked of examples without a group, or without a right entity.

    Example:
        >>> examples = [Example({"text": "fine"}, "good"), Example({"text": "dull"}, "bad"), Example({"text": "drab"}, "bad")]
        >>> measure((), examples, ("bad", "good"), [[0.1, 0.9], [0.7, 0.3], [0.2, 0.8]])
        {'accuracy': 0.6666666666666666, 'balanced_accuracy': 0.75}

    Source: Wang et al., SuperGLUE, 2019, section 3; the official scripts of MultiRC (Khashabi et al., 2018) and of ReCoRD (Zhang et al.,
        2018), as the hub's `super_glue` metric runs them. The reference release of the method compares the bare scores of "true" instead.
    """
    chosen = {name: _metric(name) for name in dict.fromkeys((*ALWAYS, *names))}
    _check(examples, labels, scores)
    return {name: _value(name, metric, examples, labels, scores) for name, metric in chosen.items()}


def measured(asked: Sequence[str], own: Sequence[str], labels: Sequence[str]) -> Measure | None:
    """Return what computes metrics: those asked for first, the first of all being primary, then accuracies and a task's own. None: no more.

    Example:
        >>> measure_all = measured(["f1_macro"], (), ("bad", "good"))
        >>> list(measure_all([Example({"text": "fine"}, "good")], [[0.1, 0.9]]))
        ['f1_macro', 'accuracy', 'balanced_accuracy']
    """
    if not asked and not own:
        return None

    def compute(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> Mapping[str, float]:
        found = measure((*own, *asked), examples, labels, scores)
        return {name: found[name] for name in dict.fromkeys((*asked, *found))}

    return compute


def _metric(name: str) -> Metric:
    try:
        metric: Metric = choices.load("metric", name)
    except choices.UnknownName as error:
        raise ConfigError(f"There is no metric {name!r}: {error}.") from None
    return metric


def _value(name: str, metric: Metric, examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    """Return what a metric gives. Raises `DataError` where one of one's own raises, or gives what is no number."""
    try:
        return float(metric(examples, labels, scores))
    except MaaoError:
        raise
    except Exception as error:  # anything may happen in code of others
        raise DataError(f"The metric {name!r} gives no number ({type(error).__name__}: {error}).") from error


def harmonic_mean(base: float, new: float) -> float:
    """Return ``2 base new / (base + new)``, by which results on base and on new classes are put together; 0 where either is 0.

    Args:
        base: the accuracy, or another metric that is better when higher, on the classes that were trained on, at least 0.
        new: the same on classes that were not.

    Raises:
        DataError: one of them is negative or not a finite number.

    Example:
        >>> harmonic_mean(0.8, 0.4)
        0.5333333333333333

    Source: Xian et al., Zero-Shot Learning, A Comprehensive Evaluation, 2017; Zhou et al., Conditional Prompt Learning, 2022, use it for
        base-to-new generalisation.
    """
    for name, value in (("base", base), ("new", new)):
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"The harmonic mean is one of numbers from 0 up; {name} is {value}.")
    return 2 * base * new / (base + new) if base and new else 0.0


def normalize_answer(text: str) -> str:
    """Return a text in lower case, without punctuation, English articles and further white space, as answers are compared.

    Example:
        >>> normalize_answer("The U.S.  Navy")
        'us navy'

    Source: the official evaluation scripts of SQuAD (Rajpurkar et al., 2016) and ReCoRD.
    """
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(predicted: str, gold: str) -> float:
    """Return the F1 of the words that two normalized texts share; 0 where they share none.

    Example:
        >>> token_f1("the President Obama", "Barack Obama")
        0.5

    Source: `f1_score` of the official evaluation script of ReCoRD.
    """
    found, wanted = normalize_answer(predicted).split(), normalize_answer(gold).split()
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted)) if shared else 0.0


def _check(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> None:
    if not examples:
        raise DataError("There are no examples: nothing can be measured.")
    if len(scores) != len(examples):
        raise DataError(f"There are {len(examples)} examples, but scores of {len(scores)}.")
    known = {*labels}
    for number, (example, row) in enumerate(zip(examples, scores, strict=True), 1):
        classes = _classes(example, labels)
        if len(row) != len(classes):
            raise DataError(f"Example {number} has {len(classes)} {'choices' if example.choices else 'classes'}, but {len(row)} scores.")
        if any(math.isnan(score) for score in row):
            raise DataError(f"Example {number} has a score that is not a number: {list(row)}.")
        if example.label not in (classes if example.choices else known):
            raise DataError(f"Example {number} has the label {example.label!r}, which is none of {', '.join(classes)}.")


def _classes(example: Example, labels: Sequence[str]) -> Sequence[str]:
    return [str(position) for position in range(len(example.choices))] if example.choices else labels


def _answers(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> list[str]:
    chosen = (max(range(len(row)), key=row.__getitem__) for row in scores)  # `max` keeps the first of equals
    return [_classes(example, labels)[best] for example, best in zip(examples, chosen, strict=True)]


def accuracy(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    answers = _answers(examples, labels, scores)
    return sum(answer == example.label for answer, example in zip(answers, examples, strict=True)) / len(examples)


def balanced_accuracy(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    have = Counter(example.label for example in examples)
    answers = _answers(examples, labels, scores)
    right = Counter(example.label for answer, example in zip(answers, examples, strict=True) if answer == example.label)
    return math.fsum(right[label] / count for label, count in have.items()) / len(have)


def f1_macro(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    golds, answers = [example.label for example in examples], _answers(examples, labels, scores)
    occurring = sorted({*golds, *answers})
    right = Counter(gold for gold, answer in zip(golds, answers, strict=True) if gold == answer)
    named = Counter(golds) + Counter(answers)
    return math.fsum(2 * right[label] / named[label] for label in occurring) / len(occurring)


def f1a(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    _check_positive("f1a", labels)
    return _f1_of(POSITIVE, [example.label for example in examples], _answers(examples, labels, scores))


def _f1_of(label: str, golds: Sequence[str], answers: Sequence[str]) -> float:
    """Return the F1 of one class; 0 where it neither occurs nor is answered."""
    right = sum(gold == answer == label for gold, answer in zip(golds, answers, strict=True))
    named = golds.count(label) + answers.count(label)
    return 2 * right / named if named else 0.0


def em(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    if "entity" in examples[0].fields:
        return _of_entities("em", examples, labels, scores, lambda entity, gold: normalize_answer(entity) == normalize_answer(gold))
    answers = _answers(examples, labels, scores)
    groups = _groups("em", examples)
    return sum(all(answers[i] == examples[i].label for i in group) for group in groups.values()) / len(groups)


def f1(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    return _of_entities("f1", examples, labels, scores, token_f1)


def _of_entities(
    name: str,
    examples: Sequence[Example],
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    agreement: Callable[[str, str], float],
) -> float:
    """Return the mean, over questions, of how well the chosen entity agrees with the right one that it agrees with best."""
    _check_positive(name, labels)
    if any("entity" not in example.fields for example in examples):
        raise DataError(f"The metric {name!r} needs examples with a field 'entity'.")
    groups = _groups(name, examples)
    found = []
    for group, members in groups.items():
        golds = [examples[i].fields["entity"] for i in members if examples[i].label == POSITIVE]
        if not golds:
            raise DataError(f"The metric {name!r}: question {group!r} has no example with the label {POSITIVE!r}. Was it cut apart?")
        chosen = max(members, key=lambda i: _log_probability(scores[i], labels.index(POSITIVE)))
        found.append(max(float(agreement(examples[chosen].fields["entity"], gold)) for gold in golds))
    return math.fsum(found) / len(found)


def log_loss(examples: Sequence[Example], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> float:
    places = {label: i for i, label in enumerate(labels)}
    right = (_classes(example, labels).index(example.label) if example.choices else places[example.label] for example in examples)
    return -math.fsum(_log_probability(row, index) for row, index in zip(scores, right, strict=True)) / len(examples)


def _log_probability(row: Sequence[float], index: int) -> float:
    """Return the log of what a softmax of the scores gives to one of them."""
    top = max(row)
    if math.isinf(top):  # one score is infinite, or all are minus infinity: the softmax is shared by those at the top
        return -math.log(sum(score == top for score in row)) if row[index] == top else -math.inf
    return float(row[index]) - top - math.log(math.fsum(math.exp(score - top) for score in row))


def _groups(name: str, examples: Sequence[Example]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if not example.group:
            raise DataError(f"The metric {name!r} is one of questions, but example {number + 1} has no group.")
        groups.setdefault(example.group, []).append(number)
    return groups


def _check_positive(name: str, labels: Sequence[str]) -> None:
    if POSITIVE not in labels:
        raise DataError(f"The metric {name!r} needs the class {POSITIVE!r}; the classes are {', '.join(labels)}.")
