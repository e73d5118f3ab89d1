"""Shared by mentors that breed prompts with a language model: ask once, read what stands in tags, keep a record of failures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Generic

from maao.core.seeds import seed_for
from maao.errors import ChatError, CodecError
from maao.interfaces import ChatModel, Codec, History
from maao.llm.chat import Message, Request
from maao.mentors.language_model import NO_REPLY, reply_cost
from maao.mentors.trajectory import Entry, entries
from maao.types import Advice, Cost, P, Proposal, Rejected

TAGGED = re.compile(r"<prompt>(.*?)</prompt>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Asking(Generic[P]):
    """Base: a chat model that is asked for one prompt at a time.

    Args:
        model: who is asked.
        codec: turns a text into params.
        temperature, max_tokens: of a reply.
    """

    model: ChatModel
    codec: Codec[P]
    temperature: float = 0.5
    max_tokens: int = 200

    def ask(self, text: str, seed: int, sample: int) -> tuple[str | None, Rejected | None, Cost]:
        """Return the reply's text, or why there is none, and what it cost."""
        request = Request(
            model=self.model.name,
            messages=(Message("user", text),),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=seed_for(seed, "request") % 2**31,
            sample=sample,
        )
        try:
            reply = self.model.complete(request)
        except ChatError as error:
            return None, Rejected("", f"{NO_REPLY}{error}"), Cost()
        return reply.text, None, reply_cost(reply)

    def encoded(self, text: str, source: str) -> Proposal[P] | Rejected:
        """Return a text as a proposal, or why it cannot be one."""
        try:
            found = self.codec.encode(text)
        except CodecError as error:
            return Rejected(text, str(error))
        return Proposal(text, found.params, source, found.note)


def tagged(reply: str) -> str:
    """Return what stands between the last ``<prompt>`` tags of a reply; without tags, the whole of it on one line.

    Example:
        >>> tagged("1. differ: a, b\\n4. <prompt>sort the\\nnews</prompt>"), tagged(" sort  the news ")
        ('sort the news', 'sort the news')
    """
    found = TAGGED.findall(reply)
    return " ".join((found[-1] if found else reply).split())


def fittest(history: History[Any, Any], size: int) -> list[Entry]:
    """Return the texts of a history with the lowest losses, best first: the population after selecting the top of parents and children."""
    return sorted(entries(history), key=lambda entry: entry.reached.loss)[:size]


@dataclass
class Gathered(Generic[P]):
    """Advice while it is gathered."""

    proposals: list[Proposal[P]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def add(self, outcome: Proposal[P] | Rejected) -> None:
        if isinstance(outcome, Rejected):
            self.rejected.append(outcome)
        else:
            self.proposals.append(outcome)

    def advice(self) -> Advice[P]:
        return Advice(tuple(self.proposals), tuple(self.rejected), self.cost)
