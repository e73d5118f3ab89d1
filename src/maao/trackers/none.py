"""The tracker that tells nobody."""

from __future__ import annotations

from collections.abc import Mapping

from maao.protocols import Figure, TrackedRun


class Nobody:
    """Does nothing."""

    def start(self, run: TrackedRun) -> None: ...

    def log(self, index: int, figures: Mapping[str, float]) -> None: ...

    def finish(self, summary: Mapping[str, Figure]) -> None: ...
