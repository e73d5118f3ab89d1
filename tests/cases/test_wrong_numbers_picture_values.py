"""The values of a picture's pixels, computed by hand from what was saved."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maao.data.images import load_folder
from maao.data.images.reading import Rgb, decoded
from maao.errors import DataError
from tests.data.images.test_folder_rules import fill


def saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(data: bytes, bits: int | None = None) -> Rgb:
    return decoded(data, "x", bits)


def grey(data: bytes, bits: int | None = None) -> list[int]:
    pixels = np.asarray(read(data, bits).image)
    assert pixels.ndim == 3 and (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def row(values, kind) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=kind))


def by_hand(values, white: float) -> list[int]:
    return [int(np.floor(value / white * 255 + 0.5)) for value in values]


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_l11_few_bits_in_sixteen_are_scaled_by_the_depth_of_their_source(kind, bits):
    white = 2**bits - 1
    values = [0, white // 7, white // 2, white - 1]
    data = saved(row(values, np.uint16), kind)
    assert grey(data, bits) == by_hand(values, white) and read(data).needs == bits


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_l11_a_picture_alone_is_never_brightened(kind):
    for values in ([0, 100, 4000], [0, 300, 65535], [0, 0, 0], [1, 2, 255]):
        data = saved(row(values, np.uint16), kind)
        assert grey(data) == by_hand(values, 65535) and read(data).notes == ()


def test_l11_wide_integers_of_0_to_255_keep_their_values():
    values = [0, 3, 200, 255]
    assert grey(saved(row(values, np.int32), "tiff")) == values
    assert grey(saved(row([0, 3, 256], np.int32), "tiff")) == by_hand([0, 3, 256], 65535)


def test_l11_a_depth_that_does_not_hold_a_picture_is_refused():
    with pytest.raises(DataError, match=r"x has grey up to 4096, which 12 bits do not hold \(data.bits = 12: 4095 is white\).*= 14"):
        read(saved(row([0, 4096], np.uint16), "png"), 12)


def test_l11_fractions_are_0_to_1():
    values = [0.0, 0.25, 0.5, 1.0]
    assert grey(saved(row(values, np.float32), "tiff")) == by_hand(values, 1)


def test_l11_what_a_file_says_is_white_is_white():
    # TIFF's tag MaxSampleValue
    dark = saved(row([0, 1000, 2000], np.uint16), "tiff", tiffinfo={281: 65535})
    assert grey(dark) == by_hand([0, 1000, 2000], 65535) and read(dark).notes == ()
    # the head of a PGM
    pgm = b"P5 3 1 4095\n" + struct.pack(">3H", 0, 1000, 4095)
    assert grey(pgm) == pytest.approx(by_hand([0, 1000, 4095], 4095), abs=1)
    deep = b"P5 2 1 65535\n" + struct.pack(">2H", 0, 1000)
    assert grey(deep) == by_hand([0, 1000], 65535)


def tiff(values: list[int], *, big: bool, photometric: int) -> bytes:
    """Return a TIFF of one row of 16-bit grey, written by hand."""
    order = ">" if big else "<"
    pixels = struct.pack(f"{order}{len(values)}H", *values)
    tags = [
        (256, 3, len(values)), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 3, 1),
        (279, 4, len(pixels)),
    ]  # fmt: skip
    head = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, 8 + len(pixels))
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *([n, 0] if kind == 3 else [n]))
        for tag, kind, n in tags
    )
    return head + pixels + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)


def test_l11_both_byte_orders_and_white_at_zero():
    values = [0, 1000, 30000, 65535]
    assert grey(tiff(values, big=True, photometric=1)) == grey(tiff(values, big=False, photometric=1)) == by_hand(values, 65535)
    inverted = by_hand([65535 - value for value in values], 65535)
    assert grey(tiff(values, big=False, photometric=0)) == pytest.approx(inverted, abs=1)


def png16(pixels: np.ndarray, color: int) -> bytes:
    """Return a PNG of 16 bits a channel, written by hand; `pixels` (height, width, channels)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_l11_colors_of_sixteen_bits_that_hold_twelve_are_refused():
    full = np.array([[[0, 30000, 65535], [65535, 256, 512]]])
    assert np.asarray(read(png16(full, 2)).image).tolist() == (full >> 8).tolist()
    for color, channels in ((2, 3), (6, 4)):
        dark = np.full((2, 2, channels), 4095)
        dark[..., 3:] = 65535
        with pytest.raises(DataError, match="lowest 12 or fewer"):
            read(png16(dark, color))


def test_l11_one_bit_and_palettes():
    assert grey(saved(Image.fromarray(np.array([[False, True]])), "png")) == [0, 255]
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    clear = saved(image, "png", transparency=bytes([255, 0, 128]))
    found = np.asarray(read(clear).image)[0].tolist()
    assert found[:2] == [[10, 20, 30], [255, 255, 255]]
    assert found[2] == pytest.approx([round(value * 128 / 255 + 255 * 127 / 255) for value in (70, 80, 90)], abs=1)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_l11_transparency_lies_on_white(mode):
    color, alpha = 100, 64
    value = (color, alpha) if mode == "LA" else (color, color, color, alpha)
    expected = round(color * alpha / 255 + 255 * (255 - alpha) / 255)
    assert grey(saved(Image.new(mode, (1, 1), value), "png")) == pytest.approx([expected], abs=1)


def test_l11_cmyk_is_what_pillow_and_so_transformers_make_of_it():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]]
    assert np.asarray(read(saved(Image.fromarray(inks, "CMYK"), "tiff")).image)[0].tolist() == expected
    flat = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "jpeg", quality=100)
    assert np.abs(np.asarray(read(flat).image)[0, 0].astype(int) - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_l11_all_eight_orientations_of_exif(turn):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    upright = {
        1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.T, 6: np.rot90(array, -1), 7: array[::-1, ::-1].T,
        8: np.rot90(array),
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    assert np.array_equal(np.asarray(read(saved(Image.fromarray(array), "png", exif=exif)).image)[..., 0], upright)


@pytest.mark.parametrize("kind", ["gif", "tiff", "webp", "png"])
def test_l11_of_several_pictures_the_first_is_read_and_that_is_told(kind):
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if kind == "webp" else {}
    found = read(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert np.asarray(found.image)[0, 0].tolist() == [255, 0, 0] and found.notes == ("the first of several pictures in one file",)
    assert read(saved(frames[0], kind)).notes == ()


def test_l11_color_profiles_leave_pixels_as_models_were_trained_on_them():
    from PIL import ImageCms

    image = Image.new("RGB", (2, 2), (200, 100, 50))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert np.asarray(read(saved(image, "png", icc_profile=profile)).image)[0, 0].tolist() == [200, 100, 50]


def test_l11_a_folder_tells_what_was_scaled(tmp_path: Path):
    fill(tmp_path)
    (tmp_path / "cat" / "deep.png").write_bytes(saved(row([0, 4000], np.uint16), "png"))
    frames = [Image.new("L", (4, 4), shade) for shade in (1, 2)]
    (tmp_path / "dog" / "moving.gif").write_bytes(saved(frames[0], "gif", save_all=True, append_images=frames[1:]))
    notes = load_folder(tmp_path, shots=2).notes
    assert any(note.startswith("1 pictures: grey") and "12 bits" in note and "'cat/deep.png'" in note for note in notes)
    assert any(note.startswith("1 pictures: the first of several") and "'dog/moving.gif'" in note for note in notes)


@pytest.mark.parametrize("parts", [False, True])
def test_l11_a_dark_or_a_black_picture_is_scaled_as_those_beside_it(tmp_path: Path, parts: bool):
    """511 in a folder of 12 bits is nearly black; by itself it would be taken for white of 10 bits."""
    first, second = (tmp_path / "train", tmp_path / "test") if parts else (tmp_path, tmp_path)
    for folder in {first, second}:
        fill(folder)
    frames = {
        first / "dog" / "dark.png": [0, 511],
        first / "cat" / "black.png": [0, 0],
        second / "cat" / "deep.png": [0, 4000],
    }
    for path, values in frames.items():
        path.write_bytes(saved(row(values, np.uint16), "png"))
    said = first / "dog" / "said.tif"  # which says what is white: the depth of the others is nothing to it
    said.write_bytes(saved(row([0, 60000], np.uint16), "tiff", tiffinfo={281: 65535}))
    task = load_folder(tmp_path, shots=2)
    for path, values in {**frames, said: [0, 60000]}.items():
        white = 65535 if path == said else 4095
        shades = np.asarray(task.source.open(path.relative_to(tmp_path).as_posix()))[0, :, 0].tolist()
        assert shades == by_hand(values, white)
    (note,) = [note for note in task.notes if "12 bits" in note]
    deep = (second / "cat" / "deep.png").relative_to(tmp_path).as_posix()
    assert task.bits == 12 and note.startswith("3 pictures: ") and f"as '{deep}' needs; data.bits sets another depth" in note


def test_l11_black_pictures_alone_give_no_depth(tmp_path: Path):
    fill(tmp_path)
    (tmp_path / "cat" / "black.png").write_bytes(saved(row([0, 0], np.uint16), "png"))
    task = load_folder(tmp_path, shots=2)
    assert task.bits is None and not any("grey" in note for note in task.notes)


def test_l11_the_depth_of_a_folder_can_be_set(tmp_path: Path):
    fill(tmp_path)
    (tmp_path / "cat" / "deep.png").write_bytes(saved(row([0, 4000], np.uint16), "png"))
    task = load_folder(tmp_path, shots=2, bits=16)
    assert np.asarray(task.source.open("cat/deep.png"))[0, :, 0].tolist() == by_hand([0, 4000], 65535)
    assert task.bits == 16 and any("16 bits, 65535 being white, as data.bits says" in note for note in task.notes)
    with pytest.raises(DataError, match=r"deep.png has grey up to 4000, which 8 bits do not hold"):
        load_folder(tmp_path, shots=2, bits=8)


def with_significant_bits(data: bytes, bits: int) -> bytes:
    """Return a grey PNG file with the chunk sBIT behind its head."""
    chunk = b"sBIT" + bytes([bits])
    return data[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize(
    ("values", "bits", "wanted"),
    [
        ([0, 1285, 2570], 16, [0, 5, 10]),  # a dark picture of 16 bits: it stays dark
        ([0, 16, 1600], 12, [0, 0, 6]),  # 12 bits, scaled up to 16 as PNG wants it
        ([0, 1607, 4095], 12, [0, 100, 255]),  # 12 bits, not scaled up
        ([0, 161, 410], 12, [0, 10, 26]),  # the same, a tenth as bright
        ([0, 32896, 65535], 12, [0, 128, 255]),
    ],
)
def test_l11_a_png_that_says_how_many_bits_it_uses_is_scaled_by_them(values, bits, wanted):
    data = with_significant_bits(saved(row(values, np.uint16), "png"), bits)
    assert grey(data) == wanted and read(data).notes == ()
