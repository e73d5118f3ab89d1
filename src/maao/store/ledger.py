"""The calls of a run, kept in its `run.sqlite`: a reply that was paid for is never asked for again."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maao.errors import StoreError
from maao.llm.chat import Reply, Request, reply_from_json, reply_to_json
from maao.llm.ledger import Totals
from maao.store.database import DATABASE, Database
from maao.store.files import reading
from maao.store.rows import insert
from maao.store.values import column_int, column_number, column_text, number_column, text_column

SECRETS = {
    "api_key", "apikey", "x_api_key", "key", "authorization", "proxy_authorization", "cookie", "token", "access_token", "auth_token",
    "bearer", "secret", "client_secret", "password", "credentials",
}  # fmt: skip
HIDDEN = "(not stored)"


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call, for showing. `request` and `reply` are JSON; `date` is when the reply came, `created` when it was stored (UTC)."""

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


class SqliteLedger:
    """A `Ledger` in a run's database. Reading is for everyone, `put` for who opened the run for writing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Reply | None:
        rows = self._database.rows("SELECT reply FROM calls WHERE key = ?", (key,))
        with reading(self._database.folder / DATABASE):
            return reply_from_json(column_text(rows[0]["reply"])) if rows else None

    def put(self, request: Request, reply: Reply) -> None:
        """Record a call. It is on the disk when this returns. Settings that look like a credential are not stored.

        Recording the same reply again does nothing. Raises `StoreError` for another reply to a recorded call, or when writing fails.
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
            with self._database.transaction() as connection:
                insert(connection, [("calls", columns)])
        except sqlite3.IntegrityError as error:
            if self.get(request.key) != reply:
                raise StoreError(
                    f"Call {request.key} is already recorded in {self._database.folder} with another reply. "
                    "A recorded reply is never replaced."
                ) from error

    def totals(self) -> Totals:
        rows = self._database.rows("SELECT input_tokens, output_tokens, usd FROM calls ORDER BY id")
        with reading(self._database.folder / DATABASE):
            return Totals(
                calls=len(rows),
                input_tokens=sum(column_int(row["input_tokens"]) for row in rows),
                output_tokens=sum(column_int(row["output_tokens"]) for row in rows),
                usd=sum((column_number(row["usd"]) for row in rows), 0.0),
            )

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
                    input_tokens=column_int(row["input_tokens"]),
                    output_tokens=column_int(row["output_tokens"]),
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
    hidden = _struck(data["extra"])
    return request.canonical() if hidden == data["extra"] else json.dumps({**data, "extra": hidden}, sort_keys=True, ensure_ascii=False)


def _struck(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: HIDDEN if k.lower().replace("-", "_") in SECRETS else _struck(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_struck(v) for v in value]
    return value
