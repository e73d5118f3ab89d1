"""Early stopping: a run ends once its legs no longer bring a new best on `select`.

What the loss is compared with is the last new best, that is, the last round that was lower than the one before it by more than
`min_delta`; small gains add up until they count. Legs without a gradient step are compared too, but use up no patience.

A mentor is asked because a walk stands still, and a restart begins high. So

* while the mentor is still to be asked, a run ends only where a walk is over and the mentor is next, and only if it was asked since the
  last new best: every restart is given its whole walk, and no run ends before the mentor's turn;
* after the mentor's last turn, a run ends after any leg, and the legs are counted from the last restart if that came after the last new
  best.

Everything here is a function of the finished rounds, so a resumed run ends where an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from maao.core.plan import Plan
from maao.protocols import History
from maao.types import P, Round, S


def is_settled(history: History[P, S], plan: Plan, *, patience: int, min_delta: float = 0.0) -> bool:
    """Return whether so many legs have brought no new best that a run of this plan ends here.

    Args:
        history: the finished rounds; `plan` is the whole plan, of which they are the beginning.
        patience: legs with gradient steps; 0: never.
        min_delta: loss on `select` by which a new best must be lower.

    Example:
        >>> is_settled((), (), patience=3)
        False
    """
    if not patience or not history:
        return False
    left, best = plan[len(history) :], last_best(history, min_delta)
    since = best
    if any(leg.ask for leg in left):
        if not left[0].ask or not any(r.leg.ask for r in history[best + 1 :]):
            return False
    else:
        restarts = [r.index - 1 for r in history if r.verdict.chosen is not None]  # a restart's own leg is the first that counts
        since = max([best, *restarts])
    return sum(r.leg.steps > 0 for r in history[since + 1 :]) >= patience


def last_best(history: History[P, S], min_delta: float = 0.0) -> int:
    """Return the index of the round that last brought a new best on `select`; -1 where no round has a loss that is a number.

    Example:
        >>> last_best(())
        -1
    """
    index, lowest = -1, float("inf")
    for r in history:
        if r.score.rank < (lowest - min_delta if index >= 0 else lowest):  # what is no finite number is below nothing
            index, lowest = r.index, r.score.rank
    return index


def until_settled(
    rounds: Iterable[Round[P, S]], plan: Plan, *, patience: int, min_delta: float = 0.0, history: History[P, S] = ()
) -> Iterator[Round[P, S]]:
    """Yield rounds until they have brought no new best for `patience` legs; `history` is what was finished before them."""
    if is_settled(history, plan, patience=patience, min_delta=min_delta):
        return
    for finished in rounds:
        yield finished
        history = (*history, finished)
        if is_settled(history, plan, patience=patience, min_delta=min_delta):
            return
