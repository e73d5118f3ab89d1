"""What a run is on, decided once: a class for each kind of problem, which says what of a config it reads and builds it.

``config.builder`` is that of a config: for functions `build_function.py`, for classes that a language model reads from texts
`build_text.py`, for classes that a matcher compares with inputs `build_matcher.py`. What all of them build is `Built`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from maao.core.acceptance import race_in
from maao.core.seeds import seed_for
from maao.data.dataset import Dataset, InputForm
from maao.data.folds import told_alone
from maao.data.given import GivenInputs
from maao.errors import ConfigError
from maao.mentors.context import Input, MentorContext, ReadByName
from maao.problems.kinds import MatcherOptions, architecture, is_masked
from maao.problems.settings import ModelConfig
from maao.problems.texts import LoadedModels
from maao.progress import job
from maao.protocols import Codec, Frozen
from maao.types import JSON, Example, Splits

if TYPE_CHECKING:
    from maao.build import RunComponents
    from maao.config import Config
    from maao.problems.frozen import FrozenReader


@dataclass(frozen=True)
class Built:
    """A problem, and what of a run depends on it.

    Attributes:
        config: the run's, with what was left out.
        splits: the examples; None where there are none.
        frozen: the frozen model; None where there is none.
        class_names: the classes in words.
        loaded: the language models of the run.
        steps_per_epoch: gradient steps that read `train` once.
        average_every: how many gradient steps make an epoch to a stage that averages.
    """

    config: Config
    problem: Any
    codec: Codec[Any]
    splits: Splits | None = None
    frozen: Frozen | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loaded: LoadedModels = field(default_factory=LoadedModels)
    steps_per_epoch: int = 1
    average_every: int = 1


@dataclass(frozen=True)
class Builder:
    """Builds what a run is on from its config. Making one loads nothing."""

    config: Config
    sections: ClassVar[tuple[str, ...]]  # of a config, that this kind of problem reads and others do not

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return what builds the problem of a config."""
        return cls(config)

    @property
    def input(self) -> Input:
        """What the problem reads, as the mentor's wording tells it."""
        raise NotImplementedError

    @property
    def starts_are_alike(self) -> bool:
        """Whether every random start is the same point."""
        return False

    def unread(self) -> dict[str, str]:
        """Return the settings that this problem does not read though its sections have them, each with the reason."""
        return {}

    def check(self) -> None:
        """Refuse settings that cannot go together. Loads nothing. Raises `ConfigError`."""

    def load_data(self) -> Dataset | None:
        """Read and split the examples that the config names; None where the problem has none."""
        return None

    def inputs(self, run: str) -> GivenInputs:
        """Return how inputs to predict are read. Raises `ConfigError`, which names the `run`, where nothing is predicted."""
        raise NotImplementedError

    def build(self, splits: Splits | None, loaded: LoadedModels | None) -> Built:
        """Build the problem.

        Args:
            splits: examples at hand, in place of the config's data section.
            loaded: models that are loaded already.
        """
        raise NotImplementedError

    def build_for_use(self, splits: Splits, class_names: tuple[str, ...], like: RunComponents | None) -> Built:
        """Build it for a point of a run that is over; `like` are parts of that run, whose models are used."""
        raise NotImplementedError

    def reread(self, parts: RunComponents) -> Dataset:
        """Return the data set of a run, with its examples as they are and whatever opens them."""
        raise NotImplementedError

    def given(self, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        """Return examples that a run is used on as a data set, with whatever opens them."""
        raise NotImplementedError

    def frozen(self, dataset: Dataset, like: RunComponents | None = None) -> FrozenReader:
        """Build what reads the examples of a data set by the frozen model alone, for baselines.

        Args:
            like: parts of the same run, whose model is used.

        Raises:
            ConfigError: there is no such model.
        """
        raise ConfigError("A function has no frozen model that could read examples.")

    def for_mentor(self, parts: RunComponents, run: MentorContext) -> MentorContext:
        """Return what a mentor may use of the problem and its data, beside what is the same of all."""
        raise NotImplementedError

    def described(self, params: Any, problem: Any, parts: RunComponents, labels: tuple[str, ...]) -> JSON:
        """Return what a point belongs to, for one who uses it elsewhere: the template and the classes."""
        raise NotImplementedError


class ClassesBuilder(Builder):
    """What is the same of all that tells the classes of inputs."""

    sections: ClassVar[tuple[str, ...]] = ("model", "data", "predict")

    @property
    def input(self) -> Input:
        return self.config.data.options.input

    @property
    def starts_are_alike(self) -> bool:
        return self.config.model.initial in ("text", "labels")

    def unread(self) -> dict[str, str]:
        method = self.config.model.method
        if method.options.is_trained:
            return {}
        told = f"model.method is '{method.name}', which trains nothing: drop it"
        given = self.config.data.options.changed()
        return {
            **({"stage.lr_grid": told} if self.config.stage.options.lr_grid else {}),
            **{f"data.{key}": told for key in ("lines", "lines_weight") if key in given},
        }

    def load_data(self) -> Dataset:
        return load_data(self.config)

    def reread(self, parts: RunComponents) -> Dataset:
        return Dataset(parts.examples, parts.class_names)

    def given(self, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        return Dataset(splits, class_names)

    def inputs(self, run: str) -> GivenInputs:
        options = self.config.model.kind.options
        return self.config.data.options.given_inputs(options.input_fields, options.input_text)


@job("reading the data")
def load_data(config: Config) -> Dataset:
    """Read and split the examples that a config names, apart from those of a run that it begins from."""
    found: Dataset = config.data.options.load(config.seed, input_form(config))
    if config.from_run is None:
        return found
    from maao.origin import kept_apart

    return replace(found, splits=kept_apart(found.splits, config.from_run))


def input_form(config: Config) -> InputForm:
    """Return what the model of a config reads of an example."""
    return InputForm(template_fields(config.model), config.task is None or _is_cloze(config.model))


def template_fields(model: ModelConfig) -> tuple[str, ...]:
    """Return the fields of an example that the template reads."""
    return tuple(name for name in model.kind.options.input_fields if name != "choice")


def _is_cloze(model: ModelConfig) -> bool:
    """Say whether words answer: a head reads a task's examples as they were published."""
    from maao.problems.towers.text.loading import kind_of

    if isinstance(model.kind.options, MatcherOptions):
        return False
    kind = architecture(model)
    if kind == "auto":
        kind = kind_of(model.name, model.revision, trust_remote_code=model.trust_remote_code)
    return kind not in ("encoder", "head") or is_masked(model)


def out_of_fold(built: Built) -> Built:
    """Return the same with what is tuned on all labels judged out of fold: every kind of problem that has examples alike."""
    from maao.problems.cross_validated import cross_validated

    problem, splits = cross_validated(built.problem), built.splits
    reads_labels = splits is not None and built.config.model.method.options.is_trained
    told = told_alone(splits.train, splits.folds) if splits is not None and reads_labels else ()
    return replace(built, problem=problem, codec=problem.codec, notes=(*built.notes, *told))


def saying_lines(built: Built) -> Built:
    """Return the same with a problem that takes class lines, where a mentor may say some or the run that it begins from has some."""
    from maao.problems.classification import ClassificationProblem
    from maao.problems.framed import FramedProblem
    from maao.problems.lined import lined, why_no_lines

    config, problem = built.config, built.problem
    if not isinstance(problem, ClassificationProblem | FramedProblem):
        return built
    may_say = config.mentor.name == "custom" and not why_no_lines(problem)  # a mentor of one's own may say anything
    if not (may_say or config.mentor.options.proposes_lines or _begins_with_lines(config)):
        return built
    race = race_in(config.accept.options.build())
    found = lined(problem, seed_for(config.seed, "initial"), whole=race is not None and race.alone > 0 and problem.splits.num_folds > 0)
    return replace(built, problem=found, codec=found.codec)


def _begins_with_lines(config: Config) -> bool:
    if config.from_run is None:
        return False
    from maao.origin import read_origin
    from maao.problems.lined import LINES

    return LINES in read_origin(config.from_run).params


def read_by_name(builder: Builder, parts: RunComponents) -> ReadByName:
    """Return what reads texts by the frozen model and the names of the classes alone, in the place of a run's examples."""

    def read(texts: Sequence[str]) -> Iterator[list[float]]:
        splits = parts.examples
        field = next((name for example in (*splits.train, *splits.select, *splits.test) for name in example.fields), "text")
        rows = [Example({field: text}, splits.labels[0]) for text in texts]
        for row in builder.frozen(Dataset(splits, parts.class_names), parts).zero_shot(rows).softmax(-1):
            yield row.tolist()  # one at a time: as numbers of Python all of them would be many times as large

    return read


NOTHING_TO_FILL = "mentor.fills is for problems of language: pictures and functions have no template or label words to fill."


def nothing_to_label(config: Config, run: str = "The run") -> NoReturn:
    """Refuse to use a run that tells no classes."""
    raise ConfigError(f"{run} tunes the function {config.function.name}: it has nothing to predict or export.")
