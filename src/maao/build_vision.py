"""Build the problem of a dual encoder and its pictures from a config: the vision half of `build.py`, loaded only where it is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maao.config import Config
from maao.errors import ConfigError
from maao.problems.kinds import matcher_options
from maao.problems.settings import MatcherMethodOptions, ModelConfig, ProbeOptions
from maao.protocols import Codec
from maao.types import Splits

if TYPE_CHECKING:
    from maao.codecs.method import MethodCodec
    from maao.data.dataset import Dataset
    from maao.problems.classification import ClassificationProblem
    from maao.problems.methods import Bound, MatcherMethod
    from maao.problems.pictures import PictureProblem
    from maao.problems.scorers.matcher import Known
    from maao.problems.towers.dual import DualEncoder

DEFAULT_WORDING = "a photo of a {class}."


@dataclass(frozen=True)
class ImageParts:
    """What a run on pictures is built of, beside what every run has."""

    problem: PictureProblem
    codec: Codec[Any]
    encoder: DualEncoder
    splits: Splits
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    bits: int | None = None


def check_vision(config: Config) -> None:
    """Refuse settings that cannot go together, and mentors that a method cannot follow. Loads nothing."""
    model, method = config.model, config.model.method
    if not method.options.has_prompt:
        if config.mentor.name not in ("none", "custom"):
            raise ConfigError(
                f"model.method = '{method.name}' trains no prompt, so a mentor has nothing to propose: set mentor.name = \"none\"."
            )
    elif "{slots}" not in (model.template or ""):
        raise ConfigError(f"model.template = {model.template!r} has no {{slots}}, the place of what is tuned.")
    if not method.options.is_trained and config.stage.options.lr_grid:  # the grid that `find_lr` takes
        raise ConfigError(f"model.method = '{method.name}' trains nothing: there is no learning rate to search for.")


def build_images(
    config: Config, given: Splits | None = None, class_names: tuple[str, ...] = (), encoder: DualEncoder | None = None
) -> ImageParts:
    """Build the problem of pictures.

    Args:
        given: pictures by the paths of their files, in place of the config's images section.
        class_names: their classes in words.
        encoder: the towers, where they are loaded already.
    """
    from maao.problems.towers.dual_loading import load_dual_encoder

    model = config.model
    encoder = encoder or load_dual_encoder(model.name, device=model.device, dtype=model.dtype, revision=model.revision)
    if given is None:
        dataset: Dataset = config.data.options.load(config.seed)
    else:
        from maao.data.dataset import Dataset
        from maao.data.images import Files

        dataset = Dataset(given, class_names, Files(bits=config.pictures.bits if config.pictures else None))
    hand = _wordings(model, dataset, (DEFAULT_WORDING,))
    problem = _problem(config, encoder, dataset, _bind(model, encoder, dataset.class_names, hand))
    if given is None:
        problem.transfer_sets = _transfer_sets(config, encoder, problem, dataset, hand)
    notes = (*dataset.splits.notes, *problem.notes)
    return ImageParts(problem, problem.codec, encoder, dataset.splits, dataset.class_names, notes, dataset.bits)


def _wordings(model: ModelConfig, dataset: Dataset, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hand-written wordings: those asked for, or else the data set's own."""
    return tuple(matcher_options(model).wordings or ([dataset.template] if dataset.template else default))


def _codec(model: ModelConfig, encoder: DualEncoder, method: MatcherMethod) -> MethodCodec:
    """Return the codec of a prompt method's params."""
    from maao.codecs.method import MethodCodec, Start
    from maao.codecs.nearest_token import NearestTokenCodec

    options, text = matcher_options(model), encoder.text
    count = options.num_virtual_tokens
    start = Start(options.initial, count, text.width, text=options.initial_text or "a photo of a")
    return MethodCodec(method, NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=count, distance=model.distance), start)


def _bind(model: ModelConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.scorers.matcher import bind_classes
    from maao.problems.towers.class_prompts import ClassTemplate

    options, has_prompt = matcher_options(model), model.method.options.has_prompt
    template = ClassTemplate.parse(options.template if has_prompt else hand[0])
    return bind_classes(encoder, template, names, options.num_virtual_tokens if has_prompt else 0, hand, options.part_tokens)


def _problem(config: Config, encoder: DualEncoder, dataset: Dataset, bound: Bound) -> PictureProblem:
    import torch

    from maao.codecs.no_words import NoWords
    from maao.problems.pictures import PictureProblem, PictureReader
    from maao.problems.scorers.matcher import Matcher
    from maao.problems.scorers.probes import NoPrompt
    from maao.problems.towers.features import FeatureStore

    model, options, own = config.model, matcher_options(config.model), config.model.method.options
    store, limit = FeatureStore(feature_file(encoder) if options.cache else None), options.pixel_mib * 2**20
    reader = PictureReader(encoder, dataset.pictures, store=store, views=options.views, batch=model.score_batch, max_bytes=limit)
    common: dict[str, Any] = {
        "batch_size": config.stage.options.batch_size,
        "score_batch": model.score_batch,
        "with_clues": config.plan.options.clues,
    }
    splits = dataset.splits
    if isinstance(own, ProbeOptions):  # which may begin from the features of `train`
        train = reader.split(splits.train, train=True)
        targets = torch.tensor([splits.labels.index(example.label) for example in splits.train], dtype=torch.long)
        probe = own.build_on(bound, train.features_of.features, targets)
        return PictureProblem(NoPrompt(), probe, NoWords(), reader, splits, train=train, **common)
    assert isinstance(own, MatcherMethodOptions)
    method = own.build(bound)
    problem = PictureProblem(method, Matcher(method), _codec(model, encoder, method), reader, splits, **common)
    if method.tunes_inputs:
        told = f"{method.name} puts what it trains into the image tower: every step runs it, and no features of images can be kept"
        problem.notes = (told,)
    return problem


def _transfer_sets(
    config: Config, encoder: DualEncoder, problem: PictureProblem, dataset: Dataset, hand: tuple[str, ...]
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
