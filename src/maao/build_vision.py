"""Build the problem of a dual encoder and its pictures from a config: the vision half of `build.py`, loaded only where it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maao.config import Config, VisionConfig
from maao.errors import ConfigError
from maao.interfaces import Codec
from maao.types import Splits

if TYPE_CHECKING:
    from maao.problems.vision.image_problem import ImageProblem
    from maao.problems.vision.methods import Bound, Method
    from maao.problems.vision.towers import DualEncoder
    from maao.tasks.images import ImageTask

DEFAULT_WORDING = "a photo of a {class}."
PROBES = ("zero_shot", "linear_probe", "lp++")

# which method reads a setting; all others refuse it
READ_BY: Mapping[str, tuple[str, ...]] = {
    "class_specific": ("coop", "kgcoop", "prograd"),
    "weight": ("kgcoop", "prograd", "tcp"),
    "temperature": ("prograd",),
    "depth": ("tcp", "maple", "promptsrc"),
    "num_image_tokens": ("promptsrc",),
    "text_weight": ("promptsrc",),
    "image_weight": ("promptsrc",),
    "score_weight": ("promptsrc",),
}


@dataclass(frozen=True)
class ImageParts:
    """What a run on pictures is built of, beside what every run has."""

    problem: ImageProblem
    codec: Codec[Any]
    encoder: DualEncoder
    splits: Splits
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


class NoWords:
    """The codec of methods without a prompt: nothing can be put into words."""

    def decode(self, params: Any) -> str:
        from maao.errors import CodecError

        raise CodecError("This method trains no prompt, so there are no words for it.")

    def encode(self, text: str) -> Any:
        from maao.errors import CodecError

        raise CodecError(f"This method trains no prompt: the text {text!r} cannot become one.")


def check_vision(config: Config) -> None:
    """Refuse settings that nothing would read, and mentors that a method cannot follow. Loads nothing."""
    vision, default = config.vision, VisionConfig()
    for name, methods in READ_BY.items():
        if getattr(vision, name) != getattr(default, name) and vision.method not in methods:
            raise ConfigError(f"vision.{name} is read by {', '.join(methods)} only, and vision.method is '{vision.method}': drop it.")
    if vision.initial != "text" and vision.initial_text is not None:
        raise ConfigError(f'vision.initial_text is read with vision.initial = "text" only; it is "{vision.initial}": drop one of them.')
    if vision.method in PROBES:
        if config.mentor.name not in ("none", "custom"):
            raise ConfigError(
                f"vision.method = '{vision.method}' trains no prompt, so a mentor has nothing to propose: set mentor.name = \"none\"."
            )
        given = [n for n in ("template", "num_virtual_tokens", "initial", "distance") if getattr(vision, n) != getattr(default, n)]
        if given:
            raise ConfigError(f"vision.method = '{vision.method}' trains no prompt: drop vision.{' and vision.'.join(given)}.")
    elif "{slots}" not in vision.template:
        raise ConfigError(f"vision.template = {vision.template!r} has no {{slots}}, the place of what is tuned.")
    if config.mentor.name == "random_restart" and vision.initial == "text":
        raise ConfigError(
            "The mentor 'random_restart' starts as a run begins, and vision.initial = 'text' is the same text each time: use 'vocabulary' "
            "or 'normal' with it."
        )
    if vision.method == "zero_shot" and config.stage.lr_grid:
        raise ConfigError("vision.method = 'zero_shot' trains nothing: drop stage.lr_grid.")


def build_images(config: Config, labels: tuple[str, ...] | None = None, class_names: tuple[str, ...] | None = None) -> ImageParts:
    """Build the problem of pictures; with `labels` and `class_names` one without data, to use what was tuned."""
    from maao.problems.vision.loading import load_dual_encoder

    vision = config.vision
    encoder = load_dual_encoder(vision.name, device=vision.device, dtype=vision.dtype, revision=vision.revision)
    if labels is None or class_names is None:
        task = load_task(config)
    else:
        from maao.tasks.images import Files, ImageTask

        task = ImageTask(Splits((), (), (), labels), class_names, Files(), "", ())
    codec = _codec(vision, encoder)
    hand = tuple(vision.wordings or ([task.template] if task.template else [DEFAULT_WORDING]))
    bound = _bind(vision, encoder, task.class_names, hand)
    problem, method = _problem(config, encoder, task, codec, bound)
    elsewhere = {} if labels is not None else _elsewhere(config, encoder, problem, hand)
    problem.elsewhere = elsewhere
    words: Any = NoWords()
    if codec is not None:
        from maao.problems.language.methods import MethodCodec

        words = MethodCodec(method, codec)
    problem.codec = None if codec is None else words
    notes = (*task.notes, *problem.notes)
    return ImageParts(problem, words, encoder, task.splits, task.class_names, notes)


def load_task(config: Config) -> ImageTask:
    """Read the pictures that a config names."""
    from maao.tasks.images import load

    return load(config.images, config.seed)


def _codec(vision: VisionConfig, encoder: DualEncoder) -> Any:
    if vision.method in PROBES:
        return None
    from maao.codecs.nearest_token import NearestTokenCodec

    return NearestTokenCodec(
        encoder.text.tokenizer, encoder.text.table, num_virtual_tokens=vision.num_virtual_tokens, distance=vision.distance
    )


def _bind(vision: VisionConfig, encoder: DualEncoder, names: tuple[str, ...], hand: tuple[str, ...]) -> Bound:
    from maao.problems.vision.class_prompts import ClassTemplate
    from maao.problems.vision.image_problem import bind_classes

    template = ClassTemplate.parse(hand[0] if vision.method in PROBES else vision.template)
    count = 0 if vision.method in PROBES else vision.num_virtual_tokens
    return bind_classes(encoder, template, names, count, hand, vision.part_tokens)


def _problem(config: Config, encoder: DualEncoder, task: ImageTask, codec: Any, bound: Bound) -> tuple[ImageProblem, Method]:
    from maao.problems.vision.features import FeatureStore
    from maao.problems.vision.image_problem import ImageProblem

    vision = config.vision
    store = FeatureStore(feature_file(encoder) if vision.cache else None)

    def make(method: Any) -> ImageProblem:
        return ImageProblem(
            encoder,
            task.splits,
            task.source,
            codec,
            method,
            store=store,
            initial=vision.initial,
            initial_text=(vision.initial_text or "a photo of a") if vision.initial == "text" else None,
            num_virtual_tokens=vision.num_virtual_tokens,
            batch_size=config.stage.batch_size,
            score_batch=vision.score_batch,
            views=vision.views,
            pixel_bytes=vision.pixel_mib * 2**20,
            with_clues=config.plan.clues,
        )

    if vision.method in PROBES:
        from maao.problems.vision.methods.probes import Probe

        problem = make(Probe(bound, features=bound.anchors, targets=_empty_targets()))
        features, targets = problem.train_features()
        problem.method = _probes()[vision.method](bound, features=features, targets=targets)
        return problem, problem.method
    method = build_image_method(vision, bound)
    return make(method), method


def _empty_targets() -> Any:
    import torch

    return torch.zeros(0, dtype=torch.long)


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
    own = {name: getattr(vision, name) for name, methods in READ_BY.items() if vision.method in methods}
    return kinds[vision.method](bound, **{name: value for name, value in own.items() if value is not None})


def _elsewhere(config: Config, encoder: DualEncoder, problem: ImageProblem, hand: tuple[str, ...]) -> dict[str, ImageProblem]:
    """Return the problems that what was tuned is judged on besides: new classes, or other data sets."""
    from maao.problems.vision.image_problem import transferred
    from maao.tasks.images import load_elsewhere

    found = {}
    for name, task in load_elsewhere(config.images, config.seed).items():
        own = tuple(config.vision.wordings or ([task.template] if task.template else hand))
        bound = _bind(config.vision, encoder, task.class_names, own)
        found[name] = transferred(problem, replace(task.splits, train=(), select=()), bound, task.source, problem.store)
    return found


def feature_file(encoder: DualEncoder) -> Any:
    """Return where the features of an image tower are kept, a file named by its weights."""
    from maao.problems.language.loading import cache_folder

    return cache_folder() / "features" / f"{image_digest(encoder)[:24]}.sqlite"


def image_digest(encoder: DualEncoder) -> str:
    """Return a hash of all weights of a dual encoder."""
    from maao.problems.language.loading import weights_digest

    return weights_digest(encoder.modules).removeprefix("blake2b:")
