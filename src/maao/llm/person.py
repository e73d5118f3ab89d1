"""A person at the terminal in the place of a language model: reads the same words, types the reply."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from copy import copy
from threading import TIMEOUT_MAX
from typing import ClassVar, TextIO

from maao.errors import ChatError
from maao.llm.chat import Reply, Request
from maao.llm.in_time import out_of_time
from maao.llm.price import FREE
from maao.llm.provider import ChatOptions, Here
from maao.printable import printable


class Person:
    """Shows a request's text and reads lines until an empty one (or the end of input).

    The streams default to the terminal that the program runs in, looked up when a request comes.
    """

    is_remote = False
    price = FREE

    def __init__(self, stream_in: TextIO | None = None, stream_out: TextIO | None = None, name: str = "person") -> None:
        self.stream_in = stream_in
        self.stream_out = stream_out
        self.name = name
        self._left: Callable[[], float] | None = None

    def ending(self, left: Callable[[], float]) -> Person:
        """Return this person, who is waited for as long as there are seconds left."""
        person = copy(self)
        person._left = left
        return person

    def complete(self, request: Request) -> Reply:
        """Return what was typed. Raises `ChatError` where nobody can type, or nothing was typed."""
        stream_in, stream_out = self.stream_in or sys.stdin, self.stream_out or sys.stdout
        if not stream_in.isatty():
            raise ChatError("A person is to answer, but the input is not a terminal. Run this in a terminal, or choose another model.")
        print(f"\n{printable(request.text)}\n\nYour reply (an empty line ends it):", file=stream_out, flush=True)
        lines = []
        while line := self._line(stream_in):
            lines.append(line)
        if not lines:
            raise ChatError("The person at the terminal gave no reply.")
        return Reply(text="\n".join(lines), model=self.name)

    def _line(self, stream: TextIO) -> str:
        """Return the next line. A terminal gives whole lines, one at a time, so that none waits in a buffer of ours."""
        if self._left is not None and not _has_line(stream, self._left()):
            raise out_of_time()
        return stream.readline().rstrip("\r\n")

    def close(self) -> None:
        """There is nothing to let go of."""


def _has_line(stream: TextIO, seconds: float) -> bool:
    """Return whether a line comes within so many seconds; True where that cannot be watched."""
    try:
        return bool(select.select([stream], [], [], min(max(seconds, 0.0), TIMEOUT_MAX))[0])
    except (OSError, ValueError):
        return True


class PersonOptions(ChatOptions):
    """Settings of `Person`."""

    is_person: ClassVar[bool] = True

    def model_name(self, tuned: str) -> str:
        return self.name or "person"

    def where(self, name: str) -> str:
        return "the person at this terminal"

    def build(self, here: Here) -> Person:
        return Person(name=self.model_name(here.tuned))
