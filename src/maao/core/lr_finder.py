"""Find a learning rate by trying: each rate walks a few steps from a run's own beginning and is scored on `select` where it ends.

A short walk favors rates that are fast at first. Compare rates over about as many steps as a walk between two turns of the mentor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

from maao.core.scoring import score_all
from maao.core.seeds import seed_for
from maao.errors import ConfigError, ProblemError
from maao.protocols import GradientStage, Problem
from maao.types import JSON, Cost, P, S

LR_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # what is tried where no grid is given
LR_SEARCH = "lr_search"  # where a run's recorded environment tells of its search


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one rate: the loss on `select` after its steps. `diverged` says why it cannot be used (None: it can)."""

    rate: float
    loss: float
    diverged: str | None = None
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class LrSearch:
    """A finished search over rates that each walked `steps` gradient steps.

    Example:
        >>> search = LrSearch(10, (Trial(0.01, 0.9), Trial(0.1, 0.4), Trial(1.0, math.nan, "step 3: not finite")))
        >>> search.chosen.rate
        0.1
        >>> LrSearch.from_json(search.to_json()).chosen == search.chosen
        True
    """

    steps: int
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> Trial:
        """The trial with the lowest loss; ties go to the lower rate. Raises `ConfigError` where every rate diverged."""
        usable = [trial for trial in self.trials if trial.diverged is None]
        if not usable:
            told = "; ".join(f"{trial.rate:g} ({trial.diverged})" for trial in self.trials)
            raise ConfigError(f"No rate of `stage.lr_grid` can be used, all diverged: {told}. Give lower rates.")
        return min(usable, key=lambda trial: (trial.loss, trial.rate))

    @property
    def cost(self) -> Cost:
        return sum((trial.cost for trial in self.trials), Cost())

    def to_json(self) -> JSON:
        """Return the search as plain JSON values; a loss that is not a finite number becomes null."""
        trials = [{**asdict(trial), "loss": trial.loss if math.isfinite(trial.loss) else None} for trial in self.trials]
        return {"steps": self.steps, "chosen": self.chosen.rate, "trials": trials}

    @classmethod
    def from_json(cls, values: JSON) -> LrSearch:
        """Return the search that `to_json` told of."""
        trials = (
            Trial(t["rate"], math.nan if t["loss"] is None else t["loss"], t["diverged"], Cost(**t["cost"])) for t in values["trials"]
        )
        return cls(values["steps"], tuple(trials))


def try_rates(
    problem: Problem[P], stage_at: Callable[[float], GradientStage[P, S]], rates: Sequence[float], *, steps: int, seed: int
) -> Iterator[Trial]:
    """Try each rate from the beginning of the run with this seed; yield each `Trial` as it ends.

    A rate diverged if its walk came upon a loss or gradient that is not a finite number, or ended where the loss is none.

    Args:
        stage_at: makes the run's stage with another rate.
        steps: gradient steps of each walk.
        seed: the run's own: the walks begin at its initial point and see its batches.
    """
    for rate in rates:
        began = time.perf_counter()
        stage = stage_at(rate)
        state = stage.init(problem, problem.initial(seed_for(seed, "initial")), seed=seed_for(seed, "stage"))
        cost, diverged = Cost(), None
        for step in range(steps):
            try:
                state, observation = stage.step(problem, state)
            except ProblemError as error:  # no step can be made from there
                cost, diverged = cost + Cost(gradient_steps=1), str(error)
                break
            cost += observation.cost
            if not math.isfinite(observation.loss) or observation.note:
                diverged = f"step {step}: {observation.note or f'the loss is {observation.loss}'}"
                break
        loss = math.nan
        if diverged is None:
            score = score_all(problem, [state.params], "select")[0]
            cost, loss = cost + score.cost, score.loss
            diverged = None if math.isfinite(loss) else f"the loss on select is {loss}"
        yield Trial(rate, loss, diverged, replace(cost, seconds=time.perf_counter() - began))
