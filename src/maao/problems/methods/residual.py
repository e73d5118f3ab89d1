"""Reparameterized prompts in residual form: what is read is where a text put it, plus the change of a small network since it began.

Right after a restart the change is exactly zero, so that a text restarts the method exactly. The residual form is ours; the networks are
P-tuning's (Liu et al., GPT Understands, Too, 2021) and prefix tuning's (Li and Liang, Prefix-Tuning, 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maao.protocols import Params

ENCODER = "encoder."


class Residual:
    """A network whose change is added to what a text put down; its weights are the params ``encoder.*``.

    Args:
        make: makes the network, which takes nothing and gives what is added.
        seed: fixes the network's beginning.
    """

    def __init__(self, make: Callable[[], nn.Module], seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = make()
        self._network.requires_grad_(False)
        self._fresh = {ENCODER + name: value.detach().clone() for name, value in self._network.named_parameters()}
        self._origin = self._run(self._fresh)

    def fresh(self) -> dict[str, Tensor]:
        """Return the network's weights as it begins: always the same ones for a seed."""
        return {name: value.clone() for name, value in self._fresh.items()}

    def change(self, params: Params) -> Tensor:
        """Return what the network gives more than it did when it began."""
        now = self._run(params)
        return now - self._origin.to(now)

    def _run(self, params: Params) -> Tensor:
        own = {name.removeprefix(ENCODER): value for name, value in params.items() if name.startswith(ENCODER)}
        wanted = torch.is_grad_enabled() and any(value.requires_grad for value in own.values())
        with torch.enable_grad():  # an LSTM rounds differently where no gradient is wanted, and the difference must be exactly zero
            own = own if wanted else {name: value.detach().requires_grad_() for name, value in own.items()}
            result: Tensor = torch.func.functional_call(self._network, own, ())
        return result if wanted else result.detach()
