"""PEZ: the model reads the nearest tokens' rows, the optimizer moves soft rows by the gradient there. What is walked is text throughout.

Source: Wen et al., Hard Prompts Made Easy, 2023 (AdamW, lr 0.1, weight decay 0.1 there).
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.settings import TextMethodOptions, TextParts
from maao.protocols import Codec, Params


@runtime_checkable
class Projecting(Codec[Params], Protocol):
    """A codec that also knows the word nearest to each row."""

    def project(self, vectors: Tensor) -> Tensor: ...


class Pez(PromptTuning):
    """``{"prompt": (num_virtual_tokens, embed_dim)}``, read as the nearest text that survives the vocabulary.

    The gradient at the text's rows is handed to the soft rows as it is (straight through), which is the update of the paper. Its words are
    exactly what the loss speaks of: the gap between vectors and words is zero.

    Args:
        codec: what puts rows into words and back.
    """

    def __init__(self, codec: Projecting) -> None:
        self._codec = codec

    def realize(self, params: Params) -> dict[str, Tensor]:
        soft = params["prompt"]
        hard = self._project(soft.detach())
        return {**params, "prompt": hard + (soft - soft.detach())}  # the added term is exactly zero; it carries the gradient

    def _project(self, rows: Tensor) -> Tensor:
        text = self._codec.decode({"prompt": rows}).text
        found = rows[:0] if text is None else self._codec.encode(text).params["prompt"].to(rows)
        return found if found.shape == rows.shape else self._codec.project(rows).to(rows)


class PezOptions(TextMethodOptions):
    """PEZ has no settings of its own."""

    any_codec: ClassVar[bool] = False

    def build(self, parts: TextParts) -> Pez:
        assert isinstance(parts.rows, Projecting)
        return Pez(parts.rows)
