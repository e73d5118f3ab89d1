"""Every optimizer of torch.optim as a stage, through the suite that is shipped to authors. A new stage joins by one row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from maao.optimizers.cma_es import CMAStage
from maao.optimizers.torch import TorchStage, optimizer_names
from maao.optimizers.watched import Watched
from maao.problems.functions import FunctionProblem
from maao.testing import StageConformance
from tests.conformance.parts import kept_problem


@dataclass(frozen=True)
class Row:
    optimizer: str
    lr: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    language: bool = False

    @property
    def name(self) -> str:
        return " ".join([self.optimizer, *self.options, *self.more, *(["on language"] if self.language else [])])

    @property
    def stage(self) -> TorchStage:
        return TorchStage(self.optimizer, self.lr, self.options, **self.more)


OPTIMIZERS = [
    Row("ASGD"),
    Row("Adadelta", 1.0),
    Row("Adafactor"),
    Row("Adagrad"),
    Row("Adam"),
    Row("Adam", options={"amsgrad": True}),
    Row("AdamW"),
    Row("AdamW", options={"weight_decay": 0.1}, more={"schedule": "cosine", "schedule_steps": 9, "warmup_steps": 2}),
    Row("AdamW", more={"on_restart": "keep"}),
    Row("Adamax"),
    Row("LBFGS", 0.1),
    Row("LBFGS", 0.1, options={"line_search_fn": "strong_wolfe"}, more={"max_grad_norm": None}),
    Row("NAdam"),
    Row("RAdam"),
    Row("RMSprop", options={"momentum": 0.9, "centered": True}),
    Row("Rprop"),
    Row("SGD"),
    Row("SGD", options={"momentum": 0.9, "nesterov": True}),
    Row("AdamW", language=True),
    Row("SGD", options={"momentum": 0.9}, language=True),
    Row("Adafactor", language=True),
    Row("LBFGS", 0.1, options={"max_iter": 3}, language=True),
    Row("Muon", language=True),  # moves matrices only
]


def test_every_usable_optimizer_of_torch_has_a_row():
    assert {row.optimizer for row in OPTIMIZERS} == set(optimizer_names())


class TestStageConformance(StageConformance):
    @pytest.fixture(params=OPTIMIZERS, ids=lambda row: row.name)
    def row(self, request):
        return request.param

    @pytest.fixture
    def stage(self, row):
        return row.stage

    @pytest.fixture
    def problem(self, row):
        return kept_problem("llama", "{text} {slots} Topic:") if row.language else FunctionProblem("rosenbrock", dim=3)


class TestGenerationsConformance(StageConformance):
    """CMA-ES, which takes no gradient."""

    @pytest.fixture
    def stage(self):
        return CMAStage(population=4, dim=3)

    @pytest.fixture(params=["function", "language"])
    def problem(self, request):
        language = request.param == "language"
        return kept_problem("llama", "{text} {slots} Topic:") if language else FunctionProblem("rosenbrock", dim=3)


class TestStageOfTwoTensorsConformance(StageConformance):
    """A soft prompt and a head, tuned together."""

    @pytest.fixture(params=["AdamW", "LBFGS", "RMSprop"])
    def stage(self, request):
        return TorchStage(request.param, 0.05)

    @pytest.fixture
    def problem(self):
        return kept_problem("bert", "{text} {slots}")


class TestWatchedStageConformance(StageConformance):
    @pytest.fixture
    def stage(self):
        return Watched(TorchStage(), on_step=lambda observation: None)

    @pytest.fixture
    def problem(self):
        return FunctionProblem("ackley")


def test_watched_stage_tells_of_every_step_it_makes():
    told = []
    problem = FunctionProblem("ackley")
    stage = Watched(TorchStage(), told.append)
    state = stage.init(problem, problem.initial(0), seed=0)
    state, first = stage.step(problem, state)
    state, second = stage.step(problem, state, keep=True)
    assert told == [first, second] and torch.is_tensor(second.params["x"])
