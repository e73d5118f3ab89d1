"""The words of a point, where it has any."""

from __future__ import annotations

from typing import Any

from maao.errors import CodecError
from maao.protocols import Codec


def in_words(codec: Codec[Any], params: Any) -> str:
    """Return the words of a point, or nothing where no text near it survives: it can be walked from all the same.

    Example:
        >>> from maao.codecs.numbers import NumberCodec
        >>> codec = NumberCodec(2)
        >>> in_words(codec, codec.encode("1 0.5").params)
        '1.000 0.500'
    """
    try:
        return codec.decode(params)
    except CodecError:
        return ""
