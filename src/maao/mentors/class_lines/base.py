"""What is the same of all mentors of class lines, those that ask a language model and the controls of the same form.

A child says lines of each class (`LinesMentor.lines`). Here they are made fit to train on, and proposed at several weights, the same lines
each time: how far to believe them is what is judged.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Generic

from pydantic import Field

from maao.class_lines import ClassLines, Line, alike, has_lines
from maao.errors import CodecError, ConfigError
from maao.mentors.context import MentorContext, MentorOptions
from maao.mentors.reply import Rejections
from maao.protocols import Codec, History
from maao.types import DESCRIPTIONS, EXAMPLES, LINES_WEIGHT, Advice, Cost, P, Proposal, Rejected, S

LONGEST = 1000  # characters of a line: more is no text of one class but a page
_JOINERS = frozenset("\u200c\u200d")  # words of Persian and Hindi, and emoji made of several, need them


@dataclass(frozen=True)
class Said:
    """What a mentor says of classes, with what of it cannot be used, and what asking cost."""

    lines: ClassLines = field(default_factory=ClassLines)
    rejected: tuple[Rejected, ...] = ()
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a mentor of class lines.

    Args:
        classes: the names of the classes, as the data have them and in their order.
        examples, descriptions: how many lines of a class.
        weights: what a line weighs beside a labelled example, in the order of likely use.
    """

    classes: tuple[str, ...]
    examples: int = 8
    descriptions: int = 3
    weights: tuple[float, ...] = (0.5,)


@dataclass(frozen=True)
class LinesMentor(Generic[P]):
    """Base: a child says `lines` of classes; each of the weights wanted makes one proposal of them.

    The child may say lines in any order and of any form: what cannot be used (see `usable`) is rejected with a reason. Lines beyond those
    that are wanted of a class are kept: how many there are is the child's affair, as later rounds add to earlier ones.

    Args:
        codec: turns lines into params.
        wanted: which lines are wanted.
        source: who says the lines, for people.
    """

    codec: Codec[P]
    wanted: Wanted
    source: str

    def lines(self, history: History[P, S], seed: int) -> Said:
        """Return what is said of the classes after a history. Pure: the same history and seed give the same."""
        raise NotImplementedError

    def further_fields(self, history: History[P, S], seed: int) -> Mapping[str, str]:
        """Return what stands in the fields beside the lines: those that are said to one fold's member alone, say."""
        return {}

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]:
        said = self.lines(history, seed)
        lines, refused = usable(said.lines, self.wanted.classes)
        rejected = (*said.rejected, *refused)
        if not len(lines):
            return Advice((), rejected or (Rejected("", "there is no line of any class"),), said.cost)
        weights = self.weights_after(history)
        left_out = ", ".join(f"{weight:g}" for weight in weights[count:])
        note = f"not tried at {left_out}: plan.proposals is {count}" if left_out else None
        further = self.further_fields(history, seed)
        proposals: list[Proposal[P]] = []
        cost = said.cost
        for weight in weights[:count]:
            fields = {**lines.at(1.0).to_fields(), **further, LINES_WEIGHT: f"{weight:g}"}
            try:
                encoded = self.codec.encode("", fields)
            except CodecError as error:
                return Advice((), (*rejected, Rejected(lines_told(fields), str(error))), cost)
            cost = cost if proposals else cost + encoded.cost  # lines are read once, whatever they weigh
            proposals.append(Proposal("", encoded.params, self.source, encoded.note, fields))
        proposals[-1] = replace(proposals[-1], note="; ".join(filter(None, (proposals[-1].note, note))) or None)
        return Advice(tuple(proposals), rejected, cost)

    def weights_after(self, history: History[P, S]) -> tuple[float, ...]:
        """Return the weights in the order of likely use: that which the present lines were taken at before the others."""
        now = incumbent_fields(history).get(LINES_WEIGHT)
        return tuple(sorted(self.wanted.weights, key=lambda weight: now is None or weight != float(now)))


def incumbent_fields(history: History[P, S]) -> Mapping[str, str]:
    """Return the fields of the proposal with lines that the present point stands on; none where it stands on no such."""
    chosen = [r.advice.proposals[r.verdict.chosen].fields for r in history if r.verdict.chosen is not None]
    return next((fields for fields in reversed(chosen) if has_lines(fields)), {})


def lines_told(fields: Mapping[str, str]) -> str:
    """Return in a few words which class lines fields hold; "" where they hold none.

    Example:
        >>> lines_told({"examples.bad": "Dull.\\nA waste.", "descriptions.bad": "what one would not see again", "lines_weight": "0.5"})
        '2 examples and 1 description of 1 class at weight 0.5'
    """
    if not has_lines(fields):
        return ""
    kinds = {"example": EXAMPLES, "description": DESCRIPTIONS}
    counts = {kind: sum(text.count("\n") + 1 for name, text in fields.items() if name.startswith(start)) for kind, start in kinds.items()}
    classes = {name.removeprefix(start) for name in fields for start in kinds.values() if name.startswith(start)}
    told = " and ".join(_counted(count, kind) for kind, count in counts.items() if count)
    weight = f" at weight {fields[LINES_WEIGHT]}" if LINES_WEIGHT in fields else ""
    return f"{told} of {_counted(len(classes), 'class')}{weight}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def cleaned(text: str) -> str:
    """Return a text in one line that no terminal obeys: what is white, invisible or controls anything is a space, and runs of it are one.

    Example:
        >>> cleaned(" where is\\nmy \\x1b[31mcard? ")
        'where is my [31mcard?'
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if _is_no_text(char) else char for char in text)
    return " ".join(text.split())


def _is_no_text(char: str) -> bool:
    return char not in _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Co", "Cn")


def usable(said: ClassLines, classes: Sequence[str], known: Mapping[str, str] | None = None) -> tuple[ClassLines, tuple[Rejected, ...]]:
    """Return the lines that can be trained on, in the order of the classes, and the others with the reason.

    A text that stands under two classes says nothing of either and is left out of both. `known` are texts of earlier lines (in the form of
    `alike`) with their classes, which are not said again.

    Example:
        >>> said = ClassLines((Line("a", "examples", "one"), Line("a", "examples", "One "), Line("c", "examples", "two")))
        >>> lines, rejected = usable(said, ("a", "b"))
        >>> lines.to_json(), [r.reason for r in rejected]
        ({'a': {'examples': [['one', 1.0]]}}, ["said of 'a' twice", "there is no class 'c'"])
    """
    known, classes_of, names = known or {}, _classes_of(said, classes), frozenset(classes)
    kept: dict[str, Line] = {}
    rejected = Rejections("line")
    for line in said:
        text = cleaned(line.text)
        key = alike(text)
        reason = _why_not(line.label, text, names)
        others = [label for label in classes_of.get(key, ()) if label != line.label]
        if not reason and key in known:
            reason = f"said of {known[key]!r} before"
        elif not reason and others:
            reason = f"said of {line.label!r} and of {others[0]!r}"
        elif not reason and key in kept:
            reason = f"said of {line.label!r} twice"
        if reason:
            rejected.add(text, reason)
        else:
            kept[key] = replace(line, text=text)
    return ClassLines(tuple(kept.values())).in_order(classes), rejected.all()


def _classes_of(said: Iterable[Line], classes: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes that each text is said of, the first first."""
    found: dict[str, list[str]] = {}
    known = set(classes)
    for line in said:
        of = found.setdefault(alike(cleaned(line.text)), [])
        if line.label in known and line.label not in of:
            of.append(line.label)
    return found


def _why_not(label: str, text: str, classes: Collection[str]) -> str:
    if label not in classes:
        return f"there is no class {label[:80]!r}"
    if not any(map(str.isalnum, text)):
        return "holds no word"
    return f"longer than {LONGEST:,} characters" if len(text) > LONGEST else ""


# -- as a section of a config

Weight = Annotated[float, Field(gt=0, le=1)]


class LinesOptions(MentorOptions):
    """Settings of every mentor of class lines."""

    proposes_lines: ClassVar[bool] = True

    examples: int = Field(8, ge=0, le=1_000, description="Examples of each class: texts that could be of it.")
    descriptions: int = Field(3, ge=0, le=1_000, description="Descriptions of each class: what it is about, how it differs from others.")
    weights: list[Weight] = Field(
        [0.5],
        min_length=1,
        max_length=100,
        description="What a line weighs beside a labelled example: each makes one proposal, up to plan.proposals, the first first.",
    )

    def check(self) -> None:
        super().check()
        if not self.examples + self.descriptions:
            raise ConfigError("mentor.examples and mentor.descriptions are both 0: there is nothing to say of the classes.")
        if twice := [weight for weight, times in Counter(self.weights).items() if times > 1]:
            raise ConfigError(f"mentor.weights names {twice[0]:g} twice, and each makes a proposal: drop one.")

    @property
    def asked_for(self) -> str:
        """Which lines are asked for, in words.

        Example:
            >>> LinesOptions(descriptions=1).asked_for, LinesOptions(examples=0).asked_for
            ('8 examples and 1 description a class', '3 descriptions a class')
        """
        counts = (("example", self.examples), ("description", self.descriptions))
        return " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts if count) + " a class"

    def wanted(self, run: MentorContext) -> Wanted:
        """Return which lines are wanted of the classes of a run. Raises `ConfigError` where it has none."""
        if not run.classes:
            raise ConfigError("Class lines are said of the classes of texts or pictures, and this problem has none: choose another mentor.")
        return Wanted(run.classes, self.examples, self.descriptions, tuple(self.weights))
