"""EvoPrompt: a language model as the operator of a genetic algorithm (GA) or of differential evolution (DE) on prompts.

The population is read from the history: the texts with the lowest losses on `select`. Inside `alternate` each ask makes some children; with
legs of no step and the rule `if_better` it is EvoPrompt by itself. The released code picks its answer by `test` among the three best; here
the best on `select` is the answer.

Source: Guo et al., Connecting Large Language Models with Evolutionary Algorithms Yields Powerful Prompt Optimizers, ICLR 2024.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from maao.core.seeds import seed_for
from maao.mentors.context import AskingOptions, MentorContext, asks_in_its_own_words
from maao.mentors.population import Asking, Gathered, fittest
from maao.mentors.trajectory import Entry
from maao.protocols import History, Params
from maao.types import Advice, P, Rejected, S

GA = """Follow these steps to make a better prompt.
1. Cross the two prompts below and write a new prompt.
2. Change the prompt of step 1 a little and write the final prompt between <prompt> and </prompt>.

An example:
Prompt 1: Say whether the letter is formal.
Prompt 2: You read letters. Does the writer sound stiff?
1. Crossed: You read letters. Say whether the letter is formal.
2. <prompt>You judge letters. Say whether the writer sounds formal.</prompt>

Now do the same with these:
Prompt 1: {first}
Prompt 2: {second}
"""
DE = """Follow these steps to make a better prompt.
1. Name the parts in which Prompt 1 and Prompt 2 differ.
2. Change those parts.
3. Join the changed parts with Prompt 3, replacing parts of it, and write a new prompt.
4. Cross the prompt of step 3 with the basic prompt and write the final prompt between <prompt> and </prompt>.

An example:
Prompt 1: Say whether the letter is formal.
Prompt 2: Does the writer of the text sound stiff?
Prompt 3: Judge this letter.
Basic prompt: Read the text and answer.
1. Differ: "the letter is formal" and "the writer of the text sounds stiff".
2. Changed: "the wording is polite" and "the author sounds official".
3. Joined: Judge whether the wording is polite in this letter.
4. <prompt>Read the letter and judge whether the wording is polite.</prompt>

Now do the same with these:
Prompt 1: {first}
Prompt 2: {second}
Prompt 3: {best}
Basic prompt: {basic}
"""
FEWEST = {"ga": 2, "de": 3}


@dataclass(frozen=True)
class EvoPrompt(Asking[P]):
    """Proposes children of the population.

    Args:
        algorithm: "ga" (two parents by roulette on their fitness; crossover, then mutation) or "de" (the difference of two random members,
            mutated, joined with the best, crossed with the member that the child may replace).
        population: its size.
        initial: texts to begin with, as many as the population has members: hand-written prompts, say. They are proposed first, in order.
    """

    algorithm: Literal["ga", "de"] = "de"
    population: int = 10
    initial: tuple[str, ...] = ()

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        gathered: Gathered[P] = Gathered()
        proposed = sum(r.leg.proposals for r in history if r.leg.ask)
        for text in self.initial[: self.population][proposed : proposed + count]:
            gathered.add(self.codec, text, "initial population")
        members = fittest(history, self.population) if self.algorithm == "ga" else de_population(history, self.population)
        wanted = count - len(gathered.proposals) - len(gathered.rejected)
        if wanted > 0 and len(members) < FEWEST[self.algorithm]:
            told = f"{self.algorithm.upper()} needs {FEWEST[self.algorithm]} prompts with scores to breed, and {len(members)} are known"
            gathered.rejected.append(Rejected("", told))
            return gathered.advice()
        known = {proposal.text for proposal in gathered.proposals}
        numbers = [(proposed + i) % len(members) for i in range(wanted)]
        asks = ((self.instruction(members, number, seed_for(seed, "parents", i)), seed, i) for i, number in enumerate(numbers))
        for number, reply in zip(numbers, self.replies(gathered, asks), strict=False):  # a call that fails ends them
            place = number if self.algorithm == "de" else None
            source = self.model.name if place is None else f"evoprompt de, child of member {place}"
            self.take(gathered, reply, known, source, tag="prompt", last=True, replaces=place)
        return gathered.advice()

    def instruction(self, members: list[Entry], number: int, seed: int) -> str:
        """Return what is asked for a child; in DE that of the member of a number, which it may replace."""
        draw = random.Random(seed)
        if self.algorithm == "ga":
            first, second = roulette(members, draw)
            return GA.format(first=first.text, second=second.text)
        basic = members[number]
        one, two = draw.sample([member for member in members if member is not basic], 2)
        best = min(members, key=lambda member: member.reached.rank)
        return DE.format(first=one.text, second=two.text, best=best.text, basic=basic.text)


def de_population(history: History[P, S], size: int) -> list[Entry]:
    """Return the population of DE: the first `size` texts that were scored; each child has since taken its member's place if it was better.

    Better is a lower loss on `select`, where the paper's is a higher score on its development set.
    """
    members: list[Entry] = []
    for r in history:
        scored = {c.proposal: c for c in r.verdict.considered if c.proposal is not None}
        for number, proposal in enumerate(r.advice.proposals):
            considered = scored.get(number)
            if considered is None:
                continue
            entry = Entry(proposal.text, considered.score, considered.age)
            place = proposal.replaces
            if place is not None:
                if place < len(members) and entry.reached.rank < members[place].reached.rank:
                    members[place] = entry
            elif len(members) < size and entry.text not in {member.text for member in members}:
                members.append(entry)
    return members


def roulette(members: list[Entry], draw: random.Random) -> tuple[Entry, Entry]:
    """Return two different members, each drawn with a chance in proportion to its metric (or, without one, to one over its loss)."""
    fitness = [primary[1] if (primary := entry.reached.primary) else 1 / max(entry.reached.loss, 1e-6) for entry in members]
    first = draw.choices(range(len(members)), weights=[value + 1e-6 for value in fitness])[0]
    rest = [i for i in range(len(members)) if i != first]
    second = draw.choices(rest, weights=[fitness[i] + 1e-6 for i in rest])[0]
    return members[first], members[second]


class EvoPromptOptions(AskingOptions):
    """Settings of `EvoPrompt`."""

    algorithm: ClassVar[Literal["ga", "de"]]

    texts: list[str] = Field(default_factory=list, description="Of these the first `population` ones are what it begins with.")
    population: int = Field(10, ge=2, le=100_000, description="The best texts that breed.")

    def disclosure(self, run: MentorContext) -> str:
        return asks_in_its_own_words(f"evoprompt_{self.algorithm}", self, run, shows_examples=False)

    def build(self, run: MentorContext) -> EvoPrompt[Params]:
        return EvoPrompt(
            run.chat(self.chat.options),
            run.codec,
            algorithm=self.algorithm,
            population=self.population,
            initial=tuple(self.texts),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )


class EvoPromptGAOptions(EvoPromptOptions):
    """Settings of `EvoPrompt` as a genetic algorithm."""

    algorithm: ClassVar[Literal["ga", "de"]] = "ga"


class EvoPromptDEOptions(EvoPromptOptions):
    """Settings of `EvoPrompt` as differential evolution."""

    algorithm: ClassVar[Literal["ga", "de"]] = "de"
