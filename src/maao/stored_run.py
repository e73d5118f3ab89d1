"""A run's folder as maao reads it: its config, what it recorded of its environment, and its examples where they came from memory."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from maao.config import Config, stored_config
from maao.data.checks import as_mapping
from maao.data.splits import SPLITS, known_parts
from maao.evaluation.beside import Compared
from maao.evaluation.undecided import Thresholds
from maao.llm.sent import Sent
from maao.store.files import sync_folder, write_durably, write_error, write_text_durably
from maao.store.recorded import (
    BASELINES,
    EXAMPLES,
    IN_RUN,
    SENT,
    UNDECIDED,
    ComparedRecord,
    ConfigRecord,
    EnvironmentRecord,
    ExamplesRecord,
    SentRecord,
    ThresholdsRecord,
)
from maao.store.run import CONFIG, ENVIRONMENT, RunFolder, read_json, read_settings
from maao.types import JSON, Example, Splits, known

if TYPE_CHECKING:
    from maao.optimizers.serializer import TorchSerializer
    from maao.optimizers.torch import TorchState
    from maao.protocols import History, Params
    from maao.types import Round

    Stored: TypeAlias = RunFolder[Params, TorchState]
    Finished: TypeAlias = Round[Params, TorchState]
    Rounds: TypeAlias = History[Params, TorchState]


def open_run(folder: str | Path, *, write: bool) -> Stored:
    return RunFolder.open(folder, serializer=torch_serializer(), write=write)


def torch_serializer() -> TorchSerializer:
    from maao.optimizers.serializer import TorchSerializer

    return TorchSerializer()


def config_of(stored: Stored) -> Config:
    return stored_config(read_settings(stored.path, ConfigRecord), stored.path / CONFIG)


def recorded_in(stored: Stored) -> JSON:
    """Return the environment that a run recorded, whole."""
    return read_json(stored.path, ENVIRONMENT, EnvironmentRecord)


def keep_splits(folder: Path, splits: Splits) -> None:
    """Write examples that came from memory into the run folder, so that the run can be resumed."""
    kept = {name: [as_mapping(example) for example in part] for name, part in splits.parts.items()}
    folds = {"folds": list(splits.folds)} if splits.folds else {}
    text = json.dumps({"labels": list(splits.labels), "notes": list(splits.notes), **folds, **kept}, ensure_ascii=False)
    try:
        write_durably(folder / EXAMPLES, text.encode())
        sync_folder(folder)
    except OSError as error:
        raise write_error(folder, error, safe="No round was made.", then="start again in another folder") from error


def keep_thresholds(folder: Path, thresholds: Thresholds) -> None:
    """Write what a run leaves undecided into its folder."""
    _keep(folder, UNDECIDED, thresholds.to_json())


def keep_compared(folder: Path, compared: Compared) -> None:
    """Write the baselines of a run's end into its folder."""
    _keep(folder, BASELINES, compared.to_json())


def keep_sent(folder: Path, sent: Sent) -> None:
    """Write what a run sent into its folder."""
    _keep(folder, SENT, asdict(sent))


def kept_sent(folder: Path) -> Sent | None:
    """Return what a run sent; None: it asked no model, or goes on, or was killed."""
    if not (folder / SENT).exists():
        return None
    held = known(Sent, read_json(folder, SENT, SentRecord))
    return Sent(**{**held, "to": tuple(held["to"]), "fields": tuple(held["fields"])})


def kept_compared(folder: Path) -> Compared | None:
    """Return the baselines of a run's end; None: it has none, or has not come to its end."""
    if not (folder / BASELINES).exists():
        return None
    return Compared.from_json(read_json(folder, BASELINES, ComparedRecord))


def _keep(folder: Path, name: str, held: JSON) -> None:
    try:
        write_text_durably(folder / name, json.dumps(held, indent=2, ensure_ascii=False))
        sync_folder(folder)
    except OSError as error:
        raise write_error(folder, error, safe="What is stored is safe.", then=f"`maao resume {folder}`") from error


def kept_thresholds(folder: Path) -> Thresholds | None:
    """Return what a run leaves undecided; None: nothing, or it has not come to choose that."""
    if not (folder / UNDECIDED).exists():
        return None
    return Thresholds.from_json(read_json(folder, UNDECIDED, ThresholdsRecord))


def kept_splits(folder: Path, config: Config) -> Splits | None:
    if config.data.options.source != IN_RUN:
        return None
    data = read_json(folder, EXAMPLES, ExamplesRecord)
    parts = [
        tuple(Example(e["fields"], e["label"], tuple(e.get("choices", ())), e.get("group", "")) for e in data[name]) for name in SPLITS
    ]
    return replace(known_parts(*parts, labels=data["labels"], folds=data.get("folds", ())), notes=tuple(data["notes"]))
