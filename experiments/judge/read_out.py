"""What each rule of the plan would have chosen in the cells of the search: `python -m experiments.judge.read_out OUT`.

Writes `experiments/results/judge.csv` (means over seeds, by set) and `judge.md`.
"""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.few_labels.read_out import RESULTS
from maao.store.files import write_text_durably

HARD = ("BBC sentences", "banking trees", "scikit-learn tests", "SciPy docstrings")
LABELS = (1, 2, 4, 8)
LAST, RACE = 100, 25  # steps of a run, and of the race within it
OLD, NEW = "J0, W0", "AD, W1"
JUDGES = ("U", "J0", "J1", "Jz 1", "Jz 2", "A", "A -1", "A 1", "AD", "S", "B", "N")
SOURCES = ("strong", "shuffled", "half", "wordings", "1.5 B", "135 M")
TOLD = {
    "U, W0": "no lines",
    "J0, W0": "J0, W0: the old rule, a margin of 0.4 over the labels",
    "J0, W1": "J0, W1",
    "J1, W0": "J1, W0: no margin",
    "J1, W1": "J1, W1",
    "Jz 1, W1": "Jz, z = 1, W1: by more than its error",
    "A, W1": "A, W1: without any label they beat the names",
    "A -1, W1": "A, z = -1, W1: unless they are shown not to",
    "A 1, W1": "A, z = 1, W1: where they are shown to",
    "AD, W0": "AD, W0",
    "AD, W1": "**AD, W1: both, lines at face value**",
    "AD, W2": "AD, W2: r by the names alone",
    "AD, W3": "AD, W3: r tempered",
    "AD, W1 at 1": "AD, W1 at w = 1",
    "AD, W0, anchor 10": "AD, W0, ten times the anchor",
    "S, W1": "S, W1: the mean of both",
    "B, W1": "B, W1: lines alone beat labels alone",
    "C3, W0": "C3: the best of labels, both, lines alone",
    "N, W0": "N, W0: always keep",
    "N, W1": "N, W1: always keep",
    "N, mean": "N, the mean of logits with lines alone",
}


def losses(way: Mapping[str, Any], step: int) -> Any:
    return np.asarray(way[f"losses{step}"], dtype=float)


def is_above(values: Any, z: float = 0.0) -> bool:
    """Say whether the mean of values lies more than z standard errors above zero."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if z and len(values) > 1 else 0.0
    return bool(values.mean() > z * error)


def keeps(judge: str, ways: Mapping[str, Mapping[str, Any]], labels: int) -> bool:
    """Say whether a judge keeps lines. `ways` are what is there without labels or lines (`names`), with each (`none`, `alone`) and both."""
    if judge in "NU":
        return judge == "N"
    a = losses(ways["names"], LAST) - losses(ways["alone"], LAST)
    none, both = losses(ways["none"], RACE), losses(ways["both"], RACE)
    name, _, z = judge.partition(" ")
    if name == "J0":
        return bool(both.mean() < none.mean() * (1 - 0.4 / labels))
    if name == "B":
        return is_above(none - losses(ways["alone"], LAST))
    if name == "S":
        return is_above(a + none - both)
    return all(is_above(own, float(z or 0)) for own in {"A": (a,), "AD": (a, none - both)}.get(name, (none - both,)))


def end(way: Mapping[str, Any]) -> tuple[float, float]:
    """Return accuracy and log-loss of the point that a run would report: of two ages the one that did better out of fold."""
    step = RACE if losses(way, RACE).mean() <= losses(way, LAST).mean() else LAST
    return way[f"accuracy{step}"], way[f"loss{step}"]


def found_in(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each rule comes to in a cell."""
    own, labels, rows = cell["ways"], cell["shots"], list[dict[str, Any]]()
    for source in {source for source, _ in own if source}:

        def add(rule: str, kept: bool, found: tuple[float, float]) -> None:
            told = {"set": cell["set"], "seed": cell["seed"], "labels": labels, "lines": source, "rule": rule}  # noqa: B023
            rows.append({**told, "kept": float(kept), "accuracy": found[0], "loss": found[1]})

        last = {way: (found["accuracy"], found["loss"]) for (of, way), found in own.items() if of in ("", source)}
        if not labels:
            add("no lines", False, last["names"])
            add("lines at 0.5 r", True, last["alone"])
            continue
        none = own["", "none"]
        for (of, way), both in own.items():
            if of == source and way.startswith("W"):
                alone = own[source, "alone, all" if way.startswith("W1") else "alone"]
                compared = {"names": own["", "names"], "none": none, "alone": alone, "both": both}
                for judge in JUDGES:
                    kept = keeps(judge, compared, labels)
                    add(f"{judge}, {way}", kept, end(both if kept else none))
        by = {"none": losses(none, RACE), "W0": losses(own[source, "W0"], RACE), "alone": losses(own[source, "alone"], LAST)}
        best = min(by, key=lambda name: float(by[name].mean()))
        add("C3, W0", best != "none", last["alone"] if best == "alone" else end(none if best == "none" else own[source, "W0"]))
        add("N, mean", True, last["mean"])
    return rows


def table(sets: pd.DataFrame, lines: str, rules: Sequence[str], columns: Sequence[str] = ("accuracy", "kept")) -> list[str]:
    """Return rows of a page: means over sets by labels, in per cent; with the mean over labels first."""
    some = sets[(sets.lines == lines) & sets.labels.isin(LABELS)]
    means = some.groupby(["rule", "labels"])[["accuracy", "kept", "loss"]].mean().unstack("labels")
    heads = [f"{label} a class" for label in LABELS]
    out = [f"| rule | mean | log-loss | {' | '.join(heads)} |", f"|{' --- |' * (3 + len(LABELS))}"]
    for rule in rules:
        if rule in means.index:
            one = means.loc[rule]
            cells = [f"{100 * one['accuracy', k]:.1f}" + (f" ({100 * one['kept', k]:.0f})" if "kept" in columns else "") for k in LABELS]
            mean, loss = (sum(one[name, k] for k in LABELS) / len(LABELS) for name in ("accuracy", "loss"))
            out.append(f"| {TOLD.get(rule, rule)} | {100 * mean:.1f} | {loss:.3f} | {' | '.join(cells)} |")
    return out


def by_set(sets: pd.DataFrame) -> list[str]:
    """Return rows of a page: accuracy of each set without labels, and by labels with the old rule and the new."""
    strong = sets[sets.lines == "strong"].set_index(["set", "rule", "labels"]).accuracy
    out = [f"| set | names, 0 | lines, 0 | {' | '.join(f'{k} a class' for k in LABELS)} |", f"|{' --- |' * (3 + len(LABELS))}"]
    for name in sorted(set(sets.set), key=lambda name: (name in HARD, name)):
        nothing, lined = strong[name, "no lines", 0], strong[name, "lines at 0.5 r", 0]
        shown = [
            f"{100 * strong[name, 'U, W0', k]:.1f}, {100 * strong[name, OLD, k]:.1f}, **{100 * strong[name, NEW, k]:.1f}**" for k in LABELS
        ]
        out.append(f"| {name} | {100 * nothing:.1f} | {100 * lined:.1f} | {' | '.join(shown)} |")
    return out


def to_none(cells: pd.DataFrame, rule: str, labels: int) -> str:
    """Return how far a rule's accuracy lies above that of no label, in points, with the standard error over sets."""
    strong = cells[cells.lines == "strong"].set_index(["set", "seed", "rule", "labels"]).accuracy
    with_labels, without = strong.xs((rule, labels), level=("rule", "labels")), strong.xs(("lines at 0.5 r", 0), level=("rule", "labels"))
    each = 100 * (with_labels - without).groupby("set").mean()
    return f"{each.mean():+.1f} ± {each.std(ddof=1) / math.sqrt(len(each)):.1f}"


def main() -> None:
    """Read the cells, and write the table and the page."""
    cells = pd.DataFrame([row for file in sorted(Path(sys.argv[1]).glob("*.pickle")) for row in found_in(pickle.loads(file.read_bytes()))])
    whole = {name for name, own in cells.groupby("set") if set(own.labels) == {0, *LABELS}}
    cells = cells[cells.set.isin(whole) & cells.rule.isin([*TOLD, "no lines", "lines at 0.5 r"])]
    sets = cells.groupby(["lines", "rule", "labels", "set"])[["accuracy", "loss", "kept"]].mean().reset_index()
    sets.round(4).to_csv(RESULTS / "judge.csv", index=False)
    names = sorted(set(sets.set))
    told = {source: table(sets, source, list(TOLD)) for source in SOURCES}
    of = {source: len(set(sets[sets.lines == source].set)) for source in SOURCES}
    hard = {
        part: table(sets[sets.set.isin(HARD) == (part == "hard")], "strong", ["U, W0", OLD, NEW, "N, W1"]) for part in ("hard", "others")
    }
    gap = " ".join(f"With {k} a class: {OLD} {to_none(cells, OLD, k)}, {NEW} {to_none(cells, NEW, k)}." for k in LABELS)
    page = [f"{len(names)} sets. {gap}", "", "## By set", "", *by_set(sets), ""]
    for part, rows in hard.items():
        page += [f"## Strong lines, {part}", "", *rows, ""]
    for source in SOURCES:
        page += [f"## {source}: {of[source]} sets", "", *told[source], ""]
    out = RESULTS / "judge.md"
    head = out.read_text(encoding="utf-8").split(MARK)[0] if out.exists() else "# The judge of class lines where labels are few\n\n"
    write_text_durably(out, head + MARK + "\n" + "\n".join(page))


MARK = "<!-- what follows is written by `python -m experiments.judge.read_out` -->\n"

if __name__ == "__main__":
    main()
