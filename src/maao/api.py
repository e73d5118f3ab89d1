"""What a notebook calls to tune on what it has at hand; `runner.py` drives the run, `result.py` reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maao import choices
from maao.config import Config, expand_paths, make_config, set_value, without_unread
from maao.data.folds import CROSS_VALIDATION
from maao.data.hub import NoSuchLabels
from maao.data.memory import splits_in_memory
from maao.deploy import labelled_examples
from maao.errors import ConfigError
from maao.mentors.built import OwnMentor
from maao.origin import settings_of
from maao.progress import Listener
from maao.result import Result
from maao.runner import Watch, folder_for, run
from maao.store.recorded import IN_RUN
from maao.types import JSON, Example

Given = dict[str, tuple[str, object]]  # dotted key -> the argument that says it, and what
NOT_OF_TUNE = {"source", "train", "select", "test", "hub_config", "task", "protocol"}  # of the data section: where examples come from


def tune(
    *,
    model: str | None = None,
    kind: str | None = None,
    method: str | None = None,
    train: object,
    select: object = None,
    test: object = None,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    template: str | None = None,
    mentor: str | Mapping[str, object] | OwnMentor | None = None,
    rounds: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    from_run: str | Path | None = None,
    folder: str | Path | None = None,
    runs: str | Path = "runs",
    settings: Mapping[str, object] | None = None,
    watch: Watch | None = None,
    progress: bool | Listener | None = None,
) -> Result:
    """Tune a soft prompt of a frozen language model on labelled text.

    Args:
        model: hub name, folder, .gguf file or "packaged:..."; that of `from_run` where there is one. A matcher may leave it out.
        kind: what reads the classes, by default what suits the model: "matcher" for few labels (docs/text-matchers.md), "decoder",
            "masked", "encoder_decoder", "head".
        method: what is tuned; by default what is usual for the kind.
        train: the path of a file, or examples in memory: pairs ``(text, label)``, mappings, a pandas frame, a `datasets.Dataset`, a mapping
            of columns, ``(X, y)``. Files and memory obey one set of rules (`maao.data.checks.Columns`): the template's fields and "label"
            are columns, others are not read; ``settings={"data.text_fields": ..., "data.label_field": ...}`` names them otherwise. A
            `datasets.DatasetDict`, or a mapping with "train" in it, gives `select` (its "validation") and `test` too.
        select: examples that choose; by default half of `train`, class by class. "cross_validation": all of `train` is tuned on, and each
            example is judged by what was tuned without it (``settings={"data.folds": 5}``).
        test: examples for the one reading at the end; by default none.
        labels: label -> label word, or the labels in order. Labels that differ only in case or white space are refused unless listed here.
        template: by default "{text} {slots} Topic:"; of a matcher what stands around a class.
        mentor: a mentor's name, a mapping of the config's mentor section, or a mentor of your own as for `run`; by default what is usual
            for the method: "language_model" for prompts, "none" for a matcher's class features.
        rounds: how often the mentor is asked, by default 3.
        steps: gradient steps of each walk, by default 30.
        seed: by default 0.
        from_run: a finished run, whose chosen point this one begins from, and whose settings are the defaults of this one's: with further
            labels, or a class more (docs/tune-further.md).
        folder: the run folder; by default a new one in `runs`.
        runs: where that is made.
        settings: further settings by dotted key, as in a config: ``{"stage.lr": 0.03}``; none that says where examples come from.
        watch: told of rounds, steps and calls as they come.
        progress: True: bars of all that takes long, with the time that is left; a function: told of each change, as a `maao.Progress`;
            None: bars in a notebook, nothing elsewhere.

    Example:
        >>> result = maao.tune(model="packaged:smollm2-135m-instruct", train="train.csv", rounds=3)  # doctest: +SKIP
        >>> few = maao.tune(kind="matcher", train=frame)  # a matcher learns best from few labels  # doctest: +SKIP
        >>> result.predict(["Shares fall as oil price climbs"])[0].label  # doctest: +SKIP
        'business'
    """
    arguments: Given = {
        "seed": ("seed", seed),
        "model.name": ("model", model),
        "model.kind": ("kind", kind),
        "model.method": ("method", method),
        "model.template": ("template", template),
        "plan.rounds": ("rounds", rounds),
        "plan.steps": ("steps", steps),
    }
    given = {key: told for key, told in arguments.items() if told[1] is not None}
    if kind is not None:
        try:
            choices.load("kind", kind)
        except choices.UnknownName as error:  # before a model is asked for, which a matcher does not need
            raise ConfigError(f"maao.tune: kind={kind!r}: {error}") from None
    if from_run is None and model is None and kind != "matcher":
        raise ConfigError(
            "maao.tune needs the name of a model: model='packaged:smollm2-135m-instruct', say; or kind='matcher', which has one; or a run "
            "to begin from."
        )
    base = {} if from_run is None else settings_of(from_run)
    if base and select is None and base["data"].get("select") == CROSS_VALIDATION:
        select = CROSS_VALIDATION  # as there
    if isinstance(select, str) and select == CROSS_VALIDATION:
        given |= {"data.select": ("select", select)}
    elif select is not None or ((held := splits_in_memory(train)) is not None and held[1] is not None):
        given |= {"data.select": ("select", None)}  # examples that choose are at hand: nothing is cross-validated
    if isinstance(labels, Mapping):
        given |= {"model.label_words": ("labels", dict(labels))}
    if base:  # of its data, how examples are read
        base["data"] = {key: value for key, value in base["data"].items() if key not in NOT_OF_TUNE}
    config, own = _configured(given, mentor, settings, in_run=True, base=base)
    texts = config.texts
    if texts is None:
        raise ConfigError("maao.tune reads texts, and `settings` has settings of pictures for [data]: use maao.tune_images for pictures.")
    said = {"source"} if texts.source == IN_RUN else set()
    said |= {"select"} if "data.select" in given else set()
    ignored = sorted((texts.model_fields_set - said) & NOT_OF_TUNE)
    if ignored:
        raise ConfigError(
            f"maao.tune would ignore {' and '.join(f'data.{key}' for key in ignored)} of `settings`: its arguments `train`, `select` and "
            "`test` give the examples. For a pool, a hub data set, a task or a protocol write a config, and give it to maao.run."
        )
    order = list(labels) if labels is not None else texts.labels
    parts, notes = _given_parts(train, None if texts.is_cross_validated else select, test, config, order)
    splits = texts.cut(*parts, config.seed, order)
    splits = replace(splits, notes=(*notes, *splits.notes))
    with folder_for(folder, Path(runs), f"tune-seed{config.seed}", config, splits) as place:
        return run(config, place, splits=splits, mentor=own, watch=watch, progress=progress)


def _given_parts(
    train: object, select: object, test: object, config: Config, labels: Sequence[str] | None
) -> tuple[tuple[tuple[Example, ...], tuple[Example, ...] | None, tuple[Example, ...]], tuple[str, ...]]:
    """Return the examples of `train`, `select` and `test`, and what there is to note about them."""
    notes: tuple[str, ...] = ()
    whole = splits_in_memory(train)
    if whole is not None:
        if select is not None or test is not None:
            raise ConfigError("`train` holds several splits already: give each split alone, as train=..., select=..., test=....")
        train, select, test = whole
        try:
            tested = () if test is None else labelled_examples(test, config, "test", labels)
        except NoSuchLabels as error:  # as with hub data sets, whose test split may keep its labels secret
            if select is None:
                raise
            notes = (f"test: the split for choices serves, since the split 'test' cannot be used: {error}",)
            tested, select = labelled_examples(select, config, "select", labels), None
    else:
        tested = () if test is None else labelled_examples(test, config, "test", labels)
    chosen = None if select is None else labelled_examples(select, config, "select", labels)
    return (labelled_examples(train, config, "train", labels), chosen, tested), notes


def tune_images(
    images: str | Path,
    *,
    model: str = "packaged:emoji-vit",
    method: str = "coop",
    shots: int | None = None,
    mentor: str | Mapping[str, object] | OwnMentor = "none",
    rounds: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    runs: str | Path = "runs",
    settings: Mapping[str, object] | None = None,
    watch: Watch | None = None,
    progress: bool | Listener | None = None,
) -> Result:
    """Tune the words around the class names of a frozen dual encoder on a folder of pictures, a folder a class.

    Args:
        images: the folder; or "emoji", "hub:NAME", or one of the field's data sets (with ``settings={"data.root": ...}``).
        model: hub name or folder of a CLIP or SigLIP model, or of a pair of towers; "packaged:emoji-vit" is a small testbed.
        method: "coop", "kgcoop", "tcp", "promptsrc", ...: see `model.method` in the config.
        shots: training pictures a class.
        mentor, rounds, steps, seed, folder, runs, settings, watch, progress: as in `tune`.

    Example:
        >>> result = maao.tune_images("pictures", model="openai/clip-vit-base-patch16", shots=8)  # doctest: +SKIP
        >>> result.predict(["cat.png"])[0].label  # doctest: +SKIP
        'cat'
    """
    given: Given = {
        "seed": ("seed", seed),
        "model.kind": ("model", "matcher"),
        "model.name": ("model", model),
        "model.method": ("method", method),
        "data.input": ("images", "image"),
        "data.source": ("images", str(images)),
    }
    further: Given = {"data.shots": ("shots", shots), "plan.rounds": ("rounds", rounds), "plan.steps": ("steps", steps)}
    given |= {key: told for key, told in further.items() if told[1] is not None}
    config, own = _configured(given, mentor, settings)
    with folder_for(folder, Path(runs), f"images-seed{config.seed}", config) as place:
        return run(config, place, mentor=own, watch=watch, progress=progress)


def _configured(
    given: Given,
    mentor: str | Mapping[str, object] | OwnMentor | None,
    settings: Mapping[str, object] | None,
    in_run: bool = False,
    base: JSON | None = None,
) -> tuple[Config, OwnMentor | None]:
    """Return the config of arguments with further settings laid over them, and the mentor if it is one of the caller's own.

    Args:
        in_run: the examples are at hand, and are kept in the run.
        base: settings that all others are laid over.

    Raises:
        ConfigError: a setting says what an argument says.
    """
    own: OwnMentor | None = None
    if isinstance(mentor, str):
        given = {**given, "mentor.name": ("mentor", mentor)}
    elif isinstance(mentor, Mapping):
        given = {**given, **{f"mentor.{key}": ("mentor", value) for key, value in mentor.items()}}
    else:
        own = mentor
    values: JSON = dict(base or {})
    if own is not None or "mentor.name" in given:  # another one, which has other settings
        values.pop("mentor", None)
    for key, (_, value) in given.items():
        set_value(values, key, value)
    for key, value in (settings or {}).items():
        twice = next((argument for said, (argument, _) in given.items() if f"{said}.".startswith(f"{key}.")), None)
        if twice is not None:
            raise ConfigError(f"`settings` names '{key}', which the argument `{twice}` says: give it there.")
        set_value(values, key, value)
    expand_paths(values, Path.cwd())
    if in_run and isinstance(data := values.setdefault("data", {}), dict):
        data.setdefault("source", IN_RUN)
    if base:
        without_unread(values, [*given, *(settings or {})])
    return make_config(values), own
