"""From the numbers of a picture to RGB of 8 bits: which number is white, what is transparent, which way round grey goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from maao.errors import DataError

GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # Pillow opens 16-bit PGM, and some TIFF, as "I"
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give
BITS_SETTING = "data.bits"
BITS_PER_SAMPLE, PHOTOMETRIC, MAX_SAMPLE = 258, 262, 281  # tags of TIFF
WHITE_IS_ZERO = 0
FULL_16 = 65535
LEAST_BRIGHT = 16  # below it 16 bits of a color hold 12 bits or fewer


@dataclass(frozen=True, slots=True)
class Stated:
    """What a file says of its numbers.

    `white` is the number that it calls white (None: nothing said), `inverted` that 0 is white, `cut` that it holds colors of 16 bits, of
    which Pillow keeps the upper eight; `perhaps` is what is white if its numbers were not scaled up to 16 bits, as its format wants it;
    `wide` that its numbers take more than 16 bits each.
    """

    white: int | None = None
    inverted: bool = False
    cut: bool = False
    perhaps: int = FULL_16
    wide: bool = False

    @classmethod
    def of(cls, opened: Image.Image, data: bytes) -> Stated:
        """Return what an opened file of these bytes says; its pixels must not be loaded yet."""
        cut = opened.mode in ("RGB", "RGBA") and any(";16" in str(tile.args) for tile in getattr(opened, "tile", ()))
        if opened.format == "PPM":
            return cls(FULL_16, cut=False)  # Pillow has scaled by what the file's head calls white
        if opened.format == "PNG" and (bits := _significant_bits(data)):
            # The format wants numbers scaled up to 16 bits; the lower bits of small ones are zeros then, or they were not scaled up.
            return cls(FULL_16, cut=cut, perhaps=2 ** min(bits, 16) - 1)
        if opened.format != "TIFF":
            return cls(cut=cut)
        tags = opened.tag_v2  # type: ignore[attr-defined]
        largest, bits = tags.get(MAX_SAMPLE), tags.get(BITS_PER_SAMPLE, (8,))[0]
        white = int(largest[0] if isinstance(largest, tuple) else largest) if largest else None
        if white is None and 8 < bits < 16:
            white = 2**bits - 1
        return cls(white, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO, cut, wide=bits > 16)


def _significant_bits(data: bytes) -> int | None:
    """Return what the chunk sBIT of a PNG file says of its first channel; None: there is none."""
    at = 8
    while at + 8 <= len(data) and (kind := data[at + 4 : at + 8]) != b"IDAT":
        if kind == b"sBIT" and at + 8 < len(data):
            return data[at + 8]
        at += 12 + int.from_bytes(data[at : at + 4])
    return None


class Rgb(NamedTuple):
    """A picture as RGB of 8 bits, notes on how, and how many bits its grey needs where its file does not say what is white.

    `needs` is None where the file says it, or its numbers are of 8 bits; 0 for a black picture, which goes with any depth.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()
    needs: int | None = None


def to_rgb(image: Image.Image, stated: Stated, where: str, bits: int | None = None) -> Rgb:
    """Return a picture of any mode as RGB of 8 bits, and which depth its grey needs where its file says none.

    Grey of more than 8 bits: white is what the file calls so; else the largest number of `bits` bits, the depth of the source that the
    picture comes from. Where that is not known, it is 16, but 8 for numbers of 32 bits that stay below 256. No picture is scaled by what
    it alone holds: a dark one must stay dark. Transparency lies on white. Color profiles are not applied: the models were trained without.

    Raises:
        DataError: its numbers have no known range, or do not fit into `bits`.
    """
    if image.mode == "F":
        return Rgb(_of_fractions(image, stated, where))
    if image.mode in GREY_16:
        return _of_integers(image, stated, where, bits)
    if stated.cut and max(high for _, high in image.getextrema()[:3]) < LEAST_BRIGHT:  # type: ignore[misc]
        raise DataError(
            f"{where} has colors of 16 bits, of which it uses the lowest 12 or fewer: it would be read as black. Save it with 8 bits."
        )
    if image.has_transparency_data:
        own = image.convert("RGBA")
        return Rgb(Image.alpha_composite(Image.new("RGBA", own.size, (255, 255, 255, 255)), own).convert("RGB"))
    if image.mode == "LAB":
        raise DataError(f"{where} stores its colors as LAB, which are not read: save it as RGB.")
    return Rgb(image if image.mode == "RGB" else image.convert("RGB"))


def _of_integers(image: Image.Image, stated: Stated, where: str, bits: int | None) -> Rgb:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > FULL_16:
        raise _no_range(low, high, FULL_16, where)
    white = stated.white
    needs: int | None = None
    if high <= stated.perhaps < FULL_16 and np.any(values % (2**16 // (stated.perhaps + 1))):
        white = stated.perhaps
    if white is None or white < high:
        needs = next(depth for depth in DEPTHS if high < 2**depth) if high else 0
        white = 2 ** (bits or (8 if stated.wide and needs <= 8 else 16)) - 1
        if high > white:
            raise DataError(
                f"{where} has grey up to {high}, which {bits} bits do not hold ({BITS_SETTING} = {bits}: {white} is white). Is it of "
                f"another source? Save it with 8 bits, or train with {BITS_SETTING} = {needs}."
            )
    shades = (np.arange(white + 1) / white * 255 + 0.5).astype(np.uint8)
    if stated.inverted:
        shades = shades[::-1].copy()
    clear = image.info.get("transparency")
    if isinstance(clear, int) and 0 <= clear <= white:
        shades[clear] = 255  # on white
    return Rgb(Image.fromarray(shades[values]).convert("RGB"), needs=needs)


def _of_fractions(image: Image.Image, stated: Stated, where: str) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also where one is not a number
        raise _no_range(low, high, 1, where)
    values = (1 - values if stated.inverted else values).astype(np.float64)
    return Image.fromarray((values * 255 + 0.5).astype(np.uint8)).convert("RGB")


def _no_range(low: float, high: float, top: int, where: str) -> DataError:
    return DataError(
        f"{where} holds numbers from {low:g} to {high:g}, but in its format black to white is 0 to {top}: save it with 8 bits."
    )
