"""Mentors of the tables: a recorded reply without the lines that resemble the data, and controls that keep as many lines of each class.

What resembles the data is told beforehand by `experiments.study2.similar`, since it needs every row of a set; a table names its file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from maao.class_lines import FIELD, KINDS, ClassLines, Kind, Line
from maao.errors import ConfigError
from maao.mentors.class_lines.base import LinesMentor, LinesOptions, Said
from maao.mentors.class_lines.controls import (
    ClassWordingsOptions,
    ControlOptions,
    CorpusLinesOptions,
    EditedExamplesOptions,
    RandomClassWordsOptions,
)
from maao.mentors.context import MentorContext
from maao.options import Section, Text
from maao.protocols import History, Params
from maao.types import P, S

Grams = Literal["words", "letters"]


@cache
def kept(file: str, grams: Grams, most: float, seed: int) -> ClassLines:
    """Return the lines of the reply that a seed uses, without those whose similarity to a row is above `most`."""
    if not Path(file).exists():
        raise ConfigError(f"There is no {file}: the strong mentor's replies of this set are not on record yet.")
    replies = json.loads(Path(file).read_text(encoding="utf-8"))
    found = ClassLines()
    for line in replies[seed % len(replies)]:
        if line[grams] <= most:
            found = replace(found, lines=(*found.lines, Line(line["label"], line["kind"], line["text"])))
    return found


class Resembling(Section):
    """Which lines are left out."""

    corpus: Text = Field(description="The texts of a set, NAME.txt, beside which its NAME-similar.json stands.")
    grams: Grams = Field("words", description="Whether runs of three words or of three letters are compared.")
    most: float = Field(0.3, description="The largest Jaccard similarity to a row of the data that a line may have.")

    def kept(self, run: MentorContext) -> ClassLines:
        return kept(self.corpus.removesuffix(".txt") + "-similar.json", self.grams, self.most, run.seed).in_order(run.classes)


@dataclass(frozen=True)
class Recorded(LinesMentor[P]):
    """Says the lines that were kept of a reply."""

    said: ClassLines

    def lines(self, history: History[P, S], seed: int) -> Said:
        return Said(self.said)


class Unlike(LinesOptions, Resembling):
    """The strong mentor's recorded reply without what resembles a row of the data."""

    def disclosure(self, run: MentorContext) -> str:
        return "Class lines are a reply on record: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Recorded[Params]:
        return Recorded(run.codec, self.wanted(run), "unlike", self.kept(run))


@dataclass(frozen=True)
class AsFew(LinesMentor[P]):
    """Says what a control says, of each class and kind as many lines as were kept of the reply."""

    control: LinesMentor[P]
    counts: Mapping[tuple[str, Kind], int]

    def lines(self, history: History[P, S], seed: int) -> Said:
        said = self.control.lines(history, seed)
        left = dict(self.counts)
        found = []
        for line in said.lines:
            left[line.label, line.kind] = left.get((line.label, line.kind), 0) - 1
            if left[line.label, line.kind] >= 0:
                found.append(line)
        return replace(said, lines=ClassLines(tuple(found)))

    def further_fields(self, history: History[P, S], seed: int) -> Mapping[str, str]:
        given = self.control.further_fields(history, seed)
        shortened = {name: "\n".join(text.split("\n")[: self._most(name)]) for name, text in given.items()}
        return {name: text for name, text in shortened.items() if text}

    def _most(self, name: str) -> int:
        for (label, kind), count in self.counts.items():
            if name.endswith(f".{FIELD[kind]}{label}"):
                return count
        return 0


class Fewer(Resembling):
    """Keeps as many lines of a control as are kept of the reply. Stands before the control's own options among the bases of a class."""

    def build(self, run: MentorContext) -> AsFew[Params]:
        control = super().build(run)  # type: ignore[misc]  # of the class that stands behind
        assert isinstance(self, ControlOptions)
        said = self.kept(run)
        counts = {(label, kind): sum(line.label == label and line.kind == kind for line in said) for label in run.classes for kind in KINDS}
        return AsFew(run.codec, self.wanted(run), control.source, control, counts)


class WordingsAsFew(Fewer, ClassWordingsOptions):
    """Wordings of the names, as few."""


class RandomWordsAsFew(Fewer, RandomClassWordsOptions):
    """Random words behind the names, as few."""


class EditsAsFew(Fewer, EditedExamplesOptions):
    """Edits of the labelled examples, as few."""


class CorpusAsFew(Fewer, CorpusLinesOptions):
    """Sentences of a corpus, as few."""
