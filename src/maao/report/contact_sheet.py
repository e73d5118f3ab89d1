"""One picture of many: what is read wrongly with the most confidence, with what it is and what it was read as."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

from maao.types import Example, Mistake

TILE, TEXT, GAP = 128, 44, 12  # pixels


def contact_sheet(mistakes: Sequence[Mistake], picture: Callable[[Example], Image.Image], *, columns: int = 6) -> Image.Image:
    """Return a sheet of pictures, worst first. Under each: its label, and what it was read as with which probability.

    Args:
        picture: opens an example's picture.
    """
    columns = max(1, min(columns, len(mistakes)))
    lines = -(-len(mistakes) // columns)
    sheet = Image.new("RGB", (GAP + columns * (TILE + GAP), GAP + lines * (TILE + TEXT + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, mistake in enumerate(mistakes):
        left = GAP + number % columns * (TILE + GAP)
        top = GAP + number // columns * (TILE + TEXT + GAP)
        image = picture(mistake.example)
        scale = min(TILE / image.width, TILE / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        tile = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        sheet.paste(tile, (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
        draw.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline="#bbbbbb")
        draw.text((left, top + TILE + 4), _fit(mistake.example.label, draw, font), fill="#1a7f37", font=font)
        draw.text((left, top + TILE + 18), _fit(f"read as {mistake.predicted}", draw, font), fill="#b00020", font=font)
        told = f"{mistake.probability:.2f} against {mistake.label_probability:.2f}"
        draw.text((left, top + TILE + 32), told, fill="#555555", font=font)
    return sheet


def _fit(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = " ".join(text.split())  # a line break cannot be measured
    if draw.textlength(text, font=font) <= TILE:
        return text
    while text and draw.textlength(text + "…", font=font) > TILE:
        text = text[:-1]
    return text + "…"
