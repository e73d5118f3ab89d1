"""Features of images, computed once: a frozen image tower sees each picture (and each random view of it) one time on a machine.

They are kept on disk by content: the key is a hash of a picture's pixels, of the transform and of the view; the file is named by a hash of
the tower's weights. Renaming, moving or copying pictures costs nothing; changing the model or a picture never finds a stale feature.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import ProblemError
from maao.problems.towers.dual import DualEncoder

MANY = 500  # keys asked for in one query
HELD_BYTES = 2**28  # of opened pictures, beside the one that passes it


class Source(Protocol):
    """Where pictures come from."""

    def open(self, key: str) -> Image.Image: ...


class FeatureStore:
    """Features on disk, shared by runs and processes. With `path` None nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the features that are there, by key."""
        if self.path is None or not self.path.is_file():
            return {}
        found: dict[str, np.ndarray] = {}
        try:
            with closing(self._open()) as held:
                for begin in range(0, len(keys), MANY):
                    part = list(keys[begin : begin + MANY])
                    marks = ",".join("?" * len(part))
                    for key, value in held.execute(f"SELECT key, value FROM features WHERE key IN ({marks})", part):
                        found[key] = np.frombuffer(value, dtype=np.float32)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        return found

    def write(self, features: dict[str, np.ndarray]) -> None:
        """Keep features; those that another process has kept meanwhile stay as they are."""
        if self.path is None or not features:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            rows = [(key, np.ascontiguousarray(value, dtype=np.float32).tobytes()) for key, value in features.items()]
            with closing(self._open()) as held, held:
                held.executemany("INSERT OR IGNORE INTO features VALUES (?, ?)", rows)
        except (OSError, sqlite3.DatabaseError) as error:
            raise self._unusable(error) from error

    def _open(self) -> sqlite3.Connection:
        held = sqlite3.connect(self.path or ":memory:", timeout=60)
        held.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        return held

    def _unusable(self, error: Exception) -> ProblemError:
        return ProblemError(
            f"The cache of image features {self.path} cannot be used: {error}. Delete it (it is computed again), or set MAAO_CACHE to "
            "another folder, or vision.cache = false."
        )


class Pictures:
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
        self._encoder, self._source, self.keys = encoder, source, tuple(keys)
        self.views, self._batch, self._max_bytes = views, batch, max_bytes
        self._pixels: dict[tuple[int, int | None], Tensor] = {}
        self.features = torch.zeros(len(keys), encoder.embed_dim)  # of the middles
        self.view_features = torch.zeros(views, len(keys), encoder.embed_dim)
        self.computed = 0  # pictures and views that ran through the tower

    def fill(self, store: FeatureStore) -> Pictures:
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
        wanted: list[tuple[int, int | None]] = [(i, view) for i in images for view in (None, *range(self.views))]
        contents = {i: content_digest(image) for i, image in images.items()}
        about = self._encoder.pixels.text()
        names = {w: hashlib.sha256(f"{contents[w[0]]} {about} {w[1]}".encode()).hexdigest() for w in wanted}
        held = store.read(list(names.values()))
        missing = list({names[w]: w for w in wanted if names[w] not in held}.values())
        for begin in range(0, len(missing), self._batch):
            part = missing[begin : begin + self._batch]
            pixels = torch.stack([self._transformed(images[i], contents[i], view) for i, view in part])
            with torch.no_grad():
                found = self._encoder.image.features(_moved(pixels, self._encoder)).cpu().numpy()
            new = {names[w]: value for w, value in zip(part, found, strict=True)}
            store.write(new)
            held |= new
            self.computed += len(part)
        for i, view in wanted:
            value = torch.from_numpy(held[names[i, view]].copy())
            if view is None:
                self.features[i] = value
            else:
                self.view_features[view, i] = value

    def of(self, which: Sequence[int], views: Sequence[int] | None = None) -> Tensor:
        """Return ``(len(which), embed_dim)`` features, of the middles or of one view each."""
        return self.features[list(which)] if views is None else self.view_features[list(views), list(which)]

    def pixels(self, which: Sequence[int], views: Sequence[int] | None = None) -> Tensor:
        """Return ``(len(which), 3, height, width)`` pixels on the model's device, kept in memory as far as `max_bytes` reaches."""
        pairs: list[tuple[int, int | None]] = [(i, None if views is None else views[n]) for n, i in enumerate(which)]
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
            return self._encoder.pixels.pixels(image)
        return self._encoder.pixels.view(image, seed_for(int(content[:12], 16), "view", view))


def content_digest(image: Image.Image) -> str:
    """Return a hash of what a picture shows: its size and its pixels."""
    return hashlib.sha256(f"{image.size} {image.mode} ".encode() + image.tobytes()).hexdigest()


def _moved(pixels: Tensor, encoder: DualEncoder) -> Tensor:
    weight: Any = next(encoder.modules.parameters())
    return pixels.to(device=weight.device, dtype=weight.dtype)
