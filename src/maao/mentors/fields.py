"""What a proposal fills beside the slots: the template around them, the word that stands for each label, or both.

A line that is proposed has its parts one behind the other, with a bar between them: the prompt, then the template where it is asked for,
then each label with its word. ``Is it good or bad? | negative: terrible | positive: great``. A label that is left out keeps its word. The
fields of a proposal are named as the model's section of a config names them: ``template``, and ``label_words.LABEL`` for each label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from maao.errors import CodecError
from maao.mentors.reply_lines import unquoted
from maao.mentors.reply_objects import name_rank
from maao.protocols import Codec
from maao.types import TEMPLATE, WORD, P, Proposal

Name = Literal["template", "label_words"]
NAMES: tuple[Name, ...] = ("template", "label_words")
BAR = " | "

# Two worked tasks, whose lines an instruction shows in the form that is asked for: prompt, template, a word a label. What is shown comes
# back as proposals, so they are tasks that no table and no page of ours has; a test holds that.
WORKED = {
    "letters": (
        ("Is this letter formal or informal?", "Letter: {text} {slots} Answer:", {"formal": "formal", "informal": "informal"}),
        ("In tone, the writer of this letter was", "{text} {slots}", {"formal": "stiff", "informal": "relaxed"}),
        ("Style of the letter above:", "{text} {slots}", {"formal": "official", "informal": "casual"}),
    ),
    "seasons": (
        ("The season of the page above is", "{text} {slots}", {"spring": "spring", "summer": "summer", "autumn": "autumn"}),
        ("Which month might it be?", "{text} {slots} In", {"spring": "April", "summer": "July", "autumn": "October"}),
        (
            "When in the year was this written?",
            "Diary: {text} {slots} Season:",
            {"spring": "spring", "summer": "summer", "autumn": "autumn"},
        ),
    ),
}


@dataclass(frozen=True)
class Fields:
    """The fields that are asked for.

    Args:
        names: of `NAMES`, in that order.
        labels: the labels whose words are asked for, in their order.
        own: the config's own fields, which stand where no proposal filled another.

    Example:
        >>> fields = Fields(("label_words",), ("bad", "good"))
        >>> fields.split('Is it any good? | good = great | "bad": terrible')
        ('Is it any good?', {'label_words.bad': 'terrible', 'label_words.good': 'great'})
    """

    names: tuple[Name, ...]
    labels: tuple[str, ...]
    own: Mapping[str, str] = field(default_factory=dict)

    def line(self, text: str, fields: Mapping[str, str]) -> str:
        """Return a prompt as a line of all that is asked for: what was filled, and the config's own for the rest."""
        whole = {**self.own, **fields}
        return line_of(text, {name: whole[name] for name in self._wanted if name in whole}, self.labels)

    def split(self, line: str) -> tuple[str, dict[str, str]]:
        """Return the prompt of a line and its fields. Raises `CodecError` for a line with other parts than were asked for."""
        text, *parts = [unquoted(part) for part in line.strip().strip("|").split("|")]
        fewest = ("template" in self.names) + ("label_words" in self.names)  # labels that are left out keep their words
        if not fewest <= len(parts) <= len(self._wanted):
            raise CodecError(f"it has {len(parts)} parts behind the prompt, and {len(self._wanted)} were asked for: {self.form}")
        if not text or not all(parts):
            raise CodecError(f"one of its parts is empty; asked for were {self.form}")
        found: dict[str, str] = {}
        if "template" in self.names:
            found[TEMPLATE] = parts.pop(0).replace("\\n", "\n")
        if "label_words" in self.names:
            found |= {WORD + label: word for label, word in zip(self.labels, self._words(parts), strict=True)}
        return text, found

    def _words(self, parts: Sequence[str]) -> list[str]:
        """Return the words of parts in the order of the labels: by their names where all are named, else as they come.

        Labels that are not among the named keep the config's own words.
        """
        named = [_named(part, self.labels) for part in parts]
        words = dict(filter(None, named))
        if len(words) == len(parts) and (len(parts) == len(self.labels) or self.own):
            return [words.get(label) or self.own[WORD + label] for label in self.labels]
        if len(parts) < len(self.labels):
            raise CodecError(f"it has no word for some labels, and names not all of its own: asked for were {self.form}")
        found = [one[1] if one else part for one, part in zip(named, parts, strict=True)]
        other = any(one and one[0] != label for one, label in zip(named, self.labels, strict=True))
        swapped = any(word != label and word in self.labels for word, label in zip(found, self.labels, strict=True))
        if other or swapped:
            raise CodecError(f"which word stands for which label cannot be told: name each of {', '.join(self.labels)} before its word")
        return found

    @property
    def _wanted(self) -> tuple[str, ...]:
        template = (TEMPLATE,) if "template" in self.names else ()
        return (*template, *(WORD + label for label in self.labels)) if "label_words" in self.names else template

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
    def more_words(self) -> int:
        """How many words a line may have beside those of the prompt; a longer one is prose."""
        return (20 if "template" in self.names else 0) + (5 * len(self.labels) if "label_words" in self.names else 0)

    def line_of_object(self, given: Mapping[str, object]) -> str | None:
        """Return an object (of JSON, or a row of a table by its names) as a line; None where it does not hold a prompt and more.

        Example:
            >>> fields = Fields(("label_words",), ("bad", "good"))
            >>> fields.line_of_object({"id": 1, "prompt": "Is it any good?", "label_words": {"good": "great", "bad": "terrible"}})
            'Is it any good? | bad: terrible | good: great'
        """
        filled = {TEMPLATE: given.get(TEMPLATE)} if "template" in self.names else {}
        words = given.get("label_words")
        words = words if isinstance(words, Mapping) else given
        filled |= {WORD + label: words.get(label, given.get(WORD + label)) for label in self.labels if "label_words" in self.names}
        said = {name: value.strip() for name, value in filled.items() if isinstance(value, str) and value.strip()}
        ranks = {name: rank for name in given if name not in (TEMPLATE, *self.labels) and (rank := name_rank(name)) is not None}
        text = given[min(ranks, key=ranks.__getitem__)] if ranks else None
        return line_of(text.strip(), said, self.labels).replace("\n", "\\n") if isinstance(text, str) and text.strip() and said else None


def worked_lines(task: str, names: Sequence[Name]) -> tuple[str, ...]:
    """Return the lines of a worked task ("letters" or "seasons") in the form that is asked for."""
    found = []
    for text, template, words in WORKED[task]:
        filled = {TEMPLATE: template} if "template" in names else {}
        filled |= {WORD + label: word for label, word in words.items()} if "label_words" in names else {}
        found.append(line_of(text, filled, tuple(words)))
    return tuple(found)


def proposal_of(codec: Codec[P], line: str, source: str, filled: Fields | None = None) -> tuple[Proposal[P], str]:
    """Return a line as a proposal, and what it starts from: its words made to fit, with what it fills beside them.

    Raises:
        CodecError: it cannot be encoded, or not be filled in.
    """
    text, fields = (line, {}) if filled is None else filled.split(line)
    encoded = codec.encode(text, fields)
    start = encoded.text if filled is None else filled.line(encoded.text, fields)
    return Proposal(text, encoded.params, source, encoded.note, fields), start


def line_of(text: str, fields: Mapping[str, str], labels: Sequence[str] | None = None) -> str:
    """Return a prompt and what was filled beside it as one line; labels in their order, or sorted where that is not given.

    Example:
        >>> line_of("Is it any good?", {"label_words.good": "great", "label_words.bad": "terrible"})
        'Is it any good? | bad: terrible | good: great'
    """
    order = labels if labels is not None else sorted(name.removeprefix(WORD) for name in fields if name.startswith(WORD))
    words = [f"{label}: {fields[WORD + label]}" for label in order if WORD + label in fields]
    template = [fields[TEMPLATE].replace("\n", "\\n")] if TEMPLATE in fields else []
    return BAR.join([text, *template, *words])


def _named(part: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """Return the label that a part names and its word; None: it names none."""
    for label in sorted(labels, key=len, reverse=True):
        match = re.match(rf"[\"'`*]*{re.escape(label)}[\"'`*]*(?:\s*(?::|=|->|→)\s*|\s+[-–—]\s+)(.+)", part, re.IGNORECASE | re.DOTALL)
        if match:
            return label, unquoted(match[1])
    return None
