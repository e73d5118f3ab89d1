"""Shared by rivals and controls: ask a language model for one prompt at a time, keep a record of failures, take texts that are new."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from maao.core.seeds import seed_for
from maao.llm.chat import Message, Reply, Request
from maao.mentors.fields import Fields
from maao.mentors.language_model import complete_all, cut_reason, reply_cost
from maao.mentors.reply import read_one
from maao.mentors.scripted import encode_all
from maao.mentors.trajectory import Entry, entries
from maao.protocols import ChatModel, Codec, History
from maao.types import Advice, Cost, P, Proposal, Rejected, S


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

    def replies(self, gathered: Gathered[P], asks: Iterable[tuple[str, int, int]]) -> Iterator[Reply]:
        """Yield the reply to each instruction with its seed and sample number. A call that fails is told in `gathered`, and is the last."""
        for reply, failure in complete_all(self.model, (self._request(*ask) for ask in asks)):
            if reply is None:
                gathered.rejected.append(failure)
                return
            gathered.cost += reply_cost(reply)
            yield reply

    def take(
        self,
        gathered: Gathered[P],
        reply: Reply,
        known: set[str],
        source: str,
        *,
        tag: str = "",
        last: bool = False,
        leads: Sequence[str] = (),
        replaces: int | None = None,
    ) -> None:
        """Add the prompt of a reply, read by `read_one`, to what is gathered and to what is `known`; or why there is none."""
        if reply.why_empty:
            gathered.rejected.append(Rejected("", reply.why_empty))
            return
        cut = cut_reason(reply, self.max_tokens)
        texts, rejected = read_one(reply.text, tag=tag, last=last, leads=leads, known=known, cut=cut)
        gathered.rejected += rejected
        for text in texts:
            known.add(text)
            gathered.add(self.codec, text, source, replaces=replaces)

    def _request(self, text: str, seed: int, sample: int) -> Request:
        return Request(
            model=self.model.name,
            messages=(Message("user", text),),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=seed_for(seed, "request") % 2**31,
            sample=sample,
        )


def fittest(history: History[P, S], size: int | None = None) -> list[Entry]:
    """Return the texts of a history with the lowest losses (None: all), best first: the top of all parents and children.

    One whose loss is no finite number is not among them.
    """
    known = [entry for entry in entries(history) if math.isfinite(entry.reached.loss)]
    return sorted(known, key=lambda entry: entry.reached.loss)[:size]


@dataclass
class Gathered(Generic[P]):
    """Advice while it is gathered."""

    proposals: list[Proposal[P]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def add(self, codec: Codec[P], text: str, source: str, filled: Fields | None = None, replaces: int | None = None) -> None:
        """Add a text (with `filled`, a line of all that it fills) as a proposal, or why it cannot be one."""
        proposals, rejected = encode_all(codec, (text,), source, filled)
        self.proposals += [replace(proposal, replaces=replaces) for proposal in proposals]
        self.rejected += rejected

    def advice(self) -> Advice[P]:
        return Advice(tuple(self.proposals), tuple(self.rejected), self.cost)


def first_new(
    codec: Codec[P], texts: Iterable[str], count: int, seen: Collection[str], source: str, filled: Fields | None = None
) -> Advice[P]:
    """Return the first `count` texts that were not seen and can be encoded, as proposals; each text is looked at once."""
    gathered: Gathered[P] = Gathered()
    looked_at = set(seen)
    for text in texts:
        if len(gathered.proposals) == count:
            break
        if text not in looked_at:
            looked_at.add(text)
            gathered.add(codec, text, source, filled)
    return gathered.advice()
