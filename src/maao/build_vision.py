"""Build the problem of a dual encoder and its pictures from a config: the vision half of `build.py`, loaded only where it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maao.config import PROBES, VISION_READ, Config, VisionConfig
from maao.errors import ConfigError
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
    vision = config.vision
    if vision.method in PROBES:
        if config.mentor.name not in ("none", "custom"):
            raise ConfigError(
                f"vision.method = '{vision.method}' trains no prompt, so a mentor has nothing to propose: set mentor.name = \"none\"."
            )
    elif "{slots}" not in vision.template:
        raise ConfigError(f"vision.template = {vision.template!r} has no {{slots}}, the place of what is tuned.")
    if config.mentor.name == "random_restart" and vision.initial == "text":
        raise ConfigError(
            "The mentor 'random_restart' starts as a run begins, and vision.initial = 'text' is the same text each time: use 'vocabulary' "
            "or 'normal' with it."
        )
    if vision.method == "zero_shot" and config.stage.lr_grid:  # the grid that `find_lr` takes
        raise ConfigError("vision.method = 'zero_shot' trains nothing: there is no learning rate to search for.")


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

    vision = config.vision
    encoder = encoder or load_dual_encoder(vision.name, device=vision.device, dtype=vision.dtype, revision=vision.revision)
    if given is None:
        dataset: Dataset = config.data.options.load(config.seed)
    else:
        from maao.data.dataset import Dataset
        from maao.data.images import Files

        dataset = Dataset(given, class_names, Files(bits=config.data.options.bits))
    hand = _wordings(vision, dataset, (DEFAULT_WORDING,))
    problem = _problem(config, encoder, dataset, _bind(vision, encoder, dataset.class_names, hand))
    if given is None:
        problem.elsewhere = _elsewhere(config, encoder, problem, dataset, hand)
    notes = (*dataset.splits.notes, *problem.notes)
    return ImageParts(problem, problem.codec or NoWords(), encoder, dataset.splits, dataset.class_names, notes, dataset.bits)


def _wordings(vision: VisionConfig, dataset: Dataset, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the hand-written wordings: those asked for, or else the data set's own."""
    return tuple(vision.wordings or ([dataset.template] if dataset.template else default))


def _codec(vision: VisionConfig, encoder: DualEncoder, method: Method) -> Any:
    """Return the codec of a prompt method's params."""
    from maao.codecs.method import MethodCodec, Start
    from maao.codecs.nearest_token import NearestTokenCodec

    text, count = encoder.text, vision.num_virtual_tokens
    start = Start(vision.initial, count, text.width, text=vision.initial_text or "a photo of a")
    return MethodCodec(method, NearestTokenCodec(text.tokenizer, text.table, num_virtual_tokens=count, distance=vision.distance), start)


def _bind(vision: VisionConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.towers.class_prompts import ClassTemplate
    from maao.problems.vision.image_problem import bind_classes

    template = ClassTemplate.parse(hand[0] if vision.method in PROBES else vision.template)
    count = 0 if vision.method in PROBES else vision.num_virtual_tokens
    return bind_classes(encoder, template, names, count, hand, vision.part_tokens)


def _problem(config: Config, encoder: DualEncoder, dataset: Dataset, bound: Bound) -> ImageProblem:
    from maao.problems.towers.features import FeatureStore
    from maao.problems.vision.image_problem import ImageProblem

    vision = config.vision
    store = FeatureStore(feature_file(encoder) if vision.cache else None)

    def make(method: Any, codec: Any) -> ImageProblem:
        return ImageProblem(
            encoder,
            dataset.splits,
            dataset.pictures,
            codec,
            method,
            store=store,
            batch_size=config.stage.batch_size,
            score_batch=vision.score_batch,
            views=vision.views,
            pixel_bytes=vision.pixel_mib * 2**20,
            with_clues=config.plan.clues,
        )

    if vision.method in PROBES:
        from maao.problems.vision.methods.probes import Probe

        problem = make(Probe(bound), None)
        features, targets = problem.train_features()  # which a probe may begin from
        problem.method = _probes()[vision.method](bound, features=features, targets=targets)
        return problem
    method = build_image_method(vision, bound)
    return make(method, _codec(vision, encoder, method))


def _probes() -> Mapping[str, Callable[..., Any]]:
    from maao.problems.vision.methods.probes import LinearProbe, LPPlusPlus, ZeroShot

    return {"zero_shot": ZeroShot, "linear_probe": LinearProbe, "lp++": LPPlusPlus}


def build_image_method(vision: VisionConfig, bound: Bound) -> Method:
    """Return a prompt method by name, with the settings that it reads."""
    from maao.problems.vision.methods.cocoop import CoCoOp
    from maao.problems.vision.methods.coop import CoOp
    from maao.problems.vision.methods.kgcoop import KgCoOp
    from maao.problems.vision.methods.maple import MaPLe
    from maao.problems.vision.methods.prograd import ProGrad
    from maao.problems.vision.methods.promptsrc import PromptSRC
    from maao.problems.vision.methods.tcp import TCP

    kinds: dict[str, Callable[..., Any]] = {
        "coop": CoOp,
        "cocoop": CoCoOp,
        "kgcoop": KgCoOp,
        "prograd": ProGrad,
        "tcp": TCP,
        "maple": MaPLe,
        "promptsrc": PromptSRC,
    }
    own = {name: getattr(vision, name) for name, methods in VISION_READ.items() if vision.method in methods}
    return kinds[vision.method](bound, **{name: value for name, value in own.items() if value is not None})


def _elsewhere(
    config: Config, encoder: DualEncoder, problem: ImageProblem, dataset: Dataset, hand: tuple[str, ...]
) -> dict[str, ImageProblem]:
    """Return the problems that what was tuned is judged on besides: new classes, or other data sets."""
    from maao.problems.vision.image_problem import transferred

    found = {}
    for name, other in dataset.transfer_sets.items():
        bound = _bind(config.vision, encoder, other.class_names, _wordings(config.vision, other, hand))
        found[name] = transferred(problem, replace(other.splits, train=(), select=()), bound, other.pictures, problem.store)
    return found


def feature_file(encoder: DualEncoder) -> Any:
    """Return where the features of an image tower are kept, a file named by its weights."""
    from maao.problems.towers.text.loading import cache_folder

    return cache_folder() / "features" / f"{encoder.digest.removeprefix('blake2b:')[:24]}.sqlite"
