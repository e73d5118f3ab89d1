"""Mentors of class lines that know nothing of the classes but their names, the examples, or a text that is at hand.

They are of the same form as a mentor that knows: as many lines of each class, at the same weights, judged by the same rule. What is gained
beside them is what knowledge of the classes is worth. What they write, and whose controls they are, stands in `writers.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from pydantic import Field

from maao.class_lines import ClassLines, Line, alike
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.members import fold_name
from maao.mentors.class_lines.base import LONGEST, LinesMentor, LinesOptions, Said, Wanted, cleaned, usable
from maao.mentors.class_lines.writers import TRIES, WORDINGS, Near, edits, most_confident, near_words, random_words, told_apart, wordings
from maao.mentors.context import MentorContext, ReadByName
from maao.mentors.random_text import corpus_text, sentences_of
from maao.options import MANY, Text
from maao.protocols import History, Params
from maao.types import LINES_WEIGHT, Example, P, Rejected, S

Write = Callable[[int, random.Random], Iterable[str]]  # texts of a class by its number, drawn from a generator
POOL = 1000  # random words that lines are made of


@dataclass(frozen=True)
class Written(LinesMentor[P]):
    """Says of each class what a writer gives for it: first as many examples as are wanted, then as many descriptions.

    Args:
        write: gives texts of a class.
        is_fixed: it gives the same each time, so that there is nothing to add in a later round.
    """

    write: Write
    is_fixed: bool = False

    def lines(self, history: History[P, S], seed: int) -> Said:
        if self.is_fixed and any(r.leg.ask for r in history):
            return Said(rejected=(Rejected("", "it says the same each time, and was asked before"),))
        return written(self.wanted, self.write, seed)


def written(wanted: Wanted, write: Write, seed: int, known: Iterable[str] = ()) -> Said:
    """Return what a writer says of all classes; a text that is `known`, or said of an earlier class, is not said again."""
    count, found, seen = wanted.examples + wanted.descriptions, list[Line](), set(map(alike, known))
    for number, label in enumerate(wanted.classes):
        texts = told_apart(map(cleaned, write(number, random.Random(seed_for(seed, "lines", number)))), count, seen)
        found += [Line(label, "examples" if place < wanted.examples else "descriptions", text) for place, text in enumerate(texts)]
    return Said(ClassLines(tuple(found)))


@dataclass(frozen=True)
class EditedExamples(LinesMentor[P]):
    """Says of each class edits of its labelled examples, EDA's.

    Where labels are cross-validated, a fold's member is told edits of the examples that it trains on alone: an edit of an example that it
    is judged by would give the answer away. Those of the full member stand under the plain names, the others behind ``"fold<i>."``.

    Args:
        train: the labelled examples, of one field each.
        folds: the fold of each; () without cross-validation.
        near: words near to a word, which one may be changed for.
    """

    train: tuple[Example, ...]
    folds: tuple[int, ...]
    near: Near

    def lines(self, history: History[P, S], seed: int) -> Said:
        return self._edits(range(len(self.train)), seed)

    def further_fields(self, history: History[P, S], seed: int) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for fold in sorted(set(self.folds)):
            own = [place for place, held in enumerate(self.folds) if held != fold]
            lines, _ = usable(self._edits(own, seed_for(seed, "fold", fold)).lines, self.wanted.classes)
            fields = lines.at(1.0).to_fields() if len(lines) else {}
            found |= {fold_name(fold, name): text for name, text in fields.items() if name != LINES_WEIGHT}
        return found

    def _edits(self, places: Iterable[int], seed: int) -> Said:
        texts: dict[str, list[str]] = {label: [] for label in self.wanted.classes}
        for place in places:
            texts[self.train[place].label] += self.train[place].fields.values()

        def write(number: int, draw: random.Random) -> Iterator[str]:
            return edits(texts[self.wanted.classes[number]], self.near, draw)

        return written(self.wanted, write, seed, [text for own in texts.values() for text in own])


@dataclass(frozen=True)
class CorpusLines(LinesMentor[P]):
    """Says of each class the sentences of a corpus that the frozen model, by the classes' names alone, reads as it with most confidence.

    No label is looked at, so that a fold's member is told nothing of what it is judged by.

    Args:
        sentences: those of the corpus.
        read: gives the probabilities of the classes for texts.
        most: so many sentences are read, drawn where the corpus has more.
    """

    sentences: tuple[str, ...]
    read: ReadByName
    most: int

    def lines(self, history: History[P, S], seed: int) -> Said:
        if any(r.leg.ask for r in history):
            return Said(rejected=(Rejected("", "the most confident sentences were said before"),))
        sentences = self.sentences
        if len(sentences) > self.most:
            sentences = tuple(random.Random(seed_for(seed, "sentences")).sample(sentences, self.most))
        found = most_confident(self.read(sentences), TRIES * (self.wanted.examples + self.wanted.descriptions))
        return written(self.wanted, lambda number, draw: (sentences[place] for place in found[number]), seed)


# -- as sections of a config


class ControlOptions(LinesOptions):
    """Settings of a control, and what its lines are."""

    told: ClassVar[str]

    def disclosure(self, run: MentorContext) -> str:
        return f"Class lines are {self.told}: nothing is sent anywhere."

    def names(self, run: MentorContext) -> tuple[str, ...]:
        """Return the classes in words."""
        return tuple(label.replace("_", " ") for label in run.labels)


class ClassNamesOptions(ControlOptions):
    """Each class's name, once."""

    told = "each class's name as its one line"

    def unread(self) -> dict[str, str]:
        told = "each class has one line, its name: drop it"
        return {**super().unread(), "examples": told, "descriptions": told}

    @property
    def asked_for(self) -> str:
        return "the name of each class"

    def build(self, run: MentorContext) -> Written[Params]:
        names, wanted = self.names(run), replace(self.wanted(run), examples=1, descriptions=0)
        return Written(run.codec, wanted, "class names", lambda number, draw: (names[number],), is_fixed=True)


class ClassWordingsOptions(ControlOptions):
    """Each class's name in as many fixed wordings as lines are wanted."""

    told = "each class's name in fixed wordings"

    def check(self) -> None:
        super().check()
        if self.examples + self.descriptions > len(WORDINGS):
            raise ConfigError(
                f"mentor.name = 'class_wordings' has {len(WORDINGS)} wordings of a name, and mentor.examples + mentor.descriptions = "
                f"{self.examples + self.descriptions}: ask for fewer."
            )

    def build(self, run: MentorContext) -> Written[Params]:
        names = self.names(run)
        return Written(run.codec, self.wanted(run), "wordings", lambda number, draw: wordings(names[number]), is_fixed=True)


class NearWordsOptions(ControlOptions):
    """Words of the vocabulary that are near to those of a class's name."""

    told = "words of the vocabulary near to each class's name"

    def build(self, run: MentorContext) -> Written[Params]:
        names, near = self.names(run), cache(run.words_of("near_words").near)
        return Written(run.codec, self.wanted(run), "near words", lambda number, draw: near_words(names[number], near, draw))


class RandomClassWordsOptions(ControlOptions):
    """Each class's name with random words, or random letters, behind it."""

    told = "each class's name with random words behind it"

    def build(self, run: MentorContext) -> Written[Params]:
        names, drawn = self.names(run), cache(run.words_of("random_class_words").random_words)

        def write(number: int, draw: random.Random) -> Iterator[str]:
            return random_words(names[number], drawn(POOL, seed_for(run.seed, "random class words")), draw)

        return Written(run.codec, self.wanted(run), "random words", write)


class EditedExamplesOptions(ControlOptions):
    """Edits of the labelled examples of `train`."""

    repeats_examples = True
    told = "edits of labelled examples"

    def build(self, run: MentorContext) -> EditedExamples[Params]:
        if run.input == "image":
            raise ConfigError("mentor.name = 'edited_examples' edits texts, and these examples are pictures: choose another control.")
        if not run.train:
            raise ConfigError("mentor.name = 'edited_examples' edits labelled examples, and there are none: choose another control.")
        near = run.vocabulary.near if run.vocabulary is not None else lambda word: []
        return EditedExamples(run.codec, self.wanted(run), "edits", tuple(run.train), run.folds, cache(near))


class CorpusLinesOptions(ControlOptions):
    """Sentences of a corpus, each under the class that the frozen model reads it as."""

    repeats_examples = True  # the file may be the user's own texts
    told = "sentences of a text file under the class that they are read as"

    corpus: Text | None = Field(None, description="A text file that sentences are taken from.")
    sentences: int = Field(10_000, ge=1, le=MANY, description="Sentences that are read, drawn where the corpus has more.")

    def check(self) -> None:
        super().check()
        if self.corpus is None:
            raise ConfigError("The mentor 'corpus_lines' takes sentences from a text file: name it in mentor.corpus.")

    def build(self, run: MentorContext) -> CorpusLines[Params]:
        if run.read_by_name is None:
            raise ConfigError("mentor.name = 'corpus_lines' reads texts by the classes' names, and this problem has no classes.")
        found = corpus_sentences(corpus_text(self.corpus or ""))
        if not found:
            raise ConfigError(f"There is no sentence of two words in {self.corpus}, the file of mentor.corpus.")
        return CorpusLines(run.codec, self.wanted(run), "corpus", found, run.read_by_name, self.sentences)


def corpus_sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a text that are short enough for a line, each line of it by itself: what is a list has no full stops.

    Example:
        >>> corpus_sentences("Where is it? I lost it.\\nmy card did not come\\nyes")
        ('Where is it?', 'I lost it.', 'my card did not come')
    """
    found = (cleaned(sentence) for line in text.splitlines() for sentence in sentences_of(line, least=2))
    return tuple(dict.fromkeys(sentence for sentence in found if 0 < len(sentence) <= LONGEST))
