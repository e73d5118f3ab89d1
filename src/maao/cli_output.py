"""What commands have in common: where they print, the options that say so, and their exit codes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maao.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from maao.types import JSON

FAILED = 1  # an error of ours, told in words; also: a replay differs, doctor misses what is needed
USAGE = 2  # a command that is not written so
INCOMPLETE = 3  # exit code of a command that did what it could: some inputs were not read, or no reply of a mentor was usable
WAITING = 4  # exit code of a run or a comparison that waits for replies
CLOSED = 141  # whoever read standard output stopped reading, and nothing was to be made; 128 and SIGPIPE, as of other tools
INTERRUPTED = 130  # by Ctrl-C; what was finished is kept
TERMINATED = 143  # by SIGTERM, which is taken as Ctrl-C is

CODES = {
    0: "fine",
    FAILED: "an error, told in words; a replay that differs; something that doctor misses",
    USAGE: "a command that is not written so",
    INCOMPLETE: "done as far as it could be: some inputs were not read, or no reply of the mentor was usable",
    WAITING: "it waits for replies (maao requests)",
    INTERRUPTED: "stopped by Ctrl-C; what was finished is kept",
    CLOSED: "its output was no longer read (tune, resume, compare: they go on to their end)",
    TERMINATED: "stopped by SIGTERM (kill, a shutdown, a cluster's scheduler); what was finished is kept",
}

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the config, for example stage.lr=0.03. Repeatable."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before what may cost money (docs/money.md).")]
ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output (docs/commands.md).")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone: no progress, no notes.")]
SeparatorOption = Annotated[
    str | None, typer.Option("--separator", help="What separates the columns of a .csv file; by default as in the run's config.")
]


@dataclass(frozen=True)
class Output:
    """Where a command prints: its result on standard output; how it goes on there too, or beside a document on standard error."""

    as_json: bool = False
    quiet: bool = False

    @property
    def going_on(self) -> Console:
        """Where is shown what goes on."""
        return self._console(stderr=self.as_json, quiet=self.quiet)

    @property
    def asking(self) -> Console:
        """Where a question is put: also where all else is to be quiet."""
        return self._console(stderr=self.as_json)

    @property
    def aside(self) -> Console:
        """Where is shown what goes on beside an output that others read, such as labels."""
        return self._console(stderr=True, quiet=self.quiet)

    def show(self, *parts: RenderableType, fold: bool = False) -> None:
        """Print a result for a person: nothing where a document is asked for.

        Args:
            fold: fold lines into a file or a pipe too.
        """
        from maao.console import print_plainly

        if not self.as_json:
            print_plainly(self._console(), *parts, fold=fold)

    @property
    def width(self) -> int:
        """The columns that there are for a result."""
        return self._console().width

    def say(self, text: str) -> None:
        """Print lines of a result for a person: what came from outside is shown, and not obeyed; at a terminal no word is broken."""
        if self.as_json:
            return
        if not sys.stdout.isatty():
            print(printable(text))
            return
        from maao.report.lines import shown

        self.show(*map(shown, text.split("\n")))

    def tell(self, text: str) -> None:
        """Print a note beside the output proper."""
        if not self.quiet:
            tell(text)

    def document(self, held: JSON) -> None:
        """Print the document, if it is asked for."""
        from maao.report.documents import dumped

        if self.as_json:
            text = dumped(held)
            print(printable(text) if sys.stdout.isatty() else text)

    def _console(self, *, stderr: bool = False, quiet: bool = False) -> Console:
        from rich.console import Console

        console = Console(stderr=stderr, quiet=quiet)
        if console.is_terminal:
            return console
        return Console(stderr=stderr, quiet=quiet, width=int(width) if (width := os.environ.get("COLUMNS", "")).isdecimal() else 80)


def tell(text: str) -> None:
    """Print on standard error."""
    print(printable(text), file=sys.stderr)
