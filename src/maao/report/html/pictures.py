"""Small pictures inside a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

SIDE = 96  # pixels


def thumbnail(image: Image.Image) -> str:
    """Return a picture as a small `data:` address, whatever its size and kind.

    Example:
        >>> thumbnail(Image.new("RGB", (300, 200), "white"))[:23]
        'data:image/jpeg;base64,'
    """
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    small.save(held, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode("ascii")
