"""Read lines of classes from a reply: tolerant of its form, strict about where a line belongs.

A line belongs to the class, and is of the kind, whose name it stands under, never to what it speaks of. What was not asked for (a class, a
kind, more lines) is left out; whatever a line says, nothing follows from it. Everything that is left out is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from maao.class_lines import KINDS, ClassLines, Kind, Line
from maao.mentors.class_lines.base import cleaned
from maao.mentors.class_lines.names import Names
from maao.mentors.class_lines.nearly_json import Pairs, Unended, values
from maao.mentors.reply import Rejections
from maao.mentors.reply_lines import clean, is_marked, lines_of, read_around, read_lines
from maao.mentors.reply_objects import DEEPEST, name_rank
from maao.mentors.reply_tags import without_thoughts
from maao.types import Rejected

PLACE = "CLASS"  # what stands for a class's name in the form that a request shows
NO_END = "a line without its end"
_ENTRY_NAMES = frozenset({"class", "label", "name", "intent", "category"})  # what a class's name stands under in a list of classes
_KIND_HEADING = re.compile(r"\W*+(?:\d++\W++)?(?P<kind>example|description)s?\W*+(?:\d++\W*+)?", re.IGNORECASE)
_KIND_BEFORE = re.compile(r"\W*+(?P<kind>example|description)\s*+\d*+\W{0,3}:\W*+(?=\w)", re.IGNORECASE)
_CLASS_BEFORE = re.compile(r"(?:class|label|intent|category)(?:\s++name)?(?:\s++\d++)?\s*+[:=-]\s*+", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What a request asked for: some of the classes, and so many lines of each kind for each."""

    classes: tuple[str, ...]
    counts: Mapping[Kind, int]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(kind for kind in KINDS if self.counts.get(kind, 0))


class _Piece(NamedTuple):
    """A piece of a reply: a line with where it stands, or what is left out and why."""

    text: str
    label: str = ""
    kind: Kind = "examples"
    reason: str = ""


def read_reply(reply: str, asked: Asked, names: Names, cut: str = "") -> tuple[ClassLines, tuple[Rejected, ...]]:
    """Return the lines of a reply, at most as many of each class as were asked for, and what was left out.

    Args:
        cut: why the reply has no end, where it has none: a line without its end is left out for that.

    Example:
        >>> asked, names = Asked(("card_arrival", "top_up"), {"examples": 2}), Names(("card_arrival", "top_up", "pin"))
        >>> reply = '{"Card arrival": ["Where is it?", "So?", "No?"], "top_up": {"examples": ["It fai'
        >>> lines, rejected = read_reply(reply, asked, names, cut="the reply was cut")
        >>> lines.to_json(), [r.reason for r in rejected]
        ({'card_arrival': {'examples': [['Where is it?', 1.0], ['So?', 1.0]]}}, ['more than the 2 examples asked for', 'the reply was cut'])
    """
    thoughts, rest = _thoughts_apart(reply)
    rejected = Rejections("line")
    for thought in thoughts:
        rejected.add(thought.strip(), "thinking aloud")
    found: list[Line] = []
    counted: dict[tuple[str, Kind], int] = {}
    cut_told = not cut
    for piece in _pieces(rest, asked, names, bool(cut)):
        text = cleaned(piece.text)
        place = (piece.label, piece.kind)
        most = asked.counts.get(piece.kind, 0)
        reason = (cut if piece.reason == NO_END and cut else piece.reason) or ("" if text else "holds no word")
        if not reason and counted.get(place, 0) >= most:
            reason = f"more than the {most} {piece.kind} asked for"
        if reason:
            rejected.add(text, reason)
            cut_told = cut_told or reason == cut
        else:
            counted[place] = counted.get(place, 0) + 1
            found.append(Line(piece.label, piece.kind, text))
    if not cut_told:  # it was cut between two lines
        rejected.add("", cut)
    if not found and not rejected.kept:
        rejected.add("", "the reply is empty")
    return ClassLines(tuple(found)), rejected.all()


def _thoughts_apart(reply: str) -> tuple[list[str], str]:
    """Return what is thought aloud in a reply, and the rest. In a reply that is JSON as a whole a tag belongs to the text it stands in."""
    thought, end, rest = reply.partition("</think>") if reply.lstrip().startswith("<think>") else ("", "", reply)
    bare = rest.strip().removeprefix("```json").strip("`").strip()
    if bare.startswith(("{", "[")):
        try:
            json.loads(bare)
        except (ValueError, RecursionError):
            pass
        else:
            return ([thought + end] if thought else []), rest
    thoughts, rest, _ = without_thoughts(reply)
    return thoughts, rest


def _pieces(reply: str, asked: Asked, names: Names, cut: bool) -> Iterator[_Piece]:
    found = values(reply)
    reader = _OfJson(asked, names)
    within = [piece for one in found for piece in reader.read(one.value)]
    if any(not piece.reason or piece.label for piece in within):
        ends = [0, *(one.end for one in found)]
        around = [reply[end : one.begin] for end, one in zip(ends, found, strict=False)]
        for part in read_around("\n".join([*around, reply[ends[-1] :]])):
            if not part.said.startswith("```"):  # the frame that was around the JSON
                yield _Piece(part.said, reason=part.reason)
        yield from within
    else:
        yield from _OfText(asked, names).read(reply, cut)


class _OfJson:
    """Reads what stands in JSON: an object by class, or a list of objects that name their class."""

    def __init__(self, asked: Asked, names: Names) -> None:
        self.asked, self.names = asked, names
        self.seen: set[tuple[str, Kind | None]] = set()

    def read(self, value: object) -> Iterator[_Piece]:
        """Yield the pieces of a value; where one class was asked for, it need not be named."""
        if len(self.asked.classes) == 1 and not self._names_any(value, 0):
            yield from self._of_class(value, self.asked.classes[0], None, 0)
        else:
            yield from self._classes(value, None, 0)

    def _names_any(self, value: object, depth: int) -> bool:
        if depth > DEEPEST:
            return False
        if isinstance(value, list):
            return any(self._names_any(one, depth + 1) for one in value)
        if not isinstance(value, Pairs):
            return False
        return self._entry(value) is not None or any(
            self.names.find(name) is not None or self._names_any(one, depth + 1) for name, one in value.items
        )

    def _entry(self, value: Pairs) -> tuple[str, Pairs] | None:
        """Return the name of a class that an object says itself, and the rest of it; None: it says none."""
        for i, (name, told) in enumerate(value.items):
            if name.lower() in _ENTRY_NAMES and isinstance(told, str):
                return told, Pairs([*value.items[:i], *value.items[i + 1 :]])
        return None

    def _classes(self, value: object, kind: Kind | None, depth: int) -> Iterator[_Piece]:
        """Yield the pieces of what holds several classes, all lines of one `kind` where that is known."""
        if depth > DEEPEST:
            yield _Piece(_short(value), reason=f"it stands more than {DEEPEST} brackets deep")
        elif isinstance(value, list):
            for one in value:
                yield from self._classes(one, kind, depth + 1)
        elif not isinstance(value, Pairs):
            yield _Piece(_short(value), reason=NO_END if isinstance(value, Unended) else "it stands under no class")
        elif (entry := self._entry(value)) is not None:
            yield from self._named(entry[0], entry[1], kind)
        elif any(self.names.find(name) is not None for name, _ in value.items):
            for name, one in value.items:
                yield from self._named(name, one, kind)
        else:
            for name, one in value.items:
                yield from self._classes(one, _kind(name) or kind, depth + 1)

    def _named(self, name: str, value: object, kind: Kind | None) -> Iterator[_Piece]:
        label = self.names.find(name)
        if isinstance(value, Unended):
            yield _Piece(value.said or name, label or "", reason=NO_END)
        elif label is None:
            yield _Piece(_short(value), reason=self.names.why_not(name))
        elif label not in self.asked.classes:
            yield _Piece(_short(value), reason=f"no line of {label!r} was asked for")
        elif (label, kind) in self.seen:
            yield _Piece(_short(value), label, reason=f"the class {label!r} stands twice: what stands there first is taken")
        else:
            self.seen.add((label, kind))
            yield from self._of_class(value, label, kind, 0)

    def _of_class(self, value: object, label: str, kind: Kind | None, depth: int) -> Iterator[_Piece]:
        """Yield the lines of a class: by kind, or else in a list, which holds examples."""
        first = self.asked.kinds[0]
        if isinstance(value, Pairs) and kind is None:
            numbered = _is_numbered(value)
            for name, one in value.items:
                own = first if numbered else _kind(name)
                if isinstance(one, Unended):
                    yield _Piece(one.said or name, label, reason=NO_END)
                elif own is not None and self.asked.counts.get(own, 0):
                    yield from _texts(one, label, own, 0)
                elif (self.names.find(name) == label or name == PLACE) and depth < 2:
                    yield from self._of_class(one, label, None, depth + 1)
                else:
                    yield _Piece(_short(one), label, reason=f"{_short(name)!r} was not asked for")
        elif isinstance(value, list) and kind is None and self._is_list_a_kind(value):
            for own, one in zip(self.asked.kinds, value, strict=True):
                yield from _texts(one, label, own, 0)
        else:
            yield from _texts(value, label, kind or first, 0)

    def _is_list_a_kind(self, value: list[object]) -> bool:
        return len(value) == len(self.asked.kinds) > 1 and all(isinstance(one, list) for one in value)


def _texts(value: object, label: str, kind: Kind, depth: int) -> Iterator[_Piece]:
    """Yield the lines of one kind: a text, some texts, or objects that hold one each."""
    if depth > DEEPEST:
        yield _Piece(_short(value), label, kind, f"it stands more than {DEEPEST} brackets deep")
    elif isinstance(value, Unended):
        yield _Piece(value.said, label, kind, NO_END)
    elif isinstance(value, str):
        lines = lines_of(value)[0]
        several = len(lines) > 1 and all(map(is_marked, lines))  # a list; breaks alone belong to the text
        for part in read_lines(value) if several else ():
            yield _Piece(part.text or part.said, label, kind, part.reason)
        if not several:
            yield _Piece(value, label, kind)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, label, kind, depth + 1)
    elif isinstance(value, Pairs) and _is_numbered(value):
        for _, one in value.items:
            yield from _texts(one, label, kind, depth + 1)
    elif isinstance(value, Pairs):
        texts = [(name, one) for name, one in value.items if isinstance(one, str | Unended)]
        ranked = [one for one in texts if name_rank(one[0]) is not None]
        chosen = min(ranked, key=lambda one: name_rank(one[0]) or 0, default=None)
        if chosen is not None:
            yield from _texts(chosen[1], label, kind, depth + 1)
        for name, one in value.items:
            if (name, one) != chosen:
                yield _Piece(f"{_short(name)}: {_short(one)}", label, kind, "it stands beside a line, under another name")
    else:
        yield _Piece(_short(value), label, kind, "it is no text")


def _is_numbered(value: Pairs) -> bool:
    return bool(value.items) and all(name.strip().isdigit() for name, _ in value.items)


class _OfText:
    """Reads lists under headings: "Class: card arrival", then perhaps "Examples:", then a line each."""

    def __init__(self, asked: Asked, names: Names) -> None:
        self.asked, self.names = asked, names

    def read(self, reply: str, cut: bool) -> Iterator[_Piece]:
        label = self.asked.classes[0] if len(self.asked.classes) == 1 else None
        kind, why = self.asked.kinds[0], "it stands under no class"
        held: list[str] = []
        lines, more = lines_of(reply)
        for line, stands_apart in zip(lines, _stand_apart(reply), strict=False):
            heading, own = self._heading(line, stands_apart), _kind_heading(line)
            if heading is None and own is None:
                before = _KIND_BEFORE.match(line)
                if before is None:
                    held.append(line)
                    continue
                own = _kind(before["kind"])
                yield from self._section(held, label, kind, why, False)
                held = [line[before.end() :]]
            else:
                yield from self._section(held, label, kind, why, False)
                held = []
            if heading is not None:
                label, why = self._class(heading)
                kind = self.asked.kinds[0]
            kind = own or kind
        yield from self._section(held, label, kind, why, cut and not reply.endswith("\n"))
        if more:
            yield _Piece("", reason=f"{more} further lines were not read")

    def _class(self, name: str) -> tuple[str | None, str]:
        """Return the class of a heading; or None, and why what stands under it is not taken."""
        label = self.names.find(name)
        if label is None:
            return None, self.names.why_not(name)
        return (label, "") if label in self.asked.classes else (None, f"no line of {label!r} was asked for")

    def _heading(self, line: str, stands_apart: bool) -> str | None:
        """Return the name of a class that a line is the heading of; None: it is none.

        A line that only says a class's name may be a line of another: it is a heading where it ends with a colon or is set as one, or is
        no item of a list and stands apart.
        """
        bare = clean(line).strip("#:*_[]\"' \t")
        named = _CLASS_BEFORE.match(bare)
        if named is not None:
            return bare[named.end() :].strip("*_\"' ")
        is_set = line.rstrip(" *_").endswith(":") or line.lstrip().startswith(("**", "#"))
        return bare if self.names.find(bare) is not None and (is_set or (stands_apart and not is_marked(line))) else None

    def _section(self, lines: Sequence[str], label: str | None, kind: Kind, why: str, cut: bool) -> Iterator[_Piece]:
        """Yield what stands under a heading; with `cut`, its last line has no end."""
        parts = read_lines("\n".join(lines)) if lines else []
        last = max((i for i, part in enumerate(parts) if not part.reason), default=-1) if cut else -1
        for i, part in enumerate(parts):
            reason = part.reason or (NO_END if i == last else "")
            if label is None:
                yield _Piece(part.said, reason=reason or why)
            elif not self.asked.counts.get(kind, 0):
                yield _Piece(part.said, reason=reason or f"no {kind} were asked for")
            else:
                yield _Piece(part.text or part.said, label, kind, reason)


def _stand_apart(reply: str) -> Iterator[bool]:
    """Say of each line that holds something whether it can be no item of a list of bare lines.

    It stands at the beginning or behind an empty line, behind an item that is marked as such, or before one, or before a kind's name.
    """
    lines = reply.splitlines()
    for i, line in enumerate(lines):
        before, behind = lines[i - 1] if i else "", lines[i + 1] if i + 1 < len(lines) else ""
        if line.strip():
            yield not before.strip() or is_marked(before) or is_marked(behind) or _kind_heading(behind) is not None


def _kind(name: str) -> Kind | None:
    folded = name.strip().lower()
    return next((kind for kind in KINDS if folded in (kind, kind.removesuffix("s"))), None)


def _kind_heading(line: str) -> Kind | None:
    found = _KIND_HEADING.fullmatch(line.strip())
    return None if found is None else _kind(found["kind"])


def _short(value: object) -> str:
    """Return the beginning of what is left out, in one line."""
    if isinstance(value, Unended):
        value = value.said
    if isinstance(value, Pairs):
        return "{" + ", ".join(cleaned(name[:40]) for name, _ in value.items[:3]) + (", ...}" if len(value.items) > 3 else "}")
    if isinstance(value, list):
        return f"[{len(value)} of them]"
    return cleaned(str(value)[:80])
