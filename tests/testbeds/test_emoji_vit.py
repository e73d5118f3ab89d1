"""The packaged emoji tower: it is small, it loads, it is the same each time, and it knows more than chance of a style it never saw."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

import maao
from maao.problems.scorers.matcher import class_anchors
from maao.problems.towers.dual_loading import load_dual_encoder

FOLDER = Path(maao.__file__).parent / "testbeds" / "emoji_vit"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def encoder():
    return load_dual_encoder("packaged:emoji-vit")


def test_it_is_small_and_says_what_it_is(encoder):
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    assert sum(value.numel() for value in encoder.input.model.parameters()) <= 4_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "not CLIP" in card and "Noto" in card and "Apache-2.0" in card


def test_it_is_the_same_each_time(encoder):
    assert encoder.digest == load_dual_encoder("packaged:emoji-vit").digest


GOLDEN = (0.02515, 0.01943, -0.05871, -0.05322, 0.10523, -0.05447, -0.08619, 0.03252)  # stored when the tower was packaged


def test_a_picture_has_the_feature_that_it_had_when_the_tower_was_packaged(encoder):
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((200, 40, 30), (8, 20, 40, 56))
    picture.paste((30, 60, 200), (30, 8, 58, 30))
    with torch.no_grad():
        feature = encoder.input.features(encoder.pixels.pixels(picture)[None])[0]
    torch.testing.assert_close(feature[:8], torch.tensor(GOLDEN), atol=2e-4, rtol=0)


def test_a_yellow_disc_is_a_face_rather_than_a_tool(encoder):
    picture = Image.new("RGB", (64, 64), "white")
    yellow = [(x, y) for x in range(64) for y in range(64) if (x - 32) ** 2 + (y - 32) ** 2 < 28**2]
    for at in yellow:
        picture.putpixel(at, (255, 204, 50))
    for at in ((22, 26), (42, 26)):
        for x in range(-3, 4):
            for y in range(-5, 6):
                picture.putpixel((at[0] + x, at[1] + y), (90, 50, 20))
    anchors = class_anchors(encoder, ("face smiling", "tool", "place building"), ["an emoji of {class}."])
    with torch.no_grad():
        feature = encoder.input.features(encoder.pixels.pixels(picture)[None])
    assert int(encoder.logits(feature, anchors).argmax()) == 0


HAS_EMOJI = Path(os.environ.get("MAAO_DATA", "data"), "emoji", "emoji.json").is_file()


@pytest.mark.skipif(not HAS_EMOJI, reason="MAAO_DATA holds no emoji data (docs/image-data.md)")
def test_it_names_twemoji_drawings_far_above_chance(encoder):
    from maao.data.images import load_emoji

    task = load_emoji(seed=11)
    anchors = class_anchors(encoder, task.class_names, ["an emoji of {class}."])
    pixels = torch.stack([encoder.pixels.pixels(task.source.open(e.fields["image"])) for e in task.splits.select])
    with torch.no_grad():
        read = encoder.logits(encoder.input.features(pixels), anchors).argmax(-1)
    right = read == torch.tensor([task.splits.labels.index(e.label) for e in task.splits.select])
    assert float(right.float().mean()) > 0.2  # chance is 1 in 24
