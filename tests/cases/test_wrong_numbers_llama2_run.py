"""A whole run on a Llama 2 kind of tokenizer, and its export, against plain transformers."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from transformers.utils import logging

import maao
from tests.api.small_runs import pairs
from tests.cases.tokenizers_like import llama2
from tests.export.written import written


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("llama2"), llama2("prepend")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 128}
    own = hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **small))
    logging.disable_progress_bar()
    own.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", ["{text} {slots} Topic:", "{slots} {text} Topic:"])
def test_l5_a_run_reads_what_plain_transformers_reads(model, tmp_path, template):
    settings = {"threads": 1, "model.num_virtual_tokens": 2, "model.initial": "text", "model.initial_text": "music film"}
    result = maao.tune(
        model=str(model),
        train=pairs("train"),
        template=template,
        mentor="none",
        steps=1,
        rounds=1,
        folder=tmp_path / "run",
        settings={**settings, "stage.lr": 1e-9},  # so the slots stay the words that they began with
    )
    text = "the market and the bank"
    own, tokenizer = hf.AutoModelForCausalLM.from_pretrained(model), llama2("prepend")
    ids = tokenizer(f"{text} music film Topic:").input_ids
    if template.startswith("{slots}"):  # in front of the first token, where PEFT puts them
        ids = [*tokenizer("music film", add_special_tokens=False).input_ids, *tokenizer(f"{text} Topic:").input_ids]
    words = [tokenizer.convert_tokens_to_ids(f"▁{label}") for label in ("business", "music", "sport")]
    with torch.no_grad():
        theirs = own(torch.tensor([ids])).logits[0, -1, words].softmax(-1)
    found = result.predict([text])[0].probabilities
    assert torch.allclose(torch.tensor(list(found.values())), theirs, atol=1e-5)
    result.save(tmp_path, "tensor")
    assert written(tmp_path).probabilities({"text": text}) == pytest.approx(found, abs=1e-5)


def test_l5_a_prompt_begins_with_words_of_such_a_vocabulary(model, tmp_path):
    result = maao.tune(
        model=str(model), train=pairs("train"), mentor="random_restart", steps=1, rounds=1, folder=tmp_path / "run", settings={"threads": 1}
    )
    assert len(result.text.split()) > 1
