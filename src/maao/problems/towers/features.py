"""Features of inputs, computed once: a frozen tower sees each input (and each random view of a picture) one time on a machine.

They are kept on disk by content: the key is a hash of all that a feature follows from beside the weights; the file is named by a hash of
the weights. Renaming, moving or copying inputs costs nothing; changing the model or an input never finds a stale feature.
"""

from __future__ import annotations

import copy
import hashlib
import os
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from maao.errors import ProblemError
from maao.progress import job

MANY = 500  # keys asked for in one query

MAPPED_BYTES = 2**28  # features of a split beyond which they are not held in memory
MAPPED_ROWS = 2**13  # of those, so many are found or computed at a time

Place = tuple[int, int | None]  # an input's number, and which random view of it; None: as it is
Compute = Callable[[Sequence[Place]], tuple[Tensor, int]]  # of some places the features, and the tokens that this takes


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

    def write(self, features: Mapping[str, np.ndarray]) -> None:
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
            f"The cache of features {self.path} cannot be used: {error}. Delete it (it is computed again), or set MAAO_CACHE to another "
            "folder, or model.cache = false."
        )


class KnownFeatures(ABC):
    """The inputs of a split, by number, and their features as the frozen tower sees them.

    Args:
        count: how many inputs there are.
        embed_dim: width of a feature.
        views: random views of each input beside the input as it is; with 0 the input itself is what is trained on.
        batch: inputs that run through the tower at a time.
    """

    def __init__(self, count: int, embed_dim: int, *, views: int = 0, batch: int = 64) -> None:
        self.views, self._batch = views, batch
        self.features = torch.zeros(count, embed_dim)  # of the inputs as they are
        self.view_features = torch.zeros(views, count, embed_dim)
        self.computed = 0  # inputs and views that ran through the tower
        self.computed_tokens = 0  # and the tokens that they took

    def __len__(self) -> int:
        return len(self.features)

    def of(self, which: Sequence[int], views: Sequence[int] | None = None) -> Tensor:
        """Return ``(len(which), embed_dim)`` features, of the inputs as they are or of one view each; of a range no copy."""
        if views is not None:
            return self.view_features[list(views), list(which)]
        if isinstance(which, range) and which.step == 1:
            return self.features[which.start : which.stop]
        return self.features.index_select(0, torch.tensor(which, dtype=torch.long))  # there may be none

    @property
    def num_bytes(self) -> int:
        """The size of the features in memory."""
        return sum(held.numel() * held.element_size() for held in (self.features, self.view_features))

    def as_found(self) -> Self:
        """Return the same features as one finds them who comes later: none was computed."""
        found = copy.copy(self)
        found.computed = found.computed_tokens = 0
        return found

    def beside(self, other: KnownFeatures) -> Self:
        """Return these inputs and others of their kind behind them. Raises `ProblemError` where there are views of each."""
        if self.views or other.views:
            raise ProblemError("Inputs of which there are random views have no others beside them: set model.views = 0.")
        found = copy.copy(self)
        found.features = torch.cat([self.features, other.features])
        found.view_features = torch.zeros(0, *found.features.shape)
        return found

    @abstractmethod
    def fill(self, store: FeatureStore) -> Self:
        """Find or compute all features."""

    @abstractmethod
    def num_tokens(self, which: Sequence[int]) -> int:
        """Return how many tokens one pass over these inputs runs."""

    @abstractmethod
    def raw(self, which: Sequence[int], views: Sequence[int] | None = None) -> Any:
        """Return the inputs as their tower reads them, for a tower that is tuned."""

    def _find(self, store: FeatureStore, keys: Mapping[Place, str], compute: Compute) -> None:
        """Read from the store what is there under these keys, and compute and keep the rest, with the tokens that it takes."""
        if store.path is not None and all(view is None for _, view in keys) and self.num_bytes > MAPPED_BYTES:
            self.features = self._mapped(store.path, store, keys, compute)
            return
        found = dict(zip(keys, self._rows(store, keys, compute), strict=True))
        for view in {view for _, view in keys}:
            places = [place for place in keys if place[1] == view]
            rows = self.features if view is None else self.view_features[view]
            rows[[number for number, _ in places]] = torch.from_numpy(np.stack([found[place] for place in places]))

    def _rows(self, store: FeatureStore, keys: Mapping[Place, str], compute: Compute) -> list[np.ndarray]:
        """Return the features of places, in their order."""
        held = store.read(list(keys.values()))
        missing = list({keys[place]: place for place in keys if keys[place] not in held}.values())
        if not missing:
            return [held[key] for key in keys.values()]
        with job("encoding inputs", len(missing), "inputs") as encoding:
            for begin in range(0, len(missing), self._batch):
                part = missing[begin : begin + self._batch]
                found, tokens = compute(part)
                new = {keys[place]: value for place, value in zip(part, found.float().cpu().numpy(), strict=True)}
                store.write(new)
                held |= new
                self.computed += len(part)
                self.computed_tokens += tokens
                encoding.advance(len(part))
        return [held[key] for key in keys.values()]

    def _mapped(self, path: Path, store: FeatureStore, keys: Mapping[Place, str], compute: Compute) -> Tensor:
        """Return features that stay on the disk but for the rows that are read: a file beside the store, named by what is in it.

        A step reads some rows of many, and rows that memory has no room for are read again.
        """
        digest = hashlib.sha256("".join(keys[number, None] for number in range(len(self))).encode()).hexdigest()
        file, shape = path.with_suffix("") / f"{digest[:32]}.f32", tuple(self.features.shape)
        try:
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=file.parent, prefix=".filling-") as folder:
                    rows = np.memmap(Path(folder) / file.name, dtype=np.float32, mode="w+", shape=shape)
                    places = list(keys)
                    for begin in range(0, len(places), MAPPED_ROWS):
                        part = places[begin : begin + MAPPED_ROWS]
                        rows[[number for number, _ in part]] = self._rows(store, {place: keys[place] for place in part}, compute)
                    rows.flush()
                    os.replace(Path(folder) / file.name, file)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="c", shape=shape))  # what would be written is not
        except (OSError, ValueError) as error:
            raise ProblemError(
                f"The features of {len(self)} inputs cannot be kept in {file}: {error}. Set MAAO_CACHE to a folder with room "
                f"({self.num_bytes / 2**30:.1f} GiB), delete the file if it is damaged, or set model.cache = false to hold them in memory."
            ) from error
