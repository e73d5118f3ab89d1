"""What each name in a config leads to: one literal table, of strings, so that nothing is imported before it is chosen.

A value is ``"module:Class"``; the class is a `Section` (`options.py`), whose fields are the settings and whose `build` makes the thing. To
add a mentor, write its file and its row here. A package of your own joins by an entry point in the group ``maao.plugins``, named
``TABLE.NAME`` (``mentor.horoscope``), on equal terms: its settings are checked in the same way. What is only for one project needs no
package: a name ``"FILE.py:Class"`` in a TOML file means a class of a file beside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

PLUGINS = "maao.plugins"

CHOICES: Mapping[str, Mapping[str, str]] = {
    "kind": {
        "auto": "maao.problems.kinds:AutoOptions",
        "decoder": "maao.problems.kinds:DecoderOptions",
        "masked": "maao.problems.kinds:MaskedOptions",
        "encoder_decoder": "maao.problems.kinds:EncoderDecoderOptions",
        "head": "maao.problems.kinds:HeadOptions",
        "matcher": "maao.problems.kinds:MatcherOptions",
    },
    "method": {
        "prompt_tuning": "maao.problems.methods.prompt_tuning:PromptTuningOptions",
        "p_tuning": "maao.problems.methods.p_tuning:PTuningOptions",
        "prefix_tuning": "maao.problems.methods.prefix_tuning:PrefixTuningOptions",
        "pez": "maao.problems.methods.pez:PezOptions",
        "coop": "maao.problems.methods.coop:CoOpOptions",
        "cocoop": "maao.problems.methods.cocoop:CoCoOpOptions",
        "kgcoop": "maao.problems.methods.kgcoop:KgCoOpOptions",
        "prograd": "maao.problems.methods.prograd:ProGradOptions",
        "tcp": "maao.problems.methods.tcp:TCPOptions",
        "maple": "maao.problems.methods.maple:MaPLeOptions",
        "input_prompt": "maao.problems.methods.input_prompt:InputPromptOptions",
        "promptsrc": "maao.problems.methods.promptsrc:PromptSRCOptions",
        "class_residual": "maao.problems.probe_options:ClassResidualOptions",
        "zero_shot": "maao.problems.probe_options:ZeroShotOptions",
        "linear_probe": "maao.problems.probe_options:LinearProbeOptions",
        "lp++": "maao.problems.probe_options:LPPlusPlusOptions",
    },
    "problem": {"classification": "maao.build_classes:Classification", "function": "maao.build_function:FunctionBuilder"},
    "stage": {
        "gradient": "maao.optimizers.options:GradientOptions",
        "cma_es": "maao.optimizers.options:CMAOptions",
    },
    "plan": {
        "rounds": "maao.core.plan:RoundsOptions",
        "epochs": "maao.core.plan:EpochsOptions",
        "legs": "maao.core.plan:LegsOptions",
    },
    "mentor": {
        "none": "maao.mentors.controls:NoMentorOptions",
        "custom": "maao.mentors.context:CustomOptions",
        "random_restart": "maao.mentors.controls:RandomRestartOptions",
        "reproject": "maao.mentors.controls:ReprojectOptions",
        "scripted": "maao.mentors.scripted:ScriptedOptions",
        "person": "maao.mentors.language_model:PersonMentorOptions",
        "language_model": "maao.mentors.language_model:LanguageModelOptions",
        "perturb": "maao.mentors.controls:PerturbOptions",
        "reset": "maao.mentors.controls:ResetOptions",
        "random_text": "maao.mentors.random_text:RandomTextOptions",
        "class_names": "maao.mentors.class_lines.controls:ClassNamesOptions",
        "class_wordings": "maao.mentors.class_lines.controls:ClassWordingsOptions",
        "near_words": "maao.mentors.class_lines.controls:NearWordsOptions",
        "random_class_words": "maao.mentors.class_lines.controls:RandomClassWordsOptions",
        "edited_examples": "maao.mentors.class_lines.controls:EditedExamplesOptions",
        "corpus_lines": "maao.mentors.class_lines.controls:CorpusLinesOptions",
        "soft_input": "maao.mentors.soft_input:SoftInputOptions",
        "evolution": "maao.mentors.evolution:EvolutionOptions",
        "opro": "maao.mentors.opro:OPROOptions",
        "ape": "maao.mentors.ape:APEOptions",
        "evoprompt_ga": "maao.mentors.evoprompt:EvoPromptGAOptions",
        "evoprompt_de": "maao.mentors.evoprompt:EvoPromptDEOptions",
        "class_lines": "maao.mentors.class_lines.mentor:ClassLinesOptions",
    },
    "chat": {
        "local": "maao.llm.local:LocalOptions",
        "openai": "maao.llm.openai_compatible:OpenAIOptions",
        "person": "maao.llm.person:PersonOptions",
        "scripted": "maao.llm.scripted:ScriptedOptions",
        "batch": "maao.llm.batch:BatchOptions",
    },
    "accept": {
        "always_first": "maao.core.acceptance:AlwaysFirstOptions",
        "best_of": "maao.core.acceptance:BestOfOptions",
        "if_better": "maao.core.acceptance:IfBetterOptions",
        "interpolate": "maao.core.acceptance:InterpolateOptions",
        "race": "maao.core.acceptance:RaceOptions",
    },
    "export": {  # classes of their own, without settings (see `export/tuned.py`)
        "text": "maao.export.tensors:TextExport",
        "tensor": "maao.export.tensors:TensorExport",
        "peft": "maao.export.peft_write:PeftExport",
        "peft-classifier": "maao.export.peft_write:PeftClassifierExport",
        "ctx": "maao.export.context:ContextExport",
        "classes": "maao.export.context:ClassesExport",
    },
    "data": {"text": "maao.data.text_data:TextData", "image": "maao.data.image_data:ImageData"},
    "task": {  # values of `Task`
        "boolq": "maao.data.superglue:BOOLQ",
        "cb": "maao.data.superglue:CB",
        "copa": "maao.data.superglue:COPA",
        "multirc": "maao.data.superglue:MULTIRC",
        "record": "maao.data.superglue:RECORD",
        "rte": "maao.data.superglue:RTE",
        "wic": "maao.data.superglue:WIC",
        "wsc": "maao.data.superglue:WSC",
    },
    "metric": {  # functions (see `evaluation/metrics.py`)
        "accuracy": "maao.evaluation.metrics:accuracy",
        "balanced_accuracy": "maao.evaluation.metrics:balanced_accuracy",
        "f1_macro": "maao.evaluation.metrics:f1_macro",
        "f1a": "maao.evaluation.metrics:f1a",
        "em": "maao.evaluation.metrics:em",
        "f1": "maao.evaluation.metrics:f1",
        "log_loss": "maao.evaluation.metrics:log_loss",
    },
    "baseline": {
        "tune": "maao.compare.rows:Tune",
        "majority": "maao.baselines.majority:Majority",
        "zero_shot": "maao.baselines.zero_shot:ZeroShot",
        "prototypes": "maao.baselines.prototypes:Prototypes",
        "linear_probe": "maao.baselines.linear_probe:LinearProbe",
        "knn": "maao.baselines.knn:KNN",
        "in_context": "maao.baselines.in_context:InContext",
        "lora": "maao.baselines.lora:LoRA",
        "setfit": "maao.baselines.setfit:SetFit",
        "peft": "maao.baselines.peft:Peft",
    },
    "codec": {"nearest_token": "maao.codecs.options:NearestTokenOptions", "fluent": "maao.codecs.options:FluentOptions"},
    "tracker": {
        "none": "maao.trackers.options:NoTracker",
        "tensorboard": "maao.trackers.options:TensorBoardOptions",
        "trackio": "maao.trackers.options:TrackioOptions",
        "mlflow": "maao.trackers.options:MLflowOptions",
        "wandb": "maao.trackers.options:WandBOptions",
    },
    "page": {"differences": "maao.compare.page:Differences"},
}

VALUES = ("task", "metric")  # tables whose names lead to values and functions; those of the others lead to classes
OWN_FILE = re.compile(r"(?P<file>.+\.py):(?P<attribute>[A-Za-z_]\w*)")


class UnknownName(KeyError):
    """A name leads to nothing."""

    def __init__(self, told: str) -> None:
        self.told = told
        super().__init__(told)

    def __str__(self) -> str:
        return self.told


IN_WORDS = {"accept": "acceptance rule", "chat": "provider"}  # what a table holds, where its name does not say it


def _unknown(table: str, name: object) -> UnknownName:
    known = names(table)
    near = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UnknownName(f"there is no {IN_WORDS.get(table, table)} of that name.{hint} Known: {', '.join(known)}")


@cache
def _plugins() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=PLUGINS)}


def names(table: str) -> tuple[str, ...]:
    """Return the names of a table, those of plugins last."""
    return (*CHOICES[table], *(name.removeprefix(f"{table}.") for name in _plugins() if name.startswith(f"{table}.")))


def load(table: str, name: object) -> type[Any]:
    """Return the class that a name leads to.

    Raises:
        UnknownName: there is none.

    Example:
        >>> load("mentor", "horoscope")
        Traceback (most recent call last):
        maao.choices.UnknownName: ...
    """
    if isinstance(name, str) and (own_class := OWN_FILE.fullmatch(name)):
        return _from_file(Path(own_class["file"]), own_class["attribute"], values=table in VALUES)
    if not isinstance(name, str) or name not in names(table):
        raise _unknown(table, name)
    own = CHOICES[table].get(name)
    if own is None:
        return _from_plugin(table, name)
    module, _, attribute = own.partition(":")
    return getattr(import_module(module), attribute)


def _from_plugin(table: str, name: str) -> type[Any]:
    entry = _plugins()[f"{table}.{name}"]
    try:
        found: type[Any] = entry.load()
    except (Exception, SystemExit) as error:  # anything may happen in a module of others
        told = f"the {IN_WORDS.get(table, table)} '{name}' is a plugin's, {entry.value}, which cannot be imported"
        raise UnknownName(f"{told} ({type(error).__name__}: {error})") from error
    return found


def _from_file(file: Path, attribute: str, *, values: bool) -> type[Any]:
    """Return a class of a file of one's own; with `values` a function or a value."""
    if not file.is_file():
        raise UnknownName(f"there is no file {file}")
    held = vars(_module(file.resolve())).get(attribute)
    if held is None or not (values or isinstance(held, type)):
        raise UnknownName(f"{file} holds no {'such name as' if values else 'class'} {attribute}")
    found: type[Any] = held
    return found


@cache
def _module(file: Path) -> ModuleType:
    spec = spec_from_file_location(f"maao_own_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}", file)
    assert spec is not None and spec.loader is not None  # the file is there, and is Python
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise UnknownName(f"{file} cannot be imported ({type(error).__name__}: {error})") from error
    return module


def own_file(name: object, folder: Path) -> object:
    """Return a name with the path of the file that it names made absolute, from `folder`; other names and texts as they are.

    Example:
        >>> own_file("mine.py:Mine", Path("/tables")), own_file("perturb", Path("/tables"))
        ('/tables/mine.py:Mine', 'perturb')
    """
    found = OWN_FILE.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return name
    file = folder / found["file"]
    is_text = " " in found["file"] and not os.path.isfile(file)  # words that end like such a name
    return name if is_text else f"{file.resolve()}:{found['attribute']}"


def own_files(settings: object) -> set[Path]:
    """Return the files of one's own that nested settings name something of."""
    if isinstance(settings, Mapping):
        return own_files(list(settings.values()))
    if isinstance(settings, list):
        return {file for held in settings for file in own_files(held)}
    found = OWN_FILE.fullmatch(settings) if isinstance(settings, str) else None
    return {Path(found["file"])} if found is not None and Path(found["file"]).is_file() else set()


def readers(table: str, key: str) -> tuple[str, ...]:
    """Return the names of a table whose things read a setting of that name. Imports all of them: for messages.

    What a plugin breaks is told where it is chosen, not here.
    """
    return tuple(name for name in names(table) if key in _fields(table, name))


def _fields(table: str, name: str) -> Collection[str]:
    try:
        found: Collection[str] = getattr(load(table, name), "model_fields", ())
    except UnknownName:
        return ()
    return found
