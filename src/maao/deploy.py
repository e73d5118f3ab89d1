"""A tuned point in use: built without the data that it was tuned on, it labels inputs and is judged on labelled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maao.build import RunComponents, build_for_use
from maao.builder import nothing_to_label
from maao.config import Config
from maao.data.checks import Unread
from maao.data.files import read_examples
from maao.data.given import GivenInputs
from maao.data.memory import examples_in_memory
from maao.errors import ConfigError, DataError
from maao.protocols import Deployable, Params
from maao.types import JSON, Example, Mistake, Score


@dataclass(frozen=True)
class Prediction:
    """A label and how probable each label is. `cut` counts the tokens of a long text that did not fit the model's context."""

    label: str
    probabilities: Mapping[str, float]
    cut: int = 0

    @property
    def probability(self) -> float:
        return self.probabilities[self.label]


@dataclass(frozen=True)
class Deployed:
    """A point and the problem that reads it.

    Attributes:
        parts: what the problem was built of.
        params: the point.
        labels: the classes, in order.
    """

    parts: RunComponents
    problem: Deployable
    params: Params
    labels: tuple[str, ...]

    def predictions(self, inputs: Sequence[Example]) -> list[Prediction | Unread]:
        """Return a prediction for each input, and in the place of one that cannot be read, why."""
        try:
            rows = self.problem.probabilities(self.params, inputs).tolist()
        except DataError as error:  # one of them: the others are read without it
            if len(inputs) == 1:
                return [Unread("", str(error), inputs[0].fields)]
            middle = len(inputs) // 2
            return [*self.predictions(inputs[:middle]), *self.predictions(inputs[middle:])]
        cuts = self.problem.cuts(self.params, inputs)
        return [_prediction(self.labels, row, cut) for row, cut in zip(rows, cuts, strict=True)]

    def as_read(self) -> tuple[Any, Params]:
        """Return the problem that reads the point (in the template that a proposal filled in, say), and the point as that one takes it."""
        from maao.problems.classification import ClassificationProblem
        from maao.problems.framed import FramedProblem, without_pair

        if isinstance(self.problem, FramedProblem | ClassificationProblem):
            return self.problem.problem_for(self.params), without_pair(self.params)
        return self.problem, self.params

    def about(self, problem: Any) -> JSON:
        """Return what the point belongs to: the model, the method, the template, the classes."""
        config, model = self.parts.config, self.parts.config.model
        own = {"model": model.name, "revision": model.revision, "method": model.method.name}
        return {**own, **config.builder.described(self.params, problem, self.parts, self.labels)}


def deployed(
    config: Config,
    labels: Sequence[str],
    class_names: Sequence[str],
    params: Params,
    *,
    test: tuple[Example, ...] = (),
    like: RunComponents | None = None,
) -> Deployed:
    """Return a tuned point in use.

    Args:
        test: labelled examples, which the problem then has as its `test`.
        like: parts of the same run, whose models are used.

    Raises:
        ConfigError: the run's problem labels nothing.
    """
    inputs_of(config)  # tells where there is nothing to label
    parts = build_for_use(config, tuple(labels), tuple(class_names), test=test, like=like)
    if not isinstance(parts.problem, Deployable):
        nothing_to_label(config)
    return Deployed(parts, parts.problem, params, tuple(labels))


def inputs_of(config: Config, run: str = "The run") -> GivenInputs:
    """Return how the inputs of a run are read. Loads no model.

    Raises:
        ConfigError: it labels nothing; `run` names it.
    """
    return config.builder.inputs(run)


def labelled_examples(given: object, config: Config, name: str, labels: Sequence[str] | None) -> tuple[Example, ...]:
    """Return the labelled examples of a file or of what is in memory, by the same rules; `name` names them in errors."""
    fields, data = tuple(name for name in inputs_of(config).fields if name != "choice"), config.data.options
    columns, separator = data.columns(fields), data.separator
    columns["labels"] = labels
    if isinstance(given, str | Path):
        return read_examples(given, separator=separator, **columns)
    if separator is not None:
        raise ConfigError(f"data.separator would be ignored: `{name}` is no file.")
    return examples_in_memory(given, f"`{name}`", **columns)


def evaluated(
    config: Config, labels: Sequence[str], class_names: Sequence[str], params: Params, given: object, like: RunComponents | None
) -> Score:
    """Return how a point does on labelled examples that were given.

    Raises:
        DataError: there are none, or they have labels that the run does not know.
    """
    examples = labelled_examples(given, config, "examples", labels)
    unknown = sorted({example.label for example in examples if not example.choices} - {*labels})
    if unknown or not examples:
        told = f"they have the labels {', '.join(unknown)}, which the run does not know" if unknown else "there are none"
        raise DataError(f"The examples cannot be judged: {told}. Its labels: {', '.join(labels)}.")
    used = deployed(config, labels, class_names, params, test=examples, like=like)
    score: Score = used.parts.problem.score([params], "test")[0]
    return score


def most_confident_mistakes(
    examples: Sequence[Example], labels: Sequence[str], probabilities: Sequence[Sequence[float]], count: int
) -> list[Mistake]:
    """Return the examples that are read wrongly, those first that are read so with the most confidence.

    Args:
        probabilities: ``(num_examples, num_classes)``.

    Example:
        >>> one, other = Example({"text": "a"}, "x"), Example({"text": "b"}, "x")
        >>> [mistake.example.fields["text"] for mistake in most_confident_mistakes([one, other], ["x", "y"], [[0.4, 0.6], [0.1, 0.9]], 1)]
        ['b']
    """
    numbers = {label: i for i, label in enumerate(labels)}
    found = []
    for example, row in zip(examples, probabilities, strict=True):
        own = numbers[example.label]
        read = max(range(len(row)), key=lambda i: row[i])
        if read != own:
            found.append(Mistake(example, labels[read], row[read], row[own]))
    return sorted(found, key=lambda mistake: (-mistake.probability, tuple(mistake.example.fields.values())))[:count]


def _prediction(labels: Sequence[str], row: Sequence[float], cut: int) -> Prediction:
    pair = dict(zip(labels, row, strict=True))
    return Prediction(max(pair, key=lambda label: pair[label]), pair, cut)
