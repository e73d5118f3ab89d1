"""The words of a prompt method's params, whatever it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from maao.core.seeds import seed_for
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params, TokenCodec
from maao.types import Cost, Token

Initial = Literal["vocabulary", "normal", "text"]


class Worded(Protocol):
    """The part of a prompt method that its words need."""

    def start(self, rows: Tensor) -> dict[str, Tensor]: ...

    def normal(self, seed: int) -> dict[str, Tensor] | None: ...

    def start_tokens(self, params: Params) -> int: ...

    def realize(self, params: Params) -> Params: ...

    def to_vocabulary_space(self, realized: Params) -> Tensor: ...

    def blend(self, old: Params, new: Params, weight: float) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Start:
    """How a run begins, and a random restart with it.

    Args:
        kind: "vocabulary" (rows of random words), "normal" (rows of normal numbers, or what the method itself draws), or "text".
        num_virtual_tokens, width: of the rows.
        std: standard deviation of normal rows.
        text: the text to begin with.
    """

    kind: Initial
    num_virtual_tokens: int
    width: int
    std: float = 0.02
    text: str = ""

    def normal_rows(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.num_virtual_tokens, self.width, generator=generator) * self.std


class MethodCodec:
    """A codec of a method's params: texts become its starts, and the part of it that is compared with words becomes words.

    Args:
        rows: the codec of the model's embedding rows; it encodes.
        words: the codec of what `method.to_vocabulary_space` gives; it decodes. The same one, where these are embedding rows.
        start: what random starts are.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, method: Worded, rows: TokenCodec[Params], start: Start, words: TokenCodec[Params] | None = None) -> None:
        self._method = method
        self._rows = rows
        self._words = words or rows
        self._start = start

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        encoded = self._rows.encode(text, fields)
        params = self._method.start(encoded.params["prompt"])
        return Encoded(params, encoded.text, encoded.note, Cost(model_tokens=self._method.start_tokens(params)))

    def decode(self, params: Params) -> Decoded:
        return self._words.decode({"prompt": self._method.to_vocabulary_space(self._method.realize(params)).detach()})

    def random(self, seed: int) -> Params:
        start, seed = self._start, seed_for(seed, "prompt")
        if start.kind == "text":
            return {name: value.clone() for name, value in self.encode(start.text).params.items()}
        if start.kind == "vocabulary":
            return self._method.start(self._rows.sample(start.num_virtual_tokens, seed).float())
        return self._method.normal(seed) or self._method.start(start.normal_rows(seed))

    @property
    def start_tokens(self) -> int:
        """The tokens that a random start runs through the model."""
        # A normal start of a method's own asks no model; any other is rows or a text, which deep prompts run through it.
        own = self._start.kind == "normal" and self._method.normal(0) is not None
        return 0 if own else self._method.start_tokens(self.random(0))

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        return self._method.blend(old, new, weight)

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        return self._words.nearest(vectors, count)

    def sample(self, count: int, seed: int) -> Tensor:
        found: Tensor = self._rows.sample(count, seed)
        return found
