"""Texts or pictures: what a `[data]` is of that does not say it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from maao.data.dataset import HUB, PACKAGED
from maao.data.image_data import ImageData
from maao.data.image_sets import CATALOG, EMOJI
from maao.data.text_data import PARTS, TextData

IMAGE, TEXT = "image", "text"
OF_IMAGES = {*ImageData.model_fields} - {*TextData.model_fields}


def input_of(values: Mapping[str, object]) -> str:
    """Return "image" where a section's source, or else its settings, are of pictures alone, and "text" elsewhere.

    A hub data set is told by its settings: it is of pictures where a setting of pictures is given. A folder that holds folders is one of
    pictures; texts are read from files.

    Example:
        >>> [input_of(values) for values in ({}, {"source": "emoji"}, {"source": "hub:x"}, {"source": "hub:x", "image_field": "image"})]
        ['text', 'image', 'text', 'image']
    """
    source = values.get("source")
    if isinstance(source, str) and not source.startswith(HUB):
        if source == EMOJI or source in CATALOG or _holds_folders(source):
            return IMAGE
        if source == PARTS or source.startswith(PACKAGED) or os.path.isfile(source):
            return TEXT
    given = {key for key, value in values.items() if value is not None}
    return IMAGE if OF_IMAGES & given and not {"train", "task"} & given else TEXT


def _holds_folders(path: str) -> bool:
    try:
        if not os.path.isdir(path):
            return False
        with os.scandir(path) as entries:
            return any(entry.is_dir() for entry in entries)
    except (OSError, ValueError):  # what cannot be read is told where it is read
        return False
