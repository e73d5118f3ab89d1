"""The training loss of class scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_cross_entropy(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of scores ``(batch, num_classes)``, each example weighing so much ``(batch,)``; None: all alike.

    Example:
        >>> import torch
        >>> scores, targets = torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([1, 1])
        >>> one, other = mean_cross_entropy(scores[:1], targets[:1]), mean_cross_entropy(scores[1:], targets[1:])
        >>> bool(torch.isclose(mean_cross_entropy(scores, targets, torch.tensor([1.0, 0.5])), (one + 0.5 * other) / 1.5))
        True
    """
    if weights is None:
        return F.cross_entropy(scores, targets)
    each = F.cross_entropy(scores, targets, reduction="none")
    return (each * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)  # what all but nothing is believed of
