"""Pictures: image folders, the field's data sets, hub data sets, and the emoji task, as few-shot splits."""

from __future__ import annotations

from maao.errors import DataError

try:
    import PIL  # noqa: F401
except ImportError as error:
    raise DataError('Reading pictures needs Pillow. Install it with: pip install "maao[vision]".') from error

from maao.data.image_sets import CATALOG
from maao.data.images.catalog import load_catalog
from maao.data.images.emoji import load_emoji
from maao.data.images.folder import load_folder, read_labelled_folder
from maao.data.images.hub import load_hub_images
from maao.data.images.reading import read_image
from maao.data.images.source import Files, ImageSource

__all__ = [
    "CATALOG",
    "Files",
    "ImageSource",
    "load_catalog",
    "load_emoji",
    "load_folder",
    "load_hub_images",
    "read_image",
    "read_labelled_folder",
]
