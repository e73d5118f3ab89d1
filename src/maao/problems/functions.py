"""Plain functions, so that the method can be learnt and tested in a second.

A mentor reads and writes points as numbers (`maao.codecs.numbers`). All three have their minimum, 0, at a known place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maao.errors import CodecError, ConfigError
from maao.protocols import Codec, Params
from maao.types import Clues, Cost, Projection, Score, Split


def rosenbrock(x: Tensor) -> Tensor:
    """Return ``sum(100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2)``: a curved valley, lowest at (1, ..., 1). Source: Rosenbrock, 1960."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def ackley(x: Tensor) -> Tensor:
    """Return Ackley's function: many shallow basins around one deep one at the origin. Source: Ackley, 1987."""
    # The small constant keeps the gradient of the root finite at the origin.
    spread = -20 * torch.exp(-0.2 * torch.sqrt((x**2).mean() + 1e-30))
    return spread - torch.exp(torch.cos(2 * math.pi * x).mean()) + 20 + math.e


def rastrigin(x: Tensor) -> Tensor:
    """Return ``10 n + sum(x^2 - 10 cos(2 pi x))``: a basin at every lattice point, lowest at the origin. Source: Rastrigin, 1974."""
    return 10 * x.numel() + (x**2 - 10 * torch.cos(2 * math.pi * x)).sum()


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"rosenbrock": rosenbrock, "ackley": ackley, "rastrigin": rastrigin}


@dataclass(frozen=True)
class FunctionProblem:
    """A plain function of a point ``{"x": (dim,)}``, started uniformly in ``[-bound, bound]``. All splits are the function itself.

    With a codec, a point is also told in words (its numbers, rounded).

    Example:
        >>> FunctionProblem("ackley", dim=2).score([{"x": torch.zeros(2)}], "select")[0].loss < 1e-5
        True
    """

    name: str = "rastrigin"
    dim: int = 2
    bound: float = 4.0
    codec: Codec[Params] | None = None

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise ConfigError(f"Unknown function '{self.name}'. Known functions: {', '.join(FUNCTIONS)}.")
        if self.dim < (2 if self.name == "rosenbrock" else 1) or not self.bound > 0:
            raise ConfigError(
                f"{self.name} needs a dimension of 2 or more (1 for the others) and a bound above 0; got {self.dim}, {self.bound}."
            )

    def initial(self, seed: int) -> Params:
        generator = torch.Generator().manual_seed(seed)
        return {"x": (2 * torch.rand(self.dim, generator=generator, dtype=torch.float64) - 1) * self.bound}

    def batch(self, step: int, seed: int) -> None:
        return None

    def loss(self, params: Params, batch: None) -> Tensor:
        return FUNCTIONS[self.name](params["x"])

    def num_tokens(self, params: Params, batch: None) -> int:
        return 1

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        return tuple(self._score(params, split) for params in points)

    def _score(self, params: Params, split: Split) -> Score:
        with torch.no_grad():
            loss = float(FUNCTIONS[self.name](params["x"]))
        return Score(loss, {}, 1, Cost(model_tokens=1, scored_examples=1, selection_evals=int(split == "select")))

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        if self.codec is None:
            return Clues()
        words = self.codec.decode(params).text
        if words is None:
            return Clues()
        try:
            told = self.codec.encode(words).params
        except CodecError:  # a walk that ran away to infinity has no words
            return Clues()
        own, hard = score or self._score(params, "select"), self._score(told, "select")
        return Clues(projection=Projection(words, hard, hard.loss - own.loss), cost=hard.cost)
