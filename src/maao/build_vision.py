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
    from maao.data.dataset import Dataset
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.vision.image_problem import ImageProblem
    from maao.problems.vision.methods import Bound, Method

DEFAULT_WORDING = "a photo of a {class}."


@dataclass(frozen=True)
class ImageParts:
    """What a run on pictures is built of, beside what every run has."""

    problem: ImageProblem
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
    from maao.codecs.no_words import NoWords
    from maao.problems.towers.dual_loading import load_dual_encoder

    model = config.model
    encoder = encoder or load_dual_encoder(model.name, device=model.device, dtype=model.dtype, revision=model.revision)
    if given is None:
        dataset: Dataset = config.data.options.load(config.seed)
    else:
        from maao.data.dataset import Dataset
        from maao.data.images import Files

        dataset = Dataset(given, class_names, Files(bits=config.data.options.bits))
    hand = _wordings(model, dataset, (DEFAULT_WORDING,))
    problem = _problem(config, encoder, dataset, _bind(model, encoder, dataset.class_names, hand))
    if given is None:
        problem.elsewhere = _elsewhere(config, encoder, problem, dataset, hand)
    notes = (*dataset.splits.notes, *problem.notes)
    return ImageParts(problem, problem.codec or NoWords(), encoder, dataset.splits, dataset.class_names, notes, dataset.bits)


def _wordings(model: ModelConfig, dataset: Dataset, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hand-written wordings: those asked for, or else the data set's own."""
    return tuple(matcher_options(model).wordings or ([dataset.template] if dataset.template else default))


def _codec(model: ModelConfig, encoder: DualEncoder, method: Method) -> Any:
    """Return the codec of a prompt method's params."""
    from maao.codecs.method import MethodCodec, Start
    from maao.codecs.nearest_token import NearestTokenCodec

    options, text = matcher_options(model), encoder.text
    count = options.num_virtual_tokens
    start = Start(options.initial, count, text.width, text=options.initial_text or "a photo of a")
    return MethodCodec(method, NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=count, distance=model.distance), start)


def _bind(model: ModelConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.towers.class_prompts import ClassTemplate
    from maao.problems.vision.image_problem import bind_classes

    options, has_prompt = matcher_options(model), model.method.options.has_prompt
    template = ClassTemplate.parse(options.template if has_prompt else hand[0])
    return bind_classes(encoder, template, names, options.num_virtual_tokens if has_prompt else 0, hand, options.part_tokens)


def _problem(config: Config, encoder: DualEncoder, dataset: Dataset, bound: Bound) -> ImageProblem:
    from maao.problems.towers.features import FeatureStore
    from maao.problems.vision.image_problem import ImageProblem

    options, own = matcher_options(config.model), config.model.method.options
    store = FeatureStore(feature_file(encoder) if options.cache else None)

    def make(method: Any, codec: Any) -> ImageProblem:
        return ImageProblem(
            encoder,
            dataset.splits,
            dataset.pictures,
            codec,
            method,
            store=store,
            batch_size=config.stage.options.batch_size,
            score_batch=config.model.score_batch,
            views=options.views,
            pixel_bytes=options.pixel_mib * 2**20,
            with_clues=config.plan.options.clues,
        )

    if isinstance(own, ProbeOptions):
        from maao.problems.vision.methods.probes import Probe

        problem = make(Probe(bound), None)
        features, targets = problem.train_features()  # which a probe may begin from
        problem.method = own.build_on(bound, features, targets)
        return problem
    assert isinstance(own, MatcherMethodOptions)
    method = own.build(bound)
    return make(method, _codec(config.model, encoder, method))


def _elsewhere(
    config: Config, encoder: DualEncoder, problem: ImageProblem, dataset: Dataset, hand: tuple[str, ...]
) -> dict[str, ImageProblem]:
    """Return the problems that what was tuned is judged on besides: new classes, or other data sets."""
    from maao.problems.vision.image_problem import transferred

    found = {}
    for name, other in dataset.transfer_sets.items():
        bound = _bind(config.model, encoder, other.class_names, _wordings(config.model, other, hand))
        found[name] = transferred(problem, replace(other.splits, train=(), select=()), bound, other.pictures, problem.store)
    return found


def feature_file(encoder: DualEncoder) -> Any:
    """Return where the features of an image tower are kept, a file named by its weights."""
    from maao.problems.towers.text.loading import cache_folder

    return cache_folder() / "features" / f"{encoder.digest.removeprefix('blake2b:')[:24]}.sqlite"
