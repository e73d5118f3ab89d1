"""Tags in a reply: thinking aloud, which is never a proposal, and elements that hold a prompt or a list of them.

Each tag is looked at once, so the time is in proportion to the length of the reply.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

_THINKS = (
    "think|thinking|thought|thoughts|thought_process|reasoning|reason|reflection|analysis|scratchpad|monologue|inner_monologue|"
    "seed:think|antthinking|details"
)
# <think>, < /THINKING >, <think budget="3">, &lt;think&gt;, [THINK], ◁think▷, <|START_THINKING|>
_THOUGHT = re.compile(
    rf"(?:<|&lt;|◁)\s?(?P<end>/?)\s?(?:{_THINKS})(?:\s[^<>]{{0,200}})?(?:>|&gt;|▷)|\[(?P<end2>/?)think(?:ing)?\]|"
    r"<\|(?:start|(?P<end3>end))_thinking\|>",
    re.IGNORECASE,
)
# What models write that were trained on channels: "<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>".
_CHANNEL = re.compile(r"<\|?channel\|?>(?:\s{0,9}(?P<name>[a-z]\w{0,20}))?", re.IGNORECASE)
# Marks of a chat template that were left in the text.
_MARKER = re.compile(r"<\|\w{1,40}\|>(?:assistant)?|</?s>|<(?:start|end)_of_turn>(?:model)?|<(?:bos|eos|pad)>|\[/?INST\]", re.IGNORECASE)
_BARE_ANALYSIS = re.compile(r"\s{0,99}analysis(?=[A-Z])")  # a channel whose marks were left out on the way
_BARE_FINAL = "assistantfinal"
MOST_TAGS = 20_000  # of a reply that are told apart
_ANSWERS = frozenset({"final", "response", "answer"})

_ONE = "prompt|template|proposal|suggestion|candidate|instruction|ins|item|li|line|text"
_MANY = (
    "answer|final|final_answer|output|response|result|results|"
    "prompts|templates|proposals|suggestions|candidates|instructions|items|list|ul|ol"
)
_TAG = re.compile(rf"<(?P<end>/?)(?P<name>(?:{_ONE})(?:[ _-]?\d{{1,3}})?|{_MANY})(?:\s[^<>]{{0,200}})?>", re.IGNORECASE)


def without_thoughts(reply: str) -> tuple[list[str], str, bool]:
    """Return what is thought aloud in a reply, the rest of it, and whether the last thought has no end.

    Thoughts may be nested. An end without a beginning ends a thought that began with the reply; a beginning without an end goes on to the
    end of it.

    Example:
        >>> without_thoughts("<think>a <THINK>b</think> c</think>- sort the news")
        (['<think>a <THINK>b</think> c</think>'], '\\n- sort the news', False)
    """
    spans, unclosed = _thought_spans(reply)
    spans += _channel_spans(reply)
    thoughts, kept, at = [], [], 0
    for begin, end in sorted(spans):
        if end <= at:
            continue
        kept.append(reply[at:begin] if begin > at else "")
        thoughts.append(reply[max(at, begin) : end])
        at = end
    kept.append(reply[at:])
    unclosed = unclosed or (bool(thoughts) and at == len(reply) and bool(_CHANNEL.search(thoughts[-1])))
    rest = "\n".join(kept)
    return [thought for thought in thoughts if thought.strip()], _MARKER.sub("\n", rest), unclosed


def _thought_spans(reply: str) -> tuple[list[tuple[int, int]], bool]:
    spans: list[tuple[int, int]] = []
    depth, begin, said = 0, 0, len(reply.rstrip())
    for number, tag in enumerate(_THOUGHT.finditer(reply)):
        if number == MOST_TAGS:  # no answer comes after so many
            begin, depth = begin if depth else tag.start(), 1
            break
        if not (tag["end"] or tag["end2"] or tag["end3"]):
            begin = begin if depth else tag.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                spans.append((begin, tag.end()))
        else:  # no beginning: all before it is a thought, unless the answer stands there
            answered = bool(spans) and tag.end() >= said
            spans.append((tag.start() if answered else spans[-1][1] if spans else 0, tag.end()))
    if depth:
        spans.append((begin, len(reply)))
    return spans, bool(depth)


def _channel_spans(reply: str) -> list[tuple[int, int]]:
    """Return what is said on another channel than that of the answer."""
    bare = _BARE_ANALYSIS.match(reply)
    if bare:
        final = reply.find(_BARE_FINAL)
        return [(0, final + len(_BARE_FINAL) if final >= 0 else len(reply))]
    marks = list(islice(_CHANNEL.finditer(reply), MOST_TAGS))  # what follows so many belongs to the last of them
    spans = []
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        named = (mark["name"] or "").lower()
        answers = not named or named in _ANSWERS
        end = len(reply) if following is None else following.start()
        spans.append((mark.start(), mark.end() if answers else end))
    return spans


@dataclass(frozen=True, slots=True)
class Element:
    """What stands between two tags: where it begins and ends with them, its content, whether it may hold several texts, and has its end."""

    name: str
    begin: int
    end: int
    content: str
    many: bool
    closed: bool = True


def elements(reply: str, asked: str = "") -> list[Element]:
    """Return the innermost elements of a reply whose names say that they hold prompts.

    A tag without an end counts only where it is the one that was `asked` for, or has the name of one that has its end: "<text>" alone may
    be a word of a prompt.
    """
    found: list[Element] = []
    open_tags: list[tuple[re.Match[str], int]] = []  # with how many elements had been found when it opened
    waiting: Counter[str] = Counter()
    for tag in islice(_TAG.finditer(reply), MOST_TAGS):
        name = tag["name"].lower()
        if not tag["end"]:
            open_tags.append((tag, len(found)))
            waiting[name] += 1
        elif waiting[name]:
            opened, before = open_tags.pop()
            while opened["name"].lower() != name:
                waiting[opened["name"].lower()] -= 1
                opened, before = open_tags.pop()
            waiting[name] -= 1
            if before == len(found) and reply[opened.end() : tag.start()].strip():
                found.append(_element(reply, opened, tag.start(), tag.end()))
    names = {asked, *(one.name for one in found)}
    last = next((tag for tag, before in reversed(open_tags) if before == len(found) and tag["name"].lower() in names), None)
    if last is not None and reply[last.end() :].strip():
        found.append(_element(reply, last, len(reply), len(reply), closed=False))
    return found


def _element(reply: str, opened: re.Match[str], stop: int, end: int, closed: bool = True) -> Element:
    many = re.fullmatch(_MANY, opened["name"], re.IGNORECASE) is not None
    return Element(opened["name"].lower(), opened.start(), end, reply[opened.end() : stop], many, closed)
