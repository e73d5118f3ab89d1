"""Where text comes in from a provider, whoever wrote it: no key of this process passes, in a reply or in an error."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace

from maao.errors import BudgetError, ChatError, MaaoError, Waiting
from maao.llm.chat import Reply, Request
from maao.llm.ledger import Wrapper, refuse_unusable
from maao.llm.secrets import KEY_STRUCK, without_keys, without_secrets


class Guarded(Wrapper):
    """A model whose replies and errors hold no key (see `maao.llm.secrets`). A reply that held one says so in its note.

    An error of a third party that holds a key, or what a variable of a credential's name holds, in itself or in what led to it, becomes a
    `ChatError` in its words without that.

    Example:
        >>> from maao.llm.scripted import Scripted
        >>> Guarded(Scripted(["hello"])).complete(Request("scripted", ())).text
        'hello'
    """

    def complete(self, request: Request) -> Reply:
        told = ""
        try:
            reply = self.model.complete(request)
        except (Waiting, BudgetError):
            raise  # words of ours, and no call failed: the run is to wait, or is capped
        except Exception as error:
            if cause_of(error) is error:
                raise
            own = isinstance(error, MaaoError)
            told = without_secrets(str(error) if own else f"{self.name} failed: {type(error).__name__}: {error}")
        if told:
            raise ChatError(told)  # outside the handler: what led to it holds the key
        refuse_unusable(self.name, reply)
        clean = replace(
            reply,
            text=without_keys(reply.text),
            model=without_keys(reply.model),
            finish_reason=without_keys(reply.finish_reason),
            note=without_keys(reply.note),
            why_empty=without_keys(reply.why_empty),
        )
        return reply if clean == reply else replace(clean, note="; ".join(filter(None, (clean.note, KEY_STRUCK))))


def cause_of(error: Exception, *secrets: str) -> Exception | None:
    """Return an error as the cause of one of ours; None where it, or what led to it, holds a credential, which a traceback would show.

    Args:
        secrets: further credentials, which stand in no variable of the environment.
    """
    words = "\n".join(_words_of(error))
    return error if without_secrets(words, *secrets) == words else None


class _NoKeys(logging.Filter):
    """Takes the keys out of what a library logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        told = record.getMessage()
        if (clean := without_keys(told)) != told:
            record.msg, record.args, record.exc_info = clean, (), None
        return True


_NO_KEYS = _NoKeys()


def guard_logs(*libraries: str) -> None:
    """Let what libraries log hold no key: at DEBUG, headers of answers are written down, and a server may repeat a key in them."""
    for name in [name for name in list(logging.root.manager.loggerDict) if name.split(".")[0] in libraries]:
        logging.getLogger(name).addFilter(_NO_KEYS)  # once, however often it is said


def _words_of(error: BaseException) -> list[str]:
    """Return what an error says, and what all that led to it say: a traceback shows them."""
    told, seen = list[str](), set[int]()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            told += [repr(one), *traceback.format_exception_only(one)]
            waiting += [one.__cause__, one.__context__]
    return told
