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
from typing import Any, Literal

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
    environment,
    frozen_digest,
    shared_stage,
)
from maao.config import Config, expand_paths, make_config, set_value
from maao.core.budget import until
from maao.core.loop import alternate, best_round
from maao.core.lr_finder import LR_GRID, LR_SEARCH, LrSearch, Trial, try_rates
from maao.core.patience import is_settled, last_best, until_settled
from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.core.words import in_words
from maao.errors import ConfigError, DataError, StoreError
from maao.interfaces import ChatModel
from maao.llm.budget import NOT_MADE
from maao.llm.chat import Reply, Request
from maao.llm.ledger import MemoryLedger, Wrapper
from maao.mentors.language_model import failures
from maao.store.digest import params_digest, round_digest
from maao.store.files import sync_folder, write_durably, write_error
from maao.store.run import Final, RunFolder, check_vacant, is_in_use
from maao.tasks.checks import as_mapping
from maao.tasks.files import read_examples
from maao.tasks.splits import SPLITS, from_parts
from maao.types import Cost, Example, Observation, Round, Splits, total_cost

IN_RUN = "run"  # data.source of examples that were handed over in memory and are kept in the run folder

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
    is asked again; whom it asks then is not known: None.
    """

    rounds: int
    same: int
    llm_calls: int | None
    recorded: str
    replayed: str

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
                stored.config,
                dict(stored.environment),
                "interrupted" if stored.status == "running" and not is_in_use(stored.path) else stored.status,
                stored.status_reason,
            )

    @property
    def config(self) -> Config:
        return make_config(self._stored.config, f"{self.folder}/config.json")

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
        from maao.problems.language.template import Template

        if self._sees:
            return ("image",)
        self._check_language()
        model = self.config.model
        return Template.parse(model.template or DEFAULT_TEMPLATE).fields

    def predict(self, texts: Sequence[str | Mapping[str, str] | Example]) -> list[Prediction]:
        """Return a prediction for each text, each mapping of the template's fields, or each example (its label is not looked at).

        A mere text stands for the template's only field, whatever its name; in a run on pictures it is the path of an image file. Raises
        `DataError` where the template reads several fields, a mapping lacks one, or a file is no picture.
        """
        if self._sees:
            return self._predict_images(texts)
        if isinstance(texts, str | Mapping):
            raise DataError("Give `predict` a list of texts, not one text: predict([text]).")
        if not texts:
            return []
        examples = [given if isinstance(given, Example) else self._example(given, number) for number, given in enumerate(texts, start=1)]
        problem, labels = self._problem()
        rows = problem.probabilities(self._tuned, examples).tolist()
        pairs = [dict(zip(labels, row, strict=True)) for row in rows]
        inputs = [problem.tokenizer.example(example) for example in examples]
        cuts = [max([one.cut, *(choice.cut for choice in one.choices)]) for one in inputs]
        return [Prediction(max(pair, key=lambda label: pair[label]), pair, cut) for pair, cut in zip(pairs, cuts, strict=True)]

    def _example(self, given: str | Mapping[str, str], number: int) -> Example:
        """Return one thing to predict with what the template reads of it."""
        needed = [name for name in self.fields if name != "choice"]  # which stands for each of an example's choices
        told = f"The template {self.config.model.template!r} reads {', '.join(needed)}"
        if isinstance(given, str):
            if len(needed) != 1:
                fields = ", ".join(f'"{name}": "..."' for name in needed)
                raise DataError(f"{told}, so a mere text is not enough to predict: give mappings {{{fields}}}.")
            return Example({needed[0]: given}, "")
        lacking = [name for name in needed if name not in given]
        if lacking:
            raise DataError(f"{told}, but number {number} of what to predict has no {', '.join(lacking)}; it has: {', '.join(given)}.")
        for name in needed:
            if not isinstance(given[name], str):
                raise DataError(f"The field {name} of number {number} of what to predict is {given[name]!r}: a field is a text.")
        return Example({name: given[name] for name in needed}, "")

    @property
    def _sees(self) -> bool:
        """Whether the run is on pictures."""
        return self.config.problem == "vision"

    def _predict_images(self, paths: Sequence[Any]) -> list[Prediction]:
        from maao.tasks.images import Files

        if isinstance(paths, str | Path | Mapping):
            raise DataError("Give `predict` a list of image files, not one file: predict([path]).")
        for number, path in enumerate(paths, start=1):
            if not isinstance(path, str | Path):
                raise DataError(f"Number {number} of what to predict is {path!r}: a run on pictures predicts the paths of image files.")
        if not paths:
            return []
        problem, labels = self._problem()
        rows = problem.probabilities(self.params, [str(path) for path in paths], Files()).tolist()
        pairs = [dict(zip(labels, row, strict=True)) for row in rows]
        return [Prediction(max(pair, key=lambda label: pair[label]), pair) for pair in pairs]

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
        from maao.problems.language.adapters import export_peft
        from maao.problems.language.export import export_tensor, export_text, write_about

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
        from maao.problems.language.export import export_text
        from maao.problems.vision.export import export_classes, export_ctx, export_params

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
        from maao.tasks.superglue import TASKS

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
    config: dict[str, Any]
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
    build_mentor(parts, MemoryLedger(), own=mentor)  # what is wrong with it is said before a folder is made
    recorded = environment(parts)
    if config.stage.lr_grid:
        search = _search(parts, config.stage.lr_grid, watch)
        _check_time_left(parts, search)
        parts = _at_rate(parts, search.chosen.rate)
        recorded = {**recorded, LR_SEARCH: search.to_json()}
    stored = RunFolder.create(folder, config=parts.config.model_dump(mode="json"), environment=recorded, serializer=_serializer())
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
        ends = [params_digest(h[-1].state.params, serializer) for h in (history, again)]
        return Replay(len(history), same, asked.live_calls, *ends)


def load(folder: str | Path) -> Result:
    """Return the result of a run folder."""
    result = Result(folder)
    result.status  # noqa: B018  (reads the folder now, so that what is wrong with it is said here)
    return result


def tune(
    *,
    model: str,
    train: Iterable[tuple[str, str] | Mapping[str, str]] | str | Path,
    select: Iterable[tuple[str, str] | Mapping[str, str]] | str | Path | None = None,
    test: Iterable[tuple[str, str] | Mapping[str, str]] | str | Path | None = None,
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
        train: pairs ``(text, label)``, mappings with a "label" beside the template's fields, or the path of a file.
        select: examples that choose; by default half of `train`, class by class.
        test: examples for the one reading at the end; by default none.
        labels: label -> label word, or the labels in order.
        mentor: a mentor's name, a mapping of the config's mentor section, or a mentor of your own as for `run`.
        rounds: how often the mentor is asked.
        steps: gradient steps of each walk.
        folder: the run folder; by default a new one in ``runs/``.
        settings: further settings by dotted key, as in a config: ``{"stage.lr": 0.03}``.

    Example:
        >>> result = maao.tune(model="packaged:smollm2-135m-instruct", train="train.csv", rounds=3)  # doctest: +SKIP
        >>> result.predict(["Shares fall as oil price climbs"])[0].label  # doctest: +SKIP
        'business'
    """
    values: dict[str, Any] = {"seed": seed, "model": {"name": model, "template": template}, "plan": {"rounds": rounds, "steps": steps}}
    if isinstance(labels, Mapping):
        values["model"]["label_words"] = dict(labels)
    config, own = _configured(values, mentor, settings)
    order = list(labels) if labels is not None else None
    data = config.data
    tested = () if test is None else _examples(test, config, "test")
    splits = from_parts(
        _examples(train, config, "train"),
        None if select is None else _examples(select, config, "select"),
        tested,
        labels=order,
        shots=data.shots,
        select_shots=data.select_shots,
        test_size=at_most(data.test_size, tested),
        seed=config.seed,
        drop_repeats=data.drop_repeats,
    )
    return run(config, folder or free_folder(Path("runs"), f"tune-seed{config.seed}"), splits=splits, mentor=own, watch=watch)


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
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())


# -- parts of it


def _drive(stored: RunFolder[Any, Any], parts: Parts, mentor: OwnMentor | None, watch: Watch) -> Result:
    """Go on with an open run to its end, storing each round as it ends."""
    asked = build_mentor(parts, stored.ledger, own=mentor, wrap=lambda model: _Told(model, watch.call))
    history = stored.history()
    watch.started(parts, asked, stored.path, len(history))
    search = stored.environment.get(LR_SEARCH)
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
    finally:
        asked.close()
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
    from maao.stages.watched import Watched

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
    return "; ".join(told)


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
    name = stored.config["mentor"]["name"]
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
    config = make_config(dict(stored.config), f"{stored.path}/config.json")
    recorded = stored.environment
    threads = config.threads or recorded.get("threads")
    parts = build(config.model_copy(update={"threads": threads}), _kept_splits(stored.path, config))
    now = environment(parts)
    _refuse_changed(stored.path, recorded, now)
    differences = [
        f"{name} {old} -> {now['packages'].get(name)}" for name, old in recorded["packages"].items() if now["packages"].get(name) != old
    ]
    notes = (f"versions differ from those the run began with: {', '.join(differences)}; results may differ in the last bits",)
    return replace(parts, notes=(*parts.notes, *notes)) if differences else parts


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


def _examples(given: Any, config: Config, name: str) -> tuple[Example, ...]:
    data = config.data
    if isinstance(given, str | Path):
        return read_examples(given, text_fields=data.text_fields, label_field=data.label_field, label_names=data.label_names)
    found = []
    for number, item in enumerate(given, start=1):
        if isinstance(item, Mapping):
            fields = {key: value for key, value in item.items() if key != data.label_field}
            label = item.get(data.label_field)
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
            fields, label = {"text": item[0]}, item[1]
        else:
            raise DataError(f"Example {number} of `{name}` is {item!r}: give pairs (text, label) or mappings with a '{data.label_field}'.")
        if label is None or not all(isinstance(value, str) for value in fields.values()):
            raise DataError(f"Example {number} of `{name}` is {item!r}: its fields must be texts, and it needs a '{data.label_field}'.")
        found.append(Example(fields, str(label)))
    return tuple(found)


def _checked(splits: Splits) -> Splits:
    """Return examples at hand, checked, with the hash of what they hold, however they were made."""
    return replace(from_parts(splits.train, splits.select, splits.test, labels=splits.labels), notes=splits.notes)


def _keep_splits(folder: Path, splits: Splits) -> None:
    """Write examples that came from memory into the run folder, so that the run can be resumed."""
    kept = {name: [as_mapping(example) for example in getattr(splits, name)] for name in SPLITS}
    text = json.dumps({"labels": list(splits.labels), "notes": list(splits.notes), **kept}, ensure_ascii=False)
    try:
        write_durably(folder / "examples.json", text.encode())
        sync_folder(folder)
    except OSError as error:
        raise write_error(folder, error, safe="No round was made.", then="start again in another folder") from error


def _kept_splits(folder: Path, config: Config) -> Splits | None:
    if config.data.source != IN_RUN:
        return None
    try:
        data = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        parts = [
            tuple(Example(e["fields"], e["label"], tuple(e.get("choices", ())), e.get("group", "")) for e in data[name]) for name in SPLITS
        ]
        labels, notes = data["labels"], tuple(data["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"The examples of the run {folder} cannot be read from its examples.json: {error}.") from error
    return replace(from_parts(*parts, labels=labels), notes=notes)


def _open(folder: str | Path, *, write: bool) -> RunFolder[Any, Any]:
    return RunFolder.open(folder, serializer=_serializer(), write=write)


def _serializer() -> Any:
    from maao.stages.torch_optim import TorchSerializer

    return TorchSerializer()
