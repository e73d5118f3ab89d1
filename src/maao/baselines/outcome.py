"""What a baseline is asked for and gives: the part of a table's row that says how it did."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from maao.config import Config
from maao.types import Cost, Score

Figures = dict[str, int | float]  # what was measured, by name
Outcome = dict[str, object]
"""How something did. A row is what was run, and this: `select` and `test` (`figures` of a score), `words` (the prompt in words), `steps`
(gradient steps that led to the result), `cost` (what was `spent`), and what further keys there are."""


class Baseline(Protocol):
    """A way to run a cell: a `Section` whose fields are its own settings, which stand beside `how` in an arm."""

    def run(self, config: Config, folder: Path) -> Outcome:
        """Return how it did on the problem of a config, which says data, model, seed and device.

        Args:
            config: the cell's.
            folder: where what takes long may keep what it has, to go on from there the next time. It need not exist.

        Raises:
            ConfigError: it cannot be run on such a problem.
        """
        ...


def figures(score: Score) -> Figures:
    """Return a score as a row holds it: the loss, each metric, and over how many examples; what is no finite number is left out.

    Example:
        >>> figures(Score(0.5, {"accuracy": 0.75}, 4))
        {'loss': 0.5, 'accuracy': 0.75, 'examples': 4}
    """
    held = {name: value for name, value in {"loss": score.loss, **score.metrics}.items() if math.isfinite(value)}
    return {**held, "examples": score.num_examples, **({"unread": score.unread} if score.unread else {})}


def spent(cost: Cost) -> Figures:
    """Return a cost as a row holds it. Money that is not known is left out.

    Example:
        >>> "usd" in spent(Cost(usd=0.5)), "usd" in spent(Cost(usd=float("nan")))
        (True, False)
    """
    return {name: value for name, value in asdict(cost).items() if not math.isnan(value)}
