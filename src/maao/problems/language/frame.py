"""The frame of a soft prompt: the template around the slots and the label words, where a proposal fills them as well as the slots.

A frame stands among the params as ``{"frame": (bytes,)}``, UTF-8 of a JSON object as whole numbers, which a stage carries and does not
train. So it is stored, restarted and walked from like anything that is tuned, and a point says itself in which frame it is read.

Source: label words and templates as choices to be made: PET (Schick and Schuetze, 2021), LM-BFF (Gao et al., 2021).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

FRAME = "frame"
SEPARATOR = "|"  # parts the label words of a proposal


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
        """Return the frame of a proposal's fields: `template`, and `label_words` in the order of the labels, a bar between them.

        Each may begin with its label and a colon.

        Example:
            >>> Frame.from_fields({"label_words": "bad: terrible | good: great"}, ("bad", "good")).label_words
            ('terrible', 'great')
        """
        told = fields.get("label_words")
        words = [] if told is None else [word.strip() for word in told.split(SEPARATOR)]
        bare = [word.removeprefix(f"{label}:").strip() for word, label in zip(words, labels, strict=False)]
        return cls(fields.get("template"), (*bare, *words[len(bare) :]))

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
