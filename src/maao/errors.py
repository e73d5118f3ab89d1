"""What can go wrong, in the caller's terms.

Every error a user can cause or meet is a `MaaoError`; its text names the thing, what was got, what was wanted, and the next move. The
command line prints the text alone; a traceback means a defect of ours.
"""

from __future__ import annotations

from maao.types import Cost


class MaaoError(Exception):
    """Base of every error that maao raises on purpose."""


class ConfigError(MaaoError):
    """A setting is unknown, missing, or cannot be combined with another."""


class DataError(MaaoError):
    """The examples cannot be read, or cannot be used as asked."""


class ModelError(MaaoError):
    """A model cannot be found, loaded, or used with this template."""


class CodecError(MaaoError):
    """Params and text cannot be turned into one another."""


class ProblemError(MaaoError):
    """A problem was asked for something it cannot give: a loss that is not a number at the start, an unknown split."""


class NotFinite(ProblemError):
    """A walk came upon a loss or gradient that is no finite number, and does not go on. `cost` is what it took till there.

    Example:
        >>> NotFinite("The loss is nan.", Cost(gradient_steps=3)).cost.gradient_steps
        3
    """

    def __init__(self, told: str, cost: Cost | None = None) -> None:
        super().__init__(told)
        self.cost = cost or Cost(gradient_steps=1)  # the step that failed


class ChatError(MaaoError):
    """A chat model gave no reply. It costs a round its proposals, never the run."""


class BudgetError(ChatError):
    """A call was not made because its worst case would pass a cap."""


class Waiting(MaaoError):
    """Replies are waited for: a run stops here, and goes on once they are there. It is no `ChatError`: no call failed.

    Example:
        >>> Waiting("Two replies are waited for.", 2).count
        2
    """

    def __init__(self, told: str, count: int = 1) -> None:
        super().__init__(told)
        self.count = count


class StoreError(MaaoError):
    """A run folder cannot be read or written."""


class LedgerMiss(StoreError):
    """A replay needs a call that was never recorded."""


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is about memory. PyTorch raises RuntimeErrors for that, told apart by their words alone.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory.")), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    said = str(error)
    marks = ("allocate memory", "out of memory", "ALLOC_FAILED")  # of a CPU's allocator, of accelerators, of their libraries
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(mark in said for mark in marks))


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which a command takes as it takes Ctrl-C."""
