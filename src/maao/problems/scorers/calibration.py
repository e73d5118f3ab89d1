"""Calibration of label words: what a model says for each class whatever the input is taken from its scores.

A calibration is one number a class, the logarithm of how probable the class is "of nothing", which is subtracted from the scores.

* "contextual": with the class probabilities p of inputs without content ("N/A", "[MASK]" and the empty text), ``log of the mean of p``.
  What is left are the probabilities ``p(class | input) / p(class | nothing)``, normalised. Source: Zhao et al., Calibrate Before Use, ICML
  2021, whose matrix W is ``diag(1 / p)``; normalising changes no decision.
* "batch": ``the mean of log p`` over unlabelled inputs, here those of `train`; never of `select` or `test`. Source: Zhou et al., Batch
  Calibration: Rethinking Calibration for In-Context Learning and Prompt Engineering, ICLR 2024.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Calibration = Literal["none", "contextual", "batch"]

CALIBRATION = "calibration"  # the param
CONTENT_FREE = ("N/A", "[MASK]", "")


def calibrating(scores: Tensor, kind: Calibration) -> Tensor:
    """Return what is added to class scores ``(num_classes,)``, with the mean zero.

    Args:
        scores: ``(num_inputs, num_classes)`` of inputs without content, or of unlabelled ones.

    Example:
        >>> import torch
        >>> added = calibrating(torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), "contextual")
        >>> [round(float(p), 4) for p in (torch.tensor([0.7, 0.3]).log() + added).softmax(-1)]
        [0.5, 0.5]
    """
    probable = scores.double().log_softmax(-1)
    nothing = probable.exp().mean(0).log() if kind == "contextual" else probable.mean(0)
    return (nothing.mean() - nothing).to(scores.dtype)
