"""Look at a GGUF file before anything is made of it: what it says to hold must stand in it.

Form of the file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from maao.errors import ModelError

MAGIC, VERSIONS = b"GGUF", (2, 3)
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value, by its type; 8: text, 9: a list
INTEGERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}
TEXT, LIST = 8, 9
DEEPEST, MOST_DIMS, LONGEST_NAME = 3, 8, 4096
MOST_A_BYTE = 8  # weights: no quantization takes less than a bit of each
OF_A_TENSOR = ("embedding_length", "feed_forward_length", "vocab_size")
LONGEST_CONTEXT = 2**24  # positions; of a model that turns its rows by angles no tensor is as long


def check_gguf(path: Path) -> None:
    """Refuse a file that is no GGUF, or that says to hold more than stands in it: reading it on would take memory without end.

    Raises:
        ModelError: what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            _Header(file, os.fstat(file.fileno()).st_size).read()
    except (ValueError, struct.error) as error:
        raise ModelError(f"{path} is no GGUF file that can be read: {error}. Get it anew.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error


class _Header:
    """The part of the file before the weights. Raises `ValueError` for what does not hold together."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self) -> None:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin like one")
        version = self._number("I")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, and versions {' and '.join(map(str, VERSIONS))} are read")
        tensors, values = self._number("Q"), self._number("Q")
        if (tensors * 24 + values * 13) > self._left:
            raise ValueError(f"it says to hold {tensors:,} tensors and {values:,} settings, more than fit into {self._size:,} bytes")
        said = dict(filter(None, (self._setting() for _ in range(values))))
        weights = [self._tensor() for _ in range(tensors)]
        if sum(weights) > self._size * MOST_A_BYTE:
            raise ValueError(f"it says to hold {sum(weights):,} weights, more than fit into {self._size:,} bytes")
        largest = max(weights, default=0)
        wide, inner = ([number for name, number in said.items() if name.endswith(f".{last}")] for last in OF_A_TENSOR[:2])
        if max(wide, default=0) * max(inner, default=0) > largest:
            raise ValueError(f"its layers are to be {max(wide):,} x {max(inner):,}, and its largest tensor has {largest:,} weights")
        for name, number in said.items():
            last = name.rpartition(".")[2]
            most = {"block_count": tensors, "context_length": max(largest, LONGEST_CONTEXT)}.get(
                last, largest if last in OF_A_TENSOR else 2**63
            )
            if not 0 <= number <= most:
                raise ValueError(f"its {name} is {number:,}, and its tensors are {tensors:,} with {sum(weights):,} weights")

    @property
    def _left(self) -> int:
        return self._size - self._file.tell()

    def _take(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError(f"it ends before the {count:,} bytes that it says to hold")
        return self._file.read(count)

    def _number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))[0])

    def _skip(self, count: int) -> None:
        if count > self._left:
            raise ValueError(f"it ends before the {count:,} bytes that it says to hold")
        self._file.seek(count, os.SEEK_CUR)

    def _name(self) -> str:
        length = self._number("Q")
        if length > LONGEST_NAME:
            raise ValueError(f"a name in it has {length:,} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _setting(self) -> tuple[str, int] | None:
        """Read a setting; return its name and value where that is a whole number."""
        name, kind = self._name(), self._number("I")
        if kind in INTEGERS:
            return name, self._number(INTEGERS[kind])
        self._value(kind, 0)
        return None

    def _value(self, kind: int, depth: int) -> None:
        if kind == TEXT:
            self._skip(self._number("Q"))
        elif kind == LIST and depth < DEEPEST:
            inner, count = self._number("I"), self._number("Q")
            if inner in SIZES:
                self._skip(count * SIZES[inner])
            elif count * 8 > self._left:
                raise ValueError(f"a list in it says to hold {count:,} values")
            else:
                for _ in range(count):
                    self._value(inner, depth + 1)
        elif kind in SIZES:
            self._skip(SIZES[kind])
        else:
            raise ValueError(f"it holds a value of the unknown type {kind}")

    def _tensor(self) -> int:
        """Read what is said of a tensor; return how many weights it has."""
        self._name()
        dims = self._number("I")
        if dims > MOST_DIMS:
            raise ValueError(f"a tensor in it has {dims:,} dimensions")
        count = math.prod(self._number("Q") for _ in range(dims))
        self._number("I")
        if self._number("Q") > self._size:
            raise ValueError("a tensor in it begins behind its end")
        return count
