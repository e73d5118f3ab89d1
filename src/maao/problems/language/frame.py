"""The frame of a soft prompt: the template around the slots and the label words, where a proposal fills them as well as the slots.

A frame stands among the params as ``{"frame": (bytes,)}``, UTF-8 of a JSON object as whole numbers, which a stage carries and does not
train. So it is stored, restarted and walked from like anything that is tuned, and a point says itself in which frame it is read.

Source: label words and templates as choices to be made: PET (Schick and Schuetze, 2021), LM-BFF (Gao et al., 2021).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from maao.errors import CodecError
from maao.protocols import NO_FIELDS, Decoded, Encoded, Params, TokenCodec
from maao.types import TEMPLATE, WORD, Token

FRAME = "frame"


@dataclass(frozen=True, slots=True)
class Frame:
    """What a proposal filled in; what it left out is as the config says. `label_words` are in the order of the labels.

    Example:
        >>> frame = Frame(label_words=("terrible", "great"))
        >>> Frame.of({"frame": frame.tensor()}) == frame, Frame.of({})
        (True, None)
    """

    template: str | None = None
    label_words: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, str], labels: Sequence[str]) -> Frame:
        """Return the frame of a proposal's fields: `template`, a `label_words.LABEL` for each label, or both.

        Raises:
            CodecError: a field of another name, or a label without a word beside one that has one.

        Example:
            >>> Frame.from_fields({"label_words.good": "great", "label_words.bad": "terrible"}, ("bad", "good")).label_words
            ('terrible', 'great')
        """
        known = [TEMPLATE, *(WORD + label for label in labels)]
        unknown = [name for name in fields if name not in known]
        if unknown:
            raise CodecError(f"There is nothing to fill that is called {', '.join(unknown)}; there is: {', '.join(known)}.")
        words = [fields[WORD + label] for label in labels if WORD + label in fields]
        if words and len(words) < len(labels):
            raise CodecError(f"Of {len(labels)} labels only {len(words)} have a word: {', '.join(labels)}.")
        return cls(fields.get(TEMPLATE), tuple(words))

    def fields(self, labels: Sequence[str]) -> dict[str, str]:
        """Return the fields that `from_fields` made it of."""
        template = {} if self.template is None else {TEMPLATE: self.template}
        return template | {WORD + label: word for label, word in zip(labels, self.label_words, strict=False)}

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> Frame | None:
        """Return the frame that params name; None: they name none."""
        if FRAME not in params:
            return None
        told = json.loads(params[FRAME].cpu().numpy().tobytes().decode("utf-8"))
        return cls(told["template"], tuple(told["label_words"]))

    def tensor(self) -> Tensor:
        return torch.frombuffer(bytearray(json.dumps(asdict(self), ensure_ascii=False).encode("utf-8")), dtype=torch.uint8).clone()


def without_frame(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return params without their frame: what a problem in that frame reads."""
    return {name: value for name, value in params.items() if name != FRAME}


class FramedCodec:
    """A codec whose proposals may fill the frame too; a text alone is encoded as by the codec beneath.

    Args:
        codec: of the prompt.
        fields: the names of what may be filled.
        fill: the params of filled fields; raises `CodecError` for what cannot be.
    """

    def __init__(self, codec: TokenCodec[Params], fields: tuple[str, ...], fill: Callable[[Mapping[str, str]], Params]) -> None:
        self._codec, self.fields, self._fill = codec, fields, fill

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        encoded = self._codec.encode(text)
        return replace(encoded, params={**encoded.params, **self._fill(fields)}) if fields else encoded

    def decode(self, params: Params) -> Decoded:
        return self._codec.decode(params)

    def random(self, seed: int) -> Params:
        return self._codec.random(seed)

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        frame = {name: value for name, value in new.items() if name == FRAME}  # there is nothing between two frames
        return {**self._codec.blend(old, without_frame(new), weight), **frame}

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        return self._codec.nearest(vectors, count)

    def sample(self, count: int, seed: int) -> Tensor:
        found: Tensor = self._codec.sample(count, seed)
        return found
