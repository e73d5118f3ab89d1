"""Read a mentor's reply: tolerant of form, strict about what counts as a prompt. Every mentor that asks a language model reads by this.

Lists that are numbered, bulleted, quoted, tagged, in JSON (or nearly) or in a table are read. Thinking aloud and a line of talk around a
list ("Sure! Here are three prompts:") are never taken for a prompt, and no more is the last item of a reply that was cut off. Nothing is
dropped in silence: every line that did not become a text is returned with its reason. The time is in proportion to the reply's length.

`reply_tags.py` knows thoughts and tags, `reply_objects.py` JSON and tables, `reply_lines.py` lines and the marks around an item.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from maao.mentors.reply_lines import (
    LONGEST_LINE,
    MOST_LINES,
    Part,
    clean,
    is_marked,
    items,
    lines_of,
    read_around,
    read_lines,
    unread,
    why_not_item,
    without_score,
)
from maao.mentors.reply_objects import NO_END, Fill, read_json, read_table
from maao.mentors.reply_tags import Element, elements, without_thoughts
from maao.types import Rejected

PLACE = "<PROMPT>"  # what stands for a prompt where an instruction shows the template
MAX_WORDS = 40  # a longer line is prose, not a prompt of a few words
LONGEST = 500  # characters of an instruction, as in OPRO's release; words are as long as a mentor likes
CHARACTERS_A_WORD = 20  # and no more, where many words are asked for
MOST_REJECTED = 100  # lines of a reply that are kept with their reasons; more are counted (the ledger has the whole reply)
LONGEST_REJECTED = 500  # characters that are kept of such a line
_MARK_OF_THOUGHT = re.compile(r"<think|think(?:ing)?>", re.IGNORECASE)  # a broken one, which begins or ends no thought

Texts = tuple[tuple[str, ...], tuple[Rejected, ...]]


def read_list(
    reply: str, *, count: int, known: Collection[str] = (), max_words: int = MAX_WORDS, cut: str = "", fill: Fill | None = None
) -> Texts:
    """Return the texts of a reply to a chat instruction, at most `count`, and what was rejected.

    Args:
        known: texts that were tried before.
        max_words: a text of more words is prose.
        cut: why the reply has no end, where it has none: its last item is rejected for that, unless its end was seen.
        fill: turns an object or a row of a table into a line of all that it fills; None where it names no prompt.

    Example:
        >>> read_list('Sure! Here are two:\\n1. "sort the news"\\n2) topic of a headline', count=2)[0]
        ('sort the news', 'topic of a headline')
        >>> read_list("- sort the news\\n- topic of a he", count=2, cut="the reply was cut")[0]
        ('sort the news',)
    """
    return _judge(_read(reply, cut, fill), count=count, known=known, max_words=max_words)


def read_one(
    reply: str, *, tag: str = "", last: bool = False, leads: Sequence[str] = (), known: Collection[str] = (), cut: str = ""
) -> Texts:
    """Return the text of a reply that was asked for one, and what was rejected.

    It is what stands in the `tag` that was asked for, or else the first item of a list (the last where `last`: the end of some steps), or
    a paragraph, whose lines are joined. `leads` are words that it may begin with and that are no part of it. Its length is bounded by
    `LONGEST` characters.

    Example:
        >>> read_one("<think>try <prompt>no</prompt></think>1. a, b\\n2. <prompt>sort the\\nnews</prompt>", tag="prompt")[0]
        ('sort the news',)
    """
    parts = [_led(part, leads, tag) for part in _read(reply, cut, None, tag, one=True)]
    usable = [part for part in parts if not part.reason and any(map(str.isalnum, part.text))] or [part for part in parts if not part.reason]
    chosen = usable[-1 if last else 0] if usable else None
    told = f"not the {'last' if last else 'first'} of several, where one was asked for"
    return _judge(
        (part if part.reason or part is chosen else part._replace(reason=told) for part in parts),
        count=1,
        known=known,
        max_words=LONGEST,
    )


def _led(part: Part, leads: Sequence[str], tag: str) -> Part:
    """Return a part without the words that lead up to its text; one that holds the tag that was asked for is none."""
    if part.reason or len(part.text) > LONGEST_LINE:
        return part
    if tag and f"{tag}>".lower() in part.text.lower():
        return part._replace(reason="holds the tag that was asked for")
    text = part.text.lstrip(": ") if leads else part.text
    for lead in leads:
        if text.lower().startswith(f"{lead} ") or text.lower().startswith(f"{lead}:"):
            text = text[len(lead) :].lstrip(": ")
    return part if text == part.text else part._replace(text=clean(text))


def read_continuation(reply: str, *, known: Collection[str] = (), cut: str = "") -> Texts:
    """Return the text that continues a listing: the first line, without quotes or a score that follows it.

    Where the reply was `cut`, a line counts that is followed by another, or by its score.

    Example:
        >>> read_continuation(' the topic of this news (loss 0.8)\\nLoss 0.7, prompt: x')[0]
        ('the topic of this news',)
    """
    thoughts, rest, unclosed = without_thoughts(reply)
    aloud = [Part(thought.strip(), "", "thinking aloud") for thought in thoughts]
    opening = rest.lstrip()
    first = next(iter(opening.splitlines()), "")
    bare, scored = without_score(first)
    reason = f"prose: a line of more than {LONGEST_LINE:,} characters" if len(first) > LONGEST_LINE else ""
    ended = scored or unclosed or len(opening) > len(first)
    found = [Part(first.strip(), clean(bare), reason or ("" if ended else cut))] if first or not aloud else []
    return _judge([*aloud, *found], count=1, known=known)


def _read(reply: str, cut: str, fill: Fill | None, asked: str = "", one: bool = False) -> list[Part]:
    """Return all parts of a reply; the last item of one that was `cut` has that reason, unless its end was seen."""
    thoughts, rest, unclosed = without_thoughts(reply)
    aloud = [Part(thought.strip(), "", "thinking aloud") for thought in thoughts]
    if unclosed and cut:
        aloud[-1] = aloud[-1]._replace(reason=f"thinking aloud; {cut}")
    parts, ended = _read_rest(rest, fill, asked.lower(), one)
    parts = [part._replace(reason=cut) if cut and part.reason == NO_END else part for part in parts]
    if cut and not unclosed and not ended:
        places = [i for i, part in enumerate(parts) if part.text and not part.reason]
        parts = [part._replace(reason=cut) if i in places[-1:] else part for i, part in enumerate(parts)]
    return aloud + parts


def _read_rest(reply: str, fill: Fill | None, asked: str, one: bool) -> tuple[list[Part], bool]:
    """Return the parts of a reply without thoughts, and whether the end of its last item was seen."""
    found = elements(reply, asked)
    if found:
        own = [element for element in found if asked and element.name == asked]
        return _read_elements(reply, own or found, fill, one)
    read = read_json(reply, fill)
    if read is not None:
        return read
    parts = read_table(reply, fill)
    if parts is None:
        parts = read_lines(reply)
    ended = reply.rstrip(" \t").endswith(("\n", "\r")) or not parts or bool(parts[-1].reason)
    return (_paragraphs(reply, parts) if one else parts), ended


def _read_elements(reply: str, found: list[Element], fill: Fill | None, one: bool) -> tuple[list[Part], bool]:
    """Return what stands in tags, and the lines outside of them; whether the last tag has its end."""
    parts: list[Part] = []
    at = 0
    for element in found[:MOST_LINES]:
        parts += read_around(reply[at : element.begin])
        lines = lines_of(element.content)[0]
        if element.many or (len(lines) > 1 and not one and all(map(is_marked, lines))):
            parts += _read_rest(element.content, fill, "", one)[0]
        else:
            text, said = " ".join(element.content.split()), reply[element.begin : element.end]
            parts += items(text, said) if len(text) < LONGEST_REJECTED * 4 else [Part(said, text)]
        at = element.end
    parts += [unread(len(found) - MOST_LINES)] if len(found) > MOST_LINES else read_around(reply[at:])
    return parts, found[-1].closed


def _paragraphs(reply: str, parts: list[Part]) -> list[Part]:
    """Return parts with the lines of each paragraph joined, where they are no list; a colon at the end of all introduces nothing."""
    usable = [part for part in parts if not part.reason]
    if parts and not usable and not why_not_item(parts[-1].said, listed=False, opens=False, follows=False):
        return [*parts[:-1], *items(parts[-1].said)]
    if len(usable) < 2 or any(is_marked(part.said) for part in usable):
        return parts
    said = {part.said: part for part in parts}
    joined = [part for part in parts if part.reason]
    for blank, lines in groupby(reply.splitlines(), key=lambda line: not line.strip()):
        texts = [part.text for line in lines if (part := said.get(line.strip())) and not part.reason]
        if not blank and texts:
            joined.append(Part(" ".join(texts), " ".join(texts)))
    return joined


def _judge(parts: Iterable[Part], *, count: int, known: Collection[str], max_words: int = MAX_WORDS) -> Texts:
    texts: list[str] = []
    rejected = Rejections()
    tried = {_fold(text) for text in known}
    for part in parts:
        text = _spaced(part.text) if len(part.text) <= LONGEST * CHARACTERS_A_WORD else part.text
        reason = part.reason or _why_not_prompt(text, tried, max_words)
        if not reason and len(texts) == count:
            reason = f"more than the {count} asked for"
        if reason:
            rejected.add(part.said, reason)
        else:
            texts.append(text)
            tried.add(_fold(text))
    if not texts and not rejected.kept:
        rejected.add("", "the reply is empty")
    return tuple(texts), rejected.all()


class Rejections:
    """What was rejected: `MOST_REJECTED` lines, the last among them, each up to `LONGEST_REJECTED` characters; the rest is counted.

    Args:
        wanted: what a line did not become.
    """

    def __init__(self, wanted: str = "prompt") -> None:
        self.wanted = wanted
        self.kept: list[Rejected] = []
        self.more: list[tuple[str, str]] = []  # the last of what is only counted
        self.counted = 0

    def add(self, said: str, reason: str) -> None:
        if len(self.kept) < MOST_REJECTED - 2:
            self.kept.append(Rejected(_kept(said), reason))
        else:
            self.more, self.counted = [(said, reason)], self.counted + 1

    def all(self) -> tuple[Rejected, ...]:
        last = [Rejected(_kept(said), reason) for said, reason in self.more]
        told = [Rejected("", f"{self.counted - 1} more lines became no {self.wanted} either")] if self.counted > 1 else []
        return (*self.kept, *told, *last)


def _why_not_prompt(text: str, tried: Collection[str], max_words: int) -> str:
    longest = max(LONGEST, 0 if max_words == LONGEST else CHARACTERS_A_WORD * max_words)
    if len(text) > longest:
        return f"longer than {longest} characters"
    if not any(character.isalnum() for character in text):
        return "holds no word"
    if _MARK_OF_THOUGHT.search(text):
        return "holds a mark of thinking aloud"
    if PLACE in text:
        return "repeats the template, with the mark of the prompt's place"
    if len(text.split()) > max_words:
        return f"prose: more than {max_words} words"
    if not text.replace("\u200c", "").replace("\u200d", "").isprintable():  # these two join letters, in Persian and Hindi
        return "holds characters that cannot be printed"
    if _fold(text) in tried:
        return "tried before"
    return ""


def _kept(text: str) -> str:
    short = text if len(text) <= LONGEST_REJECTED else f"{text[:LONGEST_REJECTED]} ... ({len(text):,} characters)"
    return short.encode("utf-8", "replace").decode("utf-8")  # half of a character, which no file takes


def _spaced(text: str) -> str:
    """Return a text whose spaces are all plain ones: some languages set narrow or unbreakable ones, which a prompt's words do not need."""
    return "".join(" " if character.isspace() and not character.isascii() else character for character in text).strip()


def _fold(text: str) -> str:
    return " ".join(text.lower().split())
