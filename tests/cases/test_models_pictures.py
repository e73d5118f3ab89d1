"""Damaged, odd and huge pictures: each is a bad picture that is named, none ends a run by surprise or takes memory without bound."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

from maao.data.images import load_folder
from maao.data.images.reading import decoded, read_image
from maao.errors import DataError
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.image import features as kept
from maao.problems.towers.image import preprocess
from maao.problems.towers.image.features import Pictures
from maao.problems.towers.image.preprocess import Preprocess
from maao.report.contact_sheet import contact_sheet
from maao.types import Example, Mistake
from tests import tiny_vision as tiny
from tests.data.images.test_folder_rules import fill, refused

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def saved(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    NOISE.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_m11_a_damaged_avif_called_jpg_is_a_bad_picture(tmp_path):
    fill(tmp_path)
    whole = saved("avif")
    (tmp_path / "cat" / "whole.jpg").write_bytes(whole)
    damaged = bytearray(whole)
    at = whole.index(b"mdat") + 4
    damaged[at : at + 40] = b"\xff" * 40  # libavif raises a RuntimeError
    (tmp_path / "cat" / "photo.jpg").write_bytes(damaged)
    text = refused(tmp_path)
    assert "1 pictures cannot be read" in text and "photo.jpg is broken" in text
    assert any("photo.jpg" in note for note in load_folder(tmp_path, shots=2, skip_bad=True).notes)


ERRORS = (
    RuntimeError("decoder"), SyntaxError("not a TIFF"), struct.error("unpack"), OSError("truncated"), ValueError("bad"), MemoryError(),
    zlib.error("stream"), EOFError(), NotImplementedError(), AttributeError("x"), AssertionError(), ZeroDivisionError("division"),
    OverflowError("int"), RecursionError("deep"), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), KeyError("tag"),
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_m11_whatever_a_reader_raises_the_picture_is_named(tmp_path, monkeypatch, error):
    fill(tmp_path)
    (tmp_path / "cat" / "odd.bmp").write_bytes(saved("bmp"))
    from PIL.BmpImagePlugin import BmpImageFile

    def load(self):
        raise error

    monkeypatch.setattr(BmpImageFile, "load", load)
    assert "odd.bmp is broken" in refused(tmp_path)
    assert any("odd.bmp" in note for note in load_folder(tmp_path, shots=2, skip_bad=True).notes)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "webp", "tiff", "avif", "jpeg2000"])
def test_m11_damage_anywhere_is_a_picture_or_a_reason(kind):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    whole, dice = saved(kind), random.Random(1)
    with pytest.raises(DataError, match=r"x is (broken|no picture)"):
        decoded(whole[: len(whole) // 2], "x")
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(6):
            damaged[dice.randrange(len(whole))] = dice.randrange(256)
        with contextlib.suppress(DataError):
            assert decoded(bytes(damaged), "x").image.mode == "RGB"


def test_m11_what_pillow_warns_of_is_a_note():
    exif = Image.Exif()
    exif[0x0112] = 1
    data = bytearray(saved("jpeg", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    data[at + 8 : at + 10] = b"\xff\xff"  # more tags than there are
    found = decoded(bytes(data), "x")
    assert found.image.size == (40, 40) and all("Pillow says" in note for note in found.notes)


def test_m11_a_picture_that_would_start_a_program_is_not_opened():
    with pytest.raises(DataError, match="is no picture"):
        decoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "x")


def test_m11_too_many_pixels_are_told():
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(DataError, match="too many pixels"):
        decoded(b"\x89PNG\r\n\x1a\n" + chunk + idat, "x")


@pytest.mark.parametrize("size", [(1500, 7), (5, 1501), (1900, 60), (60, 1900), (2000, 1), (1, 2000)])
@pytest.mark.parametrize("to", [Preprocess(32, 32, 32), Preprocess(32, 32, 40), Preprocess(48, 48, 40)])
def test_m11_a_middle_cut_before_resizing_is_that_cut_after(size, to, monkeypatch):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    whole = Preprocess(to.height, to.width, to.shortest, (0.0,) * 3, (1 / 255,) * 3)
    expected = whole.pixels(image)
    monkeypatch.setattr(preprocess, "MOST_RESIZED", 0)
    apart = (whole.pixels(image) - expected).abs()
    assert apart.max() <= 1.001 and (apart > 0.5).float().mean() < 4e-3  # one level, where a half is rounded the other way


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (100_000, 2)])
def test_m11_long_pictures_take_little_memory(size, monkeypatch):
    sizes = []
    resized = Image.Image.resize

    def resize(self, size, *args, **named):
        sizes.append(size)
        return resized(self, size, *args, **named)

    monkeypatch.setattr(Image.Image, "resize", resize)
    found = Preprocess.square(224, mean=(0.0,) * 3, std=(1.0,) * 3).pixels(Image.new("RGB", size, (51, 102, 153)))
    assert max(wide * high for wide, high in sizes) <= 224 * 224
    torch.testing.assert_close(found[:, ::50, ::50], torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 5, 5))


def test_m11_few_large_pictures_are_held_at_a_time(monkeypatch):
    held, most = [0], [0]

    class Large(tiny.Pictures):
        def open(self, key):
            held[0] += 1
            most[0] = max(most[0], held[0])
            return super().open(key)

    monkeypatch.setattr(kept, "HELD_BYTES", 40 * 36 * 4)
    filled = Pictures._fill

    def fill_part(self, images, store):
        filled(self, images, store)
        held[0] = 0

    monkeypatch.setattr(Pictures, "_fill", fill_part)
    encoder, keys = tiny.clip_encoder(), [f"cat/{i}" for i in range(5)]
    found = Pictures(encoder, Large(), keys, views=1).fill(FeatureStore(None))
    assert most[0] == 2 and found.computed == 10
    monkeypatch.setattr(kept, "HELD_BYTES", 2**28)
    at_once = Pictures(encoder, tiny.Pictures(), keys, views=1).fill(FeatureStore(None))
    torch.testing.assert_close(found.features, at_once.features, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.view_features, at_once.view_features, atol=1e-6, rtol=0)


def test_m11_deep_grey_takes_no_wide_numbers():
    stream = io.BytesIO()
    Image.fromarray(np.full((1000, 1000), 40000, dtype=np.uint16)).save(stream, "tiff")
    tracemalloc.start()
    decoded(stream.getvalue(), "x")
    assert tracemalloc.get_traced_memory()[1] < 8_000_000  # in doubles it would be twice 8 MB
    tracemalloc.stop()


def test_m11_a_sheet_of_odd_pictures_and_names():
    pictures = {"long": Image.new("RGB", (20000, 1)), "dot": Image.new("RGB", (1, 1))}
    found = [Mistake(Example({"image": key}, "sea\nlion " * 9), "x" * 300, 0.9, 0.1) for key in pictures]
    assert contact_sheet(found, lambda example: pictures[example.fields["image"]]).height > 128


@pytest.mark.parametrize("name", ["nul\0.png", "x" * 5000 + ".png", "\udce9.png"])
def test_m12_names_that_no_file_can_have_are_told(tmp_path, name):
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).isprintable()


def test_m11_a_pipe_is_a_bad_picture_and_does_not_stop_the_run(tmp_path):
    fill(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    assert "pipe.png is a pipe or a device and no file" in refused(tmp_path)
    assert any("pipe.png" in note for note in load_folder(tmp_path, shots=2, skip_bad=True).notes)
