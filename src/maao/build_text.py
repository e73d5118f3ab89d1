"""Build the problem of texts that a language model reads, from a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maao.builder import Built, ClassesBuilder, read_by_name
from maao.data.dataset import Dataset
from maao.data.task import task_named
from maao.data.text_data import TextData
from maao.errors import ConfigError
from maao.mentors.context import MentorContext, Proceed
from maao.problems.kinds import DEFAULT_TEMPLATE, LabelWordsOptions, label_words, text_options
from maao.problems.settings import ModelConfig, text_method
from maao.problems.texts import Wording, build_texts, completed, reading_of, token_notes
from maao.problems.towers.text.loading import code_notes
from maao.protocols import Codec
from maao.sharing import shared_models
from maao.types import JSON, TEMPLATE, WORD, Splits

if TYPE_CHECKING:
    from maao.build import RunComponents
    from maao.config import Config
    from maao.problems.framed import FramedProblem
    from maao.problems.frozen import LanguageFrozen
    from maao.problems.texts import LoadedModels
    from maao.problems.towers.text.loading import FrozenModel


class TextBuilder(ClassesBuilder):
    """Builds what a language model reads from texts, by label words or a head."""

    def check(self) -> None:
        config, options = self.config, text_options(self.config.model)
        if config.accept.name == "interpolate" and options.length == "free":
            raise ConfigError("accept.rule 'interpolate' blends prompts of equal length: use model.length = 'fixed' with it.")
        if not isinstance(config.data.options, TextData):
            raise ConfigError(
                f"model.kind = '{config.model.kind.name}' reads texts, and data.source = '{config.data.options.source}' is of pictures "
                "(data.input = 'image'): name a source of texts, or set model.kind = 'matcher'."
            )

    def build(self, splits: Splits | None, loaded: LoadedModels | None) -> Built:
        return self._build(self.load_data().splits if splits is None else self.config.data.options.with_lines(splits), loaded)

    def _build(self, splits: Splits, loaded: LoadedModels | None) -> Built:
        loaded = shared_models() if loaded is None else loaded
        frozen = loaded.load(self.config.model.name, self.config.model)
        model = completed(self.config.model, frozen, wording_of(self.config))
        config = self.config.model_copy(update={"model": model})
        problem, codec = build_language(config, splits, frozen)
        return Built(
            config,
            problem,
            codec,
            splits,
            frozen,
            class_names=splits.labels,
            notes=(
                *splits.notes,
                *problem.notes,
                *adapter_notes(model, frozen),
                *token_notes(model, frozen, splits),
                *code_notes(model.name, model.revision, trust_remote_code=model.trust_remote_code),
            ),
            loaded=loaded,
            steps_per_epoch=max(1, len(splits.walked) // config.stage.options.batch_size),
        )

    def build_for_use(self, splits: Splits, class_names: tuple[str, ...], like: RunComponents | None) -> Built:
        model = self.config.model.with_kind(adapter=None)
        own = replace(self, config=self.config.model_copy(update={"model": model}))
        return own._build(splits, None if like is None else like.loaded)

    def frozen(self, dataset: Dataset, like: RunComponents | None = None) -> LanguageFrozen:
        from maao.problems.frozen import LanguageFrozen
        from maao.problems.scorers.label_words import LabelWords

        splits = dataset.splits
        loaded = shared_models() if like is None else like.loaded
        frozen = loaded.load(self.config.model.name, self.config.model)
        model = completed(self.config.model, frozen, wording_of(self.config))
        scorer, tokenizer = reading_of(model, frozen, splits)
        named = label_words(model) or {}
        readable = {label: label if isinstance(scorer, LabelWords) else label.replace("_", " ") for label in splits.labels}
        return LanguageFrozen(scorer, tokenizer, {**readable, **named}, model.score_batch)

    def for_mentor(self, parts: RunComponents, run: MentorContext) -> MentorContext:
        splits, model = parts.examples, parts.config.model
        words = label_words(model) or {label: label for label in splits.labels}
        return replace(
            run,
            train=splits.train,
            folds=splits.folds,
            labels=splits.labels,
            classes=splits.labels,
            template=model.template or DEFAULT_TEMPLATE,
            length=model.num_virtual_tokens,
            max_tokens=model.num_virtual_tokens,
            read_by_name=read_by_name(self, parts),
            proceed=_proceed(parts),
            own={
                TEMPLATE: str(parts.problem.problem_for({}).template),
                **{WORD + label: words.get(label, label) for label in splits.labels},
            },
            not_filled=_not_filled(model, splits),
        )

    def described(self, params: Any, problem: Any, parts: RunComponents, labels: tuple[str, ...]) -> JSON:
        from maao.problems.framed import PatternVerbalizer

        model, task = parts.config.model, parts.config.task  # with what a task fills in
        pair = PatternVerbalizer.of(params)
        filled = dict(zip(labels, pair.label_words, strict=True)) if pair is not None and pair.label_words else None
        words = filled or label_words(model) or {label: label for label in labels}
        return {
            "template": str(problem.template),
            "labels": list(labels),
            "label_words": None if model.kind.name == "head" else words,
            "choices": task is not None and task_named(task).multiple_choice,
        }


def _not_filled(model: ModelConfig, splits: Splits) -> dict[str, str]:
    """Return what a proposal cannot fill, and why."""
    told = ""
    if model.kind.name == "head":
        told = "mentor.fills names label_words, and this model is read by a trained head, which has none: drop them."
    elif isinstance(model.kind.options, LabelWordsOptions) and model.kind.options.calibration != "none":
        told = "mentor.fills names label_words, and model.calibration is of the words that a run begins with: drop one of the two."
    elif any(example.choices for example in splits.train):
        told = "mentor.fills names label_words, and these examples have answers of their own to choose from: drop them."
    return {"label_words": told} if told else {}


def wording_of(config: Config) -> Wording:
    """Return what a SuperGLUE task fills into the model's settings."""
    if config.task is None:
        return Wording()
    task = task_named(config.task)
    return Wording(task.cloze, task.pair, task.label_words or None)


def build_language(config: Config, splits: Splits, frozen: FrozenModel) -> tuple[FramedProblem, Codec[Any]]:
    """Build the problem of a frozen language model and the codec of its prompts."""
    problem = build_texts(
        config.model,
        frozen,
        splits,
        seed=config.seed,
        batch_size=config.stage.options.batch_size,
        with_clues=config.plan.options.clues,
        continuation_tokens=12 if config.mentor.options.reads_self_continuation else 0,
        measure=config.data.options.measure(splits.labels),
        initial_params=_adapter(config.model, frozen),
    )
    return problem, problem.codec


def adapter_notes(model: ModelConfig, frozen: FrozenModel) -> tuple[str, ...]:
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

    return read_adapter(adapter, frozen, model.method.name, model.num_virtual_tokens, in_slots=text_method(model).in_slots)


def _proceed(parts: RunComponents) -> Proceed | None:
    """Return how the tuned model goes on from its soft prompt: it is a decoder, and there are rows in slots."""
    from maao.problems.towers.text.loading import FrozenModel

    frozen, model = parts.frozen, parts.config.model
    if not isinstance(frozen, FrozenModel) or frozen.kind != "decoder" or not text_method(model).in_slots:
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
