"""Features of inputs, computed once: a frozen tower sees each input (and each random view of a picture) one time on a machine.

They are kept on disk by content: the key is a hash of all that a feature follows from beside the weights; the file is named by a hash of
the weights. Renaming, moving or copying inputs costs nothing; changing the model or an input never finds a stale feature.

Kept are whole batches, as they were computed: the last bits of a feature depend on what else stood in its batch, and on the threads and
the torch that computed it. So the bits that a run finds do not depend on what was kept before it, or on whether anything was.
"""

from __future__ import annotations

import copy
import hashlib
import logging
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

from maao.errors import DataError, ProblemError
from maao.progress import job
from maao.store.connection import connect, whole

BUSY_SECONDS = 10.0  # another process writes for milliseconds; one that is stopped while it does holds the file for good
MANY = 500  # keys asked for in one query
TABLE = "CREATE TABLE IF NOT EXISTS batches (name TEXT PRIMARY KEY, value BLOB NOT NULL)"

MAPPED_BYTES = 2**28  # features of a split beyond which they are not held in memory
MAPPED_ROWS = 2**13  # of those, so many are found or computed at a time

Place = tuple[int, int | None]  # an input's number, and which random view of it; None: as it is
Compute = Callable[[Sequence[Place]], tuple[Tensor, int]]  # of some places the features, and the tokens that this takes


class FeatureStore:
    """Batches of features on disk, shared by runs and processes. With `path` None nothing is kept.

    A cache that cannot be used stops nothing: that is told once, and from then on features are computed, and kept nowhere.

    Args:
        path: the file.
        computed_on: what the last bits of a feature depend on besides the number of threads and torch: the device, and the type of numbers.
    """

    def __init__(self, path: Path | None, computed_on: str = "cpu") -> None:
        self.path, self._computed_on = path, computed_on

    def name(self, keys: Sequence[str]) -> str:
        """Return the name of a batch: what is in it, in its order, and what computes it."""
        by = f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()} {self._computed_on}"
        return hashlib.sha256(f"{by} {' '.join(keys)}".encode()).hexdigest()

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the batches that are there, by name, the features of each in one row."""
        if not self._is_usable or self.path is None or not self.path.is_file():
            return {}
        found: dict[str, np.ndarray] = {}
        try:
            with closing(self._open(self.path)) as held:
                for begin in range(0, len(names), MANY):
                    part = list(names[begin : begin + MANY])
                    marks = ",".join("?" * len(part))
                    for name, value in held.execute(f"SELECT name, value FROM batches WHERE name IN ({marks})", part):
                        found[name] = np.frombuffer(value, dtype=np.float32)
        except sqlite3.DatabaseError as error:
            self._give_up(error)
        return found

    def write(self, name: str, features: np.ndarray) -> None:
        """Keep a batch; one that another process has kept meanwhile stays as it is."""
        if not self._is_usable or self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open(self.path)) as held, whole(held):
                value = np.ascontiguousarray(features, dtype=np.float32).tobytes()
                held.execute("INSERT OR IGNORE INTO batches VALUES (?, ?)", (name, value))
        except (OSError, sqlite3.DatabaseError) as error:
            self._give_up(error)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        return connect(path, "rwc", seconds=BUSY_SECONDS, first=[TABLE])

    @property
    def _is_usable(self) -> bool:
        return str(self.path) not in _UNUSABLE

    def _give_up(self, error: Exception) -> None:
        _UNUSABLE.add(str(self.path))
        logging.getLogger("maao").warning(
            f"The cache of features {self.path} cannot be used: {error}. The run goes on, and computes what it does not find there. If no "
            "other process holds the file, delete it; or set MAAO_CACHE to another folder, or model.cache = false."
        )


# Files that this process has given up. Each run has a store of its own, and a held file would keep every cell of a comparison waiting for
# `BUSY_SECONDS`, and telling the same.
_UNUSABLE: set[str] = set()


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
        """Return the features of places, in their order. Which are computed together follows from the places alone."""
        places = list({key: place for place, key in keys.items()}.values())
        batches = [places[begin : begin + self._batch] for begin in range(0, len(places), self._batch)]
        named = {store.name([keys[place] for place in batch]): batch for batch in batches}
        found = store.read(list(named))
        missing = {name: batch for name, batch in named.items() if name not in found}
        if missing:
            with job("encoding inputs", sum(map(len, missing.values())), "inputs") as encoding:
                for name, batch in missing.items():
                    made, tokens = compute(batch)
                    self._check_finite(made, batch)
                    found[name] = made.float().cpu().numpy()
                    store.write(name, found[name])
                    self.computed += len(batch)
                    self.computed_tokens += tokens
                    encoding.advance(len(batch))
        rows = {
            keys[place]: row for name, batch in named.items() for place, row in zip(batch, found[name].reshape(len(batch), -1), strict=True)
        }
        return [rows[key] for key in keys.values()]

    def _check_finite(self, found: Tensor, places: Sequence[Place]) -> None:
        """Refuse an input whose feature is no finite number: every score that it takes part in would be none."""
        good = found.isfinite().all(-1).tolist()
        bad = [number for (number, _), is_good in zip(places, good, strict=True) if not is_good]
        if bad:
            precise = " It overflows there: half precision holds fewer numbers." if found.dtype == torch.float16 else ""
            raise DataError(
                f"The encoder gives no finite feature for {self.named(bad[0])}"
                f"{f' and {len(bad) - 1} more of the {len(found)} read beside it' if len(bad) > 1 else ''}.{precise} Leave it out, or "
                "look at the model: model.dtype = 'float32' if it is another, another checkpoint otherwise."
            )

    def named(self, number: int) -> str:
        """Return an input as a message names it."""
        return f"input number {number + 1}"

    def _mapped(self, path: Path, store: FeatureStore, keys: Mapping[Place, str], compute: Compute) -> Tensor:
        """Return features that stay on the disk but for the rows that are read: a file beside the store, named by what is in it.

        A step reads some rows of many, and rows that memory has no room for are read again.
        """
        digest = store.name([keys[number, None] for number in range(len(self))])
        file, shape = path.with_suffix("") / f"{digest[:32]}.f32", tuple(self.features.shape)
        try:
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=file.parent, prefix=".filling-") as folder:
                    rows = np.memmap(Path(folder) / file.name, dtype=np.float32, mode="w+", shape=shape)
                    numbers: dict[str, list[int]] = {}  # of inputs that are the same, all; they are computed once
                    for (number, _), key in keys.items():
                        numbers.setdefault(key, []).append(number)
                    alike = list(numbers.values())
                    for begin in range(0, len(alike), MAPPED_ROWS):
                        part = alike[begin : begin + MAPPED_ROWS]
                        found = self._rows(store, {(same[0], None): keys[same[0], None] for same in part}, compute)
                        rows[[number for same in part for number in same]] = np.repeat(found, [len(same) for same in part], axis=0)
                    rows.flush()
                    os.replace(Path(folder) / file.name, file)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="c", shape=shape))  # what would be written is not
        except (OSError, ValueError) as error:
            raise ProblemError(
                f"The features of {len(self)} inputs cannot be kept in {file}: {error}. Set MAAO_CACHE to a folder with room "
                f"({self.num_bytes / 2**30:.1f} GiB), delete the file if it is damaged, or set model.cache = false to hold them in memory."
            ) from error
