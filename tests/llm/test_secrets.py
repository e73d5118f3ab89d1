"""A key never stays in a text: not itself, not a stretch of it, not in base64, hex or the forms of an address."""

from __future__ import annotations

import json
import string
from base64 import b64encode, urlsafe_b64encode
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from maao.llm.key_forms import _EACH, DEEPEST, _views
from maao.llm.secrets import struck_from

KEY = "sk-Zq7+v/Kd93hB2mXw0pTfLs8RuYc5NaEj"
LETTERS = string.ascii_letters + string.digits + "-_+/=.~%\\&"
keys = st.text(LETTERS, min_size=9, max_size=64).map(lambda key: f"7{key}") | st.text(string.digits, min_size=8, max_size=20)
around = st.text(st.characters(), max_size=12) | st.text(string.ascii_letters + string.digits + '+/=%"\\*', max_size=12)

FORMS = {
    "itself": lambda text: text,
    "upper case": str.upper,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, every character escaped": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text)))[3:-3],
    "bytes": lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
    "an address": lambda text: quote(text, ""),
    "an address, every character escaped": lambda text: "".join(f"%{ord(c):02X}" for c in text),
    "an address in an address": lambda text: quote(quote(text, ""), ""),
    "a page": escape,
    "a page, every character escaped": lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    "a page, in decimals": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "wide characters": lambda text: text.encode("utf-16-le").decode("latin-1"),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 behind one": lambda text: b64encode(b"x" + text.encode() + b"xy").decode(),
    "base64 behind two": lambda text: b64encode(b":\xff" + text.encode() + b"\x00").decode(),
    "base64 of addresses": lambda text: urlsafe_b64encode(b"user:" + text.encode()).decode(),
    "base64 in an address": lambda text: quote(b64encode(text.encode()).decode(), ""),
}


def fixed_base64(stretch: str) -> set[str]:
    """Return the ten characters that eight others fix, wherever they stand: found by trying what stands around them."""
    found = set()
    for before in range(3):
        coded = [b64encode(filler * before + stretch.encode() + filler * 3).decode() for filler in (b"\x00", b"\xff", b"\x55")]
        same = "".join(a if a == b == c else " " for a, b, c in zip(*coded, strict=True))
        found.add(max(same.split(), key=len))
    assert {len(one) for one in found} == {10}
    return found | {one.replace("+", "-").replace("/", "_") for one in found}


def leaked(text: str, key: str) -> bool:
    """Say, slowly, whether a text holds eight characters of a key as they are, in hex or in base64."""
    stretches = {key[i : i + 8] for i in range(len(key) - 7)}
    lowered = text.lower()
    return any(
        stretch.lower() in lowered or stretch.encode().hex() in lowered or any(form in text for form in fixed_base64(stretch))
        for stretch in stretches
    )


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=20, deadline=None)
@given(key=keys, before=around, after=around, data=st.data())
def test_no_stretch_of_a_key_stays_in_any_form(form, key, before, after, data):
    first = data.draw(st.integers(0, len(key) - 8))
    stretch = key[first : data.draw(st.integers(first + 8, len(key)))]
    hidden = form(stretch)
    left = struck_from(before + hidden + after, key)
    assert hidden.lower() not in left.lower()
    assert not leaked(left, key)


@settings(max_examples=40, deadline=None)
@given(key=keys, text=st.text(max_size=80) | st.text("abcdef0123456789", max_size=80))
@example("0123456789abcdef", "30313233343536")  # hex of seven characters
@example("abcdefgh12345678", "abcdefg 1234567")
@example("a" * 8, "a" * 7 + "%")
def test_a_text_without_the_key_stays_as_it_is(key, text):
    assume(not any(mark in text for mark in "\\%&\x00") and "u00" not in text and not leaked(text, key))
    assert struck_from(text, key) == text


@settings(max_examples=40, deadline=None)
@given(key=keys, pieces=st.lists(st.integers(0, 64), max_size=6), times=st.integers(1, 4))
def test_what_is_made_to_be_a_key_once_a_key_is_gone_is_none(key, pieces, times):
    text = key
    for cut in pieces * times:
        text = key[: cut % len(key)] + text + key[cut % len(key) :]
    assert not leaked(struck_from(text, key), key)
    around_the_mark = key[:7] + key + key[7:] + key[:4] + key + key[-4:]
    assert not leaked(struck_from(around_the_mark, key), key)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Bearer {KEY}.", "Bearer ***."),
        (f"{KEY[:7]} {KEY[7:14]} {KEY[:8]}", f"{KEY[:7]} {KEY[7:14]} ***"),
        (f"ends in {KEY[-8:]}", "ends in ***"),
        (f"{KEY.upper()} {KEY.encode().hex()} {KEY.encode().hex().upper()}", "*** *** ***"),
        (f"日本語 {KEY} 🙂 \ud800", "日本語 *** 🙂 \ud800"),
        ("YTpz" + b64encode(KEY.encode()).decode(), "YTpz***o="),
    ],
)
def test_what_stands_around_a_key_stays(text, left):
    assert struck_from(text, KEY) == left


def test_a_short_word_in_the_place_of_a_key_is_none():
    assert struck_from("none, 1234567", "none") == "none, 1234567" == struck_from("none, 1234567", "1234567")


@pytest.mark.parametrize("key", ["sk-no-key-required", "not-needed", "placeholder"])
def test_words_in_the_place_of_a_key_are_struck_out_as_a_whole_alone(key):
    text = "No other key is required, needed or holds the place."
    assert struck_from(f"{text} {key}", key) == f"{text} ***"
    assert struck_from(text + b64encode(key.encode()).decode()[:10] + key.encode().hex()[:-1], key) == (
        text + b64encode(key.encode()).decode()[:10] + key.encode().hex()[:-1]
    )
    assert not leaked(struck_from(b64encode(b"a" + key.encode()).decode() + key.encode().hex(), key), key)


def test_a_key_of_digits_leaves_numbers_numbers():
    assert json.loads(struck_from('{"created": 99123456789099, "a": 0.12345678, "b": 123}', "1234567890")) == {
        "created": 111, "a": 0.111, "b": 123,
    }  # fmt: skip


def test_a_key_that_is_no_ascii_is_struck_out_as_it_stands():
    assert struck_from("the schlüsselchen!", "schlüsselchen") == "the ***!"


@pytest.mark.parametrize(
    "unit", ["the quick brown fox ", "\\", '\\"', "%25", "&amp;", "\\u0073", "\x00", "73", KEY, KEY[:7], "c2st", "1"], ids=ascii
)
def test_a_text_is_read_a_few_times_whatever_it_holds(unit):
    """Each reading is one pass of an expression without nested repeats, and one look-up for each place."""
    text = unit * (20_000 // len(unit))
    views = list(_views(text))
    assert len(views) <= 1 + DEEPEST * (1 + len(_EACH)) and all(len(view.codes) <= len(text) for view in views)
    assert struck_from(text, KEY) == ("***" if unit == KEY else text)
