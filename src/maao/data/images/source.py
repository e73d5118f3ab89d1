"""What opens a picture by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from PIL import Image

from maao.data.images.reading import read_image


class ImageSource(Protocol):
    """Opens pictures by key, as RGB."""

    def open(self, key: str) -> Image.Image:
        """Return a picture. Raises `DataError` for one that cannot be read."""
        ...


class Files:
    """Files by path, relative to a folder if one is given; `bits` is the depth of grey whose files do not say it (see `read_image`).

    Example:
        >>> Files("pictures").open("cat/1.png")  # doctest: +SKIP
        <PIL.Image.Image image mode=RGB size=640x480 at ...>
    """

    def __init__(self, root: str | Path | None = None, *, bits: int | None = None) -> None:
        self.root = None if root is None else Path(root)
        self.bits = bits

    def path(self, key: str) -> Path:
        return Path(key) if self.root is None else self.root / key

    def open(self, key: str) -> Image.Image:
        return read_image(self.path(key), self.bits)
