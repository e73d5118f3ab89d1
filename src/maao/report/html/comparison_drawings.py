"""What is drawn of a comparison: every seed of every arm, differences with their intervals, how the loss fell as tokens were spent."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maao.compare.page import ALL, Difference
from maao.compare.rows import Row
from maao.report.html.svg import INK, MUTED, SERIES, Drawing, drawing
from maao.report.lines import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = 24  # characters of an arm's name
LINE = 0.27  # inches of an arm
SPREAD = 0.22  # of a line, over which seeds are laid so that none hides another
STYLES = ("-", "--", ":", "-.")  # of further arms, where there are more than colours


def style_of(arm: int) -> tuple[str, str]:
    """Return an arm's colour and kind of line."""
    return SERIES[arm % len(SERIES)], STYLES[arm // len(SERIES) % len(STYLES)]


def seeds_drawing(rows: Sequence[Row], arms: Sequence[str], task: str, metric: str, name: str) -> Drawing | None:
    """Draw what each seed of each arm reads of a task's `test`, in per cent, with the mean of each arm; None where there is no figure."""
    held = {arm: [100 * figure for row in rows if row.arm == arm and (figure := row.on_test(metric)) is not None] for arm in arms}
    if not any(held.values()):
        return None
    called = metric.replace("_", " ")

    def draw(axis: Axes) -> None:
        for line, (arm, own) in enumerate(held.items()):
            colour, _ = style_of(arms.index(arm))
            for i, figure in enumerate(own):
                axis.plot(figure, line + SPREAD * (2 * (i % 5) / 4 - 1), "o", color=colour, markersize=5, alpha=0.75)
            if own:
                axis.plot(statistics.mean(own), line, "|", color=INK, markersize=16, markeredgewidth=2)
        axis.set_yticks(range(len(held)), [short(arm, NAME) for arm in held])
        axis.set_ylim(len(held) - 0.5, -0.5)
        axis.set_xlabel(f"{short(called, 20)} on test, in per cent")

    means = "; ".join(f"{arm} {statistics.mean(own):.1f} ({len(own)})" for arm, own in held.items() if own)
    told = f"{task}: a dot is a seed, a bar the mean of an arm. Mean {called} in per cent, in brackets how many seeds: {means}."
    return drawing(name, f"Every seed on {task}", told, draw, high=0.75 + LINE * len(held))


def differences_drawing(found: Sequence[Difference], arms: Sequence[str], baseline: str, metric: str, name: str) -> Drawing | None:
    """Draw how far each arm lies from the baseline, with 95 % intervals; None where nothing is compared."""
    own = sorted((d for d in found if d.metric == metric), key=lambda d: d.task != ALL)  # what is asked first stands at the top
    if not own:
        return None
    called = metric.replace("_", " ")
    several = len({d.task for d in own}) > 1

    def draw(axis: Axes) -> None:
        axis.axvline(0, color=MUTED, linewidth=1.2)
        for line, d in enumerate(own):
            colour, _ = style_of(arms.index(d.arm))
            axis.errorbar(d.mean, line, xerr=[[d.mean - d.low], [d.high - d.mean]], marker="o", capsize=4, color=colour, linewidth=1.8)
        axis.set_yticks(range(len(own)), [short(f"{d.arm}, {d.task}" if several else d.arm, NAME + 12) for d in own])
        axis.set_ylim(len(own) - 0.5, -0.5)
        axis.set_xlabel(f"points of {short(called, 16)} above {short(baseline, 16)}")

    told = (
        f"Differences to {baseline} over pairs of equal task and seed, in points of {called}, with 95 % intervals: one that holds 0 tells "
        "nothing apart."
    )
    return drawing(name, f"Differences to {baseline}", told, draw, high=0.75 + LINE * len(own))


def anytime_drawing(rows: Sequence[Row], arms: Sequence[str], task: str, name: str) -> Drawing | None:
    """Draw how the best loss on what chooses fell while the frozen model was run, a line a seed; None where no run stored that."""
    held = [row for row in rows if len(row.curve) > 1]
    if not held:
        return None

    def draw(axis: Axes) -> None:
        from matplotlib.lines import Line2D

        for row in held:
            colour, kind = style_of(arms.index(row.arm))
            spent, losses = [p["model_tokens"] for p in row.curve], [p["select_loss"] for p in row.curve]
            axis.step(spent, losses, where="post", color=colour, linestyle=kind, linewidth=1, alpha=0.7)
        present = [arm for arm in arms if any(row.arm == arm for row in held)]
        lines = [Line2D([], [], color=style_of(arms.index(arm))[0], linestyle=style_of(arms.index(arm))[1]) for arm in present]
        axis.legend(lines, [f" {short(arm, NAME)}" for arm in present], fontsize=9, loc="best")
        axis.set_xlabel("tokens (or pictures) through the frozen model")
        axis.set_ylabel("best loss so far")

    told = f"{task}: the best loss by the examples that choose, as tokens were spent; a line for each of {len(held)} runs."
    return drawing(name, f"How the loss fell on {task}", told, draw, high=3.0)
