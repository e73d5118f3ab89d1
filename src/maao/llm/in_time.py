"""Calls that end where the seconds of a run are spent. What is open then may have to be paid for, and counts at its worst case."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context

from maao.core.budget import Clock
from maao.errors import BudgetError
from maao.llm.chat import Reply, Request
from maao.llm.ledger import Wrapper
from maao.protocols import ChatModel, CountsAttempts, EndsInTime, HasReplies


def out_of_time() -> BudgetError:
    """Return the error that a call ends with."""
    return BudgetError("Call ended: the seconds of the run are spent.")


def in_time(model: ChatModel, clock: Clock) -> ChatModel:
    """Return a model whose calls end where the time is up.

    One that cannot end its calls itself (`EndsInTime`) answers on a thread, which is left alone where it takes too long. One that writes
    its attempts down itself, or has replies at hand, is let be: a call of it takes the time that it takes.
    """
    if isinstance(model, EndsInTime):
        return model.ending(clock.left)
    return model if isinstance(model, CountsAttempts | HasReplies) else OnAThread(model, clock.left)


class BegunInTime(Wrapper):
    """A model that is not asked where the time is up."""

    def __init__(self, model: ChatModel, left: Callable[[], float]) -> None:
        super().__init__(model)
        self.left = left

    def complete(self, request: Request) -> Reply:
        if self.left() <= 0:
            raise BudgetError("Call not made: the seconds of the run are spent.")
        return self.model.complete(request)


class OnAThread(Wrapper):
    """A model that is waited for no longer than there is time. What it does then goes on, and is not read.

    Example:
        >>> from maao.llm.scripted import Scripted
        >>> OnAThread(Scripted(["hello"]), lambda: 10.0).complete(Request("scripted", ())).text
        'hello'
    """

    def __init__(self, model: ChatModel, left: Callable[[], float]) -> None:
        super().__init__(model)
        self.left = left

    def complete(self, request: Request) -> Reply:
        replies: list[Reply] = []
        errors: list[BaseException] = []
        context = copy_context()

        def answer() -> None:
            try:
                replies.append(context.run(self.model.complete, request))
            except BaseException as error:  # whatever it is, it is raised where it was waited for
                errors.append(error)

        thread = threading.Thread(target=answer, name=f"asking {self.name}", daemon=True)
        thread.start()
        thread.join(min(max(self.left(), 0.0), threading.TIMEOUT_MAX))
        if errors:
            raise errors[0]
        if not replies:
            raise out_of_time()
        return replies[0]
