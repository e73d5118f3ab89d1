"""Packed rows: what a model gives for them is what it gives for each alone, gradients included, and a model that cannot is found out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch

from maao.problems.scorers import label_words
from maao.problems.towers.text.forward import embedding_table, front, hidden_states, key_values, pad
from maao.problems.towers.text.packing import _grouped, layout, packed_hidden_states
from maao.problems.towers.text.probes import head_of, supports_packing
from maao.problems.towers.text.template import Tokenized
from tests.conformance.parts import soft_prompt_problem
from tests.tiny import tiny_model

PACKING = ["gpt2", "llama", "qwen2", "gemma3"]
ROWS = [Tokenized((7, 8), (9,)), Tokenized((), (5, 6, 7, 8, 9, 10)), Tokenized((3,), (4, 4)), Tokenized((11, 12, 13, 14), (15,))]


@pytest.mark.parametrize("architecture", PACKING)
@pytest.mark.parametrize("behind", [False, True])
def test_packed_rows_read_like_rows_alone(architecture, behind):
    frozen = tiny_model(architecture)
    prompt = embedding_table(frozen)[[20, 21]].clone().requires_grad_()
    ahead = key_values(frozen, embedding_table(frozen)[[30, 31, 32]]) if behind else None
    sequences = [[*row.before, 0, 0, *row.after] for row in ROWS]
    hidden, starts = packed_hidden_states(frozen, sequences, prompt, [len(row.before) for row in ROWS], ahead)
    total = torch.zeros(())
    for row, start, sequence in zip(ROWS, starts.tolist(), sequences, strict=True):
        inputs = pad([row], num_virtual_tokens=2, fill=0)
        if ahead is not None:
            inputs = replace(inputs, prefix=front(*ahead, 1))
        alone = hidden_states(frozen, prompt, inputs)[0]
        torch.testing.assert_close(hidden[start : start + len(sequence)], alone, rtol=1e-4, atol=1e-5)
        total = total + alone.pow(3).sum()
    (packed,) = torch.autograd.grad(hidden.pow(3).sum(), prompt)
    (apart,) = torch.autograd.grad(total, prompt)
    torch.testing.assert_close(packed, apart, rtol=1e-3, atol=1e-4 * float(apart.abs().max()))


def test_a_model_with_capped_attention_is_not_packed():
    frozen = tiny_model("gemma2")
    reader = label_words.LabelWords(frozen, [(3,), (4,)])
    assert not reader.packs(0, ROWS)


@pytest.mark.parametrize("architecture", PACKING)
@pytest.mark.parametrize("template", ["{slots} {text} Topic:", "text {text} {slots}"])
def test_packing_changes_no_loss_and_no_gradient(architecture, template, monkeypatch):
    found = []
    for most in (0.0, float("inf")):
        monkeypatch.setattr(label_words, "PADDING", most)
        problem = soft_prompt_problem(architecture, template, batch_size=100, max_cache_bytes=0)
        assert problem.scorer.packs(3, problem.read(problem.batch(0, 0))) is (most == 0.0)
        params = {key: value.clone().requires_grad_() for key, value in problem.initial(3).items()}
        loss = problem.loss(params, problem.batch(0, 0))
        loss.backward()
        found.append((loss.detach(), params["prompt"].grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5 * float(found[1][1].abs().max()))


def test_a_decoder_in_a_shell_is_packed():
    from transformers import OPTConfig, OPTForCausalLM

    shape = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = OPTForCausalLM(OPTConfig(vocab_size=1000, max_position_embeddings=128, **shape, **ids)).eval().requires_grad_(False)
    frozen = replace(tiny_model("llama"), model=model, tried={})
    assert (head_of(frozen), supports_packing(frozen, 16, 0), supports_packing(frozen, 16, 4)) == ("plain", True, True)


def test_packing_leaves_the_model_as_it_was():
    frozen = tiny_model("llama")
    before = frozen.model.config._attn_implementation
    packed_hidden_states(frozen, [[3, 4], [5]], embedding_table(frozen)[:0], [0, 0], None)
    assert frozen.model.config._attn_implementation == before


@pytest.mark.parametrize("lengths", [[1], [1, 1, 2], [1, 2, 3, 50, 51], list(range(1, 40))])
def test_every_token_has_one_place_and_every_place_of_a_token_is_its_own(lengths):
    held = layout(lengths, 2, torch.device("cpu"))
    assert held.spread[held.back].tolist() == list(range(sum(lengths)))
    assert sum(rows for rows, _ in held.groups) == len(lengths)


def test_groups_are_cut_where_it_costs_least():
    def cost(cuts, lengths):
        edges = [0, *cuts, len(lengths)]
        return sum((b - a) * lengths[b - 1] + 64 for a, b in pairwise(edges))

    lengths = [3, 4, 30, 31, 32, 90, 95]
    groups = _grouped(lengths)
    assert sum(rows * length + 64 for rows, length in groups) == min(
        cost([i + 1 for i, cut in enumerate(cuts) if cut], lengths) for cuts in product([False, True], repeat=len(lengths) - 1)
    )
