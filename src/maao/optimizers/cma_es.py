"""A doer without gradients: CMA-ES on a random projection of the params (the control that asks what a gradient is worth).

A step is one generation: candidates ``start + projection @ z`` are judged by the training loss of one batch, and the mean of the search
moves. All that a state holds of the search are the losses of its generations, from which it is run again: it is deterministic in its seed.

Source: Hansen, The CMA Evolution Strategy: A Tutorial, 2016 (the package `cmaes`: Nomura and Shibata, 2024); the random projection as in
black-box tuning, Sun et al., ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import ConfigError, NotFinite
from maao.optimizers.torch import TorchState, is_trained
from maao.protocols import Params, Problem
from maao.types import Cost, Observation

if TYPE_CHECKING:
    from cmaes import CMA

Candidate = npt.NDArray[np.float64]  # (dim,)
Name = tuple[int, int, bytes | None]  # of a search: its seed, the step that it began at, the losses so far
LOSSES = "cma/losses"  # of each generation, in the state's moments: (generations, population)


@dataclass(frozen=True)
class CMAStage:
    """Generations of CMA-ES.

    Args:
        population: candidates of a generation.
        dim: numbers that are searched over; projected to all entries of the params.
        size: the search's first standard deviation, beside the root mean square of the entries it starts from.

    Example:
        >>> from maao.problems.functions import FunctionProblem
        >>> problem, stage = FunctionProblem("rosenbrock"), CMAStage(population=6, dim=2)
        >>> state = stage.init(problem, problem.initial(0), seed=0)
        >>> for _ in range(20):
        ...     state, observation = stage.step(problem, state)
        >>> state.step, observation.step
        (20, 19)
    """

    population: int = 8
    dim: int = 50
    size: float = 0.5
    _live: dict[Name, CMA] = field(default_factory=dict, compare=False, repr=False)  # the last search, so that it is not run again

    def __post_init__(self) -> None:
        if self.population < 4 or self.dim < 2 or not self.size > 0:
            raise ConfigError(
                "CMA-ES needs a population of at least 4, a dimension of at least 2 and a size above zero; got "
                f"stage.population = {self.population}, stage.dim = {self.dim}, stage.size = {self.size:g}."
            )

    def init(self, problem: Problem[Params], params: Params, *, seed: int) -> TorchState:
        own = {name: value.detach().clone() for name, value in params.items()}
        return TorchState(params=own, start=own, seed=seed)

    def restart(self, state: TorchState, params: Params, *, seed: int) -> TorchState:
        """Begin a new search around `params`."""
        moved = {**state.params, **{name: value.detach().clone() for name, value in params.items()}}
        return replace(state, params=moved, start=moved, age=0, moments={})

    def step(self, problem: Problem[Params], state: TorchState, *, keep: bool = False) -> tuple[TorchState, Observation[Params]]:
        told = _losses(state)
        known = torch.empty(0, self.population, dtype=torch.float64) if told is None else told
        search = self._search(state, known)
        batch = problem.batch(state.step, state.seed)
        tried = [search.ask() for _ in range(self.population)]
        with torch.no_grad():
            here = float(problem.loss(state.params, batch))
            losses = [float(problem.loss(self._point(state, z), batch)) for z in tried]
        if not np.isfinite(losses).any():
            raise NotFinite(f"No candidate of step {state.step} has a finite loss: lower stage.size (now {self.size:g}).")
        self._tell(search, tried, losses)
        after = replace(
            state,
            params=self._point(state, search.mean),
            step=state.step + 1,
            age=state.age + 1,
            moments={LOSSES: torch.cat([known, torch.tensor([losses], dtype=torch.float64)])},
        )
        self._live.clear()
        self._live[self._name(after)] = search
        cost = Cost(gradient_steps=1, model_tokens=problem.num_tokens(state.params, batch) * (self.population + 1))
        return after, Observation(state.step, here, state.params if keep else None, None, cost)

    def _search(self, state: TorchState, losses: Tensor) -> CMA:
        """Return the search as it stands after these generations."""
        from cmaes import CMA

        live = self._live.pop(self._name(state), None)
        if live is not None:
            return live
        search = CMA(
            mean=np.zeros(self.dim), sigma=1.0, population_size=self.population, seed=seed_for(state.seed, "cma", _begun(state)) % 2**32
        )
        for generation in losses.tolist():
            self._tell(search, [search.ask() for _ in generation], generation)
        return search

    @staticmethod
    def _tell(search: CMA, tried: list[Candidate], losses: list[float]) -> None:
        worst = max(loss for loss in losses if np.isfinite(loss))
        search.tell([(z, loss if np.isfinite(loss) else worst + 1.0) for z, loss in zip(tried, losses, strict=True)])

    @staticmethod
    def _name(state: TorchState) -> Name:
        losses = _losses(state)
        return (state.seed, _begun(state), None if losses is None else losses.numpy().tobytes())

    def _point(self, state: TorchState, z: Candidate) -> dict[str, Tensor]:
        """Return ``start + projection @ z``, each of the params with a projection of its own."""
        found = {}
        for name, value in state.start.items():
            if not is_trained(value):
                found[name] = value
                continue
            generator = torch.Generator().manual_seed(seed_for(state.seed, "projection", name))
            projection = torch.randn(value.numel(), self.dim, generator=generator) / self.dim**0.5
            scale = self.size * (float((value.double() ** 2).mean()) ** 0.5 or 1.0)
            moved = (projection @ torch.as_tensor(z, dtype=torch.float32)).view(value.shape)
            found[name] = value + (scale * moved).to(value)
        return found


def _losses(state: TorchState) -> Tensor | None:
    """Return the losses of a search's generations; None before the first."""
    held = state.moments.get(LOSSES)
    return held if isinstance(held, Tensor) else None


def _begun(state: TorchState) -> int:
    """Return the step at which the present walk began."""
    return state.step - state.age
