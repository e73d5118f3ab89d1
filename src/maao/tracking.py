"""What a tracker is told of a run, and that it never stops one. Only figures go out, and names and numbers among the settings: no text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from maao.build import RunComponents
from maao.config import Config, unread_sections
from maao.core.loop import best_round
from maao.llm.secrets import without_secrets
from maao.protocols import Figure, TrackedRun, Tracker
from maao.types import JSON, Cost, Score, choice_name, readable, total_cost

if TYPE_CHECKING:
    from maao.store.run import Final
    from maao.stored_run import Finished, Rounds

NAMED = {"stage": "kind", "plan": "kind", "accept": "rule", "mentor": "name"}  # sections whose own name is told


class Tracking:
    """A tracker as a run uses it: what it raises is told once, and then it is not asked again.

    Args:
        make: makes the tracker.
        tell: told why it is not asked any more.
    """

    def __init__(self, make: Callable[[], Tracker], tell: Callable[[str], None]) -> None:
        self._make, self._tell, self._cost = make, tell, Cost()
        self._tracker: Tracker | None = None

    def start(self, parts: RunComponents, folder: Path, created: str, history: Rounds) -> None:
        """Tell of a run that begins, or goes on after the rounds of `history`."""
        self._cost = total_cost(history)
        with self._left_if_it_fails():
            self._tracker = self._make()
            self._tracker.start(tracked(parts, folder, created, len(history)))

    def round(self, finished: Finished) -> None:
        self._cost += finished.cost
        with self._left_if_it_fails():
            if self._tracker is not None:
                self._tracker.log(finished.index, round_figures(finished, self._cost))

    def finish(self, status: str, history: Rounds, finals: Callable[[], Sequence[Final]]) -> None:
        """Tell how a run ended: "finished", "stopped", "waiting" or "failed"; `finals` reads the declared points on `test`."""
        with self._left_if_it_fails():
            if self._tracker is not None:
                scores = {"select": best_round(history).score} if history else {}
                scores |= {f"test/{final.name}": final.score for final in finals()}
                told = {key: value for name, score in scores.items() for key, value in score_figures(name, score).items()}
                self._tracker.finish({"status": status, **told, **cost_figures(self._cost)})

    @contextmanager
    def _left_if_it_fails(self) -> Iterator[None]:
        """Let a tracker fail: a run is worth more than its figures elsewhere."""
        try:
            yield
        except Exception as error:
            self._tracker = None
            told = without_secrets(f"{type(error).__name__}: {error}")
            self._tell(f"The tracker failed and is told nothing more ({told}). The run goes on.")


def tracked(parts: RunComponents, folder: Path, created: str, done: int) -> TrackedRun:
    """Return what a tracker is told of a run as it begins."""
    key = hashlib.sha256(f"{folder.name} {created}".encode()).hexdigest()[:16]
    counts = {} if parts.splits is None else {f"data.{name}": len(part) for name, part in parts.splits.parts.items()}
    classes = {} if parts.splits is None else {"data.classes": len(parts.splits.labels)}
    return TrackedRun(folder.name, key, folder, {**settings_told(parts.config), **counts, **classes}, done)


def settings_told(config: Config) -> dict[str, Figure]:
    """Return the settings that a tracker is told: names of choices, numbers and switches. No text, no path, no label.

    Example:
        >>> from maao.config import make_config
        >>> told = settings_told(make_config({"problem": "function", "mentor": {"name": "none"}}))
        >>> told["mentor.name"], told["plan.steps"], "function.name" in told
        ('none', 30, False)
    """
    values = config.model_dump(mode="json", exclude={*unread_sections(config), "tracker"})
    told: dict[str, Figure] = {"problem": config.problem, **_numbers(values)}
    told |= {f"{section}.{key}": choice_name(values[section][key]) for section, key in NAMED.items() if section in values}
    if "model" in values:
        told |= {f"model.{key}": choice_name(values["model"][key]) for key in ("kind", "method")}
        told["model.name"] = "a local model" if Path(config.model.name).exists() else config.model.name
    return told


def _numbers(values: JSON, before: str = "") -> dict[str, Figure]:
    """Return the numbers and switches of nested settings, by dotted key."""
    found: dict[str, Figure] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key != "label_words":
            found |= _numbers(value, f"{before}{key}.")
        elif isinstance(value, bool | int | float):
            found[f"{before}{key}"] = value
    return found


def round_figures(finished: Finished, cost: Cost) -> dict[str, float]:
    """Return the figures of a round; `cost` is what the run has spent with it."""
    advice, losses = finished.advice, [one.loss for one in finished.observations]
    asked = {
        "mentor/proposals": float(len(advice.proposals)),
        "mentor/rejected": float(len(advice.rejected)),
        "mentor/taken": float(finished.verdict.chosen is not None),
    }
    walked = {"train/loss": losses[-1]} if losses else {}
    return _finite({**score_figures("select", finished.score), **walked, **(asked if finished.leg.ask else {}), **cost_figures(cost)})


def score_figures(name: str, score: Score) -> dict[str, float]:
    return _finite({f"{name}/loss": score.loss, **{f"{name}/{readable(key)}": value for key, value in score.metrics.items()}})


def cost_figures(cost: Cost) -> dict[str, float]:
    held = {
        "gradient_steps": cost.gradient_steps,
        "model_tokens": cost.model_tokens,
        "selection_evals": cost.selection_evals,
        "llm_calls": cost.llm_calls,
        "llm_tokens": cost.input_tokens + cost.output_tokens,
        "usd": cost.usd,
        "seconds": cost.seconds,
    }
    return {f"cost/{name}": float(value) for name, value in held.items()}


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures without those that are no numbers, of which trackers make nonsense."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}
