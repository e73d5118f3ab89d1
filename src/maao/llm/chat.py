"""What is asked of a language model and what comes back, as values with one canonical form.

The key of a call is a hash of the *whole* request, its sample index included: two samples of one prompt are two calls, and a change of
temperature is another call. The canonical JSON is part of the documented contract; its version stands in front of the hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

KEY_PREFIX = "c1:"  # raise when the canonical form changes, so that old keys are known to be old

CHARACTERS_A_TOKEN = 4  # of English
MOST_TOKENS = 10**9  # that one call could read or write
# Finish reasons of a reply that was cut at the request's `max_tokens`, as servers call them.
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "max_length", "token_limit", "incomplete"})

Style = Literal["chat", "completion"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. `style` "chat" sends `messages`; "completion" asks to continue the one message's text.

    `sample` tells apart several replies to one prompt: it is part of the key, and with `seed` of the sampling, but is not sent as a field.
    `schema` is a JSON schema that the reply of a chat is wanted in: servers are sent it, and where one refuses it the reply's note says so.
    """

    model: str
    messages: tuple[Message, ...]
    style: Style = "chat"
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    sample: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)  # provider settings, sent as they are
    schema: Mapping[str, object] | None = None

    @property
    def text(self) -> str:
        """All that is sent, as one text: what a person is shown, and what a token count is estimated from."""
        return "\n\n".join(message.content for message in self.messages)

    def canonical(self) -> str:
        """Return the request as canonical JSON: sorted keys, no spaces, non-ASCII kept; `schema` only where there is one."""
        fields = asdict(self)
        if self.schema is None:  # as requests were before there were schemas, so that their keys stay
            del fields["schema"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def key(self) -> str:
        """The ledger's key: equal for equal requests, in every process and on every machine.

        Example:
            >>> Request("m", (Message("user", "hi"),)).key == Request("m", (Message("user", "hi"),), sample=1).key
            False
        """
        return KEY_PREFIX + hashlib.sha256(self.canonical().encode("utf-8", "surrogatepass")).hexdigest()


def request_from_json(text: str) -> Request:
    """Return the request of a canonical JSON. Raises `ValueError` for anything else.

    Example:
        >>> request = Request("m", (Message("user", "hi"),), stop=("end",), sample=2)
        >>> request_from_json(request.canonical()) == request
        True
    """
    try:
        data = json.loads(text)
        messages = tuple(Message(**message) for message in data["messages"])
        request = Request(**{**data, "messages": messages, "stop": tuple(data["stop"])})
        whole = json.loads(request.canonical()) == data
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise ValueError("it holds no request") from None
    if not whole or not all(isinstance(part, str) for m in messages for part in (m.role, m.content)):
        raise ValueError("it holds no whole request")
    return request


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them (or as `estimate_tokens` did, where `estimated`), and what they cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `model` is the name that the provider gave back, `date` when it came (ISO 8601, UTC).

    `note` says what of the request the provider did not get as it was asked, and what of its answer was not as it should be, in words;
    empty: nothing. `why_empty` says why there is no text, where there is none. `who` answered and `how` are told of replies that came as a
    file (docs/batch.md).
    """

    text: str
    usage: Usage = Usage()
    model: str = ""
    finish_reason: str = "stop"
    note: str = ""
    why_empty: str = ""
    date: str = field(default="", compare=False)
    seconds: float = field(default=0.0, compare=False)
    who: str = field(default="", compare=False)
    how: str = field(default="", compare=False)


def sampling_seed(request: Request) -> int | None:
    """Return the seed that a provider samples with: 31 bits derived from `seed` and `sample`, or None where no seed was asked for.

    Example:
        >>> sampling_seed(Request("m", (), seed=1)) == sampling_seed(Request("m", (), seed=1, sample=1))
        False
    """
    if request.seed is None:
        return None
    digest = hashlib.sha256(f"{request.seed}:{request.sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def reply_to_json(reply: Reply) -> str:
    """Return a reply as JSON; `who` and `how` only where they are told."""
    held = {name: value for name, value in asdict(reply).items() if value or name not in ("who", "how")}
    return json.dumps(held, sort_keys=True, ensure_ascii=False)


def reply_from_json(text: str) -> Reply:
    """Return the reply that `reply_to_json` wrote. Raises `ValueError`, which says what is wrong, for anything else."""
    try:
        data = json.loads(text)
        reply = Reply(**{**data, "usage": Usage(**data["usage"])})
    except (ValueError, RecursionError, TypeError, KeyError):
        raise ValueError("it is damaged") from None
    wrong = what_is_wrong(reply)
    if wrong:
        raise ValueError(wrong)
    return reply


def what_is_wrong(reply: Reply) -> str:
    """Say why a reply cannot be used or recorded; "": nothing. What a model is declared to return is not what every model returns.

    Example:
        >>> what_is_wrong(Reply("hi", Usage(3, 4))), what_is_wrong(Reply("hi", Usage(3, -4)))
        ('', 'its usage is no count of tokens (input_tokens 3, output_tokens -4)')
    """
    texts = (("text", reply.text), ("model", reply.model), ("finish_reason", reply.finish_reason), ("note", reply.note))
    told = (("why_empty", reply.why_empty), ("date", reply.date), ("who", reply.who), ("how", reply.how))
    for name, value in (*texts, *told):
        if not isinstance(value, str):
            return f"its {name} is no text but a {type(value).__name__}"
    usage = reply.usage
    if not isinstance(usage, Usage):
        return f"its usage is no Usage but a {type(usage).__name__}"
    if as_count(usage.input_tokens) is None or as_count(usage.output_tokens) is None:
        counts = f"input_tokens {str(usage.input_tokens)[:40]}, output_tokens {str(usage.output_tokens)[:40]}"
        return f"its usage is no count of tokens ({counts})"
    for name, amount in (("cost", usage.usd), ("seconds", reply.seconds)):
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0 or amount > sys.float_info.max:  # NaN: not known
            return f"its {name} is {str(amount)[:40]}, no amount"
    return ""


def as_count(value: object) -> int | None:
    """Return a number of tokens, or None for what cannot be one: no whole number, negative, or beyond all reason.

    Example:
        >>> [as_count(value) for value in (12, 12.0, 12.5, -1, True, "12", None, 10**30)]
        [12, 12, None, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS or value != int(value):
        return None
    return int(value)


def tokens_about(usage: Usage, read: str, written: str) -> tuple[int, int]:
    """Return the tokens of a call as they are shown: as counted, and what nobody counted as about a quarter of the characters.

    Such a count stands in the usage as what it was at most (`estimate_tokens`), which caps hold to.

    Example:
        >>> tokens_about(Usage(estimate_tokens("x" * 400), estimate_tokens("y" * 40), estimated=True), "x" * 400, "y" * 40)
        (100, 10)
    """
    counts = ((usage.input_tokens, read), (usage.output_tokens, written))
    about = [
        math.ceil(len(text) / CHARACTERS_A_TOKEN) if usage.estimated and count == estimate_tokens(text) else count for count, text in counts
    ]
    return about[0], about[1]


def estimate_tokens(text: str) -> int:
    """Return an upper estimate of a text's tokens, for caps that must hold before a call is made: a token per byte, and a few.

    A vocabulary that holds all bytes never needs more, and most of today's do. English takes a token per three to five bytes, so that
    the estimate is several times what a call really reads.
    """
    return len(text.encode("utf-8", "surrogatepass")) + 8
