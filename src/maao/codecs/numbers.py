"""Points of plain functions as text: numbers, rounded, separated by spaces."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maao.errors import CodecError
from maao.protocols import Encoded

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class NumberCodec:
    """``{"x": (dim,)}`` as `dim` numbers with `digits` decimals.

    Example:
        >>> codec = NumberCodec(dim=2, digits=2)
        >>> codec.decode(codec.encode("x = 1.004, -0.5").params)
        '1.00 -0.50'
    """

    dim: int
    digits: int = 3

    def decode(self, params: Mapping[str, Tensor]) -> str:
        return " ".join(f"{value + 0.0:.{self.digits}f}" for value in (round(float(v), self.digits) for v in params["x"]))

    def encode(self, text: str) -> Encoded[Mapping[str, Tensor]]:
        found = [float(number) for number in _NUMBER.findall(text)]
        if len(found) != self.dim or not all(map(math.isfinite, found)):
            raise CodecError(f"A point here is {self.dim} finite numbers; {text!r} holds {len(found)}.")
        params = {"x": torch.tensor([round(value, self.digits) for value in found], dtype=torch.float64)}
        return Encoded(params, self.decode(params))
