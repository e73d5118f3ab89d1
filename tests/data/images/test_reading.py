"""Pictures of every kind become RGB of 8 bits, or an error that names the file."""

import contextlib
import io
import random
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from maao.data.images.reading import read_image
from maao.errors import DataError


@pytest.fixture
def saved(tmp_path):
    def save(image: Image.Image, name: str = "picture.png", **options) -> Image.Image:
        image.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    return save


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)):
    assert image.mode == "RGB"
    return image.getpixel(at)


def test_grey_black_and_white_and_colour_are_read_as_they_look(saved):
    assert pixel(saved(Image.new("L", (3, 2), 77))) == (77, 77, 77)
    assert pixel(saved(Image.new("1", (3, 2), 1))) == (255, 255, 255)
    assert pixel(saved(Image.new("RGB", (3, 2), (1, 2, 3)))) == (1, 2, 3)


def test_a_palette_is_looked_up(saved):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((1, 0), 1)
    found = saved(image)
    assert pixel(found) == (0, 0, 0) and pixel(found, (1, 0)) == (10, 200, 30)


def test_transparency_lies_on_white_in_every_mode_that_has_it(saved):
    assert pixel(saved(Image.new("RGBA", (1, 2), (0, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(saved(Image.new("RGBA", (1, 2), (200, 0, 0, 255)))) == (200, 0, 0)
    half = pixel(saved(Image.new("LA", (1, 2), (0, 128))))
    assert half[0] == half[1] == half[2] and 126 <= half[0] <= 128
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert pixel(saved(palette, transparency=0)) == (255, 255, 255)
    assert pixel(saved(Image.new("RGB", (2, 1), (9, 9, 9)), transparency=(9, 9, 9))) == (255, 255, 255)
    assert pixel(saved(Image.new("L", (2, 1), 9), transparency=9)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(saved, suffix):
    values = np.array([[0, 255, 32896, 65535]], dtype=np.uint16)
    found = saved(Image.fromarray(values), f"deep.{suffix}")
    assert [pixel(found, (x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


def test_a_dark_picture_of_sixteen_bits_stays_dark(saved):
    found = saved(Image.fromarray(np.array([[0, 100, 200]], dtype=np.uint16)), "dark.pgm")
    assert {pixel(found, (x, 0))[0] for x in range(3)} <= {0, 1}


def test_numbers_without_a_known_range_are_refused(saved):
    with pytest.raises(DataError, match=r"wide\.tif holds numbers from 0 to 70000"):
        saved(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "wide.tif")
    with pytest.raises(DataError, match=r"float\.tif holds numbers from 0 to 200"):
        saved(Image.fromarray(np.array([[0, 200]], dtype=np.float32)), "float.tif")
    with pytest.raises(DataError, match=r"nan\.tif holds numbers from nan"):
        saved(Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)), "nan.tif")
    assert pixel(saved(Image.fromarray(np.array([[1.0, 0.0]], dtype=np.float32)), "unit.tif")) == (255, 255, 255)


def test_cmyk_keeps_its_colours(saved):
    red = pixel(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "print.jpg", quality=100))
    assert red[0] > 200 and max(red[1:]) < 80
    white = pixel(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "white.tif"))
    assert white == (255, 255, 255)


def test_the_orientation_of_exif_is_applied(saved):
    image = Image.new("RGB", (4, 2), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 1, 2))  # the left column is black
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    found = saved(image, exif=exif)
    assert found.size == (2, 4)
    assert pixel(found, (0, 0)) == (0, 0, 0) and pixel(found, (0, 3)) == (255, 255, 255)


def test_one_pixel_is_a_picture(saved):
    assert saved(Image.new("RGB", (1, 1), (4, 5, 6))).size == (1, 1)


def test_of_an_animation_the_first_picture_is_read(saved):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    assert pixel(saved(frames[0], "moving.gif", save_all=True, append_images=frames[1:])) == (255, 0, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "There is no picture"), (b"", "is empty"), (b"these are words", "is no picture"), (b"\x89PNG\r\n\x1a\n", "is no picture")],
)
def test_what_is_no_picture_is_named(tmp_path, content, said):
    path = tmp_path / "wrong.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert "wrong.png" in str(caught.value)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of damaged tags
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "webp", "tiff"])
def test_a_file_cut_off_is_broken_and_damage_raises_nothing_else(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    whole = stream.getvalue()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cut\.{kind} is (broken|no picture)"):
        read_image(path)
    dice = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[dice.randrange(min(len(whole), 300))] = dice.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            assert read_image(path).mode == "RGB"


def test_too_many_pixels_are_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with pytest.raises(DataError, match=r"huge\.png claims to have too many pixels"):
        read_image(tmp_path / "huge.png")


def test_without_pillow_the_extra_is_named():
    code = "import sys; sys.modules['PIL'] = None; import maao.data.images"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1 and 'DataError: Reading pictures needs Pillow. Install it with: pip install "maao[vision]"' in found.stderr
