"""Where a key stands in a text: itself or a stretch of it, in base64, in hex, and however JSON, an address or a web page writes characters.

All windows of 8 characters of a text are looked up among those that a form of the key is made of, by numpy, so that the time taken grows
with the text's length, whatever it holds. Large and small letters are not told apart.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

WINDOW = 8  # characters: what is looked up at once, and the shortest stretch of a key that is found
DEEPEST = 4  # escapes within escapes that are undone
OTHER = 1  # in place of characters that no key has

Bytes: TypeAlias = NDArray[np.uint8]
Places: TypeAlias = NDArray[np.int64]

_ESCAPES = {
    "json": r"\\(?:[ux](?:00)?(?P<json>[0-9a-f]{2})|(?P<plain>.))|u00(?P<bare>[0-9a-f]{2})",
    "address": r"%(?P<address>[0-9a-f]{2})",
    "page": r"&\#x0{0,6}(?P<page>[0-9a-f]{2});|&\#0{0,6}(?P<decimal>[0-9]{2,3});|&(?P<named>amp|lt|gt|quot|apos);",
    "wide": r"(?P<wide>\x00)",
}
_EACH = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _ESCAPES.items()}
_ALL = re.compile("|".join(_ESCAPES.values()), re.DOTALL)
_WORDS = re.compile(r"[a-z]{1,12}(?:[-_. ][a-z]{1,12})*")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_LOWER = np.array([ord(chr(code).lower()) if code < 128 else code for code in range(256)], np.uint8)


@dataclass(frozen=True)
class _View:
    """A text in one way of reading it, a byte a character, and where each character begins and ends in the text as it stands."""

    codes: Bytes
    begins: Places
    ends: Places

    def read_by(self, pattern: re.Pattern[str]) -> _View | None:
        """Return the view with its escapes read once; None where it has none."""
        text = self.codes.tobytes().decode("latin-1")
        found = [(match.start(), match.end(), _code(match)) for match in pattern.finditer(text)]
        if not found:
            return None
        first, last, codes = (np.array(column, np.int64) for column in zip(*found, strict=True))
        inside = np.zeros(len(text) + 1, np.int64)
        np.add.at(inside, first, 1)
        np.add.at(inside, last, -1)
        kept = np.cumsum(inside[:-1]) == 0
        kept[first] = codes >= 0
        read, ends = self.codes.copy(), self.ends.copy()
        read[first] = np.where(codes < 0, OTHER, codes)
        ends[first] = self.ends[last - 1]
        return _View(_LOWER[read[kept]], self.begins[kept], ends[kept])


def _code(match: re.Match[str]) -> int:
    """Return the character that an escape stands for; -1: none."""
    kind = match.lastgroup or ""
    held = match[kind]
    if kind in ("plain", "named"):
        return ord(_NAMED.get(held, held))
    if kind == "wide":
        return -1
    return min(int(held, 10 if kind == "decimal" else 16), 255)


class KeyForms:
    """A key of 8 or more ASCII characters in all its forms.

    A key of words alone ("sk-no-key-required", "not-needed"), which is given where none is needed, is found as a whole only: its stretches
    are words of any text.

    Example:
        >>> KeyForms("ab+c/d=1").spans("key=ab%2Bc%2fd%3D1, YWIrYy9kPTE=, 6162")
        [(4, 18), (20, 30)]
    """

    def __init__(self, key: str) -> None:
        plain = key.encode("ascii")
        shortest = len(plain) if _WORDS.fullmatch(key) else WINDOW
        coded = [form for before in range(3) for form in _base64_forms(plain, before)]
        fixed = min(len(form) for before in range(3) for form in _base64_forms(plain[:shortest], before))
        hexed = [plain.hex().encode()]
        self._groups = [(_windows_of([plain]), shortest), (_windows_of(coded), fixed), (_windows_of(hexed), 2 * shortest)]
        every = np.unique(np.concatenate([windows for windows, _ in self._groups]))
        self._begins = np.zeros(2**16, bool)  # which two characters a window may begin with, so that few are looked up
        self._begins[every & 0xFFFF] = True

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the key stands, as the beginnings and ends of stretches that do not touch, in order."""
        found = [pair for view in _views(text) for pair in self._found_in(view)]
        merged: list[tuple[int, int]] = []
        for begin, end in sorted(found):
            if merged and begin <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((begin, end))
        return merged

    def _found_in(self, view: _View) -> Iterator[tuple[int, int]]:
        codes = view.codes
        if len(codes) < WINDOW:
            return
        pairs = codes[:-1].astype(np.uint16) | (codes[1:].astype(np.uint16) << 8)
        places = np.flatnonzero(self._begins[pairs[: len(codes) - WINDOW + 1]])
        if not len(places):
            return
        windows = np.lib.stride_tricks.sliding_window_view(codes, WINDOW)[places].copy().view("<u8").ravel()
        for known, needed in self._groups:
            at = np.searchsorted(known, windows).clip(max=len(known) - 1)
            hits = places[known[at] == windows]
            if not len(hits):
                continue
            runs = np.split(hits, np.flatnonzero(np.diff(hits) > 1) + 1)
            for run in runs:
                if len(run) >= needed - WINDOW + 1:
                    yield int(view.begins[run[0]]), int(view.ends[run[-1] + WINDOW - 1])


@lru_cache(maxsize=16)
def forms_of(key: str) -> KeyForms:
    """Return the forms of a key, made once."""
    return KeyForms(key)


def _base64_forms(plain: bytes, before: int) -> set[bytes]:
    """Return what is fixed of a key's base64 where so many bytes stand before it, in both alphabets."""
    coded = b64encode(bytes(before) + plain)[-(-8 * before // 6) : 8 * (before + len(plain)) // 6]
    return {coded, coded.translate(bytes.maketrans(b"+/", b"-_"))}


def _windows_of(forms: list[bytes]) -> NDArray[np.uint64]:
    """Return all windows of some forms, as numbers in order."""
    lowered = [form.lower() for form in forms]
    found = {int.from_bytes(form[i : i + WINDOW], "little") for form in lowered for i in range(len(form) - WINDOW + 1)}
    return np.array(sorted(found), np.uint64)


def _views(text: str) -> Iterator[_View]:
    """Return a text as it stands, and with its escapes read: all of them, level by level, and each kind alone where there are several."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    places = np.arange(len(codes), dtype=np.int64)
    whole = _View(_LOWER[np.where(codes < 256, codes, OTHER)], places, places + 1)
    yield whole
    yield from _levels(whole, _ALL)
    held = [pattern for pattern in _EACH.values() if pattern.search(whole.codes.tobytes().decode("latin-1"))]
    if len(held) > 1:
        for pattern in held:
            yield from _levels(whole, pattern)


def _levels(view: _View, pattern: re.Pattern[str]) -> Iterator[_View]:
    for _ in range(DEEPEST):
        read = view.read_by(pattern)
        if read is None:
            return
        yield read
        view = read
