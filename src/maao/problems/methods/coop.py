"""CoOp: the words around the class name are tuned vectors. Features of inputs are frozen, so each is seen once.

Source: Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from pydantic import Field
from torch import Tensor

from maao.errors import ConfigError
from maao.problems.methods import Bound, Matched
from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.settings import MatcherMethodOptions
from maao.problems.towers.dual import NO_ROWS
from maao.protocols import Params


class CoOp(PromptTuning):
    """``{"prompt": (num_virtual_tokens, width)}``; with a context of each class's own ``(num_classes, num_virtual_tokens, width)``.

    A text restarts it exactly: the rows become the text's embeddings, in every class.
    """

    name: ClassVar[str] = "coop"
    tunes_inputs: ClassVar[bool] = False
    moves_by_input: ClassVar[bool] = False

    def __init__(self, bound: Bound, *, class_specific: bool = False) -> None:
        self.bound, self.class_specific = bound, class_specific

    def bind(self, bound: Bound) -> Self:
        if self.class_specific and len(bound.prompts) != len(self.bound.prompts):
            raise ConfigError("Contexts of each class's own say nothing of other classes: use a shared context to judge new ones.")
        found = copy.copy(self)  # the towers are the same, so that depths are too
        found.bound = bound
        return found

    def start(self, rows: Tensor) -> dict[str, Tensor]:
        return {"prompt": rows.expand(len(self.bound.prompts), *rows.shape).clone() if self.class_specific else rows.clone()}

    def to_vocabulary_space(self, realized: Params) -> Tensor:
        prompt = realized["prompt"]
        # in double precision, so that the mean of contexts that are all one text is that text to the bit
        return prompt.double().mean(0).to(prompt.dtype) if prompt.dim() == 3 else prompt

    def deep(self, params: Params) -> Mapping[int, Tensor]:
        return NO_ROWS

    def input_rows(self, params: Params) -> Sequence[Tensor]:
        return ()

    def moved(self, params: Params, features: Tensor) -> Tensor:
        return params["prompt"].expand(len(features), *params["prompt"].shape)

    def loss(self, read: Matched) -> Tensor:
        return read.cross_entropy

    def num_tokens(self, num_inputs: int) -> int:
        return self.bound.encoder.text.num_tokens(self.bound.prompts, shared=not self.class_specific)


class CoOpOptions(MatcherMethodOptions):
    """Settings of CoOp."""

    class_specific: bool = Field(False, description="A context of its own for each class.")

    def build(self, bound: Bound) -> CoOp:
        return CoOp(bound, class_specific=self.class_specific)
