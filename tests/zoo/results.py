"""Results of the zoo, one JSON line a case, kept so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from tests.zoo.checks import Report
from tests.zoo.table import OPEN, REFUSED

HERE = Path(__file__).parent
FOLDER = HERE / "results"  # not in the repository
CODE = HERE.parents[1] / "src" / "maao" / "problems"


def digest(quick: bool = False) -> str:
    """Return what a result follows from, hashed: the code that reads models, the zoo itself, and the version of transformers."""
    import transformers

    found = hashlib.sha256(transformers.__version__.encode())
    for path in sorted(
        [*CODE.rglob("*.py"), HERE.parent / "tiny.py", *(HERE / f"{name}.py" for name in ("cases", "checks", "shrink", "table"))]
    ):
        found.update(path.name.encode() + path.read_bytes())
    return ("quick-" if quick else "") + found.hexdigest()[:16]


def load(key: str) -> dict[str, Report]:
    """Return what is known under a digest, by case."""
    found = {}
    for path in sorted(FOLDER.glob(f"{key}-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                report = Report(**json.loads(line))
            except (ValueError, TypeError):  # a kill cut it short: it is done again
                continue
            found[report.case] = report
    return found


def save(key: str, part: int, report: Report) -> None:
    """Add a result; each worker has a file of its own."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{key}-{part}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(report)) + "\n")


def faults(report: Report) -> list[str]:
    """Return what is wrong with a result: other numbers, a crash, or a refusal that the table does not list (or lists in vain)."""
    found = [*report.wrong, *(f"crash in {name}: {text.strip().splitlines()[-1]}" for name, text in report.crashed.items())]
    if report.outcome == "refused" and report.case not in REFUSED:
        found.append(f"refused, which the table does not list: {report.refusal}")
    if report.outcome != "refused" and report.case in REFUSED:
        found.append("no longer refused: take it out of the table")
    if report.case in OPEN:
        found.append("no longer wrong: take it out of the table" if not found else OPEN[report.case])
    return found


def summary(reports: Collection[Report]) -> str:
    """Return what was found, in lines."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(report.outcome, []).append(report)
    lines = [", ".join(f"{len(own)} {outcome}" for outcome, own in sorted(groups.items()))]
    for report in sorted(reports, key=lambda report: report.case):
        if told := faults(report):
            lines.append(f"{report.case}: {'; '.join(told[:3])}")
    return "\n".join(lines)
