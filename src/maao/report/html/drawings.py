"""What is drawn of a run: how its loss fell, and the way of its point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maao.errors import ConfigError
from maao.members import full_member, plain_name, walks_of
from maao.report.html.svg import ACCENT, INK, LINE, MUTED, NEEDED, PAPER, WARM, Drawing, drawing
from maao.report.lines import line_of_proposal, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from maao.result import Result
    from maao.stored_run import Finished, Rounds

MOST_NAMED = 8  # restarts whose words stand on the curve; further ones have their number alone
WORDS = 30  # characters of them there
MOST_WORDS = 2000  # where one points at it
ROW = 0.17  # inches that a line of them takes
NEAR = 0.06  # of the width of all points, within which the ends of rounds share a name
FEW = 40  # rounds that each have a mark of their own
MOST_NUMBERS = 200_000_000  # of all points together: more would take too much memory for a picture


@dataclass(frozen=True)
class Restart:
    """A walk that begun where a proposal said. `number` counts from 1; `step`: where on the run's way."""

    number: int
    step: int
    words: str


def restarts(history: Rounds) -> list[Restart]:
    """Return a run's restarts, in order."""
    found, step = list[Restart](), 0
    for r in history:
        if r.verdict.chosen is not None:
            said = line_of_proposal(r.advice.proposals[r.verdict.chosen])
            found.append(Restart(len(found) + 1, step, said or "(no words)"))
        step = r.state.step
    return found


def loss_curve(result: Result, name: str, where: str) -> Drawing | None:
    """Draw the loss of every step, that of every round's end by the examples that choose, and the restarts; None: nothing was walked."""
    history = [r for r in result.history if not r.leg.closing]
    walked = [(o.step, o.loss) for r in history for o in r.observations if math.isfinite(o.loss)]
    judged = [(r.state.step, r.score.loss) for r in history if math.isfinite(r.score.loss)]
    if not walked:
        return None
    jumps = restarts(result.history)
    named = min(len(jumps), MOST_NAMED)
    last = max(step for step, _ in (*walked, *judged))
    chosen = result.chosen

    def draw(axis: Axes) -> None:
        for steps, losses in _pieces(history):
            axis.plot(steps, losses, color=MUTED, linewidth=1, label="on train, every step" if steps[0] == walked[0][0] else None)
        if judged:
            axis.plot(
                *zip(*judged, strict=True),
                color=ACCENT,
                marker="o",
                markersize=5 if len(judged) <= FEW else 2,
                linewidth=1.6,
                label=f"{where}, every round",
            )
        if not chosen.leg.closing and math.isfinite(chosen.score.loss):
            axis.plot(
                chosen.state.step,
                chosen.score.loss,
                "o",
                markersize=11,
                fillstyle="none",
                color=ACCENT,
                markeredgewidth=1.8,
                label="in use",
            )
        for jump in jumps:
            axis.axvline(jump.step, color=WARM, linewidth=1.2, linestyle=(0, (4, 2)), gid=f"restart-{jump.number}")
            up = 8 + 12 * (named - jump.number) if jump.number <= named else 2
            right = jump.step < 0.55 * last
            told = f"{jump.number} {short(jump.words, WORDS)}" if jump.number <= named else str(jump.number)
            axis.annotate(
                told if right or jump.number > named else f"{short(jump.words, WORDS)} {jump.number}",
                (jump.step, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4 if right else -4, up),
                textcoords="offset points",
                color=WARM,
                ha="left" if right else "right",
                fontsize=9,
                annotation_clip=False,
            )
        axis.set_xlabel("gradient steps on the way that led here")
        axis.set_ylabel("loss (lower is better)")
        axis.set_xlim(-0.02 * last, 1.02 * last)
        axis.legend(fontsize=9, loc="best")

    fell = f"On train it went from {walked[0][1]:.3f} to {walked[-1][1]:.3f} in {last} steps."
    ends = f" {where[0].upper()}{where[1:]} the rounds end on {judged[0][1]:.3f} first and {judged[-1][1]:.3f} last." if judged else ""
    marked = f" {len(jumps)} restart{'s' * (len(jumps) != 1)}, marked by a broken line." if jumps else " No restart."
    words = {f"restart-{jump.number}": f"Restart {jump.number}, from: {jump.words[:MOST_WORDS]}" for jump in jumps}
    steps = sum(len(r.observations) for r in history)
    raced = " What candidates walk in a race is not on record step by step." if steps < last else ""
    return drawing(name, "Loss over the run", fell + ends + marked + raced, draw, high=3.1 + ROW * named, titles=words)


def _pieces(history: Sequence[Finished]) -> list[tuple[list[int], list[float]]]:
    """Return steps and losses of each walk: a line is not drawn over a jump."""
    found: list[tuple[list[int], list[float]]] = []
    for r in history:
        own = [(o.step, o.loss if math.isfinite(o.loss) else math.nan) for o in r.observations]
        if not own:
            continue
        if not found or r.verdict.chosen is not None:
            found.append(([], []))
        for step, loss in own:
            found[-1][0].append(step)
            found[-1][1].append(loss)
    return [piece for piece in found if piece[0]]


# -- the way of the point


@dataclass(frozen=True)
class Way:
    """The points of a run in two directions, those in which they differ most.

    Attributes:
        ends: where each round ended ``(num_rounds, 2)``, and `rounds` their numbers.
        begins: for each restart, the number of its round and where it began.
        proposed: where proposals that became no restart would have begun.
        share: how much of the spread of all points these directions hold, from 0 to 1.
        dimensions: how many numbers a point has.
    """

    ends: Sequence[tuple[float, float]]
    rounds: Sequence[int]
    begins: Mapping[int, tuple[float, float]]
    proposed: Sequence[tuple[float, float]]
    share: float
    dimensions: int


def way_of(history: Rounds) -> Way | None:
    """Return the way of a run's point, by principal components of all its stored points; None where there are fewer than three.

    Of a cross-validation it is that of the point tuned on all labels, of an average of walks that of the rounds before it.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    own = [r for r in history if not r.leg.closing]
    held: list[tuple[str, int, Mapping[str, Tensor]]] = [("end", r.index, _point(r.state.params)) for r in own]
    for r in own:
        for i, proposal in enumerate(r.advice.proposals):
            held.append(("begin" if r.verdict.chosen == i else "proposed", r.index, _point(proposal.params)))
    first = held[0][2] if held else {}
    names = [
        name
        for name, value in first.items()
        if value.is_floating_point() and all(name in point and point[name].shape == value.shape for _, _, point in held)
    ]
    dimensions = sum(first[name].numel() for name in names)
    if not dimensions or dimensions * len(held) > MOST_NUMBERS:
        return None
    table = np.stack([np.concatenate([point[name].detach().float().cpu().numpy().ravel() for name in names]) for _, _, point in held])
    if len(np.unique(table, axis=0)) < 3 or not np.isfinite(table).all():
        return None
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ConfigError(NEEDED) from error
    found = PCA(n_components=2, svd_solver="full").fit(table)
    flat = [(float(a), float(b)) for a, b in found.transform(table)]

    def of(kind: str) -> list[tuple[int, tuple[float, float]]]:
        return [(index, place) for (own_kind, index, _), place in zip(held, flat, strict=True) if own_kind == kind]

    return Way(
        [place for _, place in of("end")],
        [index for index, _ in of("end")],
        dict(of("begin")),
        [place for _, place in of("proposed")],
        float(found.explained_variance_ratio_.sum()),
        dimensions,
    )


def _point(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the params that are used, of an average its first walk's."""
    return {plain_name(name): value for name, value in walks_of(full_member(params))[0].items()}


def _named(way: Way) -> list[tuple[str, tuple[float, float]]]:
    """Return what stands beside the ends of rounds, and where: rounds that follow each other and lie close share a name, as "2–4"."""
    every = np.array([*way.ends, *way.begins.values(), *way.proposed])
    close = NEAR * float(np.linalg.norm(np.ptp(every, axis=0)))
    groups: list[list[int]] = []
    for i, end in enumerate(way.ends):
        if groups and np.linalg.norm(np.subtract(end, way.ends[groups[-1][0]])) < close:
            groups[-1].append(i)
        else:
            groups.append([i])
    first_last = [(way.rounds[own[0]], way.rounds[own[-1]], way.ends[own[0]]) for own in groups]
    return [(str(first) if first == last else f"{first}–{last}", place) for first, last, place in first_last]


def way_drawing(way: Way, name: str, chosen: int) -> Drawing:
    """Draw the way: lines where it walked, broken ones where it jumped, the proposals beside it.

    Args:
        chosen: the round whose point is used.
    """

    def draw(axis: Axes) -> None:
        if way.proposed:
            axis.plot(*zip(*way.proposed, strict=True), "D", color=WARM, markersize=6, fillstyle="none", label="proposed, not taken")
        for number, (before, after, end) in enumerate(zip(way.ends, way.rounds[1:], way.ends[1:], strict=False)):
            begin = way.begins.get(after, before)
            if begin != before:
                axis.plot(*zip(before, begin, strict=True), color=WARM, linewidth=1.2, linestyle=(0, (4, 2)))
                axis.plot(*begin, "D", color=WARM, markersize=6, label="restart" if after == min(way.begins) else None)
            if len(way.ends) <= FEW:
                axis.annotate(
                    "", end, begin, arrowprops={"arrowstyle": "->", "color": ACCENT, "linewidth": 1.4, "shrinkA": 2, "shrinkB": 4}
                )
            axis.plot(*zip(begin, end, strict=True), color=ACCENT, linewidth=1.4, label="gradient steps" if number == 0 else None)
        for index, end in zip(way.rounds, way.ends, strict=True):
            axis.plot(*end, "o", color=ACCENT, markersize=7 if len(way.ends) <= FEW else 3, markeredgecolor=PAPER)
            if index == chosen:
                axis.plot(*end, "o", color=ACCENT, markersize=13, fillstyle="none", markeredgewidth=1.8, label="in use")
        for told, place in _named(way):
            axis.annotate(told, place, xytext=(8, 7), textcoords="offset points", color=INK, fontsize=9.5, fontweight="bold")
        axis.set_xlabel("first direction")
        axis.set_ylabel("second direction")
        axis.tick_params(labelbottom=False, labelleft=False)
        axis.margins(0.12)
        axis.axhline(0, color=LINE, linewidth=0.6)
        if way.proposed or way.begins:
            axis.legend(fontsize=9, loc="best")
        axis.spines[["left", "bottom"]].set_color(INK)

    told = (
        f"Where {len(way.ends)} rounds ended, each by its number, in the two directions in which the {way.dimensions:,} numbers of the "
        f"tuned point differ most ({100 * way.share:.0f} % of their spread)."
    )
    if way.begins or way.proposed:
        told += f" Restarts jump ({len(way.begins)}); {len(way.proposed)} proposals led nowhere."
    return drawing(name, "The way of the tuned point", told, draw, high=3.6)
