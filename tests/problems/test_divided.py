"""Models that are divided: parts on the disk read, and pass gradients on, as the whole model does."""

from __future__ import annotations

import pytest
import torch

from maao.errors import ModelError
from maao.problems.scorers.label_words import LabelWords
from maao.problems.towers.text.forward import embedding_table, front, key_values
from maao.problems.towers.text.loading import load_frozen
from maao.problems.towers.text.probes import supports_kv_cache
from maao.problems.towers.text.template import Template, TemplateTokenizer
from tests.api.fixtures import model_folder

__all__ = ["model_folder"]

TEXTS = ["shares profit", "music film actor song album award", "team"]

PARTS = {
    "llama": {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu", "lm_head": "cpu"},
    "gpt2": {f"transformer.{name}": "disk" if name in ("wpe", "h.0") else "cpu" for name in ("wte", "wpe", "h.0", "h.1", "ln_f")},
}


def both(model_folder, architecture: str):
    """Return a model as a whole and divided."""
    folder = str(model_folder(architecture))
    parts = {**PARTS[architecture], **({"model.rotary_emb": "cpu"} if architecture == "llama" else {"lm_head": "cpu"})}
    return load_frozen(folder), load_frozen(folder, device_map=parts)


def scores(frozen, rows: int = 3):
    """Return class scores with a soft prompt, and the gradient of their loss."""
    tokenize = TemplateTokenizer(frozen.tokenizer, Template.parse("{text} {slots} Topic:"), kind="decoder", max_length=64, reserved=rows)
    words = [tuple(frozen.tokenizer(f" {word}", add_special_tokens=False).input_ids) for word in ("business", "music", "sport")]
    scorer = LabelWords(frozen, words)
    prompt = embedding_table(frozen)[5 : 5 + rows].clone().requires_grad_()
    found = scorer.class_scores({"prompt": prompt}, [tokenize({"text": text}) for text in TEXTS])
    torch.nn.functional.cross_entropy(found, torch.tensor([0, 1, 2])).backward()
    return found.detach(), prompt.grad


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_with_parts_on_the_disk_reads_and_passes_gradients_on_as_the_whole_one(model_folder, architecture):
    whole, divided = both(model_folder, architecture)
    assert any(value.device.type == "meta" for value in divided.model.parameters())
    for found, wanted in zip(scores(divided), scores(whole), strict=True):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5 and float(wanted.abs().max()) > 0
    assert divided.notes and not whole.notes and "read from the disk" in divided.notes[0]
    assert divided.digest == whole.digest and divided.device == whole.device == torch.device("cpu")


def test_keys_and_values_stand_beside_their_layers(model_folder):
    whole, divided = both(model_folder, "llama")
    rows = embedding_table(whole)[3:8]
    for found, wanted in zip(key_values(divided, rows), key_values(whole, rows), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert supports_kv_cache(divided, 24) is supports_kv_cache(whole, 24) is True
    assert divided.layer_devices is None and whole.layer_devices is None  # the disk is no device: its layers run where the others do
    assert front(*key_values(divided, rows), 2).mask.shape == (2, 5)


def test_parts_whose_rows_are_read_must_be_on_a_device(model_folder):
    folder = str(model_folder("llama"))
    for part, told in (("model.embed_tokens", "input embedding"), ("lm_head", "output matrix")):
        parts = {**PARTS["llama"], "model.rotary_emb": "cpu", part: "disk"}
        with pytest.raises(ModelError, match=f"leaves the {told} of .*'{part}'.* on the disk"):
            load_frozen(folder, device_map=parts)
    with pytest.raises(ModelError, match=r"names 'model.nothing', which is no part of .* Its parts begin: model, lm_head\."):
        load_frozen(folder, device_map={"model.nothing": "cpu"})
    with pytest.raises(ModelError, match=r"cannot be loaded with this model\.device_map\. The loader said: .*nonsense"):
        load_frozen(folder, device_map="nonsense")


def test_what_model_device_map_rules_out_is_refused():
    from maao.config import make_config
    from maao.errors import ConfigError

    model = {"name": "any", "kind": "decoder", "device_map": "auto"}
    function = {"data": {"source": "packaged:banking77", "shots": 2}, "mentor": {"name": "none"}}
    for key, value in (("device", "cuda"), ("memory_mib", 100)):
        with pytest.raises(ConfigError, match=f"model.{key}.* would be ignored"):
            make_config({**function, "model": {**model, key: value}})
    assert make_config({**function, "model": model}).model.kind.options.is_divided
