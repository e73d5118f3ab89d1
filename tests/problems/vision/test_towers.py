from __future__ import annotations

from typing import Any

import pytest
import torch

from maao.errors import ConfigError, DataError
from maao.problems.methods.coop import CoOp
from maao.problems.scorers.matcher import Matcher, class_anchors
from maao.problems.towers.class_prompts import ClassTemplate, Prompt, prompts_of
from maao.problems.towers.dual import common_opening
from tests import tiny_vision as tiny

PIXELS = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
POSITIONS = {
    "{slots} {class}.": "a drawing of the {}.",
    "{class} {slots}.": "{} a drawing of the.",
    "{slots} {class} {slots}.": "a drawing {} of the.",
    "the {slots} {class}.": "the a drawing of the {}.",
}


def hf_logits(model: Any, texts: list[str]) -> torch.Tensor:
    """Return the scores of transformers' own forward on texts padded to the full length."""
    given = tiny.clip_tokenizer()(texts, padding="max_length", max_length=tiny.LENGTH, return_tensors="pt")
    mask = {} if model.config.model_type == "siglip" else {"attention_mask": given.attention_mask}
    with torch.no_grad():
        found = model(input_ids=given.input_ids, pixel_values=PIXELS, **mask)
    if model.config.model_type == "siglip":
        return found.logits_per_image - model.logit_bias  # the same for every class
    return found.logits_per_image


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("legacy", [False, True])
def test_zero_shot_scores_are_those_of_clip_itself_for_both_ways_to_find_the_end(legacy: bool) -> None:
    encoder = tiny.clip_encoder(legacy=legacy)
    ours = encoder.logits(encoder.input.features(PIXELS), class_anchors(encoder, tiny.NAMES, ["a photo of the {class}."]))
    assert close(ours, hf_logits(encoder.modules, [f"a photo of the {name}." for name in tiny.NAMES]))


def test_zero_shot_scores_are_those_of_siglip_itself() -> None:
    encoder = tiny.siglip_encoder()
    ours = encoder.logits(encoder.input.features(PIXELS), class_anchors(encoder, tiny.NAMES, ["a photo of the {class}."]))
    assert close(ours, hf_logits(encoder.modules, [f"a photo of the {name}." for name in tiny.NAMES]))


def test_a_pair_is_the_two_models_pooled_and_projected() -> None:
    encoder = tiny.pair_encoder()
    modules: Any = encoder.modules
    given = tiny.clip_tokenizer()(["a photo of the sea lion."], return_tensors="pt")
    with torch.no_grad():
        text = modules["text"](**given).last_hidden_state.mean(1) @ modules["projections"]["text"].T
        image = modules["vision"](pixel_values=PIXELS).last_hidden_state.mean(1) @ modules["projections"]["image"].T
        expected = 10 * torch.nn.functional.normalize(image) @ torch.nn.functional.normalize(text).T
        anchors = class_anchors(encoder, tiny.NAMES, ["a photo of the {class}."])
        ours = encoder.logits(encoder.input.features(PIXELS), anchors)
    assert close(ours[:, 2:], expected)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("template", POSITIONS)
@pytest.mark.parametrize("specific", [False, True])
def test_a_context_of_a_texts_embeddings_gives_that_texts_scores(kind: str, template: str, specific: bool) -> None:
    encoder = tiny.ENCODERS[kind]()
    method = CoOp(tiny.bound(encoder, template), class_specific=specific)
    ours = Matcher(method).class_scores(method.start(tiny.rows(encoder)), tiny.known(encoder.input.features(PIXELS)))
    assert close(ours, hf_logits(encoder.modules, [POSITIONS[template].format(name) for name in tiny.NAMES]))


@pytest.mark.parametrize("template", POSITIONS)
def test_a_context_of_a_texts_embeddings_gives_that_texts_features_in_a_pair(template: str) -> None:
    encoder = tiny.pair_encoder()
    method = CoOp(tiny.bound(encoder, template))
    anchors = class_anchors(encoder, tiny.NAMES, [POSITIONS[template].format("{class}")])
    torch.testing.assert_close(Matcher(method).classes(method.start(tiny.rows(encoder))), anchors, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", tiny.ENCODERS)
@pytest.mark.parametrize("specific", [False, True])
def test_parts_and_packs_change_neither_features_nor_gradients(kind: str, specific: bool) -> None:
    encoder = tiny.ENCODERS[kind]()
    found = []
    for part_tokens in (0, 12):
        method = CoOp(tiny.bound(encoder, part_tokens=part_tokens), class_specific=specific)
        params = {"prompt": method.start(tiny.rows(encoder))["prompt"].requires_grad_()}
        classes = Matcher(method).classes(params)
        (classes * torch.arange(24 if kind != "siglip" else 32)).sum().backward()
        found.append((classes.detach(), params["prompt"].grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)  # gradients of up to ten


def test_packs_of_any_size_give_the_same_features() -> None:
    encoder = tiny.clip_encoder()
    text: Any = encoder.text
    names = ("cat", "dog", "sea lion", "lion", "cat of the sea")
    prompts = prompts_of(ClassTemplate.parse("{slots} {class}."), text.tokenizer, names, 4, text.most)
    whole = text.features(prompts, tiny.rows(encoder))
    assert text.num_tokens(prompts) == 5 + sum(len(p.ids) - 5 for p in prompts)  # the start token and the context stand there once
    text._pack_tokens = 13
    assert len(text._packs(prompts, 5)) > 2
    torch.testing.assert_close(text.features(prompts, tiny.rows(encoder)), whole, atol=1e-6, rtol=0)
    alone = torch.cat([text.features([prompt], tiny.rows(encoder)) for prompt in prompts])
    torch.testing.assert_close(alone, whole, atol=1e-6, rtol=0)


def test_the_opening_ends_before_the_first_difference_and_before_each_end() -> None:
    one, two = Prompt((9, 1, 1, 5, 8), (1, 2)), Prompt((9, 1, 1, 6, 7, 8), (1, 2))
    assert common_opening([one, two], with_slots=True) == 3
    assert common_opening([one, two], with_slots=False) == 1
    assert common_opening([one, one], with_slots=True) == 4


def test_image_prompts_follow_the_tokens_and_are_replaced_layer_by_layer() -> None:
    encoder = tiny.clip_encoder()
    draw = torch.Generator().manual_seed(0)
    prompts = [torch.randn(2, 48, generator=draw).requires_grad_() for _ in range(2)]
    with_prompts = encoder.input.features(PIXELS, prompts)
    assert not torch.allclose(with_prompts, encoder.input.features(PIXELS))
    with_prompts.sum().backward()
    assert all(bool(prompt.grad.abs().sum() > 0) for prompt in prompts if prompt.grad is not None)
    torch.testing.assert_close(encoder.input.features(PIXELS), encoder.input.features(PIXELS))  # no hook is left behind
    assert not encoder.input.model._forward_hooks


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("a photo", "must name {class} once"),
        ("{class} {class}", "must name {class} once"),
        ("{slots} {slots} {class}", "once before and once after"),
        ("{slots} {label} {class}", "{label}"),
    ],
)
def test_templates_that_cannot_be_are_refused(template: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("{", r"\{")):
        ClassTemplate.parse(template)


def test_a_prompt_that_is_too_long_names_its_class() -> None:
    with pytest.raises(DataError, match="sea lion of the sea lion"):
        prompts_of(ClassTemplate.parse("{slots} {class}."), tiny.clip_tokenizer(), ["sea lion of the sea lion of the sea lion"], 8, 20)
