"""Figures into Weights & Biases. Source: https://docs.wandb.ai/ref/python/sdk, `init`, `Run.log`, `Run.summary`, `Run.finish`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from maao.protocols import Figure, TrackedRun

if TYPE_CHECKING:
    from wandb import Run


class WandB:
    """A run of a project, taken up again by its id. No code, no console and no figure of the machine is sent.

    Args:
        mode: "offline" writes files alone.
    """

    def __init__(self, project: str, entity: str | None = None, mode: Literal["offline", "online"] = "offline") -> None:
        self.project, self.entity, self.mode = project, entity, mode
        self._run: Run | None = None

    def start(self, run: TrackedRun) -> None:
        import wandb

        quiet = wandb.Settings(
            silent=True, console="off", save_code=False, disable_code=True, disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            id=run.key,
            name=run.name,
            dir=str(run.folder),
            config=dict(run.settings),
            resume="allow",
            settings=quiet,
        )

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        assert self._run is not None
        self._run.log(dict(figures), step=index)

    def finish(self, summary: Mapping[str, Figure]) -> None:
        assert self._run is not None
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if summary.get("status") == "finished" else 1)
