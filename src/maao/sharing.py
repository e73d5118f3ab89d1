"""What the runs of one process share: the data they read, the models that they load, what these made of texts, and how walks began."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maao.data.kept import keeping
from maao.problems.texts import LoadedModels
from maao.protocols import GradientStage

if TYPE_CHECKING:
    from maao.build import RunComponents


@dataclass(frozen=True)
class Kept:
    """What runs of one process share: the language models that they load, and the steps that walks began with."""

    loaded: LoadedModels = field(default_factory=lambda: LoadedModels(keep_caches=True))
    steps: dict[str, Any] = field(default_factory=dict)
    restarted: dict[str, dict[str, Any]] | None = None  # those after a restart, by run, of the last run alone; None: they are not kept

    def restarted_of(self, run: str) -> dict[str, Any] | None:
        if self.restarted is not None and run not in self.restarted:
            self.restarted.clear()
            self.restarted[run] = {}
        return None if self.restarted is None else self.restarted[run]


_KEPT: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def share_caches(*, walk_again: bool = False) -> Iterator[None]:
    """Within this, runs share models, what these made of texts, and the beginnings of walks. Results and costs are as without it.

    Args:
        walk_again: keep the steps of a run after its restarts too, until the next one begins: each run is walked again when it is finished.
    """
    token = _KEPT.set(Kept(restarted={} if walk_again else None))
    try:
        with keeping():
            yield
    finally:
        _KEPT.reset(token)


def shared_models() -> LoadedModels:
    """Return where a run finds loaded models, and leaves its own: what runs share within `share_caches`, else a place of its own."""
    kept = _KEPT.get()
    return LoadedModels() if kept is None else kept.loaded


STEPS_DEPEND_ON = {"problem", "seed", "threads", "model", "data", "function", "stage"}


def shared_stage(parts: RunComponents) -> GradientStage[Any, Any]:
    """Return the run's stage; where runs share what they can, one that remembers how walks began.

    Not of steps on kept features, which take less time than to name a state by its bits.
    """
    import torch

    from maao.data.lines import lines_digest
    from maao.optimizers.remembered import Remembered
    from maao.optimizers.serializer import TorchSerializer
    from maao.store.tensors import arrays_digest

    kept = _KEPT.get()
    if kept is None or not parts.config.model.method.options.has_prompt:
        return parts.stage
    serializer = TorchSerializer()

    def digest(state: Any) -> str:
        arrays, meta = serializer.dump_state(state)
        return f"{arrays_digest(dict(sorted(arrays.items())))} {json.dumps(meta, sort_keys=True, default=str)}"

    data = f"{parts.splits.digest} {lines_digest(parts.splits)}" if parts.splits is not None else ""
    threads = torch.get_num_threads()  # sums depend on it, and another run may have set it
    run = f"{parts.config.model_dump_json(include=STEPS_DEPEND_ON)} {threads} {data} {parts.stage}"
    name = hashlib.sha256(run.encode()).hexdigest()
    return Remembered(parts.stage, kept.steps, name, digest, kept.restarted_of(name))
