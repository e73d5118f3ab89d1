"""Requests that wait for replies: what is open in a run or a comparison, and how replies come in.

A comparison is a folder with runs in `runs/`; its replies come into the record that its cells read, so that a request which several
cells share is asked once. A run's own replies come into its ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from maao.config import Config, stored_config
from maao.errors import StoreError
from maao.llm.batch import BatchOptions, replies_from
from maao.llm.batch_lines import Read, Told, read_replies
from maao.llm.budget import worst_case_tokens
from maao.llm.chat import Request, reply_from_json, request_from_json
from maao.llm.price import Price
from maao.llm.record import ENDING, Entry, add_to_record, priced, read_record
from maao.mentors.context import AskingOptions
from maao.store.database import DATABASE, Database
from maao.store.ledger import SqliteLedger
from maao.store.recorded import ConfigRecord
from maao.store.run import CONFIG, check_format, check_is_run, is_in_use, read_settings, read_status
from maao.stored_run import open_run

ROWS, RUNS = "rows", "runs"  # of a comparison
RECORD = f"replies{ENDING}"  # at a comparison's root: what its cells read where they name no other record


@dataclass(frozen=True)
class Waits:
    """A run, as far as its requests go.

    Attributes:
        awaited: the requests without a reply, also in the record that it reads.
        record: the record that its config names, or that of the comparison in whose folder it lies; None: there is none.
        stopped: it stopped to wait, or was stopped while it did.
    """

    path: Path
    awaited: tuple[Request, ...]
    record: Path | None
    chat: BatchOptions | None
    stopped: bool


def read_waits(path: Path) -> Waits:
    """Return what a run waits for. Raises `StoreError` for what is no run."""
    check_is_run(path)
    check_format(path)
    chat = batch_options(stored_config(read_settings(path, ConfigRecord), path / CONFIG))
    with replies_from(record_beside(path)):
        record = None if chat is None else chat.record
    database = Database(path, write=False)
    try:
        open_now, status = SqliteLedger(database).awaited(), read_status(database)
    finally:
        database.close()
    stopped = status == "waiting" or (status == "running" and bool(open_now) and not is_in_use(path))
    held = read_record(record) if record is not None and open_now else {}
    return Waits(path, tuple(request for request in open_now if request.key not in held), record, chat, stopped)


def answered_in(path: Path) -> list[Entry]:
    """Return the calls of a run that can be told again: whose request is whole, and whose reply can be used."""
    database = Database(path, write=False)
    try:
        calls = SqliteLedger(database).calls()
    finally:
        database.close()
    found = []
    for call in calls:
        with suppress(ValueError):
            entry = Entry(request_from_json(call.request), reply_from_json(call.reply))
            found += [entry] if entry.request.key == call.key else []
    return found


def batch_options(config: Config) -> BatchOptions | None:
    """Return the settings of a run's replies by file; None where it has none."""
    mentor = config.mentor.options
    chat = mentor.chat.options if isinstance(mentor, AskingOptions) else None
    return chat if isinstance(chat, BatchOptions) else None


def record_beside(run: Path) -> Path | None:
    """Return the record of the comparison in whose folder a run lies; None where it lies in none."""
    place = run.absolute().parent.parent
    return place / RECORD if run.absolute().parent.name == RUNS and (place / ROWS).is_dir() else None


def reading_record(config: Config, record: Path) -> Config:
    """Return a config that names a record for its replies by file, where it names none: so cells of an older maao were begun."""
    chat = batch_options(config)
    if chat is None or chat.replies is not None:
        return config
    mentor = config.mentor.options
    assert isinstance(mentor, AskingOptions)
    return config.model_copy(update={"mentor": config.mentor.with_options(chat=mentor.chat.with_options(replies=str(record)))})


# -- a run or a comparison


def runs_of(place: Path) -> list[Path]:
    """Return the runs of a place: itself, or those of a comparison. Raises `StoreError` where it is neither."""
    if (place / DATABASE).is_file():
        return [place]
    if (place / ROWS).is_dir():
        return sorted(file.parent for file in (place / RUNS).glob(f"*/{DATABASE}"))
    raise StoreError(f"{place} is neither a run folder ({DATABASE}) nor the folder of a comparison ({ROWS}/). Name one of them.")


class Open(NamedTuple):
    """An open request, how many runs wait for its reply, and what tokens cost where it is known."""

    request: Request
    runs: int
    price: Price | None


def open_requests(place: Path) -> Mapping[str, Open]:
    """Return the requests that are open in a run or a comparison, by their keys."""
    found: dict[str, Open] = {}
    for run in runs_of(place):
        waits = read_waits(run)
        for request in waits.awaited:
            runs = found[request.key].runs if request.key in found else 0
            found[request.key] = Open(request, runs + 1, _price(waits, request))
    return found


def at_most(requests: Iterable[Open]) -> str:
    """Say what requests cost at their most: tokens, and money, where the price of all is known.

    Example:
        >>> at_most([Open(Request("m", (), max_tokens=20), 1, Price(1.0, 2.0))])
        'at most 56 tokens read and 20 written, $0.0001'
    """
    read = written = 0
    usd = 0.0
    for request, _, price in requests:
        tokens = worst_case_tokens(request)
        read, written = read + tokens[0], written + tokens[1]
        usd += math.nan if price is None else price.usd(*tokens)
    money = ", at a price that is not known" if math.isnan(usd) else f", ${usd:,.4f}"
    return f"at most {read:,} tokens read and {written:,} written{money}"


def import_replies(place: Path, lines: Iterable[tuple[str, str]], told: Told | None = None) -> Read:
    """Read replies into a run's ledger, or into the record that a comparison's cells read; say what was taken, with what it cost.

    Args:
        lines: pairs of a place in words and what stands there (`batch_lines.py`).
        told: who answered, when and how, for lines that do not say it.

    Raises:
        StoreError: the place is none, or cannot be written. Nothing was taken then, or a part that is not read again as new.
    """
    waits = [read_waits(run) for run in runs_of(place)]
    records = {place / RECORD, *(one.record for one in waits if one.record is not None)}
    own = [entry for one in waits if _takes_itself(one, place) for entry in answered_in(one.path)]
    known = [*own, *(entry for record in sorted(records) for entry in read_record(record).values())]
    read = read_replies(lines, [request for one in waits for request in one.awaited], known, told)
    taken = {entry.request.key: entry for entry in read.entries}
    paid: dict[str, Entry] = {}
    for one in waits:
        answers = [_paid(one, taken[request.key]) for request in one.awaited if request.key in taken]
        for entry in answers:
            paid.setdefault(entry.request.key, entry)
        if answers and not _takes_itself(one, place):
            add_to_record(_file_of(one), answers)
        elif answers:
            with open_run(one.path, write=True) as stored:
                for entry in answers:
                    stored.ledger.put(*entry)
    return replace(read, entries=tuple(paid.get(entry.request.key, entry) for entry in read.entries))


def recorded(place: Path) -> tuple[list[Entry], int]:
    """Return all replies of a run or a comparison, whoever gave them, and how many of them answer a request a second time.

    Of two replies to one request the first is taken: a model that was asked by several cells may have said several things.
    """
    runs = runs_of(place)
    found: dict[str, Entry] = dict(read_record(place / RECORD)) if runs != [place] else {}
    others = 0
    for run in runs:
        for request, reply in answered_in(run):
            entry = Entry(request, replace(reply, who=reply.who or reply.model))
            others += found.setdefault(request.key, entry) != entry
    return list(found.values()), others


def _takes_itself(one: Waits, place: Path) -> bool:
    """Return whether replies come into a run's own ledger: those of a run alone, and of a cell whose mentor reads no record."""
    return one.path == place or one.record is None


def _file_of(one: Waits) -> Path:
    """Return the file that a cell's replies come into: of a folder, that of its mentor."""
    record = one.record
    assert record is not None
    return record / f"{file_stem(one.awaited[0].model)}{ENDING}" if record.is_dir() else record


def file_stem(name: str) -> str:
    """Return a name as a file can have it.

    Example:
        >>> file_stem("org/model: 7 B")
        'org-model--7-B'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _paid(one: Waits, entry: Entry) -> Entry:
    """Return an entry with what it cost, as far as the run's config says what tokens cost."""
    return Entry(entry.request, priced(entry.reply, _price(one, entry.request)))


def _price(one: Waits, request: Request) -> Price | None:
    return None if one.chat is None else one.chat.price(request.model)


# -- in words


def counted(count: int, thing: str = "reply", things: str = "replies") -> str:
    """Return a number of things.

    Example:
        >>> counted(1), counted(2)
        ('1 reply', '2 replies')
    """
    return f"{count} {thing if count == 1 else things}"


def how_to_go_on(place: Path, command: str) -> str:
    """Return the commands that lead on from a stop that waits."""
    return (
        f"  maao requests export {place} --to requests.jsonl      (what is asked, in the OpenAI Batch format)\n"
        f"  maao requests import {place} replies.jsonl           (what was answered; any part of it)\n"
        f"  {command}"
    )
