"""The command line: parse, call one function, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from maao.errors import MaaoError

if TYPE_CHECKING:
    from maao.api import Format, Result

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tune soft prompts by gradient descent, with a language model as mentor.",
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over the config, for example stage.lr=0.03. Repeatable."),
]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder to make; by default a new one in runs/.")]
MENTOR_GAVE_NOTHING = 3  # exit code of a run that is whole, and whose mentor never gave a usable reply

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    settings: Set = None,
    run: RunOption = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the demo's config and stop.")] = False,
) -> None:
    """Tune a prompt of a packaged language model on news headlines; no network, no key, a few minutes."""
    if print_config:
        from importlib.resources import files

        print((files("maao") / "demo.toml").read_text(encoding="utf-8"), end="")
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    _tune("demo", ("seed=" + str(seed), *(settings or ())), run, f"demo-seed{seed}")


@app.command()
def tune(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")],
    settings: Set = None,
    run: RunOption = None,
) -> None:
    """Run a config into a new run folder."""
    _tune(config, tuple(settings or ()), run, None)


@app.command("find-lr")
def find_lr(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")],
    settings: Set = None,
) -> None:
    """Try learning rates (stage.lr_grid, or a usual grid) from a run's beginning, and say which to take. No mentor is asked."""
    from maao import api
    from maao.config import read_config
    from maao.console import Terminal, cost_line, rates_table

    checked = read_config(config, tuple(settings or ()))
    try:
        with Terminal(_console()) as terminal:
            search = api.find_lr(checked, watch=terminal)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is stored by a search.", file=sys.stderr)
        raise typer.Exit(130) from None
    _console().print(rates_table(search))
    _console().print(cost_line(search.cost))
    rate = search.chosen.rate
    print(f"Put this into the config, or give --set stage.lr={rate}:\n\n[stage]\nlr = {rate}")


@app.command()
def headroom(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or 'demo'.")],
    settings: Set = None,
    starts: Annotated[int, typer.Option(help="Random starts to walk from.", min=2)] = 5,
) -> None:
    """Say whether there is anything to gain on a task, before a costly comparison: what tuning brings, and how far starts lead apart."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from maao.config import read_config
    from maao.console import cost_line, headroom_table
    from maao.headroom import headroom as judge

    checked = read_config(config, tuple(settings or ()))
    try:
        with Progress(TextColumn("starts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=_console()) as progress:
            bar = progress.add_task("starts", total=starts)
            found = judge(checked, starts=starts, watch=lambda done, total: progress.update(bar, completed=done, total=total))
    except KeyboardInterrupt:
        print("\nStopped. Nothing is stored by this command.", file=sys.stderr)
        raise typer.Exit(130) from None
    _console().print(headroom_table(found))
    print("\n".join(found.told()))
    _console().print(cost_line(found.cost))


def _tune(config: str, settings: tuple[str, ...], folder: Path | None, name: str | None) -> None:
    from maao.api import free_folder, run
    from maao.config import read_config
    from maao.console import Terminal

    checked = read_config(config, settings)
    folder = folder or free_folder(Path("runs"), name or f"{Path(config).stem}-seed{checked.seed}")
    with Terminal(_console()) as terminal:
        result = _interruptible(lambda: run(checked, folder, watch=terminal), folder)
    _print_result(result)
    _exit_for(result.warning)


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
) -> None:
    """Run arms x tasks x seeds side by side, and say what differs, by how much, how sure that is, and what it cost."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from maao import compare as comparison

    place = out or Path("compare") / (table.stem if beside is None else f"{table.stem}-{beside.stem}")
    columns = (TextColumn("cells"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    try:
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
        print(f"\nStopped. Finished cells are kept; go on with the same command. Results so far: {place}", file=sys.stderr)
        raise typer.Exit(130) from None
    print(page.read_text(encoding="utf-8"))
    print(f"Results: {place} (results.json, page.md, rows/, runs/, plots)")


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a run where it stopped. A finished run is only shown."""
    from maao import api
    from maao.console import Terminal

    with Terminal(_console()) as terminal:
        result = _interruptible(lambda: api.resume(run, watch=terminal), run)
    _print_result(result)
    _exit_for(result.warning)


@app.command()
def replay(run: RunArgument) -> None:
    """Run again on the recorded replies, without any model call, and compare bit for bit."""
    from maao import api
    from maao.console import Terminal, plain

    with Terminal(_console()) as terminal:
        found = api.replay(run, watch=terminal)
    if found.warning:
        print(plain(found.warning))
    told = "the same result" if found.equal else f"a DIFFERENT result: the first {found.same} of {found.rounds} rounds agree"
    calls = f"{found.llm_calls} LLM calls"
    if found.llm_calls is None:
        calls = "an unknown number of LLM calls (the mentor, which is not maao's, was asked again)"
    print(f"Replayed {found.rounds} rounds with {calls}: {told}.")
    print(f"Final parameters, recorded: {found.recorded}\nFinal parameters, replayed: {found.replayed}")
    if not found.equal:
        raise typer.Exit(1)
    _exit_for(found.warning)


@app.command()
def runs(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("runs")) -> None:
    """List the runs in a folder."""
    from maao.console import runs_table
    from maao.store.listing import list_runs

    _console().print(runs_table(list_runs(folder), folder))


@app.command()
def show(
    run: RunArgument,
    clues: Annotated[bool, typer.Option("--clues", help="Show what was said in words about every round.")] = False,
    calls: Annotated[bool, typer.Option("--calls", help="Show every recorded call: what was asked, what came back.")] = False,
    mistakes: Annotated[
        Path | None, typer.Option("--mistakes", help="Write a contact sheet (.png) of the worst mistakes on select (runs on pictures).")
    ] = None,
) -> None:
    """Read a run out: rounds, proposals, verdicts, test, cost."""
    from maao.api import load
    from maao.console import clues_table

    result = load(run)
    _print_result(result)
    if clues:
        _console().print(clues_table(result))
    if calls:
        _print_calls(run)
    if mistakes is not None:
        _contact_sheet(result, mistakes)


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
) -> None:
    """Label texts (or image files) with a run's tuned prompt: label, probability, text, separated by tabs."""
    import json

    from maao.api import load

    result = load(run)
    wanted = _to_predict(result, texts or [], file)
    if not wanted:
        raise MaaoError("Nothing to predict: give texts as arguments, or --file with one text a line, or a table.")
    predictions = result.predict(wanted)
    for given, prediction in zip(wanted, predictions, strict=True):
        if as_json:
            said = {"text": given} if isinstance(given, str) else {"fields": given}
            record = {**said, "label": prediction.label, "probabilities": dict(prediction.probabilities)}
            print(json.dumps(record, ensure_ascii=False))
        else:
            text = given if isinstance(given, str) else " / ".join(" ".join(part.split()) for part in given.values())
            print(f"{prediction.label}\t{prediction.probability:.3f}\t{text}")
    cuts = [prediction.cut for prediction in predictions if prediction.cut]
    if cuts:
        told = f"{len(cuts)} of {len(wanted)} texts were longer than the model's context and were cut, by at most {max(cuts)} tokens"
        print(f"Note: {told}.", file=sys.stderr)


@app.command()
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write into.")],
    format: Annotated[
        Literal["text", "tensor", "peft", "peft-classifier", "ctx", "classes", "all"],
        typer.Option(help="What to write; 'all' writes what the template allows."),
    ] = "all",
) -> None:
    """Take the tuned prompt elsewhere: plain text, embeddings, PEFT adapter; of runs on pictures, CoOp's ctx and class features."""
    from maao.api import load
    from maao.errors import ConfigError

    result = load(run)
    if format != "all":
        print(f"{format}: {_listed(result.save(to, format))}")
        return
    sees = result.config.problem == "vision"
    always: tuple[Format, ...] = ("tensor",) if sees else ("text", "tensor")
    maybe: tuple[Format, ...] = ("text", "ctx", "classes") if sees else ("peft",)
    for name in always:
        print(f"{name}: {_listed(result.save(to, name))}")
    for name in maybe:
        try:
            print(f"{name}: {_listed(result.save(to, name))}")
        except ConfigError as error:  # the template has its slots elsewhere, PEFT is not installed, the method has no such thing
            print(f"{name}: not written. {error}")


@app.command()
def where(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model, for example packaged:smollm2-135m-instruct.")],
) -> None:
    """Print the path of a packaged model's files, for other programs to use."""
    from maao.problems.language.loading import packaged_path

    print(packaged_path(name))


@app.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it."""
    from maao.doctor import findings

    missing = 0
    for finding in findings():
        missing += finding.needed and not finding.fine
        mark = "ok     " if finding.fine else ("MISSING" if finding.needed else "-      ")
        print(f"{mark} {finding.name}: {finding.told}")
    if missing:
        raise typer.Exit(1)


def _exit_for(warning: str) -> None:
    """End with a code of its own where the mentor never gave a usable reply, so that a script notices."""
    if warning:
        raise typer.Exit(MENTOR_GAVE_NOTHING)


def _print_result(result: Result) -> None:
    from maao.console import report

    if not result.history:
        print(f"The run {result.folder} has no finished round yet. Go on with it: maao resume {result.folder}")
        return
    _console().print(report(result))
    print(f"Final parameters: {result.digest}")
    print(f"Run folder: {result.folder} ({result.status}; maao show, resume, replay, predict, export)")


def _print_calls(folder: Path) -> None:
    import json

    from maao.console import plain
    from maao.llm.chat import reply_from_json
    from maao.stages.torch_optim import TorchSerializer
    from maao.store.run import RunFolder

    with RunFolder.open(folder, serializer=TorchSerializer(), write=False) as stored:
        calls = stored.ledger.calls()
    for number, call in enumerate(calls, start=1):
        request = json.loads(call.request)
        print(plain(f"--- call {number}: {call.model}, {call.date}, {call.seconds:.1f} s"))
        print("\n".join(plain(message["content"]) for message in request["messages"]))
        try:
            reply = reply_from_json(call.reply)
        except ValueError as error:
            print(f"--- reply (sample {request['sample']}) cannot be used: {plain(str(error))}\n")
            continue
        print(f"--- reply (sample {request['sample']}):\n{plain(reply.text)}")
        tokens = f"{call.input_tokens} tokens in, {call.output_tokens} out{' (estimated)' if reply.usage.estimated else ''}"
        ended = f"finish reason: {reply.finish_reason or 'none given'}"
        print(plain("; ".join(part for part in (f"--- {tokens}, {ended}", reply.why_empty, reply.note) if part)) + "\n")


def _contact_sheet(result: Result, path: Path) -> None:
    from maao.problems.vision.contact_sheet import contact_sheet

    found, picture = result.mistakes()
    if not found:
        print("No picture of select is read wrongly: there is no sheet to write.")
        return
    try:
        contact_sheet(found, picture).save(path)
    except (OSError, ValueError) as error:
        raise MaaoError(
            f"Cannot write the contact sheet {path}: {error}. Give a file that ends in .png in a folder that exists."
        ) from error
    print(f"The {len(found)} worst mistakes on select: {path}")


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def _to_predict(result: Result, texts: list[str], file: Path | None) -> Sequence[str | dict[str, str]]:
    """Return what there is to predict: texts, the lines of a file, or of each row of a table the fields that the template reads."""
    if result.config.problem == "vision":
        return [*texts, *(_lines(file) if file is not None else [])]
    fields, named = result.fields, result.config.data.text_fields or {}
    is_table = file is not None and file.suffix.lower() in TABLES
    plain = [*texts, *(_lines(file) if file is not None and not is_table else [])]
    if plain and len(fields) > 1:
        columns = ", ".join(named.get(name, name) for name in fields)
        raise MaaoError(
            f"The template {result.config.model.template!r} reads {', '.join(fields)}, so a mere text is not enough to predict: give a "
            f"table with the columns {columns} by --file ({', '.join(TABLES)})."
        )
    return [*plain, *(_rows(file, fields, named) if file is not None and is_table else [])]


def _rows(file: Path, fields: Sequence[str], named: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the fields of each row of a table, from the columns that `data.text_fields` names, or those of the fields' own names."""
    from maao.tasks.checks import examples_from_rows, resolve_text_fields
    from maao.tasks.files import read_rows

    rows = read_rows(file)
    if not rows:
        return []
    columns = {name: named.get(name, name) for name in fields}
    if tuple(fields) == ("text",) and not named:
        columns = resolve_text_fields(list(rows[0][1]), None, str(file))  # as training did: text, or sentence
    anything = next(iter(columns.values()))  # a row needs no label here, and an example asks for one
    examples = examples_from_rows(rows, where=str(file), text_fields=columns, label_field=anything, label_names=None)
    return [dict(example.fields) for example in examples]


def _lines(file: Path) -> list[str]:
    from maao.tasks.files import not_utf8

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MaaoError(f"{'standard input' if str(file) == '-' else file}, {not_utf8(error)}") from error
    except OSError as error:
        raise MaaoError(f"Cannot read {file}: {error.strerror}.") from error
    return [line for line in text.splitlines() if line.strip()]


def _interruptible(action: Any, folder: Path) -> Any:
    from maao.store.database import DATABASE

    try:
        return action()
    except KeyboardInterrupt:
        told = f"Every finished round is stored; go on with: maao resume {folder}"
        if not (folder / DATABASE).exists():  # loading the model, or looking for a learning rate
            told = "The run had not begun, and nothing is stored."
        print(f"\nStopped. {told}", file=sys.stderr)
        raise typer.Exit(130) from None


def _console() -> Any:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160)


def main() -> None:
    """Run the command line. An error of ours is told in words, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to stop
    try:
        app()
    except MaaoError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
