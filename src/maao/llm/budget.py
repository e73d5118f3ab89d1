"""Hard caps on calls, tokens and money, kept before a call is made.

`Recorded(Capped(provider))` is the order: replies from the ledger cost nothing, and what is spent is read from the ledger's totals, so a
resumed run does the same arithmetic as one that never stopped. A call is judged by its worst case: an upper estimate of the prompt's
tokens plus the whole token limit of the reply.

A call that failed, or whose reply is none, is in no ledger, but it may have been billed. It counts at its worst case for as long as the
process runs; a resumed run begins that count anew. What a provider tries several times within one call is one call here.
"""

from __future__ import annotations

from collections.abc import Callable

from maao.errors import BudgetError, ConfigError
from maao.llm.chat import Reply, Request, estimate_tokens
from maao.llm.ledger import Totals, Wrapper, refuse_unusable
from maao.protocols import ChatModel

# What a chat template adds to the text: a default system turn and the marks around each message.
CHAT_TOKENS = 48
MESSAGE_TOKENS = 8


def worst_case_tokens(request: Request) -> tuple[int, int]:
    """Return the most tokens that a call may read and write.

    Example:
        >>> from maao.llm.chat import Message
        >>> worst_case_tokens(Request("m", (Message("user", "Say hello."),), max_tokens=20))
        (74, 20)
    """
    template = CHAT_TOKENS + MESSAGE_TOKENS * len(request.messages) if request.style == "chat" else 0
    return estimate_tokens(request.text) + template, request.max_tokens


class Capped(Wrapper):
    """A model that refuses a call whose worst case would pass a cap. A cap of None does not bind. What is no reply is a `ChatError`.

    Args:
        model: the model that is asked.
        max_calls: calls, recorded replies and calls that failed counted.
        max_tokens: tokens read and written.
        max_usd: US dollars; needs the model's price.
        spent: gives what has been spent so far, as the ledger has it.

    Raises:
        ConfigError: money is capped and the model's price is unknown.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        spent: Callable[[], Totals],
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_usd: float | None = None,
    ) -> None:
        if max_usd is not None and model.price is None:
            raise ConfigError(
                f"Cannot keep a cap of ${max_usd:g}: the price of {model.name!r} is unknown. "
                "Set its price (US dollars per million input tokens and per million output tokens), or cap calls or tokens instead."
            )
        super().__init__(model)
        self.max_calls, self.max_tokens, self.max_usd = max_calls, max_tokens, max_usd
        self.spent = spent
        self.failed = Totals()  # the calls that were let through here and gave no reply, each at its worst case

    def complete(self, request: Request) -> Reply:
        """Return the model's reply. Raises `BudgetError`, without asking, when the call's worst case would pass a cap."""
        spent, failed = self.spent() + self.failed, self.failed.calls
        told = f", with {failed} that failed counted at their most" if failed else ""
        input_tokens, output_tokens = worst_case_tokens(request)
        if self.max_calls is not None and spent.calls + 1 > self.max_calls:
            raise BudgetError(f"Call not made: the cap of {self.max_calls} calls is reached ({spent.calls} made{told}).")
        if self.max_tokens is not None and spent.tokens + input_tokens + output_tokens > self.max_tokens:
            raise BudgetError(
                f"Call not made: the cap is {self.max_tokens} tokens, {spent.tokens} are spent{told}, and this call could take "
                f"{input_tokens + output_tokens} (prompt at most {input_tokens}, reply at most {output_tokens})."
            )
        could_cost = self.price.usd(input_tokens, output_tokens) if self.price is not None else 0.0
        if self.max_usd is not None and not spent.usd + could_cost <= self.max_usd:  # what is not known (NaN) may be too much
            raise BudgetError(
                f"Call not made: the cap is ${self.max_usd:g}, ${spent.usd:.6g} is spent{told}, and this call could cost ${could_cost:.6g} "
                f"(prompt at most {input_tokens} tokens, reply at most {output_tokens})."
            )
        failed_before = self.failed
        self.failed += Totals(1, input_tokens, output_tokens, could_cost)  # taken back once there is a reply, which the ledger counts
        reply = self.model.complete(request)
        refuse_unusable(self.name, reply)
        self.failed = failed_before
        return reply
