"""Models that wrap models: one that records every reply, one that speaks only from the record.

A ledger maps a request's key to the reply it got. A reply is in the ledger before anyone sees it, so a run that stops after a paid call
does not pay for it again. A call that failed is no reply and is not recorded: the next run may ask again. Here the ledger lives in
memory; the run folder's (`maao.store`) does the same on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Protocol

from maao.errors import BudgetError, ChatError, LedgerMiss, StoreError, Waiting
from maao.llm.chat import Reply, Request, what_is_wrong
from maao.llm.price import FREE, Price
from maao.llm.secrets import names_secret
from maao.protocols import ChatModel
from maao.types import Rejected


@dataclass(frozen=True, slots=True)
class Totals:
    """What calls spent together. `usd` is NaN where a price is not known; `unanswered`: how many of them brought no reply."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unanswered: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, reply: Reply) -> Totals:
        """Return the totals with one more call."""
        return self + used_by(reply)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.usd + other.usd,
            self.unanswered + other.unanswered,
        )


def used_by(reply: Reply) -> Totals:
    """Return what a reply took."""
    return Totals(1, reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.usd)


class Account(Protocol):
    """Where attempts are written down before they go, each at its worst case, until it is known what it came to.

    So what is spent is never more than the account says, whenever a process is killed.
    """

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str]) -> int:
        """Write an attempt for the request `key` down, for good, and return its number.

        Looking at what is spent and writing are one step, whoever else spends from the account.

        Raises:
            BudgetError: `refusal` says of what is spent so far why this would be too much; nothing is written.
        """
        ...

    def end(self, attempt: int, used: Totals) -> None:
        """An attempt without a reply took this. Where nobody says so, it stays at its worst case."""
        ...

    def replied(self, attempt: int, used: Totals) -> None:
        """There is a reply. A ledger counts it where it is `put`."""
        ...

    def waits(self, attempt: int) -> None:
        """Its reply comes later."""
        ...

    def waiting(self, key: str) -> int | None:
        """Return the attempt that waits for the reply to a request; None: none does, or no more."""
        ...

    def spent(self) -> Totals:
        """Return what replies took, and the attempts without one."""
        ...


class Ledger(Account, Protocol):
    """Where replies are kept. Putting one ends the last attempt for its request, in one step."""

    def get(self, key: str) -> Reply | None: ...

    def put(self, request: Request, reply: Reply) -> None:
        """Keep a reply for good: when this returns, `get(request.key)` gives it, also after a crash where the ledger is on disk."""
        ...

    def unusable(self, key: str) -> str:
        """Say what is wrong with a recorded reply that `get` does not give for that reason; "": there is no such reply."""
        ...

    def totals(self) -> Totals: ...

    def note_asked(self, request: Request) -> None:
        """Note a request for good before it goes, once however often it is said: of one without a reply nothing else is left."""
        ...

    def wait_for(self, request: Request) -> None:
        """Note for good that a reply is waited for, once however often it is said. Raises `StoreError` where it holds a secret."""
        ...

    def awaited(self) -> tuple[Request, ...]:
        """Return the requests whose replies are waited for and have not come, in the order in which they were noted."""
        ...


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
        self._waiting: dict[str, Request] = {}
        self._attempts: dict[int, tuple[str, Totals]] = {}  # those without a reply
        self._waits: dict[str, int] = {}  # the attempt that waits for a reply, of each request
        self._begun = 0
        self._totals = Totals()  # of the entries

    def clear(self) -> None:
        """Forget the replies, and what waits; not what attempts without a reply took."""
        self.entries.clear()
        self._waiting.clear()
        self._totals = Totals()

    def get(self, key: str) -> Reply | None:
        entry = self.entries.get(key)
        return entry[1] if entry else None

    def put(self, request: Request, reply: Reply) -> None:
        stored = self.get(request.key)
        if stored is not None and not is_same(stored, reply):
            raise StoreError(f"Call {request.key} is already recorded with another reply. A recorded reply is never replaced.")
        if stored is None:
            self.entries[request.key] = request, reply
            self._totals = self._totals.plus(reply)
        last = max((number for number, (key, _) in self._attempts.items() if key == request.key), default=None)
        if last is not None:
            self._leave(last)

    def unusable(self, key: str) -> str:
        return ""  # nothing comes in but through `put`

    def totals(self) -> Totals:
        return self._totals

    def begin(self, key: str, worst: Totals, refusal: Callable[[Totals], str]) -> int:
        if why := refusal(self.spent()):
            raise BudgetError(why)
        self._begun += 1
        self._attempts[self._begun] = key, replace(worst, unanswered=1)
        return self._begun

    def end(self, attempt: int, used: Totals) -> None:
        key = self._leave(attempt)
        if used.calls:
            self._attempts[attempt] = key, replace(used, unanswered=1)

    def replied(self, attempt: int, used: Totals) -> None:
        """`put` counts it."""

    def waits(self, attempt: int) -> None:
        self._waits[self._attempts[attempt][0]] = attempt

    def waiting(self, key: str) -> int | None:
        return self._waits.get(key)

    def _leave(self, attempt: int) -> str:
        """Count an attempt no longer, and let it wait no longer; return its request's key."""
        key, _ = self._attempts.pop(attempt)
        if self._waits.get(key) == attempt:
            del self._waits[key]
        return key

    def spent(self) -> Totals:
        return sum((totals for _, totals in self._attempts.values()), self.totals())

    def note_asked(self, request: Request) -> None:
        """What lasts as long as the process tells nobody afterwards."""

    def wait_for(self, request: Request) -> None:
        refuse_secret(request)
        self._waiting.setdefault(request.key, request)

    def awaited(self) -> tuple[Request, ...]:
        return tuple(request for key, request in self._waiting.items() if key not in self.entries)


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
    asked for again, and the new reply's note says so. What has to be waited for is noted in the ledger before the run stops.
    `live_calls` counts the calls that went past the ledger, those that failed included.

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
        try:
            reply = self.model.complete(request)
        except Waiting:
            self.ledger.wait_for(request)
            raise
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


def refuse_secret(request: Request) -> None:
    """Raise `StoreError` for a request that would carry a secret into files which go from hand to hand."""
    secret = names_secret(dict(request.extra))
    if secret:
        raise StoreError(
            f"A request to {request.model!r} holds '{secret}' among its further fields, and what waits is written into files: drop it. "
            "Who sends them gives the key."
        )


def is_same(one: Reply, other: Reply) -> bool:
    """Return whether two replies are the same: a cost that is not known is as one that is not known."""
    return _by_value(one) == _by_value(other)


def _by_value(reply: Reply) -> tuple[Reply, bool]:
    unknown = math.isnan(reply.usage.usd)
    return (replace(reply, usage=replace(reply.usage, usd=0.0)) if unknown else reply), unknown
