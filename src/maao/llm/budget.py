"""Hard caps on calls, tokens and money, kept before a call is made.

Every attempt is written down before it goes, at its worst case: an upper estimate of the prompt's tokens plus the whole token limit of the
reply (`Account`). A reply takes the place of that; what brought none keeps counting, in the next process too. So a cap holds over kills,
and, for an account that processes share, over all that spend from it at once. An attempt that a server refused outright (a status of 300
to 499, but for 408), or that reached nobody, is a call that took nothing.

`Recorded(Capped(...))` is the order: replies from the ledger cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

from maao.errors import BudgetError, ConfigError, Waiting
from maao.llm.chat import Reply, Request, estimate_tokens
from maao.llm.ledger import Account, Totals, Wrapper, refuse_unusable, used_by
from maao.llm.price import Price
from maao.protocols import ChatModel, HasReplies

# What a chat template adds to the text: a default system turn and the marks around each message.
CHAT_TOKENS = 48
MESSAGE_TOKENS = 8
REFUSED = Totals(calls=1)  # what an attempt took that was not answered for sure: nothing was read or written


def worst_case_tokens(request: Request) -> tuple[int, int]:
    """Return the most tokens that a call may read and write. A schema is read too, where a server shows it to its model.

    Example:
        >>> from maao.llm.chat import Message
        >>> worst_case_tokens(Request("m", (Message("user", "Say hello."),), max_tokens=20))
        (74, 20)
    """
    template = CHAT_TOKENS + MESSAGE_TOKENS * len(request.messages) if request.style == "chat" else 0
    schema = 0 if request.schema is None else estimate_tokens(json.dumps(dict(request.schema)))
    return estimate_tokens(request.text) + template + schema, request.max_tokens


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent from an account; None does not bind. `whose` stands before "cap" in what is told."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    whose: str = "the"

    @property
    def bind(self) -> bool:
        return self.calls is not None or self.tokens is not None or self.usd is not None

    def refusal(self, spent: Totals, worst: Totals) -> str:
        """Return why a call is not made that could take `worst`; "": it may be made."""
        told = f", with {spent.unanswered} that failed counted at their most" if spent.unanswered else ""
        if self.calls is not None and spent.calls + worst.calls > self.calls:
            return f"Call not made: {self.whose} cap of {self.calls} calls is reached ({spent.calls} made{told})."
        if self.tokens is not None and spent.tokens + worst.tokens > self.tokens:
            return (
                f"Call not made: {self.whose} cap is {self.tokens} tokens, {spent.tokens} are spent{told}, and this call could take "
                f"{worst.tokens} (prompt at most {worst.input_tokens}, reply at most {worst.output_tokens})."
            )
        if self.usd is not None and not spent.usd + worst.usd <= self.usd:  # what is not known (NaN) may be too much
            return (
                f"Call not made: {self.whose} cap is ${self.usd:g}, ${spent.usd:.6g} is spent{told}, and this call could cost "
                f"${worst.usd:.6g} (prompt at most {worst.input_tokens} tokens, reply at most {worst.output_tokens})."
            )
        return ""


class Meter:
    """Writes the attempts of one model down in accounts, each with its caps, before they go. Without accounts it does nothing.

    A reply at hand, of a record, was paid for when it was given: it counts for the run alone (`accounts`), as it would have then, and not
    for what runs share. Where replies come by file, an attempt that waits for one is the same attempt when it is asked for again.

    Example:
        >>> from maao.llm.chat import Message
        >>> from maao.llm.ledger import MemoryLedger
        >>> ledger, request = MemoryLedger(), Request("m", (Message("user", "Say hello."),), max_tokens=20)
        >>> attempt = Meter([(ledger, Caps(calls=1))], Price(1.0, 10.0)).begin(request)
        >>> ledger.spent()
        Totals(calls=1, input_tokens=74, output_tokens=20, usd=0.000274, unanswered=1)
        >>> attempt.end(REFUSED)
        >>> ledger.spent()
        Totals(calls=1, input_tokens=0, output_tokens=0, usd=0.0, unanswered=1)
    """

    def __init__(
        self, accounts: Sequence[tuple[Account, Caps]] = (), price: Price | None = None, *, shared: Sequence[tuple[Account, Caps]] = ()
    ) -> None:
        self.accounts, self.price = (*accounts, *shared), price
        self._own = tuple(accounts)

    def worst(self, request: Request) -> Totals:
        """Return what a call may take; money as far as its price is known."""
        read, written = worst_case_tokens(request)
        return Totals(1, read, written, float("nan") if self.price is None else self.price.usd(read, written))

    def check(self, request: Request, *, by_file: bool = False, at_hand: bool = False) -> None:
        """Raise `BudgetError` where a call would be refused now."""
        worst = self.worst(request)
        for account, caps in self._own if at_hand else self.accounts:
            if not caps.bind or (by_file and account.waiting(request.key) is not None):
                continue
            if why := caps.refusal(account.spent(), worst):
                raise BudgetError(why)

    def begin(self, request: Request, *, by_file: bool = False, at_hand: bool = False) -> Attempt:
        """Write an attempt down before it goes. Raises `BudgetError`, and nothing is written, where it could pass a cap.

        Args:
            by_file: the reply may be one that an earlier attempt waits for; each call to a server is an attempt of its own.
            at_hand: the reply is there already.
        """
        worst = self.worst(request)
        held: list[tuple[Account, int]] = []
        new = Attempt([])
        try:
            for account, caps in self.accounts:
                number = account.waiting(request.key) if by_file else None
                if number is None and at_hand and (account, caps) not in self._own:
                    continue
                if number is None:
                    number = account.begin(request.key, worst, partial(caps.refusal, worst=worst))
                    new.held.append((account, number))
                held.append((account, number))
        except BudgetError:
            new.end(Totals())
            raise
        return Attempt(held)


@dataclass(frozen=True)
class Attempt:
    """An attempt that was written down. Where nothing is said of it, it stays at its worst case."""

    held: list[tuple[Account, int]]

    def end(self, used: Totals) -> None:
        """It brought no reply and took this; no calls: it did not go."""
        for account, number in self.held:
            account.end(number, used)

    def replied(self, reply: Reply) -> None:
        for account, number in self.held:
            account.replied(number, used_by(reply))

    def waits(self) -> None:
        """Its reply comes later: it stays at its worst case, and is the same attempt when it is asked for again."""
        for account, number in self.held:
            account.waits(number)


class CountedOnce(Wrapper):
    """A model each call of which is one attempt, whatever it tries within. What is no reply is a `ChatError`."""

    def __init__(self, model: ChatModel, meter: Meter) -> None:
        super().__init__(model)
        self.meter = meter

    def complete(self, request: Request) -> Reply:
        attempt = self.meter.begin(request, by_file=isinstance(self.model, HasReplies), at_hand=_is_at_hand(self.model, request))
        try:
            reply = self.model.complete(request)
        except Waiting:
            attempt.waits()
            raise
        refuse_unusable(self.name, reply)
        attempt.replied(reply)
        return reply


class Capped(Wrapper):
    """A model that is not asked where the call's worst case would pass a cap of its meter's accounts. `asked`: who is asked in the end.

    Raises:
        ConfigError: money is capped and the model's price is unknown.
    """

    def __init__(self, model: ChatModel, meter: Meter, asked: ChatModel | None = None) -> None:
        for _, caps in meter.accounts:
            if caps.usd is not None and model.price is None:
                raise ConfigError(
                    f"Cannot keep a cap of ${caps.usd:g}: the price of {model.name!r} is unknown. "
                    "Set its price (US dollars per million input tokens and per million output tokens), or cap calls or tokens instead."
                )
        super().__init__(model)
        self.meter, self.asked = meter, asked or model

    def complete(self, request: Request) -> Reply:
        """Return the model's reply. Raises `BudgetError`, without asking, when the call's worst case would pass a cap."""
        self.meter.check(request, by_file=isinstance(self.asked, HasReplies), at_hand=_is_at_hand(self.asked, request))
        return self.model.complete(request)


def _is_at_hand(model: ChatModel, request: Request) -> bool:
    return isinstance(model, HasReplies) and model.has_reply(request)


# -- what runs spend from together

_SHARED: ContextVar[tuple[tuple[Account, Caps], ...]] = ContextVar("shared_accounts", default=())


@contextmanager
def spending_from(account: Account, caps: Caps) -> Iterator[None]:
    """Within this, all calls of all runs are written down in this account too, and held to its caps."""
    token = _SHARED.set((*_SHARED.get(), (account, caps)))
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared_accounts() -> tuple[tuple[Account, Caps], ...]:
    """Return what calls are spent from beside their run's own account."""
    return _SHARED.get()
