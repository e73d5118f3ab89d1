"""The decisive test: a soft prompt equal to the embeddings of some tokens gives exactly the logits of those tokens as text."""

from __future__ import annotations

import pytest
import torch

from maao.problems.scorers.head import PooledHead
from maao.problems.scorers.label_words import LabelWords
from maao.problems.towers.text.forward import embedding_table, hidden_states, pad
from maao.problems.towers.text.template import Template, TemplateTokenizer
from tests.tiny import tiny_model

TEXTS = ["shares profit", "music film actor song album award", "team", "the market was good and the bank is bad"]
PROMPTS = ["music team bank", "the news of the world in sport"]
TEMPLATES = ["{slots} {text} It was", "{text} {slots} Topic:", "text {text} {slots} answer", "{text} {slots}"]
ARCHITECTURES = ["gpt2", "llama", "gemma3", "gemma2", "bert", "roberta"]


def token_ids(frozen, text):
    return frozen.tokenizer(" " + text, add_special_tokens=False).input_ids


def as_text(row, prompt_ids):
    return [*row.before, *prompt_ids, *row.after]


def close(ours, theirs):
    """Compare to 1e-5 relative to the largest value."""
    scale = theirs.abs().max()
    return float((ours - theirs).abs().max() / scale) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_soft_prompt_of_token_embeddings_reads_like_those_tokens(architecture, prompt, template, side):
    frozen = tiny_model(architecture)
    ids = token_ids(frozen, prompt)
    tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse(template), kind=frozen.kind, max_length=64, reserved=len(ids))
    rows = [tokenize({"text": text}) for text in TEXTS]
    soft = embedding_table(frozen)[ids]
    inputs = pad(rows, num_virtual_tokens=len(ids), fill=0, side=side)
    batched = hidden_states(frozen, soft, inputs)
    for i, row in enumerate(rows):
        alone = pad([row], num_virtual_tokens=len(ids), fill=0, side=side)
        theirs = frozen.model.base_model(input_ids=torch.tensor([as_text(row, ids)])).last_hidden_state[0]
        assert close(hidden_states(frozen, soft, alone)[0], theirs)
        assert close(batched[i][inputs.mask[i].bool()], theirs)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3", "gemma2"])
def test_label_word_scores_are_the_models_own_logits(architecture, side, cached):
    frozen = tiny_model(architecture)
    ids = token_ids(frozen, PROMPTS[0])
    tokenize = TemplateTokenizer(
        frozen.tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=64, reserved=len(ids)
    )
    rows = [tokenize({"text": text}) for text in TEXTS]
    words = [tuple(token_ids(frozen, word)) for word in ("business", "music", "sport")]
    assert all(len(word) == 1 for word in words)
    reader = LabelWords(frozen, words, side=side)
    if cached:
        assert reader.prefill(3, rows, max_bytes=2**20) is None
        assert reader.num_tokens({"prompt": embedding_table(frozen)[ids]}, rows) == sum(len(row.after) + len(ids) for row in rows)
    ours = reader.class_scores({"prompt": embedding_table(frozen)[ids]}, rows)
    for i, row in enumerate(rows):
        theirs = frozen.model(input_ids=torch.tensor([as_text(row, ids)])).logits[0, -1]
        assert close(ours[i], theirs[[word[0] for word in words]])


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_long_label_words_are_scored_by_their_mean_log_probability(side, cached):
    frozen = tiny_model("llama")
    ids = token_ids(frozen, PROMPTS[0])
    tokenize = TemplateTokenizer(
        frozen.tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=64, reserved=len(ids) + 3
    )
    rows = [tokenize({"text": text}) for text in TEXTS]
    words = [tuple(token_ids(frozen, word)) for word in ("business", "music film", "sport and music")]
    assert [len(word) for word in words] == [1, 2, 3]
    reader = LabelWords(frozen, words, side=side)
    if cached:
        assert reader.prefill(3, rows, max_bytes=2**20) is None
    params = {"prompt": embedding_table(frozen)[ids]}
    ours = reader.class_scores(params, rows)
    for i, row in enumerate(rows):
        for label, word in enumerate(words):
            logits = frozen.model(input_ids=torch.tensor([[*as_text(row, ids), *word]])).logits[0].log_softmax(-1)
            own = [logits[-1 - len(word) + j, token] for j, token in enumerate(word)]
            assert float(ours[i, label]) == pytest.approx(float(sum(own) / len(own)), rel=1e-5)
    targets = torch.tensor([0, 1, 2, 1])
    vocabulary = LabelWords(frozen, words, {"objective": "vocabulary"}, side=side).loss(params, rows, targets)
    counts = torch.tensor([len(words[t]) for t in targets.tolist()])
    own = ours[torch.arange(4), targets]
    assert float(vocabulary) == pytest.approx(float(-(own * counts).sum() / counts.sum()), rel=1e-5)


@pytest.mark.parametrize("template", ["{slots} {text}", "{text} {slots}"])
@pytest.mark.parametrize("pooling", ["mean", "first", "virtual"])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_head_pools_the_token_it_names(architecture, pooling, template):
    frozen = tiny_model(architecture)
    ids = token_ids(frozen, PROMPTS[0])
    tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse(template), kind="encoder", max_length=64, reserved=len(ids))
    rows = [tokenize({"text": text}) for text in TEXTS]
    head = PooledHead(frozen, 3, pooling=pooling, side="left")
    params = {"prompt": embedding_table(frozen)[ids], **head.extra(0)}
    ours = head.class_scores(params, rows)
    first = frozen.tokenizer.cls_token_id
    for i, row in enumerate(rows):
        text = as_text(row, ids)
        hidden = frozen.model(input_ids=torch.tensor([text])).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "first": hidden[text.index(first)], "virtual": hidden[len(row.before)]}[pooling]
        assert close(ours[i], pooled @ params["head.weight"].T)


def test_gradient_reaches_the_soft_prompt_and_nothing_else():
    frozen = tiny_model("llama")
    tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=64, reserved=3)
    reader = LabelWords(frozen, [tuple(token_ids(frozen, w)) for w in ("business", "music")])
    prompt = torch.randn(3, 32, requires_grad=True)
    reader.loss({"prompt": prompt}, [tokenize({"text": t}) for t in TEXTS], torch.tensor([0, 1, 0, 1])).backward()
    assert prompt.grad is not None and bool(prompt.grad.any(-1).all())
    assert all(p.grad is None and not p.requires_grad for p in frozen.model.parameters())
