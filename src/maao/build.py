"""The only place where a name in a config becomes an object.

Stages, codecs, problems, tasks and mentors never import one another; they meet here, typed by the protocols. A plugin joins through the
entry-point group ``maao.plugins``: an entry ``mentor.NAME`` is called with ``mentor.options`` and the `Parts`, an entry ``accept.NAME``
with ``accept.options`` alone, since rules are built before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from maao.build_mentors import ASKING, CONTROLS, SHOWS_EXAMPLES, build_asking, build_control, check_beside, check_mentor
from maao.config import AcceptConfig, BudgetConfig, ChatConfig, Config, ModelConfig
from maao.core import acceptance
from maao.core.budget import Budget, cut
from maao.core.plan import Plan, after_epochs, rounds
from maao.core.seeds import seed_for
from maao.errors import CodecError, ConfigError
from maao.installed import installed
from maao.llm.budget import Capped
from maao.llm.chat import Style
from maao.llm.ledger import Ledger, Recorded, Replayed, WithExtra, live_calls, reach
from maao.llm.price import Price
from maao.protocols import Acceptance, ChatModel, Codec, GradientStage, History, Mentor
from maao.types import TEMPLATE, WORD, Example, Leg, Splits

if TYPE_CHECKING:
    from torch import Tensor

    from maao.build_vision import ImageParts
    from maao.codecs.method import MethodCodec, Start
    from maao.data.dataset import Dataset, InputForm
    from maao.mentors.fields import Fields
    from maao.optimizers.cma_es import CMAStage
    from maao.optimizers.torch import TorchStage
    from maao.problems.language.frame import Frame
    from maao.problems.language.methods import Method
    from maao.problems.language.readers import Reader
    from maao.problems.language.soft_prompt import SoftPromptProblem
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.text.loading import FrozenModel
    from maao.problems.towers.text.template import Template, TemplateTokenizer

PLUGINS = "maao.plugins"
RULES = ("always_first", "best_of", "if_better", "interpolate", "race")
MENTORS = (
    "none",
    "custom",
    "random_restart",
    "reproject",
    "scripted",
    "person",
    "language_model",
    *CONTROLS,
    *ASKING,
)


Loaded = dict[tuple[str, ...], "FrozenModel"]
KEPT_TEXTS_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Kept:
    """What runs of one process share: the language models that they load, and the steps that walks began with."""

    loaded: Loaded = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)


_KEPT: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def kept_between_runs() -> Iterator[None]:
    """Within this, runs share models, what these made of texts, and the beginnings of walks. Results and costs are as without it."""
    token = _KEPT.set(Kept())
    try:
        yield
    finally:
        _KEPT.reset(token)


def _before_the_mentor(model: ChatModel) -> ChatModel:
    raise ConfigError(f"The chat model {model.name!r} can be recorded once the run's mentor is being built.")


@dataclass
class Parts:
    """All that a run needs but its mentor, which is built last since it may need any of these.

    `record` is for a plugin or a mentor of your own: it wraps a chat model so that its calls are recorded in the run, count for the
    run's caps, and are answered from the record in a replay.
    """

    config: Config
    problem: Any
    codec: Codec[Any]
    stage: GradientStage[Any, Any]
    accept: Acceptance[Any, Any]
    plan: Plan
    budget: Budget
    splits: Splits | None = None
    frozen: FrozenModel | None = None
    notes: tuple[str, ...] = ()
    plan_was_cut: bool = False
    loaded: Loaded = field(default_factory=dict)
    encoder: DualEncoder | None = None
    class_names: tuple[str, ...] = ()
    steps_per_epoch: int = 1
    record: Callable[[ChatModel], ChatModel] = _before_the_mentor


OwnMentor = Mentor[Any] | Callable[[Parts], Mentor[Any]]  # a mentor of one's own, or what makes one from the run's parts


@dataclass(frozen=True)
class Asked:
    """A mentor with the chat model behind it, if there is one.

    `recorded` are the models that a plugin or a mentor of one's own gave to `Parts.record`; None for mentors that maao builds itself.
    """

    mentor: Mentor[Any]
    model: ChatModel | None = None
    disclosure: str = ""
    recorded: list[ChatModel] | None = None

    @property
    def live_calls(self) -> int | None:
        """How many calls were really made; None where the mentor has had no model recorded, and what it asks is its own affair."""
        if self.recorded is None:
            return 0 if self.model is None else live_calls(self.model)
        return sum(map(live_calls, self.recorded)) if self.recorded else None

    def reach(self) -> None:
        """Find out, at no cost, whether the models behind the mentor can be asked. Raises `ConfigError` where one cannot."""
        for model in (self.model, *(self.recorded or ())):
            if model is not None:
                reach(model)


def build(config: Config, splits: Splits | None = None, *, loaded: Loaded | None = None) -> Parts:
    """Build everything but the mentor.

    Args:
        splits: examples at hand, in place of the config's data section.
        loaded: models that are loaded already.
    """
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    budget = _beside_the_search(Budget(**config.budget.model_dump()), config)  # before anything is loaded: a bad cap is told at once
    accept = build_acceptance(config.accept)
    _check_together(config)
    if config.problem == "function":
        parts = _function_parts(config, accept, budget)
    elif config.problem == "vision":
        if splits is not None:
            raise ConfigError("Pictures come from the config's data section: examples at hand are for problems of language.")
        parts = _vision_parts(config, accept, budget)
    else:
        parts = _language_parts(config, accept, budget, splits or load_data(config).splits, loaded)
    return parts


def _beside_the_search(budget: Budget, config: Config) -> Budget:
    """Return what the search for a learning rate leaves of the gradient steps: a function of the config, so a resumed run has the same."""
    searched = len(config.stage.lr_grid) * config.stage.lr_steps
    if budget.gradient_steps is None or not searched:
        return budget
    if budget.gradient_steps <= searched:
        raise ConfigError(
            f"The search for a learning rate may take {searched} gradient steps ({len(config.stage.lr_grid)} rates of "
            f"{config.stage.lr_steps} steps), and the budget is {budget.gradient_steps}: raise `budget.gradient_steps`, or shorten "
            "`stage.lr_grid` or `stage.lr_steps`."
        )
    return replace(budget, gradient_steps=budget.gradient_steps - searched)


def _check_together(config: Config) -> None:
    """Refuse settings that cannot be combined, before anything is loaded."""
    if config.accept.rule == "interpolate" and config.model.length == "free" and config.problem == "language":
        raise ConfigError("accept.rule 'interpolate' blends prompts of equal length: use model.length = 'fixed' with it.")
    _check_input(config)
    if config.problem == "vision":
        from maao.build_vision import check_vision

        check_vision(config)
    if not config.plan.clues and config.mentor.name in ("language_model", "person"):
        raise ConfigError(f"The mentor '{config.mentor.name}' reads the walk in words: set plan.clues = true, or choose another mentor.")
    if config.mentor.name == "random_restart" and config.model.initial in ("text", "labels") and config.problem == "language":
        raise ConfigError(
            f"The mentor 'random_restart' starts as a run begins, and model.initial = '{config.model.initial}' is the same text each time: "
            "use 'vocabulary' or 'normal' with it."
        )
    if config.mentor.fills and config.problem != "language":
        raise ConfigError("mentor.fills is for problems of language: pictures and functions have no template or label words to fill.")
    if config.mentor.fills and _style(config) == "completion":
        raise ConfigError("mentor.fills asks for lines of several parts, and a completion has one: set mentor.style = 'chat', or drop it.")
    check_mentor(config.mentor)
    check_beside(config.mentor)
    if config.stage.kind == "cma_es" and installed("cmaes") is None:
        raise ConfigError("stage.kind = 'cma_es' needs the package cmaes: pip install \"maao[cma]\".")
    if config.mentor.name not in MENTORS and config.mentor.name not in _plugin_names("mentor"):
        known = ", ".join((*MENTORS, *_plugin_names("mentor")))
        raise ConfigError(f"Unknown mentor '{config.mentor.name}'. Known mentors: {known}.")


def _check_input(config: Config) -> None:
    """Refuse a model of pictures with texts, and a model of texts with pictures."""
    sees, source = config.problem == "vision", config.data.options.source
    if config.problem == "function" or sees == (config.data.name == "image"):
        return
    if sees:
        raise ConfigError(
            f"problem = 'vision' reads pictures, and data.source = '{source}' is of texts, as far as can be told: name a folder that is "
            "there and holds a folder for each class, emoji, or one of the field's sets; or say that it is of pictures, with data.input = "
            "'image'."
        )
    raise ConfigError(
        f"problem = 'language' reads texts, and data.source = '{source}' is of pictures (data.input = 'image'): name a source of texts, or "
        "set problem = 'vision'."
    )


def _check_reading(model: ModelConfig, kind: str, name: str) -> None:
    """Refuse settings that belong to the other way of reading a class: a head on an encoder, or label words."""
    if kind == "encoder":
        head = f"{name} is read by a head, which scores classes and no vocabulary: drop it"
        _refuse_ignored(model, {"objective": head, "label_space": head})
    else:
        _refuse_ignored(model, {"pooling": f"{name} is read by label words, and only a head pools: drop it"})


def _refuse_ignored(model: ModelConfig, ignored: Mapping[str, str]) -> None:
    """Refuse those of these settings that were given, with the reason why each would be ignored."""
    default = ModelConfig()
    for name, reason in ignored.items():
        if getattr(model, name) != getattr(default, name):
            raise ConfigError(f"model.{name} would be ignored, since {reason}.")


def _function_parts(config: Config, accept: Acceptance[Any, Any], budget: Budget) -> Parts:
    from maao.codecs.numbers import NumberCodec
    from maao.problems.functions import FunctionProblem

    function = config.function
    codec = NumberCodec(function.dim, function.digits, function.bound)
    problem = FunctionProblem(function.name, function.dim, function.bound, codec)
    whole = build_plan(config, steps_per_epoch=1)
    plan = cut(whole, budget.gradient_steps, accept)
    rule = _blending(accept, codec)
    return Parts(config, problem, codec, build_stage(config, plan, accept), rule, plan, budget, plan_was_cut=plan != whole)


def _blending(accept: Acceptance[Any, Any], codec: Codec[Any]) -> Acceptance[Any, Any]:
    """Return a rule with the codec's way between two points, where it goes only part of the way."""
    return replace(accept, blend=codec.blend) if isinstance(accept, acceptance.Interpolate) else accept


def _language_parts(config: Config, accept: Acceptance[Any, Any], budget: Budget, splits: Splits, loaded: Loaded | None = None) -> Parts:
    kept = _KEPT.get()
    if loaded is None:
        loaded = {} if kept is None else kept.loaded
    config = config.model_copy(update={"model": _with_kind(config.model)})
    frozen = _load(loaded, config.model.name, config)
    config = config.model_copy(update={"model": _with_turn(_with_task(config, frozen.kind), frozen)})
    problem, codec = build_language(config, splits, frozen)
    steps_per_epoch = max(1, len(splits.train) // config.stage.batch_size)
    whole = build_plan(config, steps_per_epoch)
    plan = cut(whole, budget.gradient_steps, accept)
    return Parts(
        config,
        problem,
        codec,
        build_stage(config, plan, accept),
        _blending(accept, codec),
        plan,
        budget,
        splits,
        frozen,
        notes=(*splits.notes, *problem.notes, *_adapter_notes(config.model, frozen), *_token_notes(config.model, frozen, splits)),
        plan_was_cut=plan != whole,
        loaded=loaded,
    )


def _vision_parts(config: Config, accept: Acceptance[Any, Any], budget: Budget, built: ImageParts | None = None) -> Parts:
    from maao.build_vision import build_images

    built = built or build_images(config)
    if built.bits is not None:  # what single pictures are read by when the run is used
        config = config.model_copy(update={"data": config.data.with_options(bits=built.bits)})
    steps_per_epoch = max(1, len(built.splits.train) // config.stage.batch_size)
    # Zero-shot classes are scored as they stand.
    whole = (Leg(0),) if config.vision.method == "zero_shot" else build_plan(config, steps_per_epoch)
    plan = cut(whole, budget.gradient_steps, accept)
    return Parts(
        config,
        built.problem,
        built.codec,
        build_stage(config, plan, accept, steps_per_epoch),
        _blending(accept, built.codec),
        plan,
        budget,
        built.splits,
        notes=built.notes,
        plan_was_cut=plan != whole,
        encoder=built.encoder,
        class_names=built.class_names,
        steps_per_epoch=steps_per_epoch,
    )


DEFAULT_TEMPLATE = "{text} {slots} Topic:"


def _with_kind(model: ModelConfig) -> ModelConfig:
    """Return the settings with the kind of model that they imply: with a mask in the template, an encoder is read at it."""
    if model.kind == "auto" and model.template is not None and "{mask}" in model.template:
        from maao.problems.towers.text.loading import kind_of

        if kind_of(model.name, model.revision) == "encoder":
            return model.model_copy(update={"kind": "masked"})
    return model


def _with_task(config: Config, kind: str) -> ModelConfig:
    """Return the model's settings with what a SuperGLUE task fills in: template and label words."""
    model = config.model
    if config.task is None:
        return model.model_copy(update={"template": model.template or DEFAULT_TEMPLATE})
    from maao.data.superglue import TASKS

    task = TASKS[config.task]
    template = model.template or (task.pair if kind == "encoder" else task.cloze)
    words = model.label_words if kind == "encoder" or model.label_words is not None else task.label_words or None
    return model.model_copy(update={"template": template, "label_words": words})


def _with_turn(model: ModelConfig, frozen: FrozenModel) -> ModelConfig:
    """Return the settings with what the chat template renders to now: on another day it may be another text."""
    if not model.chat or model.chat_turn is not None:
        return model
    from maao.problems.towers.text.chat_turn import render_turn

    return model.model_copy(update={"chat_turn": render_turn(frozen.tokenizer, model.template or DEFAULT_TEMPLATE)})


def build_for_use(
    config: Config, labels: tuple[str, ...], class_names: tuple[str, ...] = (), *, test: tuple[Example, ...] = (), like: Parts | None = None
) -> Parts:
    """Build what predicting, evaluating and exporting need: the model and the template, without what a run began with.

    Args:
        test: labelled examples to evaluate on, in place of the run's data.
        like: parts of the same run, whose models are used.
    """
    splits = Splits((), (), test, labels)
    if config.problem == "vision":
        from maao.build_vision import build_images

        given = build_images(config, splits, class_names, None if like is None else like.encoder)
        return _vision_parts(config, build_acceptance(config.accept), Budget(), given)
    model = config.model.model_copy(update={"adapter": None})
    own = config.model_copy(update={"budget": BudgetConfig(), "model": model})
    return build(own, splits, loaded=None if like is None else like.loaded)


def build_language(config: Config, splits: Splits, frozen: FrozenModel) -> tuple[SoftPromptProblem, Codec[Any]]:
    """Build the problem of a frozen language model and the codec of its prompts."""
    from maao.problems.language.soft_prompt import SoftPromptProblem
    from maao.problems.towers.text.forward import activation_bytes, context_length
    from maao.problems.towers.text.probes import require
    from maao.problems.towers.text.template import Template

    model = _with_turn(config.model.model_copy(update={"template": config.model.template or DEFAULT_TEMPLATE}), frozen)
    assert model.template is not None
    template = Template.parse(model.template, chat=model.chat, turn=model.chat_turn)
    if "embed_twice" in model.released:
        if frozen.kind not in ("encoder", "masked"):
            raise ConfigError(f"model.released = 'embed_twice' is a defect of encoders, and {frozen.name} is of kind '{frozen.kind}'.")
        frozen = replace(frozen, embed_twice=True, tried={})
    require(frozen, 1)
    context = context_length(frozen)
    if model.max_length is not None and model.max_length > context:
        raise ConfigError(f"model.max_length = {model.max_length} is more than {frozen.name} can read: {context} tokens.")
    reader, tokenize = build_reader(model, frozen, splits, template, model.max_length or context)
    method, codec = build_method(config, frozen, splits.labels)
    part_tokens = model.part_tokens
    if model.memory_mib is not None:
        part_tokens = max(1, int(model.memory_mib * 2**20 / activation_bytes(frozen)))
    problem = SoftPromptProblem(
        frozen,
        splits,
        tokenize,
        reader,
        codec,
        method=method,
        measure=_measure(config, splits),
        num_virtual_tokens=model.num_virtual_tokens,
        initial_params=_adapter(model, frozen),
        batch_size=config.stage.batch_size,
        score_batch=model.score_batch,
        account_tokens=12 if config.mentor.shown.account else 0,
        max_cache_bytes=model.cache_mib * 2**20,
        part_tokens=part_tokens,
        frozen_dropout=model.frozen_dropout,
        with_clues=config.plan.clues,
        reframe=lambda frame: build_framed_reader(model, frozen, splits, template, model.max_length or context, frame),
    )
    return problem, problem.codec


def _start(model: ModelConfig, labels: Sequence[str], table: Tensor) -> Start:
    """Return how runs begin; the labels' words are those that answer where there are such."""
    from maao.codecs.method import Start

    if model.initial == "text" and not model.initial_text:
        raise ConfigError('`model.initial = "text"` needs the text: set `model.initial_text`.')
    if model.initial in ("vocabulary", "normal"):
        std = float(table.float().std()) if model.initial == "normal" else 0.0
        return Start(model.initial, model.num_virtual_tokens, table.shape[1], std)
    words = list(dict.fromkeys((model.label_words or {}).values())) or labels
    text = model.initial_text if model.initial == "text" else " ".join(words)
    return Start("text", model.num_virtual_tokens, table.shape[1], text=text or "")


def _adapter_notes(model: ModelConfig, frozen: FrozenModel) -> tuple[str, ...]:
    if model.adapter is None:
        return ()
    from maao.export.peft_read import other_model

    note = other_model(model.adapter, frozen)
    return () if note is None else (note,)


def _token_notes(model: ModelConfig, frozen: FrozenModel, splits: Splits) -> Iterator[str]:
    """Say what of a tokenizer is not used as it could be: tokens without an embedding, names of special tokens in texts, a date."""
    from maao.problems.towers.text.tokenizing import Specials, outside

    unread = outside(frozen)
    if unread:
        shown = ", ".join(map(repr, list(unread)[:3])) + (", ..." if len(unread) > 3 else "")
        yield f"the model has no embedding for {len(unread)} of its tokenizer's tokens ({shown}): a text that holds one is refused"
    specials = Specials(frozen.tokenizer)
    for name in ("train", "select", "test"):
        examples = getattr(splits, name)
        found = [special for example in examples if (special := specials.named_in([*example.fields.values(), *example.choices]))]
        if found:
            yield (
                f"{len(found)} of {len(examples)} texts of {name} hold the name of a special token, such as {found[0]!r}: it is read as "
                "ordinary text there"
            )
    if model.chat and "strftime_now" in str(frozen.tokenizer.chat_template):
        yield f"the chat template prints a date: this run keeps the turn as it was rendered when it began, {model.chat_turn!r}"


def _adapter(model: ModelConfig, frozen: FrozenModel) -> Mapping[str, Any] | None:
    """Return the params of a PEFT adapter to begin with; None: there is none."""
    if model.adapter is None:
        return None
    from maao.export.peft_read import read_adapter

    return read_adapter(model.adapter, frozen, model.method, model.num_virtual_tokens)


def build_reader(
    model: ModelConfig, frozen: FrozenModel, splits: Splits, template: Template, length: int
) -> tuple[Reader, TemplateTokenizer]:
    """Return how classes are read, and the template bound to the tokenizer with room for the longest answer."""
    from maao.problems.language.readers import DecodedWords, Head, LabelWords, MaskedWords, label_word_ids
    from maao.problems.towers.text.template import TemplateTokenizer
    from maao.problems.towers.text.tokenizing import num_rows

    def tokenizer(answer: int) -> TemplateTokenizer:
        reserved = model.num_virtual_tokens + answer
        return TemplateTokenizer(
            frozen.tokenizer,
            template,
            kind=frozen.kind,
            max_length=length,
            reserved=reserved,
            rows=num_rows(frozen.model),
            label_space=model.label_space,
        )

    _check_reading(model, frozen.kind, frozen.name)
    chosen = [e for part in (splits.train, splits.select, splits.test) for e in part if e.choices]
    options: dict[str, Any] = {"side": model.padding_side, "class_weights": _class_weights(model, splits)}
    if frozen.kind == "encoder":
        if model.label_words:
            raise ConfigError(
                f"{frozen.name} is an encoder, read by a trained head: leave model.label_words out, or score them at its mask with "
                'model.kind = "masked" and a {mask} in the template.'
            )
        if chosen and "choice" not in template.fields:
            raise ConfigError(f"The examples have choices: show a head each of them, with {{choice}} in the template {str(template)!r}.")
        if model.pooling == "virtual" and model.method == "prefix_tuning":
            raise ConfigError(
                "model.pooling = 'virtual' reads the first row in the slots, and prefix_tuning has none: use 'first' or 'mean'."
            )
        return Head(frozen, 1 if chosen else len(splits.labels), pooling=model.pooling, **options), tokenizer(0)
    if frozen.kind == "masked" and not template.has_mask:
        raise ConfigError(f"The template {str(template)!r} has no place for the label word of a masked model: write {{mask}} there.")
    tokenize = tokenizer(0)
    if "choice" in template.fields:
        raise ConfigError(f"Label words answer with the choice itself: leave {{choice}} out of the template {str(template)!r}.")
    if chosen:
        words = [tokenize.word(choice, whole=False) for example in chosen for choice in example.choices]
    else:
        named = model.label_words if model.label_words is not None else {label: label for label in splits.labels}
        words = label_word_ids(tokenize, splits.labels, named, frozen.name)
    options |= {"objective": model.objective}
    answer = 0 if chosen else max(map(len, words)) - 1  # an example's own choices take their own room
    if frozen.kind == "masked":
        return MaskedWords(frozen, words, **options), tokenizer(answer)
    if frozen.kind == "encoder_decoder":
        lead = tuple(frozen.tokenizer.convert_tokens_to_ids([tokenize.mask])) if tokenize.mask else ()
        return DecodedWords(frozen, words, lead=lead, **options), tokenizer(0)
    return LabelWords(frozen, words, **options), tokenizer(answer)


def build_framed_reader(
    model: ModelConfig, frozen: FrozenModel, splits: Splits, template: Template, length: int, frame: Frame
) -> tuple[Reader, TemplateTokenizer]:
    """Return the same in a proposal's frame: with its template or its label words in place of the config's."""
    from maao.problems.towers.text.template import Template

    words = dict(zip(splits.labels, frame.label_words, strict=True)) if frame.label_words else model.label_words
    own = template if frame.template is None else Template.parse(frame.template, chat=model.chat, turn=model.chat_turn)
    return build_reader(model.model_copy(update={"label_words": words}), frozen, splits, own, length)


def _class_weights(model: ModelConfig, splits: Splits) -> list[float] | None:
    """Return what each class weighs in the training loss, in the order of the labels; None: all alike."""
    if model.class_weights == "none" or not splits.train:
        return None
    if model.class_weights == "balanced":
        counts = Counter(example.label for example in splits.train)
        return [len(splits.train) / (len(splits.labels) * counts[label]) for label in splits.labels]
    given = model.class_weights
    assert isinstance(given, dict)
    wrong = sorted(set(given) ^ set(splits.labels))
    if wrong or any(weight <= 0 for weight in given.values()):
        raise ConfigError(f"model.class_weights needs a weight above zero for each of the labels {', '.join(splits.labels)}; got {given}.")
    return [given[label] for label in splits.labels]


def _measure(config: Config, splits: Splits) -> Any:
    """Return what computes a task's own metrics; None where accuracy is all."""
    if config.task is None:
        return None
    from maao.data.superglue import TASKS
    from maao.evaluation.metrics import measure

    names = TASKS[config.task].metrics
    return lambda examples, scores: measure(names, examples, splits.labels, scores)


def build_method(config: Config, frozen: FrozenModel, labels: Sequence[str] = ()) -> tuple[Method, MethodCodec]:
    """Return the prompt method and the codec of its params."""
    from maao.codecs.method import MethodCodec
    from maao.problems.language.methods.p_tuning import PTuning
    from maao.problems.language.methods.pez import Pez
    from maao.problems.language.methods.prefix_tuning import PrefixTuning, value_table
    from maao.problems.language.methods.prompt_tuning import PromptTuning
    from maao.problems.towers.text.forward import embedding_table

    model, seed = config.model, seed_for(config.seed, "method")
    own = embedding_table(frozen)
    start, table = _start(model, labels, own), own.cpu()
    codec = _codec(model, frozen, table)
    if model.method == "prompt_tuning":
        tuning: Method = PromptTuning()
    elif model.method == "pez":
        tuning = Pez(codec)
    elif model.method == "p_tuning":
        tuning = PTuning(model.encoder, model.num_virtual_tokens, table.shape[1], hidden=model.hidden, seed=seed)
    else:
        prefix = PrefixTuning(frozen, model.num_virtual_tokens, projection=model.projection, hidden=model.hidden or 512, seed=seed)
        return prefix, MethodCodec(prefix, codec, start, _codec(model, frozen, value_table(frozen, table)))
    return tuning, MethodCodec(tuning, codec, start)


def _codec(model: ModelConfig, frozen: FrozenModel, table: Any) -> Any:
    """Return the codec of rows as wide as a table of the vocabulary."""
    from maao.codecs.nearest_token import NearestTokenCodec

    nearest = NearestTokenCodec(
        frozen.tokenizer, table, num_virtual_tokens=model.num_virtual_tokens, length=model.length, distance=model.distance
    )
    defects = [name for name in model.released if name != "embed_twice"]
    if defects and model.fluency:
        raise ConfigError(f"model.fluency and model.released = {', '.join(defects)} are two ways to put vectors into words: choose one.")
    try:
        if model.fluency:
            return _fluent(model, frozen, nearest)
        if defects:
            from maao.codecs.released import ReleasedCodec

            return ReleasedCodec(nearest, **dict.fromkeys(defects, True))
    except CodecError as error:
        raise ConfigError(str(error)) from error
    return nearest


def _fluent(model: ModelConfig, frozen: FrozenModel, nearest: Any) -> Any:
    from maao.codecs.fluent import FluentCodec, causal_log_probs

    if frozen.kind != "decoder":
        raise ConfigError(
            f"model.fluency asks a causal language model what words follow one another, and {frozen.name} is none: set it to 0."
        )
    if model.method in ("pez", "prefix_tuning"):
        raise ConfigError(f"model.fluency is for methods that train rows of embeddings, and model.method is '{model.method}': set it to 0.")
    return FluentCodec(nearest, causal_log_probs(frozen.model), beta=model.fluency)


def _load(loaded: Loaded, name: str, config: Config) -> FrozenModel:
    """Load a model once, however many parts use it."""
    from maao.problems.towers.text.kept_texts import KeptTexts
    from maao.problems.towers.text.loading import load_frozen, locate

    model = config.model
    same = name == model.name
    kind = model.kind if same else "auto"
    revision, quantization = (model.revision, model.quantization) if same else (None, None)
    key = (locate(name), kind, model.dtype, model.device, str(revision), json.dumps(quantization, sort_keys=True))
    if key not in loaded:
        frozen = load_frozen(name, kind=kind, dtype=model.dtype, device=model.device, revision=revision, quantization=quantization)
        loaded[key] = frozen if _KEPT.get() is None else replace(frozen, texts=KeptTexts(KEPT_TEXTS_BYTES))
    return loaded[key]


def build_stage(
    config: Config, plan: Plan, accept: Acceptance[Any, Any], steps_per_epoch: int = 1, *, lr: float | None = None
) -> TorchStage | CMAStage:
    """Build the doer, with another rate than the config's if one is given; its schedule spans the plan."""
    if config.stage.kind == "cma_es":
        from maao.optimizers.cma_es import CMAStage

        return CMAStage(config.stage.population, config.stage.dim, config.stage.size)
    from maao.optimizers.torch import GaussianAverage, TorchStage

    stage = config.stage
    return TorchStage(
        optimizer=stage.optimizer,
        lr=stage.lr if lr is None else lr,
        options=stage.options,
        schedule=stage.schedule,
        warmup_steps=stage.warmup_steps,
        schedule_every=stage.schedule_every,
        schedule_steps=_longest_way(plan, accept) or None,
        max_grad_norm=stage.max_grad_norm or None,  # 0 in a config: TOML has no null
        warmup_lr=stage.warmup_lr,
        average=None if stage.average_mean is None else GaussianAverage(stage.average_mean, stage.average_std, steps_per_epoch),
        on_restart=stage.on_restart,
    )


def _longest_way(plan: Plan, accept: Acceptance[Any, Any]) -> int:
    """Return the most steps that lead to a run's end: those of its legs, and those that one candidate walks while it is judged."""
    return sum(leg.steps + (accept.max_steps(0) if leg.ask else 0) for leg in plan)


STEPS_DEPEND_ON = {"problem", "seed", "threads", "model", "data", "vision", "function", "stage"}


def shared_stage(parts: Parts) -> GradientStage[Any, Any]:
    """Return the run's stage; where runs share what they can, one that remembers how walks began."""
    from maao.optimizers.remembered import Remembered
    from maao.optimizers.serializer import TorchSerializer
    from maao.store.tensors import arrays_digest

    kept = _KEPT.get()
    if kept is None:
        return parts.stage
    serializer = TorchSerializer()

    def digest(state: Any) -> str:
        arrays, meta = serializer.dump_state(state)
        return f"{arrays_digest(dict(sorted(arrays.items())))} {json.dumps(meta, sort_keys=True, default=str)}"

    data = parts.splits.digest if parts.splits is not None else ""
    run = f"{parts.config.model_dump_json(include=STEPS_DEPEND_ON)} {data} {parts.stage}"
    return Remembered(parts.stage, kept.steps, hashlib.sha256(run.encode()).hexdigest(), digest)


def build_acceptance(accept: AcceptConfig) -> Acceptance[Any, Any]:
    """Build an acceptance rule by name."""
    if accept.rule == "interpolate":
        inner = build_acceptance(accept.model_copy(update={"rule": accept.inner}))
        return acceptance.Interpolate(accept.weight, inner)
    if accept.rule == "race":
        return acceptance.Race(accept.steps, accept.margin, tuple(accept.rungs))
    simple: dict[str, Callable[[], Acceptance[Any, Any]]] = {
        "always_first": acceptance.AlwaysFirst,
        "best_of": acceptance.BestOf,
        "if_better": acceptance.IfBetter,
    }
    if accept.rule in simple:
        return simple[accept.rule]()
    plugin = _plugin("accept", accept.rule)
    if plugin is None:
        raise ConfigError(f"Unknown acceptance rule '{accept.rule}'. Known rules: {', '.join((*RULES, *_plugin_names('accept')))}.")
    return plugin(accept.options)


def build_plan(config: Config, steps_per_epoch: int) -> Plan:
    """Build the plan, before any budget cuts it. Without a mentor nobody is asked."""
    plan = config.plan
    if plan.kind == "rounds":
        legs = rounds(plan.rounds, steps=plan.steps, store_every=plan.store_every, proposals=plan.proposals, first=plan.first)
    elif plan.kind == "epochs":
        legs = after_epochs(plan.ask_after, epochs=plan.epochs, steps_per_epoch=steps_per_epoch, proposals=plan.proposals)
    else:
        if not any(leg.steps for leg in plan.legs):
            raise ConfigError("plan.kind = 'legs' needs at least one leg with a gradient step: write [[plan.legs]] sections.")
        legs = tuple(Leg(leg.steps, leg.ask, leg.proposals, leg.keep_every) for leg in plan.legs)
    if config.mentor.name == "none":
        legs = tuple(Leg(leg.steps, False, leg.proposals, leg.keep_every) for leg in legs)
    return legs


# -- data


def load_data(config: Config) -> Dataset:
    """Read and split the examples that a config names."""
    found: Dataset = config.data.options.load(config.seed, _input_form(config))
    return found


def _input_form(config: Config) -> InputForm:
    """Return what the model reads of an example, which decides what is read of the data."""
    from maao.data.dataset import InputForm

    texts = config.texts
    if texts is None:
        return InputForm()
    return InputForm(template_fields(config.model), texts.task is None or _is_cloze(config.model))


def template_fields(model: ModelConfig) -> tuple[str, ...]:
    """Return the fields of an example that the template reads."""
    from maao.problems.towers.text.template import Template

    return tuple(name for name in Template.parse(model.template or DEFAULT_TEMPLATE, chat=model.chat).fields if name != "choice")


def _is_cloze(model: ModelConfig) -> bool:
    """Say whether words answer: a head reads a task's examples as they were published."""
    from maao.problems.towers.text.loading import kind_of

    kind = kind_of(model.name, model.revision) if model.kind == "auto" else model.kind
    return kind != "encoder" or (model.template is not None and "{mask}" in model.template)


# -- mentors


def build_mentor(
    parts: Parts,
    ledger: Ledger,
    *,
    own: OwnMentor | None = None,
    replay: History[Any, Any] | None = None,
    wrap: Callable[[ChatModel], ChatModel] = lambda m: m,
) -> Asked:
    """Build the mentor, or the caller's `own`. Its chat model is recorded in `ledger`; to `replay` a history, it answers from there alone.

    `wrap` may watch the calls that are really made.
    """
    mentor, name = parts.config.mentor, parts.config.mentor.name
    recorded = _set_record(parts, ledger, replay, wrap)
    if own is not None:
        return Asked(_own_mentor(own, parts), recorded=recorded)
    if name == "none":
        from maao.mentors.none import NoMentor

        return Asked(NoMentor(), disclosure="No mentor is asked: plain gradient descent.")
    if name == "random_restart":
        from maao.mentors.random_restart import RandomRestart

        return Asked(RandomRestart(parts.codec), disclosure="Restarts are random: nothing is sent anywhere.")
    if name == "reproject":
        from maao.mentors.reproject import Reproject

        return Asked(Reproject(parts.codec), disclosure="Restarts are the best point's own words: nothing is sent anywhere.")
    if name == "scripted":
        from maao.mentors.scripted import Scripted

        if not mentor.texts:
            raise ConfigError("mentor.name = 'scripted' needs mentor.texts, the list of what it proposes.")
        script = Scripted(tuple(mentor.texts), parts.codec, _filled(parts))
        return Asked(script, disclosure="Restarts are scripted: nothing is sent anywhere.")
    if name in CONTROLS:
        control, told = build_control(parts, _filled(parts) if name == "random_text" else None)
        return Asked(control, disclosure=told)
    if name in ("language_model", "person", *ASKING):
        asked = _asking(parts, ledger, replay) if name in ASKING else _language_model(parts, ledger, replay)
        return asked if mentor.beside is None else _beside(asked, parts, ledger)
    if name == "custom":
        raise ConfigError("mentor.name = 'custom' stands for a mentor of your own: start the run from Python, with mentor=... .")
    plugin = _plugin("mentor", name)
    assert plugin is not None  # unknown names were refused in `build`
    return Asked(plugin(mentor.options, parts), disclosure=f"Restarts come from the plugin '{name}'.", recorded=recorded)


def _beside(asked: Asked, parts: Parts, ledger: Ledger) -> Asked:
    """Return a mentor that asks with a second one beside it, which asks nobody."""
    from maao.mentors.beside import Beside

    mentor = parts.config.mentor
    fills = mentor.fills if mentor.beside == "scripted" else []  # the others leave what stands around the slots as it is
    alone = mentor.model_copy(update={"name": mentor.beside, "beside": None, "fills": fills})
    second = build_mentor(replace(parts, config=parts.config.model_copy(update={"mentor": alone})), ledger)
    return replace(asked, mentor=Beside(asked.mentor, second.mentor, mentor.beside_share))


def _own_mentor(own: OwnMentor, parts: Parts) -> Mentor[Any]:
    made: Any = own
    if isinstance(own, type) or not hasattr(own, "propose"):
        made = own(parts) if callable(own) else own
    if not callable(getattr(made, "propose", None)):
        raise ConfigError(
            f"A mentor of your own is an object with a method `propose`, or a function that makes one from the run's parts; got {made!r}."
        )
    return made


def _set_record(parts: Parts, ledger: Ledger, replay: History[Any, Any] | None, wrap: Callable[[ChatModel], ChatModel]) -> list[ChatModel]:
    """Set `parts.record`; return the list of the models that will have been given to it."""
    from maao.mentors.language_model import failures

    recorded: list[ChatModel] = []
    failed = iter(failures(replay or ()))

    def record(model: ChatModel) -> ChatModel:
        if replay is not None:
            recorded.append(Replayed(ledger, model.name, failed))
        else:
            recorded.append(Recorded(_capped(wrap(model), model, parts.config, ledger), ledger))
        return recorded[-1]

    parts.record = record
    return recorded


def _language_model(parts: Parts, ledger: Ledger, replay: History[Any, Any] | None) -> Asked:
    from maao.mentors.instruction import Shown, Task, wording
    from maao.mentors.language_model import LanguageModelMentor

    config, mentor = parts.config, parts.config.mentor
    chat = mentor.chat if mentor.name == "language_model" else mentor.chat.model_copy(update={"provider": "person"})
    style = _style(config)
    remote = _is_remote(chat)
    switches = mentor.shown.model_dump()
    if remote:  # what holds training text, or can repeat it, leaves this machine only where the user says so
        switches |= {"examples": mentor.share_examples, "account": mentor.shown.account and mentor.share_examples}
    shown, template = Shown(**switches), wording(_wording_name(config), mentor.shown.scores, bool(mentor.fills))
    model = _recorded_chat(parts, chat, ledger, replay)
    asked = LanguageModelMentor(
        model=model,
        task=_task(parts, Task),
        codec=parts.codec,
        style=style,
        listing=mentor.listing,
        choice=mentor.choice,
        shown=shown,
        template=template,
        temperature=mentor.temperature,
        top_p=mentor.top_p,
        max_tokens=mentor.max_tokens,
        max_samples=mentor.max_samples,
        retries=0 if chat.provider == "person" else mentor.retries,
        filled=_filled(parts),
        structured=mentor.structured,
    )
    asked.instruction((), 1)  # an unknown field in the wording is told now, not in the middle of a run
    if replay is not None:
        return Asked(asked, model, FROM_THE_RECORD)
    return Asked(asked, model, _disclosure(config, chat, remote, shown, template.get_identifiers()))


def _filled(parts: Parts) -> Fields | None:
    """Return what a mentor fills beside the prompt; None: nothing.

    Raises:
        ConfigError: the problem has no such thing to fill.
    """
    from maao.mentors.fields import BAR, NAMES, Fields

    asked = parts.config.mentor.fills
    if not asked:
        return None
    assert parts.splits is not None  # other problems were refused in `_check_together`
    if "label_words" in asked and (parts.frozen is None or parts.frozen.kind == "encoder"):
        raise ConfigError("mentor.fills names label_words, and this model is read by a trained head, which has none: drop them.")
    if "label_words" in asked and any(example.choices for example in parts.splits.train):
        raise ConfigError("mentor.fills names label_words, and these examples have answers of their own to choose from: drop them.")
    labels, model = parts.splits.labels, parts.config.model
    words = model.label_words or {label: label for label in labels}
    own = {TEMPLATE: str(parts.problem.template), **{WORD + label: words.get(label, label) for label in labels}}
    barred = [part for part in (*labels, *own.values()) if BAR.strip() in part]
    if barred:
        raise ConfigError(f"mentor.fills sets a bar between the parts of a line, and one of them holds a bar: {barred[0]!r}. Change it.")
    return Fields(tuple(name for name in NAMES if name in asked), labels, own)


FROM_THE_RECORD = "Mentor: replies come from the record. No model is asked, nothing is sent anywhere."


def _recorded_chat(parts: Parts, chat: ChatConfig, ledger: Ledger, replay: History[Any, Any] | None) -> ChatModel:
    """Return the chat model that a mentor asks, recorded; in a replay the record alone, by its name."""
    from maao.mentors.language_model import failures

    if replay is not None:
        model: ChatModel = Replayed(ledger, _chat_name(parts.config, chat), failures(replay))
    else:
        model = parts.record(_chat_model(parts, chat))
    return WithExtra(model, chat.extra) if chat.extra else model


def _asking(parts: Parts, ledger: Ledger, replay: History[Any, Any] | None) -> Asked:
    """Return a rival that asks a chat model in its own words."""
    config, chat = parts.config, parts.config.mentor.chat
    model = _recorded_chat(parts, chat, ledger, replay)
    if replay is not None:
        return Asked(build_asking(parts, model, remote=False), model, FROM_THE_RECORD)
    remote = _is_remote(chat)
    shows = config.mentor.name in SHOWS_EXAMPLES and config.mentor.exemplars > 0 and config.problem == "language"
    told = "prompts with their scores" + (" and training examples" if shows else ", and no training example")
    where = "leaves this machine" if remote else "stays on this machine"
    disclosure = f"Mentor: {config.mentor.name}, asking {_chat_name(config, chat)}. It is sent {told}; this {where}."
    return Asked(build_asking(parts, model, remote), model, disclosure)


def _task(parts: Parts, task: Any) -> Any:
    if parts.splits is None:
        function = parts.config.function
        numbers = f"The point is {function.dim} numbers, separated by spaces. Find the point where {function.name} is lowest."
        return task(f"{parts.config.mentor.description} {numbers}", ("a number each",), "{slots}", function.dim * 2)
    if parts.config.problem == "vision":
        vision = parts.config.vision
        template = vision.template.replace("{class}", "<CLASS>")
        return task(parts.config.mentor.description, parts.class_names, template, vision.num_virtual_tokens)
    model = parts.config.model
    return task(parts.config.mentor.description, parts.splits.labels, model.template or DEFAULT_TEMPLATE, model.num_virtual_tokens)


def _is_remote(chat: ChatConfig) -> bool:
    if chat.provider != "openai":
        return False
    from maao.llm.openai_compatible import OpenAICompatible

    return OpenAICompatible(chat.name or "", chat.base_url, chat.api_key_env).is_remote


def _chat_name(config: Config, chat: ChatConfig) -> str:
    """Return the model name that requests carry: part of the ledger's key, so equal in a run and in its replay."""
    if chat.provider == "local":
        return chat.name or config.model.name
    return chat.name or chat.provider


def _chat_model(parts: Parts, chat: ChatConfig) -> ChatModel:
    name = _chat_name(parts.config, chat)
    if chat.provider == "local":
        from maao.llm.local import LocalModel

        frozen = _load(parts.loaded, name, parts.config)  # the tuned model's own weights, where they are the same
        if frozen.kind != "decoder":
            raise ConfigError(f"{name} is an encoder and cannot write. Name a causal language model in mentor.chat.name.")
        return LocalModel(frozen.model, frozen.tokenizer, name)
    if chat.provider == "openai":
        from maao.llm.openai_compatible import OpenAICompatible, check_extra

        if not chat.name:
            raise ConfigError("mentor.chat.provider = 'openai' needs mentor.chat.name, the model that the server knows.")
        check_extra(chat.extra)
        server = OpenAICompatible(
            chat.name,
            chat.base_url,
            chat.api_key_env,
            chat.timeout,
            chat.attempts,
            _given_price(chat),
            leave_out=chat.leave_out,
            first_pause=chat.first_pause,
            longest_pause=chat.longest_pause,
        )
        server.check()
        return server
    if chat.provider == "person":
        from maao.llm.person import Person

        return Person(name=name)
    from maao.llm.scripted import Scripted

    return Scripted(chat.replies, name)


def _given_price(chat: ChatConfig) -> Price | None:
    given = (chat.usd_per_million_input, chat.usd_per_million_output)
    if given == (None, None):
        return None
    if None in given:
        raise ConfigError("Set both mentor.chat.usd_per_million_input and usd_per_million_output, or neither.")
    return Price(float(given[0] or 0), float(given[1] or 0))


def _capped(model: ChatModel, provider: ChatModel, config: Config, ledger: Ledger) -> ChatModel:
    budget = config.budget
    if budget.llm_calls is None and budget.llm_tokens is None and budget.usd is None:
        return model
    return Capped(
        model,
        spent=ledger.totals,
        max_calls=budget.llm_calls,
        max_tokens=budget.llm_tokens,
        max_usd=budget.usd,
        price=getattr(provider, "price", None),
    )


def _disclosure(config: Config, chat: ChatConfig, remote: bool, shown: Any, named: Sequence[str]) -> str:
    """Say what the mentor will be sent, and where to; `named` are the fields that the wording has."""
    name = _chat_name(config, chat)
    where = {
        "local": f"the language model {name}, in this process",
        "openai": f"{name} at {chat.base_url or 'the OpenAI API'}" + ("" if remote else " (this machine)"),
        "person": "the person at this terminal",
        "scripted": "nobody: replies are scripted",
    }[chat.provider]
    prompts, clues = any(name in named for name in ("listing", "texts", "blocks")), "clues" in named
    pointing = [word for word, on in (("the gradient", shown.gradient), ("the walk", shown.displacement)) if on]
    sent = {
        "the task's description": "description" in named,
        "the labels": "labels" in named,
        "the template": "template" in named or "template" in config.mentor.fills,
        "the label words": "label_words" in config.mentor.fills,
        "prompts with their scores": prompts and shown.scores != "none",
        "prompts": prompts and shown.scores == "none",
        "a loss to reach": "next" in named and not prompts and shown.scores != "none",
        "words nearest to the tuned vectors": clues and shown.nearest,
        f"words that {' and '.join(pointing)} point{'s' if len(pointing) == 1 else ''} to": clues and bool(pointing),
        "the gap between the tuned vectors and their words": clues and shown.gap,
        "counts of confused labels": clues and shown.confusions,
        "misread training examples": clues and shown.examples,
        "the tuned model's own continuation of its prompt, which can repeat training text": clues and shown.account,
    }
    told = ", ".join(part for part, is_sent in sent.items() if is_sent) or "a text that is the same each time"
    kept = "" if clues and (shown.examples or shown.account) else " No training example is sent."
    leaves = "leaves this machine" if remote else "stays on this machine"
    return f"Mentor: {where}. It is sent {told}; this {leaves}.{kept}"


# -- plugins, and the wording of an instruction


def _plugin(kind: str, name: str) -> Callable[..., Any] | None:
    for entry in entry_points(group=PLUGINS, name=f"{kind}.{name}"):
        return entry.load()
    return None


def _plugin_names(kind: str) -> tuple[str, ...]:
    return tuple(e.name.removeprefix(f"{kind}.") for e in entry_points(group=PLUGINS) if e.name.startswith(f"{kind}."))


def _style(config: Config) -> Style:
    """Return how the mentor's model is asked: a person once, as in a chat, not for each sample."""
    mentor = config.mentor
    return "chat" if mentor.name == "person" or mentor.chat.provider == "person" else mentor.style


def _wording_name(config: Config) -> str:
    """Return the wording asked for, or that of the style; for pictures their own text of it, where there is one.

    A model asked in a chat is shown worked examples of other tasks: small ones repeat the template otherwise. A person needs none, and
    they say nothing of a function's points.
    """
    from maao.mentors.instruction import VISION, named_wordings

    style, mentor = _style(config), config.mentor
    shown_examples = style == "chat" and config.problem != "function" and "person" not in (mentor.name, mentor.chat.provider)
    name = mentor.wording or ("guided" if shown_examples or mentor.fills else style)
    own = f"{VISION}{name}"
    return own if config.problem == "vision" and own in named_wordings() else name


def wording_digest(config: Config) -> str:
    """Return a hash of the text that an instruction is made from, or nothing where none is written."""
    from maao.mentors.fields import WORKED, worked_lines
    from maao.mentors.instruction import wording

    mentor = config.mentor
    if mentor.name not in ("language_model", "person"):
        return ""
    text = wording(_wording_name(config), mentor.shown.scores, bool(mentor.fills)).template
    if mentor.fills:  # its examples are set in the form that is asked for
        text += "\n".join(line for task in WORKED for line in worked_lines(task, mentor.fills))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
