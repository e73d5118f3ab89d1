"""Parts of a model that are ours while it runs: the same numbers, the same gradients, and the model is left as it was."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from maao.problems.towers.text import attention
from maao.problems.towers.text.attention import attend, base_model
from maao.problems.towers.text.lean import ROTARY, lean, parts_of
from maao.problems.towers.text.probes import supports_front, supports_tail
from tests.tiny import tiny_model

IDS = torch.tensor([[3, 4, 5, 6, 7], [9, 8, 7, 6, 5]])


def _states(frozen, rows, read=None):
    with lean(frozen, read):
        return base_model(frozen)(inputs_embeds=rows).last_hidden_state


@pytest.mark.parametrize(
    ("architecture", "norms", "gated", "turns"),
    [("llama", True, True, 1), ("qwen2", True, True, 1), ("gemma3", False, False, 1), ("gpt2", False, False, 0)],
)
def test_parts_give_the_models_own_numbers_and_gradients(architecture, norms, gated, turns):
    frozen = tiny_model(architecture)
    parts = parts_of(frozen)
    assert (bool(parts.norms), bool(parts.gated), len(parts.turns)) == (norms, gated, turns)
    rows = frozen.model.get_input_embeddings()(IDS).detach().requires_grad_()
    plain, ours = base_model(frozen)(inputs_embeds=rows).last_hidden_state, _states(frozen, rows)
    assert torch.equal(ours, plain)
    weigh = torch.linspace(-1, 1, plain.shape[-1])
    (wanted,), (found,) = (torch.autograd.grad((states * weigh).sum(), rows) for states in (plain, ours))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_model_is_left_as_it_was():
    frozen = tiny_model("llama")
    turn = vars(sys.modules[type(base_model(frozen)).__module__])[ROTARY]
    with lean(frozen):
        assert any("forward" in vars(module) for module in frozen.model.modules())
    assert not any("forward" in vars(module) for module in frozen.model.modules())
    assert vars(sys.modules[type(base_model(frozen)).__module__])[ROTARY] is turn


def test_the_last_layer_runs_only_where_it_is_read():
    frozen = tiny_model("llama")
    assert supports_tail(frozen)
    read = torch.tensor([[2, 4], [4, 4]])  # a position that is named twice counts once
    rows = frozen.model.get_input_embeddings()(IDS).detach().requires_grad_()
    index = torch.arange(2)[:, None]
    some, whole = _states(frozen, rows, read)[index, read], _states(frozen, rows)[index, read]
    torch.testing.assert_close(some, whole, rtol=1e-5, atol=1e-6)
    (found,), (wanted,) = (torch.autograd.grad(states.pow(3).sum(), rows) for states in (some, whole))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert not torch.equal(_states(frozen, rows, read)[0, 0], _states(frozen, rows)[0, 0])


@pytest.mark.parametrize("most", [attention.OUTRIGHT, 0])
@pytest.mark.parametrize("trained", [True, False])
def test_keys_that_stand_apart_are_read_like_those_beside_the_others(most, trained, monkeypatch):
    monkeypatch.setattr(attention, "OUTRIGHT", most)
    draw = torch.Generator().manual_seed(0)

    def some(heads, length):
        return torch.randn(2, heads, length, 8, generator=draw, requires_grad=True)

    query, key, value, front = some(4, 3), some(2, 3), some(2, 3), (some(2, 5), some(2, 5))
    front = front if trained else tuple(part.detach() for part in front)
    mask = torch.ones(2, 1, 3, 8, dtype=torch.bool).tril(5)
    mask[1, :, :, :2] = False
    both = [torch.cat(pair, dim=2).repeat_interleave(2, dim=1) for pair in zip(front, (key, value), strict=True)]
    wanted = F.scaled_dot_product_attention(query, *both, attn_mask=mask)
    found = attend(query, key, value, mask, None, front=front)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    leaves = [query, key, value, *(front if trained else ())]
    for a, b in zip(*(torch.autograd.grad(out.pow(3).sum(), leaves) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_only_models_whose_heads_are_grouped_read_keys_that_stand_apart():
    assert supports_front(tiny_model("llama"))
    assert not supports_front(tiny_model("gpt2"))
