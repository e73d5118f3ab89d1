"""A tuned classifier as scikit-learn has estimators: `PromptClassifier`, for pipelines, cross-validation and grid searches.

Nothing is tuned here: `fit` is `maao.tune` (or, of pictures, `maao.tune_images`), `predict` is `Predictor.predict`.
Needs ``pip install "maao[sklearn]"``.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from maao.api import tune, tune_images
from maao.data.memory import things_to_predict
from maao.deploy import Prediction
from maao.errors import ConfigError, DataError, MaaoError, Waiting
from maao.mentors.built import OwnMentor
from maao.result import Result

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import Tags
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise MaaoError('maao.sklearn needs scikit-learn. Install it with: pip install "maao[sklearn]".') from error

Labels = npt.NDArray[np.generic]
NAME_OF_LABEL = "label"  # the column that `fit` hands labels to `maao.tune` in
NUMBERS = (int, float, np.number, np.bool_)
EMOJI_MODEL = "packaged:emoji-vit"


@runtime_checkable
class HasBytes(Protocol):
    """A picture, an array."""

    def tobytes(self) -> bytes: ...


class InputError(DataError, ValueError):
    """What was given to `fit` or `predict` cannot be used; a `ValueError` too, as scikit-learn's own estimators raise."""


class PromptClassifier(ClassifierMixin, BaseEstimator):
    """Tune a classifier of texts (or of pictures) on a few labelled examples.

    By default class features of a small sentence encoder are trained on all examples, and each is judged by what was tuned without it
    (docs/text-matchers.md), within seconds on a CPU. With another `kind`, `model` or `method` prompts are tuned, and a
    `mentor` may propose where their walks begin.

    `X` holds texts (a list, an array, a Series, one column of an array or a frame), or is a frame whose columns the template names, or
    holds pictures: `PIL.Image.Image`, or the paths of image files with ``pictures=True``. `y` holds labels of any one type; `predict` gives
    them back with that type.

    Args:
        model: hub name, folder or "packaged:..."; by default a small sentence encoder, of pictures a small vision model for trials.
        kind: what reads the classes: "matcher" (the best with few labels), "decoder", "masked", "encoder_decoder", "head".
        method: what is tuned, by default what is usual for the kind; of pictures too.
        template: where the prompt stands; of a matcher around the name of a class. By default as in `maao.tune`.
        class_names: what each class is called in words, a name or a sentence: label -> words, or words in the order of `classes_`. By
            default the labels themselves.
        mentor: a mentor's name, a mapping of a config's mentor section, or a mentor of your own, as in `maao.tune`.
        description: what the mentor is told of the task, in a sentence.
        shots: most examples a class that are tuned on, chosen by `seed`; by default all.
        select: "cross_validation": all examples are tuned on, and each is judged by what was tuned without it; None: what is usual for
            the method, else half of the examples judge.
        rounds, steps: how often the mentor is asked, and the gradient steps of a walk; by default what is usual for the method.
        pictures: `X` holds the paths of image files.
        seed: fixes everything that is random.
        settings: further settings by dotted key, as in a config: ``{"stage.lr": 0.03}``.
        runs: a folder that keeps the run of each fit; by default a run is made in a temporary folder and not kept.
        verbose: show a bar while `fit` goes on.

    Attributes:
        classes_: the labels ``(num_classes,)``, sorted.
        n_features_in_: columns of `X`; 1 for mere texts and pictures.
        feature_names_in_: the names of the columns, where `X` was a frame.
        predictor_: what predicts, a `maao.predictor.Predictor`.
        text_: the words of the tuned prompt; empty where there is none.
        cost_: what the fit spent, a `maao.types.Cost`.
        warning_: why no mentor had a part in it, if one was asked and gave nothing; else empty.
        run_folder_: the run, where `runs` keeps it; else None.

    Example:
        >>> from maao.sklearn import PromptClassifier
        >>> texts = ["Where is my card?", "The rate looks wrong", "My card has not come", "Which rate do you use?"]
        >>> classifier = PromptClassifier(steps=25).fit(texts, ["card", "rate", "card", "rate"])  # doctest: +SKIP
        >>> classifier.predict(["When will the card be here?"])  # doctest: +SKIP
        array(['card'], dtype='<U4')
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        kind: str = "matcher",
        method: str | None = None,
        template: str | None = None,
        class_names: Mapping[Hashable, str] | Sequence[str] | None = None,
        mentor: str | Mapping[str, object] | OwnMentor | None = None,
        description: str | None = None,
        shots: int | None = None,
        select: str | None = None,
        rounds: int | None = None,
        steps: int | None = None,
        pictures: bool = False,
        seed: int = 0,
        settings: Mapping[str, object] | None = None,
        runs: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.kind = kind
        self.method = method
        self.template = template
        self.class_names = class_names
        self.mentor = mentor
        self.description = description
        self.shots = shots
        self.select = select
        self.rounds = rounds
        self.steps = steps
        self.pictures = pictures
        self.seed = seed
        self.settings = settings
        self.runs = runs
        self.verbose = verbose

    def fit(self, X: object, y: object = None, **unsupported: object) -> Self:
        """Tune on `X` and `y`, from the beginning.

        Raises:
            InputError: some of it cannot be read, or there are not two classes.
            ConfigError: a setting is wrong.
            TypeError: `sample_weight` is given.
        """
        if unsupported:
            raise TypeError(
                f"PromptClassifier.fit got {', '.join(unsupported)}, and takes X and y alone: examples count alike. Leave it out."
            )
        if y is None:
            raise InputError("This PromptClassifier estimator requires y to be passed, but the target y is None.")
        things, columns = _things(X)
        classes, codes = _classes(y)
        if len(things) != len(codes):
            raise InputError(f"X has {len(things)} examples and y has {len(codes)}: each example needs one label.")
        if len(classes) < 2:
            told = "no example" if not len(classes) else f"one class, {classes.tolist()[0]!r}"
            raise InputError(f"PromptClassifier needs examples of two classes or more, and y has {told}.")
        words = None if self.class_names is None else _called(classes, self.class_names)
        names = words if words is not None and self._reads_pictures(things) else _names(classes)
        with ExitStack() as kept:
            runs = self._runs(things, codes) if self.runs is not None else Path(kept.enter_context(TemporaryDirectory(prefix="maao-fit-")))
            with _as_input_error(), _kept_while_waiting(self.runs is not None):
                result = self._tuned(things, [names[code] for code in codes], names, words, runs)
            self._keep(result, names)
            self.run_folder_ = result.folder if self.runs is not None else None
        self.classes_ = classes
        self.n_features_in_ = 1 if columns is None else len(columns)
        if columns is not None:
            self.feature_names_in_ = np.array(columns, dtype=object)
        elif "feature_names_in_" in vars(self):
            del self.feature_names_in_
        return self

    def _runs(self, things: list[object], codes: list[int]) -> Path:
        """Return where a fit that is kept stands: a folder of its own, since those of several processes are made at once."""
        assert self.runs is not None
        params = sorted((name, repr(value)) for name, value in self.get_params(deep=False).items() if name != "runs")
        inputs = [thing.tobytes().hex() if isinstance(thing, HasBytes) else repr(thing) for thing in things]
        return Path(self.runs) / f"fit-{hashlib.sha256(repr((inputs, codes, params)).encode(errors='backslashreplace')).hexdigest()[:12]}"

    def _keep(self, result: Result, names: list[str]) -> None:
        """Keep what outlives the run's folder."""
        self.predictor_, self._names = result.predictor, names
        self.predictor_.name = "the classifier"
        self.predictor_.deployed  # noqa: B018  (made while the models of the run are at hand)
        self.cost_, self.warning_, self.text_ = result.cost, result.warning, result.text

    def _tuned(self, things: list[object], labels: list[str], names: list[str], words: list[str] | None, runs: Path) -> Result:
        settings: dict[str, object] = {"baselines": [], **(self.settings or {})}  # whoever fits estimators compares them by scikit-learn
        if self.description is not None:
            settings["mentor.description"] = self.description
        if self.shots is not None:
            settings["data.shots"] = self.shots
        if self._reads_pictures(things):
            return self._tuned_on_pictures(things, labels, names, runs, settings)
        rows = [thing if isinstance(thing, Mapping) else {self._text_column: thing} for thing in things]
        return tune(
            model=self.model,
            kind=self.kind,
            method=self.method,
            train=[{**row, NAME_OF_LABEL: label} for row, label in zip(rows, labels, strict=True)],
            select=self.select,
            labels=names if words is None else dict(zip(names, words, strict=True)),
            template=self.template,
            mentor=self.mentor,
            rounds=self.rounds,
            steps=self.steps,
            seed=self.seed,
            runs=runs,
            settings=settings,
            progress=self.verbose,
        )

    def _tuned_on_pictures(
        self, things: list[object], labels: list[str], names: list[str], runs: Path, settings: dict[str, object]
    ) -> Result:
        """Lay the pictures out as a folder a class, which is what pictures are tuned on. A run that is kept reads them there again."""
        if self.kind != "matcher":
            raise ConfigError(f"kind = {self.kind!r} reads no pictures: leave it out.")
        alike = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
        if alike:
            raise InputError(f"class_names calls two classes of pictures {alike[0]!r} (but for case): each needs a name of its own.")
        unsafe = [name for name in names if name != Path(name).name or name.startswith(".")]
        if unsafe:
            raise InputError(
                f"The name {unsafe[0]!r} of a class of pictures cannot name a folder: give class_names without '/' or a first dot."
            )
        runs.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix="pictures-", dir=runs))
        for number, (thing, label) in enumerate(zip(things, labels, strict=True)):
            (folder / label).mkdir(exist_ok=True)
            _put_picture(thing, folder / label, f"{number:06}")
        own = {"model.template": self.template, "data.select": self.select}
        given = {"data.shots": len(labels), "data.fewer": True, **{key: value for key, value in own.items() if value is not None}}
        return tune_images(
            folder,
            model=self.model or EMOJI_MODEL,
            method=self.method or "class_residual",
            mentor=self.mentor or "none",
            rounds=self.rounds,
            steps=self.steps,
            seed=self.seed,
            runs=runs,
            settings={**given, **settings},
            progress=self.verbose,
        )

    @property
    def _text_column(self) -> str:
        """The column that mere texts stand in: that of the only field."""
        named = (self.settings or {}).get("data.text_fields")
        return str(next(iter(named.values()))) if isinstance(named, Mapping) and len(named) == 1 else "text"

    def _reads_pictures(self, things: Sequence[object]) -> bool:
        return self.pictures or any(map(_is_picture, things))

    def predict(self, X: object) -> Labels:
        """Return the label of each input ``(len(X),)``, with the type that `y` had; the most probable where it would be left undecided.

        Raises:
            InputError: some cannot be read; all of them are named.
        """
        found = self._predictions(X)
        places = {label: place for place, label in enumerate(self._names)}
        return self.classes_[np.array([places[one.guess] for one in found], dtype=np.intp)]

    def predict_proba(self, X: object) -> npt.NDArray[np.float64]:
        """Return how probable each class is ``(len(X), num_classes)``, in the order of `classes_`."""
        found = self._predictions(X)
        rows = [[one.probabilities[label] for label in self._names] for one in found]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self._names))

    def _predictions(self, X: object) -> list[Prediction]:
        check_is_fitted(self)
        things, _ = _things(X)
        with _as_input_error(), TemporaryDirectory(prefix="maao-pictures-") as folder:
            if self.predictor_.config.pictures is not None:
                things = [_put_picture(thing, Path(folder), str(number)) for number, thing in enumerate(things)]
            return self.predictor_.predict(things)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _things(X: object) -> tuple[list[object], list[str] | None]:
    """Return the inputs one by one, and the names of their columns, where they have such."""
    if isinstance(X, np.ndarray) and X.ndim != 1 and X.shape[1:] != (1,):
        raise InputError(
            f"X has the shape {X.shape}, and PromptClassifier reads one text an example: Reshape your data, or give a frame whose columns "
            "the template names."
        )
    with _as_input_error():
        things = things_to_predict(X)
    columns = list(map(str, things[0])) if things and isinstance(things[0], Mapping) else None
    if columns is not None and len(columns) == 1:
        return [thing[columns[0]] if isinstance(thing, Mapping) else thing for thing in things], columns
    return things, columns


def _classes(y: object) -> tuple[Labels, list[int]]:
    """Return the labels in order, and the place of each example's label among them.

    Example:
        >>> _classes([3, 1, 3])
        (array([1, 3]), [1, 0, 1])
    """
    if isinstance(y, list | tuple) and not _is_of_one_kind(y):
        return _of_any_type(list(y))
    array = column_or_1d(np.asarray(y), warn=True)
    if array.dtype == object:
        return _of_any_type(array.tolist())
    check_classification_targets(array)
    classes, codes = np.unique(array, return_inverse=True)
    return classes, codes.tolist()


def _is_of_one_kind(labels: Sequence[object]) -> bool:
    """Say whether an array would hold labels as they are: texts alone or numbers alone, none of them missing."""
    texts = all(isinstance(label, str) for label in labels)
    return texts or all(isinstance(label, NUMBERS) and label == label for label in labels)


def _of_any_type(labels: list[Hashable]) -> tuple[Labels, list[int]]:
    """Do so for labels that are any Python objects: sorted where they can be, else in the order in which they come."""
    missing = [number for number, label in enumerate(labels, 1) if label is None or label != label]
    if missing:
        raise InputError(f"y has no label for example {missing[0]} (None or NaN; {len(missing)} in all): leave such examples out.")
    found = list(dict.fromkeys(labels))
    with suppress(TypeError):  # classes of one's own, or several types
        found = sorted(found)  # type: ignore[type-var]
    classes = np.empty(len(found), dtype=object)
    classes[:] = found
    places = {label: place for place, label in enumerate(found)}
    return classes, [places[label] for label in labels]


def _names(classes: Labels) -> list[str]:
    """Return what labels are called in a run. Raises `InputError` where two are called alike."""
    names = [str(label) for label in classes.tolist()]
    alike = [name for name, count in Counter(names).items() if count > 1]
    if alike:
        raise InputError(f"y has several labels that read {alike[0]!r}: give labels of one type.")
    return names


def _called(classes: Labels, given: Mapping[Hashable, str] | Sequence[str] | None) -> list[str]:
    """Return the words of each class, in the order of `classes`: by default what they are called."""
    if given is None:
        return _names(classes)
    labels = classes.tolist()
    if isinstance(given, Mapping):
        lacking = [label for label in labels if label not in given]
        if lacking:
            raise ConfigError(f"class_names has no words for the label {lacking[0]!r} of y: name every class.")
        return [given[label] for label in labels]
    if isinstance(given, str) or len(given) != len(labels):
        raise ConfigError(f"class_names has {len(given)} names, and y has {len(labels)} classes: {', '.join(map(repr, labels))}.")
    return list(given)


def _is_picture(thing: object) -> bool:
    """Say whether something is a `PIL.Image.Image`; where PIL was never imported nothing is."""
    if "PIL.Image" not in sys.modules:
        return False
    from PIL.Image import Image

    return isinstance(thing, Image)


def _put_picture(thing: object, folder: Path, name: str) -> Path:
    """Write a picture, or copy its file, into a folder; return the file."""
    from PIL.Image import Image

    if isinstance(thing, Image):
        thing.save(file := folder / f"{name}.png")
        return file
    if not isinstance(thing, str | Path):
        raise InputError(f"A {type(thing).__name__} is no picture: give PIL images, or the paths of image files.")
    if not Path(thing).is_file():
        raise InputError(f"There is no picture {thing}.")
    return Path(shutil.copyfile(thing, folder / f"{name}{Path(thing).suffix}"))


@contextmanager
def _kept_while_waiting(is_kept: bool) -> Iterator[None]:
    """Refuse to wait for replies in a folder that is gone when they come."""
    try:
        yield
    except Waiting as error:
        if is_kept:
            raise
        raise ConfigError("This mentor's replies come as a file, and a fit that waits for them needs a folder: give runs='...'.") from error


@contextmanager
def _as_input_error() -> Iterator[None]:
    """Tell what cannot be read by the error that scikit-learn's users expect."""
    try:
        yield
    except InputError:
        raise
    except DataError as error:
        raise InputError(str(error)) from error
