"""A batch in parts: little padding, and the memory of one part only, with the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maao.problems.methods import PromptMethod
from maao.problems.scorers import ClassScorer, I
from maao.problems.scoring import realized
from maao.problems.shares import Share
from maao.protocols import Params

PartLoss = Callable[[Params, I, list[int]], Tensor]  # of params, the inputs of a part, and which they are


def loss_in_parts(
    method: PromptMethod,
    scorer: ClassScorer[I],
    params: Params,
    inputs: I,
    targets: Tensor,
    parts: Sequence[Sequence[int]],
    factor: float = 1.0,
    share: Share | None = None,
) -> Tensor:
    """Return the mean loss of a batch, its gradient computed part by part; with a `share`, `parts` are this process's, and so are summed.

    A network's output is computed once, and its gradient is summed over the parts before it goes on to the params. `factor` is that of
    `ClassScorer.loss`.
    """
    tuned = {name: value for name, value in params.items() if value.requires_grad}
    own = {name: value.detach().requires_grad_() for name, value in tuned.items()}
    targets = targets.to(scorer.device)
    weights = scorer.weights(inputs, targets)
    losses = []

    def part_loss(read: Params, part: I, which: list[int]) -> Tensor:
        loss = scorer.loss(read, part, targets[which], factor) * (weights[which].sum() / weights.sum())
        losses.append(loss.detach())
        return loss

    gradients: Sequence[Tensor | None] = summed_gradients(
        scorer, realized(method, scorer, {**params, **own}), list(own.values()), inputs, parts, part_loss
    )
    total = torch.zeros((), device=scorer.device)
    for loss in losses:
        total += loss
    if share is not None:
        total, gradients = share.summed(total, gradients, list(own.values()))
    # The sums below are exactly zero; what they carry is the gradient.
    carriers = [
        ((value - value.detach()) * gradient.to(value)).sum().to(total)
        for value, gradient in zip(tuned.values(), gradients, strict=True)
        if gradient is not None
    ]
    return total + torch.stack(carriers).sum() if carriers else total


def summed_gradients(
    scorer: ClassScorer[I],
    point: Params,
    wanted: Sequence[Tensor],
    inputs: I,
    parts: Sequence[Sequence[int]],
    part_loss: PartLoss[I],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the sum of all parts' losses with respect to what a realized point follows from; None: nothing does.

    What all inputs share is computed once. What goes on from there is the gradient that all parts sum up to.
    """
    read, short = scorer.share(point, inputs) or (point, inputs)
    moving = {name: value for name, value in read.items() if value.requires_grad}
    leaves = {name: value.detach().requires_grad_() for name, value in moving.items()}
    summed: dict[str, Tensor] = {}  # of those that something follows from: what is only carried along stays so
    for which in parts:
        index = list(which)
        loss = part_loss({**read, **leaves}, short.take(index), index)
        for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True), strict=True):
            if gradient is not None:
                summed[name] = gradient.float() if name not in summed else summed[name] + gradient  # bf16 would lose small parts
    if not summed:  # no part is this process's
        return (None,) * len(wanted)
    carried = [gradient.to(moving[name].dtype) for name, gradient in summed.items()]
    return torch.autograd.grad([moving[name] for name in summed], list(wanted), carried, allow_unused=True)
