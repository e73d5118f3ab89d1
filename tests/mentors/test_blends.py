"""What the record says of proposals that were mixed with the incumbent."""

from __future__ import annotations

import pytest
import torch

from maao.core.acceptance import AlwaysFirst, IfBetter, Interpolate, Race
from maao.optimizers.torch import TorchStage
from maao.problems.functions import FunctionProblem
from maao.types import Proposal


def judged(rule):
    problem, stage = FunctionProblem("ackley"), TorchStage()
    state = stage.init(problem, problem.initial(0), seed=0)
    proposals = [Proposal(str(x), {"x": torch.full_like(state.params["x"], x)}) for x in (1.0, 3.0)]
    return rule(problem, stage, (), state, proposals, seed=0)


@pytest.mark.parametrize("inner", [IfBetter(), Race(2)], ids=repr)
def test_scores_of_blends_say_how_far_they_stood_on_the_way(inner):
    verdict = judged(Interpolate(0.25, inner))
    assert [(c.proposal, c.weight) for c in verdict.considered] == [(None, 1.0), (0, 0.25), (1, 0.25)]


def test_a_blend_of_blends_has_the_product_of_their_weights():
    assert {c.weight for c in judged(Interpolate(0.5, Interpolate(0.5))).considered} == {0.25}


def test_scores_without_blending_are_of_the_proposals_themselves():
    assert {c.weight for c in judged(Race(2)).considered} == {1.0}
    assert {c.weight for c in judged(Interpolate(1.0)).considered} == {1.0}


def test_an_unscored_blend_leaves_no_score():
    assert judged(Interpolate(0.5, AlwaysFirst())).considered == ()
