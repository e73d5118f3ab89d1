"""The mentor that asks a language model what classes mean.

The first round's request holds the task and the names of the classes, and nothing of the data: all seeds, numbers of labels and settings of
training share it. Several replies to it may be on record; a run uses the one that its seed falls on. In later rounds what the present point
confuses goes back to the mentor (`feedback.py`).
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from maao.class_lines import ClassLines, Kind, Line
from maao.core.seeds import seed_for
from maao.errors import ConfigError
from maao.llm.chat import Message, Request
from maao.mentors.class_lines.base import LinesMentor, LinesOptions, Said, usable
from maao.mentors.class_lines.feedback import Feedback, Later, Now, Rewriting, earlier_lines, later
from maao.mentors.class_lines.reading import Asked, read_reply
from maao.mentors.class_lines.request import MOST_TOKENS, Subject, expected_tokens, most_tokens, schema, wording_of, write
from maao.mentors.context import AskingOptions, Input, MentorContext
from maao.mentors.language_model import complete_all, cut_reason, reply_cost_about
from maao.options import Text
from maao.printable import printable_line
from maao.protocols import ChatModel, History, Params
from maao.types import Cost, P, Rejected, S

CONFUSED = (
    "A classifier was tuned on real examples and on lines like those below. It still takes some of these classes for one another. Write "
    "further lines of {these} alone, which join those below: say what these do not say yet, so that a class is told from what it is taken "
    "for."
)
AGAIN = "Lines of {these} were written before. Write further lines of {these} alone, which join those below: say what these do not say yet."


@dataclass(frozen=True)
class Asking:
    """How a language model is asked.

    Args:
        sample: which of the replies on record is used.
        samples: how many there are of each request.
        max_tokens: of a reply; 0: as many as the lines asked for need.
        classes_per_request: 0: as many as fit in a reply.
        retries: how often classes of which no line came are asked for again.
        structured: ask for JSON by a schema.
    """

    sample: int = 0
    samples: int = 3
    temperature: float = 1.0
    max_tokens: int = 0
    classes_per_request: int = 0
    retries: int = 1
    structured: bool = False

    def parts(self, asked: Asked) -> Iterator[Asked]:
        """Yield what each request asks for, as few as hold all classes and about as many classes in each."""
        one = expected_tokens(asked)
        most = self.classes_per_request or max(1, (self.max_tokens or MOST_TOKENS) // one)
        count = -(-len(asked.classes) // most)
        for i in range(count):
            begin, end = (len(asked.classes) * place // count for place in (i, i + 1))
            yield replace(asked, classes=asked.classes[begin:end])


@dataclass(frozen=True)
class ClassLinesMentor(LinesMentor[P]):
    """Asks a chat model for lines of all classes, and in later rounds for further ones of those that are confused.

    Args:
        model: who is asked.
        subject: what it is told of the task and the classes.
        asking: how it is asked.
        rewriting: how later rounds go on.
        swapped: which class a line of each class is filed under; none are swapped, but for a diagnostic.
    """

    model: ChatModel
    subject: Subject
    asking: Asking = field(default_factory=Asking)
    rewriting: Rewriting = field(default_factory=Rewriting)
    swapped: Mapping[str, str] = field(default_factory=dict)

    def lines(self, history: History[P, S], seed: int) -> Said:
        if not len(earlier_lines(history, self.wanted.classes)):
            return self._ask(Asked(self.wanted.classes, self._counts(self.wanted.examples, self.wanted.descriptions)))
        next_round = later(history, self.wanted.classes, self.rewriting, seed)
        if not next_round.now:
            return Said(rejected=(Rejected("", "no class is taken for another: there is nothing to rewrite"),))
        return self._go_on(next_round)

    def _go_on(self, next_round: Later) -> Said:
        counts = self._counts(self.rewriting.rewrites, 1 if self.wanted.examples else self.rewriting.rewrites)
        asked = Asked(tuple(now.label for now in next_round.now), counts)
        said = self._ask(asked, next_round.now, CONFUSED if self.rewriting.feedback == "confusions" else AGAIN)
        new, refused = usable(said.lines, self.wanted.classes, next_round.known)
        told = (
            *(Rejected(line.text, f"dropped: hardly believed of {line.label!r}") for line in next_round.dropped),
            *said.rejected,
            *refused,
        )
        if not len(new) and not next_round.dropped:
            return Said(rejected=told or (Rejected("", "no new line of any class"),), cost=said.cost)
        return Said(ClassLines((*next_round.kept, *new)), told, said.cost)

    def request(self, asked: Asked, now: Sequence[Now] = (), told: str = "", again: int = 0) -> Request:
        """Return a request. It holds nothing of the run but which sample it is; `again` counts how often it was asked before."""
        these = "this class" if len(asked.classes) == 1 else f"these {len(asked.classes)} classes"
        text = write(self.subject, asked, now, told=told.format(these=these))
        return Request(
            model=self.model.name,
            messages=(Message("user", text),),
            max_tokens=self.asking.max_tokens or most_tokens(asked),
            temperature=self.asking.temperature,
            seed=0,  # with the number of the sample, the seed of the sampling
            sample=self.asking.sample + self.asking.samples * again,
            schema=schema(self.subject, asked) if self.asking.structured else None,
        )

    def _counts(self, examples: int, descriptions: int) -> dict[Kind, int]:
        wanted = self.wanted
        return {"examples": examples if wanted.examples else 0, "descriptions": descriptions if wanted.descriptions else 0}

    def _ask(self, asked: Asked, now: Sequence[Now] = (), told: str = "") -> Said:
        """Ask for lines, and again for the classes of which none came; a call that fails is the last."""
        found: list[Line] = []
        rejected: list[Rejected] = []
        cost, left = Cost(), asked
        for again in range(1 + self.asking.retries):
            requests = [(part, self.request(part, now, told, again)) for part in self.asking.parts(left)]
            replies = complete_all(self.model, (request for _, request in requests))
            for (part, request), (reply, failure) in zip(requests, replies, strict=True):
                if reply is None:
                    return self._said(found, [*rejected, failure], cost, asked)
                cost += reply_cost_about(reply, request)
                if reply.why_empty:
                    rejected.append(Rejected("", reply.why_empty))
                    continue
                lines, unusable = read_reply(reply.text, part, self.subject.names, cut_reason(reply, request.max_tokens))
                found += lines
                rejected += unusable
            missing = _missing(found, asked)
            if not missing:
                break
            left = replace(asked, classes=missing)
        return self._said(found, rejected, cost, asked)

    def _said(self, found: Sequence[Line], rejected: Sequence[Rejected], cost: Cost, asked: Asked) -> Said:
        """Return what was said, with a word on the classes of which nothing was."""
        missing = [self.subject.names.shown(label) for label in _missing(found, asked)]
        told = (
            [Rejected("", f"no line came of {len(missing)} of {len(asked.classes)} classes: {_listed(missing)}")]
            if missing and found
            else []
        )
        lines = [replace(line, label=self.swapped.get(line.label, line.label)) for line in found]
        return Said(ClassLines(tuple(lines)), (*rejected, *told), cost)


def _missing(found: Sequence[Line], asked: Asked) -> tuple[str, ...]:
    have = {line.label for line in found}
    return tuple(label for label in asked.classes if label not in have)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def swaps(classes: Sequence[str], seed: int) -> dict[str, str]:
    """Return another class for each class: all of them once, none its own.

    Example:
        >>> found = swaps(("a", "b", "c"), 0)
        >>> sorted(found.values()), any(label == other for label, other in found.items())
        (['a', 'b', 'c'], False)
    """
    dealt = random.Random(seed_for(seed, "swaps")).sample(list(classes), len(classes))
    return dict(zip(dealt, [*dealt[1:], dealt[0]], strict=True))


def read_about(path: str) -> dict[str, str]:
    """Return what classes are about, of a JSON file ``{class: sentence}`` or a CSV file of two columns, with or without a header.

    Raises:
        ConfigError: there is no such file, or it is not of this form.
    """
    file = Path(path)
    told = "mentor.about_classes names a JSON file {class: sentence}, or a CSV file with a class and a sentence a row"
    try:
        text = file.read_text(encoding="utf-8-sig")
        found: object = (
            json.loads(text)
            if file.suffix.lower() == ".json"
            else _without_header([_row(row) for row in csv.reader(io.StringIO(text)) if row])
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}. {told}.") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ConfigError(f"{file} holds something else than a sentence for each class: {told}.")
    return found


def _without_header(rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return rows by class. What is called a label and said to be about is a header: no sentence is one word of these."""
    first = tuple(cell.strip().casefold() for cell in rows[0]) if rows else ("", "")
    return dict(rows[1:] if first[0] in ("label", "class") and first[1] in ("about", "sentence", "description") else rows)


def _row(row: Sequence[str]) -> tuple[str, str]:
    if len(row) != 2:
        raise ValueError(f"the row {row!r} has {len(row)} columns, not a class and a sentence")
    return row[0], row[1]


# -- as a section of a config


class ClassLinesOptions(LinesOptions, AskingOptions):
    """Settings of `ClassLinesMentor`."""

    reads_clues: ClassVar[bool] = True

    description: Text = Field("Classify a text.", description="What is told of the task, in a sentence.")
    about_classes: dict[str, str] | Text | None = Field(
        None, description="What a class is about, a sentence behind its name: a mapping, or a JSON or CSV file of it, which is read once."
    )
    temperature: float = Field(1.0, ge=0, le=1_000, description="Sampling temperature of a reply; 0: the likeliest token each time.")
    max_tokens: int = Field(0, ge=0, le=10_000_000, description="Most tokens of a reply; 0: as many as the lines asked for need.")
    classes_per_request: int = Field(
        0, ge=0, le=1_000_000, description="Classes asked for in a request; 0: as many as fit in a reply; 1 to 15 suit small models."
    )
    samples: int = Field(3, ge=1, le=1_000, description="Replies to each request that there may be; a run's seed says which one it uses.")
    sample: int | None = Field(None, ge=0, le=999, description="The reply that a run uses, whatever its seed: a number below samples.")
    retries: int = Field(1, ge=0, le=1_000, description="How often classes of which no line came are asked for again.")
    structured: bool = Field(False, description="Ask a server for JSON by a schema that it may hold the model to (openai).")
    feedback: Feedback = Field(
        "confusions",
        description="What later rounds go by: what is confused, the earlier lines alone (a control), or random classes (a control).",
    )
    rewrites: int = Field(
        6, ge=1, le=1_000, description="New examples that a later round asks of a class; where none are asked for, descriptions."
    )
    most_classes: int = Field(40, ge=1, le=1_000_000, description="Classes that a later round asks for at most, the most confused first.")
    drop_below: float = Field(0.1, ge=0, le=1, description="A later round drops lines of its classes that are believed less (0 to 1).")
    misread: int = Field(3, ge=0, le=1_000, description="Misread training texts shown of a class in later rounds, where they may be.")
    share_examples: bool = Field(False, description="Let misread training texts go to a remote model.")
    shuffle_classes: bool = Field(False, description="File each class's lines under another class: a diagnostic, no control.")

    @field_validator("about_classes")
    @classmethod
    def _read_about(cls, given: dict[str, str] | str | None) -> dict[str, str] | None:
        """Take what a file says in its place: the run is then resumed and replayed with it, whatever becomes of the file."""
        return read_about(given) if isinstance(given, str) else given

    @property
    def shares_examples(self) -> bool:
        return self.share_examples

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.chat.name == "local":
            found["structured"] = (
                "it asks a server for JSON by a schema, which takes mentor.chat.provider = 'openai': choose it, or drop it"
            )
        if self.feedback != "confusions":
            found |= dict.fromkeys(("misread", "share_examples"), f"mentor.feedback is '{self.feedback}', which shows no text: drop it")
        return found

    def check(self) -> None:
        super().check()
        if self.sample is not None and self.sample >= self.samples:
            raise ConfigError(
                f"mentor.sample = {self.sample}, and there are mentor.samples = {self.samples}, counted from 0: take a lower one."
            )
        if self.asks_a_person:
            raise ConfigError(
                "The mentor 'class_lines' asks for many lines of every class in JSON, which nobody types: write them into a file and name "
                "it in data.lines, or ask a language model."
            )

    def wording_text(self, input: Input) -> str:
        return "\n".join((wording_of(input).template, CONFUSED, AGAIN))

    def disclosure(self, run: MentorContext) -> str:
        chat = self.chat.options
        about = " with what you say of them" if self.about_classes else ""
        later = {"confusions": "which classes are confused and how often, with its own lines and how far each is believed"}
        told = later.get(self.feedback, "its own lines of some classes")
        shown = self._shown_texts(run.input)
        told += ", and misread training texts" if shown else ""
        rest = "" if shown else " No training example is sent."
        if shown and run.folds:
            rest = " What it is told of misread texts makes out-of-fold figures of later rounds too good; test is not touched."
        where = chat.where(chat.model_name(run.tuned))
        return (
            f"Mentor: {where}. It is sent the task's description and the names of the classes{about}; in later rounds {told}; this "
            f"{self.where(run)}.{rest}"
        )

    def build(self, run: MentorContext) -> ClassLinesMentor[Params]:
        wanted, about = self.wanted(run), self._about()
        if unknown := [label for label in about if label not in run.classes]:
            raise ConfigError(
                f"mentor.about_classes speaks of the class {unknown[0]!r}, which the data do not have: they have {_known(run)}."
            )
        return ClassLinesMentor(
            run.codec,
            wanted,
            self.chat.options.model_name(run.tuned),
            run.chat(self.chat.options),
            Subject(run.task(self.description).description, run.classes, about, wording_of(run.input)),
            Asking(
                run.seed % self.samples if self.sample is None else self.sample,
                self.samples,
                self.temperature,
                self.max_tokens,
                self.classes_per_request,
                self.retries,
                self.structured,
            ),
            Rewriting(self.feedback, self.rewrites, self.most_classes, self.drop_below, self._shown_texts(run.input)),
            swaps(run.classes, run.seed) if self.shuffle_classes else {},
        )

    def _shown_texts(self, input: Input) -> int:
        """Return how many misread texts are shown of a class: they leave this machine only where the user says so. Pictures are none."""
        allowed = self.share_examples or not self.chat.options.is_remote
        return self.misread if allowed and self.feedback == "confusions" and input != "image" else 0

    def _about(self) -> dict[str, str]:
        return self.about_classes if isinstance(self.about_classes, dict) else {}


def _known(run: MentorContext) -> str:
    return _listed([printable_line(label) for label in run.classes])
