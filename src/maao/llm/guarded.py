"""Where text comes in from a provider, whoever wrote it: no key of this process passes, in a reply or in an error."""

from __future__ import annotations

import traceback
from dataclasses import replace

from maao.errors import ChatError, MaaoError
from maao.llm.chat import Reply, Request
from maao.llm.ledger import Wrapper, refuse_unusable
from maao.llm.secrets import KEY_STRUCK, variable_in, without_keys


class Guarded(Wrapper):
    """A model whose replies and errors hold no key (see `maao.llm.secrets`). A reply that held one says so in its note.

    An error of a third party that holds a key, in itself or in what led to it, becomes a `ChatError` in its words without the key.

    Example:
        >>> from maao.llm.scripted import Scripted
        >>> Guarded(Scripted(["hello"])).complete(Request("scripted", ())).text
        'hello'
    """

    def complete(self, request: Request) -> Reply:
        told = ""
        try:
            reply = self.model.complete(request)
        except Exception as error:
            if not variable_in("\n".join(_words_of(error))):
                raise
            own = isinstance(error, MaaoError)
            told = without_keys(str(error) if own else f"{self.name} failed: {type(error).__name__}: {error}")
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
