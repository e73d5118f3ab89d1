"""Hashes by which two histories, or two results, can be compared bit for bit.

Equal digests mean equal bits in everything that takes part in equality: seconds and dates do not, the order of a mapping does not.
"""

from __future__ import annotations

import hashlib

from maao.protocols import Arrays, Serializer
from maao.store.tensors import arrays_digest
from maao.store.values import canonical_json, encode
from maao.types import JSON, P, Round, S


def params_digest(params: P, serializer: Serializer[P, S]) -> str:
    """Return the SHA-256 of params. For params of one tensor it is also the name of the file that holds them."""
    return _sorted_digest(serializer.dump_params(params))


def round_digest(round: Round[P, S], serializer: Serializer[P, S]) -> str:
    """Return the SHA-256 of a round."""

    def state_content(state: S) -> JSON:
        arrays, meta = serializer.dump_state(state)
        return {"arrays": _sorted_digest(arrays), "meta": encode(meta, JSON)}

    content = canonical_json(round, Round, {"P": lambda params: params_digest(params, serializer), "S": state_content})
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _sorted_digest(arrays: Arrays) -> str:
    return arrays_digest(dict(sorted(arrays.items())))
