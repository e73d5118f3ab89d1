"""A text that all rows begin with, and the slots behind it, run once a step; what is read, learned and counted stays the same."""

from __future__ import annotations

import pytest
import torch

from maao.problems.scorers import label_words
from tests.conformance.parts import soft_prompt_problem
from tests.tiny import bpe_tokenizer

CONSTANT = "about the news {slots} {text} Topic:"
CACHE = 2**30


def loss_and_gradient(problem, params, batch):
    own = {name: value.clone().requires_grad_() for name, value in params.items()}
    loss = problem.loss(own, batch)
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in own.items() if value.grad is not None}


def plain(*args, **options):
    """Return the same problem where every row runs all of its tokens."""
    problem = soft_prompt_problem(*args, max_cache_bytes=0, **options)
    problem.scorer.shares = False
    return problem


@pytest.mark.parametrize("part_tokens", [512, 40])
@pytest.mark.parametrize("words", [None, {"business": "shares", "music": "the film", "sport": "a team"}])
@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2", "gemma3", "gemma2"])
def test_a_shared_text_changes_no_loss_no_gradient_and_no_score(architecture, method, words, part_tokens):
    options = {"words": words, "model": {"method": method}, "part_tokens": part_tokens, "batch_size": 100}
    ours, theirs = (make(architecture, CONSTANT, **options) for make in (soft_prompt_problem, plain))
    batch = ours.batch(0, 0)
    assert ours.scorer.holds(ours.read(batch)) and ours.scorer.can_share(3, ours.read(batch))
    assert not theirs.scorer.holds(theirs.read(batch)) and not theirs.scorer.can_share(3, theirs.read(batch))
    params = ours.initial(3)
    (loss, gradient), (other, wanted) = (loss_and_gradient(problem, params, batch) for problem in (ours, theirs))
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-5)
    assert gradient.keys() == wanted.keys()
    scale = max(float(value.abs().max()) for value in wanted.values())
    for name, value in gradient.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5 * scale)
    for split in ("select", "test"):
        assert ours.score([params], split)[0].loss == pytest.approx(theirs.score([params], split)[0].loss, rel=1e-5)
    assert ours.clues(params).confusions == theirs.clues(params).confusions


@pytest.mark.parametrize("packed", [False, True])
def test_text_and_slots_run_once_for_all_rows(packed, monkeypatch):
    monkeypatch.setattr(label_words, "PADDING", 0.0 if packed else float("inf"))
    problem = soft_prompt_problem("llama", CONSTANT, batch_size=100)
    params, batch = problem.initial(0), problem.batch(0, 0)
    assert problem.scorer.packs(3, problem.read(batch)) is packed
    with torch.no_grad():
        problem.loss(params, batch)  # what is tried of a model is tried once
    seen: list[int] = []
    hook = problem.frozen.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[0] * kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        problem.loss(params, batch)
    hook.remove()
    assert seen[0] == 3  # the slots, behind a text whose keys and values are kept
    rest = [len(row.after) for row in problem.read(batch)]
    assert sum(seen[1:]) == (sum(rest) if packed else len(rest) * max(rest))
    assert problem.num_tokens(params, batch) == 3 + sum(rest)


def test_without_a_cache_the_text_runs_with_the_slots():
    problem = soft_prompt_problem("llama", CONSTANT, batch_size=100, max_cache_bytes=0)
    batch = problem.batch(0, 0)
    rest = sum(len(row.after) for row in problem.read(batch))
    assert problem.num_tokens(problem.initial(0), batch) == len(problem.read(batch)[0].before) + 3 + rest


def test_texts_that_differ_are_kept_and_not_shared():
    problem = soft_prompt_problem("llama", "{text} {slots} Topic:", batch_size=100)
    rows = problem.read(problem.batch(0, 0))
    assert problem.scorer.holds(rows) and not problem.scorer.can_share(3, rows)


def test_the_head_of_a_chat_is_shared():
    tokenizer = bpe_tokenizer()
    before = tokenizer.chat_template
    tokenizer.chat_template = "{% for m in messages %}about {{ m['role'] }} {{ m['content'] }} Topic:{% endfor %}"
    try:
        from maao.problems.towers.text.template import Template, TemplateTokenizer

        tokenize = TemplateTokenizer(tokenizer, Template.parse("{slots} {text}", chat=True), kind="decoder", max_length=60, reserved=3)
        problem = soft_prompt_problem("llama", CONSTANT)
        rows = [tokenize({"text": text}) for text in ("shares profit", "the team and the cup")]
        assert rows[0].before == rows[1].before and rows[0].before
        assert problem.scorer.prefill(3, rows, CACHE) is None
        assert problem.scorer.can_share(3, rows)
        assert problem.scorer.num_tokens(problem.initial(0), rows) == 3 + sum(len(row.after) for row in rows)
    finally:
        tokenizer.chat_template = before
