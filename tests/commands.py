"""Commands, run in the process of a test as the installed script runs them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from maao import cli


@dataclass
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def told(self) -> str:
        return self.out + self.err


def exit_code(monkeypatch: Any, *arguments: object) -> int:
    """Run a command; return its exit code. Whatever is no exit fails the test: it would be a traceback."""
    monkeypatch.setattr(sys, "argv", ["maao", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def ran(monkeypatch: Any, capsys: Any, *arguments: object) -> Done:
    """Run a command; return how it ended and what it wrote."""
    code = exit_code(monkeypatch, *arguments)
    told = capsys.readouterr()
    return Done(code, told.out, told.err)
