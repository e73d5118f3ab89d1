"""What is killed: a run or a comparison of each kind, as a function that begins it or goes on with it, and ends when it has ended."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import maao
from maao.compare import compare, page, workers
from maao.compare.__main__ import main as work
from maao.config import make_config
from maao.errors import Waiting
from maao.llm.batch_lines import custom_id
from maao.optimizers.serializer import TorchSerializer
from maao.store.database import DATABASE
from maao.store.digest import round_digest
from maao.stored_run import open_run
from maao.waiting import import_replies, open_requests
from tests.api.small_runs import to_toml
from tests.kill.server import LINES, Provider, answer
from tests.reference import assets

Act = Callable[[Path], None]


@dataclass(frozen=True)
class Scenario:
    """`act` begins or goes on, in the folder of a trial; `calls` says whether calls are open while it does."""

    name: str
    act: Act
    calls: bool = True


@dataclass
class Seen:
    """What a folder holds: of each run its rounds by their digests, its replies, and what it ended with; of a comparison its rows."""

    rounds: dict[str, list[str]] = field(default_factory=dict)
    replies: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)

    def is_part_of(self, whole: Seen) -> bool:
        """Say whether this is a beginning of what nothing stopped."""
        runs = all(whole.rounds[run][: len(rounds)] == rounds for run, rounds in self.rounds.items())
        replies = all({*said} <= {*whole.replies[run]} and len({*said}) == len(said) for run, said in self.replies.items())
        return runs and replies and self.rows.items() <= whole.rows.items()


def look(folder: Path) -> Seen:
    """Read all runs and rows below a trial's folder, as anyone may at any moment."""
    seen = Seen()
    for file in sorted(folder.rglob(DATABASE)):
        run = file.parent
        name = str(run.relative_to(folder))
        with open_run(run, write=False) as stored:
            history = stored.history()
            seen.rounds[name] = [round_digest(one, TorchSerializer()) for one in history]
            seen.replies[name] = [json.loads(call.reply)["text"] for call in stored.ledger.calls()]
            if stored.status == "finished":
                finals = {final.name: final.score.loss for final in stored.finals()}
                seen.ends[name] = [maao.load(run).digest, json.dumps(finals, sort_keys=True)]
    for file in sorted((folder / "out" / "rows").glob("[!.]*.json")):
        row = json.loads(file.read_text(encoding="utf-8"))
        seen.rows[file.name] = json.dumps(
            {key: row[key] for key in ("arm", "task", "seed", "test", "rounds") if key in row}, sort_keys=True
        )
    return seen


# -- workers that are forks


class ForkedWorker:
    """A worker of a comparison as a fork: it need not import anything."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._told = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is read
        self.returncode: int | None = None
        self._process = os.fork()
        if self._process == 0:
            self._before, sys.stderr = sys.stderr, os.fdopen(self._told.fileno(), "w", buffering=1, closefd=False)
            code = 1
            try:
                code = work(command[3:])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self._process, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self._process, 15)

    def communicate(self) -> tuple[str | None, str | None]:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        with self._told:
            self._told.seek(0)
            return None, self._told.read().decode("utf-8", "replace")


# -- scenarios


def scenarios(place: Path, served: Provider) -> list[Scenario]:
    """Return all scenarios, on what `assets.make` wrote below a folder, and on an encoder of sentences beside it."""
    files = {part: str(place / "data" / f"{part}.csv") for part in ("train", "select", "test")}
    folds = {"train": files["train"], "test": files["test"], "folds": 2}
    asks = {"retries": 0, "max_tokens": 60, "chat": served.settings()}
    lines = {"name": "class_lines", "descriptions": 0, "chat": served.settings(LINES)}
    by_file = {"retries": 0, "max_tokens": 60, "chat": {"provider": "batch", "name": "texts"}}
    plan = {"rounds": 2, "steps": 2, "store_every": 1, "proposals": 2, "first": "ask"}

    def text(**changes: Any) -> dict[str, Any]:
        own = {"name": str(place / "models" / "llama"), "num_virtual_tokens": 4, "template": "{text} {slots} Topic:"}
        common = {
            "threads": 1, "baselines": [], "model": own, "data": files, "stage": {"batch_size": 8}, "plan": plan,
            "accept": {"rule": "race", "steps": 1}, "mentor": asks,
        }  # fmt: skip
        return common | changes

    head = {"name": str(place / "models" / "bert"), "num_virtual_tokens": 4, "template": "{text} {slots}"}
    matcher = {"kind": "matcher", "name": str(place / "encoder"), "wordings": ["{class}"]}
    clip = {"name": str(place / "models" / "clip"), "method": "coop", "initial": "vocabulary", "views": 1}
    pictures = {"input": "image", "source": str(place / "pictures"), "shots": 2, "select_shots": 2}
    small = {"rounds": 2, "steps": 2}
    table = text(plan={"rounds": 1, "steps": 2, "store_every": 0, "proposals": 2, "first": "ask"})
    runs = [
        Scenario("head", _run(text(model=head))),
        Scenario("soft prompt, maao tune", _tune(text())),
        Scenario("matcher, class lines", _run(text(model=matcher, data=folds, mentor=lines, plan=small, accept={"rule": "always_first"}))),
        Scenario("pictures", _run(text(model=clip, data=pictures, stage={"lr": 0.02}))),
        Scenario("by file", _by_file(text(mentor=by_file)), calls=False),
    ]
    comparisons = [
        Scenario("maao compare", _compare(table)),
        Scenario("compare by file", _compare_by_file(table | {"mentor": by_file}), calls=False),
    ]
    return [*runs, comparisons[0], *runs, comparisons[1]]  # a comparison takes four times as long


def _run(settings: dict[str, Any]) -> Act:
    config = make_config(settings)

    def act(folder: Path) -> None:
        run = folder / "run"
        if (run / DATABASE).exists():
            maao.resume(run)
        else:
            maao.run(config, run)

    return act


def _tune(settings: dict[str, Any]) -> Act:
    def act(folder: Path) -> None:
        from maao import cli

        run, config = folder / "run", folder / "config.toml"
        config.write_text(to_toml(settings), encoding="utf-8")
        begins = not (run / DATABASE).exists()
        sys.argv = ["maao", *(("tune", str(config), "--run", str(run), "--yes") if begins else ("resume", str(run), "--yes"))]
        told = io.StringIO()
        with redirect_stdout(told), redirect_stderr(told):
            try:
                cli.main()
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"exit code {end.code}: {told.getvalue()}") from None

    return act


def _answers(place: Path) -> list[tuple[str, str]]:
    """Return replies to what is open, as lines that a person would write."""
    found = open_requests(place)
    return [(key, json.dumps({"custom_id": custom_id(key), "text": answer(key, "texts")})) for key in found]


def _by_file(settings: dict[str, Any]) -> Act:
    begin = _run(settings)

    def act(folder: Path) -> None:
        while True:
            try:
                return begin(folder)
            except Waiting:
                import_replies(folder / "run", _answers(folder / "run"))

    return act


def _compare(settings: dict[str, Any]) -> Act:
    def act(folder: Path) -> None:
        file, base = folder / "table.toml", _dotted(settings)
        arms = "".join(  # each asks in a way of its own, so that no two cells are given the same reply
            f'\n[[arms]]\nname = "{arm}"\nsettings = {{ "stage.lr" = {rate}, "mentor.max_tokens" = {most} }}\n'
            for arm, rate, most in (("fast", 0.1, 60), ("slow", 0.01, 61))
        )
        tasks = to_toml({"tasks": {"headlines": {f"data.{part}": path for part, path in settings["data"].items()}}})
        tasks = tasks.replace("data.", '"data.').replace(" = ", '" = ')
        file.write_text(f"seeds = [0, 1]\n[base]\n{base}\n{tasks}\n{arms}", encoding="utf-8")
        workers.LocalWorker = ForkedWorker  # type: ignore[assignment,misc]
        page.plot = lambda *_: None  # type: ignore[assignment]  # a page without its drawings, which take longer than the cells
        compare(file, folder / "out", workers=2)

    return act


def _compare_by_file(settings: dict[str, Any]) -> Act:
    begin = _compare(settings)

    def act(folder: Path) -> None:
        while True:
            try:
                return begin(folder)
            except Waiting:
                import_replies(folder / "out", _answers(folder / "out"))

    return act


def _dotted(settings: dict[str, Any], prefix: str = "") -> str:
    """Return nested settings, but for the data, as lines of dotted keys."""
    lines = []
    for key, value in settings.items():
        if key == "data" and not prefix:
            continue
        name = f"{prefix}{key}"
        lines.append(_dotted(value, f"{name}.") if isinstance(value, dict) else f'"{name}" = {json.dumps(value)}')
    return "\n".join(lines)


def make(place: Path) -> None:
    """Write the models and data that scenarios read."""
    from tests.tiny_sentence import sentence_folder

    assets.make(place)
    encoder, _, _ = sentence_folder(place / "sentences", max_length=12)
    encoder.rename(place / "encoder")
