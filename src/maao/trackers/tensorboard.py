"""Figures as event files of TensorBoard.

Source: https://www.tensorflow.org/tensorboard, written by `torch.utils.tensorboard`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from maao.protocols import Figure, TrackedRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """A scalar for each figure, by round; what a resumed run repeats takes the place of what is there.

    Args:
        log_dir: the folder of runs; None: ``tensorboard/`` in the run's own folder.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        self.log_dir = log_dir
        self._writer: SummaryWriter | None = None

    def start(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = run.folder / "tensorboard" if self.log_dir is None else Path(self.log_dir) / run.name
        self._writer = SummaryWriter(str(place), purge_step=run.done or None)
        self._writer.add_text("settings", f"    {json.dumps(dict(run.settings))}", 0)

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        assert self._writer is not None
        for name, value in figures.items():
            self._writer.add_scalar(name, value, index)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Figure]) -> None:
        assert self._writer is not None
        for name, value in summary.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"summary/{name}", value, 0)
        self._writer.close()
