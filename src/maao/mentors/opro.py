"""OPRO: a language model reads earlier instructions with their scores, ascending, and some exemplars, and writes better ones.

Its scores are accuracies in whole per cent, at most the twenty best are listed, the best last, and each of its proposals is one call.
Inside `alternate` the listing holds what was walked from, with what it reached.

Source: Yang et al., Large Language Models as Optimizers, ICLR 2024 (the meta-prompt of its released optimizer for instruct models).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from maao.core.seeds import seed_for
from maao.mentors.context import MentorContext, ShowingOptions, asks_in_its_own_words
from maao.mentors.population import Asking, Gathered, fittest
from maao.mentors.trajectory import Entry, known_texts
from maao.options import Text
from maao.protocols import History, Params
from maao.types import Advice, Example, P, S

LISTED = 20
META = """Your task is to write the instruction <INS>.{task} Below are some earlier instructions with their scores. The score lies between 0
and 100.

{listing}
{exemplars}
Write a new instruction <INS> that differs from the ones above and reaches a score as high as it can. Begin it with <INS> and end it with
</INS>. It should be concise, effective, and apply to all problems above.
"""


@dataclass(frozen=True)
class OPRO(Asking[P]):
    """Proposes what the model answers to the meta-prompt, a call for each proposal.

    Args:
        task: a sentence on the task.
        exemplars: examples of `train`, of which `shown` random ones are shown at a step; they hold the user's data. Empty: none are shown.
        threshold: instructions below this accuracy (or other primary metric) are left out.
    """

    task: str = ""
    exemplars: Sequence[Example] = ()
    shown: int = 3
    threshold: float = 0.0
    temperature: float = 1.0

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        gathered: Gathered[P] = Gathered()
        scored = fittest(history)
        known = known_texts(history)
        text = self.instruction(scored, seed_for(seed, "exemplars"))
        for reply in self.replies(gathered, ((text, seed, i) for i in range(count))):
            self.take(gathered, reply, known, self.model.name, tag="INS")
        return gathered.advice()

    def instruction(self, known: Sequence[Entry], seed: int) -> str:
        """Return the meta-prompt: scores ascending, the best last."""
        figures = [(entry.reached.primary or ("", 0.0))[1] for entry in known]
        scored = [(round(100 * figure) if math.isfinite(figure) else 0, entry) for figure, entry in zip(figures, known, strict=True)]
        kept = [pair for pair in scored if pair[0] >= 100 * self.threshold][:LISTED]
        ordered = sorted(kept, key=lambda pair: (pair[0], -pair[1].reached.loss))
        listing = "\n\n".join(f"text:\n{entry.text}\nscore:\n{score}" for score, entry in ordered) or "(none yet)"
        chosen = random.Random(seed).sample(list(self.exemplars), min(self.shown, len(self.exemplars)))
        shown = "\n".join(f"Input: {' / '.join(example.fields.values())}\nOutput: {example.label}" for example in chosen)
        exemplars = f"\nThese are some problems, to which <INS> is applied:\n{shown}\n" if shown else ""
        return META.format(task=f" {self.task}" if self.task else "", listing=listing, exemplars=exemplars)


class OPROOptions(ShowingOptions):
    """Settings of `OPRO`."""

    description: Text = Field("Classify a text.", description="What it is told of the task, in a sentence.")

    def disclosure(self, run: MentorContext) -> str:
        return asks_in_its_own_words("opro", self, run, shows_examples=self.exemplars > 0 and bool(run.train))

    def build(self, run: MentorContext) -> OPRO[Params]:
        model = run.chat(self.chat.options)
        return OPRO(
            model,
            run.codec,
            task=self.description,
            exemplars=run.train if self.exemplars else (),
            shown=self.exemplars,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
