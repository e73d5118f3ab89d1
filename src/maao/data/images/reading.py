"""Read a picture as RGB, whatever it was saved as, or say what is wrong with the file."""

from __future__ import annotations

import io
import stat
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from maao.data.images.levels import Rgb, Stated, to_rgb
from maao.errors import DataError

__all__ = ["SUFFIXES", "Rgb", "decoded", "image_of", "read_image"]

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")  # none that starts a program
MOST_PIXELS = 2**30 // 12  # 89 million, as many as Pillow opens without a warning
MOST_BYTES = 2**29  # of a file: no picture of as many pixels as are read needs more
OF_SEVERAL = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # of an MPO, a camera's first picture is the picture


def read_image(path: str | Path, bits: int | None = None) -> Image.Image:
    """Return a picture file as RGB: turned as its EXIF says, transparency on white, deep grey scaled to 8 bits, CMYK and grey converted.

    Of an animation the first picture is read. A picture of one pixel is a picture: it is enlarged like any other.

    Args:
        bits: what grey of more than 8 bits uses of them where a file does not say it (a camera's 12); None: all 16.

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
    return decoded(file_bytes(path), shown(path), bits).image


def file_bytes(path: str | Path) -> bytes:
    """Return the bytes of a picture file. Raises `DataError` where there is none, it cannot be read, or it is a pipe or device."""
    file = Path(path)
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading it might never end
            raise DataError(f"{shown(path)} is a pipe or a device and no file. Remove it.")
        if (size := file.stat().st_size) > MOST_BYTES:
            raise DataError(f"{shown(path)} has {size / 1e6:,.0f} MB, and {MOST_BYTES / 1e6:,.0f} are read of a picture. Make it smaller.")
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no picture {shown(path)}.") from error
    except (OSError, ValueError) as error:  # a zero byte in the name is a ValueError
        raise DataError(f"{shown(path)} cannot be read: {ascii_only(str(error))}.") from error


def image_of(data: bytes, where: str, bits: int | None = None) -> Image.Image:
    """Return the bytes of a picture file as RGB, as `read_image` does; `where` names it in errors."""
    return decoded(data, where, bits).image


def decoded(data: bytes, where: str, bits: int | None = None) -> Rgb:
    """Return the bytes of a picture file as RGB with notes; `where` names it in errors. Raises as `read_image`."""
    if not data:
        raise DataError(f"{where} is empty. Replace or remove it.")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_formats()) as opened:
                if opened.width * opened.height > MOST_PIXELS:  # Pillow's own limit any library of the process may have lifted
                    raise DataError(f"{where} claims to have too many pixels: {opened.width} x {opened.height}. Make it smaller first.")
                stated, kind = Stated.of(opened, data), opened.format or ""
                opened.load()
                found = to_rgb(ImageOps.exif_transpose(opened), stated, where, bits)
            several = _note_on_several(data) if kind in OF_SEVERAL else ()
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{where} is no picture that can be read (known: {', '.join(SUFFIXES)}). Replace or remove it.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{where} claims to have too many pixels: {error}. Make it smaller first.") from error
    except Exception as error:  # what Pillow's readers raise on damaged files depends on the format: any error there is
        said = ascii_only(str(error)) or type(error).__name__
        raise DataError(f"{where} is broken: {said}. Replace or remove it.") from error
    damage = dict.fromkeys(f"what Pillow says of it: {ascii_only(' '.join(str(warning.message).split()))}" for warning in told)
    return found._replace(notes=(*found.notes, *several, *damage))


def shown(path: str | Path) -> str:
    """Return a path for a message: as it is, or escaped where it holds line breaks, escape codes or bytes that are no text."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def ascii_only(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # an older Pillow knows no AVIF


def _note_on_several(data: bytes) -> tuple[str, ...]:
    """Return a note on a file of several pictures. It is opened anew: counting moves what is open to its end."""
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as opened:
            return ("the first of several pictures in one file",) if getattr(opened, "n_frames", 1) > 1 else ()
    except Exception:  # the first picture is sound, and no other is read
        return ("the first of several pictures in one file, of which others are broken",)
