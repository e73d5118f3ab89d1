"""What a run, or many, will ask of a model that may cost money, told before it begins.

The mentor is asked once, at the beginning, with a model that answers nothing behind it: so it calls as often as it does for one asking, and
its prompts can be counted. Later prompts tell what was tried, and are longer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from maao.build_mentor import build_mentor
from maao.core.budget import Budget
from maao.core.seeds import seed_for
from maao.llm.budget import Caps, worst_case_tokens
from maao.llm.chat import Reply, Request, Usage
from maao.llm.ledger import MemoryLedger, Wrapper
from maao.llm.price import Price
from maao.protocols import ChatModel
from maao.store.values import decode, encode
from maao.types import JSON, Leg

if TYPE_CHECKING:
    from maao.build import RunComponents
    from maao.config import Config
    from maao.errors import MaaoError

BYTES_A_TOKEN = 4  # of English; a worst case counts a token a byte


@dataclass(frozen=True)
class Estimate:
    """What is asked of whom.

    Attributes:
        who: the models that are asked, and where.
        askings: how often a mentor is asked.
        calls: how many calls that takes at most, retries aside; None: not known before.
        tries: how often one call is tried at most.
        read: tokens of prompts, about.
        written: tokens of replies, at most.
        usd: dollars, about; NaN: a price is not known.
        most_usd: dollars for prompts of this length at their most tokens, retries aside.
        unbuilt: what cannot be built, and why, so that what it asks is not known.
    """

    who: tuple[str, ...]
    askings: int
    calls: int | None
    tries: int
    read: int
    written: int
    usd: float
    most_usd: float
    unbuilt: tuple[str, ...] = ()

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            tuple(dict.fromkeys((*self.who, *other.who))),
            self.askings + other.askings,
            None if self.calls is None or other.calls is None else self.calls + other.calls,
            max(self.tries, other.tries),
            self.read + other.read,
            self.written + other.written,
            self.usd + other.usd,
            self.most_usd + other.most_usd,
            self.unbuilt + other.unbuilt,
        )

    def times(self, count: float) -> Estimate:
        """Return what so many of the same take; rounded up."""
        return replace(
            self,
            askings=math.ceil(self.askings * count),
            calls=None if self.calls is None else math.ceil(self.calls * count),
            read=math.ceil(self.read * count),
            written=math.ceil(self.written * count),
            usd=self.usd * count,
            most_usd=self.most_usd * count,
        )

    @property
    def is_free(self) -> bool:
        return self.most_usd == 0

    def told(self, what: str, caps: Caps) -> str:
        """Return it in words, for a person to decide by.

        Example:
            >>> one = Estimate(("gpt-x at the OpenAI API",), 4, 8, 4, 6400, 1600, 0.0019, 0.0049)
            >>> for line in one.told("This run", Caps(usd=1.0)).split("; "):
            ...     print(line)
            This run asks gpt-x at the OpenAI API. Estimate: 4 askings, at most 8 calls (each tried up to 4 times)
            about 6,400 tokens read and at most 1,600 written
            about $0.0019, at most $0.0049, if nothing is tried twice and prompts stay as long as the first. Caps: $1.
        """
        lacks = f"Not all of it can be estimated: {'; '.join(self.unbuilt)}. " if self.unbuilt else ""
        asks = f"{what} asks {', '.join(self.who)}. {lacks}Estimate: {self.askings} asking{'s' * (self.askings != 1)}"
        if self.calls is None:
            return f"{asks}; how many calls these take, and what they cost, is not known before. {_told(caps)}"
        tries = f" (each tried up to {self.tries} times)" if self.tries > 1 else ""
        money = "what that costs is not known" if math.isnan(self.usd) else f"about ${self.usd:.4f}, at most ${self.most_usd:.4f}"
        return (
            f"{asks}, at most {self.calls} call{'s' * (self.calls != 1)}{tries}; about {self.read:,} tokens read and at most "
            f"{self.written:,} written; {money}, if nothing is tried twice and prompts stay as long as the first. {_told(caps)}"
        )

    def to_json(self) -> JSON:
        held = encode(self, Estimate)
        assert isinstance(held, dict)
        return held

    @staticmethod
    def from_json(held: JSON) -> Estimate:
        found: Estimate = decode(held, Estimate)
        return found


def _told(caps: Caps) -> str:
    held = [
        *([] if caps.calls is None else [f"{caps.calls:,} calls"]),
        *([] if caps.tokens is None else [f"{caps.tokens:,} tokens"]),
        *([] if caps.usd is None else [f"${caps.usd:g}"]),
    ]
    return f"Caps: {', '.join(held)}." if held else "There is no cap on it ([budget])."


def caps_of(budget: Budget) -> Caps:
    """Return what a run may spend on calls."""
    return Caps(budget.llm_calls, budget.llm_tokens, budget.usd)


def estimated(parts: RunComponents, done: int = 0) -> Estimate | None:
    """Return what the rest of a run will ask, behind its first `done` legs; None where nobody is asked who may cost money."""
    options, tuned = parts.config.mentor.options, parts.config.model.speaker
    asking = [leg for leg in parts.plan[done:] if leg.ask]
    paid = [chat for chat in options.chats if chat.may_cost]
    if not asking or not paid:
        return None
    names = [chat.model_name(tuned) for chat in paid]
    who = tuple(chat.where(name) for chat, name in zip(paid, names, strict=True))
    price = next((chat.price(name) for chat, name in zip(paid, names, strict=True)), None)
    once = _of(_asked(parts, asking[0]), who, max(chat.tries for chat in paid), price)
    return once.times(len(asking))


def not_built(config: Config, what: str, error: MaaoError) -> Estimate:
    """Return the estimate of what cannot be built: it may make any number of calls."""
    who = tuple(chat.where(chat.model_name(config.model.speaker)) for chat in config.mentor.options.chats if chat.may_cost)
    return Estimate(who, 0, None, 1, 0, 0, math.nan, math.nan, (f"{what} cannot be built ({str(error).rstrip('.')})",))


def _of(requests: list[Request], who: tuple[str, ...], tries: int, price: Price | None) -> Estimate:
    """Return what one asking takes."""
    worst = [worst_case_tokens(request) for request in requests]
    most, written = sum(read for read, _ in worst), sum(written for _, written in worst)
    read = math.ceil(most / BYTES_A_TOKEN)
    usd, most_usd = (math.nan, math.nan) if price is None else (price.usd(read, written), price.usd(most, written))
    return Estimate(who, 1, len(requests) or None, tries, read, written, usd, most_usd)


class _AnswersNothing(Wrapper):
    """Writes down what it is asked. Nobody is asked."""

    def __init__(self, model: ChatModel, requests: list[Request]) -> None:
        super().__init__(model)
        self.requests = requests

    def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply("", Usage(), why_empty="nobody was asked")


def _asked(parts: RunComponents, leg: Leg) -> list[Request]:
    """Return what a mentor asks at the beginning, where nothing that comes back can be used; none where that cannot be found out."""
    requests: list[Request] = []
    free = replace(parts, budget=Budget())
    mentor = build_mentor(free, MemoryLedger(), wrap=lambda model: _AnswersNothing(model, requests)).mentor
    try:
        mentor.propose((), count=leg.proposals, seed=seed_for(parts.config.seed, "mentor", 0))
    except Exception:  # a plugin's mentor may not like an empty history: then it is not known, and said so
        return []
    return requests


def summed(estimates: Iterable[Estimate]) -> Estimate | None:
    """Return what several take together; None for none."""
    total: Estimate | None = None
    for one in estimates:
        total = one if total is None else total + one
    return total
