"""What a notebook calls, and what the command line calls: tune, resume, replay, load, and the `Result` of a run.

A run is a folder. Everything here drives the generator `alternate` and hands each finished round to the store; nothing is kept elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from maao.build import (
    DEFAULT_TEMPLATE,
    Asked,
    OwnMentor,
    Parts,
    at_most,
    build,
    build_for_use,
    build_mentor,
    build_stage,
    columns_of,
    environment,
    frozen_digest,
    shared_stage,
)
from maao.config import Config, expand_paths, make_config, set_value, stored_config, unread_sections
from maao.core.budget import until
from maao.core.loop import alternate, best_round
from maao.core.lr_finder import LR_GRID, LR_SEARCH, LrSearch, Trial, try_rates
from maao.core.patience import is_settled, last_best, until_settled
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.core.words import in_words
from maao.data.checks import Unread, as_mapping, refuse
from maao.data.files import read_examples
from maao.data.hub import NoSuchLabels
from maao.data.memory import examples_in_memory, splits_in_memory, things_to_predict, to_predict
from maao.data.splits import SPLITS, from_parts
from maao.errors import ConfigError, DataError, StoreError
from maao.llm.budget import NOT_MADE
from maao.llm.chat import Reply, Request
from maao.llm.ledger import MemoryLedger, Wrapper
from maao.mentors.language_model import NO_REPLY, failures
from maao.protocols import ChatModel
from maao.store.digest import params_digest, round_digest
from maao.store.files import sync_folder, write_durably, write_error
from maao.store.recorded import EXAMPLES, IN_RUN, ConfigRecord, EnvironmentRecord, ExamplesRecord
from maao.store.run import CONFIG, ENVIRONMENT, Final, RunFolder, check_vacant, is_in_use, read_json
from maao.types import Cost, Example, Observation, Round, Splits, total_cost

# how the proposals of a second mentor beside the first begin their source
SOURCES_BESIDE = {
    "random_restart": "random restart",
    "random_text": "random text",
    "perturb": "perturb",
    "evolution": "evolution",
    "scripted": "script",
}

T = TypeVar("T")
Format = Literal["text", "tensor", "peft", "peft-classifier", "ctx", "classes"]


class Watch:
    """Told what happens while a run goes on. Does nothing; the terminal's bars are a child of it."""

    def rate(self, trial: Trial) -> None:
        """A learning rate was tried, before the run starts."""

    def started(self, parts: Parts, asked: Asked, folder: Path, done: int) -> None: ...

    def step(self, observation: Observation[Any]) -> None: ...

    def call(self, request: Request) -> None: ...

    def round(self, finished: Round[Any, Any]) -> None: ...

    def testing(self) -> None: ...


class _Told(Wrapper):
    """A chat model that says so before it is asked."""

    def __init__(self, model: ChatModel, on_call: Callable[[Request], None]) -> None:
        super().__init__(model)
        self.on_call = on_call

    def complete(self, request: Request) -> Reply:
        self.on_call(request)
        return self.model.complete(request)


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
class Replay:
    """What a replay found: how many rounds are the same bit for bit, and how many model calls were made.

    `llm_calls` is 0 for maao's own mentors and for those that ask through `Parts.record`. Any other mentor of one's own or of a plugin
    is asked again; whom it asks then is not known: None. `warning` is that of the recorded run (see `Result.warning`).
    """

    rounds: int
    same: int
    llm_calls: int | None
    recorded: str
    replayed: str
    warning: str = ""

    @property
    def equal(self) -> bool:
        return self.same == self.rounds and self.recorded == self.replayed


class Result:
    """A run's outcome, read from its folder.

    Example (a plain function, tuned in a second):
        >>> import tempfile
        >>> config = make_config({"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 5}})
        >>> result = run(config, Path(tempfile.mkdtemp()) / "run")
        >>> len(result.history)
        3
    """

    def __init__(self, folder: str | Path, parts: Parts | None = None) -> None:
        self.folder = Path(folder)
        self._parts = parts

    @cached_property
    def _stored(self) -> _Stored:
        with _open(self.folder, write=False) as stored:
            return _Stored(
                stored.history(),
                stored.finals(),
                _config(stored),
                _recorded(stored),
                "interrupted" if stored.status == "running" and not is_in_use(stored.path) else stored.status,
                stored.status_reason,
            )

    @property
    def config(self) -> Config:
        return self._stored.config

    @property
    def history(self) -> tuple[Round[Any, Any], ...]:
        """All rounds, in order."""
        return self._stored.history

    @property
    def status(self) -> str:
        return self._stored.status

    @property
    def status_reason(self) -> str:
        return self._stored.status_reason

    @property
    def warning(self) -> str:
        """Why this is no run with a mentor, in words: it never gave a reply, or nothing in its replies could be used. "": it is one."""
        return gave_nothing(self.history, self.config)

    @property
    def environment(self) -> dict[str, Any]:
        return self._stored.environment

    @property
    def finals(self) -> dict[str, Final]:
        """The declared points on `test`, by name: "untuned", "chosen" (the tuned soft prompt), "words" (its words alone)."""
        return {final.name: final for final in self._stored.finals}

    @property
    def chosen(self) -> Round[Any, Any]:
        """The round that ended on the lowest loss on `select`."""
        self._check_begun()
        return best_round(self.history)

    def _check_begun(self) -> None:
        if not self.history:
            raise StoreError(f"The run {self.folder} has no finished round yet: `maao resume {self.folder}` goes on with it.")

    @property
    def params(self) -> Any:
        """The chosen params: ``{"prompt": (num_virtual_tokens, embed_dim), ...}``."""
        return self.chosen.state.params

    @property
    def digest(self) -> str:
        """A hash of the final parameters: equal for equal runs."""
        self._check_begun()
        return params_digest(self.history[-1].state.params, _serializer())

    @property
    def text(self) -> str:
        """The chosen soft prompt's words."""
        projection = self.chosen.clues.projection
        return projection.text if projection else ""

    @property
    def filled(self) -> dict[str, str]:
        """What a proposal filled beside the chosen soft prompt: `template`, `label_words.LABEL`; empty where all is as the config says."""
        from maao.problems.language.frame import Frame

        return (Frame.of(self.params) or Frame()).fields(self.environment["labels"])

    @property
    def lr_search(self) -> LrSearch | None:
        """The search that chose `stage.lr` before the run; None where there was none."""
        recorded = self.environment.get("lr_search")
        return None if recorded is None else LrSearch.from_json(recorded)

    @property
    def cost(self) -> Cost:
        """What the run spent: a search for the learning rate, the texts read once before, its rounds, the reading of `test` at the end."""
        tested = sum((final.score.cost for final in self.finals.values()), Cost())
        before = Cost(model_tokens=self.environment["prepared_tokens"])
        if self.lr_search is not None:
            before += self.lr_search.cost
        return before + total_cost(self.history) + tested

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an example that the template reads: what a mapping for `predict` must name. Loads no model."""
        from maao.problems.towers.text.template import Template

        if self._sees:
            return ("image",)
        self._check_language()
        model = self.config.model
        return Template.parse(model.template or DEFAULT_TEMPLATE).fields

    def predict(self, inputs: Any) -> list[Prediction]:
        """Return a prediction for each thing of a list, an array, a Series, a frame or a data set, in its order.

        A thing is a text, a mapping of the template's fields (or of the columns that the run's data had; others are not looked at), or an
        example (its label is not looked at). A mere text stands for the template's only field, whatever its name; in a run on pictures it
        is the path of an image file.

        Raises:
            DataError: some cannot be read; all of them are named. `try_predict` predicts the others.
        """
        examples, names = self._to_predict(inputs, None)
        if not self._sees:  # a picture shows only when it is opened that it cannot be read
            _all_read(examples, f" The template {self._template!r} is read.")
        return _all_read(self._predict(examples, names))

    def try_predict(self, inputs: Any, places: Sequence[str] | None = None) -> list[Prediction | Unread]:
        """Return a prediction for each input as `predict` does, and in the place of each that cannot be read, why.

        Args:
            inputs: as for `predict`.
            places: what each is called ("line 3"); by default "number 3".

        Example:
            >>> result = maao.load("runs/demo-seed0")  # doctest: +SKIP
            >>> result.try_predict(["Shares fall", ""])[1].reason  # doctest: +SKIP
            "the field 'text' is empty"
        """
        return self._predict(*self._to_predict(inputs, places))

    def _to_predict(self, inputs: Any, places: Sequence[str] | None) -> tuple[list[Example | str | Unread], Sequence[str]]:
        """Return what there is to predict, examples or the paths of pictures, and what each is called."""
        if self._sees and isinstance(inputs, str | Path | Mapping):
            raise DataError("Give `predict` a list of image files, not one file: predict([path]).")
        things = things_to_predict(inputs)
        names = places or [f"number {number}" for number in range(1, len(things) + 1)]
        if self._sees:
            return [_path(thing, name) for thing, name in zip(things, names, strict=True)], names
        if not things:
            return [], names
        fields, named = self.fields, self.config.data.text_fields or {}
        return [to_predict(thing, fields, named, name) for thing, name in zip(things, names, strict=True)], names

    def _predict(self, examples: Sequence[Example | str | Unread], names: Sequence[str]) -> list[Prediction | Unread]:
        """Return the predictions of those that could be read, each in its place."""
        found: dict[int, Prediction | Unread] = {place: one for place, one in enumerate(examples) if isinstance(one, Unread)}
        readable = {place: one for place, one in enumerate(examples) if not isinstance(one, Unread)}
        if readable:
            answers = self._predict_images(list(readable.values())) if self._sees else self._predict_texts(list(readable.values()))
            found |= dict(zip(readable, answers, strict=True))
        answered = (found[place] for place in range(len(examples)))
        return [replace(one, place=name) if isinstance(one, Unread) else one for one, name in zip(answered, names, strict=True)]

    def _predict_texts(self, examples: Sequence[Any]) -> Sequence[Prediction | Unread]:
        problem, labels = self._problem()
        rows = problem.probabilities(self._tuned, examples).tolist()
        inputs = [problem.tokenizer.example(example) for example in examples]
        cuts = [max([one.cut, *(choice.cut for choice in one.choices)]) for one in inputs]
        return [_prediction(labels, row, cut) for row, cut in zip(rows, cuts, strict=True)]

    def _predict_images(self, paths: Sequence[Any]) -> list[Prediction | Unread]:
        """Return predictions part by part; of a part in which a picture cannot be read, one by one."""
        from maao.data.images import Files

        problem, labels = self._problem()
        found: list[Prediction | Unread] = []
        size = self.config.vision.score_batch
        for part in (paths[start : start + size] for start in range(0, len(paths), size)):
            try:
                rows = problem.probabilities(self.params, part, Files(bits=self.config.images.bits)).tolist()
                found += [_prediction(labels, row) for row in rows]
            except DataError as error:
                found += [Unread("", str(error), part[0])] if len(part) == 1 else self._one_by_one(part)
        return found

    def _one_by_one(self, paths: Sequence[str]) -> list[Prediction | Unread]:
        return [one for path in paths for one in self._predict_images([path])]

    @property
    def _template(self) -> str:
        return self.config.model.template or DEFAULT_TEMPLATE

    @property
    def _sees(self) -> bool:
        """Whether the run is on pictures."""
        return self.config.problem == "vision"

    def mistakes(self, count: int = 24) -> tuple[Any, Callable[[str], Any]]:
        """Return the pictures of `select` that are read wrongly with the most confidence, and what opens them. Reads the data anew.

        Raises:
            ConfigError: the run is not on pictures.
        """
        if not self._sees:
            raise ConfigError(f"The run {self.folder} is not on pictures: `maao show --clues` tells what it reads wrongly.")
        parts = build(self.config)
        _refuse_changed(self.folder, self.environment, environment(parts))
        return parts.problem.mistakes(self.params, "select", count), parts.problem.picture

    def save(self, path: str | Path, format: Format = "tensor") -> list[Path]:
        """Export the chosen prompt into a folder: "text", "tensor", or as a PEFT adapter.

        Runs on pictures: "text", "tensor" (all that was trained), "ctx" (as CoOp's checkpoints hold a context), "classes" (class features
        for serving without a text tower).

        "peft" is an adapter for the kind of model that the run tuned (templates that begin with ``{slots}``, or prefix tuning);
        "peft-classifier" one for transformers' classification model of that type, where that can give the same class scores.
        """
        problem, _ = self._problem()
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._sees:
                return self._save_vision(problem, folder, format)
            return self._save(problem, folder, format)
        except OSError as error:
            raise StoreError(f"Cannot write to {folder}: {error.strerror or error}.") from error

    def _save(self, problem: Any, folder: Path, format: Format) -> list[Path]:
        from maao.export.language import export_tensor, export_text, write_about
        from maao.export.peft import export_peft

        about = self._about(problem)
        if format == "text":
            paths = export_text(self._words(problem), folder)
            return [*paths, write_about(about, folder)] if self.filled else paths  # they are of no use without what stands around them
        if format == "tensor":
            return export_tensor(problem, self._tuned, folder, about)
        if format in ("peft", "peft-classifier"):
            texts = ("A short text.", "Another text, which is a little longer than that.")
            probes = [dict.fromkeys(problem.template.fields, text) for text in texts]
            paths, _ = export_peft(problem, self._tuned, folder, about, probes, classifier=format == "peft-classifier")
            return paths
        raise ConfigError(f"Unknown format '{format}': use text, tensor, peft or peft-classifier.")

    def _save_vision(self, problem: Any, folder: Path, format: Format) -> list[Path]:
        from maao.export.language import export_text
        from maao.export.vision import export_classes, export_ctx, export_params

        if format == "text":
            if problem.codec is None:
                raise ConfigError(f"'{problem.method.name}' trains no prompt: there are no words to export.")
            return export_text(self._words(problem), folder)
        if format == "ctx":
            return export_ctx(self.params, folder)
        if format == "classes":
            return export_classes(problem, self.params, folder, self.environment["labels"])
        if format != "tensor":
            raise ConfigError(f"A run on pictures has no format '{format}': use text, tensor, ctx or classes.")
        vision = self.config.vision
        about = {
            "model": vision.name,
            "revision": vision.revision,
            "method": vision.method,
            "template": vision.template,
            "labels": self.environment["labels"],
            "class_names": self.environment["class_names"],
            "text": self._words(problem) if problem.codec is not None else "",
            **self._evidence(),
        }
        return export_params(self.params, folder, about)

    def _evidence(self) -> dict[str, Any]:
        """Return what an export tells of how good a point is, and of where it comes from."""
        return {
            "select": {"loss": self.chosen.score.loss, **self.chosen.score.metrics},
            "test": {name: {"loss": final.score.loss, **final.score.metrics} for name, final in self.finals.items()},
            "params": params_digest(self.params, _serializer()),
            "run": self.folder.name,
            "packages": self.environment["packages"],
        }

    def _about(self, problem: Any) -> dict[str, Any]:
        assert self._parts is not None
        model = self._parts.config.model  # with what a task fills in
        labels = self.environment["labels"]
        return {
            "model": model.name,
            "revision": model.revision,
            "method": model.method,
            "template": str(problem.template),
            "labels": labels,
            "label_words": (problem.label_words or model.label_words or {label: label for label in labels})
            if problem.frozen.kind != "encoder"
            else None,
            "choices": self._has_choices(),
            "text": self._words(problem),
            **self._evidence(),
        }

    def _words(self, problem: Any) -> str:
        """Return the chosen soft prompt's words, found now where the run was made without clues."""
        return self.text or in_words(problem.codec, self.params)

    def _has_choices(self) -> bool:
        """Say whether examples come with answers of their own to choose from."""
        from maao.data.superglue import TASKS

        task = self.config.data.task
        return task is not None and TASKS[task].multiple_choice

    def _problem(self) -> tuple[Any, tuple[str, ...]]:
        """Return the problem, built without data if this result was loaded from its folder, and the labels."""
        if not self._sees:
            self._check_language()
        labels = tuple(self.environment["labels"])
        if self._parts is None:
            parts = build_for_use(self.config, labels, tuple(self.environment.get("class_names", ())))
            _refuse_changed(self.folder, self.environment, {"weights": frozen_digest(parts)})
            self._parts = parts
        problem = self._parts.problem
        return problem if self._sees else problem.framed(self.params), labels

    @property
    def _tuned(self) -> dict[str, Any]:
        """The chosen params as the problem of `_problem` reads them, which is in their frame."""
        from maao.problems.language.frame import without_frame

        return without_frame(self.params)

    def _check_language(self) -> None:
        config = self.config
        if config.problem != "language":
            raise ConfigError(f"The run {self.folder} tunes the function {config.function.name}: it has nothing to predict or export.")


@dataclass(frozen=True)
class _Stored:
    history: tuple[Round[Any, Any], ...]
    finals: tuple[Final, ...]
    config: Config
    environment: dict[str, Any]
    status: str
    status_reason: str


# -- running


def run(
    config: Config, folder: str | Path, *, splits: Splits | None = None, mentor: OwnMentor | None = None, watch: Watch | None = None
) -> Result:
    """Run a config into a new folder.

    With `stage.lr_grid`, the learning rate is searched first, once: the stored config holds the one that was chosen as `stage.lr`, the
    recorded environment what was tried and what it cost.

    Args:
        splits: examples at hand, in place of the config's data section; they are kept in the run folder.
        mentor: a mentor of your own, in place of the config's, or a function that makes one from the run's `Parts` (to resume such a run,
            pass it again).
    """
    watch = watch or Watch()
    if splits is not None:
        splits = _checked(splits)
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": IN_RUN, "train": None})})
    if mentor is not None:
        config = config.model_copy(update={"mentor": config.mentor.model_copy(update={"name": "custom"})})
    with suppress(OSError):  # what cannot be looked at is told when the folder is made
        check_vacant(Path(folder))  # before a model is loaded for nothing
    parts = build(config, splits)
    build_mentor(parts, MemoryLedger(), own=mentor).reach()  # what is wrong with it is said before a folder is made
    recorded = environment(parts)
    if config.stage.lr_grid:
        search = _search(parts, config.stage.lr_grid, watch)
        _check_time_left(parts, search)
        parts = _at_rate(parts, search.chosen.rate)
        recorded = {**recorded, LR_SEARCH: search.to_json()}
    values = parts.config.model_dump(mode="json", exclude=unread_sections(parts.config))
    stored = RunFolder.create(folder, config=values, environment=recorded, serializer=_serializer())
    with stored:
        if splits is not None:
            _keep_splits(stored.path, splits)
        return _drive(stored, parts, mentor, watch)


def find_lr(config: Config, *, splits: Splits | None = None, watch: Watch | None = None) -> LrSearch:
    """Try learning rates from a run's own beginning, without a run folder and without asking the mentor.

    Tries `stage.lr_grid`, or `LR_GRID` where it is empty: each rate walks `stage.lr_steps` steps and is scored on `select` where it ends.

    Raises:
        ConfigError: every rate diverged, or the budget does not reach.

    Example:
        >>> config = make_config({"problem": "function", "stage": {"lr_grid": [0.001, 0.1]}})
        >>> find_lr(config).chosen.rate
        0.1
    """
    if not config.stage.lr_grid:
        config = config.model_copy(update={"stage": config.stage.model_copy(update={"lr_grid": list(LR_GRID)})})
    parts = build(config, None if splits is None else _checked(splits))
    search = _search(parts, config.stage.lr_grid, watch or Watch())
    search.chosen  # noqa: B018  (raises where there is none)
    return search


def resume(folder: str | Path, *, mentor: OwnMentor | None = None, watch: Watch | None = None) -> Result:
    """Go on with a run where its last finished round ended; a finished run is returned as it is."""
    with _open(folder, write=True) as stored:
        if stored.status == "finished":
            return Result(folder)
        _check_mentor(stored, mentor, "resume")
        parts = _rebuild(stored)
        build_mentor(parts, MemoryLedger(), own=mentor).reach()  # where it cannot be asked, the run stays as it is
        stored.set_status("running")
        return _drive(stored, parts, mentor, watch or Watch())


def replay(folder: str | Path, *, mentor: OwnMentor | None = None, watch: Watch | None = None) -> Replay:
    """Run again from the beginning on the recorded replies, without asking any model, and compare bit for bit.

    A mentor of your own, or of a plugin, is asked again: it makes no call either if it asks through `Parts.record` (see `Replay`).
    """
    with _open(folder, write=False) as stored:
        history = stored.history()
        if not history:
            raise StoreError(f"The run {folder} has no finished round to replay.")
        _check_mentor(stored, mentor, "replay")
        parts = _rebuild(stored)
        if len(parts.plan) < len(history):
            raise StoreError(f"{folder}/config.json plans {len(parts.plan)} legs, but {len(history)} rounds are stored: was it changed?")
        asked = build_mentor(parts, stored.ledger, own=mentor, replay=history)
        (watch or Watch()).started(parts, asked, stored.path, 0)
        again: tuple[Round[Any, Any], ...] = ()
        for finished in _alternate(replace(parts, plan=parts.plan[: len(history)]), asked, (), watch or Watch()):
            again = (*again, finished)
            (watch or Watch()).round(finished)
        serializer = _serializer()
        digests = [(round_digest(a, serializer), round_digest(b, serializer)) for a, b in zip(history, again, strict=True)]
        same = next((i for i, (a, b) in enumerate(digests) if a != b), len(digests))
        recorded, replayed = (params_digest(h[-1].state.params, serializer) for h in (history, again))
        return Replay(len(history), same, asked.live_calls, recorded, replayed, gave_nothing(history, parts.config))


def load(folder: str | Path) -> Result:
    """Return the result of a run folder."""
    result = Result(folder)
    result.status  # noqa: B018  (reads the folder now, so that what is wrong with it is said here)
    return result


NOT_OF_TUNE = {"source", "train", "select", "test", "hub_config", "task", "protocol"}  # of the data section: where examples come from


def tune(
    *,
    model: str,
    train: Any,
    select: Any = None,
    test: Any = None,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    template: str = "{text} {slots} Topic:",
    mentor: str | Mapping[str, Any] | OwnMentor = "language_model",
    rounds: int = 3,
    steps: int = 30,
    seed: int = 0,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Result:
    """Tune a soft prompt of a frozen language model on labelled text.

    Args:
        model: hub name, folder, .gguf file or "packaged:...".
        train: the path of a file, or examples in memory: pairs ``(text, label)``, mappings, a pandas frame, a `datasets.Dataset`, a mapping
            of columns, ``(X, y)``. Files and memory obey one set of rules (`maao.data.checks.Columns`): the template's fields and "label"
            are columns, others are not read; ``settings={"data.text_fields": ..., "data.label_field": ...}`` names them otherwise. A
            `datasets.DatasetDict`, or a mapping with "train" in it, gives `select` (its "validation") and `test` too.
        select: examples that choose; by default half of `train`, class by class.
        test: examples for the one reading at the end; by default none.
        labels: label -> label word, or the labels in order. Labels that differ only in case or white space are refused unless listed here.
        mentor: a mentor's name, a mapping of the config's mentor section, or a mentor of your own as for `run`.
        rounds: how often the mentor is asked.
        steps: gradient steps of each walk.
        folder: the run folder; by default a new one in ``runs/``.
        settings: further settings by dotted key, as in a config: ``{"stage.lr": 0.03}``; none that says where examples come from.

    Example:
        >>> result = maao.tune(model="packaged:smollm2-135m-instruct", train="train.csv", rounds=3)  # doctest: +SKIP
        >>> result.predict(["Shares fall as oil price climbs"])[0].label  # doctest: +SKIP
        'business'
    """
    values: dict[str, Any] = {"seed": seed, "model": {"name": model, "template": template}, "plan": {"rounds": rounds, "steps": steps}}
    if isinstance(labels, Mapping):
        values["model"]["label_words"] = dict(labels)
    config, own = _configured(values, mentor, settings)
    given = sorted(config.data.model_fields_set & NOT_OF_TUNE)
    if given:
        raise ConfigError(
            f"maao.tune would ignore {' and '.join(f'data.{key}' for key in given)} of `settings`: its arguments `train`, `select` and "
            "`test` give the examples. For a pool, a hub data set, a task or a protocol write a config, and give it to maao.run."
        )
    order = list(labels) if labels is not None else config.data.labels
    data = config.data
    parts, notes = _given_parts(train, select, test, config, order)
    train, select, tested = parts
    splits = from_parts(
        train,
        select,
        tested,
        labels=order,
        shots=data.shots,
        select_shots=data.select_shots,
        test_size=at_most(data.test_size, tested),
        seed=config.seed,
        drop_repeats=data.drop_repeats,
    )
    splits = replace(splits, notes=(*notes, *splits.notes))
    return run(config, folder or free_folder(Path("runs"), f"tune-seed{config.seed}"), splits=splits, mentor=own, watch=watch)


def _given_parts(
    train: Any, select: Any, test: Any, config: Config, labels: Sequence[str] | None
) -> tuple[tuple[tuple[Example, ...], tuple[Example, ...] | None, tuple[Example, ...]], tuple[str, ...]]:
    """Return the examples of `train`, `select` and `test`, and what there is to note about them."""
    notes: tuple[str, ...] = ()
    whole = splits_in_memory(train)
    if whole is not None:
        if select is not None or test is not None:
            raise ConfigError("`train` holds several splits already: give each split alone, as train=..., select=..., test=....")
        train, select, test = whole
        try:
            tested = () if test is None else _examples(test, config, "test", labels)
        except NoSuchLabels as error:  # as with hub data sets, whose test split may keep its labels secret
            if select is None:
                raise
            notes = (f"test: the split for choices serves, since the split 'test' cannot be used: {error}",)
            tested, select = _examples(select, config, "select", labels), None
    else:
        tested = () if test is None else _examples(test, config, "test", labels)
    chosen = None if select is None else _examples(select, config, "select", labels)
    return (_examples(train, config, "train", labels), chosen, tested), notes


def tune_images(
    images: str | Path,
    *,
    model: str = "packaged:emoji-vit",
    method: str = "coop",
    shots: int | None = None,
    mentor: str | Mapping[str, Any] | OwnMentor = "none",
    rounds: int = 3,
    steps: int = 30,
    seed: int = 0,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Result:
    """Tune the words around the class names of a frozen dual encoder on a folder of pictures, a folder a class.

    Args:
        images: the folder; or "emoji", "hub:NAME", or one of the field's data sets (with ``settings={"images.root": ...}``).
        model: hub name or folder of a CLIP or SigLIP model, or of a pair of towers; "packaged:emoji-vit" is a small testbed.
        method: "coop", "kgcoop", "tcp", "promptsrc", ...: see `vision.method` in the config.
        shots: training pictures a class.
        mentor, rounds, steps, seed, folder, settings, watch: as in `tune`.

    Example:
        >>> result = maao.tune_images("pictures", model="openai/clip-vit-base-patch16", shots=8)  # doctest: +SKIP
        >>> result.predict(["cat.png"])[0].label  # doctest: +SKIP
        'cat'
    """
    values: dict[str, Any] = {
        "problem": "vision",
        "seed": seed,
        "vision": {"name": model, "method": method},
        "images": {"source": str(images)},
        "plan": {"rounds": rounds, "steps": steps},
    }
    if shots is not None:
        values["images"]["shots"] = shots
    config, own = _configured(values, mentor, settings)
    return run(config, folder or free_folder(Path("runs"), f"images-seed{config.seed}"), mentor=own, watch=watch)


def _configured(
    values: dict[str, Any], mentor: str | Mapping[str, Any] | OwnMentor, settings: Mapping[str, Any] | None
) -> tuple[Config, OwnMentor | None]:
    """Return the config of values with a mentor and further settings laid over them, and the mentor if it is one of the caller's own."""
    own: OwnMentor | None = None
    if isinstance(mentor, str):
        values["mentor"] = {"name": mentor}
    elif isinstance(mentor, Mapping):
        values["mentor"] = dict(mentor)
    else:
        own = mentor
    for key, value in (settings or {}).items():
        set_value(values, key, value)
    expand_paths(values, Path.cwd())
    return make_config(values), own


def free_folder(parent: Path, name: str) -> Path:
    """Return a folder of that name that does not exist yet, numbered if it must be.

    Example:
        >>> free_folder(Path("no-such-folder"), "demo").name
        'demo'
    """
    name = name.encode()[:200].decode(errors="ignore")  # the longest that every file system takes, with a number behind it
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())


# -- parts of it


def _drive(stored: RunFolder[Any, Any], parts: Parts, mentor: OwnMentor | None, watch: Watch) -> Result:
    """Go on with an open run to its end, storing each round as it ends."""
    asked = build_mentor(parts, stored.ledger, own=mentor, wrap=lambda model: _Told(model, watch.call))
    history = stored.history()
    watch.started(parts, asked, stored.path, len(history))
    search = _recorded(stored).get(LR_SEARCH)
    before = Cost() if search is None else LrSearch.from_json(search).cost
    seconds, spent = parts.budget.seconds, (before + total_cost(history)).seconds
    rounds = until_settled(_alternate(parts, asked, history, watch), parts.plan, history=history, **_patience(parts))
    try:
        for finished in until(rounds, seconds, spent):
            stored.append(finished)
            history = (*history, finished)
            watch.round(finished)
        _read_test(stored, parts, history, watch)
        _check_stored(stored, history)
    except KeyboardInterrupt:
        stored.set_status("stopped", "interrupted")
        raise
    stored.set_status("finished", _why_short(parts, history))
    return Result(stored.path, parts)


def _patience(parts: Parts) -> Any:
    return {"patience": parts.config.plan.patience, "min_delta": parts.config.plan.min_delta}


def _search(parts: Parts, rates: Sequence[float], watch: Watch) -> LrSearch:
    """Try rates with the run's own stage, from its own beginning."""

    def stage_at(rate: float) -> Any:
        return build_stage(parts.config, parts.plan, parts.accept, parts.steps_per_epoch, lr=rate)

    trials = []
    steps = parts.config.stage.lr_steps
    for trial in try_rates(parts.problem, stage_at, rates, steps=steps, seed=parts.config.seed):
        trials.append(trial)
        watch.rate(trial)
    return LrSearch(steps, tuple(trials))


def _check_time_left(parts: Parts, search: LrSearch) -> None:
    if parts.budget.seconds is not None and search.cost.seconds >= parts.budget.seconds:
        raise ConfigError(
            f"The search for a learning rate took {search.cost.seconds:.3g} seconds, all of the budget of {parts.budget.seconds:g}: raise "
            f"`budget.seconds`, or set stage.lr = {search.chosen.rate:g}, which it found, and leave stage.lr_grid out."
        )


def _at_rate(parts: Parts, rate: float) -> Parts:
    """Return a run's parts with another learning rate, in their config too. `lr_grid` stays: its steps count for the budget."""
    config = parts.config.model_copy(update={"stage": parts.config.stage.model_copy(update={"lr": rate})})
    return replace(parts, config=config, stage=build_stage(config, parts.plan, parts.accept, parts.steps_per_epoch))


def _alternate(parts: Parts, asked: Asked, history: tuple[Round[Any, Any], ...], watch: Watch) -> Iterable[Round[Any, Any]]:
    from maao.optimizers.watched import Watched

    stage = Watched(shared_stage(parts), watch.step)
    return alternate(parts.problem, stage, asked.mentor, plan=parts.plan, accept=parts.accept, seed=parts.config.seed, history=history)


def _why_short(parts: Parts, history: Sequence[Round[Any, Any]]) -> str:
    """Say what was planned and did not come about: legs that a cap took away, calls that were not made or gave no reply."""
    told = []
    if len(history) < len(parts.plan) and is_settled(tuple(history), parts.plan, **_patience(parts)):
        patience, best = parts.config.plan.patience, last_best(tuple(history), parts.config.plan.min_delta)
        legs = "a leg" if patience == 1 else f"{patience} legs"
        told.append(f"early stopping ended it after round {len(history) - 1}: {legs} without a new best on select since round {best}")
    elif len(history) < len(parts.plan):
        told.append(f"the time budget of {parts.budget.seconds:g} seconds ended it after round {len(history) - 1}")
    elif parts.plan_was_cut:
        told.append(f"the budget of {parts.config.budget.gradient_steps} gradient steps shortened its plan")
    failed = failures(tuple(history))
    unmade = sum(failure.startswith(NOT_MADE) for failure in failed)
    if unmade:
        told.append(f"the budget kept the mentor from being asked {_times(unmade)}")
    if len(failed) > unmade:
        told.append(f"the mentor gave no reply {_times(len(failed) - unmade)}")
    elif gave_nothing(history, parts.config):
        told.append("the mentor gave nothing usable")
    return "; ".join(told)


def gave_nothing(history: Sequence[Round[Any, Any]], config: Config) -> str:
    """Say that a mentor that was asked gave nothing in a whole run: no reply to any call, or no proposal in any reply; else "".

    Proposals of a second mentor beside it do not count. Calls that a budget did not allow are the user's own choice, and no failure.
    """
    asked = [r for r in history if r.leg.ask]
    replies = sum(r.advice.cost.llm_calls for r in asked)
    failed = [failure for failure in failures(tuple(asked)) if not failure.startswith(NOT_MADE)]
    if failed and not replies:
        calls = "its only call" if len(failed) == 1 else f"all {len(failed)} calls"
        return f"The mentor gave no reply: {calls} failed. The last time: {failed[-1]}"
    beside = SOURCES_BESIDE.get(config.mentor.beside or "")
    own = [p for r in asked for p in r.advice.proposals if beside is None or not p.source.startswith(beside)]
    rejected = [rejected for r in asked for rejected in r.advice.rejected if not rejected.reason.startswith(NO_REPLY)]
    if own or not rejected:
        return ""
    where = f"its {replies} replies" if replies > 1 else "its only reply" if replies else "what it proposed"
    return f"The mentor gave nothing usable: no proposal in {where} could be used. The last reason: {rejected[-1].reason}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _read_test(stored: RunFolder[Any, Any], parts: Parts, history: tuple[Round[Any, Any], ...], watch: Watch) -> None:
    """Read `test` once, for the declared points: the untuned prompt, the chosen soft prompt, its words."""
    if parts.splits is None or not parts.splits.test or not history:
        return
    done = {final.name for final in stored.finals()}
    watch.testing()
    problem, codec = parts.problem, parts.codec
    untuned = problem.initial(seed_for(parts.config.seed, "initial"))
    chosen = best_round(history)
    points = {"untuned": (untuned, in_words(codec, untuned)), "chosen": (chosen.state.params, "")}
    if chosen.clues.projection is not None:
        words = chosen.clues.projection.text
        points["words"] = ({**chosen.state.params, **codec.encode(words).params}, words)
    elsewhere = getattr(problem, "elsewhere", {})
    further = {f"{name}, {point}": (where, params) for name, where in elsewhere.items() for point, (params, _) in points.items()}
    if done >= {*points, *further}:
        return
    # All are scored, also where a stop left some recorded: scored with fewer, the others could differ in their last bits.
    scores = score_all(problem, [params for params, _ in points.values()], "test")
    for (name, (_, text)), score in zip(points.items(), scores, strict=True):
        if name not in done:
            stored.record_final(name, "test", score, text)
    for name, (where, params) in further.items():
        if name not in done:
            stored.record_final(name, "test", where.score(params, "test"), "")


def _check_mentor(stored: RunFolder[Any, Any], mentor: OwnMentor | None, verb: str) -> None:
    """Refuse to go on with another mentor than the run began with."""
    name = _config(stored).mentor.name
    if name == "custom" and mentor is None:
        raise ConfigError(
            f"The run {stored.path} has a mentor of your own: {verb} it from Python, with `maao.{verb}({str(stored.path)!r}, mentor=...)`."
        )
    if name != "custom" and mentor is not None:
        raise ConfigError(f"The run {stored.path} began with the mentor '{name}' of its config: {verb} it without a mentor of your own.")


def _check_stored(stored: RunFolder[Any, Any], history: tuple[Round[Any, Any], ...]) -> None:
    """Read the chosen prompt back from the disk and compare, before the run counts as done."""
    if not history:
        return
    serializer = _serializer()
    index = best_round(history).index
    read, held = stored.history()[index], history[index]
    if params_digest(read.state.params, serializer) != params_digest(held.state.params, serializer):
        raise StoreError(f"The chosen prompt reads back from {stored.path} differently from what was tuned. Is the disk sound?")


def _rebuild(stored: RunFolder[Any, Any]) -> Parts:
    """Build a stored run's parts again, and make sure that they are the same."""
    config, recorded = _config(stored), _recorded(stored)
    threads = config.threads or recorded.get("threads")
    parts = build(config.model_copy(update={"threads": threads}), _kept_splits(stored.path, config))
    now = environment(parts)
    _refuse_changed(stored.path, recorded, now)
    differences = [
        f"{name} {old} -> {now['packages'].get(name)}" for name, old in recorded["packages"].items() if now["packages"].get(name) != old
    ]
    notes = (f"versions differ from those the run began with: {', '.join(differences)}; results may differ in the last bits",)
    return replace(parts, notes=(*parts.notes, *notes)) if differences else parts


def _config(stored: RunFolder[Any, Any]) -> Config:
    return stored_config(read_json(stored.path, CONFIG, ConfigRecord), stored.path / CONFIG)


def _recorded(stored: RunFolder[Any, Any]) -> dict[str, Any]:
    """Return the environment that a run recorded, whole."""
    return read_json(stored.path, ENVIRONMENT, EnvironmentRecord)


CHANGED = {
    "data": ("The data has changed", "data"),
    "weights": ("The weights of the frozen model have changed", "model"),
    "adapter": ("The adapter that it begins with has changed", "adapter"),
    "wording": ("The wording of the mentor's instruction has changed", "wording"),
}


def _refuse_changed(folder: Path, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to use a run where what its config only names is no longer the same. A hash that the run did not record is not compared."""
    for key, (told, thing) in CHANGED.items():
        if key in recorded and key in now and now[key] != recorded[key]:
            raise StoreError(
                f"{told} since the run {folder} began (its hash was {recorded[key]}, now {now[key]}). "
                f"Bring the old {thing} back, or start a new run."
            )


def _examples(given: Any, config: Config, name: str, labels: Sequence[str] | None) -> tuple[Example, ...]:
    """Return the examples of a file or of what is in memory, by the same rules."""
    columns = columns_of(config)
    columns["labels"] = labels
    if isinstance(given, str | Path):
        return read_examples(given, separator=config.data.separator, **columns)
    if config.data.separator is not None:
        raise ConfigError(f"data.separator would be ignored: `{name}` is no file.")
    return examples_in_memory(given, f"`{name}`", **columns)


def _path(thing: Any, place: str) -> str | Unread:
    if not isinstance(thing, str | Path):
        return Unread(place, f"it is a {type(thing).__name__}, and a run on pictures predicts the paths of image files")
    return str(thing) if str(thing).strip() else Unread(place, "there is no file name")


def _all_read(things: Sequence[T | Unread], advice: str = "") -> list[T]:
    """Return things of which all could be read, or raise which could not."""
    faults = [(one.place, one.reason.removesuffix(".")) for one in things if isinstance(one, Unread)]
    refuse("What to predict", "inputs", len(things), faults, advice)
    return [one for one in things if not isinstance(one, Unread)]


def _prediction(labels: Sequence[str], row: Sequence[float], cut: int = 0) -> Prediction:
    pair = dict(zip(labels, row, strict=True))
    return Prediction(max(pair, key=lambda label: pair[label]), pair, cut)


def _checked(splits: Splits) -> Splits:
    """Return examples at hand, checked, with the hash of what they hold, however they were made."""
    return replace(from_parts(splits.train, splits.select, splits.test, labels=splits.labels), notes=splits.notes)


def _keep_splits(folder: Path, splits: Splits) -> None:
    """Write examples that came from memory into the run folder, so that the run can be resumed."""
    kept = {name: [as_mapping(example) for example in getattr(splits, name)] for name in SPLITS}
    text = json.dumps({"labels": list(splits.labels), "notes": list(splits.notes), **kept}, ensure_ascii=False)
    try:
        write_durably(folder / EXAMPLES, text.encode())
        sync_folder(folder)
    except OSError as error:
        raise write_error(folder, error, safe="No round was made.", then="start again in another folder") from error


def _kept_splits(folder: Path, config: Config) -> Splits | None:
    if config.data.source != IN_RUN:
        return None
    data = read_json(folder, EXAMPLES, ExamplesRecord)
    parts = [
        tuple(Example(e["fields"], e["label"], tuple(e.get("choices", ())), e.get("group", "")) for e in data[name]) for name in SPLITS
    ]
    return replace(from_parts(*parts, labels=data["labels"]), notes=tuple(data["notes"]))


def _open(folder: str | Path, *, write: bool) -> RunFolder[Any, Any]:
    return RunFolder.open(folder, serializer=_serializer(), write=write)


def _serializer() -> Any:
    from maao.optimizers.torch import TorchSerializer

    return TorchSerializer()
