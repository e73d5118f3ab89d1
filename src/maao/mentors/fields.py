"""What a proposal fills beside the slots: the template around them, the word that stands for each label, or both.

A line that is proposed has its parts one behind the other, with a bar between them: the prompt, then the template where it is asked for,
then each label with its word. ``Is it good or bad? | negative: terrible | positive: great``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

from maao.errors import CodecError
from maao.interfaces import Codec
from maao.mentors.reply import MAX_WORDS
from maao.types import P, Proposal

Field = Literal["template", "label_words"]
ORDER: tuple[Field, ...] = ("template", "label_words")
BAR = " | "
QUOTES = " \"'`*“”‘’"

# Two worked tasks, whose lines an instruction shows in the form that is asked for: prompt, template, a word a label.
WORKED_LABELS = {"film": ("positive", "negative"), "languages": ("English", "French", "German")}
WORKED = {
    "film": (
        ("Is this film review positive or negative?", "Review: {text} {slots} Answer:", ("positive", "negative")),
        ("In short, the critic thought the film was", "{text} {slots}", ("great", "terrible")),
        ("Overall opinion of the reviewer above:", "{text} {slots}", ("good", "bad")),
    ),
    "languages": (
        ("The language of the sentence above is", "{text} {slots}", ("English", "French", "German")),
        ("Where do people speak like this?", "{text} {slots} In", ("England", "France", "Germany")),
        ("Which language is this written in?", "Sentence: {text} {slots} Language:", ("English", "French", "German")),
    ),
}


@dataclass(frozen=True)
class Fields(Generic[P]):
    """The fields that are asked for.

    Args:
        names: of `ORDER`, in that order.
        labels: the labels whose words are asked for, in their order.
        fill: the params of a proposal's fields; raises `CodecError` for what cannot be.
        own: what stands there where no proposal filled it, by name.

    Example:
        >>> fields = Fields(("label_words",), ("bad", "good"), lambda fields: {})
        >>> fields.split('Is it any good? | good = great | "bad": terrible')
        ('Is it any good?', {'label_words': 'bad: terrible | good: great'})
    """

    names: tuple[Field, ...]
    labels: tuple[str, ...]
    fill: Callable[[Mapping[str, str]], P]
    own: Mapping[str, str] = field(default_factory=dict)

    def whole(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Return the fields that are asked for, those that were filled and the config's own for the rest."""
        return {name: value for name, value in {**self.own, **fields}.items() if name in self.names}

    def split(self, line: str) -> tuple[str, dict[str, str]]:
        """Return the prompt of a line and its fields. Raises `CodecError` for a line with other parts than were asked for."""
        text, *parts = [part.strip() for part in line.strip().strip("|").split("|")]
        found: dict[str, str] = {}
        wanted = ("template" in self.names) + (len(self.labels) if "label_words" in self.names else 0)
        if len(parts) != wanted or not all(parts) or not text:
            raise CodecError(f"it has {len(parts)} parts behind the prompt, and {wanted} were asked for: {self.form}")
        if "template" in self.names:
            found["template"] = parts.pop(0).strip("\"'`")
        if "label_words" in self.names:
            found["label_words"] = with_labels(self.labels, self._words(parts))
        return text.strip(QUOTES), found

    def _words(self, parts: Sequence[str]) -> list[str]:
        """Return the words of parts in the order of the labels: by their names where all are named, else as they come."""
        bare = [part.strip(QUOTES) for part in parts]
        named = [_named(part, self.labels) for part in bare]
        words = dict(filter(None, named))
        if len(words) == len(self.labels):
            return [words[label] for label in self.labels]
        if any(found and found[0] != label for found, label in zip(named, self.labels, strict=True)):
            raise CodecError(f"it names other labels than {', '.join(self.labels)}, or one of them twice")
        return [found[1] if found else part for found, part in zip(named, bare, strict=True)]

    @property
    def form(self) -> str:
        """What a line holds, in words."""
        template = ["then the template"] if "template" in self.names else []
        words = [f"then each label with its word ({', '.join(self.labels)})"] if "label_words" in self.names else []
        return ", ".join(["a prompt", *template, *words]) + f', with "{BAR.strip()}" between them'

    @property
    def chosen(self) -> str:
        """What is chosen beside the prompt, in words."""
        told = {
            "template": "the template, which says where text and prompt stand ({slots} is the prompt's place)",
            "label_words": "the word that stands for each label",
        }
        return " and ".join(told[name] for name in self.names)

    @property
    def max_words(self) -> int:
        """The most words of a line; a longer one is prose."""
        return MAX_WORDS + (20 if "template" in self.names else 0) + (3 * len(self.labels) if "label_words" in self.names else 0)

    def worked(self, task: str) -> tuple[str, ...]:
        """Return the lines of a worked task ("film" or "languages")."""
        found = []
        for text, template, words in WORKED[task]:
            fields = {"template": template, "label_words": with_labels(WORKED_LABELS[task], words)}
            found.append(line_of(text, {name: fields[name] for name in self.names}))
        return tuple(found)


def proposal_of(codec: Codec[P], line: str, source: str, filled: Fields[P] | None = None) -> tuple[Proposal[P], str]:
    """Return a line as a proposal, and what it starts from: its words made to fit, with what it fills beside them.

    Raises:
        CodecError: it cannot be encoded, or not be filled in.
    """
    text, fields = (line, {}) if filled is None else filled.split(line)
    encoded = codec.encode(text)
    params: Any = encoded.params if filled is None else {**encoded.params, **filled.fill(fields)}  # type: ignore[dict-item]
    return Proposal(text, params, source, encoded.note, fields), start_of(encoded.text, fields, filled)


def start_of(text: str, fields: Mapping[str, str], filled: Fields[Any] | None) -> str:
    """Return what a proposal starts from as one line; what it leaves as it is counts as said."""
    return line_of(text, fields if filled is None else filled.whole(fields))


def line_of(text: str, fields: Mapping[str, str]) -> str:
    """Return a prompt and what was filled beside it as one line.

    Example:
        >>> line_of("Is it any good?", {"label_words": "bad: terrible | good: great"})
        'Is it any good? | bad: terrible | good: great'
    """
    return BAR.join([text, *(fields[name] for name in ORDER if name in fields)])


def with_labels(labels: Sequence[str], words: Sequence[str]) -> str:
    """Return labels and their words as a line shows them."""
    return BAR.join(f"{label}: {word}" for label, word in zip(labels, words, strict=True))


def _named(part: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """Return the label that a part names and its word; None: it names none."""
    for label in sorted(labels, key=len, reverse=True):
        match = re.match(rf"{re.escape(label)}[\"'`*]*\s*(?::|=|->)\s*(.+)", part, re.IGNORECASE)
        if match:
            return label, match[1].strip(QUOTES)
    return None
