"""A tuned point in use: built without the data that it was tuned on, it labels inputs and is judged on labelled ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maao.build import RunComponents, build_for_use
from maao.builder import input_form, nothing_to_label
from maao.config import Config
from maao.data.checks import Unread
from maao.data.given import GivenInputs
from maao.data.labels import match_labels
from maao.data.memory import examples_in_memory
from maao.data.text_data import TextData
from maao.errors import ConfigError, DataError
from maao.evaluation.evaluation import Evaluation, evaluation
from maao.evaluation.readings import Floats
from maao.evaluation.undecided import Thresholds
from maao.protocols import Deployable, Params, Pictured
from maao.types import JSON, Example, Score

if TYPE_CHECKING:
    from PIL import Image


NO_NUMBER = "the model gives no number for it (NaN or infinity)"


@dataclass(frozen=True)
class Prediction:
    """A label and how probable each label is.

    Attributes:
        label: the class; None where the input is left undecided.
        probabilities: of every class.
        cut: the tokens of a long text that did not fit the model's context.
        undecided: why it is left undecided: "unlike" all that the run knows, or "unsure" between classes; "": it is decided.
    """

    label: str | None
    probabilities: Mapping[str, float]
    cut: int = 0
    undecided: str = ""

    @property
    def guess(self) -> str:
        """The most probable class, whether it is decided or not; the first of equals."""
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    @property
    def probability(self) -> float:
        """How probable the most probable class is."""
        return self.probabilities[self.guess]


@dataclass(frozen=True)
class Deployed:
    """A point and the problem that reads it.

    Attributes:
        parts: what the problem was built of.
        params: the point.
        labels: the classes, in order.
        thresholds: what is left undecided; None: nothing is.
    """

    parts: RunComponents
    problem: Deployable
    params: Params
    labels: tuple[str, ...]
    thresholds: Thresholds | None = None

    def __repr__(self) -> str:
        return f"Deployed({self.parts.config.model.name!r}, {len(self.labels)} labels)"

    def predictions(self, inputs: Sequence[Example]) -> list[Prediction | Unread]:
        """Return a prediction for each input, and in the place of one that cannot be read, why."""
        try:
            scores = self.problem.class_scores(self.params, inputs)
        except DataError as error:  # one of them: the others are read without it
            if len(inputs) == 1:
                return [Unread("", str(error), inputs[0].fields)]
            middle = len(inputs) // 2
            return [*self.predictions(inputs[:middle]), *self.predictions(inputs[middle:])]
        cuts = self.problem.cuts(self.params, inputs)
        reasons = [""] * len(cuts) if self.thresholds is None else self.thresholds.reasons(scores.numpy()).tolist()
        rows = scores.softmax(-1).tolist()
        return [
            _prediction(self.labels, row, cut, why) if all(map(math.isfinite, row)) else Unread("", NO_NUMBER, one.fields)
            for one, row, cut, why in zip(inputs, rows, cuts, reasons, strict=True)
        ]

    def as_read(self, params: Params) -> tuple[Any, Params]:
        """Return the problem that reads a point (in the template that a proposal filled in, say), and what of the point that one reads."""
        from maao.problems.classification import ClassificationProblem
        from maao.problems.framed import FramedProblem, without_pair
        from maao.problems.lined import without_lines

        if isinstance(self.problem, FramedProblem | ClassificationProblem):
            return self.problem.problem_for(params), without_lines(without_pair(params))
        return self.problem, params

    def about(self, problem: Any, params: Params) -> JSON:
        """Return what a point belongs to: the model, the method, the template, the classes."""
        config, model = self.parts.config, self.parts.config.model
        own = {"model": model.name, "revision": model.revision, "trust_remote_code": model.trust_remote_code, "method": model.method.name}
        return {**own, **config.builder.described(params, problem, self.parts, self.labels)}


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
    return _labelled(given, config, name, labels)[0]


def _labelled(given: object, config: Config, name: str, labels: Sequence[str] | None) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Return labelled examples, and notes on how they were read."""
    data = config.data.options
    form = replace(input_form(config), fields=tuple(name for name in inputs_of(config).fields if name != "choice"))
    if isinstance(given, str | Path):
        return data.read_labelled(given, form, labels)
    if data.separator is not None:
        raise ConfigError(f"data.separator would be ignored: `{name}` is no file.")
    columns = data.columns(form.fields)
    columns["labels"] = labels
    return examples_in_memory(given, f"`{name}`", **columns), ()


@dataclass(frozen=True)
class Judged:
    """Labelled examples with what a point reads of them.

    Attributes:
        of: what they are, in words.
        parts: what the problem that reads them was built of.
        examples: those of known classes, with the run's own names of these as labels.
        score: what the problem says of them.
        class_scores: ``(num_examples, num_classes)``.
        others: examples of no known class, and their class scores; None where there are none.
        notes: how they were read.
    """

    of: str
    parts: RunComponents
    examples: tuple[Example, ...]
    score: Score
    class_scores: Floats
    others: tuple[tuple[Example, ...], Floats] | None = None
    notes: tuple[str, ...] = ()

    def evaluation(self, labels: Sequence[str], thresholds: Thresholds | None) -> Evaluation:
        """Return all that is to say of it; `thresholds` say what is left undecided. Raises `MaaoError` without scikit-learn."""
        return evaluation(
            self.examples,
            labels,
            self.class_scores,
            self.score,
            of=self.of,
            others=self.others,
            thresholds=thresholds,
            notes=self.notes,
        )

    def picture(self, example: Example) -> Image.Image:
        """Return the picture of one of the examples. Raises `ConfigError` where they are no pictures."""
        return picture_of(self.parts.problem, example)


def picture_of(problem: object, example: Example, run: str = "The run") -> Image.Image:
    """Return the picture of an example of a problem's data, as PIL opens it.

    Raises:
        ConfigError: the problem is not on pictures.
    """
    if not isinstance(problem, Pictured):
        raise ConfigError(f"{run} is not on pictures: there is none to show of an example (write the mistakes into a .csv).")
    return problem.picture(example.fields["image"])


def judged_examples(
    config: Config,
    labels: tuple[str, ...],
    class_names: tuple[str, ...],
    params: Params,
    given: object,
    *,
    none_of_these: bool = False,
    separator: str | None = None,
    like: RunComponents | None = None,
) -> Judged:
    """Return what a point reads of labelled examples that were given: the path of a file, or examples in memory.

    Args:
        none_of_these: keep examples with labels that the run does not know, as such of none of its classes.
        separator: of the columns of a .csv file; None: as the run's config says.
        like: parts of the same run, whose models are used.

    Raises:
        DataError: there are none, or they have labels that the run does not know.
    """
    of = str(given) if isinstance(given, str | Path) else "the examples given"
    found, notes = _labelled(given, _to_read(config, given, separator), "examples", labels)
    if not found:
        raise DataError(f"Nothing can be evaluated on {of}: there are no examples.")
    matched = match_labels(found, labels, config.data.options.label_names)
    if matched.unknown and not (none_of_these and matched.examples):
        advice = " To count them as none of these classes: --none-of-these (in Python none_of_these=True)." if matched.examples else ""
        raise DataError(f"{of}: {matched.told_unknown(labels)}{advice}")
    used = deployed(config, labels, class_names, params, test=matched.examples, like=like)
    ((score, scores),) = used.problem.judged([params], "test")
    others = (matched.others, used.problem.class_scores(params, matched.others).numpy()) if matched.others else None
    return Judged(of, used.parts, matched.examples, score, scores.numpy(), others, (*notes, *matched.notes))


def _to_read(config: Config, given: object, separator: str | None) -> Config:
    """Return a config by which labelled examples are read as they stand: `match_labels` names their labels."""
    data = config.data
    if isinstance(data.options, TextData):
        is_csv = isinstance(given, str | Path) and Path(given).suffix.lower() == ".csv"
        data = data.with_options(label_names=None, separator=separator or (data.options.separator if is_csv else None))
    elif separator is not None:
        raise ConfigError("--separator would be ignored: it is for a table of texts in a .csv file. Drop it.")
    return config.model_copy(update={"data": data})


def _prediction(labels: Sequence[str], row: Sequence[float], cut: int, undecided: str) -> Prediction:
    found = Prediction(None, dict(zip(labels, row, strict=True)), cut, undecided)
    return found if undecided else replace(found, label=found.guess)
