"""Soft input: the tuned model is its own mentor and reads the soft prompt as vectors, without the bottleneck of words.

It continues a text in which the best point's vectors stand where a prompt would; the continuation is read as words and restarts the walk.
Only the way from doer to mentor is without words: what is proposed is a text, as from any mentor.

Source: the control L-cont, asked for in the paper's reviews (a mentor that is the tuned model needs no discretisation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic

from pydantic import Field

from maao.core.loop import best_round
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.mentors.context import MentorContext, MentorOptions
from maao.mentors.instruction import Task
from maao.mentors.language_model import cut_at
from maao.mentors.population import Gathered
from maao.mentors.reply import read_continuation
from maao.mentors.trajectory import known_texts
from maao.options import Text
from maao.protocols import Codec, History, Params
from maao.types import Advice, Cost, P, Rejected, S

# ``(params, text before the vectors, text after them, seed) -> (continuation, tokens read, tokens written)``
Continue = Callable[[Params, str, str, int], tuple[str, int, int]]
BEFORE = """A prompt is a few plain words that ask a language model for the label of a text.

Task: {description}
Labels: {labels}
A prompt that works well:"""
AFTER = "\nThe same prompt in plain words:"


@dataclass(frozen=True)
class SoftInput(Generic[P]):
    """Proposes the tuned model's continuations of a text that holds the best point's vectors.

    Args:
        proceed: lets the tuned model go on from a text with vectors in it.
        task: what it is told of the task.
        max_samples: how many continuations may be asked for to get `count` proposals.
        max_tokens: how many tokens a continuation has at most, so that one of as many is known to be cut.
    """

    codec: Codec[P]
    proceed: Continue
    task: Task
    max_samples: int = 6
    max_tokens: int = 200

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        if not history:
            return Advice(rejected=(Rejected("", "there are no vectors to read before the first round"),))
        gathered: Gathered[P] = Gathered()
        point = best_round(history).state.params
        before = BEFORE.format(description=self.task.description.strip(), labels=", ".join(self.task.labels))
        known = known_texts(history)
        for sample in range(max(count, self.max_samples)):
            if len(gathered.proposals) == count:
                break
            reply, read, written = self.proceed(point, before, AFTER, seed_for(seed, "soft input", sample) % 2**31)
            gathered.cost += Cost(llm_calls=1, input_tokens=read, output_tokens=written)
            cut = cut_at(self.max_tokens) if written >= self.max_tokens else ""
            texts, rejected = read_continuation(reply, known=known, cut=cut)
            gathered.rejected += rejected
            for text in texts:
                known.add(text)
                gathered.add(self.codec, text, "soft input")
        return gathered.advice()


class SoftInputOptions(MentorOptions):
    """Settings of `SoftInput`."""

    repeats_examples: ClassVar[bool] = True

    description: Text = Field("Classify a text.", description="What it is told of the task, in a sentence.")
    temperature: float = Field(0.8, ge=0, le=1_000, description="Sampling temperature of a continuation; 0: the likeliest token each time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the likeliest tokens of this probability together.")
    max_tokens: int = Field(200, ge=1, le=10_000_000, description="Most tokens of a continuation.")
    max_samples: int = Field(6, ge=1, le=100_000, description="Most continuations asked for in a round.")

    def disclosure(self, run: MentorContext) -> str:
        return "Mentor: the tuned model itself, which reads its soft prompt as vectors, in this process: nothing is sent anywhere."

    def build(self, run: MentorContext) -> SoftInput[Params]:
        if run.proceed is None:
            raise ConfigError(
                "The mentor 'soft_input' lets the tuned model go on from its soft prompt: it needs a decoder, and rows in slots."
            )
        goes_on = partial(run.proceed, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

        def proceed(params: Params, before: str, after: str, seed: int) -> tuple[str, int, int]:
            return goes_on(params, before, after, seed=seed)

        return SoftInput(run.codec, proceed, run.task(self.description), self.max_samples, self.max_tokens)
