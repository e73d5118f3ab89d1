"""A codec of class lines for tests, and a mentor that says what it is told to."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from maao.class_lines import ClassLines, Line
from maao.errors import CodecError
from maao.mentors.class_lines.base import LinesMentor, Said
from maao.protocols import NO_FIELDS, Decoded, Encoded

CLASSES = ("calories", "cook_time", "recipe")


@dataclass(frozen=True)
class LinesCodec:
    """Lines become a point of a plane: how many there are (in tens), and their weight."""

    classes: tuple[str, ...] = CLASSES
    fields: tuple[str, ...] = ()

    def encode(self, text, fields=NO_FIELDS):
        if text:
            raise CodecError(f"there is no prompt to fill with {text!r}")
        lines = ClassLines.from_fields(fields, self.classes)
        return Encoded({"x": torch.tensor([len(lines) / 10, lines.lines[0].weight])}, text)

    def decode(self, params):
        return Decoded(None)

    def random(self, seed):
        return {"x": torch.randn(2, generator=torch.Generator().manual_seed(seed))}

    def blend(self, old, new, weight):
        return {name: torch.lerp(old[name], new[name], weight) for name in new}


@dataclass(frozen=True)
class Sayer(LinesMentor):
    """Says the same lines always."""

    said: Said = field(default_factory=Said)

    def lines(self, history, seed):
        return self.said


def examples(label, *texts):
    return tuple(Line(label, "examples", text) for text in texts)


def lines(*told):
    """Lines of pairs of a class and its examples."""
    return ClassLines(tuple(line for label, texts in told for line in examples(label, *texts)))
