"""The lines of a reply: which of them are items of a list, and what an item says without the marks around it.

Lines are as long and as many as a mentor likes; a line is looked at up to `LONGEST_LINE` characters and no expression here steps back over
what it has read, so that the time is in proportion to the length of the reply.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import NamedTuple

LONGEST_LINE = 2000  # characters; a longer line is no item of a list of prompts
MOST_LINES = 5000  # of a reply; what follows them is counted, not read


class Part(NamedTuple):
    """A piece of a reply: as it stands there, the text that it proposes, and why it is no proposal ("": that is still to be judged)."""

    said: str
    text: str = ""
    reason: str = ""


_WORDS = "one|two|three|four|five|six|seven|eight|nine|ten"
_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
_PLACE = rf"(?:\s*+\#?\s*+\d{{1,3}}|\s++\#?(?:[a-h]|{_WORDS})\b)"  # a number, a letter or a word that counts
_KIND = "(?:prompt|template|proposal|suggestion|candidate|instruction|variant|variation|alternative|idea)"
_COUNTED = "(?:option|version|line|answer|choice|example|item|attempt|text|output)"  # these are names only where they are counted
_SUCH = (
    r"(?:(?:the|my|your|our|final|new|improved|better|best|revised|optimi[sz]ed|suggested|proposed|mutated|crossed|joined|changed|"
    rf"{_ORDINALS})\s++)*+"
)

# A bullet or a number, then perhaps a name. "-0.5" and "2.5" are numbers (a point of a plain function), "Prompt-based" is a word, and
# "**" or "*word*" is emphasis.
_NUMBERED = (
    rf"\(?\d{{1,3}}[.):](?!\d)|\(\d{{1,3}}\)|\[\d{{1,3}}\]|\d{{1,3}}[、．]|\#\d{{1,3}}[.):]?(?=\s)|\(?[a-h]\)(?=\s)|[a-h]\.(?=\s)|"
    rf"\(?[ivx]{{1,4}}\)(?=\s)|(?:{_WORDS}|(?:{_ORDINALS})(?:ly)?)[.):](?=\s)|[\u2460-\u2473\u2776-\u277f]|\d\ufe0f?\u20e3"
)
_BULLETS = r"[-+–—](?![\d.])|\*(?!\*)(?!\S[^*]*+\*)|[•‣◦▪▫●○■□▶►→➢➤✓✔✅❖·∙]|>(?=\s)"
_MARK = re.compile(rf"\s*+(?:{_BULLETS}|(?P<numbered>{_NUMBERED}))\s*+(?:\[[ xX]\]\s++)?+", re.IGNORECASE)
_BULLET = re.compile(r"\s*+[-+–*•]\s++(?![\d.])")
_NAME = re.compile(
    rf"[\s*_]*+{_SUCH}(?:{_KIND}{_PLACE}?+|{_COUNTED}{_PLACE})(?:\s++(?:is|was)\b)?+[\s*_]*+(?:[:.)]|[-–—](?=\s))[*_]*+\s*+",
    re.IGNORECASE,
)
# "**Prompt 1**" or "Prompts:" on a line of its own; the number tells that one text follows.
_HEADING = re.compile(
    rf"[\s*_#>]*+{_SUCH}(?P<kind>{_KIND}|{_COUNTED})(?P<many>s?)(?P<place>{_PLACE}?+)[\s*_]*+[:.)]?+[\s*_]*+\Z", re.IGNORECASE
)
_TITLE = re.compile(r"\s*+#{1,6}\s")  # a heading of Markdown
_FENCE = re.compile(r"(?:```|~~~)\s*+\w*+\Z")
_TALK = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|here (?:are|is|you go)|here's|i hope|i have|i've|note that|note:|let me|let's|feel free|below|"
    r"based on|as an ai|i'm sorry|i am sorry|sorry|i can(?:no|')t|i can help|i'd be (?:happy|glad)|i would be (?:happy|glad)|i'll)\b|"
    r"(?:hi|hello|hey|dear)\b[^,!]{0,30}+[,!]\Z|"
    r"(?:these|the following)\s++(?:\w++\s++){0,2}(?:prompts|templates|suggestions|proposals)\b|"
    # Words that a prompt may begin with as well: talk only where the line stops after them, or goes on as talk does.
    r"(?:absolutely|definitely|gladly|alright|all right|understood|got it|no problem|with pleasure)(?:[!,.]|\Z)|"
    r"(?:great|perfect|excellent|wonderful)(?:!|[,.]\s++(?:here|i|let|the following|these)\b))",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"(?:reason(?:ing)?|rationale|explanation|why (?:this|it|these) works?|expected (?:loss|score|accuracy))\s*+:", re.IGNORECASE
)
_SCORE = re.compile(r"\b(?:loss|accuracy)\s*+[:=]?+\s*+\.?\d|words alone:", re.IGNORECASE)
_SCORES = re.compile(  # nothing but scores, as listings show them, or what a listing goes on with
    r"(?:(?:(?:and|with|the)\s++)*+(?:loss|accuracy)\s*+[:=]?+\s*+[\d.]++%?+[\s,;/]*+)++(?:after\s++\d++[\w\s]*+)?+(?:prompt:.*+)?+"
    r"[\s.)\]\"'`”*]*+",
    re.IGNORECASE | re.DOTALL,
)
_BOLD = re.compile(r"(?<!\w)\*\*|\*\*(?!\w)")
_PART_ENDS = re.compile(r'"\s*+\|')  # a quote that ends a part of a line, before a bar
# The first mark within ends a part, and the second begins another: good" or "bad.
_TWO_PARTS = re.compile(r'[^"]*+(?<=[^\s"])"(?=[^\w"])[^"]*+(?<=[^\w"])"(?=[^\s"])')
_WITHIN_WORDS = re.compile(r'(?<=\w)"(?=\w)')
A_REMARK, A_TITLE = "a remark on a prompt, not a prompt", "the title of a prompt, not a prompt"
_DASHES = ("-", "–", "—", "→")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "«": "»", "「": "」"}


def lines_of(text: str) -> tuple[list[str], int]:
    """Return the lines of a text that hold something, at most `MOST_LINES`, and how many more there are."""
    lines = [line for line in text.splitlines() if line and not line.isspace()]
    return lines[:MOST_LINES], max(0, len(lines) - MOST_LINES)


def read_lines(text: str) -> list[Part]:
    """Return every line of a list with what it proposes, or why it is no item of it."""
    lines, more = lines_of(text)
    if len(lines) == 1:
        lines = _counted_within(lines[0])
    parts: list[Part] = []
    for line, reason in _why_not_items(lines):
        series = () if reason else _series(line)
        parts += [Part(one, one) for one in series] or ([Part(line.strip(), "", reason)] if reason else items(line))
    return parts + ([unread(more)] if more else [])


def read_around(text: str) -> list[Part]:
    """Return the lines that stand around what was read in another way, each with why it is no proposal."""
    lines, more = lines_of(text)
    parts = [Part(line.strip(), "", why_not_item(line, listed=True) or "talk around the list, not an item of it") for line in lines]
    return parts + ([unread(more)] if more else [])


def unread(more: int) -> Part:
    return Part("", "", f"{more} further lines were not read: a reply is read up to its line {MOST_LINES}")


def _why_not_items(lines: list[str]) -> list[tuple[str, str]]:
    """Return every line with the reason why it is no item of the list, or "" for an item."""
    headings = [_heading(line) for line in lines]
    numbered = any(heading is not None and heading for heading in headings)
    possible = [
        line
        for line, heading in zip(lines, headings, strict=True)
        if heading is None and not _FENCE.match(line.strip()) and not _is_talk(line)
    ]
    listed = any(map(is_marked, possible))
    found: list[tuple[str, str]] = []
    headed = False  # the line before, code fences aside, was a heading
    follows = False  # a line before was an item
    above: int | None = None  # how far the last numbered item is indented
    for line, heading, below in zip(lines, headings, [*lines, ""][1:], strict=True):
        marked = is_marked(line)
        opens = not marked or (bool(below) and not is_marked(below))  # what is below it may be what it introduces
        reason = "a heading, not a prompt" if heading is not None else why_not_item(line, listed, opens, follows)
        if not reason and numbered and not listed and not headed:
            reason = "talk around the list: it does not follow a heading"
        mark, indent = _MARK.match(line), len(line) - len(line.lstrip())
        if mark and mark["numbered"]:
            above = None if reason or line.rstrip().endswith(":") else indent
        elif not reason and mark and above is not None and indent > above:
            reason = "a point under an item, not an item of the list"
        found.append((line, reason))
        follows = follows or not reason
        headed = heading is not None or (headed and bool(_FENCE.match(line.strip())))
    return found


def _heading(line: str) -> str | None:
    """Return the number of a heading ("": it has none); None: the line is no heading.

    A bare word ("Instruction:") may be a prompt. It is a heading where it is a prompt's usual name, counted, in the plural or set as one.
    """
    if len(line) > LONGEST_LINE:
        return None
    mark = _MARK.match(line)
    bare = line[mark.end() :] if mark else line
    match = _HEADING.match(bare)
    if match is None:
        return "" if _TITLE.match(line) and not _MARK.match(line.lstrip("# \t")) else None
    kind, place = match["kind"].lower(), match["place"].strip(" #")
    if kind in ("prompt", "template") or place or (match["many"] and re.match(_KIND, kind)) or bare.lstrip().startswith(("**", "__", "#")):
        return place
    return None


def why_not_item(line: str, listed: bool, opens: bool = True, follows: bool = True) -> str:
    """Return why a line is no item, or "".

    Where the list is set as one (`listed`) it must be marked. `opens`: it may introduce others; `follows`: it may be a remark on one.
    """
    bare, mark = line.strip(), _MARK.match(line)
    if len(bare) > LONGEST_LINE:
        return f"prose: a line of more than {LONGEST_LINE:,} characters"
    if _FENCE.match(bare):
        return "a code fence"
    if listed and not is_marked(line):
        return "talk around the list, not an item of it"
    if opens and clean(line).endswith(":") and not is_quoted(bare):
        return "an introduction: it ends with a colon"
    if _is_talk(line):
        return "talk, not a prompt"
    if follows and not (mark and mark["numbered"]) and _REMARK.match(clean(line)):
        return A_REMARK
    return ""


def _is_talk(line: str) -> bool:
    """Return whether a line is talk of the mentor's own; a marked line is an item, but emphasis is no mark."""
    bare = line.strip()
    return (bare.startswith("**") or not is_marked(line)) and bool(_TALK.match(bare.strip("*_ ").replace("’", "'")))


def is_marked(line: str) -> bool:
    """Return whether a line is set as an item of a list: numbered, bulleted, named or in quotes."""
    return bool(_MARK.match(line) or _NAME.match(line)) or _in_quotes(line.strip().strip("*_").strip())


def items(line: str, said: str = "") -> list[Part]:
    """Return what a listed line proposes, without a score that the listing showed beside it; its title and remark are parts of their own.

    `said` is what stands in the reply, where that is more than the line.

    Example:
        >>> [part.text for part in items('1. "sort the news" - it is short') + items("- sort the news (loss 0.5)")]
        ['sort the news', '', 'sort the news']
        >>> [(part.text or part.said, part.reason) for part in items("**In short** - Is it good?")]
        [('In short', 'the title of a prompt, not a prompt'), ('Is it good?', '')]
    """
    whole = clean(line)
    title, text, remark = _divided(_unmarked(line), whole)
    bare = _without_echo(text)
    before = [Part(title, "", A_TITLE)] if title else []
    behind = [Part(remark, "", A_REMARK)] if remark else []
    return [*before, Part(said or line.strip(), whole if bare == whole else clean(bare)), *behind]


def clean(line: str) -> str:
    """Return a line without its mark, its name, emphasis and the quotes around it."""
    text = _BOLD.sub("", _unmarked(line)).strip()
    bare = text.strip("*_` ")
    if not any(mark in bare and _is_two(bare, mark, mark) for mark in "*_`"):
        text = bare
    text = text.rstrip(",;").strip()  # the commas of a list written as text
    return _past(_BULLET, text.rstrip(".")[1:-1]).strip() if is_quoted(text) else text  # - "- sort the news"


def _unmarked(line: str) -> str:
    text = _past(_BULLET, _past(_MARK, line[: LONGEST_LINE + 1]))  # "1. - sort the news": the bullet it was told to set, behind its own
    return _past(_NAME, text).strip() or text.strip()  # a name and nothing behind it may be the prompt: "Instruction:"


def _past(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.match(text)
    return text[match.end() :] if match else text


def _divided(line: str, whole: str) -> tuple[str, str, str]:
    """Return the title in front of a line's text, the text, and the remark behind it; "" where there is none.

    Quotes at the beginning hold the text. What is set in bold there is a title or the text: a title before a colon, and before a dash
    where what follows reads more like a prompt.
    """
    bold = line.startswith(("**", "__"))
    opening, closing = (line[:2], line[:2]) if bold else (line[:1], _QUOTES.get(line[:1], ""))
    end = line.find(closing, len(opening)) if closing else -1
    if end < 0:
        return "", whole, ""
    inside, rest = line[len(opening) : end].strip(), line[end + len(closing) :].strip()
    behind = rest.lstrip(": ") if rest.startswith(":") or inside.endswith(":") else rest[1:].strip() if rest.startswith(_DASHES) else ""
    if bold and inside and behind:
        if rest.startswith(":") or inside.endswith(":") or _is_prompt_rather(behind, inside):
            return inside, behind, ""
        return "", f'"{inside}"', rest
    remarks = rest.startswith((*_DASHES, ":")) or (rest.startswith("(") and rest.endswith(")"))
    return ("", f'"{inside}"', rest) if remarks and len(rest) > 1 and len(inside.split()) > 1 else ("", whole, "")


def _is_prompt_rather(behind: str, bold: str) -> bool:
    """Say which of two is the prompt: what stands in bold, or what stands behind a dash."""
    if bold.endswith(("?", ".", "!")):
        return is_quoted(behind)
    return is_quoted(behind) or len(behind) > len(bold) or behind.rstrip("*_`").endswith(("?", ":", "."))


def _without_echo(text: str) -> str:
    """Return a text without a score said again: in brackets, or after a comma or a dash with nothing but scores behind it."""
    for match in islice(_SCORE.finditer(text), 9):  # a prompt has no more
        end = match.start()
        opening = max(text.rfind("(", 0, end), text.rfind("[", 0, end))
        if opening > max(text.rfind(")", 0, end), text.rfind("]", 0, end)):
            close = min((at for bracket in ")]" if (at := text.find(bracket, end)) >= 0), default=len(text))
            if not text[close + 1 :].strip(" .,;\"'`*") or _SCORES.fullmatch(text, end, close):
                return text[:opening].rstrip()
            continue
        before = text[:end].rstrip()
        apart = before.endswith((",", ";")) or (before.endswith(_DASHES) and before[-2:-1].isspace())
        if apart and _SCORES.fullmatch(text, end):
            return before[:-1].rstrip()
    return text


def without_score(line: str) -> tuple[str, bool]:
    """Return a continued line without a score that follows its text, and whether one did.

    Example:
        >>> without_score("the topic (loss 0.8)"), without_score("predict weight loss")
        (('the topic', True), ('predict weight loss', False))
    """
    text = _without_echo(line)
    if text == line:
        starts = (match.start() for match in islice(_SCORE.finditer(line), 9))
        end = next((start for start in starts if _SCORES.fullmatch(line, start)), len(line))
        text = line[:end].rstrip() if end < len(line) else line
    return text, text != line


def _counted_within(line: str) -> list[str]:
    """Return the items of a list that stands on one line, ``1. a 2. b 3. c``; else the line alone."""
    start = re.match(r"\s*+1([.)])\s", line)
    if start is None:
        return [line]
    found, begin = [], 0
    for number in range(2, 1000):
        end = line.find(f" {number}{start[1]} ", begin + 1)
        if end < 0:
            break
        found.append(line[begin:end])
        begin = end
    return [*found, line[begin:]]


def _series(line: str) -> tuple[str, ...]:
    """Return the texts of a line that is ``"one", "two"``; nothing for any other."""
    bare = line.strip().rstrip(",")
    if not bare.startswith('"') or '",' not in bare:
        return ()
    try:
        found = json.loads(f"[{bare}]")
    except ValueError:
        return ()
    texts = [one for one in found if isinstance(one, str)]
    return tuple(islice(texts, MOST_LINES)) if len(texts) == len(found) > 1 else ()


def unquoted(part: str) -> str:
    """Return a part of a line without emphasis and without the quotes around it, where they are a pair.

    Example:
        >>> unquoted(' **"sort the news"** '), unquoted('"{text}" {slots}')
        ('sort the news', '"{text}" {slots}')
    """
    text = part.strip().strip("*_`").strip()
    if not text.strip("".join(_QUOTES)):
        return ""
    return text[1:-1].strip() if is_quoted(text) else text


def is_quoted(text: str) -> bool:
    """Return whether quotes stand around all of a text: not around the first and the last of its parts.

    Example:
        >>> [is_quoted(text) for text in ('"sort it"', '"good" or "bad"', '"say "yes" or "no" now"', '"{text}" | "it"')]
        [True, False, True, False]
    """
    return _in_quotes(text) and not _is_two(text.rstrip(",;.")[1:-1], text[0], _QUOTES[text[0]])


def _in_quotes(text: str) -> bool:
    """Return whether a text begins and ends with quotes, and has no bars between parts that are quoted."""
    text = text.rstrip(",;.")
    close = _QUOTES.get(text[0]) if len(text) > 2 else None
    if close is None or close != text[-1]:
        return False
    return not _PART_ENDS.search(text[1:-1].replace(close, '"'))


def _is_two(inside: str, opening: str, closing: str) -> bool:
    """Return whether marks around a text are those of its first and its last part, by the marks within."""
    if closing != '"':
        inside = inside.replace('"', " ").replace(opening, '"').replace(closing, '"')
    return _TWO_PARTS.match(_WITHIN_WORDS.sub("", inside)) is not None  # an apostrophe is no quote
