"""The command line: what reads runs. Parse, call one function, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from maao.bars import Bars
from maao.cli_output import FAILED, INCOMPLETE, INTERRUPTED, JsonOption, Output, QuietOption, RunArgument, SeparatorOption, tell
from maao.errors import MaaoError
from maao.printable import printable
from maao.progress import job, listening
from maao.types import Split

if TYPE_CHECKING:
    from PIL import Image

    from maao.store.ledger import Call
    from maao.types import JSON, Example, Mistake

MOST_PICTURES = 60  # of a contact sheet

app = typer.Typer()


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs"), as_json: JsonOption = False
) -> None:
    """List the runs in a folder."""
    from maao.report.documents import runs_document
    from maao.report.tables import runs_table
    from maao.store.listing import list_runs

    found, out = list_runs(folder), Output(as_json)
    out.show(*runs_table(found, folder, out.width).renderables)
    out.document(runs_document(found, folder))


@app.command()
def show(
    run: RunArgument,
    clues: Annotated[bool, typer.Option("--clues", help="Show what was said in words about every round.")] = False,
    calls: Annotated[bool, typer.Option("--calls", help="Show every recorded call: what was asked, what came back.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Show the class lines that were trained on, with their weights.")] = False,
    mistakes: Annotated[
        Path | None,
        typer.Option("--mistakes", help="Write the worst mistakes on select: a .csv table, or a contact sheet (.png)."),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read a run out: rounds, proposals, verdicts, test, cost."""
    from maao.report.class_lines import listed
    from maao.report.documents import clues_document, run_document
    from maao.report.lines import shown
    from maao.report.run import clues_lines, report
    from maao.result import load

    out, result = Output(as_json, quiet), load(run)
    if mistakes is not None:  # files come before what is printed: whoever reads that may stop reading
        with listening(Bars(out.aside)):
            _write_examples(out, result.mistakes(), mistakes, "the worst mistakes on select", result.picture)
    out.show(*report(result).renderables)
    held = run_document(result)
    if clues:
        out.show(*clues_lines(result))
        held["clues"] = clues_document(result)
    if calls:
        told, held["calls"] = _recorded(run)
        out.say("\n".join([*([] if result.sent is None else [result.sent.line(), ""]), *told]))
    if lines:
        out.show(*map(shown, listed(result.lines) or ["The chosen point was trained on no class lines."]))
        held["lines"] = [asdict(line) for line in result.lines]
    out.document(held)


@app.command("report")
def write_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, and folders of comparisons.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="The page; by default NAME-report.html, here.")] = None,
    split: Annotated[str, typer.Option(help="Labels to judge class by class: select, test, train, or none.")] = "select",
    examples: Annotated[bool, typer.Option("--examples/--no-examples", help="Show examples, and what was sent to the mentor.")] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write what became of runs and comparisons into one HTML file that stands alone: no network, no script, under 2 MB."""
    from maao.report.html.page import write_page
    from maao.report.html.run_view import Wanted

    out = Output(as_json, quiet)
    wanted = Wanted(None if split == "none" else _split(split), examples)
    file = to or Path(f"{runs[0].resolve().name}-report.html" if len(runs) == 1 else "report.html")
    with listening(Bars(out.aside)):
        write_page(runs, file, wanted, watch=lambda told: out.tell(f"{told} ..."))
    out.document({"runs": list(map(str, runs)), "page": str(file), "bytes": file.stat().st_size})
    out.say(f"Written: {file} ({file.stat().st_size / 1000:,.0f} kB; open it in a browser)")


@app.command("watch")
def watch_run(
    run: RunArgument,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Show a run that goes on in another process, round by round, until it ends. It only reads."""
    from maao.report.documents import run_document
    from maao.watching import watch

    out = Output(as_json)
    try:
        result = watch(run, out.going_on, every=every)
    except KeyboardInterrupt:
        tell("\nStopped watching; the run goes on.")
        raise typer.Exit(INTERRUPTED) from None
    out.document(run_document(result))
    if result.warning:
        raise typer.Exit(INCOMPLETE)


@app.command()
def predict(
    run: RunArgument,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts to label (files of them: --file); in a run on pictures, image files."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A file with one text a line ('-': standard input), or a table (.csv, .tsv, .jsonl, .parquet) of the template's fields.",
        ),
    ] = None,
    separator: SeparatorOption = None,
    for_spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="In a table put ' before cells that a spreadsheet would take for formulas.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Label texts (or image files) with a run's tuned prompt, one for one and in their order.

    Texts give: label, probability, text, separated by tabs. A table gives its own columns and three more, as CSV: predicted, probability,
    not_read. What a run leaves undecided (its [predict]) has no label. What cannot be read has none either, is told with its line, and
    the exit code is 3 (1 where nothing could be read).
    """
    from collections import Counter

    from maao.data.checks import advice_of
    from maao.deploy import Prediction
    from maao.evaluation.undecided import IN_WORDS
    from maao.prediction import given_inputs, predictions_document, written
    from maao.result import load

    out, result = Output(as_json, quiet), load(run)
    inputs = given_inputs(result, texts or [], file, separator)
    if not inputs.things:
        raise MaaoError("Nothing to predict: give texts as arguments, or --file with one text a line, or a table.")
    if for_spreadsheet and (as_json or inputs.columns is None):
        raise MaaoError("--spreadsheet would be ignored: it is for a table, which is given by --file and comes out as CSV.")
    with listening(Bars(out.aside)), job("predicting"):
        found = inputs.predict(result)
    with_undecided = result.thresholds is not None
    if as_json:
        out.document({"run": str(run), "predictions": predictions_document(inputs, found, with_undecided=with_undecided)})
    else:
        for line in written(inputs, found, with_undecided=with_undecided, for_spreadsheet=for_spreadsheet):
            print(printable(line) if sys.stdout.isatty() else line)  # into a file or a pipe goes exact data
    for note in inputs.notes:
        out.tell(f"Note: {note}")
    cuts = [one.cut for one in found if isinstance(one, Prediction) and one.cut]
    if cuts:
        told = f"{len(cuts)} of {len(found)} texts were longer than the model's context and were cut, by at most {max(cuts)} tokens"
        out.tell(f"Note: {told}.")
    reasons = Counter(one.undecided for one in found if isinstance(one, Prediction) and one.undecided)
    if reasons:
        named = ", ".join(f"{count} {IN_WORDS[why]}" for why, count in sorted(reasons.items()))
        are, have = ("is", "has") if reasons.total() == 1 else ("are", "have")
        out.tell(
            f"{reasons.total()} of {len(found)} {are} left undecided ({named}) and {have} no label; --json and tables give the best guess."
        )
    unread = [one for one in found if not isinstance(one, Prediction)]
    for one in unread:
        out.tell(f"Not read: {one.place}: {one.reason}")
    for advice in advice_of(unread):
        out.tell(advice)
    if unread:
        out.tell(f"{len(unread)} of {len(found)} could not be read and have no label.")
        raise typer.Exit(INCOMPLETE if len(unread) < len(found) else FAILED)


@app.command()
def evaluate(
    run: RunArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Labelled examples: a table (.csv, .tsv, .jsonl, .parquet), or a folder of class folders of pictures.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Where no FILE is given: the run's own test, select or train.")] = "test",
    none_of_these: Annotated[
        bool, typer.Option("--none-of-these", help="Count labels that the run does not know as none of its classes.")
    ] = False,
    every_class: Annotated[bool, typer.Option("--all", help="Show all classes, not only the worst of many.")] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Set beside it what one would use instead, learnt from the run's labels.")
    ] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw calibration, coverage and confusions (.png).")] = None,
    mistakes: Annotated[
        Path | None, typer.Option("--mistakes", metavar="FILE", help="Write what is read wrongly: a .csv table, or a contact sheet (.png).")
    ] = None,
    suspects: Annotated[
        Path | None, typer.Option("--suspects", metavar="FILE", help="Write the labels that look wrong, in the same forms.")
    ] = None,
    separator: SeparatorOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say how good a run's tuned prompt is on labelled examples: figures, classes, confidence, mistakes, labels that look wrong."""
    from maao.report.evaluation import evaluation_report
    from maao.report.lines import shown
    from maao.report.tables import baselines_table
    from maao.result import load

    if file is not None and split != "test":
        raise MaaoError(f"--split {split} would be ignored: {file} is evaluated on. Drop one of them.")
    out, result = Output(as_json, quiet), load(run)
    with listening(Bars(out.aside)), job("evaluating"):
        judged = result.judged(_split(split) if file is None else file, none_of_these=none_of_these, separator=separator)
        found = result.evaluated(judged)
        beside = result.beside(judged) if baselines else None
    for things, path, told in ((found.mistakes, mistakes, "what is read wrongly"), (found.suspects, suspects, "labels that look wrong")):
        if path is not None:
            _write_examples(out, things, path, told, judged.picture)
    if plot is not None:
        from maao.report.evaluation_plot import plot_evaluation

        plot_evaluation(found, plot)
        out.tell(f"Drawn: {plot}")
    out.show(*evaluation_report(found, every_class=every_class, width=out.width).renderables, fold=True)
    if beside is not None:
        gained = [shown(""), shown(beside.gain.told, style="bold")] if beside.gain is not None else []
        out.show(baselines_table(beside, "\nBaselines, learnt from the run's labels ({count} examples)", found.score), *gained, fold=True)
    out.document({"run": str(run), **found.to_json(), "baselines": None if beside is None else beside.to_json()})


def _split(name: str) -> Split:
    for known in get_args(Split):
        if name == known:
            return known
    raise MaaoError(f"There is no split {name!r}: use test, select or train.")


@app.command()
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write into.")],
    format: Annotated[
        str, typer.Option(help="text, tensor, peft, peft-classifier, ctx or classes; 'all' writes what the run allows.")
    ] = "all",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take what was tuned elsewhere: plain text, tensors, PEFT adapter; of matchers, class features and CoOp's ctx."""
    from maao.errors import ConfigError
    from maao.result import load

    out, result = Output(as_json, quiet), load(run)
    written, not_written = dict[str, list[str]](), dict[str, str]()
    with listening(Bars(out.aside)), job("exporting"):
        for name in result.formats if format == "all" else (format,):
            try:
                written[name] = list(map(str, result.save(to, name)))
            except ConfigError as error:  # the template has its slots elsewhere, PEFT is not installed, the method has no such thing
                if format != "all":
                    raise
                not_written[name] = str(error)
    for name, files in written.items():
        out.say(f"{name}: {', '.join(files)}")
    for name, why in not_written.items():
        out.say(f"{name}: not written. {why}")
    out.document({"run": str(run), "to": str(to), "written": written, "not_written": not_written})


def _recorded(folder: Path) -> tuple[list[str], list[JSON]]:
    """Return the calls of a run that are on record, as lines and as plain data. Raises `StoreError` where one is damaged."""
    from maao.optimizers.serializer import TorchSerializer
    from maao.store.database import DATABASE
    from maao.store.files import reading
    from maao.store.run import RunFolder

    with RunFolder.open(folder, serializer=TorchSerializer(), write=False) as stored, reading(folder / DATABASE):
        calls = list(stored.ledger.calls())
        told = [line for number, call in enumerate(calls, start=1) for line in _call_lines(number, call)]
        return told, [_call_document(call) for call in calls]


def _call_lines(number: int, call: Call) -> list[str]:
    """Return what was asked in a recorded call and what came back."""
    from maao.llm.chat import reply_from_json
    from maao.printable import dollars
    from maao.report.lines import tokens_told

    request = json.loads(call.request)
    asked = [f"--- call {number}: {call.model}, {call.date}, {call.seconds:.1f} s", *(m["content"] for m in request["messages"])]
    try:
        reply = reply_from_json(call.reply)
    except ValueError as error:
        return [*asked, f"--- reply (sample {request['sample']}) cannot be used: {error}", ""]
    read, written, about = call.about
    tokens = tokens_told(read, written, about=about)
    ended = f"finish reason: {reply.finish_reason or 'none given'}"
    by = ", ".join(part for part in (reply.who and f"answered by {reply.who}", reply.how) if part)
    money = dollars(call.usd) if call.usd else ""
    told = "; ".join(part for part in (f"--- {tokens}, {ended}", money, by, reply.why_empty, reply.note) if part)
    return [*asked, f"--- reply (sample {request['sample']}):", reply.text, told, ""]


def _call_document(call: Call) -> JSON:
    """Return a recorded call as plain data."""
    return {
        "model": call.model,
        "date": call.date,
        "seconds": call.seconds,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "usd": call.usd,
        "request": json.loads(call.request),
        "reply": _plain_reply(call.reply),
    }


def _plain_reply(reply: str) -> object:
    try:
        return json.loads(reply)
    except ValueError:  # it cannot be used, and is shown as it is
        return reply


def _write_examples(out: Output, found: Sequence[Mistake], path: Path, told: str, picture: Callable[[Example], Image.Image]) -> None:
    """Write examples that are read as another class than their label's: a table, or a contact sheet of pictures."""
    from maao.report.contact_sheet import contact_sheet
    from maao.report.mistakes import mistakes_table

    if not found:
        out.tell(f"There is nothing to write of {told}: no example is such a one.")
        return
    shown = found
    try:
        if path.suffix.lower() == ".csv":
            path.write_text(mistakes_table(found), encoding="utf-8", newline="")
        else:
            shown = found[:MOST_PICTURES]
            contact_sheet(shown, picture).save(path)
    except (OSError, ValueError) as error:
        raise MaaoError(
            f"Cannot write {told} into {path}: {error}. Give a file in a folder that exists, which ends in .csv (or .png, for a contact "
            "sheet)."
        ) from error
    out.tell(f"Written: {path} ({told}, {len(shown)} of {len(found)}, the worst first)")
