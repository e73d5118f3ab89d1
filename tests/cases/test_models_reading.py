"""A model of any family is tuned with default settings, or refused in words before a run starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maao.errors import ModelError
from maao.export.peft_write import export_peft
from maao.problems.towers.text.forward import UNLIMITED, context_length
from maao.types import Clues, Example
from tests.cases.models import BARTISH, GROUPED, SMALL, WINDOW, check, frozen, problem_of, texts

TEMPLATES = ["{text} {slots} Topic:", "{slots} {text} Topic:"]
GIVEN = texts(3, 12, 25, 2)
HYBRID = {
    "Lfm2": {**SMALL, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"] * 2},
    "Qwen3Next": {
        **GROUPED,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "OpenAIGPT": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
}


def a_step(problem) -> Clues:
    params = {name: value.clone().requires_grad_() for name, value in problem.initial(0).items()}
    problem.loss(params, problem.batch(0, 0)).backward()
    assert all(bool(value.grad.abs().max() > 0) for value in params.values())
    found = problem.clues(problem.initial(0), score=problem.score([problem.initial(0)], "select")[0])
    assert found.gradient
    return found


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", ["Gemma2", "Gemma3Text"])
def test_m1_texts_longer_than_a_window_are_kept(name, template):
    model = frozen(name, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"] * 2, **GROUPED)
    problem = problem_of(model, template, rows=3)
    check(problem, GIVEN)
    a_step(problem)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", HYBRID)
def test_m2_models_without_keys_in_every_layer_run_with_nothing_shared(name, template):
    problem = problem_of(frozen(name, **HYBRID[name]), template, rows=3)
    check(problem, GIVEN)
    a_step(problem)
    told = "reads kept keys and values differently" if template == TEMPLATES[0] else "the slots run anew in every row"
    assert any(told in note for note in problem.notes)


@pytest.mark.parametrize("name", HYBRID)
def test_m2_deep_prompts_are_refused_where_there_is_no_place_for_them(name):
    with pytest.raises(ModelError, match="cannot have deep prompts"):
        problem_of(frozen(name, **HYBRID[name]), TEMPLATES[1], method="prefix_tuning")


WIDTHS = {**GROUPED, "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW, "global_head_dim": 16}


@pytest.mark.parametrize("template", TEMPLATES)
def test_m3_layers_of_different_widths_run_with_nothing_shared(template):
    problem = problem_of(frozen("Gemma4Text", hidden_size_per_layer_input=0, num_global_key_value_heads=2, **WIDTHS), template, rows=3)
    check(problem, GIVEN)
    a_step(problem)
    assert any("differently" in note for note in problem.notes)


def test_m3_a_model_that_looks_up_which_word_a_vector_is_is_refused():
    model = frozen("Gemma4Text", hidden_size_per_layer_input=8, vocab_size_per_layer_input=478, **WIDTHS)
    with pytest.raises(ModelError, match=r"reads only the embeddings of words\. A soft prompt has no place in it"):
        problem_of(model, TEMPLATES[0])


def test_m3_embeddings_of_each_layer_have_no_soft_prompt():
    further = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 478, "num_kv_shared_layers": 0, "laurel_rank": 4}
    kinds = {"altup_num_inputs": 2, "intermediate_size": [64] * 4, "activation_sparsity_pattern": [0.0] * 4}
    model = frozen("Gemma3nText", **{**WIDTHS, **further, **kinds})
    with pytest.raises(ModelError, match="does not read input embeddings as it reads the tokens they stand for"):
        problem_of(model, TEMPLATES[0])


@pytest.mark.parametrize("template", TEMPLATES)
def test_m4_a_text_model_within_a_larger_one_is_found(template):
    model = frozen("Llama4Text", attention_chunk_size=16, num_local_experts=2, intermediate_size_mlp=64, **GROUPED)
    assert model.model.base_model is model.model
    problem = problem_of(model, template, rows=3)
    check(problem, GIVEN)
    a_step(problem)


def test_m8_the_limit_of_a_model_is_read_whatever_its_family_calls_it():
    sizes = {k: v for k, v in BARTISH.items() if k != "max_position_embeddings"}
    led = frozen(
        "LED", "encoder_decoder", attention_window=16, max_encoder_position_embeddings=96, max_decoder_position_embeddings=32, **sizes
    )
    assert context_length(led) == 96
    assert context_length(frozen("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=66)) == 66
    assert context_length(frozen("Bloom", hidden_size=32, n_layer=2, n_head=4)) == UNLIMITED


def test_m8_long_texts_are_cut_to_the_limit():
    sizes = {k: v for k, v in BARTISH.items() if k != "max_position_embeddings"}
    model = frozen(
        "LED", "encoder_decoder", attention_window=16, max_encoder_position_embeddings=96, max_decoder_position_embeddings=32, **sizes
    )
    problem = problem_of(model, TEMPLATES[1], rows=3)
    found = problem.probabilities(problem.initial(0), [Example({"text": "shares " * 500}, ""), Example({"text": "music"}, "")])
    assert found.shape == (2, 3) and bool(torch.isfinite(found).all())


def test_m8_a_limit_that_no_setting_names_is_found_by_trying():
    """The table of positions is shorter than the config says, so longer texts are refused before a step is made."""
    model = frozen("GPT2", n_embd=32, n_layer=2, n_head=4, n_positions=128)
    model.model.base_model.wpe = torch.nn.Embedding(40, 32)
    problem = problem_of(model, TEMPLATES[1], rows=3)
    with pytest.raises(ModelError, match=r"embeddings of \d+ tokens: index out of range.*set model.max_length"):
        problem.probabilities(problem.initial(0), [Example({"text": "shares " * 60}, "")])
    assert problem.probabilities(problem.initial(0), [Example({"text": "shares music"}, "")]).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("IBert", SMALL),
        (
            "Perceiver",
            {"d_model": 32, "d_latents": 32, "num_latents": 8, "qk_channels": 32, "v_channels": 32, "max_position_embeddings": 128},
        ),
        ("Nystromformer", {**SMALL, "num_landmarks": 8, "segment_means_seq_len": 64}),
        ("Esm", {**SMALL, "mask_token_id": 4}),
    ],
)
def test_m9_encoders_that_read_no_embeddings_are_refused(name, settings):
    with pytest.raises(
        ModelError, match=r"cannot be read by the embeddings of 16 tokens|does not read input embeddings as it reads the tokens"
    ):
        problem_of(frozen(name, "masked", **settings), "{slots} {text} Topic {mask}")


def test_m9_a_decoder_that_does_not_say_how_it_begins_is_refused():
    model = frozen("MBart", "encoder_decoder", **{**BARTISH, "decoder_start_token_id": None, "bos_token_id": None})
    model.model.generation_config.decoder_start_token_id = model.model.generation_config.bos_token_id = None
    with pytest.raises(ModelError, match="does not say which token its decoder begins with"):
        problem_of(model, TEMPLATES[1])


def test_m2_an_adapter_of_a_model_without_attention_heads_gives_our_scores(tmp_path):
    """PEFT's prompt of rows needs no heads; its config only asks for a number of them."""
    model = frozen("Mamba", **HYBRID["Mamba"])
    problem = problem_of(model, TEMPLATES[1], rows=3)
    model.model.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    problem = problem_of(replace(model, name=str(tmp_path / "model")), TEMPLATES[1], rows=3)
    (tmp_path / "adapter").mkdir()
    about = {"labels": list(problem.splits.labels)}
    _, worst = export_peft(problem, problem.initial(0), tmp_path / "adapter", about, [{"text": text} for text in GIVEN])
    assert worst < 1e-5
