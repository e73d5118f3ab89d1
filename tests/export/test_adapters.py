"""PEFT adapters as starting points: PEFT's own files, read for our methods."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import pytest
import torch

from maao.errors import ConfigError, ModelError, StoreError
from maao.export.peft_read import keys_and_values, other_model, read_adapter
from maao.export.peft_write import prefix_table
from maao.problems.towers.text.forward import key_values
from tests.tiny import tiny_model

NUM = 3


@pytest.fixture
def saved(tmp_path):
    """Return the function from an architecture and a PEFT config class to a folder that PEFT wrote, and PEFT's own prompt."""
    import peft

    def save(architecture, name, *, task="CAUSAL_LM", safe=True, **options):
        model = tiny_model(architecture).model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT's own
            wrapped = peft.get_peft_model(model, getattr(peft, name)(task_type=task, num_virtual_tokens=NUM, **options))
            with torch.no_grad():
                for parameter in wrapped.prompt_encoder.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
            folder = tmp_path / f"{architecture}-{name}"
            wrapped.save_pretrained(folder, safe_serialization=safe)
            wrapped.eval()
            with torch.no_grad():
                return folder, wrapped.get_prompt(1)

    return save


@pytest.mark.parametrize(("method", "name"), [("prompt_tuning", "PromptTuningConfig"), ("pez", "PromptTuningConfig")])
@pytest.mark.parametrize("safe", [True, False])
def test_rows_are_read_bit_for_bit(saved, method, name, safe):
    folder, prompt = saved("llama", name, safe=safe)
    found = read_adapter(folder, tiny_model("llama"), method, NUM, in_slots=method != "prefix_tuning")
    assert found.keys() == {"prompt"} and torch.equal(found["prompt"], prompt[0])


def test_a_p_tuned_adapter_starts_where_its_network_ended(saved):
    folder, prompt = saved("gpt2", "PromptEncoderConfig", encoder_hidden_size=16)
    found = read_adapter(folder, tiny_model("gpt2"), "p_tuning", NUM)["prompt"]
    assert torch.allclose(found, prompt[0], atol=1e-6)
    from maao.problems.methods.p_tuning import PTuning

    tuning = PTuning("lstm", NUM, 32)
    assert torch.equal(tuning.realize({**tuning.start(torch.zeros(NUM, 32)), "prompt": found})["prompt"], found)


@pytest.mark.parametrize("options", [{}, {"prefix_projection": True, "encoder_hidden_size": 16}])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3", "bert_masked"])
def test_a_prefix_is_read_as_peft_passes_it(saved, architecture, options):
    task = "FEATURE_EXTRACTION" if architecture == "bert_masked" else "CAUSAL_LM"
    folder, cache = saved(architecture, "PrefixTuningConfig", task=task, **options)
    found = read_adapter(folder, tiny_model(architecture), "prefix_tuning", NUM, in_slots=False)
    assert found.keys() == {"prefix.keys", "prefix.values"}
    for layer, keys, values in zip(cache.layers, found["prefix.keys"], found["prefix.values"], strict=True):
        assert torch.allclose(layer.keys[0], keys, atol=1e-6) and torch.allclose(layer.values[0], values, atol=1e-6)
    shape = key_values(tiny_model(architecture), torch.zeros(NUM, 32))[0].shape
    assert found["prefix.keys"].shape == shape


def test_of_a_prompt_for_encoder_and_decoder_the_encoders_rows_are_read(saved):
    folder, prompt = saved("t5", "PromptTuningConfig", task="SEQ_2_SEQ_LM")
    assert prompt.shape[1] == 2 * NUM
    assert torch.equal(read_adapter(folder, tiny_model("t5"), "prompt_tuning", NUM)["prompt"], prompt[0, :NUM])


def test_the_layout_of_a_prefix_has_an_inverse():
    keys, values = torch.randn(2, 3, 4, 5, 6)
    assert all(torch.equal(a, b) for a, b in zip(keys_and_values(prefix_table(keys, values), 3, 4), (keys, values), strict=True))


def test_another_number_of_virtual_tokens_is_told_with_the_one_to_set(saved):
    folder, _ = saved("llama", "PromptTuningConfig")
    with pytest.raises(ConfigError, match=r"has 3 virtual tokens, and model\.num_virtual_tokens is 8: set it to 3\."):
        read_adapter(folder, tiny_model("llama"), "prompt_tuning", 8)


@pytest.mark.parametrize(
    ("name", "method", "told"),
    [
        (
            "PromptTuningConfig",
            "prefix_tuning",
            "is of type PROMPT_TUNING, and model.method is 'prefix_tuning': set model.method to 'prompt_",
        ),
        ("PrefixTuningConfig", "p_tuning", "is of type PREFIX_TUNING, and model.method is 'p_tuning': set model.method to 'prefix_tuning'"),
    ],
)
def test_an_adapter_of_another_method_is_told(saved, name, method, told):
    folder, _ = saved("llama", name)
    with pytest.raises(ConfigError, match=re.escape(told)):
        read_adapter(folder, tiny_model("llama"), method, NUM, in_slots=method != "prefix_tuning")


@pytest.mark.parametrize("kind", ["MULTITASK_PROMPT_TUNING", "LORA"])
def test_adapters_of_other_types_are_told(tmp_path, kind):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    with pytest.raises(ConfigError, match=f"is of type {kind}: a run can start from PROMPT_TUNING, P_TUNING and PREFIX_TUNING"):
        read_adapter(tmp_path, tiny_model("llama"), "prompt_tuning", NUM)


def write(folder, tensors, **config):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING", **config}))
    torch.save(tensors, folder / "adapter_model.bin")


def test_another_width_is_told_with_the_model_that_it_was_made_for(tmp_path):
    write(tmp_path, {"prompt_embeddings": torch.zeros(NUM, 48)}, base_model_name_or_path="some/model")
    with pytest.raises(ModelError, match=r"48 numbers a virtual token, and tiny-llama takes 32\. It was made for some/model"):
        read_adapter(tmp_path, tiny_model("llama"), "prompt_tuning", NUM)


def test_another_base_model_of_the_same_width_is_no_error_but_is_told(tmp_path):
    write(tmp_path, {"prompt_embeddings": torch.zeros(NUM, 32)}, base_model_name_or_path="some/model")
    frozen = tiny_model("llama")
    assert read_adapter(tmp_path, frozen, "prompt_tuning", NUM)["prompt"].shape == (NUM, 32)
    assert "was made for some/model, and starts a prompt of tiny-llama" in other_model(tmp_path, frozen)
    write(tmp_path, {}, base_model_name_or_path="tiny-llama")
    assert other_model(tmp_path, frozen) is None


def test_what_is_missing_or_damaged_is_told(tmp_path):
    def read():
        return read_adapter(tmp_path, tiny_model("llama"), "prompt_tuning", NUM)

    with pytest.raises(ModelError, match=r"There is no .*adapter_config\.json"):
        read()
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"Cannot read .*adapter_config\.json"):
        read()
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
    with pytest.raises(ModelError, match=r"has no weights: neither adapter_model\.safetensors nor adapter_model\.bin"):
        read()
    write(tmp_path, {"other": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"has no table 'prompt_embeddings': it holds other\."):
        read()
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"Cannot read .*adapter_model\.safetensors"):
        read()


def test_a_file_that_holds_code_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    write(tmp_path, {"prompt_embeddings": Harm()})
    with pytest.raises(ModelError, match="holds more than tensors"):
        read_adapter(tmp_path, tiny_model("llama"), "prompt_tuning", NUM)


def test_a_run_starts_from_an_adapter_that_another_run_exported(model_folder, tmp_path):
    import maao
    from maao.config import make_config
    from tests.api.small_runs import values, write_data

    data = write_data(tmp_path)
    for method in ("prompt_tuning", "p_tuning", "prefix_tuning"):
        settings = values(
            model_folder("llama"),
            data,
            model__method=method,
            model__template="{slots} {text} Topic:",
            plan__rounds=1,
            mentor={"name": "none"},
        )
        first = maao.run(make_config(settings), tmp_path / method)
        first.save(tmp_path / f"{method}-adapter", "peft")
        settings["model"]["adapter"] = str(tmp_path / f"{method}-adapter")
        second = maao.run(make_config(settings), tmp_path / f"{method}-again")
        assert second.history[0].score.loss == pytest.approx(first.chosen.score.loss, abs=1e-6)


def test_the_adapter_that_a_run_begins_with_is_hashed_and_needed_only_to_go_on(model_folder, tmp_path):
    import maao
    from maao.config import make_config
    from tests.api.small_runs import values, write_data

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write(adapter, {"prompt_embeddings": torch.zeros(4, 32)})
    settings = values(model_folder("llama"), write_data(tmp_path), model__adapter=str(adapter), plan__rounds=1, mentor={"name": "none"})
    run = maao.run(make_config(settings), tmp_path / "run")
    assert maao.replay(run.folder).equal
    write(adapter, {"prompt_embeddings": torch.ones(4, 32)})
    with pytest.raises(StoreError, match="The adapter that it begins with has changed"):
        maao.replay(run.folder)
    shutil.rmtree(adapter)
    assert maao.load(run.folder).predict(["music"]) == run.predict(["music"])
