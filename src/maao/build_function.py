"""Build a plain function from a config."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NoReturn

from maao.builder import NOTHING_TO_FILL, Builder, Built, nothing_to_label
from maao.mentors.context import Input, MentorContext
from maao.mentors.fields import NAMES
from maao.problems.texts import LoadedModels
from maao.types import Splits

if TYPE_CHECKING:
    from maao.build import RunComponents


class FunctionBuilder(Builder):
    """Builds a function that is minimized. It has no examples, and no model."""

    sections: ClassVar[tuple[str, ...]] = ("function",)

    @property
    def input(self) -> Input:
        return "numbers"

    def unread(self) -> dict[str, str]:
        return {
            "from_run": "a function has no examples and no classes to go on with: drop it",
            "baselines": "problem is 'function', which has no labels that a baseline could learn from: drop it",
        }

    def inputs(self, run: str) -> NoReturn:
        nothing_to_label(self.config, run)

    def build(self, splits: Splits | None = None, loaded: LoadedModels | None = None) -> Built:
        from maao.codecs.numbers import NumberCodec
        from maao.problems.functions import FunctionProblem

        function = self.config.function
        codec = NumberCodec(function.dim, function.digits, function.bound)
        return Built(self.config, FunctionProblem(function.name, function.dim, function.bound, codec), codec)

    def build_for_use(self, splits: Splits, class_names: tuple[str, ...], like: RunComponents | None) -> Built:
        return self.build()

    def for_mentor(self, parts: RunComponents, run: MentorContext) -> MentorContext:
        function = self.config.function
        told = f"The point is {function.dim} numbers, separated by spaces. Find the point where {function.name} is lowest."
        return replace(
            run,
            labels=("a number each",),
            template="{slots}",
            told=told,
            length=function.dim,
            max_tokens=function.dim * 2,
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )
