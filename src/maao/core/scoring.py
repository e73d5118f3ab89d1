"""Score several points on one split, and see that each of them was scored."""

from __future__ import annotations

from collections.abc import Sequence

from maao.errors import ProblemError
from maao.protocols import Problem
from maao.types import P, Score, Split


def score_all(problem: Problem[P], points: Sequence[P], split: Split) -> tuple[Score, ...]:
    """Return the score of every point, in their order.

    Raises:
        ProblemError: the problem gave more or fewer scores than there are points.

    Example:
        >>> from types import SimpleNamespace
        >>> squares = SimpleNamespace(score=lambda points, split: tuple(Score(x * x) for x in points))
        >>> [score.loss for score in score_all(squares, [3.0, 2.0], "select")]
        [9.0, 4.0]
    """
    if not points:
        return ()
    scores = tuple(problem.score(points, split))
    if len(scores) != len(points):
        raise ProblemError(
            f"{type(problem).__name__}.score gave {len(scores)} scores for {len(points)} points: it must give one for each, in order."
        )
    return scores
