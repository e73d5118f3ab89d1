"""What a later round asks: which classes, and what is told of each. A pure function of the history.

Three ways: of classes that the present point takes for one another, told how often, how far each of their lines is believed, and (where
that is allowed) which texts are misread; of the same classes, told only their earlier lines; of as many random ones, told the same.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from maao.class_lines import ClassLines, Line, alike
from maao.core.seeds import seed_for
from maao.errors import CodecError
from maao.mentors.class_lines.base import has_lines, incumbent_fields
from maao.protocols import History
from maao.types import LINES_WEIGHT, Clues, Confusion, LineWeight, Misclassified, P, S

Feedback = Literal["confusions", "second_sample", "random_classes"]


@dataclass(frozen=True)
class Rewriting:
    """How later rounds go on.

    Args:
        feedback: what they follow.
        rewrites: new examples of each class that is asked for, with one description; where no examples are wanted, so many descriptions.
        most_classes: that are asked for in a round, those most often misread first.
        drop_below: a line believed less than this is dropped (1: as much as its set, 0: not at all).
        misread: misread texts that are shown of each class; 0: none.
    """

    feedback: Feedback = "confusions"
    rewrites: int = 6
    most_classes: int = 40
    drop_below: float = 0.1
    misread: int = 0


@dataclass(frozen=True)
class Now:
    """What a request tells of one class: its lines, and with feedback what it is confused with.

    `believed` is how far each line is believed, where that is told; `tried` are lines that were proposed and do not count any more.
    """

    label: str
    lines: tuple[Line, ...] = ()
    believed: tuple[float, ...] | None = None
    tried: tuple[Line, ...] = ()
    taken_for: tuple[Confusion, ...] = ()
    taken_by: tuple[Confusion, ...] = ()
    misread: tuple[Misclassified, ...] = ()


@dataclass(frozen=True)
class Later:
    """A later round: the classes that are asked for with what is told of each, and what stays of the lines that there are."""

    now: tuple[Now, ...]
    kept: ClassLines
    dropped: tuple[Line, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)  # the texts of all lines ever proposed, each with its class


def earlier_lines(history: History[P, S], classes: Sequence[str]) -> ClassLines:
    """Return all lines that were proposed in a history, each once."""
    found: dict[str, Line] = {}
    for fields in [proposal.fields for r in history for proposal in r.advice.proposals if has_lines(proposal.fields)]:
        for line in _lines_of(fields, classes):
            found.setdefault(alike(line.text), replace(line, weight=1.0))
    return ClassLines(tuple(found.values()))


def later(history: History[P, S], classes: Sequence[str], how: Rewriting, seed: int) -> Later:
    """Return what the next round asks; nothing of any class where none is confused with another."""
    clues, fields = history[-1].clues, incumbent_fields(history)
    earlier = earlier_lines(history, classes)
    present = _lines_of(fields, classes)
    trust = _believed(present, clues.line_weights, fields)
    asked = _asked(clues, classes, how, seed)
    drops = [trust is not None and line.label in asked and trust[i] < how.drop_below for i, line in enumerate(present)]
    kept = ClassLines(tuple(line for line, drop in zip(present, drops, strict=True) if not drop))
    return Later(
        tuple(_now(label, present, earlier, trust, clues, how) for label in asked),
        kept,
        tuple(line for line, drop in zip(present, drops, strict=True) if drop),
        {alike(line.text): line.label for line in earlier},
    )


def _lines_of(fields: Mapping[str, str], classes: Sequence[str]) -> ClassLines:
    try:
        return ClassLines.from_fields(fields, classes).at(1.0) if has_lines(fields) else ClassLines()
    except CodecError:  # of another mentor, or of classes that are not there any more
        return ClassLines()


def _believed(lines: ClassLines, weights: Sequence[LineWeight], fields: Mapping[str, str]) -> tuple[float, ...] | None:
    """Return how far each line is believed, by its weight beside that of its set where it is not said. None: it is not known.

    A line that the problem left out, since it repeats an example, is believed.
    """
    if not (weights and len(lines)):
        return None
    base = float(fields.get(LINES_WEIGHT, "1"))
    ended = {(line.label, alike(line.text)): line.weight / base if line.belief is None else line.belief for line in weights}
    return tuple(min(1.0, ended.get((line.label, alike(line.text)), 1.0)) for line in lines)


def _asked(clues: Clues, classes: Sequence[str], how: Rewriting, seed: int) -> list[str]:
    """Return the classes that are asked for: those with most errors, theirs or taken for them, first; in the order of the data."""
    errors: Counter[str] = Counter()
    for confusion in clues.confusions:
        errors[confusion.label] += confusion.count
        errors[confusion.predicted] += confusion.count
    places = {label: i for i, label in enumerate(classes)}
    ranked = sorted((label for label in errors if label in places), key=lambda label: (-errors[label], places[label]))
    chosen = ranked[: how.most_classes]
    if how.feedback == "random_classes":
        chosen = random.Random(seed_for(seed, "classes")).sample(list(classes), len(chosen))
    return sorted(chosen, key=places.__getitem__)


def _now(label: str, present: ClassLines, earlier: ClassLines, trust: tuple[float, ...] | None, clues: Clues, how: Rewriting) -> Now:
    if how.feedback != "confusions":
        return Now(label, earlier.of(label))
    own = [i for i, line in enumerate(present) if line.label == label]
    counting = {alike(present.lines[i].text) for i in own}
    return Now(
        label,
        tuple(present.lines[i] for i in own),
        None if trust is None else tuple(trust[i] for i in own),
        tuple(line for line in earlier.of(label) if alike(line.text) not in counting),
        tuple(c for c in clues.confusions if c.label == label),
        tuple(c for c in clues.confusions if c.predicted == label),
        tuple(m for m in clues.misclassified if m.label == label)[: how.misread],
    )
