"""What is computed for a text is what transformers computes for it alone, however long it is and whatever stands beside it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from maao.errors import ModelError
from maao.problems.towers.text import probes
from maao.types import Example
from tests.cases.models import BARTISH, GROUPED, SMALL, WINDOW, check, frozen, problem_of, texts
from tests.tiny import wordpiece_tokenizer

KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2}
WINDOWED = {
    "Mistral": GROUPED,
    "Gemma3Text": {**GROUPED, **KINDS},
    "Olmo3": {**GROUPED, **KINDS},
    "Starcoder2": {**SMALL, "num_key_value_heads": 2},
    "Phi3": SMALL,
    "GptOss": {**GROUPED, **KINDS, "num_local_experts": 4},
    "Cohere2": {**SMALL, **KINDS, "num_key_value_heads": 2},
    "Qwen2": {**SMALL, "num_key_value_heads": 2, "use_sliding_window": True, "max_window_layers": 2},
}
LONG = "the news of the market and the bank and the film and the award is that"  # more tokens than the window has
TEMPLATES = ["{slots} {text} Topic:", "{text} {slots} Topic:", LONG + " {slots} {text} Topic:", "about {text} the {slots} Topic:"]
GIVEN = texts(3, 12, 25, 2)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", WINDOWED)
def test_l1_a_window_sees_as_far_as_the_models_own(name, template):
    """24 virtual tokens and shared text in front are more than the window of 16 tokens, and so are the texts."""
    check(problem_of(frozen(name, sliding_window=WINDOW, **WINDOWED[name]), template), GIVEN)


@pytest.mark.parametrize("template", TEMPLATES[:2])
def test_l1_a_chunk_sees_as_far_as_the_models_own(template):
    model = frozen("Llama4Text", attention_chunk_size=16, num_local_experts=2, intermediate_size_mlp=64, **GROUPED)
    problem = problem_of(model, template)
    check(problem, GIVEN)
    assert any("reads packed rows differently" in note for note in problem.notes)


def test_l1_a_text_longer_than_those_of_the_run_is_tried_before_it_is_read():
    problem = problem_of(frozen("Mistral", sliding_window=WINDOW, **GROUPED), TEMPLATES[0], rows=2)
    tried = {key[1] for key in problem.frozen.tried if key[0] == "way"}
    check(problem, texts(3, 30))
    assert max(tried) < max(key[1] for key in problem.frozen.tried if key[0] == "way")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("template", TEMPLATES[:2])
@pytest.mark.parametrize("name", ["Bart", "MBart", "Pegasus", "Blenderbot"])
def test_l2_padding_on_the_left_moves_no_position(name, template, side):
    problem = problem_of(frozen(name, "encoder_decoder", **BARTISH), template, padding_side=side)
    check(problem, texts(3, 12, 20, 2))
    assert any("rows are padded on the right" in note for note in problem.notes) is (side == "left")


@pytest.mark.parametrize(("name", "settings"), [("ConvBert", SMALL), ("FNet", {k: v for k, v in SMALL.items() if "heads" not in k})])
def test_l2_a_model_that_reads_its_padding_reads_rows_of_one_length(name, settings):
    problem = problem_of(frozen(name, "masked", **settings), "{slots} {text} Topic {mask}")
    check(problem, texts(3, 12, 20, 2))
    assert any("only rows of the same length run together" in note for note in problem.notes)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("Mamba", {"hidden_size": 32, "num_hidden_layers": 2}), ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4})],
)
def test_l2_models_without_positions_are_read_like_others(name, settings, side):
    check(problem_of(frozen(name, **settings), TEMPLATES[0], padding_side=side), GIVEN)


def test_l2_a_model_that_reads_every_neighbor_runs_row_by_row(monkeypatch):
    """The batch changes what this model gives, rows of one length included."""
    model = frozen("Llama", **GROUPED)
    inner = model.model.base_model

    def spoiled(module, arguments, output):
        output.last_hidden_state = output.last_hidden_state + output.last_hidden_state.mean(0, keepdim=True) * (
            len(output.last_hidden_state) > 1
        )

    handle = inner.register_forward_hook(spoiled)
    try:
        problem = problem_of(model, TEMPLATES[0])
        check(problem, GIVEN)
    finally:
        handle.remove()
    assert any("rows run one by one" in note for note in problem.notes)


def test_l2_a_bidirectional_model_is_no_causal_one():
    """Its words at the end would be read off a token that it has seen."""
    with pytest.raises(ModelError, match="is no causal model: what it gives for a token depends on the tokens behind it"):
        problem_of(frozen("XLNet", d_model=32, n_layer=2, n_head=4, d_inner=64), TEMPLATES[0])


def test_l2_a_model_that_answers_at_random_is_refused():
    model = frozen("Llama", **GROUPED)

    def noisy(module, arguments, output):
        output.last_hidden_state = output.last_hidden_state + torch.randn_like(output.last_hidden_state)

    handle = model.model.base_model.register_forward_hook(noisy)
    try:
        with pytest.raises(ModelError, match="reads the same text differently each time"):
            problem_of(model, TEMPLATES[0])
    finally:
        handle.remove()


def test_l2_a_head_pools_what_the_text_alone_gives():
    model = frozen("ConvBert", "encoder", wordpiece_tokenizer(), **SMALL)
    problem = problem_of(model, "{slots} {text}", rows=4)
    params, given = problem.initial(0), texts(3, 12, 20, 2)
    rows = [problem.tokenizer({"text": text}) for text in given]
    wanted = []
    for row in rows:
        embeddings = model.model.get_input_embeddings()(torch.tensor([[*row.after]]))
        alone = model.model(inputs_embeds=torch.cat([params["prompt"][None], embeddings], dim=1)).last_hidden_state[0].mean(0)
        wanted.append(alone @ params["head.weight"].T + params["head.bias"])
    together = problem.probabilities(params, [Example({"text": text}, "") for text in given])
    torch.testing.assert_close(together, torch.stack(wanted).softmax(-1), rtol=1e-4, atol=1e-5)


def test_l2_what_was_tried_is_tried_once():
    model = frozen("Mistral", sliding_window=WINDOW, **GROUPED)
    problem_of(model, TEMPLATES[0])
    before = dict(model.tried)
    problem_of(model, TEMPLATES[0])
    assert model.tried.keys() == before.keys()
    assert probes.way_of(model, 20, "right") == probes.Way("padded", "right", True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_l1_a_cap_on_logits_is_seen_in_every_precision(dtype):
    """The probed logits are small beside the cap of 30, and a coarse precision hides what it does to them; others are not small."""
    model = frozen("Gemma2", final_logit_softcapping=30.0, sliding_window=WINDOW, **KINDS, **GROUPED)
    coarse = replace(model, model=copy.deepcopy(model.model).to(getattr(torch, dtype)), tried={})
    assert probes.head_of(coarse) == "hooked"
    plain = frozen("Llama", **GROUPED)
    assert probes.head_of(replace(plain, model=copy.deepcopy(plain.model).to(getattr(torch, dtype)), tried={})) == "plain"


def test_l2_positions_that_are_scaled_by_the_length_are_no_reason_to_refuse():
    """Phi-3's long texts: beyond a limit other factors hold for all tokens of a text, those before it included."""
    half = GROUPED["head_dim"] // 2
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * half, "long_factor": [4.0] * half, "rope_theta": 10000.0}
    sizes = {**GROUPED, "original_max_position_embeddings": 32, "rope_parameters": {**scaling, "original_max_position_embeddings": 32}}
    problem = problem_of(frozen("Phi3", **sizes), TEMPLATES[0])
    check(problem, texts(3, 25, 12, 2))
