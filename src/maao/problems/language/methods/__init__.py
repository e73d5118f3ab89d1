"""Prompt methods: what is trained, and what of it the frozen model reads. One file a method.

A method turns params (named tensors, what an optimizer moves and a run stores) into what a reader takes: embedding rows in the slots, or
keys and values in front of everything. A text restarts each of them, exactly where that can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from maao.protocols import Params, TokenCodec

if TYPE_CHECKING:
    from torch import Tensor


class Method(Protocol):
    """A prompt method."""

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the params of a start at these embedding rows ``(num_virtual_tokens, embed_dim)``, all that a text restarts."""
        ...

    def normal(self, seed: int) -> dict[str, Tensor] | None:
        """Return a random start of the method's own; None: start from random rows."""
        ...

    def start_tokens(self, params: Params) -> int:
        """Return the tokens that `start` ran through the model to make these params; 0 where it asks no model."""
        ...

    def realize(self, params: Params) -> dict[str, Tensor]:
        """Return what the model reads; params that are not the method's pass through."""
        ...

    def in_words(self, realized: Params) -> Tensor:
        """Return ``(num_virtual_tokens, width)``, the part of what the model reads (or of its gradient) that is compared with words."""
        ...

    def blend(self, incumbent: Params, proposed: Params, weight: float) -> dict[str, Tensor]:
        """Return a start that reads as ``(1 - weight) * incumbent + weight * proposed``, for the names that are proposed."""
        ...


class PromptCodec(TokenCodec[Params], Protocol):
    """The codec of a method's params, which knows where a run begins."""

    @property
    def start_tokens(self) -> int:
        """The tokens that a random start runs through the model."""
        ...


def others(params: Params, own: Sequence[str]) -> dict[str, Tensor]:
    """Return the params that do not belong to a method: those whose names do not begin with one of `own`."""
    return {name: value for name, value in params.items() if not name.startswith(tuple(own))}
