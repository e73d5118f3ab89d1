"""What the demo ends with: how many messages are sorted right, beside what one would use instead, in words that need no training."""

from __future__ import annotations

from maao.result import Result


def in_short(result: Result) -> str:
    """Return the sentence. What one would use instead is logistic regression on the same labels, with the names of the intents."""
    dataset = result.config.builder.load_data()
    assert dataset is not None
    splits, ours = dataset.splits, result.finals["chosen"].score
    right, count = _right(ours.accuracy, ours.num_examples), ours.num_examples
    written = f" and {len(splits.lines)} lines that a mentor wrote" if splits.lines else ""
    known = f"In short: from {len(splits.train) + len(splits.select)} labelled messages{written}"
    told = f"{known} it sorts {right:,} of {count:,} new messages into the right one of {len(splits.labels)} intents"
    beside = result.baselines.baselines if result.baselines else ()
    usual = next((one for one in beside if one.name == "linear_probe" and one.settings.get("class_names")), None)
    if usual is None:
        return f"{told}."
    theirs = _right(usual.metrics.get("accuracy"), count)
    return f"{told}; logistic regression, the usual choice, sorts {theirs:,} right from the same labels{told_apart(right - theirs)}."


def _right(accuracy: float | None, count: int) -> int:
    return round((accuracy or 0.0) * count)


def told_apart(fewer: int) -> str:
    """Return what so many mistakes fewer mean, as the end of a sentence.

    Example:
        >>> told_apart(46), told_apart(1), told_apart(0), told_apart(-2)
        (', 46 mistakes more', ', 1 mistake more', ', just as many', ', 2 mistakes fewer')
    """
    if fewer == 0:
        return ", just as many"
    return f", {abs(fewer):,} mistake{'s' if abs(fewer) > 1 else ''} {'more' if fewer > 0 else 'fewer'}"
