"""Towers beside CLIP: the pair of transformers, and vocabularies in which a word inside a sentence is another token than the same alone."""

from __future__ import annotations

import pytest
import torch

from maao.codecs.nearest_token import NearestTokenCodec
from maao.errors import DataError
from maao.problems.methods.coop import CoOp
from maao.problems.scorers.matcher import Matcher, bind_classes, class_anchors
from maao.problems.towers.class_prompts import ClassTemplate, prompts_of
from tests import tiny_vision as tiny
from tests.problems.vision.other_towers import LENGTH, NAMES, WORDS, other_encoder, siglip_model

PIXELS = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TEXTS = [f"{WORDS} {name}." for name in NAMES]
KINDS = ("sentence pieces", "byte level", "vision-text")


def near(ours, theirs, size=1e-5):
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max()) <= size * float(theirs.abs().max())


def zero_shot(encoder, wording=f"{WORDS} {{class}}."):
    with torch.no_grad():
        return encoder.logits(encoder.input.features(PIXELS), class_anchors(encoder, NAMES, [wording]))


def test_scores_are_those_of_siglip_but_for_its_bias():
    encoder = other_encoder("sentence pieces")
    ids = encoder.text.tokenizer(TEXTS, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = encoder.modules(input_ids=ids, pixel_values=PIXELS).logits_per_image + 2
    assert theirs.std(1).min() > 0.01
    assert near(zero_shot(encoder), theirs)


def test_scores_are_those_of_a_vision_text_dual_encoder():
    encoder = other_encoder("vision-text")
    given = encoder.text.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = encoder.modules(pixel_values=PIXELS, **given).logits_per_image
    assert near(zero_shot(encoder), theirs)


def test_scores_of_a_pair_are_the_cosines_of_each_text_alone():
    encoder = other_encoder("byte level")
    parts = encoder.modules
    with torch.no_grad():
        states = [parts["text"](**encoder.text.tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
        words = torch.stack([parts["projections"]["text"] @ state.mean(0) for state in states])
        images = parts["vision"](pixel_values=PIXELS).last_hidden_state[:, 0] @ parts["projections"]["image"].T
    assert near(zero_shot(encoder), 9 * torch.nn.functional.cosine_similarity(images[:, None], words[None], dim=-1))


@pytest.mark.parametrize("kind", ["clip", *KINDS])
def test_image_features_are_the_model_s_own(kind):
    encoder = tiny.clip_encoder() if kind == "clip" else other_encoder(kind)
    assert encoder.input.num_tokens == (16 if kind == "sentence pieces" else 17)
    assert encoder.input.width == (32 if kind == "sentence pieces" else 48)
    if kind == "byte level":
        return
    with torch.no_grad():
        theirs = encoder.modules.get_image_features(pixel_values=PIXELS)
        theirs = getattr(theirs, "pooler_output", theirs)
        assert near(encoder.input.features(PIXELS), theirs / theirs.norm(dim=-1, keepdim=True))


def test_what_stands_behind_the_end_of_a_text_does_not_matter_to_clip():
    """open_clip's checkpoints pad with zeros, transformers' with the end token."""
    encoder = tiny.clip_encoder()
    texts = [f"a photo of the {name}." for name in tiny.NAMES]
    ids = tiny.clip_tokenizer()(texts, padding="max_length", max_length=tiny.LENGTH, return_tensors="pt")
    padded = ids.input_ids.where(ids.attention_mask.bool(), torch.tensor(0))
    with torch.no_grad():
        theirs = encoder.modules(input_ids=padded, pixel_values=PIXELS).logits_per_image
        anchors = class_anchors(encoder, tiny.NAMES, ["a photo of the {class}."])
        assert near(encoder.logits(encoder.input.features(PIXELS), anchors), theirs)


# -- where words meet slots

POSITIONS = {
    "about {slots} {class}.": f"about {WORDS} {{class}}.",
    "{class} {slots}.": f"{{class}} {WORDS}.",
    "it is {slots} {class} {slots}. in text": "it is the news {class} about a. in text",
    "it {slots}, {class}": f"it {WORDS}, {{class}}",
}
FRONT = {"{slots} {class}.": f" {WORDS} {{class}}."}  # the codec writes a context's first word as one inside a sentence


@pytest.mark.parametrize("template", [*POSITIONS, *FRONT])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("specific", [False, True])
def test_a_context_of_a_text_is_that_text_read_as_one(kind, template, specific):
    encoder = other_encoder(kind)
    wording = {**POSITIONS, **FRONT}[template]
    bound = bind_classes(encoder, ClassTemplate.parse(template), NAMES, 4, [wording])
    codec = NearestTokenCodec(encoder.text.tokenizer, encoder.text.table, num_virtual_tokens=4)
    encoded = codec.encode(WORDS)
    assert encoded.note is None
    method = CoOp(bound, class_specific=specific)
    with torch.no_grad():
        classes = Matcher(method).classes(method.start(encoded.params["prompt"]))
    assert near(classes, bound.anchors)
    assert float((classes[0] - classes[1]).abs().max()) > 0.01


@pytest.mark.parametrize("template", POSITIONS)
@pytest.mark.parametrize("kind", ["clip", *KINDS])
def test_a_prompt_has_the_tokens_of_its_text_around_its_slots(kind, template):
    encoder = tiny.clip_encoder() if kind == "clip" else other_encoder(kind)
    names = tiny.NAMES if kind == "clip" else NAMES
    words = "a photo of the" if kind == "clip" else WORDS
    tokenizer = encoder.text.tokenizer
    filled = POSITIONS[template].replace(WORDS, words).replace("the news", "a photo").replace("about a.", "of the.")
    wording = filled if kind == "clip" else POSITIONS[template]
    for name, prompt in zip(names, prompts_of(ClassTemplate.parse(template), tokenizer, names, 4, 40), strict=True):
        whole = tokenizer(wording.replace("{class}", name)).input_ids
        assert len(prompt.ids) == len(whole)
        assert [i for at, i in enumerate(prompt.ids) if at not in prompt.slots] == [
            i for at, i in enumerate(whole) if at not in prompt.slots
        ]


def test_a_siglip_text_must_fit_its_length():
    encoder = other_encoder("sentence pieces")
    long = " ".join(["internet"] * LENGTH)
    with pytest.raises(DataError, match=f"reads {LENGTH}"):
        prompts_of(ClassTemplate.parse("{class}"), encoder.text.tokenizer, [long], 0, encoder.text.most)
    assert siglip_model().config.text_config.max_position_embeddings == LENGTH


# -- all together, each alone, in parts

MANY = ("music", "bank growth", "internet phone shares", "song", "the minister of sport", "cup", "software")


def noise(*shape, seed=3):
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prompts_and(kind):
    encoder = tiny.clip_encoder() if kind == "clip" else other_encoder(kind)
    names = (*tiny.NAMES, "lion", "small dog", "the sea", "cat") if kind == "clip" else MANY
    return encoder, prompts_of(ClassTemplate.parse("about {slots} {class} {slots}."), encoder.text.tokenizer, names, 4, 24)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
@pytest.mark.parametrize("kind", ["clip", *KINDS])
def test_all_prompts_together_are_each_alone_with_rows_in_later_layers_too(kind, shared):
    encoder, prompts = prompts_and(kind)
    count = len(prompts)
    rows = noise(4, 32) if shared else noise(count, 4, 32)
    deep = {1: noise(4, 32, seed=4), 2: noise(count, 4, 32, seed=5)}
    with torch.no_grad():
        together = encoder.text.features(prompts, rows, deep)
        alone = [
            encoder.text.features([p], rows if shared else rows[i : i + 1], {1: deep[1], 2: deep[2][i : i + 1]})
            for i, p in enumerate(prompts)
        ]
        plain = encoder.text.features(prompts, rows)
    assert near(together, torch.cat(alone))
    assert float((together - plain).abs().max()) > 0.01


@pytest.mark.parametrize("kind", ["clip", *KINDS])
def test_parts_give_the_same_gradients_of_rows_in_every_layer(kind):
    encoder, prompts = prompts_and(kind)
    pull = noise(len(prompts), encoder.embed_dim, seed=8)
    found = []
    for part_tokens in (0, 60):
        rows, deep = noise(4, 32).requires_grad_(), noise(len(prompts), 4, 32, seed=5).requires_grad_()
        features = encoder.text.features(prompts, rows, {2: deep}, part_tokens=part_tokens)
        found.append([features.detach(), *torch.autograd.grad((features * pull).sum(), [rows, deep])])
    assert all(near(part, whole) for whole, part in zip(*found, strict=True))


@pytest.mark.parametrize("kind", ["clip", "vision-text", "sentence pieces"])
def test_tokens_are_counted_as_they_run_and_parts_hold_no_more_than_asked(kind):
    encoder, prompts = prompts_and(kind)
    seen = []
    handle = encoder.text.layers[0].register_forward_hook(lambda module, given, output: seen.append(output.shape[:-1].numel()))
    with torch.no_grad():
        encoder.text.features(prompts, noise(4, 32))
        assert sum(seen) == encoder.text.num_tokens(prompts)
        seen.clear()
        encoder.text.features(prompts, noise(len(prompts), 4, 32))
        assert sum(seen) == encoder.text.num_tokens(prompts, shared=False)
    for rows in (noise(4, 32), noise(len(prompts), 4, 32)):
        seen.clear()
        encoder.text.features(prompts, rows.requires_grad_(), part_tokens=24)
        assert len(seen) > 1 and max(seen) <= 24
    handle.remove()
