"""Score several points on one split, together where the problem can."""

from __future__ import annotations

from collections.abc import Sequence

from maao.errors import ProblemError
from maao.protocols import Problem
from maao.types import P, Score, Split


def score_all(problem: Problem[P], points: Sequence[P], split: Split) -> tuple[Score, ...]:
    """Return the score of every point, in their order; what they cost together is the sum of what each says.

    A problem may have a method ``score_many(points, split) -> tuple[Score, ...]`` that shares work between points. Its losses may differ
    from those of `score` by rounding, so what must be equal bit for bit is asked with the same points together.

    Raises:
        ProblemError: `score_many` gave more or fewer scores than there are points.

    Example:
        >>> from types import SimpleNamespace
        >>> [score.loss for score in score_all(SimpleNamespace(score=lambda x, split: Score(x * x)), [3.0, 2.0], "select")]
        [9.0, 4.0]
    """
    together = getattr(problem, "score_many", None)
    if together is None or len(points) < 2:
        return tuple(problem.score(point, split) for point in points)
    scores = tuple(together(points, split))
    if len(scores) != len(points):
        raise ProblemError(
            f"{type(problem).__name__}.score_many gave {len(scores)} scores for {len(points)} points: it must give one for each, in order."
        )
    return scores
