"""What is read wrongly with the most confidence, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from maao.printable import spreadsheet_cell
from maao.types import Mistake


def mistakes_table(mistakes: Sequence[Mistake]) -> str:
    r"""Return CSV, worst first: the fields of each example, its label, what it was read as, and how probable both were.

    It is opened in spreadsheets: what begins like a formula has ' before it.

    Example:
        >>> from maao.types import Example
        >>> mistakes_table([Mistake(Example({"text": "a, b"}, "x"), "y", 0.75, 0.25)])
        'text,label,predicted,probability,label_probability\r\n"a, b",x,y,0.750000,0.250000\r\n'
    """
    names = list(dict.fromkeys(name for mistake in mistakes for name in mistake.example.fields))
    lines = io.StringIO()
    table = csv.writer(lines)
    table.writerow([*map(spreadsheet_cell, names), "label", "predicted", "probability", "label_probability"])
    for one in mistakes:
        shown = [one.example.fields.get(name, "") for name in names]
        told = map(spreadsheet_cell, [*shown, one.example.label, one.predicted])
        table.writerow([*told, f"{one.probability:.6f}", f"{one.label_probability:.6f}"])
    return lines.getvalue()
