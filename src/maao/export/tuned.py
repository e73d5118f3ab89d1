"""What is exported, and what exports it: a format is a class of its own, named in the table "export" of `choices.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from maao.class_lines import ClassLines
from maao.protocols import Params
from maao.types import JSON


@dataclass(frozen=True)
class Tuned:
    """A point, and all that there is to tell of it.

    Attributes:
        problem: what reads it, in the template that the point was tuned in.
        params: the point.
        text: its words; None where nothing of it could be put into words.
        about: what it belongs to, and how good it is.
        filled: whether a proposal filled more than its slots, so that its words are of no use alone.
        lines: the class lines that it was trained on, of an average those of each walk.
    """

    problem: Any
    params: Params
    text: str | None
    about: JSON
    filled: bool = False
    lines: tuple[ClassLines, ...] = ()


class Exporter(Protocol):
    """A format."""

    by_name_only: bool  # not among those that "all" stands for
    writes_averages: bool  # an average of walks is one thing in this format; else each walk is written by itself

    def serves(self, problem: object) -> bool:
        """Say whether a problem's points can be tried to be written so."""
        ...

    def write(self, tuned: Tuned, folder: Path) -> list[Path]:
        """Write a point, read it back, and compare.

        Raises:
            ConfigError: it cannot be written so, and why.
            ModelError: it reads back differently.
        """
        ...


AVERAGE_FILE = "average.json"
LINES_FILE = "lines.json"
HOW = (
    "Read an input by each walk, and take the mean of the logarithms of their probabilities, each as often as it counts; the softmax of "
    "that is the answer."
)


def write(exporter: Exporter, tuned: Tuned, folder: Path) -> list[Path]:
    """Write a point in a format, and beside it the class lines that it was trained on, each with its weight: a file to read, or to give on.

    What is exported needs them no more. `data.lines` takes such a file, with `data.lines_weight = 1`.
    """
    paths = exporter.write(tuned, folder)
    for i, lines in enumerate(tuned.lines):
        if len(lines):
            path = folder / (LINES_FILE if i == 0 else f"walk{i}.{LINES_FILE}")
            path.write_text(json.dumps(lines.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            paths.append(path)
    return paths


def write_walks(exporter: Exporter, walks: Sequence[Tuned], counts: Sequence[int], folder: Path) -> list[Path]:
    """Write each walk of an average into a folder of its own, and how they are used together into ``average.json``."""
    paths = []
    for i, walk in enumerate(walks):
        own = folder / f"walk{i}"
        own.mkdir(exist_ok=True)
        paths += write(exporter, walk, own)
    told = folder / AVERAGE_FILE
    counted = {f"walk{i}": count for i, count in enumerate(counts)}
    told.write_text(json.dumps({"walks": counted, "how": HOW}, indent=2), encoding="utf-8")
    return [*paths, told]
