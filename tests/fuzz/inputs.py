"""Inputs made of whole ones: cut, doubled, exchanged, spliced, and with words put in that mean harm somewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

WORDS = (
    *("{", "}", "[", "]", '"', "'", "\\", "\n", "\r", "\t", " ", ",", ";", "|", ":", "=", "#", "-", ".", "/", "\0", "%", "$", "~"),
    *("{slots}", "{text}", "{mask}", "{sep}", "{choice}", "{turn}", "{{", "{%", "{{ 7 * 7 }}", "{{ ''.__class__ }}"),
    *("<think>", "</think>", "<prompt>", "```", "<script>", "&lt;", "| --- |", "1. ", "- "),
    *("\x1b[2J", "\u202e", "\u2028", "\ud800", "\udcff", "\ufeff", "\ufffe", "\U000e0041", "e\u0301", "\u0130", "ß", "٣", "体育"),
    *("=cmd|' /C calc'!A1", "+1", "@SUM(1)", "../..", "/etc/passwd", "CON", "${HOME}", "file:///etc/passwd", "hub:a/b", "packaged:x"),
    *("null", "true", "NaN", "-Infinity", "1e999", "-0.0", "9" * 30, "9" * 5000, "0x10", "1_0", "[" * 2000, '{"a":' * 2000),
    *("__class__", "__proto__", "text", "label", "name", "kind", "seed", "examples", "custom_id", "response"),
)
MOST = 6  # changes of one input
_PLACE = st.integers(0, 2**20)

Change = tuple[int, int, int]


def _changed(data: bytes, change: Change, words: Sequence[bytes]) -> bytes:
    what, place, number = change
    at = place % (len(data) + 1)
    to = min(len(data), at + number % 24)
    match what:
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[to:]
        case 2:
            return data[:to] + data[at:]
        case 3:
            return data[:at] + bytes([number % 256]) + data[at + 1 :]
        case 4:
            return data[:at] + (data[at:to] or b"x") * (1 + number % 50) + data[to:]
        case 5:
            return data[at:] + data[:at]
        case _:
            return data[:at] + words[number % len(words)] + (data[at:] if number % 2 else data[to:])


def _of_bytes(whole: bytes, changes: list[Change]) -> bytes:
    for change in changes:
        whole = _changed(whole, change, _BYTES)
    return whole


_BYTES = tuple(word.encode("utf-8", "surrogatepass") for word in WORDS)
_CHANGES = st.lists(st.tuples(st.integers(0, 9), _PLACE, st.integers(0, 2**16)), max_size=MOST)


def damaged(wholes: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return whole things with up to six changes each, and now and then any bytes."""
    changed = st.builds(_of_bytes, st.sampled_from(wholes), _CHANGES)
    return st.one_of(changed, changed, changed, st.binary(max_size=60))


def texts(wholes: Sequence[str]) -> st.SearchStrategy[str]:
    """Return whole texts with up to six changes each, and now and then any text, halves of surrogate pairs among them."""
    changed = damaged([whole.encode("utf-8", "surrogatepass") for whole in wholes]).map(
        lambda data: data.decode("utf-8", "surrogateescape")
    )
    word = st.sampled_from(WORDS)
    return st.one_of(changed, changed, st.lists(st.one_of(word, st.text(max_size=8)), max_size=8).map("".join))


def values(keys: Sequence[str]) -> st.SearchStrategy[object]:
    """Return nested values of JSON and TOML, with keys that are known and others."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from((2**63, -(2**63), 10**40, 0, -1, 1)),
        st.floats(),
        st.sampled_from(WORDS),
        st.sampled_from(keys),
        st.text(max_size=8),
    )
    key = st.one_of(st.sampled_from(keys), st.sampled_from(keys), st.sampled_from(WORDS))
    inner: Callable[[st.SearchStrategy[object]], st.SearchStrategy[object]] = lambda held: st.one_of(  # noqa: E731
        st.lists(held, max_size=4), st.dictionaries(key, held, max_size=4)
    )
    return st.recursive(plain, inner, max_leaves=8)
