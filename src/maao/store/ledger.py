"""The calls of a run, kept in its `run.sqlite`: a reply that was paid for is never asked for again."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from maao.errors import StoreError
from maao.llm.chat import Reply, Request, as_count, estimate_tokens, reply_from_json, reply_to_json, request_from_json, tokens_about
from maao.llm.ledger import Totals, is_same, refuse_secret
from maao.llm.secrets import struck
from maao.store.attempts import Attempts, end_last
from maao.store.database import DATABASE, Database
from maao.store.files import reading
from maao.store.rows import insert
from maao.store.values import column_int, column_number, column_text, number_column, text_column

SET_ASIDE = "set aside "  # in the key of a reply that could not be used, behind the key that it had


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call, for showing. `request` and `reply` are JSON; `date` is when the reply came, `created` when it was stored (UTC).

    Counts of an old record that are none are 0 here.
    """

    key: str
    request: str
    reply: str
    model: str
    date: str
    seconds: float
    input_tokens: int
    output_tokens: int
    usd: float
    created: str

    @property
    def note(self) -> str:
        """What the reply's provider did not get as it was asked; "" too where the reply cannot be read."""
        try:
            return reply_from_json(self.reply).note
        except ValueError:
            return ""

    @property
    def about(self) -> tuple[int, int, bool]:
        """Tokens in and out as they are shown, and whether they are estimated (`tokens_about`); as stored where that cannot be read."""
        try:
            reply, request = reply_from_json(self.reply), request_from_json(self.request)
        except ValueError:
            return self.input_tokens, self.output_tokens, False
        return *tokens_about(reply.usage, request.text, reply.text), reply.usage.estimated


class SqliteLedger:
    """A `Ledger` in a run's database. Reading is for everyone, `put` for who opened the run for writing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = Attempts(database)
        self._summed, self._totals = 0, Totals()  # calls only ever come behind: what was summed is not read again

    def get(self, key: str) -> Reply | None:
        """Return the recorded reply; None where there is none, or one that cannot be used (see `unusable`)."""
        return self._read(key)[0]

    def unusable(self, key: str) -> str:
        return self._read(key)[1]

    def _read(self, key: str) -> tuple[Reply | None, str]:
        """Return the recorded reply, or what is wrong with it."""
        rows = self._database.rows("SELECT reply FROM calls WHERE key = ?", (key,))
        if not rows:
            return None, ""
        with reading(self._database.folder / DATABASE):
            text = column_text(rows[0]["reply"])
        try:
            return reply_from_json(text), ""
        except (ValueError, AttributeError) as error:
            return None, str(error)

    def put(self, request: Request, reply: Reply) -> None:
        """Record a call. It is on the disk when this returns. Settings that look like a credential are not stored.

        Recording the same reply again does nothing. A recorded reply that cannot be used is set aside, under a key that nobody asks for:
        it may have been paid for, so it stays in the totals. Raises `StoreError` for another reply to a recorded call, or when writing
        fails.
        """
        columns = {
            "key": request.key,
            "model": text_column(reply.model or request.model),
            "request": text_column(_without_secrets(request)),
            "reply": text_column(reply_to_json(reply)),
            "date": reply.date,
            "seconds": number_column(reply.seconds),
            "input_tokens": reply.usage.input_tokens,
            "output_tokens": reply.usage.output_tokens,
            "usd": number_column(reply.usage.usd),
            "created": now(),
        }
        try:
            set_aside = bool(self.unusable(request.key))
            with self._database.transaction() as connection:
                if set_aside:
                    connection.execute("UPDATE calls SET key = key || ' ' || ? || id WHERE key = ?", (SET_ASIDE, request.key))
                insert(connection, [("calls", columns)])
                connection.execute("DELETE FROM asked WHERE key = ?", (request.key,))
                end_last(connection, request.key)
        except sqlite3.IntegrityError as error:
            held = self.get(request.key)
            if held is None or not is_same(held, reply):
                raise StoreError(
                    f"Call {request.key} is already recorded in {self._database.folder} with another reply. "
                    "A recorded reply is never replaced."
                ) from error

    def totals(self) -> Totals:
        """Return what was spent. Counts of an old record that are none are estimated from above, so that they lower no cap."""
        rows = self._database.rows(
            "SELECT id, request, reply, input_tokens, output_tokens, usd FROM calls WHERE id > ? ORDER BY id", (self._summed,)
        )
        totals = self._totals
        with reading(self._database.folder / DATABASE):
            for row in rows:
                counts = (as_count(row["input_tokens"]), as_count(row["output_tokens"]))
                read, written = (
                    estimate_tokens(column_text(text)) if count is None else count
                    for count, text in zip(counts, (row["request"], row["reply"]), strict=True)
                )
                totals += Totals(1, read, written, _amount(row["usd"]))
            if rows:
                self._summed, self._totals = column_int(rows[-1]["id"]), totals
        return totals

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str]) -> int:
        """Write an attempt down before it goes. It is on the disk when this returns."""
        replied = self.totals()
        return self._attempts.begin(key, worst, refusal, lambda _, others: replied + others)

    def end(self, attempt: int, used: Totals) -> None:
        self._attempts.end(attempt, used)

    def replied(self, attempt: int, used: Totals) -> None:
        """`put` counts it."""

    def waits(self, attempt: int) -> None:
        self._attempts.waits(attempt)

    def waiting(self, key: str) -> int | None:
        return self._attempts.waiting(key)

    def spent(self) -> Totals:
        """Return what replies took, and attempts without one."""
        return self.totals() + self.unanswered()

    def unanswered(self) -> Totals:
        """Return what attempts without a reply took, each at its most where that is not known."""
        return self._attempts.sums()[1]

    def wait_for(self, request: Request) -> None:
        """Note that a reply is waited for. It is on the disk when this returns; said again, it changes nothing."""
        refuse_secret(request)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO awaited (key, request, created) VALUES (?, ?, ?)",
                (request.key, text_column(request.canonical()), now()),
            )

    def awaited(self) -> tuple[Request, ...]:
        rows = self._database.rows("SELECT key, request FROM awaited WHERE key NOT IN (SELECT key FROM calls) ORDER BY id")
        with reading(self._database.folder / DATABASE):
            found = tuple(request_from_json(column_text(row["request"])) for row in rows)
            for row, request in zip(rows, found, strict=True):
                if request.key != row["key"]:
                    raise ValueError(f"the request {row['key']} is not as it was stored")
        return found

    def note_asked(self, request: Request) -> None:
        """Note a request before it goes. It is on the disk when this returns. Settings that look like a credential are not stored."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO asked (key, request, created) VALUES (?, ?, ?)",
                (request.key, text_column(_without_secrets(request)), now()),
            )

    def asked_in_vain(self) -> tuple[Request, ...]:
        """Return the requests that went and brought no reply, in the order in which they first went."""
        rows = self._database.rows("SELECT request FROM asked WHERE key IN (SELECT key FROM attempts) ORDER BY id")
        with reading(self._database.folder / DATABASE):
            return tuple(request_from_json(column_text(row["request"])) for row in rows)

    def calls(self) -> tuple[Call, ...]:
        """Return all calls in the order they were stored."""
        with reading(self._database.folder / DATABASE):
            return tuple(
                Call(
                    key=column_text(row["key"]),
                    request=column_text(row["request"]),
                    reply=column_text(row["reply"]),
                    model=column_text(row["model"]),
                    date=column_text(row["date"]),
                    seconds=column_number(row["seconds"]),
                    input_tokens=_shown_count(row["input_tokens"]),
                    output_tokens=_shown_count(row["output_tokens"]),
                    usd=column_number(row["usd"]),
                    created=column_text(row["created"]),
                )
                for row in self._database.rows("SELECT * FROM calls ORDER BY id")
            )


def now() -> str:
    """Return the time as dates are stored: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _without_secrets(request: Request) -> str:
    """Return the request's canonical JSON, with what `extra` may carry for the provider's eyes only struck out."""
    data = json.loads(request.canonical())
    hidden = struck(data["extra"])
    return request.canonical() if hidden == data["extra"] else json.dumps({**data, "extra": hidden}, sort_keys=True, ensure_ascii=False)


def _amount(column: object) -> float:
    """Return dollars as they are stored (NaN: not known); 0 for what are none."""
    try:
        usd = column_number(column)
    except (ValueError, TypeError):
        return 0.0
    return 0.0 if usd < 0 or usd == math.inf else usd


def _shown_count(column: object) -> int:
    """Return tokens as they are stored; 0 for a number that is no count, which an older maao stored as a server sent it."""
    return as_count(column) or 0 if isinstance(column, float) else max(0, column_int(column))
