"""Read a picture as RGB, whatever it was saved as, or say what is wrong with the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from maao.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_image(path: str | Path) -> Image.Image:
    """Return a picture file as RGB: turned as its EXIF says, transparency on white, 16 bits scaled to 8, CMYK and grey converted.

    Of an animation the first picture is read. A picture of one pixel is a picture: it is enlarged like any other.

    Raises:
        DataError: there is no such file, it is empty, it is no picture, or it is broken.
    """
    file = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                opened.load()
                return as_rgb(ImageOps.exif_transpose(opened))
    except FileNotFoundError as error:
        raise DataError(f"There is no picture {file}.") from error
    except UnidentifiedImageError as error:
        empty = file.stat().st_size == 0
        told = "is empty" if empty else f"is no picture that can be read (known: {', '.join(SUFFIXES)})"
        raise DataError(f"{file} {told}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{file} claims to have too many pixels: {error}. Make it smaller first.") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{file} is broken: {error}. Replace or remove it.") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB of 8 bits."""
    if image.mode in SIXTEEN:
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode != "I" or values.max(initial=0) > 255 else 255.0
        return Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 1.0 if values.max(initial=0) <= 1 else 255.0
        return Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        own = image.convert("RGBA")
        white = Image.new("RGBA", own.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, own).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
