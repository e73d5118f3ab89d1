"""The command line: parse, call one function, print."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from maao.cli_requests import app as requests_app
from maao.errors import MaaoError, Waiting, is_out_of_memory
from maao.printable import printable
from maao.types import Split

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from maao.config import Config
    from maao.result import Result
    from maao.store.ledger import Call
    from maao.types import JSON, Example, Mistake

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tune soft prompts by gradient descent, with a language model as mentor.",
)

app.add_typer(requests_app, name="requests")

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the config, for example stage.lr=0.03. Repeatable."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before what may cost money (docs/money.md).")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder to make; by default a new one in runs/.")]
MOST_PICTURES = 60  # of a contact sheet
INCOMPLETE = 3  # exit code of a command that did what it could: some inputs were not read, or no reply of a mentor was usable
WAITING = 4  # exit code of a run or a comparison that waits for replies

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    settings: Set = None,
    run: RunOption = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Tune a prompt of a language model on news headlines instead, with that model as mentor.")
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the demo's config and stop.")] = False,
) -> None:
    """Sort customers' messages into 77 intents, with two labelled messages each; no network, no key, a minute."""
    name = "demo-decoder" if decoder else "demo"
    if print_config:
        from maao.carried import carried

        print(carried(name), end="")
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    result = _tune(name, ("seed=" + str(seed), *(settings or ())), run, f"{name}-seed{seed}")
    _exit_for(result.warning)


@app.command()
def tune(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="A TOML file, or 'demo'; with --from by default the config of that run.")
    ] = None,
    settings: Set = None,
    run: RunOption = None,
    origin: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin from the chosen point of a finished run: with further labels, say.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Run a config into a new run folder; or go on with the run that it was begun in and that waits for replies (docs/batch.md)."""
    if config is None and origin is None:
        raise typer.BadParameter("name a config file, 'demo', or a run to begin from (--from).")
    name = f"{origin.name}-further" if config is None and origin is not None else None
    _exit_for(_tune(config, tuple(settings or ()), run, name, origin, yes=yes).warning)


@app.command("find-lr")
def find_lr(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")],
    settings: Set = None,
) -> None:
    """Try learning rates (stage.lr_grid, or a usual grid) from a run's beginning, and say which to take. No mentor is asked."""
    from maao import runner
    from maao.console import Terminal
    from maao.report.lines import cost_told, shown
    from maao.report.tables import rates_table

    checked = _read_config(config, tuple(settings or ()))
    try:
        with Terminal(_console()) as terminal:
            search = runner.find_lr(checked, watch=terminal)
    except KeyboardInterrupt:
        _tell("\nStopped. Nothing is stored by a search.")
        raise typer.Exit(130) from None
    _console().print(rates_table(search))
    _console().print(shown(cost_told(search.cost)))
    rate = search.chosen.rate
    grid = " --set stage.lr_grid=[]" if checked.stage.options.lr_grid else ""  # a rate beside a grid would be refused
    instead = " in the place of its lr_grid" if grid else ""
    _say(f"Put this into the config{instead}, or give --set stage.lr={rate}{grid}:\n\n[stage]\nlr = {rate}")


@app.command()
def baselines(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")],
    settings: Set = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="A baseline to show, in place of the usual ones. Repeatable.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Read test, having learnt from all labels; else the labels, fold by fold.")] = False,
    headroom: Annotated[
        int | None, typer.Option("--headroom", metavar="N", help="Walk from N random starts too: is there anything to gain?", min=2)
    ] = None,
) -> None:
    """Show what one would use instead, on a config's data and before a run: each baseline, its time, and what it is."""
    checked = _read_config(config, tuple(settings or ()))
    try:
        if "data" in checked.builder.sections or not headroom:
            _show_baselines(checked, only, test=test)
        if headroom:
            _show_headroom(checked, headroom)
    except KeyboardInterrupt:
        _tell("\nStopped. Nothing is stored by this command.")
        raise typer.Exit(130) from None


def _show_baselines(checked: Config, only: list[str] | None, *, test: bool) -> None:
    from maao.baselines.listed import USUAL, listed
    from maao.report.tables import baselines_table

    found = listed(checked, only or USUAL, test=test, watch=lambda one: _tell(f"{one.title}: {one.seconds:.1f} s"))
    _console().print(baselines_table(found, test=test))


def _show_headroom(checked: Config, starts: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from maao.baselines.headroom import headroom as judge
    from maao.report.lines import cost_told, shown
    from maao.report.tables import headroom_table

    with Progress(TextColumn("starts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=_console()) as progress:
        bar = progress.add_task("starts", total=starts)
        found = judge(checked, starts=starts, watch=lambda done, total: progress.update(bar, completed=done, total=total))
    _console().print(headroom_table(found))
    _say("\n".join(found.told()))
    _console().print(shown(cost_told(found.cost)))


def _read_config(config: str | None, settings: tuple[str, ...], origin: Path | None = None) -> Config:
    from maao.config import read_with_notes

    if config is None:
        from maao.origin import config_with

        assert origin is not None
        checked, notes = config_with(origin, settings)
    else:
        begun = () if origin is None else (f"from_run={str(origin.resolve())!r}",)
        checked, notes = read_with_notes(config, (*settings, *begun))
    for note in notes:
        _tell(f"Note: {note}.")
    return checked


def _tune(
    config: str | None,
    settings: tuple[str, ...],
    folder: Path | None,
    name: str | None,
    origin: Path | None = None,
    *,
    yes: bool = False,
) -> Result:
    """Run a config, and print what came of it."""
    from maao.console import Terminal
    from maao.runner import folder_for, run

    checked = _read_config(config, settings, origin)
    name = name or f"{Path(config or 'tune').stem}-seed{checked.seed}"
    folder = folder or folder_for(Path("runs"), name, checked)
    with Terminal(_console(), yes=yes) as terminal:
        result = _interruptible(lambda: run(checked, folder, watch=terminal), folder)
    _print_result(result)
    return result


@app.command()
def compare(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A TOML file of arms, tasks and seeds (docs/compare.md).")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results; by default compare/NAME.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes at a time; by default by processors and memory.", min=1)] = None,
    only: Annotated[str, typer.Option(help="Run only cells whose name holds this text.")] = "",
    beside: Annotated[
        Path | None, typer.Option("--with", help="A file with the sections that the table lacks: tasks, models, base, seeds.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run workers on a Ray cluster (RAY_ADDRESS) that sees the same paths.")] = False,
    yes: YesOption = False,
) -> None:
    """Run arms x tasks x seeds side by side, and say what differs, by how much, how sure that is, and what it cost."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from maao import compare as comparison
    from maao.compare.page import PAGE

    place = out or Path("compare") / (table.stem if beside is None else f"{table.stem}-{beside.stem}")
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    try:
        _agree_to_cells(table, place, only, beside, yes=yes)
        with Progress(*columns, console=_console()) as progress:
            bar = progress.add_task("cells", total=None)
            page = comparison.compare(
                table,
                place,
                workers=workers,
                only=only,
                ray=ray,
                beside=beside,
                watch=lambda done, total, _: progress.update(bar, completed=done, total=total),
            )
    except KeyboardInterrupt:
        _tell(f"\nStopped. Finished cells are kept; go on with the same command. Results so far: {place}")
        raise typer.Exit(130) from None
    except Waiting:
        _say((place / PAGE).read_text(encoding="utf-8"))
        raise
    _say(page.read_text(encoding="utf-8"))
    _say(f"Results: {place} (results.json, page.md, rows/, runs/, plots)")


def _agree_to_cells(table: Path, place: Path, only: str, beside: Path | None, *, yes: bool) -> None:
    """Tell what the cells of a table may cost, and go on where that is agreed to."""
    from maao.compare.estimate import estimate_cells
    from maao.console import agree

    found = estimate_cells(table, place, only=only, beside=beside)
    if found is not None and not found.estimate.is_free:
        agree(_console(), found.told(), found.caps, yes=yes)


@app.command()
def resume(run: RunArgument, yes: YesOption = False) -> None:
    """Go on with a run where it stopped. A finished run is only shown."""
    from maao import runner
    from maao.console import Terminal

    with Terminal(_console(), yes=yes) as terminal:
        result = _interruptible(lambda: runner.resume(run, watch=terminal), run)
    _print_result(result)
    _exit_for(result.warning)


@app.command()
def replay(run: RunArgument) -> None:
    """Run again on the recorded replies, without any model call, and compare bit for bit."""
    from maao import runner
    from maao.console import Terminal

    with Terminal(_console()) as terminal:
        found = runner.replay(run, watch=terminal)
    if found.warning:
        _say(found.warning)
    told = "the same result" if found.equal else f"a DIFFERENT result: the first {found.same} of {found.rounds} rounds agree"
    calls = f"{found.llm_calls} LLM calls"
    if found.llm_calls is None:
        calls = "an unknown number of LLM calls (the mentor, which is not maao's, was asked again)"
    _say(f"Replayed {found.rounds} rounds with {calls}: {told}.")
    _say(f"Final parameters, recorded: {found.recorded}\nFinal parameters, replayed: {found.replayed}")
    if not found.equal:
        raise typer.Exit(1)
    _exit_for(found.warning)


@app.command()
def runs(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs")) -> None:
    """List the runs in a folder."""
    from maao.report.tables import runs_table
    from maao.store.listing import list_runs

    _console().print(runs_table(list_runs(folder), folder))


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
) -> None:
    """Read a run out: rounds, proposals, verdicts, test, cost."""
    from maao.report.run import clues_table
    from maao.result import load

    result = load(run)
    _print_result(result)
    if clues:
        _console().print(clues_table(result))
    if calls:
        _print_calls(run)
    if lines:
        from maao.report.class_lines import listed
        from maao.report.lines import shown

        for line in listed(result.lines) or ["The chosen point was trained on no class lines."]:
            _console().print(shown(line))
    if mistakes is not None:
        _write_examples(result.mistakes(), mistakes, "the worst mistakes on select", result.picture)


@app.command("report")
def write_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, and folders of comparisons.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="The page; by default NAME-report.html, here.")] = None,
    split: Annotated[str, typer.Option(help="Labels to judge class by class: select, test, train, or none.")] = "select",
    examples: Annotated[bool, typer.Option("--examples/--no-examples", help="Show examples, and what was sent to the mentor.")] = True,
) -> None:
    """Write what became of runs and comparisons into one HTML file that stands alone: no network, no script, under 2 MB."""
    from maao.report.html.page import write_page
    from maao.report.html.run_view import Wanted

    wanted = Wanted(None if split == "none" else _split(split), examples)
    file = to or Path(f"{runs[0].resolve().name}-report.html" if len(runs) == 1 else "report.html")
    write_page(runs, file, wanted, watch=lambda told: _tell(f"{told} ..."))
    _say(f"Written: {file} ({file.stat().st_size / 1000:,.0f} kB; open it in a browser)")


@app.command("watch")
def watch_run(
    run: RunArgument,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
) -> None:
    """Show a run that goes on in another process, round by round, until it ends. It only reads."""
    from maao.watching import watch

    try:
        result = watch(run, _console(narrow=True), every=every)
    except KeyboardInterrupt:
        _tell("\nStopped watching; the run goes on.")
        raise typer.Exit(130) from None
    _exit_for(result.warning)


@app.command()
def predict(
    run: RunArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to label; in a run on pictures, image files.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A file with one text a line ('-': standard input), or a table (.csv, .tsv, .jsonl, .parquet) of the template's fields.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, with all probabilities.")] = False,
    separator: Annotated[
        str | None, typer.Option("--separator", help="What separates the columns of a .csv file; by default as in the run's config.")
    ] = None,
) -> None:
    """Label texts (or image files) with a run's tuned prompt, one for one and in their order.

    Texts give: label, probability, text, separated by tabs. A table gives its own columns and three more, as CSV: predicted, probability,
    not_read. What a run leaves undecided (its [predict]) has no label. What cannot be read has none either, is told with its line, and
    the exit code is 3 (1 where nothing could be read).
    """
    from collections import Counter

    from maao.deploy import Prediction
    from maao.evaluation.undecided import IN_WORDS
    from maao.prediction import given_inputs, written
    from maao.result import load

    result = load(run)
    inputs = given_inputs(result, texts or [], file, separator)
    if not inputs.things:
        raise MaaoError("Nothing to predict: give texts as arguments, or --file with one text a line, or a table.")
    found = inputs.predict(result)
    for line in written(inputs, found, as_json=as_json, with_undecided=result.thresholds is not None):
        print(printable(line) if sys.stdout.isatty() else line)  # into a file or a pipe goes exact data
    cuts = [one.cut for one in found if isinstance(one, Prediction) and one.cut]
    if cuts:
        told = f"{len(cuts)} of {len(found)} texts were longer than the model's context and were cut, by at most {max(cuts)} tokens"
        _tell(f"Note: {told}.")
    reasons = Counter(one.undecided for one in found if isinstance(one, Prediction) and one.undecided)
    if reasons:
        named = ", ".join(f"{count} {IN_WORDS[why]}" for why, count in sorted(reasons.items()))
        are, have = ("is", "has") if reasons.total() == 1 else ("are", "have")
        _tell(
            f"{reasons.total()} of {len(found)} {are} left undecided ({named}) and {have} no label; --json and tables give the best guess."
        )
    unread = [one for one in found if not isinstance(one, Prediction)]
    for one in unread:
        _tell(f"Not read: {one.place}: {one.reason}")
    if unread:
        _tell(f"{len(unread)} of {len(found)} could not be read and have no label.")
        raise typer.Exit(INCOMPLETE if len(unread) < len(found) else 1)


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
    json_file: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write all of it as JSON; '-' prints it alone.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw calibration, coverage and confusions (.png).")] = None,
    mistakes: Annotated[
        Path | None, typer.Option("--mistakes", metavar="FILE", help="Write what is read wrongly: a .csv table, or a contact sheet (.png).")
    ] = None,
    suspects: Annotated[
        Path | None, typer.Option("--suspects", metavar="FILE", help="Write the labels that look wrong, in the same forms.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="What separates the columns of a .csv file; by default as in the run's config.")
    ] = None,
) -> None:
    """Say how good a run's tuned prompt is on labelled examples: figures, classes, confidence, mistakes, labels that look wrong."""
    from maao.report.evaluation import evaluation_report
    from maao.result import load

    if file is not None and split != "test":
        raise MaaoError(f"--split {split} would be ignored: {file} is evaluated on. Drop one of them.")
    result = load(run)
    judged = result.judged(_split(split) if file is None else file, none_of_these=none_of_these, separator=separator)
    found = result.evaluated(judged)
    if json_file != "-":
        _console(narrow=True).print(evaluation_report(found, every_class=every_class))
    for things, path, told in ((found.mistakes, mistakes, "what is read wrongly"), (found.suspects, suspects, "labels that look wrong")):
        if path is not None:
            _write_examples(things, path, told, judged.picture)
    if plot is not None:
        from maao.report.evaluation_plot import plot_evaluation

        plot_evaluation(found, plot)
        _tell(f"Drawn: {plot}")
    if json_file is not None:
        _write_json(found.to_json(), json_file)


def _split(name: str) -> Split:
    for known in get_args(Split):
        if name == known:
            return known
    raise MaaoError(f"There is no split {name!r}: use test, select or train.")


def _write_json(value: JSON, place: str) -> None:
    import json

    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    if place == "-":
        print(printable(text) if sys.stdout.isatty() else text)
        return
    try:
        Path(place).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MaaoError(f"Cannot write {place}: {error.strerror or error}. Give a file in a folder that exists.") from error
    _tell(f"Written: {place}")


@app.command()
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write into.")],
    format: Annotated[
        str, typer.Option(help="text, tensor, peft, peft-classifier, ctx or classes; 'all' writes what the run allows.")
    ] = "all",
) -> None:
    """Take the tuned prompt elsewhere: plain text, embeddings, PEFT adapter; of runs on pictures, CoOp's ctx and class features."""
    from maao.errors import ConfigError
    from maao.result import load

    result = load(run)
    if format != "all":
        _say(f"{format}: {_listed(result.save(to, format))}")
        return
    for name in result.formats:
        try:
            _say(f"{name}: {_listed(result.save(to, name))}")
        except ConfigError as error:  # the template has its slots elsewhere, PEFT is not installed, the method has no such thing
            _say(f"{name}: not written. {error}")


@app.command()
def where(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model, for example packaged:smollm2-135m-instruct.")],
) -> None:
    """Print the path of a packaged model's files, for other programs to use."""
    from maao.problems.towers.text.loading import packaged_path

    _say(str(packaged_path(name)))


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    from maao.doctor import findings

    missing = 0
    for finding in findings():
        missing += finding.needed and not finding.fine
        mark = "ok     " if finding.fine else ("MISSING" if finding.needed else "-      ")
        _say(f"{mark} {finding.name}: {finding.told}")
    if missing:
        raise typer.Exit(1)


def _exit_for(warning: str) -> None:
    """End with a code of its own where the mentor never gave a usable reply, so that a script notices."""
    if warning:
        raise typer.Exit(INCOMPLETE)


def _print_result(result: Result) -> None:
    from maao.report.run import report

    _console().print(report(result))


def _print_calls(folder: Path) -> None:

    from maao.optimizers.serializer import TorchSerializer
    from maao.store.database import DATABASE
    from maao.store.files import reading
    from maao.store.run import RunFolder

    with RunFolder.open(folder, serializer=TorchSerializer(), write=False) as stored, reading(folder / DATABASE):
        told = [line for number, call in enumerate(stored.ledger.calls(), start=1) for line in _call_lines(number, call)]
    _say("\n".join(told))


def _call_lines(number: int, call: Call) -> list[str]:
    """Return what was asked in a recorded call and what came back."""
    import json

    from maao.llm.chat import reply_from_json

    request = json.loads(call.request)
    asked = [f"--- call {number}: {call.model}, {call.date}, {call.seconds:.1f} s", *(m["content"] for m in request["messages"])]
    try:
        reply = reply_from_json(call.reply)
    except ValueError as error:
        return [*asked, f"--- reply (sample {request['sample']}) cannot be used: {error}", ""]
    tokens = f"{call.input_tokens} tokens in, {call.output_tokens} out{' (estimated)' if reply.usage.estimated else ''}"
    ended = f"finish reason: {reply.finish_reason or 'none given'}"
    by = ", ".join(part for part in (reply.who and f"answered by {reply.who}", reply.how) if part)
    told = "; ".join(part for part in (f"--- {tokens}, {ended}", by, reply.why_empty, reply.note) if part)
    return [*asked, f"--- reply (sample {request['sample']}):", reply.text, told, ""]


def _write_examples(found: Sequence[Mistake], path: Path, told: str, picture: Callable[[Example], Image.Image]) -> None:
    """Write examples that are read as another class than their label's: a table, or a contact sheet of pictures."""
    from maao.report.contact_sheet import contact_sheet
    from maao.report.mistakes import mistakes_table

    if not found:
        _tell(f"There is nothing to write of {told}: no example is such a one.")
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
    _tell(f"Written: {path} ({told}, {len(shown)} of {len(found)}, the worst first)")


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _say(text: str) -> None:
    """Print for a person to read: whatever came from outside is shown, and not obeyed by the terminal."""
    print(printable(text))


def _tell(text: str) -> None:
    """The same beside the output proper."""
    print(printable(text), file=sys.stderr)


def _interruptible(action: Callable[[], Result], folder: Path) -> Result:
    from maao.store.database import DATABASE

    try:
        return action()
    except KeyboardInterrupt:
        told = f"Every finished round is stored; go on with: maao resume {folder}"
        if not (folder / DATABASE).exists():  # loading the model, or looking for a learning rate
            told = "The run had not begun, and nothing is stored."
        _tell(f"\nStopped. {told}")
        raise typer.Exit(130) from None


def _console(*, narrow: bool = False) -> Console:
    """Return where tables are printed; into a file or a pipe they are 160 columns wide, or 80 for those that are made for it."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=80 if narrow else 160)


def main() -> None:
    """Run the command line. An error of ours is told in words, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to stop
    try:
        app()
    except Waiting as stop:
        _tell(str(stop))
        raise SystemExit(WAITING) from None
    except MaaoError as error:
        _tell(f"Error: {_without_keys(str(error))}")
        raise SystemExit(1) from None
    except Exception as error:
        if not is_out_of_memory(error):  # a defect, of ours or of a library
            told = traceback.format_exc()
            if (clean := _without_keys(told)) == told:
                raise
            _tell(clean)
            raise SystemExit(1) from None
        _tell(f"Error: There is not enough memory for this. {NO_MEMORY}")
        raise SystemExit(1) from None


def _without_keys(text: str) -> str:
    from maao.llm.secrets import without_keys

    return without_keys(text)


NO_MEMORY = (
    "Lower model.part_tokens or model.memory_mib, stage.batch_size, model.score_batch, model.cache_mib or model.num_virtual_tokens, or "
    "take a smaller model. Finished rounds are stored: `maao resume` goes on with them."
)

if __name__ == "__main__":
    main()
