"""Read a picture as RGB, whatever it was saved as, or say what is wrong with the file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maao.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # Pillow opens 16-bit PGM, and some TIFF, as "I"
BROKEN = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, struct.error, zlib.error, MemoryError)


def read_image(path: str | Path) -> Image.Image:
    """Return a picture file as RGB: turned as its EXIF says, transparency on white, 16 bits scaled to 8, CMYK and grey converted.

    Of an animation the first picture is read. A picture of one pixel is a picture: it is enlarged like any other.

    Raises:
        DataError: there is no such file, it is empty, it is no picture, or it is broken.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "grey.png")
        ...     Image.new("L", (3, 2), 128).save(path)
        ...     read_image(path).getpixel((0, 0))
        (128, 128, 128)
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no picture {file}.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    return image_of(data, str(file))


def image_of(data: bytes, where: str) -> Image.Image:
    """Return the bytes of a picture file as RGB, as `read_image` does; `where` names it in errors."""
    if not data:
        raise DataError(f"{where} is empty. Replace or remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                return as_rgb(ImageOps.exif_transpose(opened), where)
    except UnidentifiedImageError as error:
        raise DataError(f"{where} is no picture that can be read (known: {', '.join(SUFFIXES)}). Replace or remove it.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{where} claims to have too many pixels: {error}. Make it smaller first.") from error
    except BROKEN as error:  # what Pillow's readers raise on damaged files depends on the format
        raise DataError(f"{where} is broken: {error}. Replace or remove it.") from error


def as_rgb(image: Image.Image, where: str = "The picture") -> Image.Image:
    """Return a picture of any mode as RGB of 8 bits.

    16-bit grey is scaled by its full range (65535 becomes 255), however little of it the picture uses.

    Raises:
        DataError: its numbers have no known range: integers beyond 16 bits, or fractions outside 0 to 1.
    """
    if image.mode in GREY_16 or image.mode == "F":
        top = 1.0 if image.mode == "F" else 65535.0
        values = np.asarray(image, dtype=np.float64)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= top):  # also where one is not a number
            raise DataError(
                f"{where} holds numbers from {low:g} to {high:g}, but in its format black to white is 0 to {top:g}: save it with 8 bits."
            )
        if isinstance(clear := image.info.get("transparency"), int):
            values = np.where(values == clear, top, values)  # on white
        return Image.fromarray((values / top * 255 + 0.5).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        own = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", own.size, (255, 255, 255, 255)), own).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
