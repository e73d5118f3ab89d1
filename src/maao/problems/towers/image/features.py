"""The pictures of a split: their features, kept by a hash of the pixels, of the transform and of the view (`towers/features.py`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.towers.dual import DualEncoder, ImageTower
from maao.problems.towers.features import FeatureStore, KnownFeatures, Place

if TYPE_CHECKING:  # texts need no pillow
    from PIL import Image

HELD_BYTES = 2**28  # of opened pictures, beside the one that passes it


class Source(Protocol):
    """Where pictures come from."""

    def open(self, key: str) -> Image.Image: ...


class Pictures(KnownFeatures):
    """The pictures of a split, by number: their features as the frozen tower sees them, and their pixels for towers that are tuned.

    Args:
        encoder: the frozen towers.
        source: opens a key.
        keys: the pictures.
        views: random views of each picture beside its middle; with 0 the middle itself is what is trained on.
        batch: pictures that run through the tower at a time.
        max_bytes: memory for pixels that are asked for again.
    """

    def __init__(
        self, encoder: DualEncoder, source: Source, keys: Sequence[str], *, views: int = 0, batch: int = 64, max_bytes: int = 2**30
    ) -> None:
        super().__init__(len(keys), encoder.embed_dim, views=views, batch=batch)
        assert encoder.pixels is not None and isinstance(encoder.input, ImageTower)
        self._encoder, self._tower, self._preprocess = encoder, encoder.input, encoder.pixels
        self._source, self.keys = source, tuple(keys)
        self._max_bytes = max_bytes
        self._pixels: dict[Place, Tensor] = {}

    def fill(self, store: FeatureStore) -> Self:
        """Find or compute all features."""
        held: dict[int, Image.Image] = {}
        size = 0
        for i, key in enumerate(self.keys):
            held[i] = self._source.open(key)
            size += held[i].width * held[i].height * 4  # as Pillow holds them
            if size > HELD_BYTES or len(held) * (1 + self.views) >= self._batch * 8:
                self._fill(held, store)
                held, size = {}, 0
        if held:
            self._fill(held, store)
        return self

    def _fill(self, images: Mapping[int, Image.Image], store: FeatureStore) -> None:
        contents = {i: content_digest(image) for i, image in images.items()}
        about = self._preprocess.text()
        keys: dict[Place, str] = {
            (i, view): hashlib.sha256(f"{contents[i]} {about} {view}".encode()).hexdigest()
            for i in images
            for view in (None, *range(self.views))
        }

        def compute(part: Sequence[Place]) -> tuple[Tensor, int]:
            pixels = torch.stack([self._transformed(images[i], contents[i], view) for i, view in part])
            with torch.no_grad():
                return self._tower.features(_moved(pixels, self._encoder)), len(part) * self._tower.num_tokens

        self._find(store, keys, compute)

    def named(self, number: int) -> str:
        return f"the picture {self.keys[number]!r}"

    def num_tokens(self, which: Sequence[int]) -> int:
        """Return how many tokens these pictures are."""
        return len(which) * self._tower.num_tokens

    def raw(self, which: Sequence[int], views: Sequence[int] | None = None) -> Tensor:
        """Return ``(len(which), 3, height, width)`` pixels on the model's device, kept in memory as far as `max_bytes` reaches."""
        pairs: list[Place] = [(i, None if views is None else views[n]) for n, i in enumerate(which)]
        found = []
        for i, view in pairs:
            value = self._pixels.get((i, view))
            if value is None:
                image = self._source.open(self.keys[i])
                value = self._transformed(image, content_digest(image) if view is not None else "", view)
                if (len(self._pixels) + 1) * value.numel() * 4 <= self._max_bytes:
                    self._pixels[i, view] = value
            found.append(value)
        return _moved(torch.stack(found), self._encoder)

    def _transformed(self, image: Image.Image, content: str, view: int | None) -> Tensor:
        if view is None:
            return self._preprocess.pixels(image)
        return self._preprocess.view(image, seed_for(int(content[:12], 16), "view", view))


def content_digest(image: Image.Image) -> str:
    """Return a hash of what a picture shows: its size and its pixels."""
    return hashlib.sha256(f"{image.size} {image.mode} ".encode() + image.tobytes()).hexdigest()


def _moved(pixels: Tensor, encoder: DualEncoder) -> Tensor:
    weight: Any = next(encoder.modules.parameters())
    return pixels.to(device=weight.device, dtype=weight.dtype)
