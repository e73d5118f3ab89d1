"""What went wrong with the numbers of a run, in plain words: told when a round ends, and once more of the whole run at its end.

Nothing is computed but from rounds as they are stored, so a run that was made elsewhere tells the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from maao.core.loop import TAKEN_BACK
from maao.members import where_judged
from maao.printable import printable_line
from maao.types import P, Round, S, Score

if TYPE_CHECKING:
    from maao.protocols import Params
    from maao.stored_run import Finished, Rounds

Kind = Literal["went_back", "taken_back", "not_finite", "one_class", "not_moved", "half_precision"]

LITTLE = 1e-4  # of its own length: a point that moved no further stands where it began, in effect
FROM_ZERO = 0.01  # the size that is taken for numbers that began at zero
HALF = {
    "float16": "float16, which holds no number above 65,504: model.dtype = 'bfloat16' or 'float32' holds more",
    "bfloat16": "bfloat16, which keeps two or three digits of a number: model.dtype = 'float32' keeps seven",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong with numbers.

    Attributes:
        kind: steps that "went_back", a restart that was "taken_back", a loss that is "not_finite", answers of "one_class", values that have
            "not_moved", or the "half_precision" that may be the reason.
        text: what happened, and what can be done.
        round: in which round; None: in the run as a whole.
    """

    kind: Kind
    text: str
    round: int | None = None


def troubles_of_round(finished: Finished, before: Rounds) -> tuple[Trouble, ...]:
    """Return what to tell as a round ends; `before` are the rounds that ended before it: what lasts is told once."""
    where = where_judged(finished.state.params)
    return tuple(Trouble(kind, f"Round {finished.index}: {text}.", finished.index) for kind, text in _in_round(finished, before, where))


def _in_round(r: Finished, before: Rounds, where: str) -> Iterator[tuple[Kind, str]]:
    back = _went_back(r)
    if back:
        yield "went_back", f"{back} of its {len(r.observations)} steps met {NOT_FINITE} and went back, each at half the learning rate"
    if _is_taken_back(r):
        yield "taken_back", f"its restart was taken back, since nothing could be walked from it ({r.verdict.reason.split(TAKEN_BACK)[-1]})"
    if not r.score.is_unjudged and not math.isfinite(r.score.loss):
        yield "not_finite", f"{_no_number(r.score, where)}; its point is not used"
    if r.score.always and r.state.step and not (before and before[-1].state.step and before[-1].score.always == r.score.always):
        yield "one_class", f"all {r.score.num_examples} examples {where} are put into one class, {_shown(r.score.always)}"
    if _stood_still(r):
        yield "not_moved", f"its {len(r.observations)} gradient steps moved nothing: the gradient is zero, or the learning rate too small"


def troubles_of_run(history: Rounds, chosen: Finished | None, where: str, tested: Score | None, dtype: str) -> tuple[Trouble, ...]:
    """Return what to tell of a run at its end.

    Args:
        chosen: the round whose point is used.
        tested: what that point came to on `test`.
        dtype: the precision of the frozen model.
    """
    return tuple(Trouble(kind, text) for kind, text in _in_run(history, chosen, where, tested, dtype))


def _in_run(history: Rounds, chosen: Finished | None, where: str, tested: Score | None, dtype: str) -> Iterator[tuple[Kind, str]]:
    back, steps = sum(map(_went_back, history)), sum(len(r.observations) for r in history)
    if back:
        yield (
            "went_back",
            (
                f"{back} of {steps} gradient steps met {NOT_FINITE} and went back to the last good point, each at half the learning rate: "
                "lower stage.lr."
            ),
        )
    taken_back = sum(map(_is_taken_back, history))
    if taken_back:
        yield "taken_back", f"{_count(taken_back, 'restart')} of the mentor's could not be walked from and {_was(taken_back)} taken back."
    judged = [r for r in history if not r.score.is_unjudged]
    bad = [r for r in judged if not math.isfinite(r.score.loss)]
    if bad and len(bad) == len(judged):
        yield (
            "not_finite",
            f"No point of the run has a loss {where} that is a number: nothing was chosen, and the first point stands there.",
        )
    elif bad:
        yield "not_finite", f"{len(bad)} of {len(judged)} points have no loss {where} that is a number; none of them is used."
    if tested is not None and not math.isfinite(tested.loss):
        yield "not_finite", f"On test: {_no_number(tested, 'there')}."
    if (back or taken_back or bad or (tested is not None and tested.unread)) and dtype in HALF:
        yield "half_precision", f"The frozen model runs in {HALF[dtype]}."
    read = (tested, "test examples") if tested is not None else (chosen.score, f"examples {where}") if chosen is not None else None
    if read is not None and read[0] is not None and read[0].always:
        yield (
            "one_class",
            (
                f"It puts all {read[0].num_examples:,} {read[1]} into one class, {_shown(read[0].always)}: it tells the classes not apart. "
                "Another stage.lr, more steps, or other words in the template may help."
            ),
        )
    walked = [r for r in history if r.state.age and r.observations]
    if walked and not any(_moved(r.state.params, r.state.start) > LITTLE for r in walked):
        yield (
            "not_moved",
            (
                f"In {steps} gradient steps nothing moved by more than a ten-thousandth of its length: the point stands where it began. "
                "Raise stage.lr, or look at why there is no gradient."
            ),
        )


NOT_FINITE = "a loss or gradient that is no finite number"


def _went_back(r: Round[P, S]) -> int:
    return sum(o.note is not None for o in r.observations)


def _is_taken_back(r: Round[P, S]) -> bool:
    return r.verdict.chosen is None and TAKEN_BACK in r.verdict.reason


def _no_number(score: Score, where: str) -> str:
    if score.unread:
        return f"the model gives no number for {score.unread:,} of {score.num_examples:,} examples {where}, which count as read wrongly"
    return f"the loss {where} is {score.loss}"


def _stood_still(r: Finished) -> bool:
    """Say whether a leg ended at the very point where it began."""
    if not r.observations or _went_back(r):
        return False
    return r.score.loss != 0 and _moved(r.state.params, r.verdict.state.params) == 0


def _moved(now: Params, then: Params) -> float:
    """Return how far a point moved, against its length: the farthest of what is tuned; infinite in another shape."""
    return max((_far(now, then, name) for name, value in now.items() if value.is_floating_point()), default=0.0)


def _far(now: Params, then: Params, name: str) -> float:
    if name not in then or then[name].shape != now[name].shape:
        return math.inf
    old = then[name].double()
    way, length = float((now[name].double() - old).norm()), float(old.norm()) or FROM_ZERO * old.numel() ** 0.5
    return way / length if way == way else math.inf  # what moved to no number has moved


def _shown(label: str) -> str:
    return repr(printable_line(label))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
