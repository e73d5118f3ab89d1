"""What a result depends on besides its config, and refusing a run where that has changed since."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from maao.build import RunComponents
from maao.build_mentor import wording_digest
from maao.errors import StoreError
from maao.installed import installed
from maao.problems.kinds import TextOptions
from maao.problems.settings import ModelConfig
from maao.types import JSON

PACKAGES = ("maao", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow", "peft", "httpx2", "json-repair")


def environment(parts: RunComponents) -> JSON:
    """Return what a result depends on besides its config: versions, threads, and hashes of what the config only names."""
    import torch

    from maao.data.splits import majority_accuracy

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "data": parts.splits.digest if parts.splits else "",
        "weights": frozen_digest(parts),
        "adapter": _adapter_digest(parts.config.model),
        "wording": wording_digest(parts.config),
        "labels": list(parts.splits.labels) if parts.splits else [],
        **({"class_names": list(parts.class_names)} if parts.class_names else {}),
        "notes": list(parts.notes),
        "prepared_tokens": parts.problem.prepared.model_tokens if parts.splits else 0,
        "majority": majority_accuracy(parts.splits) if parts.splits and parts.splits.test else None,
    }


def frozen_digest(parts: RunComponents) -> str:
    """Return a hash of a run's frozen weights, or nothing where there are none."""
    from maao.problems.towers.text.loading import weights_digest

    if parts.encoder is not None:
        return parts.encoder.digest
    return weights_digest(parts.frozen.model) if parts.frozen is not None else ""


def _adapter_digest(model: ModelConfig) -> str:
    """Return a hash of the adapter that a run begins with, or nothing where there is none."""
    options = model.kind.options
    if not isinstance(options, TextOptions) or options.adapter is None:
        return ""
    from maao.export.peft_read import adapter_digest

    return adapter_digest(options.adapter)


CHANGED = {
    "data": ("The data has changed", "data"),
    "weights": ("The weights of the frozen model have changed", "model"),
    "adapter": ("The adapter that it begins with has changed", "adapter"),
    "wording": ("The wording of the mentor's instruction has changed", "wording"),
}


def refuse_changed(folder: Path, recorded: JSON, now: JSON) -> None:
    """Refuse to use a run where what its config only names is no longer the same. A hash that the run did not record is not compared."""
    for key, (told, thing) in CHANGED.items():
        if key in recorded and key in now and now[key] != recorded[key]:
            raise StoreError(
                f"{told} since the run {folder} began (its hash was {recorded[key]}, now {now[key]}). "
                f"Bring the old {thing} back, or start a new run."
            )
