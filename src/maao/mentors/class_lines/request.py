"""Write what a language model is asked of classes: a pure function of the task, the names of the classes, and what a round adds.

The wording stands in ``instructions/class_lines/*.txt``, one file a sort of input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from string import Template

from maao.class_lines import KINDS, Kind
from maao.mentors.class_lines.feedback import Now
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.reading import PLACE, Asked
from maao.mentors.context import Input
from maao.mentors.instruction import closed_object, tidy
from maao.printable import printable_line, times

# Tokens that a reply takes, for a request that asks for as many classes as fit: what a strong model wrote of four sets of intents took 0.4
# to 0.65 of this (at four characters a token), names and marks of JSON included.
TOKENS: Mapping[Kind, int] = {"examples": 24, "descriptions": 48}
TOKENS_A_CLASS = 16
MOST_TOKENS = 32_000  # of a reply, where the settings do not say
BELIEVED = "each behind how far the classifier believes it (1: fully, 0: not at all)"
LONGEST_SHOWN = 300  # characters of a misread text
SPARE = 1.5  # a reply may take so much more than is expected, where there is room


@dataclass(frozen=True)
class Subject:
    """What lines are asked about.

    Args:
        description: of the task, a sentence.
        classes: as the data name them, in their order.
        about: what a class is about, in a sentence, where the user says so.
        wording: the text that requests are made from.
    """

    description: str
    classes: tuple[str, ...]
    about: Mapping[str, str]
    wording: Template

    @cached_property
    def names(self) -> Names:
        return Names(self.classes)


def wording_of(input: Input) -> Template:
    """Return the text that requests are made from, for a sort of input."""
    name = "pictures" if input == "image" else "texts"
    return Template((files("maao.mentors") / "instructions" / "class_lines" / f"{name}.txt").read_text(encoding="utf-8"))


def write(subject: Subject, asked: Asked, now: Sequence[Now] = (), *, told: str = "") -> str:
    """Return a request.

    Args:
        asked: the classes and how many lines of each; of some classes, all are named, so that lines are told apart from those of others.
        now: what is told of each class that is asked for, in a later round; `told` is said before it.
    """
    names, every, each = subject.names, "every class", "each class"
    if told or len(asked.classes) < len(subject.classes):
        every = each = "this class" if len(asked.classes) == 1 else f"each of these {len(asked.classes)} classes"
    fields: dict[str, str] = {
        "description": subject.description.strip(),
        "num_classes": str(len(subject.classes)),
        "classes": "\n".join(_named(label, names, subject.about) for label in subject.classes),
        "now": _now(subject, asked, now, told),
        "each": each,
        "every": every,
        "form": _form(asked, names),
    }
    fields |= {str(kind): str(asked.counts.get(kind, 0)) for kind in KINDS}
    lines = subject.wording.template.splitlines()
    kept = [line for line in lines if not any(f"${kind}" in line and kind not in asked.kinds for kind in KINDS)]
    return tidy(Template("\n".join(kept)).substitute(fields))


def schema(subject: Subject, asked: Asked) -> dict[str, object]:
    """Return the JSON schema of a reply: an object by class, each with its lists of lines."""
    listed: dict[str, object] = {kind: {"type": "array", "items": {"type": "string"}} for kind in asked.kinds}
    entry = closed_object(listed)
    return closed_object({subject.names.shown(label): entry for label in asked.classes})


def expected_tokens(asked: Asked, classes: int = 1) -> int:
    """Return how many tokens a reply about so many classes takes, by an estimate (see `TOKENS`).

    Example:
        >>> expected_tokens(Asked((), {"examples": 8, "descriptions": 3}), 77)
        27104
    """
    return classes * (TOKENS_A_CLASS + sum(TOKENS[kind] * asked.counts[kind] for kind in asked.kinds))


def most_tokens(asked: Asked) -> int:
    """Return how many tokens a reply may have where the settings do not say."""
    return min(MOST_TOKENS, round(SPARE * expected_tokens(asked, len(asked.classes))))


def _named(label: str, names: Names, about: Mapping[str, str]) -> str:
    told = f": {printable_line(about[label])}" if label in about else ""
    return f"- {names.shown(label)}{told}"


def _form(asked: Asked, names: Names) -> str:
    """Return the form of a reply; with the name of the one class that is asked for, which a small model would leave as it stands."""
    lists = ", ".join(f'"{kind}": ["...", "..."]' for kind in asked.kinds)
    if len(asked.classes) > 1:
        return f'{{"{PLACE}": {{{lists}}}, ...}}'
    return f"{{{json.dumps(names.shown(asked.classes[0]), ensure_ascii=False)}: {{{lists}}}}}"


def _now(subject: Subject, asked: Asked, now: Sequence[Now], told: str) -> str:
    """Return what is told of the classes that are asked for, where these are not simply all."""
    names = subject.names
    if told:
        return "\n\n".join([told, *(_told(one, names) for one in now if one.label in asked.classes)])
    if len(asked.classes) == len(subject.classes):
        return ""
    listed = "\n".join(f"- {names.shown(label)}" for label in asked.classes)
    return f"Write for these alone, so that what you write fits none of the others:\n{listed}"


def _told(now: Now, names: Names) -> str:
    """Return what is told of one class in a later round."""
    lines = [f"Class: {names.shown(now.label)}"]
    if now.taken_for:
        lines.append("Taken for: " + ", ".join(f"{names.shown(c.predicted)} ({times(c.count)})" for c in now.taken_for))
    if now.taken_by:
        lines.append("Others taken for it: " + ", ".join(f"{names.shown(c.label)} ({times(c.count)})" for c in now.taken_by))
    if now.misread:
        lines.append("Texts of it that were misread:")
        lines += [f"- {_quoted(m.text)} (taken for {names.shown(m.predicted)})" for m in now.misread]
    if now.lines:
        lines.append("Its lines so far:" if now.believed is None else f"Its lines so far, {BELIEVED}:")
    for i, line in enumerate(now.lines):
        lines.append(f"- {line.text}" if now.believed is None else f"- {now.believed[i]:.2f}: {line.text}")
    if now.tried:
        lines += [
            "Lines of it that were tried and are left out, since they made nothing better:",
            *(f"- {line.text}" for line in now.tried),
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    shown = printable_line(text)
    return json.dumps(shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 1]}…", ensure_ascii=False)
