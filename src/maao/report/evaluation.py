"""What an evaluation says, in 80 columns: figures, classes, what is read wrongly, and labels that look wrong. It computes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from maao.evaluation.evaluation import ClassReport, Decided, Evaluation
from maao.report.lines import add_row, short, shown
from maao.types import Example, Mistake, readable

MOST_CLASSES = 12  # shown of many, the worst
MOST_LINES = 5  # shown of what is read wrongly, of labels that look wrong, of confusions
WIDE = 72  # columns from which on all figures of a class stand in its line
LEFT_OUT = ("precision", "read as it")  # of these where there are fewer
LABEL = 25  # characters of a label in a table's line
MOST_TEXT = 300  # characters of an example


def evaluation_report(found: Evaluation, *, every_class: bool = False, width: int = 80) -> Group:
    """Return all that is to say of an evaluation.

    Args:
        every_class: show all classes, not only the worst of many.
        width: columns that there are to read it in; in few, some figures of each class are left out.
    """
    parts: list[RenderableType] = [_heading(found), _figures(found)]
    if found.decided is not None:
        parts.append(_decided_table(found.decided))
    parts += [_coverage_table(found), _class_table(found, every_class, width)]
    if found.confusions:
        parts.append(_listed("Read as another class most often", len(found.confusions), _confusion_lines(found)))
    if found.mistakes:
        parts.append(_listed("Read wrongly with the most confidence", len(found.mistakes), _example_lines(found.mistakes, "read as")))
    if found.suspects:
        parts.append(_listed("Labels that look wrong", len(found.suspects), _example_lines(found.suspects, "looks like")))
    if found.notes:
        parts.append(Text(""))
    parts += [shown(f"Note: {note}.", style="yellow") for note in found.notes]
    return Group(*parts)


def _heading(found: Evaluation) -> Text:
    occurring = sum(own.num_examples > 0 for own in found.classes)
    classes = f"{occurring} classes" if occurring == len(found.labels) else f"{occurring} of the {len(found.labels)} classes"
    return shown(f"Evaluated on {found.of}: {found.num_examples:,} examples of {classes}", style="bold")


def _figures(found: Evaluation) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    low, high = found.interval
    add_row(table, "accuracy", f"{found.accuracy:.3f}", f"95 % interval {low:.3f} to {high:.3f}")
    add_row(table, "balanced accuracy", f"{found.balanced_accuracy:.3f}", "mean recall of the classes")
    add_row(table, "macro F1", f"{found.macro_f1:.3f}", "mean F1 of the classes")
    for name, value in found.score.metrics.items():
        if name not in ("accuracy", "balanced_accuracy", "f1_macro", "log_loss"):
            add_row(table, readable(name), f"{value:.3f}", "")
    add_row(table, "log-loss", f"{found.log_loss:.3f}", "lower is better")
    add_row(table, "calibration error", f"{found.calibration.error:.3f}", f"in {found.calibration.num_bins} bins of equal width")
    none = found.none_of_these
    if none is not None:
        examples = f"from {none.num_examples:,} example{'s' if none.num_examples > 1 else ''} of none of these classes"
        add_row(table, "AUROC", f"{none.auroc:.3f}", f"telling these {examples}, by {none.confidence}")
    return table


def _decided_table(decided: Decided) -> Table:
    table = Table(
        title="\nSome are left undecided", title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 1)
    )
    low, high = decided.interval
    add_row(table, "decided", f"{decided.coverage:.3f}", f"{decided.num_unlike:,} are unlike the classes, {decided.num_unsure:,} unsure")
    add_row(table, "accuracy of the decided", f"{decided.accuracy:.3f}", f"95 % interval {low:.3f} to {high:.3f}")
    if decided.none_undecided is not None and decided.accuracy_with_none is not None:
        add_row(table, "none of these, undecided", f"{decided.none_undecided:.3f}", "as they should be")
        add_row(table, "accuracy of all", f"{decided.accuracy_with_none:.3f}", "none of these being right where undecided")
    return table


def _coverage_table(found: Evaluation) -> Table:
    table = _table("If only the surest are decided", ("decided", "examples", "accuracy", "confidence at least"))
    for point in found.coverage:
        add_row(table, f"{100 * point.coverage:.0f} %", f"{point.num_examples:,}", f"{point.accuracy:.3f}", f"{point.confidence:.3f}")
    return table


def _class_table(found: Evaluation, every_class: bool, width: int) -> Table:
    classes: Sequence[ClassReport] = sorted(found.classes, key=lambda own: (own.f1, -own.num_examples))
    title = "Classes, the worst first"
    if len(classes) > MOST_CLASSES and not every_class:
        title += f" ({MOST_CLASSES} of {len(classes)}; --all shows every one)"
        classes = classes[:MOST_CLASSES]
    names = [name for name in ("class", "F1", "precision", "recall", "examples", "read as it") if width >= WIDE or name not in LEFT_OUT]
    table = _table(title, names)
    for own in classes:
        cells = {
            "class": folded(own.label, LABEL),
            "F1": f"{own.f1:.3f}",
            "precision": f"{own.precision:.3f}" if own.num_predicted else "-",
            "recall": f"{own.recall:.3f}" if own.num_examples else "-",
            "examples": f"{own.num_examples:,}",
            "read as it": f"{own.num_predicted:,}",
        }
        add_row(table, *(cells[name] for name in names))
    return table


def folded(label: str, width: int) -> str:
    """Return a label in lines of at most a width, broken behind white space, underscores and the like, where it can be.

    Example:
        >>> folded("card_payment_wrong_exchange_rate", 20)
        'card_payment_wrong_\\nexchange_rate'
    """
    lines = [""]
    for part in re.findall(r"[^\s_./-]*[\s_./-]*", label):
        if lines[-1] and len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _table(title: str, names: Sequence[str]) -> Table:
    """Return a table whose heads are never broken; a word of a label is, where nothing else helps."""
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for name in names:
        label = name == "class"
        table.add_column(name, justify="left" if label else "right", overflow="fold", no_wrap=not label, min_width=len(name))
    return table


def _listed(title: str, count: int, lines: Iterator[Text]) -> Group:
    more = f" ({MOST_LINES} of {count:,})" if count > MOST_LINES else ""
    return Group(Text(f"\n{title}{more}", style="bold"), *(Padding(line, (0, 0, 0, 1)) for line in lines))


def _confusion_lines(found: Evaluation) -> Iterator[Text]:
    for one in found.confusions[:MOST_LINES]:
        yield shown(f"{one.count:,} x {one.label}, read as {one.predicted}")


def _example_lines(examples: Sequence[Mistake], verb: str) -> Iterator[Text]:
    for one in examples[:MOST_LINES]:
        yield shown(short(in_words(one.example), MOST_TEXT), style="cyan")
        yield shown(f"  {one.example.label} ({one.label_probability:.2f}), {verb} {one.predicted} ({one.probability:.2f})")


def in_words(example: Example) -> str:
    """Return what stands for an example: its texts, or the path of its picture.

    Example:
        >>> in_words(Example({"head": "Rain", "body": "It rained."}, "weather"))
        'Rain / It rained.'
    """
    return " / ".join(text for name, text in example.fields.items() if name != "content")
