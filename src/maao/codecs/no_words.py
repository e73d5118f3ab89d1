"""The codec of methods without a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from maao.core.blending import between
from maao.errors import CodecError
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params


@dataclass(frozen=True)
class NoWords:
    """Nothing can be put into words, and no text replaces anything.

    Example:
        >>> NoWords().decode({}).note
        'This method trains no prompt, so there are no words for it.'
    """

    fields: ClassVar[tuple[str, ...]] = ()
    start_tokens: ClassVar[int] = 0

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        raise CodecError(f"This method trains no prompt: the text {text!r} cannot become one.")

    def decode(self, params: Params) -> Decoded:
        return Decoded(None, note="This method trains no prompt, so there are no words for it.")

    def random(self, seed: int) -> Params:
        return {}

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        return between(old, new, weight)
