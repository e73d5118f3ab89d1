"""Read a mentor's reply: tolerant of form, strict about what counts as a prompt.

Numbered, bulleted, quoted and JSON lists are read. A line of talk around a list ("Sure! Here are three prompts:") is never taken for a
prompt. Nothing is dropped in silence: every line that did not become a text is returned with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from maao.types import Rejected

PLACE = "<PROMPT>"  # what stands for a prompt where an instruction shows the template
MAX_WORDS = 40  # a longer line is prose, not a prompt of a few words

# A bullet or a number, then perhaps a name. "-0.5" and "2.5" are numbers (a point of a plain function), "Prompt-based" is a word.
_MARK = re.compile(r"^\s*(?:[-+–](?![\d.])|[*•]|\(?\d{1,3}[.):](?!\d)|\(\d{1,3}\)|\[\d{1,3}\])\s*")
_BULLET = re.compile(r"^\s*[-+–*•]\s+(?![\d.])")
_NAME = re.compile(r"^[\s*_]*(?:prompt|template)\s*\d*[\s*_]*(?:[:.)]|-(?=\s))[*_]*\s*", re.IGNORECASE)
_FENCE = re.compile(r"^```\s*\w*$")
# "**Prompt 1**" or "Prompts:" on a line of its own; the number tells that one text follows.
_HEADING = re.compile(r"^[\s*_#]*(?:prompt|template)s?\s*#?\s*(\d*)[\s*_]*[:.)]?[\s*_]*$", re.IGNORECASE)
_TALK = re.compile(
    r"^(?:(?:sure|certainly|of course|okay|ok|here (?:are|is|you go)|here's|i hope|i have|i've|note that|note:|let me|feel free|below|"
    r"based on|as an ai|i'm sorry|i am sorry|sorry|i can(?:no|')t|i can help|i'd be (?:happy|glad)|i would be (?:happy|glad)|i'll)\b|"
    r"(?:these|the following)\s+(?:\w+\s+){0,2}(?:prompts|templates|suggestions|proposals)\b|"
    # Words that a prompt may begin with as well: talk only where the line stops after them, or goes on as talk does.
    r"(?:absolutely|definitely|gladly|alright|all right|understood|got it|no problem|with pleasure)(?:[!,.]|$)|"
    r"(?:great|perfect|excellent|wonderful)(?:!|[,.]\s+(?:here|i|let|the following|these)\b))",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A(?:(?!<think).)*?</think(?:ing)?>|<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.IGNORECASE | re.DOTALL)
_TRAILING_SCORE = re.compile(r"\s*[(\[]?\s*\b(?:loss|accuracy)\s*[:=]?\s*[\d.]+.*$", re.IGNORECASE)
# A score that the listing shows beside a text, said again: in brackets, or after a comma or a dash.
_ECHO = re.compile(r"(?:\s*[(\[][^()\[\]]*|\s*[,;]\s*|\s+[-–—]\s*)(?:\b(?:loss|accuracy)\s*[:=]?\s*\d|words alone:).*$", re.IGNORECASE)
_PART_ENDS = re.compile(r'"\s*\|')  # a quote that ends a part of a line, before a bar
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "«": "»"}


def read_list(
    reply: str, *, count: int, known: Collection[str] = (), max_words: int = MAX_WORDS
) -> tuple[tuple[str, ...], tuple[Rejected, ...]]:
    """Return the texts of a reply to a chat instruction, at most `count`, and what was rejected. `known` texts were tried before.

    A text of more than `max_words` words is prose.

    Example:
        >>> read_list('Sure! Here are two:\\n1. "sort the news"\\n2) topic of a headline', count=2)[0]
        ('sort the news', 'topic of a headline')
    """
    judged: list[tuple[str, str, str | None]] = [(thought.strip(), "", "thinking aloud") for thought in _THOUGHT.findall(reply)]
    items, around = _from_json(_THOUGHT.sub("\n", reply))
    lines = [line for line in around.splitlines() if line.strip()]
    if items is None:
        judged += [(line.strip(), _item(line), reason) for line, reason in _why_not_items(lines)]
    else:
        judged += [(line.strip(), "", _why_not_item(line, listed=True)) for line in lines]
        judged += [(str(item), _item(str(item)), None) for item in items]
    return _judge(judged, count=count, known=known, max_words=max_words)


def read_continuation(reply: str, *, known: Collection[str] = ()) -> tuple[tuple[str, ...], tuple[Rejected, ...]]:
    """Return the text that continues a listing: the first line, without quotes or a score that follows it.

    Example:
        >>> read_continuation(' the topic of this news (loss 0.8)\\nLoss 0.7, prompt: x')[0]
        ('the topic of this news',)
    """
    first = next((line for line in reply.splitlines() if line.strip()), "")
    text = _clean(_TRAILING_SCORE.sub("", first))
    return _judge([(first.strip(), text, None)], count=1, known=known)


def _judge(
    judged: Iterable[tuple[str, str, str | None]], *, count: int, known: Collection[str], max_words: int = MAX_WORDS
) -> tuple[tuple[str, ...], tuple[Rejected, ...]]:
    texts: list[str] = []
    rejected: list[Rejected] = []
    tried = {_fold(text) for text in known}
    for line, text, reason in judged:
        reason = reason or _why_not_prompt(text, tried, max_words)
        if reason is None and len(texts) == count:
            reason = f"more than the {count} asked for"
        if reason is None:
            texts.append(text)
            tried.add(_fold(text))
        else:
            rejected.append(Rejected(line, reason))
    if not texts and not rejected:
        rejected.append(Rejected("", "the reply is empty"))
    return tuple(texts), tuple(rejected)


def _why_not_items(lines: list[str]) -> list[tuple[str, str | None]]:
    """Return every line with the reason why it is no item of the list, or None."""
    headings = [_HEADING.match(_MARK.sub("", line, count=1)) for line in lines]
    numbered = any(heading and heading[1] for heading in headings)
    items = [line for line, heading in zip(lines, headings, strict=True) if not (heading or _FENCE.match(line.strip()) or _is_talk(line))]
    listed = any(map(_is_marked, items))
    found: list[tuple[str, str | None]] = []
    headed = False  # the line before, code fences aside, was a heading
    for line, heading, below in zip(lines, headings, [*lines, ""][1:], strict=True):
        opens = not _is_marked(line) or (bool(below) and not _is_marked(below))  # what is below it may be what it introduces
        reason = "a heading, not a prompt" if heading else _why_not_item(line, listed, opens)
        if reason is None and numbered and not listed and not headed:
            reason = "talk around the list: it does not follow a heading"
        found.append((line, reason))
        headed = bool(heading) or (headed and bool(_FENCE.match(line.strip())))
    return found


def _why_not_item(line: str, listed: bool, opens: bool = True) -> str | None:
    bare = line.strip()
    if _FENCE.match(bare):
        return "a code fence"
    if listed and not _is_marked(line):
        return "talk around the list, not an item of it"
    if opens and _clean(line).endswith(":") and not _is_quoted(bare):
        return "an introduction: it ends with a colon"
    if _is_talk(line):
        return "talk, not a prompt"
    return None


def _is_talk(line: str) -> bool:
    """Return whether a line is talk of the mentor's own; a marked line is an item, but emphasis is no mark."""
    bare = line.strip()
    return bool((bare.startswith("**") or not _is_marked(line)) and _TALK.match(bare.strip("*_ ").replace("’", "'")))


def _is_marked(line: str) -> bool:
    return bool(_MARK.match(line) or _NAME.match(line)) or _is_quoted(line.strip())


def _why_not_prompt(text: str, tried: Collection[str], max_words: int) -> str | None:
    if not any(character.isalnum() for character in text):
        return "holds no word"
    if PLACE in text:
        return "repeats the template, with the mark of the prompt's place"
    if len(text.split()) > max_words:
        return f"prose: more than {max_words} words"
    if not text.isprintable():
        return "holds characters that cannot be printed"
    if _fold(text) in tried:
        return "tried before"
    return None


def _item(line: str) -> str:
    """Return the text of a listed line, without a score that the listing showed beside it."""
    text = _clean(line)
    bare = _ECHO.sub("", text)
    return text if bare == text else _clean(bare)


def _clean(line: str) -> str:
    text = _BULLET.sub("", _MARK.sub("", line, count=1), count=1)  # "1. - sort the news": the bullet it was told to set, behind its own
    text = _NAME.sub("", text, count=1).strip()
    text = text.strip("*_` ").rstrip(",;").strip()  # emphasis, and the commas of a list written as text
    return _BULLET.sub("", text.rstrip(".")[1:-1]).strip() if _is_quoted(text) else text  # - "- sort the news"


def unquoted(part: str) -> str:
    """Return a part of a line without emphasis and without the quotes around it, where they are a pair.

    Example:
        >>> unquoted(' **"sort the news"** '), unquoted('"{text}" {slots}')
        ('sort the news', '"{text}" {slots}')
    """
    text = part.strip().strip("*_`").strip()
    if not text.strip("".join(_QUOTES)):
        return ""
    return text[1:-1].strip() if _is_quoted(text) else text


def _is_quoted(text: str) -> bool:
    """Return whether quotes stand around all of a text: not around the first and the last of its parts."""
    text = text.rstrip(",;.")
    close = _QUOTES.get(text[0]) if len(text) > 2 else None
    if close is None or close != text[-1]:
        return False
    return not _PART_ENDS.search(text[1:-1].replace(close, '"'))


def _fold(text: str) -> str:
    return " ".join(text.lower().split())


def _from_json(reply: str) -> tuple[list[Any] | None, str]:
    """Return the texts of a JSON list, of a list of objects, or of an object that holds a list, and what stands around it.

    A reply that is no JSON and holds none gives None, and the whole of itself.
    """
    body = re.sub(r"^```[a-z]*\s*|\s*```$", "", reply.strip())
    items = _items(body)
    if items is not None:
        return items, ""
    begin = min((i for i in (reply.find("["), reply.find("{")) if i >= 0), default=-1)
    end = max(reply.rfind("]"), reply.rfind("}")) + 1
    items = _items(reply[begin:end]) if 0 <= begin < end else None
    if items is not None and items and all(isinstance(item, str) for item in items):
        return items, f"{reply[:begin]}\n{reply[end:]}"
    return None, reply


def _items(body: str) -> list[Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), list(value.values()))
    if not isinstance(value, list):
        return None
    return [_text_of(item) for item in value]


def _text_of(item: Any) -> Any:
    if isinstance(item, dict):
        return next((v for v in item.values() if isinstance(v, str)), "")
    return "" if item is None else item
