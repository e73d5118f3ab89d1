"""Build the problem of texts from a config, and read its data as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maao.config import Config
from maao.data.dataset import Dataset, InputForm
from maao.problems.kinds import DEFAULT_TEMPLATE, architecture, is_masked, matcher_options, text_options
from maao.problems.settings import ModelConfig
from maao.problems.texts import Wording, build_texts
from maao.protocols import Codec
from maao.types import Splits

if TYPE_CHECKING:
    from maao.problems.framed import FramedProblem
    from maao.problems.towers.text.loading import FrozenModel


def wording_of(config: Config) -> Wording:
    """Return what a SuperGLUE task fills into the model's settings."""
    if config.task is None:
        return Wording()
    from maao.data.task import task_named

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

    return read_adapter(adapter, frozen, model.method.name, model.num_virtual_tokens)


def load_data(config: Config) -> Dataset:
    """Read and split the examples that a config names."""
    return config.data.options.load(config.seed, _input_form(config))


def _input_form(config: Config) -> InputForm:
    """Return what the model reads of an example, which decides what is read of the data."""
    texts = config.texts
    if texts is None:
        return InputForm()
    return InputForm(template_fields(config.model), texts.task is None or _is_cloze(config.model))


def template_fields(model: ModelConfig) -> tuple[str, ...]:
    """Return the fields of an example that the template reads."""
    from maao.problems.towers.text.inputs import InputTemplate
    from maao.problems.towers.text.template import Template

    if model.kind.name == "matcher":
        return InputTemplate.parse(matcher_options(model).input_template).fields
    template = Template.parse(model.template or DEFAULT_TEMPLATE, chat=text_options(model).chat)
    return tuple(name for name in template.fields if name != "choice")


def _is_cloze(model: ModelConfig) -> bool:
    """Say whether words answer: a head reads a task's examples as they were published."""
    from maao.problems.towers.text.loading import kind_of

    if model.kind.name == "matcher":
        return False
    kind = architecture(model)
    if kind == "auto":
        kind = kind_of(model.name, model.revision)
    return kind not in ("encoder", "head") or is_masked(model)
