"""Dual encoders from folders: what is loaded gives what was saved, and what cannot be used is named."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from maao.build_matcher import feature_file
from maao.errors import ModelError
from maao.problems.methods.cocoop import CoCoOp
from maao.problems.methods.promptsrc import PromptSRC
from maao.problems.methods.tcp import TCP
from maao.problems.scorers.matcher import Matcher, bind_classes, class_anchors
from maao.problems.towers.class_prompts import ClassTemplate
from maao.problems.towers.dual_loading import load_dual_encoder
from maao.problems.towers.image.preprocess import Preprocess
from tests import tiny_vision as tiny
from tests.problems.vision.other_towers import (
    bert_model,
    other_encoder,
    sentence_pieces,
    siglip_model,
    vision_text_model,
    vit_model,
)
from tests.tiny import wordpiece_tokenizer

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
WORDING = "it is about {class}."
NAMES = ("music", "bank growth")
SAVED = {
    "clip": (tiny.clip_model, tiny.clip_tokenizer, tiny.clip_encoder),
    "siglip": (siglip_model, sentence_pieces, lambda: other_encoder("sentence pieces")),
    "vision-text": (vision_text_model, wordpiece_tokenizer, lambda: other_encoder("vision-text")),
}


def logits(encoder, names=NAMES, wording=WORDING):
    with torch.no_grad():
        return encoder.logits(encoder.input.features(PIXELS), class_anchors(encoder, names, [wording]))


def save(kind, folder):
    model, tokenizer, _ = SAVED[kind]
    model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_model_loads_as_itself_frozen(kind, tmp_path):
    encoder = load_dual_encoder(str(save(kind, tmp_path)))
    words = (tiny.NAMES, "a photo of the {class}.") if kind == "clip" else (NAMES, WORDING)
    torch.testing.assert_close(logits(encoder, *words), logits(SAVED[kind][2](), *words), atol=1e-5, rtol=0)
    assert not any(value.requires_grad for value in encoder.modules.parameters()) and not encoder.modules.training
    assert encoder.pixels == (Preprocess.squashed(32) if kind == "siglip" else Preprocess.square(32))


def test_a_transform_beside_a_model_is_read(tmp_path):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=2).save_pretrained(save("siglip", tmp_path))
    assert load_dual_encoder(str(tmp_path)).pixels == Preprocess(32, 32, None, (0.5,) * 3, (0.5,) * 3, 2)


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path):
    model = tiny.clip_model()
    model.save_pretrained(tmp_path, state_dict={k: v for k, v in model.state_dict().items() if k != "text_projection.weight"})
    tiny.clip_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lacks 1 weights, text_projection\.weight"):
        load_dual_encoder(str(tmp_path))


def test_a_broken_checkpoint_is_named(tmp_path):
    (save("clip", tmp_path) / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="Cannot load the dual encoder"):
        load_dual_encoder(str(tmp_path))


def test_a_model_of_another_kind_is_named(tmp_path):
    bert_model().save_pretrained(tmp_path)
    wordpiece_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of type 'bert'"):
        load_dual_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "told"), [("packaged:nothing", "Known: packaged:emoji-vit"), ("no/such-model", "no/such-model")], ids=["packaged", "hub"]
)
def test_a_name_of_nothing_is_named(name, told):
    with pytest.raises(ModelError, match=told):
        load_dual_encoder(name)


def test_a_precision_that_there_is_not_is_named(tmp_path):
    with pytest.raises(ModelError, match="float12"):
        load_dual_encoder(str(tmp_path), dtype="float12")


# -- any text encoder with any image model


def pair(folder, *, text_projection=True, pooling="first", text_pooling="mean", pooler=False, **about):
    """Save a BERT and a ViT as a pair, and return the folder and its tensors."""
    bert_model().save_pretrained(folder / "language")
    wordpiece_tokenizer().save_pretrained(folder / "language")
    vision = vit_model(add_pooling_layer=pooler)
    vision.config.save_pretrained(folder)
    draw = torch.Generator().manual_seed(1)
    weights = {f"vision.{key}": value for key, value in vision.state_dict().items()}
    weights["image_projection.weight"] = 0.2 * torch.randn(24 if text_projection else 32, 48, generator=draw)
    if text_projection:
        weights["text_projection.weight"] = 0.2 * torch.randn(24, 32, generator=draw)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors")
    held = {
        "format": "maao-dual-encoder",
        "version": 1,
        "text": {"name": "language", "pooling": text_pooling},
        "vision": {"name": ".", "pooling": pooling},
        "embed_dim": 24,
        "logit_scale": math.log(7.0),
        "image": {"size": 32, "mean": [0.5] * 3, "std": [0.25] * 3, "resample": "bilinear"},
    }
    (folder / "dual_encoder.json").write_text(json.dumps({**held, **about}), encoding="utf-8")
    return folder, vision.eval(), weights


@pytest.mark.parametrize("text_projection", [True, False])
@pytest.mark.parametrize(("pooling", "text_pooling"), [("first", "mean"), ("mean", "first"), ("last", "last"), ("pooler", "pooler")])
def test_a_pair_is_pooled_and_projected_as_its_folder_says(tmp_path, pooling, text_pooling, text_projection):
    folder, vision, weights = pair(
        tmp_path, pooling=pooling, text_pooling=text_pooling, pooler=pooling == "pooler", text_projection=text_projection
    )
    encoder = load_dual_encoder(str(folder))
    assert encoder.scale == pytest.approx(7.0) and encoder.pixels == Preprocess.square(32, mean=(0.5,) * 3, std=(0.25,) * 3, resample=2)
    one = {"first": lambda o: o.last_hidden_state[0, 0], "mean": lambda o: o.last_hidden_state[0].mean(0)}
    one |= {"last": lambda o: o.last_hidden_state[0, -1], "pooler": lambda o: o.pooler_output[0]}
    with torch.no_grad():
        images = torch.stack([weights["image_projection.weight"] @ one[pooling](vision(pixel_values=p[None])) for p in PIXELS])
        given = [wordpiece_tokenizer()(WORDING.replace("{class}", name), return_tensors="pt") for name in NAMES]
        texts = torch.stack([one[text_pooling](bert_model()(**text)) for text in given])
        texts = texts @ weights["text_projection.weight"].T if text_projection else texts
    theirs = 7 * torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=-1)
    torch.testing.assert_close(logits(encoder), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"text": {"name": "language", "pooling": "middle"}}, "unknown pooling 'middle'"),
        ({"image": {"size": 32}}, "KeyError 'mean'"),
        ({"logit_scale": "high"}, "cannot be read"),
        ({"image": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "resample": "sharp"}}, "sharp"),
    ],
    ids=["pooling", "no mean", "scale", "resample"],
)
def test_a_pair_that_says_nonsense_is_refused(tmp_path, about, told):
    folder, _, _ = pair(tmp_path, **about)
    with pytest.raises(ModelError, match=told):
        load_dual_encoder(str(folder))


def test_a_pair_whose_weights_are_of_another_model_is_refused(tmp_path):
    folder, _, weights = pair(tmp_path)
    held = {key: value for key, value in weights.items() if "layernorm" not in key} | {"vision.strange": torch.zeros(1)}
    save_file(held, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacking .*layernorm.*unknown \['strange'\]"):
        load_dual_encoder(str(folder))
    key = "vision.layernorm.weight"
    save_file({**weights, key: torch.zeros(7)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"does not fit its config\.json.*layernorm\.weight"):
        load_dual_encoder(str(folder))
    (folder / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="cannot be read"):
        load_dual_encoder(str(folder))


# -- precision, and the file that features are kept in


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", [TCP, CoCoOp, PromptSRC])
def test_half_precision_trains_params_in_single(method, dtype, tmp_path):
    encoder = load_dual_encoder(str(save("clip", tmp_path)), dtype=dtype)
    own = method(bind_classes(encoder, ClassTemplate.parse("{slots} {class}."), tiny.NAMES, 4, ["a photo of the {class}."]))
    rows = encoder.text.table[:4].float()
    params = {name: value.requires_grad_() for name, value in tiny.start(own, 0, rows).items()}
    pixels = PIXELS.to(encoder.modules.dtype)
    features = encoder.input.features(pixels)
    loss = Matcher(own).loss(params, tiny.known(features, pixels), torch.tensor([0, 1, 2]))
    loss.backward()
    assert features.dtype == loss.dtype == torch.float32
    assert all(value.grad.dtype == torch.float32 and bool(value.grad.isfinite().all()) for value in params.values())
    whole = load_dual_encoder(str(tmp_path))
    assert float((features - whole.input.features(PIXELS)).abs().max()) < 0.05


def test_features_are_kept_in_a_file_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path))
    encoder, again, other = tiny.clip_encoder(), tiny.clip_encoder(), tiny.clip_encoder()
    with torch.no_grad():
        other.modules.vision_model.encoder.layers[1].mlp.fc1.bias[3] += 1e-3
    assert feature_file(encoder) == feature_file(again) != feature_file(other)
    assert feature_file(encoder).is_relative_to(tmp_path)
