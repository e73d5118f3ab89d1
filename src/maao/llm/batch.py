"""Replies that come as a file: a run writes down what it would ask, stops, and goes on once the replies are there.

So a run needs no network (its requests go to a machine that has one, or to a person), providers that answer such files take half their
price, and what was answered once is replayed by anyone. `maao requests` takes requests out and replies in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pydantic import Field

from maao.errors import ConfigError, Waiting
from maao.llm.chat import Reply, Request
from maao.llm.openai_compatible import OPENAI, check_extra
from maao.llm.price import Price, known_price
from maao.llm.provider import ChatOptions, Here
from maao.llm.record import ENDING, priced, read_record
from maao.options import Options, Text

BATCH_DISCOUNT = 0.5  # what providers take for files of requests, beside their list price

_RECORD: ContextVar[Path | None] = ContextVar("record", default=None)


@contextmanager
def replies_from(record: Path | None) -> Iterator[None]:
    """Within this, who names no record reads this one: that of the comparison in whose folder a run lies, wherever that was copied."""
    token = _RECORD.set(record)
    try:
        yield
    finally:
        _RECORD.reset(token)


class Batch:
    """A chat model that knows the replies of a record, and waits for all others.

    Example:
        >>> Batch("m", None).complete(Request("m", ()))
        Traceback (most recent call last):
        maao.errors.Waiting: A reply of 'm' is waited for.
    """

    def __init__(self, name: str, replies: Path | None, *, is_remote: bool = True, price: Price | None = None) -> None:
        self.name, self.replies, self.is_remote, self.price = name, replies, is_remote, price

    def complete(self, request: Request) -> Reply:
        """Return the reply on record. Raises `Waiting` where there is none."""
        entry = read_record(self.replies).get(request.key) if self.replies is not None else None
        if entry is None:
            raise Waiting(f"A reply of {self.name!r} is waited for.")
        return priced(entry.reply, self.price)

    def has_reply(self, request: Request) -> bool:
        """Return whether the record answers a request."""
        return self.replies is not None and request.key in read_record(self.replies)

    def close(self) -> None:
        """Nothing is held."""


class BatchOptions(ChatOptions):
    """Settings of `Batch`."""

    replies: Text | None = Field(None, description="A record of replies: a .jsonl file or a folder of such. It may come to be later.")
    remote: bool = Field(True, description="Whether requests leave this machine, by whatever carries the file.")
    extra: Options = Field(default_factory=dict, description="Further fields of the request's body, as {reasoning_effort = 'low'}.")
    usd_per_million_input: float | None = Field(None, ge=0, le=1e9, description="Price of a batch; by default looked up.")
    usd_per_million_output: float | None = Field(None, ge=0, le=1e9, description="Price of a batch; by default looked up.")
    discount: float = Field(BATCH_DISCOUNT, ge=0, lt=1, description="What is taken off a price that is looked up.")

    @property
    def is_remote(self) -> bool:
        return self.remote

    @property
    def may_cost(self) -> bool:
        """What is asked by file is paid by who sends it; what that costs at most, `maao requests list` says."""
        return False

    @property
    def fields(self) -> Mapping[str, object]:
        return self.extra

    def unread(self) -> Mapping[str, str]:
        given = self.usd_per_million_input is not None or self.usd_per_million_output is not None
        return {"discount": "the price is given: drop it"} if given else {}

    def model_name(self, tuned: str) -> str:
        return self.name or "batch"

    def where(self, name: str) -> str:
        told = f"; replies on record: {self.record}" if self.record is not None else ""
        return f"{name}, by file (maao requests){told}"

    def build(self, here: Here) -> Batch:
        if not self.name:
            raise ConfigError("mentor.chat.provider = 'batch' needs mentor.chat.name, the model that is to answer.")
        check_extra(self.extra)
        return Batch(self.name, self._record(), is_remote=self.remote, price=self.price(self.name))

    @property
    def record(self) -> Path | None:
        """Where replies on record are."""
        return _RECORD.get() if self.replies is None else Path(self.replies)

    def _record(self) -> Path | None:
        place = self.record
        if place is None:
            return None
        if not place.is_dir() and (place.suffix != ENDING or not place.parent.is_dir()):
            raise ConfigError(f"mentor.chat.replies is a {ENDING} file in a folder that exists, or a folder of such files; got {place}.")
        return place

    def price(self, name: str) -> Price | None:
        """Return what a model's tokens cost in a batch; None where it is not known."""
        read, written = self.usd_per_million_input, self.usd_per_million_output
        if read is None and written is None:
            found = known_price(name, OPENAI)
            left = 1 - self.discount
            return None if found is None else Price(found.input * left, found.output * left)
        if read is None or written is None:
            raise ConfigError("Set both mentor.chat.usd_per_million_input and usd_per_million_output, or neither.")
        return Price(read, written)
