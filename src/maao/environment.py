"""What a result depends on besides its config, and refusing a run where that has changed since."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

from maao import choices
from maao.build import RunComponents
from maao.build_mentor import wording_digest
from maao.config import Config
from maao.errors import StoreError
from maao.installed import installed
from maao.origin import read_origin
from maao.parallel import num_processes
from maao.problems.kinds import TextOptions
from maao.problems.settings import ModelConfig
from maao.types import JSON, Splits

PACKAGES = ("maao", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "peft", "httpx2", "json-repair")


def environment(parts: RunComponents) -> JSON:
    """Return what a result depends on besides its config: versions, threads, and hashes of what the config only names."""
    import torch

    from maao.data.lines import lines_digest
    from maao.data.splits import majority_accuracy

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **({"processes": num_processes()} if num_processes() > 1 else {}),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "data": parts.splits.digest if parts.splits else "",
        "lines": lines_digest(parts.splits) if parts.splits else "",
        "sizes": _sizes(parts.splits) if parts.splits else {},
        "weights": frozen_digest(parts),
        "adapter": _adapter_digest(parts.config.model),
        "wording": wording_digest(parts.config),
        "own_files": _own_files_digest(parts.config),
        "remote_code": remote_code(parts.config) if parts.frozen is not None else {},
        "origin": "" if parts.config.from_run is None else read_origin(parts.config.from_run).digest,
        "labels": list(parts.splits.labels) if parts.splits else [],
        "class_names": list(parts.class_names),
        "notes": list(parts.notes),
        "prepared_tokens": parts.problem.prepared.model_tokens if parts.splits else 0,
        "majority": majority_accuracy(parts.splits) if parts.splits and parts.splits.train and parts.splits.test else None,
    }


def remote_code(config: Config) -> dict[str, str]:
    """Return the Python files that come with a config's model and may be run, with their hashes; nothing where none may. Runs none."""
    model = config.model
    if not model.trust_remote_code:
        return {}
    from maao.problems.towers.text.loading import code_of

    return code_of(model.name, model.revision)


def refuse_other_code(folder: Path, recorded: JSON, config: Config) -> None:
    """Refuse to use a run whose model comes with other code than it began with, before any of it runs.

    Of a model of the hub only what is at hand is compared: the rest is fetched when it is loaded, and its commit says what it is.
    """
    from maao.problems.towers.text.loading import of_hub

    now, began = remote_code(config), recorded.get("remote_code", {})
    if config.model.trust_remote_code and of_hub(config.model.name):
        now = {**began, **{file: digest for file, digest in now.items() if file in began}}
    refuse_changed(folder, recorded, {"remote_code": now})


def _sizes(splits: Splits) -> dict[str, int]:
    """Return how many examples each split has, and how many lines there are."""
    return {**{name: len(part) for name, part in splits.parts.items()}, "lines": len(splits.lines)}


def frozen_digest(parts: RunComponents) -> str:
    """Return a hash of a run's frozen weights, or nothing where there are none."""
    return "" if parts.frozen is None else parts.frozen.digest


def _adapter_digest(model: ModelConfig) -> str:
    """Return a hash of the adapter that a run begins with, or nothing where there is none."""
    options = model.kind.options
    if not isinstance(options, TextOptions) or options.adapter is None:
        return ""
    from maao.export.peft_read import adapter_digest

    return adapter_digest(options.adapter)


def _own_files_digest(config: Config) -> str:
    """Return a hash of the files of one's own that a config names classes of, or nothing where it names none."""
    files = choices.own_files(config.model_dump(mode="json"))
    code = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)]
    return "sha256:" + hashlib.sha256("".join(code).encode()).hexdigest() if code else ""


CHANGED = {
    "origin": ("The chosen point of the run that it began from has changed", "run"),
    "data": ("The data has changed", "data"),
    "lines": ("The example lines of data.lines have changed", "file"),
    "weights": ("The weights of the frozen model have changed", "model"),
    "remote_code": ("The Python code that comes with the model has changed", "code"),
    "adapter": ("The adapter that it begins with has changed", "adapter"),
    "wording": ("The wording of the mentor's instruction has changed", "wording"),
    "own_files": ("A file of your own that the config names a class of has changed", "file"),
}


def refuse_changed(folder: Path, recorded: JSON, now: JSON) -> None:
    """Refuse to use a run where what its config only names is no longer the same. A hash that the run did not record is not compared."""
    for key, (told, thing) in CHANGED.items():
        if key in recorded and key in now and now[key] != recorded[key]:
            raise StoreError(
                f"{told} since the run {folder} began (its hash was {recorded[key]}, now {now[key]}). "
                f"Bring the old {thing} back, or start a new run."
            )
