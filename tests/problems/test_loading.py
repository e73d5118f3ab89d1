"""Loading: a folder works, and everything that cannot be loaded says so."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors import SafetensorError

from maao.errors import ModelError
from maao.problems.towers.text import loading
from maao.problems.towers.text.loading import load_frozen, locate, packaged_path, weights_digest
from tests.tiny import bpe_tokenizer, tiny_model


@pytest.fixture
def saved(tmp_path):
    def save(architecture="llama"):
        frozen = tiny_model(architecture)
        frozen.model.save_pretrained(tmp_path / architecture)
        frozen.tokenizer.save_pretrained(tmp_path / architecture)
        return tmp_path / architecture

    return save


@pytest.mark.parametrize(("architecture", "kind"), [("llama", "decoder"), ("gpt2", "decoder"), ("bert", "encoder"), ("roberta", "encoder")])
def test_saved_folder_loads_as_what_it_is(saved, architecture, kind):
    frozen = load_frozen(str(saved(architecture)))
    original = dict(tiny_model(architecture).model.named_parameters())
    assert frozen.kind == kind and not frozen.model.training
    assert all(torch.equal(value, original[name]) and not value.requires_grad for name, value in frozen.model.named_parameters())


def test_weights_load_in_the_precision_asked_for(saved):
    assert load_frozen(str(saved()), dtype="bfloat16").model.dtype == torch.bfloat16


def test_weights_file_stands_for_its_folder(saved):
    folder = saved()
    assert locate(str(folder / "model.safetensors")) == str(folder)


def test_a_weights_file_that_would_not_be_read_is_refused(saved):
    folder = saved()
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    tiny_model("llama").model.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"other\.safetensors is not what is loaded from its folder: that is model\.safetensors"):
        locate(str(folder / "other.safetensors"))


def test_a_shard_stands_for_its_folder(saved):
    folder = saved()
    (folder / "model.safetensors").unlink()
    tiny_model("llama").model.save_pretrained(folder, max_shard_size="50KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and locate(str(shards[1])) == str(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ModelError, match=r"Cannot read .*index\.json"):
        locate(str(shards[1]))


def test_the_digest_of_weights_sees_every_bit_name_and_precision(saved):
    folder = str(saved())
    digest = weights_digest(load_frozen(folder).model)
    assert digest.startswith("blake2b:") and digest == weights_digest(load_frozen(folder).model)
    model = load_frozen(folder).model
    next(model.parameters()).data[0, 0] += 1e-6
    assert len({digest, weights_digest(model), weights_digest(load_frozen(folder, dtype="bfloat16").model)}) == 3


@pytest.mark.parametrize("full", ["model.safetensors", "tokenizer.json"])
def test_a_full_disk_ends_a_conversion_in_words(tmp_path, monkeypatch, full):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    frozen = tiny_model("llama")

    def no_room(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def convert(path, folder):
        if full == "model.safetensors":
            monkeypatch.setattr("safetensors.torch.save_file", no_room)
        else:
            (folder / full).symlink_to("/dev/full")
        loading._save({"w": torch.zeros(1000)}, frozen.tokenizer, folder)

    monkeypatch.setattr(loading, "_convert", convert)
    with pytest.raises(ModelError, match=r"Cannot keep a converted copy of .*No space left.*Set MAAO_CACHE to a folder with room"):
        locate(str(tmp_path / "model.gguf"))
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_a_cache_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="Cannot keep a converted copy"):
        locate(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("dtype", ["float12", "nn"])
def test_unknown_precision_is_refused(dtype):
    with pytest.raises(ModelError, match=f"Unknown precision '{dtype}'"):
        load_frozen("anything", dtype=dtype)


def test_unknown_packaged_name_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"Unknown packaged model 'packaged:smollm2'\. Did you mean 'packaged:smollm2-135m-instruct'"):
        packaged_path("packaged:smollm2")


def test_missing_gguf_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"There is no file .*absent\.gguf"):
        load_frozen(str(tmp_path / "absent.gguf"))


def test_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_frozen(str(tmp_path))


def test_unknown_hub_name_is_refused_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"Cannot load the model 'maao/does-not-exist' \(HF_HUB_OFFLINE is set"):
        load_frozen("maao/does-not-exist")


@pytest.mark.parametrize("kind", ["encoder", "decoder", "masked"])
def test_a_model_cannot_be_read_as_another_kind(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True, "d_model": 8, "num_layers": 1}))
    bpe_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"of kind 'encoder_decoder': it cannot be read as '{'head' if kind == 'encoder' else kind}'"):
        load_frozen(str(tmp_path), kind=kind)


def test_model_of_no_usable_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    bpe_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of type 'vit', which is neither"):
        load_frozen(str(tmp_path))


def test_checkpoint_that_leaves_weights_unset_is_refused(saved):
    from safetensors.torch import load_file, save_file

    folder = saved()
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"leaves 1 weights of LlamaForCausalLM unset \(model\.layers\.1\.mlp\.up_proj\.weight\)"):
        load_frozen(str(folder))


def test_unknown_device_is_refused(saved):
    with pytest.raises(ModelError, match=r"to device 'banana'.*Use 'cpu'"):
        load_frozen(str(saved()), device="banana")


def test_a_quantisation_that_is_not_known_is_refused(saved):
    with pytest.raises(ModelError, match=r"no quantisation that transformers knows.*load_in_8bit = true"):
        load_frozen(str(saved()), quantization={"quant_method": "eightbits"})


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed: nothing is missing")
def test_what_a_quantisation_needs_is_told(saved):
    with pytest.raises(ModelError, match=r"needs more packages: .*bitsandbytes"):
        load_frozen(str(saved()), quantization={"quant_method": "bitsandbytes", "load_in_8bit": True})


def test_an_encoder_without_a_mask_head_cannot_be_read_at_masks(saved):
    with pytest.raises(ModelError, match=r"leaves \d+ weights of BertForMaskedLM unset"):
        load_frozen(str(saved("bert")), kind="masked")
