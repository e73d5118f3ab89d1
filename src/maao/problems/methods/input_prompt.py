"""Soft prompts on both sides of a matcher: around the words of the classes, and among the tokens of what is classified.

Source: the independent vision-language prompts (IVLP) of Khattak et al., MaPLe, CVPR 2023, in the first layer alone; of texts the second
prompt is that of Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning, EMNLP 2021, in an encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from maao.core.seeds import seed_for
from maao.problems.methods import Bound
from maao.problems.methods.layers import DEEP_STD, BothTowers, seeded
from maao.problems.settings import MatcherMethodOptions
from maao.problems.towers.dual import NO_ROWS
from maao.protocols import Params

INPUT = "input_prompt"


class InputPrompt(BothTowers):
    """``{"prompt": (num_virtual_tokens, width), "input_prompt": (num_input_tokens, input width)}``; loss: cross-entropy.

    Rows of "input_prompt" stand behind what begins a text, or behind the tokens of an image. A text restarts `prompt`; the other stays.
    Every step runs the inputs, so that none of their features can be kept.
    """

    name: ClassVar[str] = "input_prompt"
    title: ClassVar[str] = "input_prompt"

    def __init__(self, bound: Bound, *, num_input_tokens: int = 4) -> None:
        super().__init__(bound, depth=1)
        self.num_input_tokens = num_input_tokens

    def extra(self, seed: int) -> dict[str, Tensor]:
        shape = (self.num_input_tokens, self.bound.encoder.input.width)
        return {INPUT: torch.randn(shape, generator=seeded(seed_for(seed, INPUT))) * DEEP_STD}

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        return NO_ROWS

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        return [params[INPUT]]

    def num_tokens(self, num_inputs: int) -> int:
        return super().num_tokens(num_inputs) + num_inputs * self.num_input_tokens


class InputPromptOptions(MatcherMethodOptions):
    """Settings of soft prompts on both sides."""

    num_input_tokens: int = Field(4, ge=1, le=10_000, description="Rows among the tokens of what is classified.")

    def build(self, bound: Bound) -> InputPrompt:
        return InputPrompt(bound, num_input_tokens=self.num_input_tokens)
