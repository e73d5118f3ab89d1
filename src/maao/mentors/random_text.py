"""Random fluent text: the text manifold without reasoning. Texts come from a corpus, or from a language model that is told nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from pydantic import Field

from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.mentors.context import MentorContext, MentorOptions
from maao.mentors.fields import BAR, Fields, Name
from maao.mentors.population import first_new
from maao.options import Text
from maao.protocols import Codec, History, Params
from maao.types import TEMPLATE, WORD, Advice, P, S

TRIES = 8  # texts looked at for each proposal


@dataclass(frozen=True)
class RandomText(Generic[P]):
    """Proposes stretches of a corpus, each of at most `words` words from the beginning of a random sentence.

    With `filled`, what stands around the prompt is drawn too. Label words: each from the config's own and the words that are `near` it. The
    template: the config's own fields in their order, and before, between and behind them its own words, nothing, or a word of the corpus
    with a colon. Would any such words do?

    Source: the control M-text, asked for in the paper's reviews.
    """

    sentences: Sequence[str]
    codec: Codec[P]
    words: int = 8
    filled: Fields | None = None
    near: Callable[[str], Sequence[str]] = lambda word: ()

    def __post_init__(self) -> None:
        if not self.sentences:
            raise ConfigError("The mentor 'random_text' needs a corpus: there is no sentence in it.")

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        draw = random.Random(seed_for(seed, "sentences"))
        lines = (self._line(draw) for _ in range(TRIES * count))
        return first_new(self.codec, lines, count, (), "random text", self.filled)

    def _line(self, draw: random.Random) -> str:
        text = " ".join(draw.choice(self.sentences).replace(BAR.strip(), " ").split()[: self.words])
        if self.filled is None:
            return text
        own = {name: word for name, word in self.filled.own.items() if name.startswith(WORD)}
        drawn = {name: draw.choice([word, *self.near(word)]) for name, word in own.items()}
        if TEMPLATE in self.filled.names:
            drawn[TEMPLATE] = self._template(self.filled.own[TEMPLATE], draw)
        return self.filled.line(text, drawn)

    def _template(self, own: str, draw: random.Random) -> str:
        found = ""
        for part in re.split(r"(\{\w+\})", own):  # every second one is a field
            if part.startswith("{"):
                found += part
            else:
                word = draw.choice(re.findall(r"[^\W\d_]+", draw.choice(self.sentences)) or [""])
                found += draw.choice([part, " ", f" {word}: " if word else " "])
        return re.sub(r" +", " ", found).strip(" ")


class RandomTextOptions(MentorOptions):
    """Settings of `RandomText`."""

    corpus: Text | None = Field(None, description="A text file that sentences are taken from.")
    fills: list[Name] = Field(default_factory=list, description="What proposals fill beside the prompt: its template, the label words.")

    def check(self) -> None:
        if self.corpus is None:
            raise ConfigError("The mentor 'random_text' takes sentences from a text file: name it in mentor.corpus.")

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts are random sentences: nothing is sent anywhere."

    def build(self, run: MentorContext) -> RandomText[Params]:
        sentences, filled = sentences_of(corpus_text(self.corpus or "")), run.fields(self.fills)
        near = RandomText.near if filled is None else run.words_of("random_text").near
        return RandomText(sentences, run.codec, run.length, filled, near)


def corpus_text(name: str) -> str:
    """Return the text of a file that sentences are taken from. Raises `ConfigError` where it cannot be read."""
    file = Path(name)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The corpus {file} cannot be read: {error}. Give a UTF-8 text file in mentor.corpus.") from error


def sentences_of(text: str, least: int = 4) -> tuple[str, ...]:
    """Return the sentences of a text that have at least so many words.

    Example:
        >>> sentences_of("It rained all day long. Yes. The river rose above its banks!")
        ('It rained all day long.', 'The river rose above its banks!')
    """
    found = (" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+", text))
    return tuple(dict.fromkeys(part for part in found if len(part.split()) >= least))
