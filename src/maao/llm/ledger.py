"""Models that wrap models: one that records every reply, one that speaks only from the record.

A ledger maps a request's key to the reply it got. A reply is in the ledger before anyone sees it, so a run that stops after a paid call
does not pay for it again. A call that failed is no reply and is not recorded: the next run may ask again. Here the ledger lives in
memory; the run folder's (`maao.store`) does the same on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from operator import add
from time import perf_counter
from typing import Any, Protocol

from maao.errors import BudgetError, ChatError, LedgerMiss, StoreError
from maao.llm.chat import Reply, Request, what_is_wrong
from maao.llm.price import FREE, Price
from maao.protocols import ChatModel
from maao.types import Rejected


@dataclass(frozen=True, slots=True)
class Totals:
    """What the recorded calls spent together."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, reply: Reply) -> Totals:
        """Return the totals with one more call."""
        used = reply.usage
        return self + Totals(1, used.input_tokens, used.output_tokens, used.usd)

    def __add__(self, other: Totals) -> Totals:
        return Totals(*map(add, astuple(self), astuple(other)))


class Ledger(Protocol):
    """Where replies are kept."""

    def get(self, key: str) -> Reply | None: ...

    def put(self, request: Request, reply: Reply) -> None:
        """Keep a reply for good: when this returns, `get(request.key)` gives it, also after a crash where the ledger is on disk."""
        ...

    def unusable(self, key: str) -> str:
        """Say what is wrong with a recorded reply that `get` does not give for that reason; "": there is no such reply."""
        ...

    def totals(self) -> Totals: ...


class MemoryLedger:
    """A ledger that lasts as long as the process.

    Example:
        >>> ledger, request = MemoryLedger(), Request("m", ())
        >>> ledger.put(request, Reply("hello"))
        >>> ledger.get(request.key).text, ledger.totals().calls
        ('hello', 1)
    """

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Request, Reply]] = {}

    def get(self, key: str) -> Reply | None:
        entry = self.entries.get(key)
        return entry[1] if entry else None

    def put(self, request: Request, reply: Reply) -> None:
        stored = self.get(request.key)
        if stored is not None and stored != reply:
            raise StoreError(f"Call {request.key} is already recorded with another reply. A recorded reply is never replaced.")
        self.entries.setdefault(request.key, (request, reply))

    def unusable(self, key: str) -> str:
        return ""  # nothing comes in but through `put`

    def totals(self) -> Totals:
        totals = Totals()
        for _, reply in self.entries.values():
            totals = totals.plus(reply)
        return totals


class Wrapper:
    """Base of a model around another: under its name, where it is and at its price. A child says how it `complete`s."""

    def __init__(self, model: ChatModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def is_remote(self) -> bool:
        return self.model.is_remote

    @property
    def price(self) -> Price | None:
        return self.model.price

    def close(self) -> None:
        self.model.close()


class Recorded(Wrapper):
    """A model that asks another only what the ledger cannot answer, and records the reply before returning it.

    What is no reply (text that is none, counts that are none) is a `ChatError` and is not recorded; one that an older maao recorded is
    asked for again, and the new reply's note says so. `live_calls` counts the calls that went past the ledger, those that failed included.

    Example:
        >>> from maao.llm.scripted import Scripted
        >>> model = Recorded(Scripted(["hello"]), MemoryLedger())
        >>> request = Request("scripted", ())
        >>> model.complete(request).text, model.complete(request).text, model.live_calls
        ('hello', 'hello', 1)
    """

    def __init__(self, model: ChatModel, ledger: Ledger) -> None:
        super().__init__(model)
        self.ledger = ledger
        self.live_calls = 0

    def complete(self, request: Request) -> Reply:
        stored = self.ledger.get(request.key)
        if stored is not None:
            return stored
        self.live_calls += 1
        started = perf_counter()
        reply = self.model.complete(request)
        refuse_unusable(self.name, reply)
        healed = self.ledger.unusable(request.key)
        if healed:
            note = f"asked again, since the reply recorded before cannot be used: {healed}"
            reply = replace(reply, note=f"{reply.note}; {note}" if reply.note else note)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        reply = replace(reply, date=reply.date or now, seconds=reply.seconds or perf_counter() - started)
        self.ledger.put(request, reply)
        return reply


class WithExtra(Wrapper):
    """A model whose every request carries further fields for the provider. It stands outside the record: they are part of the key.

    Example:
        >>> from maao.llm.scripted import Scripted
        >>> WithExtra(Scripted(lambda request: str(request.extra["top_k"])), {"top_k": 5}).complete(Request("m", ())).text
        '5'
    """

    def __init__(self, model: ChatModel, extra: Mapping[str, Any]) -> None:
        super().__init__(model)
        self.extra = extra

    def complete(self, request: Request) -> Reply:
        return self.model.complete(replace(request, extra={**self.extra, **request.extra}))


class Replayed:
    """A model that speaks only from the ledger, under the name of the model that was recorded.

    `failures` are the calls that gave no reply, in their order: such a call left no reply, so it fails again as it did.
    """

    is_remote = False
    price = FREE

    def __init__(self, ledger: Ledger, name: str, failures: Iterable[Rejected] = ()) -> None:
        self.ledger = ledger
        self.name = name
        self.live_calls = 0
        self._failures = iter(failures)

    def complete(self, request: Request) -> Reply:
        """Return the recorded reply. Raises `LedgerMiss` when there is none, `ChatError` for a call that failed when it was made."""
        reply = self.ledger.get(request.key)
        if reply is None:
            failure = next(self._failures, None)
            if failure is not None:
                raise BudgetError(failure.reason) if failure.kind == "capped" else ChatError(failure.reason)
            unusable = self.ledger.unusable(request.key)
            if unusable:
                raise LedgerMiss(
                    f"Replay of {self.name!r} needs a call whose recorded reply cannot be used: {unusable} (key {request.key}). "
                    "`maao resume` asks the model again where the run stopped there; a finished run stays as it is, and cannot be replayed."
                )
            raise LedgerMiss(
                f"Replay of {self.name!r} needs a call that was never recorded (key {request.key}, sample {request.sample}). "
                "The instruction, the history or a setting of the mentor has changed since, or the run stopped before this call. "
                "`maao resume` asks the model again for what is missing."
            )
        return reply

    def close(self) -> None:
        """There is nothing to let go of."""


def refuse_unusable(name: str, reply: Reply) -> None:
    """Raise `ChatError` where a model gave what is no reply."""
    wrong = what_is_wrong(reply)
    if wrong:
        raise ChatError(f"{name} gave a reply that cannot be used: {wrong}.")
