"""The run that another one begins from: its chosen point, and the examples that it has seen.

A run that goes on from a finished one must not judge itself by what that one was tuned on, nor train on what that one is reported on. So
each run keeps hashes of its examples, split by split, and a run that begins from it is kept apart by them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maao.config import Config, assign, expand_paths, make_config, stored_config, without_unread
from maao.core.loop import best_round
from maao.data.checks import excerpt, num_examples
from maao.data.repeats import text_key
from maao.data.splits import from_parts
from maao.data.text_data import PARTS
from maao.errors import ConfigError, DataError, StoreError
from maao.matched_inputs import hidden_layers
from maao.members import full_member, walks_of
from maao.problems.kinds import MatcherOptions, matcher_options
from maao.problems.settings import ModelConfig
from maao.store.digest import params_digest
from maao.store.files import sync_folder, write_durably, write_error
from maao.store.recorded import IN_RUN, ConfigRecord, EnvironmentRecord, SeenRecord
from maao.store.run import CONFIG, ENVIRONMENT, RunFolder, check_is_run, read_json, read_settings
from maao.types import JSON, Example, Splits

if TYPE_CHECKING:
    from maao.protocols import Params

SEEN = "seen.json"


@dataclass(frozen=True)
class Origin:
    """A finished run to begin from.

    Attributes:
        params: its chosen point, of an average of walks the best one.
        labels: its classes, in the order of its params' rows.
        digest: a hash of those params.
        weights: a hash of its frozen model.
    """

    folder: Path
    config: Config
    params: Params
    labels: tuple[str, ...]
    digest: str
    weights: str


def read_origin(folder: str | Path) -> Origin:
    """Return the chosen point of a finished run.

    Raises:
        StoreError: there is no such run.
        ConfigError: it is not finished.
    """
    from maao.optimizers.serializer import TorchSerializer

    path, serializer = Path(folder), TorchSerializer()
    with RunFolder.open(path, serializer=serializer, write=False) as stored:
        if stored.status != "finished":
            raise ConfigError(f"The run {path} is not finished ({stored.status}): `maao resume {path}` first, then begin from it.")
        history = stored.history()
    if not history:
        raise StoreError(f"The run {path} has no finished round to begin from.")
    recorded = read_json(path, ENVIRONMENT, EnvironmentRecord)
    params = walks_of(full_member(best_round(history).state.params))[0]
    config = stored_config(read_settings(path, ConfigRecord), path / CONFIG)
    return Origin(path, config, params, tuple(recorded["labels"]), params_digest(params, serializer), recorded["weights"])


def refuse_other(config: Config, weights: str, origin: Origin) -> None:
    """Refuse to begin from a run of another model or method, whose params mean something else.

    Raises:
        ConfigError: and what differs.
    """
    ours, theirs = config.model, origin.config.model
    said = {
        "model.name": (ours.name, theirs.name),
        "model.kind": (ours.kind.name, theirs.kind.name),
        "model.method": (ours.method.name, theirs.method.name),
        "the weights of the model": (weights, origin.weights),
    }
    for what, (own, its) in said.items():
        if own != its:
            raise ConfigError(
                f"The run {origin.folder} cannot be begun from: {what} there was {its}, here {own}. Take the same, or start anew."
            )

    if isinstance(ours.kind.options, MatcherOptions) and _read_as(ours) != _read_as(theirs):
        raise ConfigError(
            f"The run {origin.folder} cannot be begun from: it read texts otherwise (model.pooling, max_length, input_template or "
            "hidden_layers), so that its params mean something else. Take the same, or start anew."
        )


def _read_as(model: ModelConfig) -> tuple[object, ...]:
    """Return what the features of a matcher follow from beside its weights."""
    options = matcher_options(model)
    return options.pooling, options.max_length, options.input_template, hidden_layers(model)


# -- its config, with changes


def settings_of(folder: str | Path) -> JSON:
    """Return the settings that a run was made with, to begin another one from it. A rate that was searched for is kept as it was found."""
    values = read_settings(Path(folder), ConfigRecord)
    values["stage"].pop("lr_grid", None)
    return {**values, "from_run": str(Path(folder).resolve())}


def config_with(folder: str | Path, assignments: Sequence[str]) -> tuple[Config, tuple[str, ...]]:
    """Return the config of a run with ``key=value`` assignments laid over it, which begins from that run, and what there is to tell of it.

    Raises:
        ConfigError: a setting is wrong, or nothing says where the examples are now.
    """
    values = settings_of(folder)
    keys = [assign(values, assignment) for assignment in assignments]
    data = values["data"]
    if data.get("source") == IN_RUN:
        if not {"data.train", "data.source"} & {*keys}:
            raise ConfigError(
                f"The examples of the run {folder} came from memory: name a file (--set data.train=FILE), or use "
                f"maao.tune(from_run={str(folder)!r}, train=...)."
            )
        if "data.source" not in keys:
            data["source"] = PARTS
    expand_paths(values, Path.cwd())
    dropped = without_unread(values, keys)
    notes = (f"with these --set, the run {folder} sets what nothing reads, which is left out: {', '.join(dropped)}",) if dropped else ()
    return make_config(values, f"the settings of {folder}"), notes


# -- what a run has seen


def keep_seen(folder: Path, splits: Splits, origin: str | None = None) -> None:
    """Write hashes of a run's examples into its folder: its lines with `train`, and what the run had seen that it begins from."""
    before = {} if origin is None else _seen(Path(origin), splits)
    own = {**splits.parts, "train": splits.walked}
    held = {name: sorted({*map(_key, part), *before.get(name, ())}) for name, part in own.items()}
    try:
        write_durably(folder / SEEN, json.dumps(held).encode())
        sync_folder(folder)
    except OSError as error:
        raise write_error(folder, error, safe="No round was made.", then="start again in another folder") from error


def kept_apart(splits: Splits, folder: str | Path) -> Splits:
    """Return splits of which none is judged by what the run in `folder` was trained on.

    Examples of its `train` that fell to `select` join `train`.

    What it was trained on are its examples and the class lines of its chosen point, whoever said them.

    Raises:
        DataError: its `test` is to train or to choose, or what it was tuned on is to test; or nothing is left to choose by.
    """
    path = Path(folder)
    check_is_run(path)
    if not (path / SEEN).exists():
        raise StoreError(
            f"The run {path} was made by a maao that kept no hashes of its examples ({SEEN}), so that nothing could be kept apart from "
            "them: tune it again, or start anew."
        )
    seen = _seen(path, splits)
    for name, part in {"train": splits.walked, "select": splits.select}.items():
        _refuse(part, seen["test"], f"{name} has", f"that stand in the test of the run {path}", "it would no longer be a test")
    tuned_on = seen["train"] | seen["select"]
    _refuse(splits.test, tuned_on, "test has", f"that the run {path} was tuned on", "they say nothing of new ones")
    trained = [example for example in splits.select if _key(example) in seen["train"]]
    if not trained:
        return splits
    left = tuple(example for example in splits.select if _key(example) not in seen["train"])
    if not left:
        raise DataError(
            f"All of select was trained on by the run {path}, so that nothing is left to choose by: give examples of your own as "
            "data.select, or more new ones."
        )
    train = (*splits.train, *trained)
    checked = from_parts(train, left, splits.test, labels=splits.labels)
    note = f"{num_examples(trained)} of select joined train, since the run that this one begins from was trained on them"
    return replace(splits, train=train, select=left, digest=checked.digest, notes=(*splits.notes, note))


def _seen(path: Path, splits: Splits) -> dict[str, frozenset[str]]:
    """Return the hashes of what a run has seen, split by split: with `train` the class lines that its chosen point trained on."""
    from maao.problems.lined import lines_of

    found = {name: frozenset(keys) for name, keys in read_json(path, SEEN, SeenRecord).items()}
    lines = lines_of(read_origin(path).params)
    return {**found, "train": found["train"] | {_key(splits.as_example(line)) for line in lines}}


def _refuse(examples: Sequence[Example], known: Collection[str], who: str, what: str, why: str) -> None:
    shared = [example for example in examples if _key(example) in known]
    if shared:
        raise DataError(f"{who} {num_examples(shared)} {what}, such as {excerpt(shared[0])}: {why}. Leave them out.")


def _key(example: Example) -> str:
    """Return a hash of an example's text, or of a picture's content wherever its file lies, by which it is known again."""
    content = example.fields.get("content") if "image" in example.fields else None
    return hashlib.sha256((content or text_key(example)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def labels_told(origin: Origin, labels: Sequence[str]) -> str:
    """Return what of the classes goes on and what is new, as a note."""
    new = [label for label in labels if label not in origin.labels]
    gone = [label for label in origin.labels if label not in labels]
    parts = [f"begins from the chosen point of {origin.folder}"]
    parts += [f"new classes begin as they do in any run: {', '.join(new)}"] if new else []
    parts += [f"classes left out: {', '.join(gone)}"] if gone else []
    return "; ".join(parts)
