"""Tokenizers that do not fit their model, are written in Python, or come with a chat template that refuses."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers as hf
from transformers.utils import logging

import maao
from maao.build_text import build_language
from maao.codecs.nearest_token import NearestTokenCodec
from maao.config import make_config
from maao.errors import CodecError, ModelError
from maao.problems.towers.text.chat_turn import render_turn
from maao.problems.towers.text.loading import FrozenModel, load_frozen
from maao.problems.towers.text.template import Template, TemplateTokenizer
from maao.problems.towers.text.tokenized import tokenize_all
from maao.problems.towers.text.tokenizing import outside
from maao.types import Example
from tests.api.small_runs import pairs
from tests.tiny import bpe_tokenizer, tiny_model, tiny_splits


def saved(path, model, tokenizer):
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    if bar:
        logging.enable_progress_bar()
    return path


def with_more(**added):
    """Return a tiny decoder whose tokenizer knows more tokens than the model has rows."""
    frozen = tiny_model("llama")
    tokenizer = copy.deepcopy(frozen.tokenizer)
    if "words" in added:
        tokenizer.add_tokens(added["words"])
    if "pad" in added:
        tokenizer.add_special_tokens({"pad_token": added["pad"]})
    return frozen.model, tokenizer


def tuned(model, folder, **options):
    return maao.tune(
        model=str(model), mentor="none", steps=2, rounds=1, folder=folder, settings={"threads": 1}, **{"train": pairs("train"), **options}
    )


# -- a token id outside the embedding


def test_m5_a_padding_token_outside_the_table_changes_nothing(tmp_path):
    plain, padded = (saved(tmp_path / name, *with_more(**added)) for name, added in (("plain", {}), ("padded", {"pad": "[PAD]"})))
    results = [tuned(path, tmp_path / f"run-{path.name}") for path in (plain, padded)]
    texts = ["shares music", "team"]
    assert [p.probabilities for p in results[0].predict(texts)] == [p.probabilities for p in results[1].predict(texts)]
    told = [note for note in results[1].environment["notes"] if "no embedding" in note]
    assert told == ["the model has no embedding for 1 of its tokenizer's tokens ('[PAD]'): a text that holds one is refused"]


def test_m5_a_word_outside_the_table_is_refused_where_it_is_used_and_told_where_not(tmp_path):
    path = saved(tmp_path / "model", *with_more(words=["blockchain", "unused"]))
    rows = hf.AutoConfig.from_pretrained(path).vocab_size
    wanted = rf"token 'blockchain' \(id {rows}\) has no row in the model's embedding table, which has {rows}.*resize_token_embeddings"
    with pytest.raises(ModelError, match=wanted):
        tuned(path, tmp_path / "run", train=[*pairs("train"), ("the blockchain market", "business")])
    result = tuned(path, tmp_path / "run")
    with pytest.raises(ModelError, match=wanted):
        result.predict(["blockchain"])
    assert len(result.predict(["the market"])) == 1
    assert any("2 of its tokenizer's tokens ('blockchain', 'unused')" in note for note in result.environment["notes"])
    with pytest.raises(ModelError, match=r"The label word 'blockchain' of 'business' cannot be used.*has no row"):
        tuned(path, tmp_path / "label", labels={"business": "blockchain", "music": "music", "sport": "sport"})


def test_m5_a_proposal_outside_the_table_is_rejected():
    model, tokenizer = with_more(words=["blockchain"])
    codec = NearestTokenCodec(tokenizer, model.get_input_embeddings().weight, num_virtual_tokens=4)
    with pytest.raises(CodecError, match="cannot be written in words of this vocabulary: it would hold blockchain"):
        codec.encode("the blockchain")


def test_m5_a_special_token_that_every_text_gets_is_refused_outside_the_table():
    frozen = tiny_model("bert")
    tokenizer = copy.deepcopy(frozen.tokenizer)
    with pytest.raises(ModelError, match=r"has no row in the model's embedding table, which has 3"):
        TemplateTokenizer(tokenizer, Template.parse("{slots} {text}"), kind="encoder", max_length=60, reserved=4, rows=3)({"text": "music"})


def test_m5_a_table_larger_than_the_vocabulary_and_a_model_without_padding_are_no_trouble(tmp_path):
    model, tokenizer = with_more()
    model.resize_token_embeddings(len(tokenizer) + 10)
    tokenizer.pad_token = None
    frozen = load_frozen(str(saved(tmp_path / "model", model, tokenizer)))
    assert outside(frozen) == {}
    problem, codec = build_language(make_config({"model": {"num_virtual_tokens": 4}}), tiny_splits(2), frozen)
    params = problem.initial(0)
    rows = problem.probabilities(params, list(tiny_splits(2).test))
    alone = torch.cat([problem.probabilities(params, [example]) for example in tiny_splits(2).test])
    assert torch.allclose(rows, alone, atol=1e-6)
    assert len(codec.decode(params).text) > 0


# -- tokenizers in Python


def byt5():
    torch.manual_seed(0)
    tokenizer = hf.ByT5Tokenizer()
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    return hf.LlamaForCausalLM(config), tokenizer


def test_m6_a_tokenizer_in_python_works_with_many_examples(tmp_path):
    train = [(f"{word} {i}", label) for i in range(110) for word, label in (("market", "business"), ("song", "music"))]
    result = tuned(saved(tmp_path / "model", *byt5()), tmp_path / "run", train=train)
    assert result.predict(["market 7"])[0].label in ("business", "music")
    assert len(result.text) > 0


def test_m6_its_rows_are_those_of_the_whole_text():
    tokenizer = byt5()[1]
    tokenize = TemplateTokenizer(tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=200, reserved=4)
    rows = tokenize_all(tokenize, [Example({"text": f"é {i}"}, "x") for i in range(220)])
    for i, row in enumerate(rows):
        whole = tokenizer(f"é {i} Topic: sport", add_special_tokens=False).input_ids
        assert [*row.before, *row.after, *tokenize.word("sport")] == whole
    assert tokenize.identity is None  # what a class of its own does is not kept for other runs


def test_m6_words_of_bytes_come_back():
    model, tokenizer = byt5()
    codec = NearestTokenCodec(tokenizer, model.get_input_embeddings().weight, num_virtual_tokens=12)
    rows = codec.sample(12, seed=0)
    assert codec.encode(codec.decode({"prompt": rows}).text).params["prompt"].equal(rows)
    found = codec.encode("the music and the film")
    assert found.note == "cut from 22 tokens to 9, at most 12 fit, repeated to fill 12 tokens"
    assert found.text == "the musicthe"


def test_m6_a_name_of_a_special_token_is_text_for_it_too():
    tokenizer = byt5()[1]
    tokenize = TemplateTokenizer(tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=200, reserved=4)
    assert tokenize({"text": "a</s>"}).before == tuple(byte + 3 for byte in b"a</s>")


def test_m6_a_tokenizer_that_needs_a_package_or_is_damaged_is_told(tmp_path, monkeypatch):
    frozen = tiny_model("llama")
    path = saved(tmp_path / "model", frozen.model, frozen.tokenizer)
    (path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "None"}}))
    with pytest.raises(ModelError, match=r"The tokenizer of .* cannot be read|Cannot load the model"):
        load_frozen(str(path))

    def needs(*_, **__):
        raise ImportError("sacremoses is required\nmore lines")

    monkeypatch.setattr(hf.AutoTokenizer, "from_pretrained", needs)
    with pytest.raises(ModelError, match=r"Loading the tokenizer of .* needs more packages: sacremoses is required$"):
        load_frozen(str(path))


# -- chat templates

CONTENT = "{{ messages[0]['content'] }}"
REFUSING = {
    "{{ raise_exception('Only even turns are allowed') }}": "Only even turns are allowed",
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('Begin with a system turn') }}{% endif %}": "Begin with a system turn",
    "{{ no_such.thing }}": "'no_such' is undefined",
    "{{ messages[1]['content'] }}": "no element 1",
    "{% for part in messages[0]['content'] %}{{ part.text + 'x' }}{% endfor %}": "has no attribute 'text'",
    "{{ 1 / 0 }}" + CONTENT: "division by zero",
    "{% if %}": "Expected an expression",
    "{{ messages[0]['content'] + 1 }}": "can only concatenate str",
}


@pytest.mark.parametrize("template", REFUSING)
def test_m7_a_chat_template_that_raises_is_told_in_its_own_words(template):
    tokenizer = copy.deepcopy(bpe_tokenizer())
    tokenizer.chat_template = template
    with pytest.raises(ModelError) as raised:
        render_turn(tokenizer, "{text} {slots} Topic:")
    assert REFUSING[template] in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "model.chat = false" in str(raised.value)


@pytest.mark.parametrize(
    "template", ["{{ messages[0]['content'] | upper }}", "no turn", CONTENT + CONTENT, "{{ messages[0]['content'].split('{')[0] }}"]
)
def test_m7_a_chat_template_that_changes_the_turn_is_told(template):
    tokenizer = copy.deepcopy(bpe_tokenizer())
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match="changes the text of a turn"):
        render_turn(tokenizer, "{text} {slots} Topic:")


def test_m7_a_tokenizer_of_several_chat_templates_or_none():
    tokenizer = copy.deepcopy(bpe_tokenizer())
    with pytest.raises(ModelError, match="has no chat template"):
        render_turn(tokenizer, "{text} {slots}")
    tokenizer.chat_template = {"rag": CONTENT, "tool_use": CONTENT}
    with pytest.raises(ModelError, match=r"multiple chat templates|no default|does not have"):
        render_turn(tokenizer, "{text} {slots}")
    tokenizer.chat_template = {"default": "<s>" + CONTENT, "rag": CONTENT}
    assert render_turn(tokenizer, "{text} {slots}") == "<s>{turn}"


def test_m7_the_renderer_itself_may_be_missing(monkeypatch):
    tokenizer = copy.deepcopy(bpe_tokenizer())
    tokenizer.chat_template = CONTENT

    def missing(*_, **__):
        raise ImportError("apply_chat_template requires jinja2 to be installed.")

    monkeypatch.setattr(tokenizer, "apply_chat_template", missing)
    with pytest.raises(ModelError, match="requires jinja2 to be installed"):
        render_turn(tokenizer, "{text} {slots}")


def test_m7_a_system_turn_that_the_template_adds_is_part_of_the_run():
    tokenizer = copy.deepcopy(bpe_tokenizer())
    tokenizer.chat_template = "<s>system\nYou are kind.</s>\n<s>user\n" + CONTENT + "</s>\n<s>assistant{{ '\\n' }}"
    frozen = tiny_model("llama")
    frozen = FrozenModel(frozen.model, tokenizer, frozen.kind, frozen.name)
    problem = build_language(make_config({"model": {"chat": True, "num_virtual_tokens": 4}}), tiny_splits(2), frozen)[0].plain
    assert problem.tokenizer.before == "<s>system\nYou are kind.</s>\n<s>user\n{text}"
    assert problem.tokenizer.after == " Topic:</s>\n<s>assistant\n"
