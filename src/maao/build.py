"""The only place where a name in a config becomes an object.

Stages, codecs, problems, tasks and mentors never import one another; they meet here, typed by the protocols. A plugin joins through the
entry-point group ``maao.plugins``, on equal terms: see `choices.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from maao.config import BudgetConfig, Config
from maao.core.acceptance import Interpolate
from maao.core.budget import Budget, cut
from maao.core.plan import Plan
from maao.errors import ConfigError
from maao.llm.ledger import Ledger
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.mentors.built import BuiltMentor, OwnMentor, build_chosen, build_own
from maao.mentors.context import AskingOptions, CodecWords, MentorContext, Proceed, Words
from maao.mentors.fields import NAMES
from maao.problems.kinds import DEFAULT_TEMPLATE, TextOptions, architecture, is_masked, label_words, text_options
from maao.problems.settings import ModelConfig
from maao.problems.texts import LoadedModels, Wording, build_texts, completed, token_notes
from maao.protocols import Acceptance, ChatModel, Codec, GradientStage, History, Vocabulary
from maao.types import TEMPLATE, WORD, Example, Leg, Splits, failed_calls

if TYPE_CHECKING:
    from maao.build_vision import ImageParts
    from maao.data.dataset import Dataset, InputForm
    from maao.problems.framed import FramedProblem
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.text.loading import FrozenModel


@dataclass(frozen=True)
class Kept:
    """What runs of one process share: the language models that they load, and the steps that walks began with."""

    loaded: LoadedModels = field(default_factory=lambda: LoadedModels(keep_texts=True))
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


@dataclass
class Parts:
    """All that a run needs but its mentor, which is built last since it may need any of these."""

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
    loaded: LoadedModels = field(default_factory=LoadedModels)
    encoder: DualEncoder | None = None
    class_names: tuple[str, ...] = ()
    steps_per_epoch: int = 1


def build(config: Config, splits: Splits | None = None, *, loaded: LoadedModels | None = None) -> Parts:
    """Build everything but the mentor.

    Args:
        splits: examples at hand, in place of the config's data section.
        loaded: models that are loaded already.
    """
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    budget = _beside_the_search(Budget(**config.budget.model_dump()), config)  # before anything is loaded: a bad cap is told at once
    accept = config.accept.options.build()
    _check_together(config)
    if config.problem == "function":
        parts = _function_parts(config, accept, budget)
    elif config.input == "image":
        if splits is not None:
            raise ConfigError("Pictures come from the config's data section: examples at hand are for problems of language.")
        parts = _vision_parts(config, accept, budget)
    else:
        parts = _language_parts(config, accept, budget, splits or load_data(config).splits, loaded)
    return parts


def _beside_the_search(budget: Budget, config: Config) -> Budget:
    """Return what the search for a learning rate leaves of the gradient steps: a function of the config, so a resumed run has the same."""
    stage = config.stage.options
    searched = len(stage.lr_grid) * stage.lr_steps
    if budget.gradient_steps is None or not searched:
        return budget
    if budget.gradient_steps <= searched:
        raise ConfigError(
            f"The search for a learning rate may take {searched} gradient steps ({len(stage.lr_grid)} rates of "
            f"{stage.lr_steps} steps), and the budget is {budget.gradient_steps}: raise `budget.gradient_steps`, or shorten "
            "`stage.lr_grid` or `stage.lr_steps`."
        )
    return replace(budget, gradient_steps=budget.gradient_steps - searched)


def _check_together(config: Config) -> None:
    """Refuse settings that cannot be combined, before anything is loaded."""
    model = config.model
    if config.accept.name == "interpolate" and isinstance(model.kind.options, TextOptions) and model.kind.options.length == "free":
        raise ConfigError("accept.rule 'interpolate' blends prompts of equal length: use model.length = 'fixed' with it.")
    _check_input(config)
    if config.input == "image":
        from maao.build_vision import check_vision

        check_vision(config)
    mentor = config.mentor.options
    if not config.plan.options.clues and mentor.reads_clues:
        raise ConfigError(f"The mentor '{config.mentor.name}' reads the walk in words: set plan.clues = true, or choose another mentor.")
    if "random_restart" in _proposing(config) and config.problem != "function" and model.initial in ("text", "labels"):
        raise ConfigError(
            f"The mentor 'random_restart' starts as a run begins, and model.initial = '{model.initial}' is the same text each time: "
            "use 'vocabulary' or 'normal' with it."
        )
    mentor.check()
    config.stage.options.check()


def _proposing(config: Config) -> list[str]:
    """Return the names of the mentors that propose: one, or two together."""
    second = config.mentor.options.mix if isinstance(config.mentor.options, AskingOptions) else None
    return [config.mentor.name, *([second.name] if second is not None else [])]


def _check_input(config: Config) -> None:
    """Refuse a model that reads no texts with texts, and one that reads no pictures with pictures."""
    matches, source = config.model.kind.name == "matcher", config.data.options.source
    if config.problem == "function" or matches == (config.input == "image"):
        return
    if matches:
        raise ConfigError(
            f"model.kind = 'matcher' reads pictures, and data.source = '{source}' is of texts, as far as can be told: name a folder that "
            "is there and holds a folder for each class, emoji, or one of the field's sets; or say that it is of pictures, with "
            "data.input = 'image'."
        )
    raise ConfigError(
        f"model.kind = '{config.model.kind.name}' reads texts, and data.source = '{source}' is of pictures (data.input = 'image'): name a "
        "source of texts, or set model.kind = 'matcher'."
    )


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
    return replace(accept, blend=codec.blend) if isinstance(accept, Interpolate) else accept


def _language_parts(
    config: Config, accept: Acceptance[Any, Any], budget: Budget, splits: Splits, loaded: LoadedModels | None = None
) -> Parts:
    kept = _KEPT.get()
    if loaded is None:
        loaded = LoadedModels() if kept is None else kept.loaded
    frozen = loaded.load(config.model.name, config.model)
    config = config.model_copy(update={"model": completed(config.model, frozen, _wording(config))})
    problem, codec = build_language(config, splits, frozen)
    steps_per_epoch = max(1, len(splits.train) // config.stage.options.batch_size)
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
        notes=(*splits.notes, *problem.notes, *_adapter_notes(config.model, frozen), *token_notes(config.model, frozen, splits)),
        plan_was_cut=plan != whole,
        loaded=loaded,
    )


def _vision_parts(config: Config, accept: Acceptance[Any, Any], budget: Budget, built: ImageParts | None = None) -> Parts:
    from maao.build_vision import build_images

    built = built or build_images(config)
    if built.bits is not None:  # what single pictures are read by when the run is used
        config = config.model_copy(update={"data": config.data.with_options(bits=built.bits)})
    steps_per_epoch = max(1, len(built.splits.train) // config.stage.options.batch_size)
    # Zero-shot classes are scored as they stand.
    whole = (Leg(0),) if not config.model.method.options.is_trained else build_plan(config, steps_per_epoch)
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


def _wording(config: Config) -> Wording:
    """Return what a SuperGLUE task fills into the model's settings."""
    if config.task is None:
        return Wording()
    from maao.data.superglue import TASKS

    task = TASKS[config.task]
    return Wording(task.cloze, task.pair, task.label_words or None)


def build_for_use(
    config: Config, labels: tuple[str, ...], class_names: tuple[str, ...] = (), *, test: tuple[Example, ...] = (), like: Parts | None = None
) -> Parts:
    """Build what predicting, evaluating and exporting need: the model and the template, without what a run began with.

    Args:
        test: labelled examples to evaluate on, in place of the run's data.
        like: parts of the same run, whose models are used.
    """
    splits = Splits((), (), test, labels)
    if config.input == "image":
        from maao.build_vision import build_images

        given = build_images(config, splits, class_names, None if like is None else like.encoder)
        return _vision_parts(config, config.accept.options.build(), Budget(), given)
    model = config.model.with_kind(adapter=None) if config.problem != "function" else config.model
    own = config.model_copy(update={"budget": BudgetConfig(), "model": model})
    return build(own, splits, loaded=None if like is None else like.loaded)


def build_language(config: Config, splits: Splits, frozen: FrozenModel) -> tuple[FramedProblem, Codec[Any]]:
    """Build the problem of a frozen language model and the codec of its prompts."""
    problem = build_texts(
        config.model,
        frozen,
        splits,
        seed=config.seed,
        batch_size=config.stage.options.batch_size,
        with_clues=config.plan.options.clues,
        continuation_tokens=12 if config.mentor.options.reads_account else 0,
        measure=_measure(config, splits),
        initial_params=_adapter(config.model, frozen),
    )
    return problem, problem.codec


def _adapter_notes(model: ModelConfig, frozen: FrozenModel) -> tuple[str, ...]:
    adapter = text_options(model).adapter
    if adapter is None:
        return ()
    from maao.export.peft_read import other_model

    note = other_model(adapter, frozen)
    return () if note is None else (note,)


def _adapter(model: ModelConfig, frozen: FrozenModel) -> Mapping[str, Any] | None:
    """Return the params of a PEFT adapter to begin with; None: there is none."""
    adapter = text_options(model).adapter
    if adapter is None:
        return None
    from maao.export.peft_read import read_adapter

    return read_adapter(adapter, frozen, model.method.name, model.num_virtual_tokens)


def _measure(config: Config, splits: Splits) -> Any:
    """Return what computes a task's own metrics; None where accuracy is all."""
    if config.task is None:
        return None
    from maao.data.superglue import TASKS
    from maao.evaluation.metrics import measure

    names = TASKS[config.task].metrics
    return lambda examples, scores: measure(names, examples, splits.labels, scores)


def build_stage(
    config: Config, plan: Plan, accept: Acceptance[Any, Any], steps_per_epoch: int = 1, *, lr: float | None = None
) -> GradientStage[Any, Any]:
    """Build the doer, with another rate than the config's if one is given; its schedule spans the plan."""
    return config.stage.options.build(_longest_way(plan, accept), steps_per_epoch, lr)


def _longest_way(plan: Plan, accept: Acceptance[Any, Any]) -> int:
    """Return the most steps that lead to a run's end: those of its legs, and those that one candidate walks while it is judged."""
    return sum(leg.steps + (accept.max_steps(0) if leg.ask else 0) for leg in plan)


STEPS_DEPEND_ON = {"problem", "seed", "threads", "model", "data", "function", "stage"}


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


def build_plan(config: Config, steps_per_epoch: int) -> Plan:
    """Build the plan, before any budget cuts it. Without a mentor nobody is asked."""
    legs = config.plan.options.build(steps_per_epoch)
    if config.mentor.name == "none":
        legs = tuple(Leg(leg.steps, False, leg.proposals, leg.keep_every) for leg in legs)
    return legs


# -- data


def load_data(config: Config) -> Dataset:
    """Read and split the examples that a config names."""
    return config.data.options.load(config.seed, _input_form(config))


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

    template = Template.parse(model.template or DEFAULT_TEMPLATE, chat=text_options(model).chat)
    return tuple(name for name in template.fields if name != "choice")


def _is_cloze(model: ModelConfig) -> bool:
    """Say whether words answer: a head reads a task's examples as they were published."""
    from maao.problems.towers.text.loading import kind_of

    kind = architecture(model)
    if kind == "auto":
        kind = kind_of(model.name, model.revision)
    return kind != "encoder" or is_masked(model)


# -- mentors


def build_mentor(
    parts: Parts,
    ledger: Ledger,
    *,
    own: OwnMentor | None = None,
    replay: History[Any, Any] | None = None,
    wrap: Callable[[ChatModel], ChatModel] = lambda m: m,
) -> BuiltMentor:
    """Build the mentor, or the caller's `own`. Its chat model is recorded in `ledger`; to `replay` a history, it answers from there alone.

    `wrap` may watch the calls that are really made.
    """
    here = Here(parts.config.model.speaker, lambda name: parts.loaded.load(name, parts.config.model))
    models = Recording(ledger, here, parts.budget, failed=None if replay is None else failed_calls(replay), wrap=wrap)
    run = _context(parts, models)
    return build_chosen(parts.config.mentor, run, models) if own is None else build_own(own, run, models)


def _context(parts: Parts, models: Recording) -> MentorContext:
    """Return what a mentor may use of a run."""
    config, problem, splits = parts.config, parts.problem, parts.splits
    run = MentorContext(parts.codec, models.record, models.chat, seed=config.seed, tuned=config.model.speaker)
    if splits is None:
        function = config.function
        told = f"The point is {function.dim} numbers, separated by spaces. Find the point where {function.name} is lowest."
        return replace(
            run,
            input="numbers",
            labels=("a number each",),
            template="{slots}",
            told=told,
            length=function.dim,
            max_tokens=function.dim * 2,
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )
    model, frozen = config.model, parts.frozen
    if config.input == "image":
        return replace(
            run,
            input="image",
            labels=parts.class_names,
            template=(model.template or "").replace("{class}", "<CLASS>"),
            length=model.num_virtual_tokens,
            max_tokens=model.num_virtual_tokens,
            vocabulary=_vocabulary(parts),
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )
    words = label_words(model) or {label: label for label in splits.labels}
    not_filled = {}
    if frozen is None or frozen.kind == "encoder":
        not_filled["label_words"] = "mentor.fills names label_words, and this model is read by a trained head, which has none: drop them."
    elif any(example.choices for example in splits.train):
        not_filled["label_words"] = (
            "mentor.fills names label_words, and these examples have answers of their own to choose from: drop them."
        )
    return replace(
        run,
        train=splits.train,
        labels=splits.labels,
        template=model.template or DEFAULT_TEMPLATE,
        length=model.num_virtual_tokens,
        max_tokens=model.num_virtual_tokens,
        vocabulary=_vocabulary(parts),
        proceed=_proceed(parts),
        own={TEMPLATE: str(problem.problem_for({}).template), **{WORD + label: words.get(label, label) for label in splits.labels}},
        not_filled=not_filled,
    )


NOTHING_TO_FILL = "mentor.fills is for problems of language: pictures and functions have no template or label words to fill."


def _vocabulary(parts: Parts) -> Words | None:
    if not isinstance(parts.codec, Vocabulary):
        return None
    method = parts.problem.problem_for({}).method
    return CodecWords(parts.codec, parts.codec, lambda params: method.to_vocabulary_space(method.realize(params)))


def _proceed(parts: Parts) -> Proceed | None:
    """Return how the tuned model goes on from its soft prompt: it is a decoder, and there are rows in slots."""
    frozen, model = parts.frozen, parts.config.model
    if frozen is None or frozen.kind != "decoder" or model.method.name not in ("prompt_tuning", "p_tuning", "pez"):
        return None
    from maao.llm.local import LocalModel

    local, method = LocalModel(frozen.model, frozen.tokenizer, frozen.name), parts.problem.problem_for({}).method

    def proceed(
        params: Any, before: str, after: str, *, seed: int, temperature: float, top_p: float, max_tokens: int
    ) -> tuple[str, int, int]:
        import torch

        with torch.no_grad():
            rows = method.realize(params)["prompt"]
        return local.proceed(rows, before, after, seed=seed, temperature=temperature, top_p=top_p, max_tokens=max_tokens)

    return proceed


def wording_digest(config: Config) -> str:
    """Return a hash of the text that an instruction is made from, or nothing where none is written."""
    text = config.mentor.options.wording_text(config.input)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else ""
