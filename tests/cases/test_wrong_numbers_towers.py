"""Vision towers: what is computed for a class or picture is what plain transformers computes for it alone."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from maao.errors import DataError, ModelError
from maao.problems.towers.class_prompts import ClassTemplate, prompts_of
from maao.problems.towers.dual_loading import _own_features, from_transformers, load_dual_encoder, paired
from maao.problems.towers.image.preprocess import Preprocess
from tests import tiny_vision as tiny
from tests.problems.vision.other_towers import other_encoder, sentence_pieces, siglip_model, vision_text_model, vit_model
from tests.tiny import wordpiece_tokenizer

NAMES = ("music", "bank", "music bank growth", "growth music bank music growth")
LETTERS = ("cat", "sea lion", "dog", "small drawing lion")
ENCODERS = {
    "clip": (tiny.clip_model, tiny.clip_tokenizer, LETTERS),
    "clip, legacy end": (lambda: tiny.clip_model(legacy=True), tiny.clip_tokenizer, LETTERS),
    "siglip": (siglip_model, sentence_pieces, NAMES),
    "vision-text": (vision_text_model, wordpiece_tokenizer, NAMES),
}


def classes(encoder, names):
    prompts = prompts_of(ClassTemplate.parse("{class}"), encoder.text.tokenizer, names, 0, encoder.text.most)
    return encoder.text.features(prompts)


@pytest.mark.parametrize("kind", ENCODERS)
def test_l_a_class_alone_beside_others_and_in_plain_transformers(kind):
    make, tokens, names = ENCODERS[kind]
    model, tokenizer = make(), tokens()
    encoder = from_transformers(model, tokenizer, "tiny", pixels=Preprocess.square(32))
    with torch.no_grad():
        beside = classes(encoder, names)
        alone = torch.cat([classes(encoder, [name]) for name in names])
        theirs = torch.cat([_own_features(model, tokenizer, name, encoder.text.most, whole=kind == "siglip") for name in names])
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, theirs, atol=1e-5, rtol=0)
    assert (beside[0] - beside[1]).abs().max() > 1e-3 and not encoder.text.by_length


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_l_a_picture_alone_beside_others_and_in_plain_transformers(kind):
    model = tiny.clip_model() if kind == "clip" else tiny.siglip_model()
    encoder = from_transformers(model, tiny.clip_tokenizer(), "tiny", pixels=Preprocess.square(32))
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        beside = encoder.input.features(pixels)
        alone = torch.cat([encoder.input.features(one[None]) for one in pixels])
        theirs = model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, theirs / theirs.norm(dim=-1, keepdim=True), atol=1e-5, rtol=0)


def test_l_a_picture_does_not_move_the_statistics_of_a_batch_norm():
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    resnet = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")).train()
    text = vision_text_model().text_model
    encoder = paired(
        resnet, text, wordpiece_tokenizer(), torch.randn(24, 16), torch.randn(24, 32), "pooler", "mean", scale=1.0,
        pixels=Preprocess.square(32), name="tiny",
    )  # fmt: skip
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        beside = encoder.input.features(pixels)
        alone = torch.cat([encoder.input.features(one[None]) for one in pixels])
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)


class _PaddingCounts(torch.nn.Module):
    """A text model that reads padding too, whatever its mask says, as ConvBERT's convolutions do."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=torch.ones_like(attention_mask))


def test_l_texts_run_by_length_where_padding_would_change_them():
    text = _PaddingCounts(vision_text_model().text_model)
    draw = torch.Generator().manual_seed(0)
    projections = [torch.randn(24, width, generator=draw) for width in (48, 32)]
    encoder = paired(
        vit_model(add_pooling_layer=False), text, wordpiece_tokenizer(), *projections, "first", "first", scale=1.0,
        pixels=Preprocess.square(32), name="tiny",
    )  # fmt: skip
    assert encoder.text.by_length
    prompts = prompts_of(ClassTemplate.parse("{slots} {class}"), encoder.text.tokenizer, NAMES, 2, encoder.text.most)
    rows = torch.randn(4, 2, 32, generator=draw)
    with torch.no_grad():
        beside = encoder.text.features(prompts, rows)
        alone = torch.cat([encoder.text.features([prompt], rows[i : i + 1]) for i, prompt in enumerate(prompts)])
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)
    assert encoder.text.num_tokens(prompts) == sum(len(prompt.ids) for prompt in prompts)


def test_l_a_model_that_reads_another_token_than_the_end_is_refused():
    model = tiny.clip_model()
    model.text_model.eos_token_id = 5
    with pytest.raises(ModelError, match="eos_token_id"):
        from_transformers(model, tiny.clip_tokenizer(), "tiny", pixels=Preprocess.square(32))


def test_l_a_tokenizer_that_pads_on_the_other_side_is_refused():
    tokenizer = copy.deepcopy(sentence_pieces())
    tokenizer.padding_side = "left"
    with pytest.raises(ModelError, match="padding_side"):
        from_transformers(siglip_model(), tokenizer, "tiny", pixels=Preprocess.square(32))


def test_l_a_class_name_longer_than_the_context_is_refused():
    encoder = other_encoder("sentence pieces")
    with pytest.raises(DataError, match="shorten the class name"):
        classes(encoder, ["music " * 50])


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 41, 3), dtype=np.uint8))
SETTINGS = [
    ("clip", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}),
    ("clip", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_normalize": False}),
    ("clip", {"size": {"shortest_edge": 30}, "crop_size": {"height": 32, "width": 36}, "resample": 2, "image_std": [0.1, 0.2, 0.3]}),
    ("siglip", {"size": {"height": 32, "width": 24}}),
    ("vit", {"size": {"height": 32, "width": 32}}),
]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("form", ["preprocessor", "processor", "only what differs"])
def test_l_pixels_are_those_of_the_models_own_image_processor(kind, settings, form, tmp_path):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    theirs = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil, "vit": ViTImageProcessorPil}[kind](**settings)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    if form == "processor":
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(file.read_text())}))
        file.write_text(json.dumps({"size": 7}))
    elif form == "only what differs":
        file.write_text(json.dumps({"image_processor_type": json.loads(file.read_text())["image_processor_type"], **settings}))
    ours = Preprocess.from_folder(tmp_path, Preprocess.square(7)).pixels(PICTURE)
    expected = torch.as_tensor(np.asarray(theirs(PICTURE, return_tensors="pt").pixel_values[0]))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"do_rescale": False}, "do_rescale"),
        ({"rescale_factor": 0.5}, "rescale_factor"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"do_center_crop": False}, "any shape"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "does not set image_mean"),
        ({"size": "big"}, "cannot be understood"),
    ],
)
def test_l_a_transform_that_is_not_followed_is_refused(settings, said, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": 32, **settings}))
    with pytest.raises(ModelError, match=said):
        Preprocess.from_folder(tmp_path, Preprocess.square(7))


def test_l_siglip_without_a_file_has_siglips_transform_and_sizes_must_fit(tmp_path):
    siglip_model().save_pretrained(tmp_path)
    sentence_pieces().save_pretrained(tmp_path)
    assert load_dual_encoder(str(tmp_path)).pixels == Preprocess(32, 32, None, (0.5,) * 3, (0.5,) * 3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 48}, "crop_size": 48}))
    with pytest.raises(ModelError, match="cannot read pictures of 48 x 48 pixels"):
        load_dual_encoder(str(tmp_path))
