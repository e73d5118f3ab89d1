"""How text from outside (labels, examples, file names, proposals, a server's words) reaches a terminal, a table, a page of Markdown."""

from __future__ import annotations

import math
import re
import unicodedata

REPLACEMENT = "\ufffd"
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder what stands around them
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: the wide forms of the first
_MARKS = re.compile(  # what Markdown obeys wherever it stands, then where a word begins, in an address, at the beginning of a line
    r"[\\|\[\]`*~$@]|(?<![^\W_])_|(?<!\S)#|:(?=\S)|(?<!:)/(?=/)|\.(?=[^\W\d_])|(?<=www)\.|^[>+=-]|^(?P<number>\d{1,9})(?=[.)](\s|$))",
    re.IGNORECASE,
)
_OF_HTML = re.compile(r"<|&(?=#?\w{1,40};)")
_JOINERS = frozenset("\u200c\u200d")  # words of Persian and Hindi, and emoji made of several, need them


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey.

    Control characters (escape codes, carriage returns, backspaces), marks of direction that reorder a line, other invisible formats,
    halves of surrogate pairs and codes that are no characters become U+FFFD. Line breaks and tabs stay.

    Example:
        >>> printable("a\\x1b[31m red\\nword \\u202e")
        'a�[31m red\\nword �'
    """
    return text if text.isascii() and text.isprintable() else "".join(REPLACEMENT if _is_obeyed(char) else char for char in text)


def printable_line(text: str) -> str:
    """Return a text in one line: printable, with runs of white space as one space, so that no text draws a line of its own.

    Example:
        >>> printable_line("sport\\nError:  none")
        'sport Error: none'
    """
    return printable(" ".join(text.split()))


def spreadsheet_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: with ' before one that begins like that.

    Source: https://owasp.org/www-community/attacks/CSV_Injection

    Example:
        >>> spreadsheet_cell("=1+1"), spreadsheet_cell("1+1")
        ("'=1+1", '1+1')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def markdown(text: str) -> str:
    """Return text from outside as one line of Markdown that shows it as it is.

    It is no heading, list, link, picture, code, formula or HTML, ends no cell of a table, and is no address of a site that a page makes a
    link of. An address of mail is one on GitHub even so, which makes links of what is escaped too.

    Example:
        >>> markdown("lr = 0.01, a_b (c)"), markdown("a|b <i>[x](http://y)")
        ('lr = 0.01, a_b (c)', 'a\\\\|b &lt;i>\\\\[x\\\\](http\\\\://y)')
    """
    marked = _MARKS.sub(lambda found: f"{found[0]}\\" if found["number"] else f"\\{found[0]}", printable_line(text))
    return _OF_HTML.sub(lambda found: "&lt;" if found[0] == "<" else "&amp;", marked)


def _is_obeyed(char: str) -> bool:
    if char in "\n\t" or char in _JOINERS:
        return False
    code = ord(char)
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:  # no characters at all: XML forbids some of them
        return True
    return char in _DIRECTION or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def times(count: int) -> str:
    """Return how often in words.

    Example:
        >>> times(1), times(3)
        ('once', '3 times')
    """
    return "once" if count == 1 else f"{count} times"


def dollars(usd: float) -> str:
    """Return money in words; NaN: it is not known.

    Example:
        >>> dollars(0.5), dollars(float("nan"))
        ('$0.5000', 'at a price that is not known')
    """
    return "at a price that is not known" if math.isnan(usd) else f"${usd:.4f}"
