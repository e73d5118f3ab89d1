"""Alternate gradient descent with a language model: soft prompt tuning whose restarts a mentor proposes.

Importing this loads nothing heavy; a name's module is loaded when the name is first used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from maao.threads import wait_asleep

wait_asleep(os.environ, late="torch" in sys.modules)

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from maao.api import tune, tune_images
    from maao.config import Config, read_config
    from maao.core.acceptance import AlwaysFirst, BestOf, IfBetter, Interpolate, Race
    from maao.core.loop import alternate, best_round
    from maao.core.plan import after_epochs, rounds
    from maao.errors import MaaoError, Waiting
    from maao.hub import from_hub, push_to_hub
    from maao.predictor import Predictor
    from maao.progress import Progress, listening
    from maao.result import Result, load
    from maao.runner import Watch, find_lr, replay, resume, run
    from maao.types import Advice, Clues, Cost, Leg, Proposal, Round, Score

_HOMES = {
    "maao.api": ("tune", "tune_images"),
    "maao.config": ("Config", "read_config"),
    "maao.core.acceptance": ("AlwaysFirst", "BestOf", "IfBetter", "Interpolate", "Race"),
    "maao.core.loop": ("alternate", "best_round"),
    "maao.core.plan": ("after_epochs", "rounds"),
    "maao.errors": ("MaaoError", "Waiting"),
    "maao.hub": ("from_hub", "push_to_hub"),
    "maao.predictor": ("Predictor",),
    "maao.progress": ("Progress", "listening"),
    "maao.result": ("Result", "load"),
    "maao.runner": ("Watch", "find_lr", "replay", "resume", "run"),
    "maao.types": ("Advice", "Clues", "Cost", "Leg", "Proposal", "Round", "Score"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Advice",
    "AlwaysFirst",
    "BestOf",
    "Clues",
    "Config",
    "Cost",
    "IfBetter",
    "Interpolate",
    "Leg",
    "MaaoError",
    "Predictor",
    "Progress",
    "Proposal",
    "Race",
    "Result",
    "Round",
    "Score",
    "Waiting",
    "Watch",
    "after_epochs",
    "alternate",
    "best_round",
    "find_lr",
    "from_hub",
    "listening",
    "load",
    "push_to_hub",
    "read_config",
    "replay",
    "resume",
    "rounds",
    "run",
    "tune",
    "tune_images",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maao' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
