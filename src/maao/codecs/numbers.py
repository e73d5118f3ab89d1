"""Points of plain functions as text: numbers, rounded, separated by spaces."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from maao.codecs.fields import refuse_fields
from maao.core.blending import between
from maao.errors import CodecError
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class NumberCodec:
    """``{"x": (dim,)}`` as `dim` numbers with `digits` decimals; random ones lie uniformly in ``[-bound, bound]``.

    Example:
        >>> codec = NumberCodec(dim=2, digits=2)
        >>> codec.decode(codec.encode("x = 1.004, -0.5").params).text
        '1.00 -0.50'
    """

    dim: int
    digits: int = 3
    bound: float = 4.0
    fields: ClassVar[tuple[str, ...]] = ()

    def decode(self, params: Params) -> Decoded:
        return Decoded(" ".join(f"{value + 0.0:.{self.digits}f}" for value in (round(float(v), self.digits) for v in params["x"])))

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        refuse_fields(fields)
        found = [float(number) for number in _NUMBER.findall(text)]
        if len(found) != self.dim or not all(map(math.isfinite, found)):
            raise CodecError(f"A point here is {self.dim} finite numbers; {text!r} holds {len(found)}.")
        params = {"x": torch.tensor([round(value, self.digits) for value in found], dtype=torch.float64)}
        return Encoded(params, self.decode(params).text or "")

    def random(self, seed: int) -> Params:
        return {"x": uniform(self.dim, self.bound, seed)}

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        return between(old, new, weight)


def uniform(dim: int, bound: float, seed: int) -> Tensor:
    """Return ``(dim,)`` numbers, uniform in ``[-bound, bound]``."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(dim, generator=generator, dtype=torch.float64) - 1) * bound
