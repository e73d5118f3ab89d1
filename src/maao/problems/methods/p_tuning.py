"""P-tuning: the embedding rows in the slots are the output of a small network, and the network is trained.

Sources: Liu et al., GPT Understands, Too, 2021 (pseudo-token embeddings, a two-layer bidirectional LSTM of half the width each way, then
two layers with a ReLU between; or the layers alone). The residual form, by which a text restarts it exactly, is ours.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from maao.core.blending import between
from maao.problems.methods import others
from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.methods.residual import ENCODER, Residual
from maao.problems.settings import TextMethodOptions, TextParts
from maao.protocols import Params


class Reparameterized(nn.Module):
    """Pseudo-token embeddings ``(num_virtual_tokens, width)`` and the network that they go through."""

    def __init__(self, kind: Literal["lstm", "mlp"], num_virtual_tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(num_virtual_tokens, width))
        self.lstm = nn.LSTM(width, hidden // 2, num_layers=2, bidirectional=True, batch_first=True) if kind == "lstm" else None
        first = hidden // 2 * 2 if kind == "lstm" else width
        self.mlp = nn.Sequential(nn.Linear(first, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self) -> Tensor:
        held = self.input[None]
        if self.lstm is not None:
            held = self.lstm(held)[0]
        return self.mlp(held)[0]


class PTuning(PromptTuning):
    """``{"prompt": ..., "encoder.*": ...}``: the rows read are ``prompt + f(encoder) - f(encoder as it began)``.

    `prompt` is where a text put the rows and is not trained; the network is. Right after a restart the difference is exactly zero, so the
    rows are exactly the text's. A restart begins with a fresh network, always the same one for a seed. The network's pseudo-tokens are
    ``num_virtual_tokens`` many; a shorter prompt (free length) reads the first of them.

    Args:
        kind: "lstm" or "mlp".
        hidden: width inside the network; None: the embedding's.
        seed: fixes the network's beginning.
    """

    def __init__(
        self, kind: Literal["lstm", "mlp"], num_virtual_tokens: int, width: int, *, hidden: int | None = None, seed: int = 0
    ) -> None:
        self._network = Residual(lambda: Reparameterized(kind, num_virtual_tokens, width, hidden or width), seed)

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        return {"prompt": rows, **self._network.fresh()}

    def realize(self, params: Params) -> dict[str, Tensor]:
        anchor = params["prompt"].detach()
        return {**others(params, [ENCODER]), "prompt": anchor + self._network.change(params)[: len(anchor)]}

    def blend(self, old: Params, new: Params, weight: float) -> dict[str, Tensor]:
        """Blend the rows that are read: half of one network and half of another is a network that nobody trained."""
        rows = between(self.realize(old), self.realize({**old, **new}), weight)["prompt"]
        return {**between(old, others(new, ["prompt", ENCODER]), weight), **self.start(rows)}


class PTuningOptions(TextMethodOptions):
    """Settings of the network."""

    encoder: Literal["lstm", "mlp"] = Field("lstm", description="The network that rows go through.")
    hidden: int | None = Field(None, ge=2, le=8_192, description="Width inside the network; by default the embedding's.")

    def build(self, parts: TextParts) -> PTuning:
        return PTuning(self.encoder, parts.num_virtual_tokens, parts.table.shape[1], hidden=self.hidden, seed=parts.seed)
