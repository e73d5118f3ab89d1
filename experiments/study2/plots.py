"""The plots of the second study: accuracy against labels, every set visible, and sets seen and unseen by the mentor beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from experiments.study2.figures import NOBODY, PRIMARY, SEEN, STRONG, UNSEEN, best, by_set, difference, of

BLUE, GREY, ORANGE = "#1f6fb4", "#777777", "#d9730d"
TICKS = (0, 1, 2, 4, 8, 16)


def draw(rows: pd.DataFrame, folder: Path) -> None:
    """Write both plots into a folder, of the cells that there are."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(2, 4, figsize=(14, 7), sharex=True)
    for place, name in zip(axes.flat, ("mean", *PRIMARY), strict=True):
        _curves(place, rows, PRIMARY if name == "mean" else (name,))
        place.set_title(f"mean of {len(PRIMARY)} sets" if name == "mean" else f"{name}{' (unseen)' if name in UNSEEN else ''}", fontsize=11)
    axes[0, 0].legend(fontsize=8)
    _save(figure, folder / "labels.png")
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), sharey=True)
    for place, (name, sets) in zip(axes, (("seen by the mentor, perhaps", SEEN), ("unseen by any mentor", UNSEEN)), strict=True):
        gains = _gains(rows, sets)
        for one in sets:
            if one in gains:
                place.plot(_x(gains.index), gains[one], marker="o", label=one)
        place.axhline(0, color="black", linewidth=0.8)
        _labelled(place)
        place.set_title(name, fontsize=11)
        place.legend(fontsize=8)
    axes[0].set_ylabel("points over the best control of each set")
    _save(figure, folder / "unseen.png")


def _curves(place: Axes, rows: pd.DataFrame, sets: Sequence[str]) -> None:
    """Draw the mentor, the best control at each number of labels, and no mentor, whose right end is what more real labels give."""
    for arm, color, name in ((STRONG, BLUE, "strong mentor"), ("", ORANGE, "best control"), (NOBODY, GREY, "no mentor")):
        found = {}
        for labels in TICKS:
            cells = of(rows, "labels", labels)
            own = arm or best(cells, sets)
            means = by_set(cells)
            if own in means.columns and means[own].reindex(list(sets)).notna().all():
                found[labels] = float(means[own].reindex(list(sets)).mean())
        if found:
            place.plot(_x(found), list(found.values()), marker="o", markersize=4, color=color, label=name)
    _labelled(place)
    place.set_ylabel("accuracy, per cent", fontsize=9)


def _gains(rows: pd.DataFrame, sets: Sequence[str]) -> pd.DataFrame:
    """Return what the strong mentor has more than the best control, by number of labels and set."""
    found: dict[int, dict[str, float]] = {}
    for labels in TICKS:
        cells = of(rows, "labels", labels)
        for name in sets:
            control = best(cells, (name,))
            own = difference(cells, STRONG, control, (name,)) if control else None
            if own is not None:
                found.setdefault(labels, {})[name] = own.mean
    return pd.DataFrame.from_dict(found, orient="index")


def _x(labels: object) -> list[int]:
    """Return places on the axis: numbers of labels at even steps, since they double."""
    return [TICKS.index(int(count)) for count in labels]  # type: ignore[attr-defined]


def _labelled(place: Axes) -> None:
    place.set_xticks(range(len(TICKS)), [str(count) for count in TICKS])
    place.set_xlabel("labels a class", fontsize=9)
    place.grid(alpha=0.3)


def _save(figure: pyplot.Figure, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
