"""From a config to what a run is made of. The options of each thing build it; here they meet, typed by the protocols.

Stages, codecs, problems, data and mentors never import one another. A plugin joins through the entry-point group ``maao.plugins``, on equal
terms: see `choices.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from maao.build_text import adapter_notes, build_language, load_data, wording_of
from maao.config import BudgetConfig, Config
from maao.core.acceptance import Interpolate
from maao.core.budget import Budget, cut
from maao.core.plan import Plan
from maao.data.dataset import Dataset
from maao.errors import ConfigError
from maao.mentors.context import AskingOptions
from maao.problems.kinds import TextOptions
from maao.problems.texts import LoadedModels, completed, token_notes
from maao.problems.towers.dual_names import reads_pictures
from maao.protocols import Acceptance, Codec, GradientStage
from maao.sharing import shared_models
from maao.types import Example, Leg, Splits

if TYPE_CHECKING:
    from maao.build_matcher import MatcherParts
    from maao.problems.towers.dual import DualEncoder
    from maao.problems.towers.text.loading import FrozenModel


@dataclass(frozen=True)
class RunComponents:
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


def build(config: Config, splits: Splits | None = None, *, loaded: LoadedModels | None = None) -> RunComponents:
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
    elif config.model.kind.name == "matcher":
        if splits is not None and config.input == "image":
            raise ConfigError("Pictures come from the config's data section: examples at hand are for problems of language.")
        parts = _matcher_parts(config, accept, budget, splits)
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
    if model.kind.name == "matcher" and config.problem != "function":
        from maao.build_matcher import check_matcher

        check_matcher(config)
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
        if not reads_pictures(config.model.name):
            return
        raise ConfigError(
            f"model.name = '{config.model.name}' reads pictures, and data.source = '{source}' is of texts, as far as can be told: name a "
            "folder that is there and holds a folder for each class, emoji, or one of the field's sets; or say that it is of pictures, "
            "with data.input = 'image'. To match texts name a text encoder, such as packaged:all-minilm-l6-v2."
        )
    raise ConfigError(
        f"model.kind = '{config.model.kind.name}' reads texts, and data.source = '{source}' is of pictures (data.input = 'image'): name a "
        "source of texts, or set model.kind = 'matcher'."
    )


def _function_parts(config: Config, accept: Acceptance[Any, Any], budget: Budget) -> RunComponents:
    from maao.codecs.numbers import NumberCodec
    from maao.problems.functions import FunctionProblem

    function = config.function
    codec = NumberCodec(function.dim, function.digits, function.bound)
    problem = FunctionProblem(function.name, function.dim, function.bound, codec)
    whole = build_plan(config, steps_per_epoch=1)
    plan = cut(whole, budget.gradient_steps, accept)
    rule = _blending(accept, codec)
    return RunComponents(config, problem, codec, build_stage(config, plan, accept), rule, plan, budget, plan_was_cut=plan != whole)


def _blending(accept: Acceptance[Any, Any], codec: Codec[Any]) -> Acceptance[Any, Any]:
    """Return a rule with the codec's way between two points, where it goes only part of the way."""
    return replace(accept, blend=codec.blend) if isinstance(accept, Interpolate) else accept


def _language_parts(
    config: Config, accept: Acceptance[Any, Any], budget: Budget, splits: Splits, loaded: LoadedModels | None = None
) -> RunComponents:
    loaded = shared_models() if loaded is None else loaded
    frozen = loaded.load(config.model.name, config.model)
    config = config.model_copy(update={"model": completed(config.model, frozen, wording_of(config))})
    problem, codec = build_language(config, splits, frozen)
    steps_per_epoch = max(1, len(splits.train) // config.stage.options.batch_size)
    whole = build_plan(config, steps_per_epoch)
    plan = cut(whole, budget.gradient_steps, accept)
    return RunComponents(
        config,
        problem,
        codec,
        build_stage(config, plan, accept),
        _blending(accept, codec),
        plan,
        budget,
        splits,
        frozen,
        notes=(*splits.notes, *problem.notes, *adapter_notes(config.model, frozen), *token_notes(config.model, frozen, splits)),
        plan_was_cut=plan != whole,
        loaded=loaded,
    )


def _matcher_parts(
    config: Config, accept: Acceptance[Any, Any], budget: Budget, splits: Splits | None = None, built: MatcherParts | None = None
) -> RunComponents:
    from maao.build_matcher import build_matcher

    if built is None:
        dataset = load_data(config) if splits is None else Dataset(splits, splits.labels)
        built = build_matcher(config, dataset=dataset)
    config = config.model_copy(update={"model": built.model})
    if built.bits is not None:  # what single pictures are read by when the run is used
        config = config.model_copy(update={"data": config.data.with_options(bits=built.bits)})
    steps_per_epoch = max(1, len(built.splits.train) // config.stage.options.batch_size)
    # Zero-shot classes are scored as they stand.
    whole = (Leg(0),) if not config.model.method.options.is_trained else build_plan(config, steps_per_epoch)
    plan = cut(whole, budget.gradient_steps, accept)
    return RunComponents(
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


def build_for_use(
    config: Config,
    labels: tuple[str, ...],
    class_names: tuple[str, ...] = (),
    *,
    test: tuple[Example, ...] = (),
    like: RunComponents | None = None,
) -> RunComponents:
    """Build what predicting, evaluating and exporting need: the model and the template, without what a run began with.

    Args:
        test: labelled examples to evaluate on, in place of the run's data.
        like: parts of the same run, whose models are used.
    """
    splits = Splits((), (), test, labels)
    if config.model.kind.name == "matcher" and config.problem != "function":
        from maao.build_matcher import build_matcher

        encoder = None if like is None else like.encoder
        given = build_matcher(config, splits, class_names, encoder)
        return _matcher_parts(config, config.accept.options.build(), Budget(), built=given)
    model = config.model.with_kind(adapter=None) if config.problem != "function" else config.model
    own = config.model_copy(update={"budget": BudgetConfig(), "model": model})
    return build(own, splits, loaded=None if like is None else like.loaded)


def build_stage(
    config: Config, plan: Plan, accept: Acceptance[Any, Any], steps_per_epoch: int = 1, *, lr: float | None = None
) -> GradientStage[Any, Any]:
    """Build the doer, with another rate than the config's if one is given; its schedule spans the plan."""
    return config.stage.options.build(_longest_way(plan, accept), steps_per_epoch, lr)


def _longest_way(plan: Plan, accept: Acceptance[Any, Any]) -> int:
    """Return the most steps that lead to a run's end: those of its legs, and those that one candidate walks while it is judged."""
    return sum(leg.steps + (accept.max_steps(0) if leg.ask else 0) for leg in plan)


def build_plan(config: Config, steps_per_epoch: int) -> Plan:
    """Build the plan, before any budget cuts it. Without a mentor nobody is asked."""
    legs = config.plan.options.build(steps_per_epoch)
    if config.mentor.name == "none":
        legs = tuple(Leg(leg.steps, False, leg.proposals, leg.keep_every) for leg in legs)
    return legs
