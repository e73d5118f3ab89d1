"""From a config to what a run is made of. The options of each thing build it; here they meet, typed by the protocols.

Stages, codecs, problems, data and mentors never import one another. A plugin joins through the entry-point group ``maao.plugins``, on equal
terms: see `choices.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from maao.builder import Built, out_of_fold, saying_lines
from maao.config import BudgetConfig, Config
from maao.core.acceptance import AlwaysFirst, Interpolate, Race, race_in
from maao.core.budget import Budget, cut
from maao.core.plan import UNTUNED, Plan
from maao.errors import ConfigError
from maao.mentors.context import AskingOptions
from maao.problems.texts import LoadedModels
from maao.protocols import Acceptance, Averages, Codec, Frozen, GradientStage
from maao.types import Example, Leg, Splits


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
    splits: Splits | None
    frozen: Frozen | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    loaded: LoadedModels
    average_every: int
    plan_was_cut: bool = False

    def __repr__(self) -> str:
        return f"RunComponents({self.config!r}, {type(self.problem).__name__}, {len(self.plan)} legs)"

    @property
    def examples(self) -> Splits:
        """The examples of a problem that has such."""
        assert self.splits is not None
        return self.splits


def build(config: Config, splits: Splits | None = None, *, loaded: LoadedModels | None = None) -> RunComponents:
    """Build everything but the mentor.

    Args:
        splits: examples at hand, in place of the config's data section.
        loaded: models that are loaded already.
    """
    _set_threads(config)
    budget = _beside_the_search(Budget(**config.budget.model_dump()), config)  # before anything is loaded: a bad cap is told at once
    accept = config.accept.options.build()
    _check_together(config)
    parts = _from_run(_components(saying_lines(config.builder.build(splits, loaded)), accept, budget))
    keep = config.accept.options.keep
    if keep != "winner" and not isinstance(parts.problem, Averages):
        raise ConfigError(f"accept.keep = '{keep}' is the mean of what walks say of an input, and a function has no inputs: drop it.")
    if parts.splits is not None and parts.splits.is_unlabelled:
        return _untuned(parts)
    race = race_in(accept)
    if race is None or (parts.splits and parts.splits.num_folds):
        return parts
    told = [NO_FOLDS.format(name) for name, asked in (("margin_share", race.share), ("alone", race.alone)) if asked]
    given = config.accept.options.given()
    return replace(parts, notes=(*parts.notes, *(note for note in told if any(f"accept.{name} " in note for name in given))))


NO_FOLDS = "accept.{} is asked in cross-validation alone, and here examples apart judge: a proposal wins by accept.margin."


def _from_run(parts: RunComponents) -> RunComponents:
    """Let a run begin at the chosen point of the run that its config names, if it names one."""
    if parts.config.from_run is None:
        return parts
    from maao.origin import labels_told, read_origin, refuse_other

    origin = read_origin(parts.config.from_run)
    refuse_other(parts.config, "" if parts.frozen is None else parts.frozen.digest, origin)
    told = parts.problem.begin_from(origin.params, origin.labels)
    parts.problem.initial(parts.config.seed)  # what does not fit is told now
    return replace(parts, notes=(*parts.notes, labels_told(origin, parts.examples.labels), *told))


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
    _set_threads(config)
    unbound = config.model_copy(update={"budget": BudgetConfig()})
    built = unbound.builder.build_for_use(Splits((), (), test, labels), class_names, like)
    return _components(built, config.accept.options.build(), Budget())


def _set_threads(config: Config) -> None:
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)


def _components(built: Built, accept: Acceptance[Any, Any], budget: Budget) -> RunComponents:
    """Return a problem with the plan, the stage and the rule that suit it."""
    config = built.config
    if built.splits is not None and built.splits.num_folds:
        built = out_of_fold(built)
    # What trains nothing is scored as it stands.
    whole = build_plan(config, built.steps_per_epoch) if config.model.method.options.is_trained else (Leg(0),)
    plan = cut(whole, budget.gradient_steps, accept)
    accept = _by_labels(accept, built.splits)
    return RunComponents(
        config,
        built.problem,
        built.codec,
        build_stage(config, plan, accept, built.average_every),
        _blending(accept, built.codec),
        plan,
        budget,
        built.splits,
        built.frozen,
        built.class_names,
        built.notes,
        built.loaded,
        built.average_every,
        plan_was_cut=plan != whole,
    )


def _untuned(parts: RunComponents) -> RunComponents:
    """Return the parts of a run without any label: nothing is judged. Nothing is walked, but on class lines.

    Raises:
        ConfigError: it would begin at nothing.
    """
    if parts.config.stage.options.lr_grid:
        raise ConfigError("There is no labelled example to try the rates of stage.lr_grid with: drop it, or give labels (data.shots).")
    config = parts.config
    from maao.problems.lined import LinedProblem

    own = config.mentor.name == "custom" and isinstance(parts.problem, LinedProblem)  # it may say lines
    if any(leg.ask for leg in parts.plan) and (config.mentor.options.proposes_lines or own):
        return replace(parts, plan=_asking(parts.plan), accept=AlwaysFirst())
    if parts.examples.lines:
        return replace(parts, plan=tuple(leg for leg in parts.plan if not leg.ask))
    model = parts.config.model
    if model.method.options.needs_labels or model.kind.options.needs_labels:
        what = f"model.method = '{model.method.name}'" if model.method.options.needs_labels else "a head"
        raise ConfigError(
            f"There is no labelled example, and {what} begins at nothing: give labels (data.shots), or what begins at the texts of the "
            "classes: a matcher (model.kind = 'matcher'), label words, or model.head_start = 'class_texts'."
        )
    return replace(parts, plan=(Leg(0),), plan_was_cut=False)


def _asking(plan: Plan) -> Plan:
    """Return the walk of a plan that follows from asking the mentor once: before that there is nothing to walk on."""
    asked = [i for i, leg in enumerate(plan) if leg.ask]
    if not asked:
        return (UNTUNED,)
    return (UNTUNED, *plan[asked[0] : asked[1] if len(asked) > 1 else None])


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
    config.builder.check()
    mentor = config.mentor.options
    if not config.plan.options.clues and mentor.reads_clues:
        raise ConfigError(f"The mentor '{config.mentor.name}' reads the walk in words: set plan.clues = true, or choose another mentor.")
    if "random_restart" in _proposing(config) and config.builder.starts_are_alike:
        raise ConfigError(
            f"The mentor 'random_restart' starts as a run begins, and model.initial = '{config.model.initial}' is the same text each time: "
            "use 'vocabulary' or 'normal' with it."
        )
    mentor.check()
    config.stage.options.check()
    if "data" in config.builder.sections and config.data.options.is_cross_validated:
        config.stage.options.check_members()


def _proposing(config: Config) -> list[str]:
    """Return the names of the mentors that propose: one, or two together."""
    second = config.mentor.options.mix if isinstance(config.mentor.options, AskingOptions) else None
    return [config.mentor.name, *([second.name] if second is not None else [])]


def _by_labels(accept: Acceptance[Any, Any], splits: Splits | None) -> Acceptance[Any, Any]:
    """Return a rule that judges lines as labels are there: its share of loss to win by is that of as many as the most frequent class has.

    Out of fold a class lacks a part of its examples, so that what says something of it looks better than it will be. The more of them
    there are the less. An incumbent that has lines looks as good as those that are to replace them: against it nothing is asked.
    """
    if isinstance(accept, Interpolate):
        return replace(accept, rule=_by_labels(accept.rule, splits))
    if not isinstance(accept, Race) or not (accept.share or accept.alone):
        return accept
    counts = Counter(example.label for example in splits.train) if splits is not None and splits.num_folds else Counter()
    share = accept.share / max(counts.values()) if counts else 0.0
    from maao.problems.lined import says_nothing

    return replace(accept, share=share, alone=accept.alone if counts else 0, asks_share=says_nothing)


def _blending(accept: Acceptance[Any, Any], codec: Codec[Any]) -> Acceptance[Any, Any]:
    """Return a rule with the codec's way between two points, where it goes only part of the way."""
    return replace(accept, blend=codec.blend) if isinstance(accept, Interpolate) else accept


def build_stage(
    config: Config, plan: Plan, accept: Acceptance[Any, Any], average_every: int = 1, *, lr: float | None = None
) -> GradientStage[Any, Any]:
    """Build the doer, with another rate than the config's if one is given; its schedule spans the plan."""
    return config.stage.options.build(_longest_way(plan, accept), average_every, lr)


def _longest_way(plan: Plan, accept: Acceptance[Any, Any]) -> int:
    """Return the most steps that lead to a run's end: those of its legs, and those that one candidate walks while it is judged."""
    return sum(leg.steps + (accept.max_steps(0) if leg.ask else 0) for leg in plan)


def build_plan(config: Config, steps_per_epoch: int) -> Plan:
    """Build the plan, before any budget cuts it. Without a mentor nobody is asked."""
    legs = config.plan.options.build(steps_per_epoch)
    if config.mentor.name == "none":
        legs = tuple(Leg(leg.steps, False, leg.proposals, leg.keep_every) for leg in legs)
    return legs
