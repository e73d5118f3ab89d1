"""Every acceptance rule, through the suite that is shipped to authors. A new rule joins by one row."""

from __future__ import annotations

import pytest
import torch

from maao.core.acceptance import AlwaysFirst, BestOf, IfBetter, Interpolate, Race
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.testing import AcceptanceConformance
from maao.types import Proposal

RULES = {
    "always_first": AlwaysFirst(),
    "best_of": BestOf(),
    "if_better": IfBetter(),
    "interpolate": Interpolate(0.25),
    "interpolate if_better": Interpolate(0.5, IfBetter()),
    "interpolate race": Interpolate(0.5, Race(2)),
    "race": Race(3),
    "race with halving": Race(3, rungs=(1, 2)),
    "race that halves before it walks": Race(2, rungs=(0,)),
    "race by a margin": Race(1, margin=2.0),
    "race of what wins alone": Race(2, alone=3),
}
POINTS = {"better": [0.9, 0.8], "worse": [3.0, -3.0], "not a number": [float("nan"), 0.0]}
SETS = [("better", "worse"), ("worse", "better", "worse"), ("worse",), ("worse", "not a number", "better")]


class TestAcceptanceConformance(AcceptanceConformance):
    @pytest.fixture
    def problem(self):
        return FunctionProblem("rosenbrock")

    @pytest.fixture
    def stage(self):
        return TorchStage(lr=0.05)

    @pytest.fixture(params=RULES)
    def accept(self, request):
        return RULES[request.param]

    @pytest.fixture(params=SETS, ids=", ".join)
    def proposals(self, request):
        return tuple(Proposal(name, {"x": torch.tensor(POINTS[name], dtype=torch.float64)}, "test") for name in request.param)
