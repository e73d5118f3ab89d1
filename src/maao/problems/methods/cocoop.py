"""CoCoOp: a small network moves CoOp's context for each image, so the text tower runs once for every image and class.

Source: Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound
from maao.problems.methods.coop import CoOp
from maao.problems.methods.layers import linear
from maao.problems.settings import MatcherMethodOptions
from maao.protocols import Params


class CoCoOp(CoOp):
    """``{"prompt": (num_virtual_tokens, width), "meta.0.*", "meta.2.*"}``: rows are ``prompt + meta(image)``, with a bottleneck of a
    sixteenth of the image feature's width.

    The last layer of the network is zero at every start (the release begins with torch's default), so that a text restarts the context
    exactly; it is trained all the same, for its gradient is not zero.
    """

    name: ClassVar[str] = "cocoop"
    moves_by_input: ClassVar[bool] = True

    @property
    def _hidden(self) -> int:
        return max(1, self.bound.encoder.embed_dim // 16)

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        width = rows.shape[-1]
        return {"prompt": rows.clone(), "meta.2.weight": torch.zeros(width, self._hidden), "meta.2.bias": torch.zeros(width)}

    def extra(self, seed: int) -> dict[str, Tensor]:
        weight, bias = linear(seed_for(seed, "meta"), self.bound.encoder.embed_dim, self._hidden)
        return {"meta.0.weight": weight, "meta.0.bias": bias}

    def moved(self, params: Params, features: Tensor) -> Tensor:
        hidden = F.relu(F.linear(features, params["meta.0.weight"], params["meta.0.bias"]))
        moved = F.linear(hidden, params["meta.2.weight"], params["meta.2.bias"])  # (batch, width)
        return params["prompt"] + moved[:, None]

    def num_tokens(self, num_inputs: int) -> int:
        return num_inputs * sum(len(prompt.ids) for prompt in self.bound.prompts)


class CoCoOpOptions(MatcherMethodOptions):
    """CoCoOp has no settings of its own."""

    def build(self, bound: Bound) -> CoCoOp:
        return CoCoOp(bound)
