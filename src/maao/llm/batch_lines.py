"""Requests as lines of the OpenAI Batch format, and replies read back: from that format, from a plain one, or from a record.

A request is ``{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}``. A reply is one of

    {"custom_id": ..., "response": {"status_code": 200, "body": {...}}, "error": null}      what a provider's batch gives back
    {"custom_id": ..., "text": ..., "who": ..., "when": ..., "how": ...}                    what a person or a program writes
    {"key": ..., "request": {...}, "reply": {...}, ...}                                     a line of a record (`record.py`)

Each line is judged alone: what is wrong with one is told in words, and costs no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from maao.llm.chat import Reply, Request
from maao.llm.openai_compatible import KEY_STRUCK, Setting, request_body
from maao.llm.record import Entry, entry_of, refuse_key
from maao.llm.secrets import without_keys
from maao.llm.server_reply import Answer, read_answer, shown
from maao.types import JSON

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
LONGEST_ID = 64  # what the strictest provider takes, of letters, digits, "-" and "_"
TEXT_USAGE = ("input_tokens", "output_tokens")


def custom_id(key: str) -> str:
    """Return a request's name in a file: its key, as far as every provider takes it.

    Example:
        >>> request = Request("m", ())
        >>> custom_id(request.key)[:6], len(custom_id(request.key))
        ('c1-151', 64)
    """
    return key.replace(":", "-")[:LONGEST_ID]


def batch_line(request: Request, *, model: str | None = None, leave_out: Collection[Setting] = (), renamed: Collection[str] = ()) -> str:
    """Return a request as a line of the OpenAI Batch format.

    Args:
        model: the name that the provider knows, where it is another than the request's.
        leave_out: settings that are not sent.
        renamed: "max_tokens", for a provider that takes it as ``max_completion_tokens``.

    Raises:
        StoreError: it holds a secret.
    """
    body, _ = request_body(model or request.model, request, set(renamed), frozenset(leave_out))
    url = CHAT if request.style == "chat" else COMPLETION
    line = json.dumps({"custom_id": custom_id(request.key), "method": "POST", "url": url, "body": body}, ensure_ascii=False)
    refuse_key(line, request.key)
    return line


@dataclass(frozen=True)
class Told:
    """Who answered, when and how, for replies that do not say it themselves."""

    who: str = ""
    when: str = ""
    how: str = ""


@dataclass(frozen=True)
class Read:
    """What was read of a file of replies: new ones, what is wrong with lines, and how many said what was known."""

    entries: tuple[Entry, ...]
    wrong: tuple[str, ...]
    repeated: int = 0


def read_replies(
    lines: Iterable[tuple[str, str]], awaited: Iterable[Request], known: Iterable[Entry] = (), told: Told | None = None
) -> Read:
    """Read replies, of which any part may be there.

    Two lines that answer one request differently are both left. What a reply cost in money is not known here (NaN); tokens are counted as
    a line counts them, or estimated from above.

    Args:
        lines: pairs of a place in words ("line 3") and what stands there.
        awaited: requests that may be answered.
        known: what was answered before: the same again is no fault, something else is.
    """
    told = told or Told()
    told = replace(told, when=as_date(told.when) if told.when else datetime.now(UTC).isoformat(timespec="seconds"))
    by_name = {name: request for request in awaited for name in (request.key, custom_id(request.key))}
    before = {entry.request.key: entry for entry in known}
    by_name |= {name: entry.request for key, entry in before.items() for name in (key, custom_id(key))}
    found: dict[str, tuple[str, Entry]] = {}
    twice: set[str] = set()
    wrong, repeated = list[str](), 0
    for place, line in lines:
        if not line.strip():
            continue
        try:
            entry = _entry(line, by_name, told)
            key = entry.request.key
            held = before.get(key)
            if held is not None and held.reply.text != entry.reply.text:
                raise ValueError("the request is answered already, by another text: a recorded reply is never replaced")
            first, other = found.get(key, ("", entry))
            if other.reply.text != entry.reply.text:
                twice.add(key)
                raise ValueError(f"it answers the request of {first} by another text: neither is taken")
        except ValueError as error:
            wrong.append(f"{place}: {error}")
            continue
        repeated += held is not None or bool(first)
        if held is None and not first:
            found[key] = place, entry
    return Read(tuple(entry for key, (_, entry) in found.items() if key not in twice), tuple(wrong), repeated)


def _entry(line: str, by_name: Mapping[str, Request], told: Told) -> Entry:
    """Return the entry of a line. Raises `ValueError`, which says what is wrong."""
    data = _object(line)
    named = next((data[name] for name in ("custom_id", "key", "id") if name in data), None)
    if not isinstance(named, str):
        raise ValueError('it names no request: "custom_id" is missing')
    request = by_name.get(named)
    if request is None:
        raise ValueError(f"nothing that is open here has the id {shown(named, 80)!r}")
    if isinstance(data.get("request"), dict) and isinstance(data.get("reply"), dict):
        entry = entry_of(line)
        if entry.request != request:
            raise ValueError("its request is not the one that is open")
        return entry
    reply = _plain(data, request, told) if "text" in data else _answered(data, request, told)
    if not reply.text.strip():
        raise ValueError(f"it has no text: {reply.why_empty or 'it is empty'}")
    clean = without_keys(reply.text)
    note = "; ".join(filter(None, (reply.note, KEY_STRUCK if clean != reply.text else "")))
    return Entry(request, replace(reply, text=clean, note=note, usage=replace(reply.usage, usd=math.nan)))


def _object(line: str) -> JSON:
    try:
        data = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(f"it is no JSON object but {shown(line, 40)!r}")
    return data


def _answered(data: JSON, request: Request, told: Told) -> Reply:
    """Return the reply of a line that a provider's batch gave back."""
    response, error = data.get("response"), data.get("error")
    if isinstance(response, dict):
        status, body = response.get("status_code", 200), response.get("body")
    elif error:
        status, body = 500, {"error": error}
    else:
        raise ValueError('it holds no reply: "text" or "response" is missing')
    if isinstance(status, bool) or not isinstance(status, int):
        raise ValueError(f"its status is {shown(str(status), 40)!r}, no number")
    read = read_answer(Answer(status, {}, json.dumps(body).encode()), request, request.model)
    if not isinstance(read, Reply):
        raise ValueError(f"it failed with status {read.status}: {read.words}")
    created = body.get("created") if isinstance(body, dict) else None
    return replace(read, date=_moment(created) or told.when, who=told.who or read.model, how=told.how)


def _plain(data: JSON, request: Request, told: Told) -> Reply:
    """Return the reply of a line that a person or a program wrote."""
    text, own = data["text"], {name: data.get(name, "") for name in ("model", "who", "when", "how", "finish_reason")}
    if not isinstance(text, str):
        raise ValueError("its text is no text")
    for name, value in own.items():
        if not isinstance(value, str):
            raise ValueError(f"its {name} is no text")
    usage = data.get("usage") if isinstance(data.get("usage"), dict) else {name: data.get(name) for name in TEXT_USAGE}
    choice = {"message": {"content": text}, "finish_reason": own["finish_reason"] or "stop"}
    if request.style == "completion":
        choice["text"] = text
    body = {"choices": [choice], "usage": usage, "model": own["model"]}
    read = read_answer(Answer(200, {}, json.dumps(body).encode()), request, request.model)
    if not isinstance(read, Reply):
        raise ValueError(read.words)
    note = "tokens are estimated" if read.usage.estimated else read.note
    when = as_date(own["when"]) if own["when"] else told.when
    return replace(read, note=note, date=when, who=own["who"] or told.who or read.model, how=own["how"] or told.how)


def as_date(text: str) -> str:
    """Return a date as it is stored: ISO 8601, in UTC where it does not say its zone.

    Raises:
        ValueError: it is none.

    Example:
        >>> as_date("2026-01-31"), as_date("2026-01-31T12:00:00+02:00")
        ('2026-01-31T00:00:00+00:00', '2026-01-31T12:00:00+02:00')
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{shown(text, 40)!r} is no date as 2026-01-31T12:00:00+00:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _moment(seconds: object) -> str:
    """Return seconds since 1970 as a date; "" for what is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""
