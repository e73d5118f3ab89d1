"""Models without a model: replies written beforehand, and a model that always fails. For tests, examples and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from pydantic import Field

from maao.errors import ChatError, ConfigError
from maao.llm.chat import Reply, Request, Usage, estimate_tokens
from maao.llm.price import FREE
from maao.llm.provider import ChatOptions, Here


class Scripted:
    """A pure function of the request: a callable is asked for the text; of a list, sample k gets reply k (counted round and round).

    There is no counter inside, so the same request gets the same reply however often and in whatever order it is asked. A script
    that should change from round to round looks at the request, which holds the history in words.

    Example:
        >>> Scripted(["a", "b"]).complete(Request("scripted", (), sample=3)).text
        'b'
        >>> Scripted(lambda request: request.text.upper()).complete(Request("scripted", ())).text
        ''
    """

    is_remote = False
    price = FREE

    def __init__(self, replies: Callable[[Request], str] | Sequence[str], name: str = "scripted") -> None:
        if isinstance(replies, str) or (not callable(replies) and not replies):
            raise ConfigError(f"Scripted replies are a callable or a list of at least one text; got {replies!r}.")
        self.replies = replies
        self.name = name

    def complete(self, request: Request) -> Reply:
        text = self.replies(request) if callable(self.replies) else self.replies[request.sample % len(self.replies)]
        usage = Usage(estimate_tokens(request.text), estimate_tokens(text), estimated=True)
        return Reply(text=text, usage=usage, model=self.name)

    def close(self) -> None:
        """There is nothing to let go of."""


class FailingModel:
    """A model that never replies: it raises the error it was given (a text becomes a `ChatError`)."""

    is_remote = False
    price = FREE

    def __init__(self, error: Exception | str = "This model always fails.", name: str = "failing") -> None:
        self.error = ChatError(error) if isinstance(error, str) else error
        self.name = name

    def complete(self, request: Request) -> NoReturn:
        raise self.error

    def close(self) -> None:
        """There is nothing to let go of."""


class ScriptedOptions(ChatOptions):
    """Settings of `Scripted`."""

    replies: list[str] = Field(default_factory=list, description="What it says: of several, sample k gets reply k.")

    def model_name(self, tuned: str) -> str:
        return self.name or "scripted"

    def where(self, name: str) -> str:
        return "nobody: replies are scripted"

    def build(self, here: Here) -> Scripted:
        return Scripted(self.replies, self.model_name(here.tuned))
