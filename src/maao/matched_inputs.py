"""What a matcher compares with classes: texts or pictures. Here stands all in which the two differ; `INPUTS` holds both by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from maao.data.dataset import Dataset
from maao.errors import ConfigError
from maao.mentors.context import Input
from maao.problems.kinds import matcher_options
from maao.problems.settings import MatcherMethodOptions, MethodOptions, ModelConfig
from maao.problems.towers.dual_names import reads_pictures
from maao.types import Splits

if TYPE_CHECKING:
    from maao.config import Config
    from maao.problems.classification import ClassificationProblem
    from maao.problems.known_texts import KnownTextReader
    from maao.problems.pictures import PictureReader
    from maao.problems.scorers.matcher import Known
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.features import FeatureStore


class MatchedInputs(Protocol):
    """One kind of input of a matcher. `template`, `initial_text` and `wording` are what settings that are left out are."""

    template: str
    initial_text: str
    wording: str
    told: Input  # to a mentor
    plural: str
    lines_are_inputs: bool  # a class line can stand in the place of one
    features_of: str
    tower: str  # what reads them
    unread: tuple[str, ...]  # settings of [model] that are of the other kind alone

    def check(self, config: Config) -> None:
        """Refuse settings that cannot go together. Loads nothing. Raises `ConfigError`."""
        ...

    def encoder(self, model: ModelConfig) -> DualEncoder:
        """Load the towers."""
        ...

    def at_hand(self, splits: Splits) -> Dataset:
        """Return examples that a caller gives to tune on as a data set."""
        ...

    def in_use(self, config: Config, given: Splits, class_names: tuple[str, ...]) -> Dataset:
        """Return examples that a run is used on as a data set."""
        ...

    def wordings(self, method: MethodOptions) -> tuple[str, ...]:
        """Return the hand-written wordings that a method reads of classes, where neither settings nor data name one."""
        ...

    def reread(self, config: Config, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        """Return the examples of a run as a data set, with what opens them."""
        ...

    def class_names(self, model: ModelConfig, dataset: Dataset, given: tuple[str, ...]) -> tuple[str, ...]:
        """Return the classes in words; `given`: those of the run, where it is used."""
        ...

    def reader(self, model: ModelConfig, encoder: DualEncoder, dataset: Dataset, store: FeatureStore) -> KnownTextReader | PictureReader:
        """Return what reads inputs, and keeps their features."""
        ...

    def problem(self) -> type[ClassificationProblem[Known]]: ...


class MatchedTexts(MatchedInputs):
    """Texts, of which a sentence encoder makes features."""

    template = "{slots} {class}"
    initial_text = "this text is about"
    wording = "{class}"
    told: Input = "matched_text"
    plural, features_of, tower = "texts", "texts", "text tower"
    lines_are_inputs = True
    unread = ("views", "pixel_mib")

    def check(self, config: Config) -> None:
        if reads_pictures(config.model.name):
            source = config.data.options.source
            raise ConfigError(
                f"model.name = '{config.model.name}' reads pictures, and data.source = '{source}' is of texts, as far as can be told: name "
                "a folder that is there and holds a folder for each class, emoji, or one of the field's sets; or say that it is of "
                "pictures, with data.input = 'image'. To match texts name a text encoder, such as packaged:all-minilm-l6-v2."
            )

    def encoder(self, model: ModelConfig) -> DualEncoder:
        from maao.problems.towers.text.matching import load_text_matcher

        options = matcher_options(model)
        layers = hidden_layers(model)
        found = load_text_matcher(
            model.name, pooling=options.pooling, max_length=options.max_length, hidden_layers=layers, **_loading(model)
        )
        return found if options.scale is None else replace(found, scale=options.scale)

    def at_hand(self, splits: Splits) -> Dataset:
        return Dataset(splits, splits.labels)

    def in_use(self, config: Config, given: Splits, class_names: tuple[str, ...]) -> Dataset:
        return Dataset(given, class_names or given.labels)

    def wordings(self, method: MethodOptions) -> tuple[str, ...]:
        assert isinstance(method, MatcherMethodOptions)
        return method.text_wordings or (self.wording,)

    def reread(self, config: Config, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        return Dataset(splits, class_names)

    def class_names(self, model: ModelConfig, dataset: Dataset, given: tuple[str, ...]) -> tuple[str, ...]:
        """Raises `ConfigError` for words of a label that the data do not have, or none for one that they have."""
        words, labels = matcher_options(model).label_words, dataset.splits.labels
        if given:
            return given
        if words is None:
            return tuple(label.replace("_", " ") for label in labels)
        wrong = sorted(set(words) ^ set(labels))
        if wrong:
            raise ConfigError(
                f"model.label_words needs the words of each of the labels {', '.join(labels)}, and no others: {', '.join(wrong)}."
            )
        return tuple(words[label] for label in labels)

    def reader(self, model: ModelConfig, encoder: DualEncoder, dataset: Dataset, store: FeatureStore) -> KnownTextReader:
        from maao.problems.known_texts import KnownTextReader
        from maao.problems.towers.text.inputs import InputTemplate

        return KnownTextReader(encoder, InputTemplate.parse(matcher_options(model).input_template), store=store, batch=model.score_batch)

    def problem(self) -> type[ClassificationProblem[Known]]:
        from maao.problems.classification import ClassificationProblem

        return ClassificationProblem


def hidden_layers(model: ModelConfig) -> tuple[int, ...] | Literal["two_thirds"]:
    """Return which layers of a text encoder stand beside its own vector: those asked for, or what is usual for the method."""
    asked, method = matcher_options(model).hidden_layers, model.method.options
    if asked is not None:
        return tuple(asked)
    assert isinstance(method, MatcherMethodOptions)
    return "two_thirds" if method.reads_hidden_layers else ()


class MatchedPictures(MatchedInputs):
    """Pictures, of which an image tower makes features."""

    template = "{slots} {class}."
    initial_text = "a photo of a"
    wording = "a photo of a {class}."
    told: Input = "image"
    plural, features_of, tower = "pictures", "images", "image tower"
    lines_are_inputs = False
    unread = ("label_words", "input_template", "pooling", "max_length", "hidden_layers", "scale")

    def check(self, config: Config) -> None:
        return None

    def encoder(self, model: ModelConfig) -> DualEncoder:
        from maao.problems.towers.dual_loading import load_dual_encoder

        return load_dual_encoder(model.name, **_loading(model))

    def at_hand(self, splits: Splits) -> Dataset:
        raise ConfigError("Pictures come from the config's data section: examples at hand are for problems of language.")

    def in_use(self, config: Config, given: Splits, class_names: tuple[str, ...]) -> Dataset:
        from maao.data.images import Files

        return Dataset(given, class_names, Files(bits=config.pictures.bits if config.pictures else None))

    def wordings(self, method: MethodOptions) -> tuple[str, ...]:
        return (self.wording,)

    def reread(self, config: Config, splits: Splits, class_names: tuple[str, ...]) -> Dataset:
        return replace(config.builder.load_data() or Dataset(splits, class_names), splits=splits)

    def class_names(self, model: ModelConfig, dataset: Dataset, given: tuple[str, ...]) -> tuple[str, ...]:
        return dataset.class_names

    def reader(self, model: ModelConfig, encoder: DualEncoder, dataset: Dataset, store: FeatureStore) -> PictureReader:
        from maao.problems.pictures import PictureReader

        options = matcher_options(model)
        limit = options.pixel_mib * 2**20
        return PictureReader(encoder, dataset.pictures, store=store, views=options.views, batch=model.score_batch, max_bytes=limit)

    def problem(self) -> type[ClassificationProblem[Known]]:
        from maao.problems.pictures import PictureProblem

        return PictureProblem


INPUTS: Mapping[str, MatchedInputs] = {"text": MatchedTexts(), "image": MatchedPictures()}


def _loading(model: ModelConfig) -> dict[str, Any]:
    return {"device": model.device, "dtype": model.dtype, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
