"""Evolution on tokens: a genetic algorithm whose individuals are the words of prompts, without gradient and without language model.

The population is what the history holds: texts with their losses on `select`. Parents are the fittest; a child is their one-point
crossover, each of its words changed with probability one over the length, to one of the words nearest to it (or to any word).

Source: the control EA-ids, asked for in the paper's reviews (evolutionary search beside the language model).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from pydantic import Field

from maao.core.seeds import seed_for
from maao.mentors.context import MentorContext, MentorOptions
from maao.mentors.population import first_new, fittest
from maao.mentors.trajectory import known_texts
from maao.protocols import Codec, History, Params
from maao.types import Advice, P, S

TRIES = 20


@dataclass(frozen=True)
class Evolution(Generic[P]):
    """Proposes children of the best texts of the history.

    Args:
        population: the fittest texts that breed.
        random_words: ``(count, seed) -> words`` of the vocabulary.
        near: ``word -> words`` near it, to mutate to; None: any word.
        length: words of a text made from nothing, while fewer than two are known.
    """

    codec: Codec[P]
    random_words: Callable[[int, int], list[str]]
    population: int = 10
    near: Callable[[str], list[str]] | None = None
    length: int = 8

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        known = fittest(history)
        parents = [entry.text for entry in known[: self.population]]
        seen = known_texts(history)
        children = (self._child(parents, seed_for(seed, attempt)) for attempt in range(TRIES * count))
        return first_new(self.codec, children, count, seen, "evolution")

    def _child(self, texts: list[str], seed: int) -> str:
        draw = random.Random(seed)
        if len(texts) < 2:
            words = self.random_words(self.length, seed_for(seed, "words"))
        else:
            first, second = (text.split() for text in draw.sample(texts, 2))
            cut = draw.randint(0, min(len(first), len(second)))
            words = first[:cut] + second[cut:]
        mutated: list[Any] = []
        for position, word in enumerate(words):
            if draw.random() < 1 / max(1, len(words)):
                choices = self.near(word) if self.near is not None else []
                word = draw.choice(choices) if choices else self.random_words(1, seed_for(seed, "mutation", position))[0]
            mutated.append(word)
        return " ".join(mutated)


class EvolutionOptions(MentorOptions):
    """Settings of `Evolution`."""

    population: int = Field(10, ge=2, le=100_000, description="The best texts that breed.")

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts are bred from the best texts without a language model: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Evolution[Params]:
        words = run.words_of("evolution")
        return Evolution(run.codec, words.random_words, self.population, words.near, run.length)
