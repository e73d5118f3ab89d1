"""What a server answered, read: every field is looked at before anything is made of it, and nothing it can hold raises.

`read_answer` is the one reader for all servers. It knows the shapes that they are known to send: content as text or as a list of parts,
thoughts beside it, errors of many forms (also with status 200), counts of tokens that are none.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from maao.llm.chat import CUT, Reply, Request, Usage, as_count, estimate_tokens

SHOWN = 300  # characters of what a server said
LONGEST_NAME = 200  # characters of a model's name or a finish reason
DEEPEST = 8  # levels of an error that are looked into
TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
THOUGHT_PARTS = frozenset({"thinking", "reasoning", "reasoning_content", "redacted_thinking"})
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
SAID_IN = ("message", "error", "detail", "details", "errors", "error_description", "msg", "description", "title", "reason")
NAMED_STATUS = (  # statuses of errors that are told by name alone
    (429, re.compile(r"rate.?limit|resource.?exhausted|too.?many.?requests", re.I)),
    (503, re.compile(r"overloaded|unavailable|server.?error|internal|timeout|timed out", re.I)),
    (401, re.compile(r"authentication|invalid.?api.?key|unauthenticated", re.I)),
)
_TITLE = re.compile(r"<title[^>]*>([^<]*)", re.I)
_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset(?:-\w+)?|\w+-reset)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h|d)")
SECONDS_IN = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over the wire; names of `headers` in lower case. `held_key`: the key stood in the body, and was struck out."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    held_key: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """An answer that is no reply. `status` is what the server means, which may stand in the body; below 400: it is not understood.

    `words` are the server's own (or say what is wrong with the answer), `wait_seconds` is how long it asks to wait, `opens_in` after how
    many seconds a limit that it tells of is open again: the tightest of them, which need not be the one that it means.
    """

    status: int
    words: str
    code: str = ""
    param: str = ""
    wait_seconds: float | None = None
    opens_in: float | None = None


def read_answer(answer: Answer, request: Request, model: str) -> Reply | Trouble:
    """Return the reply, or what stands in its place. `model` is the name of a model whose server gives none.

    Example:
        >>> body = b'{"choices": [{"message": {"content": [{"type": "text", "text": "hi"}]}}]}'
        >>> read_answer(Answer(200, {}, body), Request("m", ()), "m").text
        'hi'
    """
    value = _json(answer.body)
    if answer.status >= 300:
        return _trouble(answer, value, answer.status)
    if isinstance(value, _NotJson):
        return Trouble(answer.status, value.words)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        return Trouble(answer.status, f"its answer is {_kind(value)}, where an object was expected")
    choice = _first(value.get("choices"))
    error = value if value.get("object") == "error" else value.get("error") or (choice.get("error") if choice else None)
    if choice is None or error:
        if error or _words(value):
            return _trouble(answer, error or value, None)
        return Trouble(answer.status, f"its `choices` is {_kind(value.get('choices'))}, where a list of replies was expected")
    return _reply(value, choice, answer.status, request, model)


def _reply(value: Mapping[str, object], choice: Mapping[str, object], status: int, request: Request, model: str) -> Reply | Trouble:
    source: object = choice if request.style == "completion" and "text" in choice else choice.get("message")
    if not isinstance(source, dict):
        return Trouble(status, f"its `message` is {_kind(source)}, where an object was expected")
    field = "text" if source is choice else "content"
    try:
        text, thoughts, refusal = _parts(source.get(field))
    except ValueError as error:
        return Trouble(status, f"its `{field}` is {error}, where text was expected")
    thoughts += "".join(_loose_text(source.get(name)) for name in THOUGHTS)
    refusal += _loose_text(source.get("refusal"))
    notes = []
    if text != (whole := without_surrogates(text)):
        text = whole
        notes.append("halves of characters (lone surrogates) were replaced")
    finish = _name(choice.get("finish_reason"))
    usage, told = _usage(value.get("usage"), request, text + thoughts, finish)
    notes += told
    why_empty = ""
    if not text.strip():
        thought = bool(thoughts.strip()) or _thought(value.get("usage"))
        why_empty = _why_empty(finish, thought, shown(refusal), bool(source.get("tool_calls")), request.max_tokens)
    named = value.get("model")
    return Reply(
        text=text,
        usage=usage,
        model=(_name(named) if isinstance(named, str) else "") or model,
        finish_reason=finish,
        note="; ".join(notes),
        why_empty=why_empty,
    )


def _parts(content: object) -> tuple[str, str, str]:
    """Return the text, the thoughts and the refusal of a message's content. Raises `ValueError` for what is none of these."""
    if content is None:
        return "", "", ""
    if isinstance(content, str):
        return content, "", ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise ValueError(_kind(content))
    found: dict[str, list[str]] = {"text": [], "thoughts": [], "refusal": []}
    for part in content:
        if isinstance(part, str):
            found["text"].append(part)
            continue
        if not isinstance(part, dict):
            raise ValueError(f"a list that holds {_kind(part)}")
        kind = part.get("type", "text")
        kind = kind if isinstance(kind, str) else _kind(kind)
        if kind in THOUGHT_PARTS:
            found["thoughts"].append(_loose_text(part.get("thinking") or part.get("text") or part.get("reasoning")) or "...")
        elif kind == "refusal":
            found["refusal"].append(_loose_text(part.get("refusal")))
        elif kind in TEXT_PARTS and isinstance(part.get("text"), str | dict):
            found["text"].append(_loose_text(part["text"]))
        else:
            raise ValueError(f"a list with a part of the type {shown(kind, 40)!r}")
    return "".join(found["text"]), "".join(found["thoughts"]), "".join(found["refusal"])


def _loose_text(value: object) -> str:
    """Return the text in a value that nothing depends on; "" where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        inner = value.get("value", value.get("text"))
        return inner if isinstance(inner, str) else ""
    if isinstance(value, list):
        return "".join(_loose_text(item) for item in value if isinstance(item, str | dict))
    return ""


def _why_empty(finish: str, thought: bool, refusal: str, calls_tool: bool, max_tokens: int) -> str:
    if finish.lower() in CUT:
        when = "while thinking" if thought else "before a word of the reply"
        return f"cut at {max_tokens} tokens {when}: raise mentor.max_tokens"
    told = f"finish reason: {finish or 'none given'}"
    if refusal:
        return f"the model refused: {refusal}"
    if calls_tool:
        return f"the model called a tool, and it has none ({told})"
    if thought:
        return f"the model thought and said nothing ({told})"
    return f"the reply is empty ({told})"


def _usage(counted: object, request: Request, said: str, finish: str) -> tuple[Usage, list[str]]:
    """Return the tokens that a call took. What is no count, or 0 where something was read or written, is estimated from above."""
    counts = counted if isinstance(counted, dict) else {}
    read = as_count(counts.get("prompt_tokens", counts.get("input_tokens")))
    written = as_count(counts.get("completion_tokens", counts.get("output_tokens")))
    estimated = not read or written is None or (written == 0 and bool(said))
    if not estimated:
        assert read is not None and written is not None
        return Usage(read, written), []
    if not written and (said or written is None):
        written = max(estimate_tokens(said), request.max_tokens if finish.lower() in CUT else 0)
    note = "tokens are estimated: the server " + ("sent counts that are none" if counts else "does not count them")
    return Usage(read or estimate_tokens(request.text), written or 0, estimated=True), [note]


def _thought(counted: object) -> bool:
    details = counted.get("completion_tokens_details") if isinstance(counted, dict) else None
    return bool(as_count(details.get("reasoning_tokens"))) if isinstance(details, dict) else False


def _first(choices: object) -> Mapping[str, object] | None:
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None


def _name(value: object) -> str:
    """Return a name in a server's answer as text, whatever its type."""
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason") or value.get("name")
    if not isinstance(value, str | int | float):
        return ""
    return shown(str(value), LONGEST_NAME)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", dict: "an object"}
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return names.get(type(value), type(value).__name__)


# -- errors


@dataclass(frozen=True, slots=True)
class _NotJson:
    words: str
    plain: str = ""  # what stands there, where it is mere text


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        return _NotJson("its answer is not text in UTF-8")
    except RecursionError:
        return _NotJson("its answer is nested too deeply")
    except ValueError:
        return _of_text(body)


def _of_text(body: bytes) -> _NotJson:
    """Say what an answer is that is no JSON."""
    text = body[:4096].decode("utf-8", "replace").strip()
    if not text:
        return _NotJson("its answer is empty")
    title = _TITLE.search(text)
    if title is not None:
        return _NotJson(f"its answer is the web page {shown(title[1])!r}")
    return _NotJson(f"its answer is no JSON: {shown(text, 80)!r}", shown(text))


def _trouble(answer: Answer, value: object, status: int | None) -> Trouble:
    """Return what an error says; its `status` is looked for in it where the answer's own says nothing."""
    error = _innermost(value)
    words = (value.plain or value.words) if isinstance(value, _NotJson) else shown(_words(value))
    code = next((_name(error[name]) for name in ("code", "type", "status") if _name(error.get(name))), "")
    names = " ".join(_name(error.get(name)) for name in ("code", "type", "status"))
    if "insufficient_quota" in names:
        code = "insufficient_quota"
    found = status if status is not None else _status(error, f"{names} {words}")
    param = error.get("param")
    now = _time(answer.headers.get("date", "")) or time.time()
    told = _told_headers(answer.headers, error)
    return Trouble(
        status=found,
        words=words or _phrase(found),
        code=code,
        param=param if isinstance(param, str) else "",
        wait_seconds=_asked_pause(told, error, now) if found in (429, 503) else None,
        opens_in=_until_reset(told, now) if found == 429 else None,
    )


def _innermost(value: object) -> Mapping[str, object]:
    """Return the object that describes an error."""
    for _ in range(DEEPEST):
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, dict):
            break
        inner = value.get("error")
        if not isinstance(inner, dict | list) or not inner:
            return value
        value = inner
    return {}


def _status(error: Mapping[str, object], said: str) -> int:
    for name in ("code", "status", "status_code", "http_code"):
        found = error.get(name)
        if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) == 3:
            found = int(found)
        if isinstance(found, int) and 400 <= found <= 599:
            return found
    return next((status for status, names in NAMED_STATUS if names.search(said)), 400)


def _words(value: object, depth: int = 0) -> str:
    """Return what an error says, whatever its shape."""
    if isinstance(value, str):
        return value.strip()
    if depth > DEEPEST:
        return ""
    if isinstance(value, list):
        return "; ".join(said for item in value[:5] if (said := _words(item, depth + 1)))
    if not isinstance(value, dict):
        return ""
    said = next((said for name in SAID_IN if (said := _words(value.get(name), depth + 1))), "")
    place = value.get("loc")
    if said and isinstance(place, list):  # pydantic's: where in the body
        said = f"{'.'.join(_name(part) for part in place[:6])}: {said}"
    beside = value.get("metadata")
    raw = beside.get("raw") if isinstance(beside, dict) else None
    return f"{said} ({raw.strip()})" if said and isinstance(raw, str) else said


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "it does not say why"


def shown(text: str, length: int = SHOWN) -> str:
    """Return a server's words on one line, without what a terminal would obey, and not too long.

    Example:
        >>> shown("slow\\n\\x1b[31mdown", 9)
        'slow [31m ...'
    """
    text = text[: 4 * length]
    line = " ".join("".join(c if c.isprintable() else " " for c in without_surrogates(text)).split())
    return line if len(line) <= length else f"{line[:length]} ..."


def without_surrogates(text: str) -> str:
    """Return a text whose surrogates are joined to characters, or replaced where their other half is missing.

    Example:
        >>> without_surrogates("a\\ud83d\\ude00b\\ud83d") == "a\\U0001f600b\\ufffd"
        True
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# -- pauses


def _told_headers(headers: Mapping[str, str], error: Mapping[str, object]) -> dict[str, str]:
    """Return an answer's headers, with those that an error tells of: a provider's whom the server asked in turn."""
    beside = error.get("metadata")
    inner = beside.get("headers") if isinstance(beside, dict) else None
    told = {name.lower(): value for name, value in (inner if isinstance(inner, dict) else {}).items() if isinstance(value, str)}
    return {**told, **headers}


def _asked_pause(headers: Mapping[str, str], error: Mapping[str, object], now: float) -> float | None:
    """Return how many seconds a server asks to wait, by any of the ways to say so; None: it does not say."""
    milliseconds = _seconds(headers.get("retry-after-ms", ""), now)
    asked = [
        milliseconds / 1000 if milliseconds is not None else None,
        _seconds(headers.get("retry-after", ""), now),
        _retry_delay(error, now),
    ]
    return next((seconds for seconds in asked if seconds is not None), None)


def _until_reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return when the limits are open again that are used up; else all that do not say what remains; else the one with least left."""
    used_up, unknown, left = [], [], []
    for name, value in headers.items():
        seconds = _seconds(value, now) if _RESET.fullmatch(name) else None
        if seconds is None:
            continue
        remaining, limit = (_number(headers.get(name.replace("reset", word), "")) for word in ("remaining", "limit"))
        if remaining is None:
            unknown.append(seconds)
        elif remaining <= 0:
            used_up.append(seconds)
        else:
            left.append((remaining / limit if limit else None, remaining, seconds))
    if used_up or unknown:
        return max(used_up or unknown)
    shares = all(share is not None for share, _, _ in left)  # requests and tokens are compared by what share of them is left
    return min(((share if shares else remaining) or 0.0, seconds) for share, remaining, seconds in left)[1] if left else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _retry_delay(error: Mapping[str, object], now: float) -> float | None:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str):
            return _seconds(delay, now)
    return None


def _seconds(text: str, now: float) -> float | None:
    """Return the seconds from now that a header's value means: a number, a duration, a moment in seconds or milliseconds, a date.

    Example:
        >>> [_seconds(text, 1e9) for text in ("20", "1m30s", "1000000005", "Sun, 09 Sep 2001 01:46:50 GMT", "soon")]
        [20.0, 90.0, 5.0, 10.0, None]
    """
    text = text.strip()[:100]
    try:
        number = float(text)
    except ValueError:
        number = None
    if number is not None:
        if number > 1e11:
            number /= 1000
        seconds = number - now if number > 1e8 else number
    elif text and not _DURATION.sub("", text):
        seconds = sum(float(count) * SECONDS_IN[unit] for count, unit in _DURATION.findall(text))
    else:
        moment = _time(text)
        if moment is None:
            return None
        seconds = moment - now
    return seconds if seconds > 0 else None


def _time(text: str) -> float | None:
    """Return a date in one of HTTP's forms, or in ISO 8601, as seconds since 1970."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None
