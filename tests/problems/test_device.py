"""What is tuned stays in the processor's memory, and is read where the model is."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.scoring import realized


def test_params_are_read_where_the_model_is_with_their_gradient():
    params = {"prompt": torch.ones(2, 3, requires_grad=True), "bias": torch.zeros(4)}
    scorer = SimpleNamespace(device=torch.device("meta"))
    found = realized(PromptTuning(), scorer, params)
    assert {name: value.device.type for name, value in found.items()} == {"prompt": "meta", "bias": "meta"}
    assert found["prompt"].requires_grad and params["prompt"].device.type == "cpu"
