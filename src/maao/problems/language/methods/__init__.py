"""Prompt methods: what is trained, and what of it the frozen model reads. One file a method.

A method turns params (named tensors, what an optimizer moves and a run stores) into what a reader takes: embedding rows in the slots, or
keys and values in front of everything. A text restarts each of them, exactly where that can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from maao.protocols import Encoded, TokenCodec
from maao.types import Token

Params = Mapping[str, Tensor]


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


class Worded(Protocol):
    """The part of a method that its words need."""

    def start(self, rows: Tensor) -> dict[str, Tensor]: ...

    def realize(self, params: Params) -> Params: ...

    def in_words(self, realized: Params) -> Tensor: ...


class MethodCodec:
    """A codec of a method's params: texts become its starts, and the part of it that is compared with words becomes words.

    Args:
        rows: the codec of the model's embedding rows; it encodes.
        words: the codec of what `method.in_words` gives; it decodes. The same one, where these are embedding rows.
    """

    def __init__(self, method: Worded, rows: TokenCodec[Params], words: TokenCodec[Params] | None = None) -> None:
        self._method = method
        self._rows = rows
        self._words = words or rows

    def encode(self, text: str) -> Encoded[Params]:
        encoded = self._rows.encode(text)
        return Encoded(self._method.start(encoded.params["prompt"]), encoded.text, encoded.note)

    def decode(self, params: Params) -> str:
        return self._words.decode({"prompt": self._method.in_words(self._method.realize(params)).detach()})

    def nearest(self, vectors: Any, count: int) -> tuple[tuple[Token, ...], ...]:
        return self._words.nearest(vectors, count)

    def sample(self, count: int, seed: int) -> Any:
        return self._rows.sample(count, seed)

    @property
    def num_tokens(self) -> int:
        """Tokens that putting params into words has run through a language model so far."""
        return int(getattr(self._words, "num_tokens", 0))


def between(incumbent: Params, proposed: Params, weight: float) -> dict[str, Tensor]:
    """Return ``(1 - weight) * incumbent + weight * proposed`` of each tensor that is proposed."""
    return {name: (1 - weight) * incumbent[name] + weight * value for name, value in proposed.items()}


def others(params: Params, own: Sequence[str]) -> dict[str, Tensor]:
    """Return the params that do not belong to a method: those whose names do not begin with one of `own`."""
    return {name: value for name, value in params.items() if not name.startswith(tuple(own))}
