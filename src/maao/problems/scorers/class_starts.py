"""Where the features of classes begin: at the texts that stand for them, at the examples that are labelled with them, or at both."""

from __future__ import annotations

import torch
from torch import Tensor

AT_A_TIME = 2**16  # rows


def class_starts(texts: Tensor, features: Tensor, targets: Tensor, *, text_weight: float, weights: Tensor | None = None) -> Tensor:
    """Return ``(num_classes, width)``, for each class the weighted mean of its text and its examples.

    Of a class with the text t and examples x_i of weights w_i it is ``(text_weight t + sum of w_i x_i) / (text_weight + sum of w_i)``: the
    mean of a Gaussian whose prior is the text, seen `text_weight` times. A class without an example begins at its text.

    Args:
        texts: features of the class texts ``(num_classes, width)``.
        features, targets: of the examples, ``(num_examples, width)`` and class numbers ``(num_examples,)``.
        text_weight: examples that a text counts as; 0: examples alone, where there are any.
        weights: of the examples ``(num_examples,)``; by default one each.

    Source: Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, of whose prototypes this is a shrunk form.

    Example:
        >>> texts, features = torch.tensor([[0.0], [5.0]]), torch.tensor([[2.0], [4.0]])
        >>> class_starts(texts, features, torch.tensor([0, 0]), text_weight=1.0).tolist()
        [[2.0], [5.0]]
    """
    each, targets = (torch.ones(len(targets)) if weights is None else weights).to(features), targets.to(features.device)
    counts = torch.zeros(len(texts)).to(features).index_add(0, targets, each)
    sums = torch.zeros_like(texts).to(features)
    for begin in range(0, len(features), AT_A_TIME):  # there may be more than memory holds
        part = slice(begin, begin + AT_A_TIME)
        sums.index_add_(0, targets[part], features[part] * each[part, None])
    texts = texts.to(features)
    whole = (text_weight + counts)[:, None]
    mean = (text_weight * texts + sums) / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    return torch.where(counts[:, None] > 0, mean, texts)
