"""APE: a language model guesses the instruction behind some input-output pairs; the guesses are scored, and the best is taken.

It does not iterate: every ask shows fresh demonstrations and samples instructions, and never reads a score.

Source: Zhou et al., Large Language Models Are Human-Level Prompt Engineers, ICLR 2023 (forward generation of its released code).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.mentors.context import MentorContext, ShowingOptions, asks_in_its_own_words
from maao.mentors.population import Asking, Gathered
from maao.protocols import History, Params
from maao.types import Advice, Example, P, Rejected, S

META = """I gave a friend an instruction. Following it, the friend read the inputs and wrote an output for every one of them. Here are the
pairs:

{pairs}

The instruction was"""
LEADS = ("the instruction was", "to", "that they")  # how a reply goes on from there


@dataclass(frozen=True)
class APE(Asking[P]):
    """Proposes guessed instructions, a call for each. The demonstrations are examples of `train`, and hold the user's data.

    Args:
        demonstrations: how many pairs are shown in a call.
        per_query: how many samples are drawn for one choice of pairs.
    """

    examples: Sequence[Example] = ()
    demonstrations: int = 5
    per_query: int = 4
    temperature: float = 0.9
    max_tokens: int = 50

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        gathered: Gathered[P] = Gathered()
        if not self.examples:
            return Advice(rejected=(Rejected("", "there are no examples to guess an instruction from"),))
        known: set[str] = set()
        places = (divmod(i, self.per_query) for i in range(count))
        asks = ((self.instruction(seed_for(seed, "pairs", query)), seed_for(seed, query), sample) for query, sample in places)
        for reply in self.replies(gathered, asks):
            self.take(gathered, reply, known, self.model.name, leads=LEADS)
        return gathered.advice()

    def instruction(self, seed: int) -> str:
        chosen = random.Random(seed).sample(list(self.examples), min(self.demonstrations, len(self.examples)))
        return META.format(pairs="\n\n".join(f"Input: {' / '.join(e.fields.values())}\nOutput: {e.label}" for e in chosen))


class APEOptions(ShowingOptions):
    """Settings of `APE`."""

    def disclosure(self, run: MentorContext) -> str:
        return asks_in_its_own_words("ape", self, run, shows_examples=self.exemplars > 0 and bool(run.train))

    def build(self, run: MentorContext) -> APE[Params]:
        model = run.chat(self.chat.options)
        if not run.train or not self.exemplars:
            raise ConfigError("The mentor 'ape' guesses from labelled texts: it needs a problem of language, and mentor.exemplars above 0.")
        return APE(
            model,
            run.codec,
            examples=run.train,
            demonstrations=self.exemplars,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
