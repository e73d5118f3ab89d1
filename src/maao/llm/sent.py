"""What a run sent to the models that it asked, recorded however it ends: to whom, which fields, whether training text was in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from maao.llm.chat import Request
from maao.printable import printable_line

SHORTEST_TEXT = 12  # characters: what is shorter stands in other words too
LOOKED_AT = 60  # characters of a text: a longer one may be shown cut


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        told: what was said of it before the run.
        to: whom it was sent to, and where.
        leaves: whether it left this machine.
        requests: how many went out, each counted once however often it was tried.
        unanswered: how many of them brought no reply: a server may have read them all the same.
        fields: what of a request was sent, by the names that servers know it by.
        training_texts: how many texts of `train` stood in them, out of `looked_for`, those of 12 or more characters.
    """

    told: str
    to: tuple[str, ...]
    leaves: bool
    requests: int
    fields: tuple[str, ...]
    training_texts: int
    looked_for: int
    unanswered: int = 0

    def line(self) -> str:
        """Return it in a line.

        Example:
            >>> Sent("", ("gpt-x at the OpenAI API",), True, 2, ("messages", "model"), 0, 24).line()
            'Sent to gpt-x at the OpenAI API: 2 requests (messages, model), in which stood none of 24 training texts; it left this machine.'
        """
        texts = f"{self.training_texts or 'none'} of {self.looked_for} training texts"
        where = "left" if self.leaves else "stayed on"
        counted = f"{self.requests} request{'s' * (self.requests != 1)}"
        counted += f", {self.unanswered} of them without a reply" if self.unanswered else ""
        return f"Sent to {', '.join(self.to)}: {counted} ({', '.join(self.fields)}), in which stood {texts}; it {where} this machine."


def fields_of(request: Request) -> tuple[str, ...]:
    """Return the fields of a request that a server is sent.

    Example:
        >>> fields_of(Request("m", (), stop=("end",), extra={"top_k": 5}))
        ('max_tokens', 'messages', 'model', 'stop', 'temperature', 'top_k')
    """
    held = {"model", "max_tokens", "temperature", "messages" if request.style == "chat" else "prompt", *request.extra}
    more = {
        "top_p": request.top_p != 1,
        "seed": request.seed is not None,
        "stop": bool(request.stop),
        "response_format": bool(request.schema),
    }
    return tuple(sorted({*held, *(name for name, is_sent in more.items() if is_sent)}))


def texts_in(requests: Iterable[str], texts: Iterable[str]) -> tuple[int, int]:
    """Return how many texts stand in some requests, and how many were looked for. White space and quotation marks are not told apart.

    Example:
        >>> texts_in(['Misread:\\n- "a star wins  the cup"'], ["a star wins the cup", "the bank raises its rates", "short"])
        (1, 2)
    """
    looked_for = {_plain(max(text.split("\n"), key=len, default=""))[:LOOKED_AT] for text in texts}
    looked_for = {text for text in looked_for if len(text) >= SHORTEST_TEXT}
    lengths: dict[str, set[int]] = defaultdict(set)  # of the texts that begin so: many may begin alike
    for text in looked_for:
        lengths[text[:SHORTEST_TEXT]].add(len(text))
    found: set[str] = set()
    for line in {_plain(line) for request in requests for line in request.splitlines()}:
        for place in range(len(line) - SHORTEST_TEXT + 1):
            for length in lengths.get(line[place : place + SHORTEST_TEXT], ()):
                if (text := line[place : place + length]) in looked_for:
                    found.add(text)
    return len(found), len(looked_for)


def _plain(text: str) -> str:
    return printable_line(text.replace('"', "").replace("\\", ""))


def sent(
    told: str,
    to: Sequence[str],
    requests: Sequence[tuple[Request, str]],
    texts: Iterable[str],
    *,
    leaves: bool,
    unanswered: Sequence[Request] = (),
) -> Sent:
    """Return what was sent.

    Args:
        requests: those that brought a reply, each with the note of the reply, which says what was left out.
        texts: the training texts.
        unanswered: those that brought none.
    """
    requests = [*requests, *((request, "") for request in unanswered)]
    fields = sorted({name for request, note in requests for name in fields_of(request) if f"{name} was not sent" not in note})
    found, looked_for = texts_in([request.text for request, _ in requests], texts)
    return Sent(told, tuple(to), leaves, len(requests), tuple(fields), found, looked_for, len(unanswered))
