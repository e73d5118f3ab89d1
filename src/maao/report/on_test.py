"""What stands in a run's table of `test`, for the terminal and for a page: baselines first, then the run's own points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from maao.evaluation.beside import Compared
from maao.evaluation.metrics import harmonic_mean
from maao.evaluation.statistics import wilson_interval
from maao.report.lines import columns
from maao.result import Result
from maao.types import Score

NEW_CLASSES = "new classes, chosen"  # the one reading on `test` beside those of a run's own classes that a mean is taken with
POINTS = {"untuned": "as it began", "chosen": "tuned", "best_walk": "best walk alone"}  # of what has no prompt
FINALS = {"untuned": "untuned prompt", "chosen": "tuned soft prompt", "best_walk": "best walk alone", "words": "its words alone"}


class ReadRow(NamedTuple):
    """A row: what was read, its figures as they are shown, and what a baseline is; `point` is the name of a point of the run, else ""."""

    name: str
    figure: str
    interval: str
    loss: str
    told: str = ""
    point: str = ""
    is_baseline: bool = False


def point_names(result: Result) -> dict[str, str]:
    """Return how the points of a run are called that were read on `test`."""
    return FINALS if result.config.model.method.options.has_prompt else POINTS


def baseline_rows(beside: Compared) -> Iterator[ReadRow]:
    """Yield the rows of baselines."""
    for one in beside.baselines:
        yield ReadRow(f"baseline: {one.title}", *_figures(Score(one.loss, one.metrics, one.num_examples)), one.told, is_baseline=True)


def rows_on_test(result: Result) -> Iterator[ReadRow]:
    """Yield the rows of a run that has read `test`."""
    names = point_names(result)
    if result.baselines is not None and result.baselines.where == "test":
        yield from baseline_rows(result.baselines)
    for name, final in result.finals.items():
        where, _, point = name.rpartition(", ")
        told = f"{where} ({final.score.num_examples} examples): " if where else ""
        yield ReadRow(told + names.get(point, point), *_figures(final.score), point=name)
    if NEW_CLASSES in result.finals:
        both = [(result.finals[name].score.primary or ("", 0.0))[1] for name in ("chosen", NEW_CLASSES)]
        yield ReadRow("harmonic mean of base and new classes, tuned", f"{harmonic_mean(*both):.3f}", "", "")


def _figures(score: Score) -> tuple[str, str, str]:
    """Return the primary metric, the interval of an accuracy, and the loss."""
    loss, figure = columns(score)
    if score.primary is None or score.primary[0] != "accuracy":  # no other metric is a share of examples
        return figure, "", loss
    low, high = wilson_interval(score.primary[1], score.num_examples)
    return figure, f"{low:.3f} to {high:.3f}", loss
