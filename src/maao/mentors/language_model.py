"""The language-model mentor: select from the history, write an instruction, ask, read the reply.

The three pure pieces stand beside this file: `trajectory.py`, `instruction.py`, `reply.py`.

Two ways to ask. *Chat* sends one instruction and reads a list from the reply. *Completion* is for small or base models, which do not follow
instructions: a listing of prompts is continued, once for each sample, and cut at the end of the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from string import Template
from typing import Generic

from maao.core.seeds import seed_for
from maao.errors import ChatError, CodecError
from maao.llm.chat import CUT, Message, Reply, Request, Style
from maao.mentors.fields import WORKED, Fields, proposal_of, worked_lines
from maao.mentors.instruction import Shown, Task, json_form, json_schema, wording, write
from maao.mentors.reply import MAX_WORDS, read_continuation, read_list
from maao.mentors.trajectory import Choice, entries, proposed, select, shuffled
from maao.protocols import ChatModel, Codec, History
from maao.types import Advice, Cost, P, Proposal, Rejected, S

NO_REPLY = "no reply: "
CUT_AT_CONTEXT = "model_length"
FILTERED = frozenset({"content_filter", "safety", "recitation"})


@dataclass(frozen=True)
class LanguageModelMentor(Generic[P]):
    """Asks a chat model for prompts.

    Args:
        model: who is asked.
        task: what it is told of the task.
        codec: turns a proposed text into params.
        style: "chat" or "completion".
        listing: how many points are shown, chosen by `choice`.
        shown: which evidence is shown.
        max_samples: how many continuations may be asked for to get `count` proposals (completion).
        retries: how often it is asked again for the proposals that a reply left missing (chat).
        filled: what it fills beside the prompt (chat); None: nothing.
        structured: whether it is asked for JSON, by a schema that a server may hold the model to (chat).

    Source: Guo et al., LLM as a Complementary Optimizer to Gradient Descent, 2024; the listing from worst to best as in OPRO (Yang et al.,
    2023).
    """

    model: ChatModel
    task: Task
    codec: Codec[P]
    style: Style = "chat"
    listing: int = 8
    choice: Choice = "best"
    shown: Shown = field(default_factory=Shown)
    template: Template = field(default_factory=lambda: wording("chat"))
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int = 200
    max_samples: int = 6
    retries: int = 0
    filled: Fields | None = None
    structured: bool = False

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        instruction = self.instruction(history, count, seed)
        known = self._known(history)
        starts = self._starts(history)
        proposals: list[Proposal[P]] = []
        rejected: list[Rejected] = []
        cost = Cost()
        for sample in range(1 + self.retries if self.style == "chat" else max(count, self.max_samples)):
            if len(proposals) == count:
                break
            reply, failure = complete(self.model, self._request(instruction, seed, sample))
            if reply is None:
                rejected.append(failure)
                break
            cost += reply_cost(reply)
            if reply.why_empty:
                rejected.append(Rejected("", reply.why_empty))
                continue
            tried = {*known, *(self._line(p.text, p.fields) for p in proposals)}
            texts, unusable = self._read(reply, count - len(proposals), tried)
            rejected += unusable
            for text in texts:
                self._take(text, known, starts, proposals, rejected)
        return Advice(tuple(proposals), tuple(rejected), cost)

    def _read(self, reply: Reply, count: int, tried: set[str]) -> tuple[tuple[str, ...], tuple[Rejected, ...]]:
        cut = cut_reason(reply, self.max_tokens)
        if self.style == "completion":
            return read_continuation(reply.text, known=tried, cut=cut)
        words = max(MAX_WORDS, self.task.max_tokens)  # as many as the instruction allows
        if self.filled is None:
            return read_list(reply.text, count=count, known=tried, max_words=words, cut=cut)
        words += self.filled.more_words
        return read_list(reply.text, count=count, known=tried, max_words=words, cut=cut, fill=self.filled.line_of_object)

    def _take(self, text: str, known: set[str], starts: set[str], proposals: list[Proposal[P]], rejected: list[Rejected]) -> None:
        """Encode a text; add it to the proposals, or to what was rejected if nothing or no new start comes of it."""
        try:
            proposal, start = proposal_of(self.codec, text, self.model.name, self.filled)
        except CodecError as error:
            rejected.append(Rejected(text, str(error)))
            return
        if self.filled is not None and self._line(proposal.text, proposal.fields) in known:  # in another form
            rejected.append(Rejected(text, "tried before"))
            return
        if start in starts:
            rejected.append(Rejected(text, "starts where another did, once it is made to fit"))
            return
        starts.add(start)
        proposals.append(proposal)

    def _line(self, text: str, fields: Mapping[str, str]) -> str:
        """Return a prompt as the listing shows it."""
        return text if self.filled is None else self.filled.line(text, fields)

    def _known(self, history: History[P, S]) -> set[str]:
        """Return the lines that are no new proposals: all that were tried, and those of the wording itself.

        Its examples are prompts of other tasks, which a weak model says again.
        """
        tried = [*((entry.text, entry.fields) for entry in entries(history)), *proposed(history)]
        worked = [line for task in WORKED for line in worked_lines(task, self.filled.names)] if self.filled else []
        said = [line.strip().removeprefix("- ") for line in self.template.template.splitlines() if line.startswith("- ")]
        return {*(self._line(text, fields) for text, fields in tried), *worked, *said}

    def _starts(self, history: History[P, S]) -> set[str]:
        """Return what earlier proposals were made to: what was really started from."""
        found = set()
        for text, fields in proposed(history):
            with suppress(CodecError):
                found.add(self._line(self.codec.encode(text).text, fields))
        return found

    def instruction(self, history: History[P, S], count: int, seed: int = 0) -> str:
        """Return the text that the model is sent; `seed` deals out the scores where they are shuffled."""
        chosen = select(history, self.listing, self.choice)
        if self.shown.scores == "shuffled":
            chosen = shuffled(chosen, seed_for(seed, "scores"))
        clues = history[-1].clues if history else None
        written = write(self.template, self.task, chosen, clues, count=count, shown=self.shown, filled=self.filled)
        return f"{written}\n\n{json_form(self.filled)}" if self.structured else written

    def _request(self, text: str, seed: int, sample: int) -> Request:
        return Request(
            model=self.model.name,
            messages=(Message("user", text),),
            style=self.style,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=("\n",) if self.style == "completion" else (),
            seed=seed_for(seed, "request") % 2**31,  # what every provider takes
            sample=sample,
            schema=json_schema(self.filled) if self.structured else None,
        )


def complete(model: ChatModel, request: Request) -> tuple[Reply | None, Rejected]:
    """Return the reply; or None and, for the record, why there is none. A failed call costs the round its proposals, not the run."""
    try:
        return model.complete(request), Rejected("", "")
    except ChatError as error:
        return None, Rejected("", f"{NO_REPLY}{error}")


def failures(history: History[P, S]) -> tuple[str, ...]:
    """Return the messages of the calls of a history that gave no reply, in their order."""
    reasons = [rejected.reason for r in history for rejected in r.advice.rejected]
    return tuple(reason.removeprefix(NO_REPLY) for reason in reasons if reason.startswith(NO_REPLY))


def reply_cost(reply: Reply) -> Cost:
    """Return what a reply cost, as the provider counted it."""
    usage = reply.usage
    return Cost(llm_calls=1, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, usd=usage.usd)


def cut_reason(reply: Reply, max_tokens: int) -> str:
    """Return why a reply has no end, where it has none; "" for one that ended by itself.

    Servers have several names for it. One that says nothing is taken to have cut the reply where it counts all tokens that were allowed.

    Example:
        >>> cut_reason(Reply("a", finish_reason="length"), 9), cut_reason(Reply("a"), 9)
        ('the reply was cut at 9 tokens: raise mentor.max_tokens', '')
    """
    finish, usage = reply.finish_reason.strip().lower(), reply.usage
    if finish in CUT or (not finish and not usage.estimated and usage.output_tokens >= max_tokens):
        return cut_at(max_tokens)
    if finish == CUT_AT_CONTEXT:
        return "the reply was cut at the end of what the model can read: show fewer points in the instruction (mentor.listing)"
    return "the reply was cut by the server's filter" if finish in FILTERED else ""


def cut_at(max_tokens: int) -> str:
    return f"the reply was cut at {max_tokens} tokens: raise mentor.max_tokens"
