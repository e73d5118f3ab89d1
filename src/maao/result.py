"""What came of a run, read from its folder: its rounds, its figures, what it predicts, and what it is taken elsewhere as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from maao.build import DEFAULT_TEMPLATE, Parts, build, build_for_use
from maao.config import Config
from maao.core.loop import best_round
from maao.core.lr_finder import LrSearch
from maao.data.checks import Unread, refuse
from maao.data.memory import things_to_predict, to_predict
from maao.environment import environment, frozen_digest, refuse_changed
from maao.errors import ConfigError, DataError, StoreError
from maao.llm.budget import NOT_MADE
from maao.mentors.language_model import NO_REPLY, failures
from maao.store.digest import params_digest
from maao.store.run import Final, is_in_use
from maao.stored_run import config_of, open_run, recorded_in, torch_serializer
from maao.types import Cost, Example, Round, total_cost

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


@dataclass(frozen=True)
class Prediction:
    """A label and how probable each label is. `cut` counts the tokens of a long text that did not fit the model's context."""

    label: str
    probabilities: Mapping[str, float]
    cut: int = 0

    @property
    def probability(self) -> float:
        return self.probabilities[self.label]


class Result:
    """A run's outcome, read from its folder.

    Example (a plain function, tuned in a second):
        >>> import tempfile
        >>> from maao.config import make_config
        >>> from maao.runner import run
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
        with open_run(self.folder, write=False) as stored:
            return _Stored(
                stored.history(),
                stored.finals(),
                config_of(stored),
                recorded_in(stored),
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
        return params_digest(self.history[-1].state.params, torch_serializer())

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
        fields, named = self.fields, (self.config.texts and self.config.texts.text_fields) or {}
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
                rows = problem.probabilities(self.params, part, Files(bits=self.config.data.options.bits)).tolist()
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
        refuse_changed(self.folder, self.environment, environment(parts))
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
        from maao.export.peft_write import export_peft
        from maao.export.tensors import export_tensor, export_text, write_about

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
        from maao.export.context import export_classes, export_ctx, export_params
        from maao.export.tensors import export_text

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
            "params": params_digest(self.params, torch_serializer()),
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
        return self.text or problem.codec.decode(self.params).text or ""

    def _has_choices(self) -> bool:
        """Say whether examples come with answers of their own to choose from."""
        from maao.data.superglue import TASKS

        task = self.config.task
        return task is not None and TASKS[task].multiple_choice

    def _problem(self) -> tuple[Any, tuple[str, ...]]:
        """Return the problem, built without data if this result was loaded from its folder, and the labels."""
        if not self._sees:
            self._check_language()
        labels = tuple(self.environment["labels"])
        if self._parts is None:
            parts = build_for_use(self.config, labels, tuple(self.environment.get("class_names", ())))
            refuse_changed(self.folder, self.environment, {"weights": frozen_digest(parts)})
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


def load(folder: str | Path) -> Result:
    """Return the result of a run folder."""
    result = Result(folder)
    result.status  # noqa: B018  (reads the folder now, so that what is wrong with it is said here)
    return result


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
