"""Replies on record: a file of JSON lines that anyone may replay, each a whole request with the reply to it, who gave it, when and how.

    {"key": "c1:...", "sample": 0, "request": {...}, "reply": {"text": ..., ...}, "who": "", "when": "2026-01-31T12:00:00+00:00", "how": ""}

`request` is the request's canonical form, and `key` its hash: a line whose key is not that of its request is refused. Lines are sorted by
key, so that two records can be compared and merged line by line. A folder is the record of all its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from pydantic import ValidationError

from maao.errors import StoreError
from maao.llm.chat import Reply, Request, Usage, request_from_json, what_is_wrong
from maao.llm.ledger import refuse_secret
from maao.llm.price import Price
from maao.llm.secrets import variable_in
from maao.store.files import reading, sync_folder, write_durably, write_error
from maao.store.recorded import Record
from maao.types import JSON

ENDING = ".jsonl"
BUSY_SECONDS = 30.0  # a record is written in milliseconds


class Entry(NamedTuple):
    """A request and the reply to it; who, when (`Reply.date`) and how stand in the reply."""

    request: Request
    reply: Reply


class ReplyLine(Record):
    """A reply, as a line holds it. `usd`: None where it is not known."""

    text: str
    model: str = ""
    finish_reason: str = "stop"
    input_tokens: int
    output_tokens: int
    estimated: bool = False
    usd: float | None = None
    note: str = ""
    why_empty: str = ""


class Line(Record):
    """A line of a record."""

    key: str
    sample: int
    request: JSON
    reply: ReplyLine
    who: str = ""
    when: str = ""
    how: str = ""


def line_of(entry: Entry) -> str:
    """Return an entry as a line. What is not known of the money it cost is null. Raises `StoreError` where it holds a secret."""
    request, reply = entry
    refuse_secret(request)
    usage = reply.usage
    answer = {
        "text": reply.text,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": usage.estimated,
        "usd": None if math.isnan(usage.usd) else usage.usd,
        **{name: told for name, told in (("note", reply.note), ("why_empty", reply.why_empty)) if told},
    }
    whole = {
        "key": request.key,
        "sample": request.sample,
        "request": json.loads(request.canonical()),
        "reply": answer,
        "who": reply.who,
        "when": reply.date,
        "how": reply.how,
    }
    line = json.dumps(whole, ensure_ascii=False)
    refuse_key(line, request.key)
    return line


def refuse_key(line: str, request: str) -> None:
    """Raise `StoreError` where a line that is to be written holds a key of the environment."""
    variable = variable_in(line)
    if variable:
        raise StoreError(f"What is to be written of the request {request} holds the key of ${variable}: it is not written.")


def entry_of(line: str) -> Entry:
    """Return the entry of a line. Raises `ValueError`, which says what is wrong.

    Example:
        >>> entry = Entry(Request("m", ()), Reply("hi", Usage(3, 1), who="a person"))
        >>> entry_of(line_of(entry)) == entry, entry_of(line_of(entry)).reply.who
        (True, 'a person')
    """
    try:
        held = Line.model_validate(json.loads(line))  # not pydantic's own reader: that takes no lone surrogates
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise ValueError(f"{where}: {wrong['msg'][0].lower()}{wrong['msg'][1:]}".removeprefix(": ")) from None
    request = request_from_json(json.dumps(held.request))
    if held.key != request.key:
        raise ValueError(f"its key {held.key[:20]!r} is not that of its request, {request.key}")
    if held.sample != request.sample:
        raise ValueError(f"its sample is {held.sample}, and its request's {request.sample}")
    told = held.reply
    usage = Usage(told.input_tokens, told.output_tokens, math.nan if told.usd is None else told.usd, told.estimated)
    reply = Reply(
        told.text, usage, told.model, told.finish_reason, told.note, told.why_empty, date=held.when, who=held.who, how=held.how
    )  # fmt: skip
    if problem := what_is_wrong(reply):
        raise ValueError(problem)
    return Entry(request, reply)


def files_of(place: Path) -> list[Path]:
    """Return the files of a record: one, or all of a folder; none where there is nothing yet."""
    if place.is_dir():
        return sorted(place.glob(f"*{ENDING}"))
    return [place] if place.exists() else []


def read_record(place: Path) -> Mapping[str, Entry]:
    """Return a record's entries by their keys; none where there is no file yet.

    Raises:
        StoreError: a line is none, or two lines answer one request differently.
    """
    found: dict[str, Entry] = {}
    for file in files_of(place):
        state = file.stat()
        for key, entry in _read(file, state.st_mtime_ns, state.st_size).items():
            if found.setdefault(key, entry) != entry:
                raise StoreError(f"{file} answers the request {key} otherwise than another file of {place}. Take one of the lines out.")
    return found


@lru_cache(maxsize=64)
def _read(file: Path, changed: int, size: int) -> Mapping[str, Entry]:
    """Return the entries of a file as it stands: cells of a comparison read the same one over and over."""
    found: dict[str, Entry] = {}
    with reading(file):
        for number, line in enumerate(file.read_bytes().decode().split("\n"), start=1):
            if not line.strip():
                continue
            try:
                entry = entry_of(line)
                if found.setdefault(entry.request.key, entry) != entry:
                    raise ValueError("an earlier line answers the same request otherwise")
            except ValueError as error:
                raise StoreError(f"{file}, line {number}: {error}. Mend the line, or take it out.") from None
    return found


def add_to_record(file: Path, entries: Iterable[Entry]) -> int:
    """Merge entries into a file, which is written whole or not at all; return how many were new.

    Raises:
        StoreError: the file cannot be read or written, or holds another reply to one of the requests. It is as it was then.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=BUSY_SECONDS):
            held = dict(read_record(file))
            before = len(held)
            for entry in entries:
                key = entry.request.key
                if held.setdefault(key, entry) != entry:
                    raise StoreError(f"{file} already holds another reply to the request {key}. A recorded reply is never replaced.")
            if len(held) > before:
                text = "".join(f"{line_of(held[key])}\n" for key in sorted(held))
                write_durably(file, text.encode("utf-8", "backslashreplace"))  # a lone surrogate becomes its JSON escape
                sync_folder(file.parent)
    except Timeout as error:
        raise StoreError(
            f"{file} stayed locked by another process, which is writing it or was stopped while it did. It is as it was. End that process, "
            "then try again."
        ) from error
    except OSError as error:
        raise write_error(file, error, safe="It is as it was.", then="try again") from error
    return len(held) - before


def priced(reply: Reply, price: Price | None) -> Reply:
    """Return a reply with what it cost, where it does not say it: by a price, or NaN where there is none.

    Example:
        >>> asked = Reply("hi", Usage(1_000_000, 0, math.nan))
        >>> priced(asked, Price(0.5, 2.0)).usage.usd, priced(asked, None).usage.usd
        (0.5, nan)
    """
    used = reply.usage
    if not math.isnan(used.usd):
        return reply
    usd = math.nan if price is None else price.usd(used.input_tokens, used.output_tokens)
    return replace(reply, usage=replace(used, usd=usd))
