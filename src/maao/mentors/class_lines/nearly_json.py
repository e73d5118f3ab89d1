"""Read JSON, and what is nearly JSON: cut off at its end, with commas too many or too few, quotes within quotes, names without quotes.

A reply that asks for all classes at once is long, and the library that mends short ones takes time in proportion to the square of the
length on some (see `reply_objects.py`). This reader takes each character once. It gives up nothing that stands behind a fault.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maao.mentors.reply_objects import MOST_FAILURES, beginnings

_OPENS = {"]": "[", "}": "{"}
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_ENDS = re.compile(r"[ \t\r]*+(?:[,:\]}\n]|\Z)|\s*+[\]}]")  # what stands behind the quote that ends a text
_BARE = re.compile(r"[^,:\[\]{}\n]++")
_SPACE = re.compile(r"\s++")


@dataclass(frozen=True)
class Pairs:
    """An object of JSON with all its names in their order, those too that stand twice."""

    items: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Unended:
    """A text without its end: what was said of it."""

    said: str


@dataclass(frozen=True)
class Found:
    """A value, and where it begins and ends in a reply. A text is a `str`, an object `Pairs`."""

    value: object
    begin: int
    end: int


def values(reply: str) -> list[Found]:
    """Return the objects and lists of a reply, in their order.

    Example:
        >>> [found.value for found in values('Sure: {"a": ["x", "y",], b: ["it is "so" and', )]
        [Pairs(items=[('a', ['x', 'y']), ('b', [Unended(said='it is "so" and')])])]
    """
    decoder = json.JSONDecoder(object_pairs_hook=Pairs, strict=False)
    found: list[Found] = []
    end = failures = 0
    for begin in beginnings(reply):
        if begin < end:
            continue
        try:
            value, end = decoder.raw_decode(reply, begin)
        except (ValueError, RecursionError):
            failures += 1
            if failures > MOST_FAILURES:
                break
            value, end = _Reader(reply, begin).read()
        found.append(Found(value, begin, end))
    return found


class _Reader:
    """Reads one value, bracket by bracket, without calling itself: nesting takes no stack."""

    def __init__(self, text: str, begin: int) -> None:
        fence = text.find("```", begin)
        self.text, self.at, self.stop = text, begin, fence if fence >= 0 else len(text)

    def read(self) -> tuple[object, int]:
        """Return the value, and where it ends."""
        frames, open_now = [_Frame("")], Counter[str]()
        for kind, said in self._tokens():
            if kind in "[{":
                frames.append(_Frame(kind))
                open_now[kind] += 1
            elif kind == "text":
                frames[-1].add(said)
            elif kind == ",":
                frames[-1].next()
            elif open_now[_OPENS.get(kind, "")]:
                closed = ""
                while closed != _OPENS[kind]:
                    closed = _close(frames)
                    open_now[closed] -= 1
            if len(frames) == 1 and frames[0].held:
                break
        while len(frames) > 1:
            frames[-1].cut()
            _close(frames)
        return next(iter(frames[0].held), None), self.at

    def _tokens(self) -> Iterator[tuple[str, object]]:
        while self.at < self.stop:
            space = _SPACE.match(self.text, self.at, self.stop)
            if space:
                self.at = space.end()
                continue
            char = self.text[self.at]
            if char in "[]{},:":
                self.at += 1
                yield char, char
            elif char in _QUOTES:
                yield "text", self._quoted(char)
            else:
                bare = _BARE.match(self.text, self.at, self.stop)
                assert bare is not None  # it is none of what that leaves out
                self.at = bare.end()
                yield "text", _literal(bare[0].strip())

    def _quoted(self, opening: str) -> str | Unended:
        """Return the text of quotes. A quote ends it where a comma, a colon or a bracket follows; others belong to it."""
        closing, begin = _QUOTES[opening], self.at + 1
        at = begin
        while True:
            end = self.text.find(closing, at, self.stop)
            if end < 0:
                self.at = self.stop
                return Unended(_unescaped(self.text[begin : self.stop]))
            escaped = end
            while self.text[escaped - 1] == "\\" and escaped > begin:
                escaped -= 1
            if (end - escaped) % 2 == 0 and _ENDS.match(self.text, end + 1, self.stop):
                self.at = end + 1
                return _unescaped(self.text[begin:end])
            at = end + 1


class _Frame:
    """A bracket that is open, and what stands in it; `name` is what the next value stands under."""

    def __init__(self, kind: str) -> None:
        self.kind, self.held, self.name = kind, list[object](), ""
        self.items: list[tuple[str, object]] = []

    def add(self, value: object) -> None:
        if self.kind != "{":
            self.held.append(value)
        elif not self.name and isinstance(value, str):
            self.name = value
        else:
            self.items.append((self.name, value))
            self.name = ""

    def next(self) -> None:
        """Go on behind a comma: a name without a value has none."""
        if self.name:
            self.items.append((self.name, None))
            self.name = ""

    def cut(self) -> None:
        """End with the text: of what stands under the last name, nothing came."""
        if self.name:
            self.items.append((self.name, Unended("")))
            self.name = ""


def _close(frames: list[_Frame]) -> str:
    """Put what stands in the innermost bracket where it belongs; return how that bracket opened."""
    frame = frames.pop()
    frame.next()
    frames[-1].add(Pairs(frame.items) if frame.kind == "{" else frame.held)
    return frame.kind


def _literal(text: str) -> object:
    """Return a number, true, false or null as such, and any other words without quotes as a text."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    return found


def _unescaped(said: str) -> str:
    """Return what stands between quotes with its escapes read, where they can be."""
    within = re.sub(r'\\(.)|"', lambda match: match[0] if match[1] and match[1] != "'" else match[1] or '\\"', said, flags=re.DOTALL)
    try:
        return str(json.loads(f'"{within}"', strict=False))
    except ValueError:
        return said
