"""What a frozen model made of texts, kept from run to run: runs that share a model and their data read the same texts.

Kept are whole batches, as they were computed: the bits that a run finds do not depend on which runs came before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Text = tuple[int, ...]  # token ids
KeyValues = tuple["Tensor", "Tensor"]  # each (layers, heads, length, head_dim)


class KVCache:
    """Keys and values of batches of texts, up to a size; what has not been used for longest goes first.

    Args:
        max_bytes: how much memory they may take.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[tuple[Text, ...], list[KeyValues]] = OrderedDict()
        self._bytes = 0

    def get(self, texts: Sequence[Text], read: Callable[[Sequence[Text]], list[KeyValues]]) -> list[KeyValues]:
        """Return the keys and values of a batch, a pair a text; `read` computes them where they are not kept."""
        key = tuple(texts)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        found = read(texts)
        self._held[key] = found
        self._bytes += _num_bytes(found)
        while self._bytes > self._max_bytes and self._held:
            self._bytes -= _num_bytes(self._held.popitem(last=False)[1])
        return found


def _num_bytes(pairs: Sequence[KeyValues]) -> int:
    return sum(tensor.nbytes for pair in pairs for tensor in pair)
