"""The command line: what makes runs and comparisons. Parse, call one function, print."""

from __future__ import annotations

import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from maao.bars import Bars
from maao.cli_output import (
    CLOSED,
    CODES,
    FAILED,
    INCOMPLETE,
    INTERRUPTED,
    TERMINATED,
    WAITING,
    ConfigArgument,
    JsonOption,
    Output,
    QuietOption,
    RunArgument,
    Set,
    YesOption,
    tell,
)
from maao.cli_reading import app as reading_app
from maao.cli_requests import app as requests_app
from maao.cli_setup import app as setup_app
from maao.errors import MaaoError, Terminated, Waiting, is_out_of_memory
from maao.progress import job, listening
from maao.streams import Outlet, outlast, outlets

if TYPE_CHECKING:
    from maao.config import Config
    from maao.result import Result
    from maao.types import JSON

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # else what stands in square brackets is taken for markup and left out of help
    help="Tune soft prompts, or the classes of a matcher, by gradient descent; a language model may be the mentor.",
    epilog="\n\n".join(("Exit codes:", *(f"{code}  {told}" for code, told in CODES.items()))),
)

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder to make; by default a new one in runs/.")]


def _version(wanted: bool) -> None:
    if wanted:
        from maao import __version__

        print(f"maao {__version__}")
        raise typer.Exit


@app.callback()
def maao(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Tune soft prompts, or the classes of a matcher, by gradient descent; a language model may be the mentor."""


@contextmanager
def _starting(out: Output) -> Iterator[None]:
    """Show that something goes on while torch is loaded."""
    with listening(Bars(out.going_on)), job("starting"):
        yield


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    settings: Set = None,
    run: RunOption = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Tune a prompt of a language model on news headlines instead, with that model as mentor.")
    ] = False,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the demo's config and stop.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sort customers' messages into 77 intents, with two labelled messages each; no network, no key, a minute."""
    name = "demo-decoder" if decoder else "demo"
    if print_config:
        from maao.carried import carried

        print(carried(name), end="")
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    _tune(Output(as_json, quiet), name, ("seed=" + str(seed), *(settings or ())), run, f"{name}-seed{seed}")


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
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a config into a new run folder; or go on with the run that it was begun in and that waits for replies (docs/batch.md)."""
    if config is None and origin is None:
        raise typer.BadParameter("name a config file, 'demo', or a run to begin from (--from).")
    name = f"{origin.name}-further" if config is None and origin is not None else None
    _tune(Output(as_json, quiet), config, tuple(settings or ()), run, name, origin, yes=yes)


@app.command("find-lr")
def find_lr(
    config: ConfigArgument,
    settings: Set = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try learning rates (stage.lr_grid, or a usual grid) from a run's beginning, and say which to take. No mentor is asked."""
    out = Output(as_json, quiet)
    with _starting(out):
        from maao import runner
        from maao.console import Terminal
        from maao.report.lines import cost_told, shown
        from maao.report.tables import rates_table

    checked = _read_config(out, config, tuple(settings or ()))
    try:
        with Terminal(out.going_on) as terminal:
            search = runner.find_lr(checked, watch=terminal)
    except KeyboardInterrupt:
        raise _stopped("Nothing is stored by a search.") from None
    rate = search.chosen.rate
    grid = " --set stage.lr_grid=[]" if checked.stage.options.lr_grid else ""  # a rate beside a grid would be refused
    instead = " in the place of its lr_grid" if grid else ""
    out.say(f"Put this into the config{instead}, or give --set stage.lr={rate}{grid}:\n\n[stage]\nlr = {rate}\n")
    out.show(rates_table(search), shown(cost_told(search.cost)))
    out.document({**search.to_json(), "cost": asdict(search.cost)})


@app.command()
def baselines(
    config: ConfigArgument,
    settings: Set = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="A baseline to show, in place of the usual ones. Repeatable.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Read test, having learnt from all labels; else the labels, fold by fold.")] = False,
    headroom: Annotated[
        int | None, typer.Option("--headroom", metavar="N", help="Walk from N random starts too: is there anything to gain?", min=2)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what one would use instead, on a config's data and before a run: each baseline, its time, and what it is."""
    out = Output(as_json, quiet)
    checked, held = _read_config(out, config, tuple(settings or ())), dict[str, object]()
    try:
        with listening(Bars(out.going_on)):
            if "data" in checked.builder.sections or not headroom:
                held |= _show_baselines(out, checked, only, test=test)
            if headroom:
                held |= _show_headroom(out, checked, headroom)
    except KeyboardInterrupt:
        raise _stopped("Nothing is stored by this command.") from None
    out.document(held)


def _show_baselines(out: Output, checked: Config, only: list[str] | None, *, test: bool) -> JSON:
    with job("starting"):
        from maao.baselines.listed import USUAL, listed
        from maao.report.tables import baselines_table

    found = listed(checked, only or USUAL, test=test, watch=lambda one: out.tell(f"{one.title}: {one.seconds:.1f} s"))
    out.show(baselines_table(found, "On test ({count} examples)" if test else "On {count} labels, out of fold (test is not touched)"))
    told = found.to_json()
    return {name: told[name] for name in ("baselines", "left_out", "tokens")}


def _show_headroom(out: Output, checked: Config, starts: int) -> JSON:
    with job("starting"):
        from maao.baselines.headroom import headroom as judge
        from maao.report.documents import headroom_document
        from maao.report.lines import cost_told, shown
        from maao.report.tables import headroom_table

    with job("walking from random starts", starts, "starts") as walking:
        found = judge(checked, starts=starts, watch=lambda done, total: walking.advance(done - walking.done, total=total))
    out.say("\n".join(found.told()))
    out.show(headroom_table(found), shown(cost_told(found.cost)))
    return {"headroom": headroom_document(found)}


def _read_config(out: Output, config: str | None, settings: tuple[str, ...], origin: Path | None = None) -> Config:
    from maao.config import read_with_notes

    if config is None:
        from maao.origin import config_with

        assert origin is not None
        checked, notes = config_with(origin, settings)
    else:
        begun = () if origin is None else (f"from_run={str(origin.resolve())!r}",)
        checked, notes = read_with_notes(config, (*settings, *begun))
    for note in notes:
        out.tell(f"Note: {note}.")
    return checked


def _tune(
    out: Output,
    config: str | None,
    settings: tuple[str, ...],
    folder: Path | None,
    name: str | None,
    origin: Path | None = None,
    *,
    yes: bool = False,
) -> None:
    """Run a config, print what came of it, and end with its exit code."""
    outlast()
    with _starting(out):
        from maao.console import Terminal
        from maao.runner import folder_for, run

    checked = _read_config(out, config, settings, origin)
    name = name or f"{Path(config or 'tune').stem}-seed{checked.seed}"
    with folder_for(folder, Path("runs"), name, checked) as place, Terminal(out.going_on, yes=yes, asking=out.asking) as terminal:
        result = _interruptible(lambda: run(checked, place, watch=terminal), place)
    _show_result(out, result)


def _show_result(out: Output, result: Result) -> None:
    from maao.report.documents import run_document
    from maao.report.run import report

    out.show(*report(result).renderables)
    out.document(run_document(result))
    if result.warning:
        raise typer.Exit(INCOMPLETE)


@app.command()
def compare(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A TOML file of arms, tasks and seeds (docs/compare.md).")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results; by default compare/NAME.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes at a time; by default by processors and memory.", min=1)] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="TEXT", help="Run only cells whose name holds this text. Repeatable.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option("--with", help="A file with the sections that the table lacks: tasks, models, base, seeds.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run workers on a Ray cluster (RAY_ADDRESS) that sees the same paths.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run arms x tasks x seeds side by side, and say what differs, by how much, how sure that is, and what it cost."""
    outlast()
    out_place, output = out, Output(as_json, quiet)
    with _starting(output):
        from maao import compare as comparison
        from maao.compare.page import PAGE, RESULTS

    place = out_place or Path("compare") / (table.stem if beside is None else f"{table.stem}-{beside.stem}")
    try:
        _agree_to_cells(output, table, place, only or (), beside, yes=yes)
        with listening(Bars(output.going_on)), job("running cells", None, "cells") as running:
            page = comparison.compare(
                table,
                place,
                workers=workers,
                only=only or (),
                ray=ray,
                beside=beside,
                watch=lambda done, total, _: running.advance(done - running.done, total=total),
            )
    except KeyboardInterrupt:
        raise _stopped(f"Finished cells are kept; go on with the same command. Results so far: {place}") from None
    except Waiting:
        output.say((place / PAGE).read_text(encoding="utf-8"))
        output.document({"folder": str(place), "waiting": True, **json.loads((place / RESULTS).read_text(encoding="utf-8"))})
        raise
    output.say(page.read_text(encoding="utf-8"))
    output.say(f"Results: {place} (results.json, page.md, rows/, runs/, plots)")
    output.document({"folder": str(place), "waiting": False, **json.loads((place / RESULTS).read_text(encoding="utf-8"))})


def _agree_to_cells(output: Output, table: Path, place: Path, only: Sequence[str], beside: Path | None, *, yes: bool) -> None:
    """Tell what the cells of a table may cost, and go on where that is agreed to."""
    from maao.compare.estimate import estimate_cells
    from maao.console import agree

    found = estimate_cells(table, place, only=only, beside=beside)
    if found is not None and not found.estimate.is_free:
        agree(output.asking, found.told(), found.caps, yes=yes)


@app.command()
def resume(
    run: RunArgument,
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="Take the run from this store.mirror where it has no folder here.")
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run where it stopped. A finished run is only shown."""
    outlast()
    out = Output(as_json, quiet)
    with _starting(out):
        from maao import runner
        from maao.console import Terminal

    with Terminal(out.going_on, yes=yes, asking=out.asking) as terminal:
        result = _interruptible(lambda: runner.resume(run, mirror=mirror, watch=terminal), run)
    _show_result(out, result)


@app.command()
def replay(run: RunArgument, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Run again on the recorded replies, without any model call, and compare bit for bit."""
    out = Output(as_json, quiet)
    with _starting(out):
        from maao import runner
        from maao.console import Terminal

    try:
        with Terminal(out.going_on) as terminal:
            found = runner.replay(run, watch=terminal)
    except KeyboardInterrupt:
        raise _stopped("A replay stores nothing, and changes nothing.") from None
    if found.warning:
        out.say(found.warning)
    told = "the same result" if found.equal else f"a DIFFERENT result: the first {found.same} of {found.rounds} rounds agree"
    calls = f"{found.llm_calls} LLM calls"
    if found.llm_calls is None:
        calls = "an unknown number of LLM calls (the mentor, which is not maao's, was asked again)"
    out.say(f"Replayed {found.rounds} rounds with {calls}: {told}.")
    out.say(f"Final parameters, recorded: {found.recorded}\nFinal parameters, replayed: {found.replayed}")
    out.document({"run": str(run), "equal": found.equal, **asdict(found)})
    if not found.equal:
        raise typer.Exit(FAILED)
    if found.warning:
        raise typer.Exit(INCOMPLETE)


app.add_typer(reading_app)
app.add_typer(setup_app)
app.add_typer(requests_app, name="requests", short_help=requests_app.info.help)


def _list_whole(*apps: typer.Typer) -> None:
    """Let lists of commands tell the first paragraph of each whole: they would cut it at the end of a line."""
    for command in (command for one in apps for command in one.registered_commands):
        command.short_help = " ".join((getdoc(command.callback) or "").partition("\n\n")[0].split())


_list_whole(app, reading_app, setup_app, requests_app)


def _stopped(told: str) -> typer.Exit:
    """Tell what is kept after Ctrl-C, and return what ends the command."""
    tell(f"\nStopped. {told}")
    return typer.Exit(INTERRUPTED)


def _interruptible(action: Callable[[], Result], folder: Path) -> Result:
    from maao.store.database import DATABASE

    try:
        return action()
    except KeyboardInterrupt:
        told = f"Every finished round is stored; go on with: maao resume {folder}"
        if not (folder / DATABASE).exists():  # loading the model, or looking for a learning rate
            told = "The run had not begun, and nothing is stored."
        raise _stopped(told) from None


def main() -> None:
    """Run the command line. An error of ours is told in words, without a traceback."""
    try:
        with _terminable(), outlets():
            _run()
    except BrokenPipeError:  # whoever read standard output has read enough
        raise SystemExit(CLOSED) from None
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # what prints for us met it, and ends with 1
            raise SystemExit(CLOSED) from None
        if Outlet.failed is not None and not end.code:  # the result is stored, and nobody was shown it
            raise SystemExit(FAILED) from None
        if end.code == INTERRUPTED and any(isinstance(one, Terminated) for one in _before(end)):
            raise SystemExit(TERMINATED) from None
        raise
    except OSError as error:
        if error is not Outlet.failed:
            raise
        tell(f"Error: standard output cannot be written: {error.strerror}.")
        raise SystemExit(FAILED) from None


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, where signals are taken: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: it was not set by Python


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _before(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what was being handled when it came."""
    while error is not None:
        yield error
        error = error.__context__


def _run() -> None:
    try:
        with _together():
            app()
    except KeyboardInterrupt:
        tell("\nStopped.")
        raise SystemExit(INTERRUPTED) from None
    except Waiting as stop:
        tell(str(stop))
        raise SystemExit(WAITING) from None
    except MaaoError as error:
        tell(f"Error: {_without_secrets(str(error))}")
        raise SystemExit(FAILED) from None
    except Exception as error:
        if not is_out_of_memory(error):  # a defect, of ours or of a library
            told = traceback.format_exc()
            if (clean := _without_secrets(told)) == told:
                raise
            tell(clean)
            raise SystemExit(FAILED) from None
        tell(f"Error: There is not enough memory for this. {NO_MEMORY}")
        raise SystemExit(FAILED) from None


def _together() -> AbstractContextManager[None]:
    """Return where processes that were started together share steps; only the first gets inside."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from maao.parallel import lead

    return lead()


def _without_secrets(text: str) -> str:
    from maao.llm.secrets import without_secrets

    return without_secrets(text)


NO_MEMORY = (
    "Lower model.part_tokens or model.memory_mib, stage.batch_size, model.score_batch, model.cache_mib or model.num_virtual_tokens, or "
    "take a smaller model. Finished rounds are stored: `maao resume` goes on with them."
)

if __name__ == "__main__":
    main()
