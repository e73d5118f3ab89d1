"""`docs/models.md`: what was found of each model type, written where every case was examined and nothing is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.zoo.cases import Case, all_cases
from tests.zoo.checks import Report
from tests.zoo.table import LEFT_OUT, OPEN, REFUSED, REMARKS

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BATCHES = {  # how a note of the run begins, and what the page says
    "rows run one by one": "one text at a time",
    "only rows of the same length": "texts of the same length together",
    "rows are padded on the right": "padding stands on the right",
    "rows are padded on the left": "padding stands on the left",
}
SHORTCUTS = ("shared keys", "kept keys", "packing", "deep prompts", "PEFT export")
BEGIN = "<!-- the table: written by `make test-zoo`, do not edit -->"

INTRO = """# Models

Which frozen models work, and how. `make test-zoo` makes a tiny random model of every causal, masked and encoder-decoder class that the
installed transformers knows, and compares what is computed for a text with what the model's own forward gives for that text alone: slots
in front of, inside and behind it, batches of unequal texts, padding on both sides, texts and prompts longer than the model's window,
the training loss and its gradient, a saved and reloaded model, predictions alone and together, PEFT adapters. Nothing in the table differs
by more than 1e-5 of the largest logit (gradients: 1e-4 of the largest).

A shortcut that a model reads differently is left, and the run says so in its notes: it is slower, and right. The columns:

* **kind**: how it is read: `decoder`, `masked` and `encoder_decoder` by label words, `encoder` by a trained head (`model.kind = "head"`).
* **slots**: a soft prompt works (`model.method = "prompt_tuning"`, `"p_tuning"`, `"pez"`).
* **shared**: slots that open every row, or stand behind a text that all rows begin with, run once for all of them.
* **kept**: texts before the slots run once for the whole run.
* **packed**: rows run one behind the other, without padding.
* **deep**: deep prompts work (`model.method = "prefix_tuning"`).
* **PEFT**: a prompt in front of the text can be exported as a PEFT adapter.

"""


def write_page(found: Mapping[str, Report]) -> None:
    """Write the page from all results."""
    import transformers

    rows = [_row(case, found.get(str(case))) for case in sorted(all_cases(), key=str)]
    works = sum(report.outcome == "right" for report in found.values())
    types = len({report.case.partition(":")[2] for report in found.values() if report.outcome == "right"})
    head = ["kind", "type", "slots", "shared", "kept", "packed", "deep", "PEFT", "remarks"]
    lines = [
        f"With transformers {transformers.__version__}: {works} ways to read {types} types of model work, {len(rows) - works} do not.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    PAGE.write_text(INTRO + BEGIN + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def read_page() -> dict[str, bool]:
    """Return what the page says: of each case, whether it works."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    return {f"{row[0]}:{row[1].strip('`')}": row[2] == "yes" for row in rows[2:]}


def _row(case: Case, report: Report | None) -> list[str]:
    name = str(case)
    if name in OPEN:
        return [case.kind, f"`{case.type}`", "no", *[""] * len(SHORTCUTS), f"not mended yet: {OPEN[name]}"]
    if report is None or report.outcome == "refused":
        why = REFUSED[name] if name in REFUSED else f"not tried: {LEFT_OUT[name]}"
        return [case.kind, f"`{case.type}`", "no" if name in REFUSED else "", *[""] * len(SHORTCUTS), why]
    return [case.kind, f"`{case.type}`", "yes", *("yes" if report.works.get(each) else "" for each in SHORTCUTS), _remarks(report)]


def _remarks(report: Report) -> str:
    """Return what a run says of a model's batches, which is what costs most, and what is refused of the templates."""
    found = [text for start, text in BATCHES.items() if any(note.startswith(start) for note in report.notes)]
    found += [f"{where}: {why}" for where, why in report.limits.items() if where not in ("deep prompts", "PEFT", "steps")]
    if report.case in REMARKS:
        found.append(REMARKS[report.case])
    return "; ".join(found).replace("|", "/")
