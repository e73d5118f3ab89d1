"""The command line: what there is to set up and to find. Parse, call one function, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maao.bars import Bars
from maao.cli_output import FAILED, JsonOption, Output
from maao.errors import MaaoError
from maao.printable import printable
from maao.progress import job, listening

if TYPE_CHECKING:
    from maao.first_config import Which

app = typer.Typer()


@app.command()
def init(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Labelled examples: a table (.csv, .tsv, .jsonl, .parquet), or a folder of class folders of pictures."
        ),
    ],
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="The config to write; by default NAME.toml, here.")] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="FILE", help="Labelled examples of the same columns, to report on at the end.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="The column of the text.")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column of the label.")] = None,
    separator: Annotated[str | None, typer.Option("--separator", help="What separates the columns of a .csv file.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The frozen model, in place of a usual one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take what is found where it is clear, and ask nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at labelled data, and write a commented config for it that runs as it stands. Asks where a terminal is there."""
    out = Output(as_json)
    with listening(Bars(out.going_on)), job("starting"):
        from maao.first_config import checked, look, told

    to = to or Path(f"{data.resolve().stem}.toml")
    if to.exists():
        raise MaaoError(f"{to} is there already, and is not written over: give another name with --to.")
    if not to.parent.is_dir():
        raise MaaoError(f"Cannot write {to}: there is no folder {to.parent}.")
    asks = sys.stdin.isatty() and out.asking.is_terminal and not yes
    found = look(data, test=test, text=text, label=label, separator=separator, ask=_ask if asks else None)
    with listening(Bars(out.going_on)), job("reading the data as a run does"):
        found, written = checked(found, to, model)
    try:
        to.write_text(written, encoding="utf-8")
    except OSError as error:
        raise MaaoError(f"Cannot write {to}: {error.strerror or error}. Give another file with --to.") from error
    for line in told(found):
        out.say(line)
    out.say(f"Written: {to}. Next: maao tune {to}")
    columns = {"separator": found.separator, "text": found.text or None, "label": found.label or None}
    out.document({"config": str(to), "data": str(data), **columns, "counts": dict(found.counts), "told": told(found)})


def _ask(which: Which, names: Sequence[str], found: str) -> str:
    """Ask for a column, with what was found as the default."""
    told = printable(f"Columns: {', '.join(names)}\nColumn of the {which}")
    while (answer := typer.prompt(told, default=printable(found) or None, err=True)) not in names:
        typer.echo(printable(f"There is no column {answer!r}."), err=True)
    return str(answer)


@app.command()
def where(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model, for example packaged:smollm2-135m-instruct.")],
    as_json: JsonOption = False,
) -> None:
    """Print the path of a packaged model's files, for other programs to use."""
    from maao.problems.towers.text.loading import packaged_path

    out, path = Output(as_json), str(packaged_path(name))
    out.say(path)
    out.document({"model": name, "path": path})


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    from maao.doctor import findings

    out, found = Output(as_json), list(findings())
    for finding in found:
        mark = "ok     " if finding.fine else ("MISSING" if finding.needed else "-      ")
        out.say(f"{mark} {finding.name}: {finding.told}")
    out.document({"findings": [asdict(finding) for finding in found]})
    if any(finding.needed and not finding.fine for finding in found):
        raise typer.Exit(FAILED)
