"""The point between two, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def between(old: Mapping[str, Tensor], new: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Return ``(1 - weight) * old + weight * new`` of each tensor that `new` names.

    Example:
        >>> between({"x": 1.0, "head": 5.0}, {"x": 3.0}, 0.25)
        {'x': 1.5}
    """
    return {name: (1 - weight) * old[name] + weight * value for name, value in new.items()}
