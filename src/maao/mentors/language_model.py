"""The language-model mentor: select from the history, write an instruction, ask, read the reply.

The three pure pieces stand beside this file: `trajectory.py`, `instruction.py`, `reply.py`.

Two ways to ask. *Chat* sends one instruction and reads a list from the reply. *Completion* is for small or base models, which do not follow
instructions: a listing of prompts is continued, once for each sample, and cut at the end of the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from string import Template
from typing import Annotated, ClassVar, Generic

from pydantic import Field

from maao.core.seeds import seed_for
from maao.errors import BudgetError, ChatError, CodecError, ConfigError, Waiting
from maao.llm.chat import CUT, Message, Reply, Request, Style, tokens_about
from maao.llm.provider import ChatOptions
from maao.mentors.context import AskingOptions, Input, MentorContext, MentorOptions, style_of
from maao.mentors.fields import WORKED, Fields, Name, proposal_of, worked_lines
from maao.mentors.instruction import OWN, Shown, ShownOptions, Task, json_form, json_schema, named_wordings, wording, write
from maao.mentors.reply import MAX_WORDS, read_continuation, read_list
from maao.mentors.trajectory import Choice, Entry, entries, proposed, select, shuffled
from maao.options import Chosen, OneOf, Text
from maao.protocols import ChatModel, Codec, History, Params
from maao.types import Advice, Cost, P, Proposal, Rejected, S

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
        for reply, failure in self._replies(instruction, count, seed):
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
            if len(proposals) == count:
                break
        return Advice(tuple(proposals), tuple(rejected), cost)

    def _replies(self, instruction: str, count: int, seed: int) -> Iterator[tuple[Reply | None, Rejected]]:
        """Yield replies for as long as they are taken; those that are needed in any case are asked for together."""
        if not count:
            return
        most = 1 + self.retries if self.style == "chat" else max(count, self.max_samples)
        needed = 1 if self.style == "chat" else count  # a continuation is one proposal at most
        requests = [self._request(instruction, seed, sample) for sample in range(most)]
        yield from complete_all(self.model, requests[:needed])
        for request in requests[needed:]:
            yield complete(self.model, request)

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

    def listed(self, history: History[P, S]) -> tuple[Entry, ...]:
        """Return the points that an instruction shows, worst first."""
        return select(history, self.listing, self.choice)

    def instruction(self, history: History[P, S], count: int, seed: int = 0) -> str:
        """Return the text that the model is sent; `seed` deals out the scores where they are shuffled."""
        chosen = self.listed(history)
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
        return None, no_reply(error)


def complete_all(model: ChatModel, requests: Iterable[Request]) -> Iterator[tuple[Reply | None, Rejected]]:
    """Yield what `complete` gives for each request, in their order.

    A model that answers is asked as the results are taken, so that whoever stops taking asks no further. Where a reply has to be waited
    for, the requests behind it are put all the same, and then `Waiting` is raised once: all of them are open together, and a run stops
    once for them instead of once for each.
    """
    waiting = 0
    for request in requests:
        try:
            found = complete(model, request)
        except Waiting:
            waiting += 1
            continue
        if not waiting:
            yield found
    if waiting:
        raise Waiting(f"{waiting} {'reply' if waiting == 1 else 'replies'} of {model.name!r} are waited for.", waiting)


def no_reply(error: ChatError) -> Rejected:
    """Return what a record holds of a call that gave no reply, or was not made: a replay fails in the same way.

    Example:
        >>> no_reply(ChatError("the line is dead"))
        Rejected(text='', reason='the line is dead', kind='failed_call')
    """
    return Rejected("", str(error), "capped" if isinstance(error, BudgetError) else "failed_call")


def reply_cost(reply: Reply) -> Cost:
    """Return what a reply cost, as the provider counted it."""
    usage = reply.usage
    return Cost(llm_calls=1, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, usd=usage.usd)


def reply_cost_about(reply: Reply, request: Request) -> Cost:
    """Return what a reply cost; tokens that nobody counted are told as about a quarter of the characters.

    They stand in the reply as what they were at most (`estimate_tokens`), which caps hold to.

    Example:
        >>> from maao.llm.chat import Usage, estimate_tokens
        >>> request, said = Request("m", (Message("user", "x" * 400),)), "y" * 40
        >>> found = reply_cost_about(Reply(said, Usage(estimate_tokens(request.text), estimate_tokens(said), estimated=True)), request)
        >>> found.input_tokens, found.output_tokens
        (100, 10)
    """
    read, written = tokens_about(reply.usage, request.text, reply.text)
    return replace(reply_cost(reply), input_tokens=read, output_tokens=written)


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


# -- as sections of a config


class InWordsOptions(MentorOptions):
    """Settings of whoever reads an instruction: a language model or a person."""

    reads_clues: ClassVar[bool] = True

    description: Text = Field("Classify a text.", description="What is told of the task, in a sentence.")
    wording: Text | None = Field(
        None,
        description="guided, chat, completion, contrast, or a file; by default guided, or what suits a completion or a person.",
    )
    listing: int = Field(8, ge=0, le=100_000, description="Points shown.")
    choice: Choice = Field(
        "best",
        description="Which points are shown; diverse: with few words in common; contrast: best and worst.",
    )
    shown: ShownOptions = Field(default_factory=ShownOptions, description="Which evidence an instruction shows.")
    fills: list[Name] = Field(default_factory=list, description="What proposals fill beside the prompt: its template, the label words.")

    @property
    def reads_self_continuation(self) -> bool:
        return self.shown.self_continuation

    def template(self, input: Input, style: Style, *, is_person: bool) -> Template:
        """Return the text that instructions are made from: the wording asked for, or that of the style; for what is matched its own of it.

        A model asked in a chat is shown worked examples of other tasks: small ones repeat the template otherwise. A person needs none, and
        they say nothing of a function's points.
        """
        return wording(self.wording_name(input, style, is_person=is_person), self.shown.scores, bool(self.fills))

    def wording_name(self, input: Input, style: Style, *, is_person: bool) -> str:
        shown_examples = style == "chat" and input != "numbers" and not is_person
        name = self.wording or ("guided" if shown_examples or self.fills else style)
        own = f"{OWN.get(input, '')}{name}"
        return own if own in named_wordings() else name

    def _hashed(self, template: Template) -> str:
        """Return all of an instruction's text that a run depends on: with examples that are set in the form that is asked for."""
        lines = [line for task in WORKED for line in worked_lines(task, self.fills)] if self.fills else []
        return template.template + "\n".join(lines)

    def _told(self, chat: ChatOptions, shown: Shown, template: Template, tuned: str) -> str:
        """Say what will be sent, and where to: of all that can be shown, what the wording has a place for."""
        named = template.get_identifiers()
        prompts, clues = any(name in named for name in ("listing", "texts", "blocks")), "clues" in named
        pointing = [word for word, on in (("the gradient", shown.gradient), ("the walk", shown.displacement)) if on]
        sent = {
            "the task's description": "description" in named,
            "the labels": "labels" in named,
            "the template": "template" in named or "template" in self.fills,
            "the label words": "label_words" in self.fills,
            "prompts with their scores": prompts and shown.scores != "none",
            "prompts": prompts and shown.scores == "none",
            "a loss to reach": "next" in named and not prompts and shown.scores != "none",
            "words nearest to the tuned vectors": clues and shown.nearest,
            f"words that {' and '.join(pointing)} point{'s' if len(pointing) == 1 else ''} to": clues and bool(pointing),
            "the gap between the tuned vectors and their words": clues and shown.gap,
            "counts of confused labels": clues and shown.confusions,
            "misread training examples": clues and shown.examples,
            "the tuned model's own continuation of its prompt, which can repeat training text": clues and shown.self_continuation,
        }
        told = ", ".join(part for part, is_sent in sent.items() if is_sent) or "a text that is the same each time"
        kept = "" if clues and (shown.examples or shown.self_continuation) else " No training example is sent."
        leaves = "leaves this machine" if chat.is_remote else "stays on this machine"
        return f"Mentor: {chat.where(chat.model_name(tuned))}. It is sent {told}; this {leaves}.{kept}"


class LanguageModelOptions(InWordsOptions, AskingOptions):
    """Settings of `LanguageModelMentor`."""

    style: Style = Field("chat", description="completion suits small or base models.")
    share_examples: bool = Field(False, description="Let training examples, and what may repeat them, go to a remote model.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the likeliest tokens of this probability together.")
    retries: int = Field(
        1, ge=0, le=1_000, description="How often a model is asked again in a round for proposals that are missing (chat)."
    )
    max_samples: int = Field(6, ge=1, le=100_000, description="Most continuations asked for in a round (completion).")
    structured: bool = Field(
        False, description="Ask a server for proposals in JSON, by a schema that it may hold the model to (chat, openai)."
    )

    @property
    def shares_examples(self) -> bool:
        return self.share_examples

    def unread(self) -> dict[str, str]:
        other = "max_samples" if self.style == "chat" else "retries"
        found = {**super().unread(), other: f"mentor.style is '{self.style}': drop it"}
        if self.style == "completion" or self.chat.name in ("local", "person"):
            found["structured"] = (
                "it asks a server for JSON by a schema, which takes mentor.chat.provider = 'openai' (any server of that kind) and "
                "mentor.style = 'chat': choose these, or drop it"
            )
        if self.asks_a_person:
            keys = ("style", "share_examples", "top_p", "retries", "max_samples")
            found |= dict.fromkeys(keys, "a person is asked, once a round as in a chat: drop it")
        return found

    def check(self) -> None:
        super().check()
        if self.fills and style_of(self.chat.options, self.style) == "completion":
            raise ConfigError(
                "mentor.fills asks for lines of several parts, and a completion has one: set mentor.style = 'chat', or drop it."
            )
        if self.fills and self.mix is not None and self.mix.name == "perturb":
            raise ConfigError("mentor.mix = 'perturb' jumps from points in other templates or label words: drop it, or mentor.fills.")

    def wording_text(self, input: Input) -> str:
        return self._hashed(self._template(input))

    def disclosure(self, run: MentorContext) -> str:
        return self._told(self.chat.options, self._shown(), self._template(run.input), run.tuned)

    def build(self, run: MentorContext) -> LanguageModelMentor[Params]:
        chat = self.chat.options
        model = run.chat(chat)
        return _ready(
            LanguageModelMentor(
                model=model,
                task=run.task(self.description),
                codec=run.codec,
                style=style_of(chat, self.style),
                listing=self.listing,
                choice=self.choice,
                shown=self._shown(),
                template=self._template(run.input),
                temperature=self.temperature,
                top_p=self.top_p,
                max_tokens=self.max_tokens,
                max_samples=self.max_samples,
                retries=0 if chat.is_person else self.retries,
                filled=run.fields(self.fills),
                structured=self.structured,
            )
        )

    def _shown(self) -> Shown:
        return self.shown.build(remote=self.chat.options.is_remote, share_examples=self.share_examples)

    def _template(self, input: Input) -> Template:
        chat = self.chat.options
        return self.template(input, style_of(chat, self.style), is_person=chat.is_person)


PERSON = OneOf("chat", "provider", "person")


class PersonMentorOptions(InWordsOptions):
    """Settings of `LanguageModelMentor` where it asks the person at this terminal."""

    asks: ClassVar[bool] = True

    chat: Annotated[Chosen[ChatOptions], PERSON] = Field(default_factory=PERSON.chosen, description="What the person is called.")

    @property
    def asks_a_person(self) -> bool:
        return True

    def unread(self) -> dict[str, str]:
        told = "mentor.name is 'person', who is asked at this terminal: drop it"
        return {} if self.chat.name == PERSON.default else {"chat.provider": told}

    def wording_text(self, input: Input) -> str:
        return self._hashed(self.template(input, "chat", is_person=True))

    def disclosure(self, run: MentorContext) -> str:
        shown = self.shown.build(remote=False, share_examples=False)
        return self._told(self.chat.options, shown, self.template(run.input, "chat", is_person=True), run.tuned)

    def build(self, run: MentorContext) -> LanguageModelMentor[Params]:
        return _ready(
            LanguageModelMentor(
                model=run.chat(self.chat.options),
                task=run.task(self.description),
                codec=run.codec,
                listing=self.listing,
                choice=self.choice,
                shown=self.shown.build(remote=False, share_examples=False),
                template=self.template(run.input, "chat", is_person=True),
                filled=run.fields(self.fills),
            )
        )


def _ready(mentor: LanguageModelMentor[Params]) -> LanguageModelMentor[Params]:
    mentor.instruction((), 1)  # an unknown field in the wording is told now, not in the middle of a run
    return mentor
