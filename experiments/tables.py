"""What studies of several tables share: which of them the command line names, and a table that is run as far as replies are there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from maao.compare import compare
from maao.errors import Waiting


def options(prog: str, told: str | None, tables: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for: `tables`, `only` and `workers`."""
    parser = argparse.ArgumentParser(prog=prog, description=told)
    parser.add_argument("--only", action="append", default=[], help="run only cells whose name holds this text; may be repeated")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("tables", nargs="*", default=tables, help=f"of {', '.join(tables)}")
    return parser.parse_args()


def run(table: Path, place: Path, asked: argparse.Namespace) -> str:
    """Run a table as far as replies are there; return how far that is."""
    try:
        return f"all cells are there: {compare(table, place, workers=asked.workers, only=asked.only)}"
    except Waiting as waiting:
        return str(waiting)
