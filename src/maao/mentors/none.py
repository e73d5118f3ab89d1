"""No mentor: plain prompt tuning, the control of all controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maao.protocols import History
from maao.types import Advice


@dataclass(frozen=True)
class NoMentor:
    """Proposes nothing."""

    def propose(self, history: History[Any, Any], *, count: int, seed: int) -> Advice[Any]:
        return Advice()
