"""For codecs whose proposals fill nothing beside their text."""

from __future__ import annotations

from collections.abc import Mapping

from maao.errors import CodecError


def refuse_fields(fields: Mapping[str, str]) -> None:
    """Raise `CodecError` for a proposal that fills more than its text."""
    if fields:
        raise CodecError("This problem's proposals fill the slots alone.")
