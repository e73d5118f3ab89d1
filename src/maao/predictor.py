"""A tuned classifier in use, without its run: a config, a point and the classes. It predicts, is pickled, and is kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maao.build import RunComponents
from maao.choices import OWN_FILE
from maao.config import Config, stored_config, unread_sections
from maao.data.checks import Unread, refuse
from maao.data.given import GivenInputs, read_given
from maao.deploy import Deployed, Prediction, deployed, inputs_of, judged_examples
from maao.environment import frozen_digest, refuse_changed
from maao.errors import MaaoError, StoreError, is_out_of_memory
from maao.evaluation.evaluation import Evaluation
from maao.evaluation.undecided import Thresholds
from maao.protocols import Arrays, Params
from maao.store.files import reading, write_error
from maao.store.recorded import IN_RUN, PredictorRecord
from maao.store.run import read_json
from maao.stored_run import torch_serializer
from maao.types import JSON, Example

if TYPE_CHECKING:
    from pandas import DataFrame

    from maao.problems.settings import ModelConfig

T = TypeVar("T")

ABOUT, POINT = "maao.json", "point.safetensors"
FORMAT = 1
OF_A_RUN = ("adapter",)  # of [model]: what a run begins with, and nothing reads in use
READ_OF_DATA = ("input", "task", "text_fields", "label_field", "label_names", "labels", "bits")


class Predictor:
    """A tuned classifier: what of a run is needed to predict, and nothing else. No training example is in it.

    Its state is JSON and numbers, so that it is pickled without any model: the frozen model is loaded by its name, when it is first used.

    Args:
        config: of the run; what only a run reads is left out.
        labels: the classes, in order.
        class_names: the classes in words, of a matcher.
        params: the point, ``{"prompt": (num_virtual_tokens, embed_dim), ...}``.
        weights: the hash of the frozen model that it was tuned on; "": unknown, and not compared.
        thresholds: what is left undecided; None: nothing.
        name: what it is called in errors.
        parts: parts of the run that made it, whose models are used.

    Example:
        >>> maao.load("runs/demo-seed0").predictor.predict(["Where is my card?"])[0].label  # doctest: +SKIP
        'card_arrival'
    """

    def __init__(
        self,
        config: Config,
        labels: Sequence[str],
        class_names: Sequence[str],
        params: Params,
        *,
        weights: str = "",
        thresholds: Thresholds | None = None,
        name: str = "the classifier",
        parts: RunComponents | None = None,
    ) -> None:
        self.config, self.labels, self.class_names = config, tuple(labels), tuple(class_names)
        self.params, self.weights, self.thresholds, self.name = params, weights, thresholds, name
        self._like = parts
        self._is_read = False  # from a file or a pickle: what does not hold together is told

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, model={self.config.model.name!r}, labels={_few(self.labels)})"

    def with_model(self, model: ModelConfig) -> Predictor:
        """Return the same classifier, whose frozen model is loaded by other settings: it must have the same weights."""
        return Predictor(
            self.config.model_copy(update={"model": model}),
            self.labels,
            self.class_names,
            self.params,
            weights=self.weights,
            thresholds=self.thresholds,
            name=self.name,
        )

    @property
    def inputs(self) -> GivenInputs:
        """How inputs are read. Loads no model."""
        return inputs_of(self.config, self.name)

    @cached_property
    def deployed(self) -> Deployed:
        """The point in use, with its frozen model, which must be the one that it was tuned on.

        Raises:
            StoreError: the frozen model has changed.
        """
        found = deployed(self.config, self.labels, self.class_names, self.params, like=self._like)
        if self._like is None and self.weights:
            refuse_changed(Path(self.name), {"weights": self.weights}, {"weights": frozen_digest(found.parts)})
        self._like = None  # the run's parts hold its examples; of them only the models are needed
        return replace(found, thresholds=self.thresholds)

    def predict(self, inputs: object) -> list[Prediction]:
        """Return a prediction for each thing of a list, an array, a Series, a frame or a data set, in its order.

        A thing is a text, a mapping of the template's fields (or of the columns that the run's data had; others are not looked at), or an
        example (its label is not looked at). A mere text stands for the template's only field, whatever its name; of pictures it is the
        path of an image file.

        Raises:
            DataError: some cannot be read; all of them are named. `try_predict` predicts the others.
        """
        examples, names = read_given(self.inputs, inputs, None)
        if self.inputs.told_at_once:
            _all_read(examples, self.inputs.advice)
        return _all_read(self._predict(examples, names), self.inputs.advice)

    def predict_frame(self, inputs: object) -> DataFrame:
        """Return predictions as a frame: a row for each input, with the index that a frame or a Series of inputs had.

        Its columns are "predicted" (the label; missing where it is left undecided), "probability" (of the most probable class), "undecided"
        (why; only where the classifier leaves some undecided), and "p(LABEL)" for each class. ``frame.join(found)`` sets it beside the
        inputs.

        Raises:
            DataError: some cannot be read; all of them are named.
            MaaoError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MaaoError("A frame of predictions needs pandas. Install it with: pip install pandas") from error
        found = self.predict(inputs)
        columns: dict[str, list[object]] = {
            "predicted": [one.label for one in found],
            "probability": [one.probability for one in found],
            **({} if self.thresholds is None else {"undecided": [one.undecided for one in found]}),
            **{f"p({label})": [one.probabilities[label] for one in found] for label in self.labels},
        }
        index = inputs.index if isinstance(inputs, pd.DataFrame | pd.Series) else None
        return pd.DataFrame(columns, index=index)

    def try_predict(self, inputs: object, places: Sequence[str] | None = None) -> list[Prediction | Unread]:
        """Return a prediction for each input as `predict` does, and in the place of each that cannot be read, why.

        Args:
            inputs: as for `predict`.
            places: what each is called ("line 3"); by default "number 3".
        """
        return self._predict(*read_given(self.inputs, inputs, places))

    def _predict(self, examples: Sequence[Example | Unread], names: Sequence[str]) -> list[Prediction | Unread]:
        """Return the predictions of those that could be read, each in its place."""
        found: dict[int, Prediction | Unread] = {place: one for place, one in enumerate(examples) if isinstance(one, Unread)}
        readable = {place: one for place, one in enumerate(examples) if not isinstance(one, Unread)}
        if readable:
            found |= dict(zip(readable, self._answers(list(readable.values())), strict=True))
        answered = (found[place] for place in range(len(examples)))
        return [replace(one, place=name) if isinstance(one, Unread) else one for one, name in zip(answered, names, strict=True)]

    def _answers(self, inputs: Sequence[Example]) -> list[Prediction | Unread]:
        used = self.deployed
        try:
            return used.predictions(inputs)
        except (KeyError, RuntimeError, ValueError) as error:  # of a point that is none of this model and these labels
            if not self._is_read or is_out_of_memory(error):
                raise
            raise StoreError(f"{self.name} is damaged: its point does not suit its model and labels ({error}).") from error

    def evaluate(self, examples: object, *, none_of_these: bool = False, separator: str | None = None) -> Evaluation:
        """Return how it does on labelled examples; arguments and errors as for `Result.evaluate`, without a run's own splits."""
        found = judged_examples(
            self.config,
            self.labels,
            self.class_names,
            self.params,
            examples,
            none_of_these=none_of_these,
            separator=separator,
            like=self.deployed.parts,
        )
        return found.evaluation(self.labels, self.thresholds)

    # -- its state

    def about(self) -> JSON:
        """Return all but the point as JSON."""
        return {
            "format": FORMAT,
            "config": config_in_use(self.config),
            "labels": list(self.labels),
            "class_names": list(self.class_names),
            "weights": self.weights,
            "thresholds": None if self.thresholds is None else self.thresholds.to_json(),
        }

    def __reduce__(self) -> tuple[Callable[[str, JSON, Arrays], Predictor], tuple[str, JSON, Arrays]]:
        return _restored, (self.name, self.about(), torch_serializer().dump_params(self._point()))

    def _point(self) -> Params:
        """Return the params without the class lines that they were trained on: in use nothing reads these."""
        from maao.problems.lined import without_lines

        return without_lines(self.params)

    def save(self, folder: str | Path) -> list[Path]:
        """Write it into a folder, as JSON and safetensors: `maao.predictor.load` reads it.

        Raises:
            StoreError: the folder cannot be written.
        """
        from safetensors.torch import save_file

        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / ABOUT).write_text(json.dumps(self.about(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            save_file({name: value.detach().cpu().contiguous() for name, value in self._point().items()}, place / POINT)
        except OSError as error:
            raise write_error(place, error, safe="Nothing else was changed.", then="save it again") from error
        return [place / ABOUT, place / POINT]


def load(folder: str | Path, name: str | None = None, *, trust_remote_code: bool = False) -> Predictor:
    """Return the classifier that `Predictor.save` wrote. No code comes with it: names that lead to files of code are refused.

    Args:
        trust_remote_code: take one whose frozen model runs Python files of its own.

    Raises:
        StoreError: there is none, or it is not what `save` writes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(folder) / ABOUT
    about = read_json(file.parent, ABOUT, PredictorRecord)
    if about["format"] != FORMAT:
        raise StoreError(f"{file} is of format {about['format']}, and this version of maao reads format {FORMAT}: update maao.")
    if foreign := code_named(about["config"]):
        raise StoreError(f"{file} names code in a file ({foreign}), which is never run. Ask for one that needs none.")
    model = about["config"].get("model")
    if not trust_remote_code and isinstance(model, dict) and model.get("trust_remote_code"):
        raise StoreError(
            f"{file} asks for Python code that comes with the frozen model {model.get('name')!r}, which is not run. Read that code, and "
            "give trust_remote_code=True to run it."
        )
    with reading(file.with_name(POINT)):
        try:
            params = load_file(file.with_name(POINT))
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    return _made(about, params, name or str(folder), file)


def config_in_use(config: Config) -> JSON:
    """Return what of a config is read in use, for `stored_config`: no place where examples came from, and nothing of a mentor.

    Example:
        >>> from maao.config import make_config
        >>> found = config_in_use(make_config({"model": {"kind": "matcher"}, "data": {"source": "packaged:banking77", "shots": 2}}))
        >>> found["data"]["source"], found["mentor"]
        ('run', {'name': 'none'})
    """
    values = config.model_dump(mode="json", exclude=unread_sections(config))
    data = {key: value for key, value in values["data"].items() if key in READ_OF_DATA and value is not None}
    model = {key: value for key, value in values["model"].items() if key not in OF_A_RUN}
    return {"problem": values["problem"], "model": model, "data": {**data, "source": IN_RUN}, "mentor": {"name": "none"}}


def code_named(settings: object) -> str:
    """Return a name in nested settings that leads to code in a file; "": there is none.

    Example:
        >>> code_named({"model": {"method": "mine.py:Mine"}}), code_named({"model": {"method": "coop"}})
        ('mine.py:Mine', '')
    """
    if isinstance(settings, Mapping):
        return code_named(list(settings.values()))
    if isinstance(settings, list):
        return next(filter(None, map(code_named, settings)), "")
    return settings if isinstance(settings, str) and OWN_FILE.fullmatch(settings) else ""


def _restored(name: str, about: JSON, point: Arrays) -> Predictor:
    """Return a classifier from its state, for pickle."""
    return _made(about, torch_serializer().load_params(point), name, Path(name))


def _made(about: JSON, params: Params, name: str, file: Path) -> Predictor:
    labels, names, thresholds = about["labels"], about["class_names"], about["thresholds"]
    if len(set(labels)) != len(labels) or len(names) not in (0, len(labels)):
        raise StoreError(
            f"{file} is damaged: its labels repeat, or its {len(names)} class names are not those of its {len(labels)} labels."
        )
    if not all(bool(value.isfinite().all()) for value in params.values()):
        raise StoreError(f"{file} is damaged: its point holds numbers that are not finite.")
    found = Predictor(
        stored_config(about["config"], file),
        labels,
        names,
        params,
        weights=about["weights"],
        thresholds=None if thresholds is None else Thresholds.from_json(thresholds),
        name=name,
    )
    found._is_read = True
    return found


def _few(labels: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(map(repr, labels[:most]))
    return f"[{shown}]" if len(labels) <= most else f"[{shown}, ... {len(labels)} in all]"


def _all_read(things: Sequence[T | Unread], advice: str = "") -> list[T]:
    """Return things of which all could be read, or raise which could not."""
    faults = [(one.place, one.reason.removesuffix(".")) for one in things if isinstance(one, Unread)]
    refuse("What to predict", "inputs", len(things), faults, advice)
    return [one for one in things if not isinstance(one, Unread)]
