"""``maao requests``: what a run or a comparison waits to be answered, taken out and read in as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maao.cli_output import INCOMPLETE, JsonOption, Output, tell
from maao.errors import MaaoError

if TYPE_CHECKING:
    from maao.llm.openai_compatible import Setting
    from maao.types import JSON
    from maao.waiting import Open

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Requests that wait for replies: list them, take them out, read replies in (docs/batch.md).",
)

Place = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or the folder of a comparison.")]


@app.command("list")
def list_requests(
    place: Place, full: Annotated[bool, typer.Option("--full", help="Show what is asked, whole.")] = False, as_json: JsonOption = False
) -> None:
    """List the requests that are open: whom they ask, how long a reply may be, and how many runs wait for each."""
    from maao.llm.batch_lines import custom_id
    from maao.waiting import at_most, counted, open_requests

    found, out = open_requests(place), Output(as_json)
    for request, runs, _ in found.values():
        told = f"{request.model}, sample {request.sample}, at most {request.max_tokens} tokens"
        out.say(f"{custom_id(request.key)}  {told}, for {runs} run{'s' * (runs > 1)}")
        out.say(request.text + "\n" if full else f"    {_short(request.text)}")
    out.say(f"{counted(len(found), 'open request', 'open requests')}{f': {at_most(found.values())}' if found else ''}.")
    out.document({"folder": str(place), "open": [_plain(one) for one in found.values()]})


@app.command("export")
def export_requests(
    place: Place,
    to: Annotated[Path, typer.Option("--to", help="A file of lines in the OpenAI Batch format; or a folder, for a text file each.")],
    model: Annotated[str | None, typer.Option("--model", help="The name that the provider knows, in place of the mentor's.")] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="SETTING", help="seed, stop, temperature, top_p, response_format. Repeatable."),
    ] = None,
    completion_tokens: Annotated[
        bool, typer.Option("--completion-tokens", help="Send max_tokens as max_completion_tokens, for models that want that.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all open requests, each once. What asks different models is written into a file each."""
    from maao.llm.openai_compatible import OPTIONAL
    from maao.waiting import open_requests

    wrong = [name for name in leave_out or () if name not in OPTIONAL]
    if wrong:
        raise MaaoError(f"--leave-out {wrong[0]}: there is no such setting. Known: {', '.join(OPTIONAL)}.")
    requests, out = list(open_requests(place).values()), Output(as_json)
    if not requests:
        out.say(f"Nothing is open in {place}.")
        out.document({"folder": str(place), "requests": 0, "written": []})
        return
    left: list[Setting] = [name for name in OPTIONAL if name in (leave_out or ())]
    try:
        if _is_folder(to):
            written = list(_write_texts(requests, to))
        else:
            written = list(_write_lines(requests, to, model, left, completion_tokens))
    except OSError as error:
        raise MaaoError(f"Cannot write {to}: {error.strerror or error}. Give a file, or a folder, in a folder that exists.") from error
    for _, told in written:
        out.say(told)
    replies = to if _is_folder(to) else Path("replies.jsonl")
    out.say(f"Once they are answered: maao requests import {place} {replies}")
    out.document({"folder": str(place), "requests": len(requests), "written": [str(file) for file, _ in written]})


@app.command("import")
def import_answers(
    place: Place,
    replies: Annotated[Path, typer.Argument(metavar="REPLIES", help="A file of replies, or a folder with a text file for each.")],
    who: Annotated[str, typer.Option("--who", help="Who answered, where the file does not say it.")] = "",
    how: Annotated[str, typer.Option("--how", help="How: a fresh context for each, say.")] = "",
    when: Annotated[str, typer.Option("--when", metavar="ISO", help="When; by default as the file says, or now.")] = "",
    into: Annotated[Path | None, typer.Option("--into", metavar="FILE", help="Write what is taken into this record too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read replies: what a provider's batch gave back, or lines of custom_id and text. Any part of them may be there.

    A line that cannot be taken is told, and the exit code is 3; the others are taken.
    """
    from maao.llm.batch_lines import Told, as_date
    from maao.llm.record import add_to_record
    from maao.waiting import counted, import_replies, open_requests

    try:
        told = Told(who, as_date(when) if when else "", how)
    except ValueError as error:
        raise MaaoError(f"--when {error}.") from None
    read = import_replies(place, _lines_of(replies), told)
    if into is not None:
        add_to_record(into, read.entries)
    for wrong in read.wrong:
        tell(f"Not taken: {wrong}.")
    again, left, out = f", {read.repeated} known already" if read.repeated else "", len(open_requests(place)), Output(as_json)
    out.say(f"{counted(len(read.entries))} taken{again}; {counted(left)} still waited for.")
    taken = {"taken": len(read.entries), "known": read.repeated, "not_taken": list(map(str, read.wrong)), "waited_for": left}
    out.document({"folder": str(place), **taken})
    if read.wrong:
        raise typer.Exit(INCOMPLETE)


@app.command("record")
def record(
    place: Place,
    to: Annotated[Path, typer.Option("--to", help="The record: a .jsonl file, which replies are added to.")],
    how: Annotated[str, typer.Option("--how", help="How replies were given, where they do not say it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Write all replies that runs have, whoever gave them, into a record that anyone may replay (mentor.chat.replies)."""
    from dataclasses import replace

    from maao.llm.record import ENDING, Entry, add_to_record
    from maao.waiting import counted, recorded

    if to.suffix != ENDING:
        raise MaaoError(f"A record is a {ENDING} file; got {to}.")
    found, others = recorded(place)
    new = add_to_record(to, [Entry(request, replace(reply, how=reply.how or how)) for request, reply in found])
    out = Output(as_json)
    out.say(f"{counted(new)} added to {to}, of {len(found)}.")
    if others:
        out.say(f"{counted(others)} left out: other replies to requests that several runs put.")
    out.document({"folder": str(place), "record": str(to), "added": new, "replies": len(found), "left_out": others})


def _plain(one: Open) -> JSON:
    from maao.llm.batch_lines import custom_id

    request = one.request
    told = {"model": request.model, "sample": request.sample, "max_tokens": request.max_tokens, "text": request.text}
    return {"custom_id": custom_id(request.key), **told, "runs": one.runs}


def _is_folder(path: Path) -> bool:
    return path.is_dir() or not path.suffix


def _write_lines(
    requests: Iterable[Open], to: Path, model: str | None, leave_out: list[Setting], completion_tokens: bool
) -> Iterator[tuple[Path, str]]:
    """Write requests as lines, each model's into a file of its own, since a batch asks one; yield what was written."""
    from maao.llm.batch_lines import batch_line
    from maao.store.files import write_durably
    from maao.waiting import at_most, counted, file_stem

    groups: dict[tuple[str, str], list[Open]] = {}
    for one in requests:
        groups.setdefault((one.request.model, one.request.style), []).append(one)
    if model is not None and len(groups) > 1:
        asked = ", ".join(sorted({name for name, _ in groups}))
        raise MaaoError(f"--model {model} would put what is asked of several models ({asked}) to one: leave it out.")
    renamed = ("max_tokens",) if completion_tokens else ()
    for (name, style), group in groups.items():
        file = to if len(groups) == 1 else to.with_name(f"{to.stem}-{file_stem(name)}-{style}{to.suffix}")
        lines = [batch_line(one.request, model=model, leave_out=leave_out, renamed=renamed) for one in group]
        write_durably(file, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
        yield file, f"{counted(len(lines), 'request', 'requests')} to {model or name}: {file} ({at_most(group)})"


def _write_texts(requests: list[Open], to: Path) -> Iterator[tuple[Path, str]]:
    """Write what is asked into a text file each; a reply goes into a file of the same name, in another folder."""
    from maao.llm.batch_lines import custom_id
    from maao.llm.record import refuse_key
    from maao.store.files import write_durably
    from maao.waiting import counted

    to.mkdir(exist_ok=True)
    for request, _, _ in requests:
        refuse_key(request.text, request.key)
        write_durably(to / f"{custom_id(request.key)}.txt", request.text.encode("utf-8", "replace"))
    yield (
        to,
        f"{counted(len(requests), 'request', 'requests')}: {to}/*.txt. Put each reply into a file of the same name, in another folder.",
    )


def _lines_of(replies: Path) -> list[tuple[str, str]]:
    """Return pairs of a place in words and a line, of a file or of a folder of texts."""
    try:
        if replies.is_dir():
            files = sorted(file for file in replies.iterdir() if file.is_file() and not file.name.startswith("."))
            if links := [file for file in files if file.is_symlink()]:
                raise MaaoError(f"{links[0]} is a link, which may lead to any file of this machine. Copy the reply itself there.")
            return [(file.name, json.dumps({"custom_id": file.stem, "text": file.read_text(encoding="utf-8-sig")})) for file in files]
        text = replies.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MaaoError(f"Cannot read {replies}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise MaaoError(f"{replies} is no text in UTF-8 ({error}). Save it as that.") from error
    return [(f"line {number}", line.strip("\r")) for number, line in enumerate(text.split("\n"), start=1)]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 110 else f"{line[:110]} ..."
