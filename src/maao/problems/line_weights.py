"""How far to believe each class line, before a walk that trains on it begins."""

from __future__ import annotations

from torch import Tensor

TRUST = 0.5  # how probable it is, beforehand, that a line is of its class and not of any


def responsibilities(probabilities: Tensor, num_classes: int, trust: float = TRUST) -> Tensor:
    """Return how probable it is that each line is of the class that it stands under ``(num_lines,)``.

    With the probability p that a model which has not seen the line gives to that class, it is ``trust p / (trust p + (1 - trust) / C)``:
    what a mixture of the model and of chance would say. A line that the model contradicts with confidence hardly counts; one of which
    the model knows nothing counts half.

    Args:
        probabilities: of the class of each line ``(num_lines,)``.

    Source: the responsibility of a mixture component in expectation maximization; as weights of noisy labels, Reed et al., Training Deep
    Neural Networks on Noisy Labels with Bootstrapping, 2014.

    Example:
        >>> import torch
        >>> [round(r, 3) for r in responsibilities(torch.tensor([0.0, 0.25, 1.0]), 4).tolist()]
        [0.0, 0.5, 0.8]
    """
    believed = trust * probabilities
    return believed / (believed + (1 - trust) / num_classes)
