"""A script: texts written down beforehand, for tests, demonstrations, and prompts that a person has at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from pydantic import Field

from maao.errors import CodecError, ConfigError
from maao.mentors.context import MentorContext, MentorOptions
from maao.mentors.fields import Fields, Name, proposal_of
from maao.protocols import Codec, History, Params
from maao.types import Advice, P, Proposal, Rejected, S


@dataclass(frozen=True)
class Scripted(Generic[P]):
    """Proposes its texts in order, as many a time as are asked for; how far the script has got is read from the history.

    With `filled`, a text is a line of the prompt and what it fills beside it.
    """

    texts: tuple[str, ...]
    codec: Codec[P]
    filled: Fields | None = None

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        done = sum(r.leg.proposals for r in history if r.leg.ask)
        texts = self.texts[done : done + count]
        if not texts:
            return Advice(rejected=(Rejected("", f"the script of {len(self.texts)} texts is used up"),))
        proposals, rejected = encode_all(self.codec, texts, "script", self.filled)
        return Advice(proposals, rejected)


class ScriptedOptions(MentorOptions):
    """Settings of `Scripted`."""

    texts: list[str] = Field(default_factory=list, description="What it proposes, in order.")
    fills: list[Name] = Field(default_factory=list, description="What a text fills beside the prompt: its template, the label words.")

    def disclosure(self, run: MentorContext) -> str:
        return "Restarts are scripted: nothing is sent anywhere."

    def build(self, run: MentorContext) -> Scripted[Params]:
        if not self.texts:
            raise ConfigError("mentor.name = 'scripted' needs mentor.texts, the list of what it proposes.")
        return Scripted(tuple(self.texts), run.codec, run.fields(self.fills))


def encode_all(
    codec: Codec[P], texts: tuple[str, ...], source: str, filled: Fields | None = None
) -> tuple[tuple[Proposal[P], ...], tuple[Rejected, ...]]:
    """Return the texts as proposals, and those that cannot be encoded with the reason."""
    proposals, rejected = [], []
    for text in texts:
        try:
            proposals.append(proposal_of(codec, text, source, filled)[0])
        except CodecError as error:
            rejected.append(Rejected(text, str(error)))
    return tuple(proposals), tuple(rejected)
