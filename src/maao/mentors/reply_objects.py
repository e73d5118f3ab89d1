"""What a reply says in JSON, nearly JSON, or a table: texts are chosen by the names that they stand under, never by their place alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from maao.mentors.reply_lines import LONGEST_LINE, MOST_LINES, Part, clean, is_marked, items, lines_of, read_around, read_lines, unread

Fill = Callable[[Mapping[str, object]], str | None]  # a line of all that an object fills; None: it names no prompt

DEEPEST = 30
MOST_FAILURES = 5  # places where JSON seems to begin and does not, before the rest is read as lines
LONGEST_MENDED = 4000  # characters: the library that mends JSON takes time in proportion to the square of its length on some
NO_END = "a piece of JSON without its end"
SHOWN = 80  # characters of what is left out

# Names that prompts stand under, the surest first. A name that none of these knows comes behind them all.
_NAMES = (
    "prompt",
    "template",
    "proposal",
    "instruction",
    "suggestion",
    "candidate",
    "line",
    "text",
    "sentence",
    "question",
    "content",
    "value",
)
_NEVER = frozenset(
    "id index idx number num no rank key type role model status language score loss accuracy confidence probability reason reasoning "
    "rationale explanation explanations analysis thought thoughts thinking think note notes comment comments why summary strategy title "
    "label labels category task description observation observations critique reflection pattern patterns plan step steps count old "
    "original previous input".split()
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NEARLY = re.compile(r"\[\s*+[\"'“‘{\[]|\{\s*+(?:[\"'“‘]|\w{1,30}+\s*+:)")


def read_json(reply: str, fill: Fill | None) -> tuple[list[Part], bool] | None:
    """Return what a reply says in JSON, and what stands around it; whether its end was seen. None: it holds no JSON."""
    places = list(beginnings(reply))
    blocks = _blocks(reply, places)
    near = [place for place in places if _NEARLY.match(reply, place)]
    if near[:1] == places[:1] and (not blocks or blocks[0].begin > near[0]):  # what stands first is not whole
        mended = _mended(reply, near[0], fill) if near else None
        if mended is not None:
            return mended
    if blocks:
        ends = [0, *(block.end for block in blocks)]
        around = [reply[end : block.begin] for end, block in zip(ends, blocks, strict=False)]
        return [*read_around("\n".join(around)), *_texts([block.value for block in blocks], fill), *_behind(reply[ends[-1] :])], True
    return _mended(reply, near[0], fill) if near else None


def _behind(text: str) -> list[Part]:
    """Return the lines behind JSON; one that begins as JSON does lacks its end."""
    return [part._replace(reason=NO_END) if part.said.startswith(("[", "{")) else part for part in read_around(text)]


def beginnings(reply: str) -> Iterator[int]:
    """Yield where JSON may begin: at the beginning of a line, behind a mark or a fence, or behind words that end with a colon or `=`."""
    offset = 0
    for line in islice(reply.splitlines(keepends=True), MOST_LINES):
        places = [place for place in (line.find("[", 0, LONGEST_LINE), line.find("{", 0, LONGEST_LINE)) if place >= 0]
        first = min(places, default=-1)
        if first >= 0:
            before = line[:first].strip().removeprefix("```json").strip("`")
            introduced = before.endswith((":", "=")) and not is_marked(before) and not before.startswith(('"', "'"))
            if introduced or not clean(f"{before} x").removesuffix("x"):  # nothing but a mark stands before it
                yield offset + first
        offset += len(line)


class _Block(NamedTuple):
    """A value in JSON, with where it begins and ends."""

    value: object
    begin: int
    end: int


def _blocks(reply: str, places: list[int]) -> list[_Block]:
    """Return the values in JSON that begin at some of these places."""
    decoder, failures, end = json.JSONDecoder(), 0, 0
    found: list[_Block] = []
    for place in places:
        if place < end:
            continue
        if failures == MOST_FAILURES:
            break
        try:
            value, after = decoder.raw_decode(reply, place)
        except (ValueError, RecursionError):
            failures += 1
            continue
        rest = reply[after : after + LONGEST_LINE].split("\n", 1)[0].strip().strip("`,;.")
        if not _speaks(value) or (rest and isinstance(value, list) and len(value) < 2):
            failures += 1
            continue
        found.append(_Block(value, place, after))
        end = after
    return found


def _speaks(value: object) -> bool:
    """Return whether a value may hold prompts: "[1]" is a mark."""
    if isinstance(value, list):
        return len(value) != 1 or not isinstance(value[0], int)
    return isinstance(value, dict)


def _mended(reply: str, begin: int, fill: Fill | None) -> tuple[list[Part], bool] | None:
    """Return what is nearly JSON, mended by a library where it is not too long."""
    import json_repair

    fence = reply.find("```", begin)
    stop = fence if fence >= 0 else len(reply)
    whole = _without_talk(reply[begin:stop])
    if len(whole) > LONGEST_MENDED:
        return None
    try:
        value = json_repair.loads(whole, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None
    if not _named(value):
        return None
    parts = list(_texts([value], fill))
    if not any(part.text for part in parts):
        return None
    tail = whole.rstrip().rstrip(",")
    last = next((part.text for part in reversed(parts) if part.text), "")
    seen = tail.endswith(("]", "}")) or f'{last}"' in whole
    return [*read_around(f"{reply[:begin]}\n{reply[begin + len(whole) :]}"), *parts], seen


def _named(value: object) -> bool:
    """Return whether mended JSON is a list, or an object whose names tell of prompts: anything in braces can be mended into some object."""
    if isinstance(value, dict):
        ranks = [rank for name, one in value.items() if (rank := _rank(name, one)) is not None]
        return min(ranks, default=len(_NAMES)) < len(_NAMES) or (bool(value) and all(name.isdigit() for name in value))
    return isinstance(value, list) and bool(value) and all(_named(one) for one in value if isinstance(one, dict))


def _without_talk(text: str) -> str:
    """Return text that is nearly JSON without the lines behind it that hold neither quotes nor brackets."""
    end = max(text.rfind(sign) for sign in "\"'”’]}") + 1
    line = text.find("\n", end)
    return text if line < 0 else text[:line]


def _texts(values: list[object], fill: Fill | None) -> list[Part]:
    """Return what values say: of a list of lists, or of several values, each is one text or holds several."""
    top = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    found = list(islice((part for value in top for part in _walk(value, fill, 0)), MOST_LINES + 1))
    return (
        found
        if len(found) <= MOST_LINES
        else [*found[:MOST_LINES], Part("", "", f"the rest was not read: a reply is read up to its item {MOST_LINES}")]
    )


def _walk(value: object, fill: Fill | None, depth: int) -> Iterator[Part]:
    if depth > DEEPEST:
        yield Part(_short(value), "", f"it stands more than {DEEPEST} brackets deep")
    elif isinstance(value, str):
        yield from _of_string(value, fill, depth)
    elif isinstance(value, list):
        if value and all(type(one) in (int, float) for one in value):  # a point of a plain function
            yield Part(_short(value), " ".join(map(str, value)))
        else:
            for one in value:
                yield from _walk(one, fill, depth + 1)
    elif isinstance(value, dict):
        yield from _of_object(value, fill, depth)
    elif value is None or isinstance(value, bool):
        yield Part(json.dumps(value), "", "holds no word")
    else:
        yield Part(str(value), str(value))


def _of_string(text: str, fill: Fill | None, depth: int) -> Iterator[Part]:
    if text.lstrip().startswith(("[", "{")):  # JSON within a text
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, list | dict) and _speaks(value):
            yield from _walk(value, fill, depth + 1)
            return
    if fill is not None:
        yield from items(text.strip().replace("\n", "\\n"), text)
    elif len(lines_of(text)[0]) > 1:
        yield from read_lines(text)
    else:
        yield from items(text)


def _of_object(value: Mapping[str, object], fill: Fill | None, depth: int) -> Iterator[Part]:
    line = fill(value) if fill is not None else None
    if line is not None:
        yield Part(_short(value), line)
        return
    ranks = {name: rank for name, one in value.items() if (rank := _rank(name, one)) is not None}
    best = min(ranks.values(), default=None)
    chosen = [name for name, rank in ranks.items() if rank == best]
    if best == len(_NAMES):  # no name is known: a list before texts
        chosen = [name for name in chosen if isinstance(value[name], list | dict)][:1] or chosen
    for name in chosen:
        yield from _walk(value[name], fill, depth + 1)
    for name in value:
        if name not in chosen:
            yield Part(f"{name[:SHOWN]}: {_short(value[name])}", "", "it stands beside the prompts, under another name")
    if not value:
        yield Part("{}", "", "holds no word")


def name_rank(name: str) -> int | None:
    """Return how surely a prompt stands under a name, 0 the surest; None: never.

    Example:
        >>> [name_rank(name) for name in ("prompts", "new_prompt_2", "promptId", "analysis", "text", "animals")]
        [0, 0, None, None, 7, 12]
    """
    words = [word.lower() for word in _WORD.findall(name[:SHOWN])]
    if any(word in _NEVER for word in words):
        return None
    singular = {word.removesuffix("s") for word in words}
    return next((place for place, known in enumerate(_NAMES) if known in singular), len(_NAMES))


def _rank(name: str, value: object) -> int | None:
    """Return the rank of a name with its value: that of the surest name within, where an object stands under it."""
    if not isinstance(value, str | list | dict) or not value:
        return None
    own = name_rank(name)
    if own is None or not isinstance(value, dict):
        return own
    return min([own, *(rank for inner in islice(value, MOST_LINES) if (rank := name_rank(inner)) is not None)])


def _short(value: object) -> str:
    """Return the beginning of a value as JSON, without writing all of it where it is long."""
    if isinstance(value, str):
        return value[:SHOWN]
    try:
        return json.dumps(value, ensure_ascii=False)[:SHOWN]
    except RecursionError:
        return "..."


def read_table(reply: str, fill: Fill | None) -> list[Part] | None:
    """Return what a table of Markdown says, a row a proposal, and what stands around it. None: there is no table."""
    lines, more = lines_of(reply)
    ruler = next((i for i, line in enumerate(lines) if i and _is_ruler(line) and "|" in lines[i - 1]), None)
    if ruler is None:
        return None
    end = next((i for i in range(ruler + 1, len(lines)) if "|" not in lines[i]), len(lines))
    names = _cells(lines[ruler - 1])
    rows = [dict(zip(names, _cells(line), strict=False)) for line in lines[ruler + 1 : end]]
    ranks = {name: rank for name in names if (rank := name_rank(name)) is not None}
    column = min(ranks, key=lambda name: (ranks[name], -sum(len(row.get(name, "")) for row in rows)), default=None)
    parts = [Part(line.strip(), "", "the frame of a table") for line in lines[ruler - 1 : ruler + 1]]
    for line, row in zip(lines[ruler + 1 : end], rows, strict=True):
        filled = fill(row) if fill is not None else None
        parts += [Part(line.strip(), filled)] if filled else items(row.get(column or "", ""), line.strip())
    around = read_around("\n".join([*lines[: ruler - 1], *lines[end:]]))
    return [*around, *parts] + ([unread(more)] if more else [])


def _is_ruler(line: str) -> bool:
    return "|" in line and "--" in line and not line.strip("|-: \t")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[:LONGEST_LINE].strip("|").split("|")]
