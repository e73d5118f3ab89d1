"""open_clip's own models, where the package is installed (the extra `open_clip`)."""

from __future__ import annotations

import pytest
import torch

from maao.codecs.nearest_token import NearestTokenCodec
from maao.errors import ConfigError, ModelError
from maao.problems.methods.coop import CoOp
from maao.problems.methods.maple import MaPLe
from maao.problems.methods.tcp import TCP
from maao.problems.scorers.matcher import Matcher, bind_classes
from maao.problems.towers.class_prompts import ClassTemplate
from maao.problems.towers.dual_loading import from_open_clip, load_dual_encoder
from maao.problems.towers.image.preprocess import Preprocess
from tests import tiny_vision

NAMES = ("cat", "sea lion", "tyrannosaurus rex", "it's a dog, isn't it")
WORDING = "a photo of a {class}."
PIXELS = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def open_clip():
    return pytest.importorskip("open_clip", reason="the extra open_clip is not installed")


@pytest.fixture(scope="module")
def tiny(open_clip):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=3, width=64, head_width=16, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=4, layers=3)
    model = CLIP(24, vision, text, quick_gelu=True).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(0, 0.2)
    return model


def bound_to(encoder, template="{slots} {class}."):
    return bind_classes(encoder, ClassTemplate.parse(template), NAMES, 4, [WORDING])


def test_scores_are_those_of_open_clip(open_clip, tiny):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    encoder = from_open_clip(tiny, tokenizer, "tiny")
    with torch.no_grad():
        images, texts, scale = tiny(PIXELS, tokenizer([WORDING.replace("{class}", name) for name in NAMES]))
        theirs = scale * images @ texts.T
        ours = encoder.logits(encoder.input.features(PIXELS), bound_to(encoder).anchors)
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())
    assert encoder.embed_dim == 24 and encoder.pixels == Preprocess.square(32)


@pytest.mark.parametrize(
    ("template", "wording"),
    [
        ("{slots} {class}.", "a photo of a {class}."),
        ("{class} {slots}.", "{class} a photo of a."),
        ("{slots} {class} {slots}.", "a photo {class} of a."),
    ],
)
def test_a_context_of_a_texts_embeddings_gives_that_text(open_clip, tiny, template, wording):
    encoder = from_open_clip(tiny, open_clip.get_tokenizer("ViT-B-32"), "tiny")
    codec = NearestTokenCodec(encoder.text.tokenizer, encoder.text.table, num_virtual_tokens=4)
    params = codec.encode("a photo of a").params
    bound = bind_classes(encoder, ClassTemplate.parse(template), NAMES, 4, [wording])
    with torch.no_grad():
        torch.testing.assert_close(Matcher(CoOp(bound)).classes(params), bound.anchors, atol=1e-5, rtol=0)


def test_later_layers_take_rows_and_image_prompts_are_refused(open_clip, tiny):
    encoder = from_open_clip(tiny, open_clip.get_tokenizer("ViT-B-32"), "tiny")
    method = TCP(bound_to(encoder))
    rows = encoder.text.table[:4]
    params = {name: value.requires_grad_() for name, value in {**method.start(rows), **method.extra(0)}.items()}
    Matcher(method).loss(params, tiny_vision.known(encoder.input.features(PIXELS)), torch.tensor([0, 1, 2, 3, 0])).backward()
    assert all(bool(value.grad.any()) for value in params.values())
    assert all(value.grad is None and not value.requires_grad for value in tiny.parameters())
    with pytest.raises(ConfigError, match="MaPLe"):
        MaPLe(bound_to(encoder))


def test_a_transform_that_open_clip_notes_is_followed_or_refused(open_clip, tiny):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    noted = {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    try:
        tiny.visual.preprocess_cfg = noted
        assert from_open_clip(tiny, tokenizer, "tiny").pixels == Preprocess(32, 32, None, (0.5,) * 3, (0.25,) * 3, 2)
        tiny.visual.preprocess_cfg = {**noted, "resize_mode": "longest"}
        with pytest.raises(ModelError, match="'longest' are not supported"):
            from_open_clip(tiny, tokenizer, "tiny")
    finally:
        del tiny.visual.preprocess_cfg


def test_an_architecture_that_open_clip_does_not_know_is_named(open_clip):
    with pytest.raises(ModelError, match="NoSuchTower"):
        load_dual_encoder("open_clip:NoSuchTower")


def test_without_the_package_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"maao\[open_clip\]"):
        load_dual_encoder("open_clip:ViT-B-32/openai")
