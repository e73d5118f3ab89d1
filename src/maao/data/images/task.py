"""What every source of pictures gives: splits of examples, the classes' names, and what opens the pictures."""

from __future__ import annotations

from dataclasses import dataclass

from maao.data.images.source import ImageSource
from maao.types import Splits


@dataclass(frozen=True)
class ImageTask:
    """Labelled pictures. The field "image" of an example is a key that `source` opens; "content" a hash of the picture, where one is kept.

    `class_names` are the classes in words, in the order of ``splits.labels``. `template` is the data set's own hand-written prompt with
    ``{class}``; empty where it has none. `bits` is the depth by which `source` scales grey whose files do not say it; None: all 16.
    """

    splits: Splits
    class_names: tuple[str, ...]
    source: ImageSource
    template: str = ""
    notes: tuple[str, ...] = ()
    bits: int | None = None
