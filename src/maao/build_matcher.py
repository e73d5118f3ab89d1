"""Build the problem of a matcher, on pictures or on texts, from a config: that half of `build.py`, loaded only where it is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maao.config import Config
from maao.data.dataset import Dataset
from maao.errors import ConfigError
from maao.problems.kinds import MatcherOptions, matcher_options
from maao.problems.settings import MatcherMethodOptions, ModelConfig, ProbeOptions
from maao.protocols import Codec
from maao.types import Splits

if TYPE_CHECKING:
    from maao.codecs.method import MethodCodec
    from maao.problems.classification import ClassificationProblem
    from maao.problems.known_texts import KnownTextReader
    from maao.problems.methods import Bound, MatcherMethod
    from maao.problems.pictures import PictureReader
    from maao.problems.scorers.matcher import Known
    from maao.problems.towers.dual import DualEncoder


@dataclass(frozen=True)
class Usual:
    """What settings that are left out are, for one kind of input."""

    template: str
    initial_text: str
    wording: str


PICTURES = Usual("{slots} {class}.", "a photo of a", "a photo of a {class}.")
TEXTS = Usual("{slots} {class}", "this text is about", "{class}")
OF_TEXTS = ("label_words", "input_template", "pooling", "max_length", "scale")
OF_PICTURES = ("views", "pixel_mib")


@dataclass(frozen=True)
class MatcherParts:
    """What a run of a matcher is built of, beside what every run has."""

    model: ModelConfig  # with what was left out
    problem: ClassificationProblem[Known]
    codec: Codec[Any]
    encoder: DualEncoder
    splits: Splits
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    bits: int | None = None


def check_matcher(config: Config) -> None:
    """Refuse settings that cannot go together, and mentors that a method cannot follow. Loads nothing."""
    model, method = completed(config).model, config.model.method
    if not method.options.has_prompt:
        if config.mentor.name not in ("none", "custom"):
            raise ConfigError(
                f"model.method = '{method.name}' trains no prompt, so a mentor has nothing to propose: set mentor.name = \"none\"."
            )
    elif "{slots}" not in (model.template or ""):
        raise ConfigError(f"model.template = {model.template!r} has no {{slots}}, the place of what is tuned.")
    if not method.options.is_trained and config.stage.options.lr_grid:  # the grid that `find_lr` takes
        raise ConfigError(f"model.method = '{method.name}' trains nothing: there is no learning rate to search for.")
    of_texts = config.input == "text"
    read = "texts" if of_texts else "pictures"
    for key in OF_PICTURES if of_texts else OF_TEXTS:
        if getattr(matcher_options(config.model), key) != MatcherOptions.model_fields[key].default:
            raise ConfigError(f"model.{key} would be ignored, since the inputs are {read}: drop it.")


def completed(config: Config) -> Config:
    """Return a config with the template of classes that it leaves out."""
    usual = TEXTS if config.input == "text" else PICTURES
    return config.model_copy(update={"model": config.model.with_kind(template=config.model.template or usual.template)})


def build_matcher(
    config: Config,
    given: Splits | None = None,
    class_names: tuple[str, ...] = (),
    encoder: DualEncoder | None = None,
    *,
    dataset: Dataset | None = None,
) -> MatcherParts:
    """Build the problem of a matcher.

    Args:
        given: examples to use a run on, pictures by the paths of their files, in place of the config's data section.
        class_names: their classes in words.
        encoder: the towers, where they are loaded already.
        dataset: the data, where they are read already.
    """
    config = completed(config)
    model, of_texts = config.model, config.input == "text"
    encoder = encoder or _encoder(model, of_texts)
    if given is not None:
        dataset = _given(config, given, class_names)
    elif dataset is None:
        dataset = config.data.options.load(config.seed)
    assert dataset is not None
    names = dataset.class_names if not of_texts else class_names or _names(model, dataset.splits.labels)
    hand = _wordings(model, dataset, ((TEXTS if of_texts else PICTURES).wording,))
    problem = _problem(config, encoder, dataset, _bind(model, encoder, names, hand))
    if given is None and dataset.transfer_sets:
        problem.transfer_sets = _transfer_sets(config, encoder, problem, dataset, hand)
    notes = (*dataset.splits.notes, *encoder.notes, *problem.notes)
    return MatcherParts(model, problem, problem.codec, encoder, dataset.splits, names, notes, dataset.bits)


def _encoder(model: ModelConfig, of_texts: bool) -> DualEncoder:
    from maao.problems.towers.dual_loading import load_dual_encoder
    from maao.problems.towers.text.matching import load_text_matcher

    common: dict[str, Any] = {"device": model.device, "dtype": model.dtype, "revision": model.revision}
    if not of_texts:
        return load_dual_encoder(model.name, **common)
    options = matcher_options(model)
    found = load_text_matcher(model.name, pooling=options.pooling, max_length=options.max_length, **common)
    return found if options.scale is None else replace(found, scale=options.scale)


def _given(config: Config, given: Splits, class_names: tuple[str, ...]) -> Dataset:
    """Return examples that a run is used on as a data set."""
    if config.input == "text":
        return Dataset(given, class_names or given.labels)
    from maao.data.images import Files

    return Dataset(given, class_names, Files(bits=config.pictures.bits if config.pictures else None))


def _names(model: ModelConfig, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of the classes of texts.

    Raises:
        ConfigError: words of a label that the data do not have, or none for one that they have.
    """
    words = matcher_options(model).label_words
    if words is None:
        return tuple(label.replace("_", " ") for label in labels)
    wrong = sorted(set(words) ^ set(labels))
    if wrong:
        raise ConfigError(
            f"model.label_words needs the words of each of the labels {', '.join(labels)}, and no others: {', '.join(wrong)}."
        )
    return tuple(words[label] for label in labels)


def _wordings(model: ModelConfig, dataset: Dataset, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hand-written wordings: those asked for, or else the data set's own."""
    return tuple(matcher_options(model).wordings or ([dataset.template] if dataset.template else default))


def _codec(model: ModelConfig, encoder: DualEncoder, method: MatcherMethod) -> MethodCodec:
    """Return the codec of a prompt method's params."""
    from maao.codecs.method import MethodCodec, Start
    from maao.codecs.nearest_token import NearestTokenCodec

    options, text, usual = matcher_options(model), encoder.text, TEXTS if encoder.pixels is None else PICTURES
    count = options.num_virtual_tokens
    start = Start(options.initial, count, text.width, text=options.initial_text or usual.initial_text)
    return MethodCodec(method, NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=count, distance=model.distance), start)


def _bind(model: ModelConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.scorers.matcher import bind_classes
    from maao.problems.towers.class_prompts import ClassTemplate

    options, has_prompt = matcher_options(model), model.method.options.has_prompt
    template = ClassTemplate.parse((options.template or "") if has_prompt else hand[0])
    return bind_classes(encoder, template, names, options.num_virtual_tokens if has_prompt else 0, hand, options.part_tokens)


def _reader(model: ModelConfig, encoder: DualEncoder, dataset: Dataset) -> PictureReader | KnownTextReader:
    """Return what reads inputs, and keeps their features."""
    from maao.problems.known_texts import KnownTextReader
    from maao.problems.towers.features import FeatureStore
    from maao.problems.towers.text.inputs import InputTemplate

    options = matcher_options(model)
    store = FeatureStore(feature_file(encoder) if options.cache else None)
    if encoder.pixels is None:
        return KnownTextReader(encoder, InputTemplate.parse(options.input_template), store=store, batch=model.score_batch)
    from maao.problems.pictures import PictureReader

    limit = options.pixel_mib * 2**20
    return PictureReader(encoder, dataset.pictures, store=store, views=options.views, batch=model.score_batch, max_bytes=limit)


def _problem(config: Config, encoder: DualEncoder, dataset: Dataset, bound: Bound) -> ClassificationProblem[Known]:
    import torch

    from maao.codecs.no_words import NoWords
    from maao.problems.classification import ClassificationProblem
    from maao.problems.known_texts import cut_notes
    from maao.problems.scorers.matcher import Matcher
    from maao.problems.scorers.probes import NoPrompt

    model, own, splits = config.model, config.model.method.options, dataset.splits
    if any(example.choices for example in (*splits.train, *splits.select, *splits.test)):
        raise ConfigError("The examples have choices of their own, and a matcher has the same classes for all: use another model.kind.")
    reader = _reader(model, encoder, dataset)
    made: type[ClassificationProblem[Known]] = ClassificationProblem
    if encoder.pixels is not None:
        from maao.problems.pictures import PictureProblem

        made = PictureProblem
    common: dict[str, Any] = {
        "batch_size": config.stage.options.batch_size,
        "score_batch": model.score_batch,
        "with_clues": config.plan.options.clues,
        "measure": config.data.options.measure(splits.labels),
    }
    if isinstance(own, ProbeOptions):  # which may begin from the features of `train`
        train = reader.split(splits.train, train=True)
        targets = torch.tensor([splits.labels.index(example.label) for example in splits.train], dtype=torch.long)
        probe = own.build_on(bound, train.features_of.features, targets)
        problem = made(NoPrompt(), probe, NoWords(), reader, splits, train=train, **common)
        problem.notes = cut_notes(problem)
        return problem
    assert isinstance(own, MatcherMethodOptions)
    method = own.build(bound)
    problem = made(method, Matcher(method), _codec(model, encoder, method), reader, splits, **common)
    inputs, tower = ("texts", "text tower") if encoder.pixels is None else ("images", "image tower")
    told = f"{method.name} puts what it trains into the {tower}: every step runs it, and no features of {inputs} can be kept"
    problem.notes = (*cut_notes(problem), *((told,) if method.tunes_inputs else ()))
    return problem


def _transfer_sets(
    config: Config, encoder: DualEncoder, problem: ClassificationProblem[Known], dataset: Dataset, hand: tuple[str, ...]
) -> dict[str, ClassificationProblem[Known]]:
    """Return the problems that what was tuned is judged on besides: new classes, or other data sets."""
    from maao.problems.pictures import transferred

    found = {}
    for name, other in dataset.transfer_sets.items():
        bound = _bind(config.model, encoder, other.class_names, _wordings(config.model, other, hand))
        found[name] = transferred(problem, replace(other.splits, train=(), select=()), bound, other.pictures)
    return found


def feature_file(encoder: DualEncoder) -> Any:
    """Return where the features of an image tower are kept, a file named by its weights."""
    from maao.problems.towers.text.loading import cache_folder

    return cache_folder() / "features" / f"{encoder.digest.removeprefix('blake2b:')[:24]}.sqlite"
