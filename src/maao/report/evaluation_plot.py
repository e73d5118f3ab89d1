"""A picture of an evaluation: confidence against accuracy, coverage against accuracy, and the classes that are mixed up most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maao.errors import ConfigError, MaaoError
from maao.evaluation.evaluation import Evaluation
from maao.report.lines import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 20  # of the confusion matrix


def plot_evaluation(found: Evaluation, file: Path) -> None:
    """Draw an evaluation into a picture file (.png, .svg, .pdf).

    Raises:
        ConfigError: matplotlib is not installed.
        MaaoError: the file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError('Plots need matplotlib: pip install "maao[plot]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False}):  # a label with two dollars is no formula
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(16, 5), layout="constrained")
        _calibration(left, found)
        _coverage(middle, found)
        _confusions(right, found)
        figure.suptitle(f"{short(found.of)}: accuracy {found.accuracy:.3f} of {found.num_examples:,} examples")
    try:
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise MaaoError(f"Cannot draw into {file}: {error}. Give a file in a folder that exists, which ends in .png.") from error
    finally:
        pyplot.close(figure)


def _calibration(axis: Axes, found: Evaluation) -> None:
    bins = found.calibration.bins
    axis.plot([0, 1], [0, 1], color="#888888", linewidth=1)
    axis.bar([one.low for one in bins], [one.accuracy for one in bins], [one.high - one.low for one in bins], align="edge", alpha=0.5)
    axis.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o", linestyle="", color="black")
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"calibration error {found.calibration.error:.3f}")


def _coverage(axis: Axes, found: Evaluation) -> None:
    axis.plot([point.coverage for point in found.coverage], [point.accuracy for point in found.coverage], marker="o")
    axis.set(xlabel="share that is decided, the surest first", ylabel="accuracy", title="if only the surest are decided")


def _confusions(axis: Axes, found: Evaluation) -> None:
    """Draw the classes that stand in the most confusions: the share of each class's examples that is read as each."""
    mixed = dict.fromkeys(name for one in found.confusions for name in (one.label, one.predicted))
    names = [*mixed, *(label for label in found.labels if label not in mixed)][:MOST_CLASSES]
    places = [found.labels.index(name) for name in names]
    matrix = found.confusion_matrix
    totals = matrix.sum(axis=1, keepdims=True)[places]
    shares = matrix[np.ix_(places, places)] / np.maximum(1, totals)
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    shown = [short(name, 24) for name in names]
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), shown, fontsize=7)
    some = f", {len(names)} of {len(found.labels)} classes" if len(names) < len(found.labels) else ""
    axis.set(xlabel="read as", ylabel="label", title=f"share of a class's examples{some}")
