"""The schedule of the reference release: counted in steps, moved on once an epoch."""

from __future__ import annotations

import pytest

from experiments.paper.released import OnceAnEpoch, ReleasedStage
from tests.optimizers.test_torch import rates


def test_a_schedule_may_move_once_an_epoch():
    stage = ReleasedStage("SGD", 1.0, schedule="linear", schedule_steps=4, every=2, max_grad_norm=None)
    assert rates(stage, 5) == pytest.approx([1.0, 1.0, 0.75, 0.75, 0.5])


def test_a_config_builds_it_with_the_settings_of_a_gradient_stage():
    stage = OnceAnEpoch(optimizer="SGD", lr=1.0, schedule="linear", max_grad_norm=0.0, every=2).build(4, 10)
    assert rates(stage, 5) == pytest.approx([1.0, 1.0, 0.75, 0.75, 0.5])
