"""Arrays in files named after their content.

The name is a hash of the arrays themselves (names in order, types, shapes, bytes), so it is the same whatever version of safetensors wrote
the file, equal content is written once, and a damaged file is found out when it is read. The order of the names is kept, because sums over
several tensors (a gradient's norm) depend on it to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from maao.errors import StoreError
from maao.protocols import Array, Arrays
from maao.store.files import TEMP_SUFFIX, reading, sync_folder, write_durably

FORMAT = "maao-arrays-1"  # raise when the content that is hashed changes, so that old names are known to be old
HEADER_LENGTH = 8  # a safetensors file begins with the length of its header
DTYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "complex64"}


def arrays_digest(arrays: Arrays) -> str:
    """Return the SHA-256 of arrays: equal for equal names, types, shapes and bytes, in the same order.

    Example:
        >>> arrays_digest({"x": np.zeros(2)}) == arrays_digest({"x": -np.zeros(2)})
        False
    """
    return _digest(_normal(arrays))


class TensorFolder:
    """The folder `tensors/` of a run. Writing belongs to one process at a time, which the run's lock sees to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: set[str] = set()  # written or verified by us
        self._unsynced = False

    def save(self, arrays: Arrays) -> str:
        """Write arrays unless they are there; return their name. Call `sync` before storing the name anywhere."""
        arrays = _normal(arrays)
        name = _digest(arrays)
        if name not in self._known:
            if not self._holds(name):
                write_durably(self.file(name), safetensors.numpy.save(arrays, metadata={"names": json.dumps(list(arrays))}))
            self._unsynced = True  # a file found may be the last act of a process that was killed before it could sync
            self._known.add(name)
        return name

    def load(self, name: str) -> dict[str, Array]:
        """Return the arrays of that name, ours to write to. Raises `StoreError` when they are missing or damaged."""
        file = self.file(name)
        with reading(file):
            try:
                arrays = _parse(file.read_bytes())
            except SafetensorError as error:
                raise ValueError(error) from error
            if _digest(arrays) != name:
                raise ValueError("its content is not what its name says")
        return arrays

    def check(self, name: str) -> None:
        """Raise `StoreError` where the file of that name is missing or shorter than it says; its content is not looked at."""
        file = self.file(name)
        with reading(file), open(file, "rb") as stream:
            length = int.from_bytes(stream.read(HEADER_LENGTH), "little")
            size = os.fstat(stream.fileno()).st_size - HEADER_LENGTH - length
            if size < 0:
                raise ValueError("it is cut off")
            arrays = json.loads(stream.read(length))
            if size != max((entry["data_offsets"][1] for key, entry in arrays.items() if key != "__metadata__"), default=0):
                raise ValueError("it is not as long as it says")

    def sync(self) -> None:
        """Make the names of all saved files durable."""
        if self._unsynced:
            sync_folder(self.folder)
            self._unsynced = False

    def sweep(self) -> None:
        """Remove what a killed process left half written."""
        for temp in self.folder.glob(f"*{TEMP_SUFFIX}"):
            temp.unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _holds(self, name: str) -> bool:
        try:
            self.load(name)
        except StoreError:  # missing, or damaged: written anew either way
            return False
        return True


def _normal(arrays: Arrays) -> dict[str, Array]:
    normal = {}
    for name, given in arrays.items():
        array = np.asarray(given, order="C")
        if array.dtype.name not in DTYPES:
            raise StoreError(f"Cannot store array '{name}' of type {array.dtype}. Types that can be stored: {', '.join(sorted(DTYPES))}.")
        normal[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return normal


def _digest(arrays: Arrays) -> str:
    header = [FORMAT, *([name, array.dtype.name, array.shape] for name, array in arrays.items())]
    content = hashlib.sha256(json.dumps(header, separators=(",", ":")).encode() + b"\n")
    for array in arrays.values():
        content.update(array.tobytes())
    return content.hexdigest()


def _parse(data: bytes) -> dict[str, Array]:
    arrays = safetensors.numpy.load(data)
    header = json.loads(data[HEADER_LENGTH : HEADER_LENGTH + int.from_bytes(data[:HEADER_LENGTH], "little")])
    names = json.loads(header["__metadata__"]["names"])
    if sorted(names) != sorted(arrays):
        raise ValueError("its names do not match its arrays")
    return {name: arrays[name].copy() for name in names}
