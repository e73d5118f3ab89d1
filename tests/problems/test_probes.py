"""Whether a model reads something alike is told apart from rounding, whatever the precision of its weights and the size of its values."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from maao.problems.towers.text import forward, probes
from maao.problems.towers.text.probes import reads_alike
from tests.tiny import tiny_model

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_alike_and_another_reading_is_not(dtype, size):
    values = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)) * size
    rounded = (values * (1 + 4 * torch.finfo(dtype).eps)).to(dtype)
    assert reads_alike(rounded, values.to(dtype), dtype)
    assert not reads_alike(values + 0.2 * values.abs().max(), values, dtype)
    assert not reads_alike(torch.full_like(values, torch.nan), values, dtype)


def test_what_is_alike_in_bf16_is_not_in_fp32():
    values = torch.linspace(-1, 1, 50)
    off = values + 0.01
    assert reads_alike(off, values, torch.bfloat16) and not reads_alike(off, values, torch.float32)


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_is_shared_and_packed_in_every_precision(architecture, dtype, scale, monkeypatch):
    """Its last hidden states are made larger, and a kept text is read with the rounding that other kernels have."""
    tiny = tiny_model(architecture)
    frozen = replace(tiny, model=copy.deepcopy(tiny.model).to(dtype), tried={})
    norm = next(module for name, module in frozen.model.base_model.named_children() if name in ("norm", "ln_f"))
    norm.weight.mul_(scale)
    rounding = 4 * torch.finfo(dtype).eps
    own = forward.front
    monkeypatch.setattr(probes, "front", lambda keys, values, batch: own(keys, values * (1 + rounding), batch))
    assert probes.supports_kv_cache(frozen, 16) and probes.supports_packing(frozen, 16, 0) and probes.supports_packing(frozen, 16, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_that_supports_kv_cache_text_otherwise_is_found_out(dtype, monkeypatch):
    tiny = tiny_model("llama")
    frozen = replace(tiny, model=copy.deepcopy(tiny.model).to(dtype), tried={})
    own = forward.front
    monkeypatch.setattr(probes, "front", lambda keys, values, batch: own(keys, values.flip(2), batch))
    assert not probes.supports_kv_cache(frozen, 16)
