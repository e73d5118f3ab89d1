"""A batch that several processes share: each takes a part of its examples through the model, and gradients are summed over all of them.

Every process holds the same params and the same model, so what is sent is one tensor a step: the loss and the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which part of every batch is this process's: each `count`-th example from number `rank` on.

    `sum` returns the sum over all processes of a tensor ``(size,)``, which all of them call, in the same order.
    """

    rank: int
    count: int
    sum: Callable[[Tensor], Tensor]

    def of(self, size: int) -> list[int]:
        """Return which of a batch's examples are this process's.

        Example:
            >>> Share(1, 2, lambda tensor: tensor).of(5)
            [1, 3]
        """
        return list(range(self.rank, size, self.count))

    def summed(self, loss: Tensor, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        """Return a loss and gradients summed over all processes; None where no process has one.

        Args:
            like: what the gradients are of: a process without an example has none to show their shapes.
        """
        there = torch.tensor([float(gradient is not None) for gradient in gradients])
        flat = [
            torch.zeros(one.numel()) if own is None else own.detach().float().cpu().flatten()
            for own, one in zip(gradients, like, strict=True)
        ]
        total = self.sum(torch.cat([loss.detach().float().cpu().reshape(1), there, *flat]))
        value, found, rest = total[0], total[1 : 1 + len(there)], total[1 + len(there) :]
        pieces = rest.split([one.numel() for one in like])
        own = [piece.view(one.shape).to(one) if n else None for piece, one, n in zip(pieces, like, found.tolist(), strict=True)]
        return value.to(loss), own


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


def current_share() -> Share | None:
    """Return this process's share of the batch at hand; None: all of it is."""
    return _SHARE.get()


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within this, losses of batches are computed by all processes together."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)
