"""Kill runs at chosen moments, go on with them, and print what came of it. Started by `test_resume.py` in a process of its own.

Each run lives in a fork of this process, which has imported everything once and run nothing: no threads, no random state to share.

    python -m tests.api.kill_runs MODEL FOLDER MOMENT...

A moment is `step:3`, `call:1`, `round:2`, `testing:1` (as a `Watch` is told of them), or `final:1` (after a test score is stored). Prints a
line of JSON a moment: how the process ended, how many rounds were stored, how many calls were made before and after, and the digests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch  # noqa: F401  (before the forks)
import transformers.models.llama.modeling_llama  # noqa: F401

import maao
from maao.store.run import RunFolder
from tests.api.small_runs import config, digests, write_data


class Killer(maao.Watch):
    """Kills its own process at the n-th event of a kind; without a moment, only counts."""

    def __init__(self, moment: str = "") -> None:
        kind, _, number = moment.partition(":")
        self.kind, self.number = kind, int(number or 0)
        self.seen: Counter[str] = Counter()
        record = RunFolder.record_final

        def recording(folder: Any, *arguments: Any) -> None:
            record(folder, *arguments)
            self.tell("final")

        RunFolder.record_final = recording  # type: ignore[method-assign]

    def tell(self, kind: str) -> None:
        self.seen[kind] += 1
        if kind == self.kind and self.seen[kind] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self, observation: Any) -> None:
        self.tell("step")

    def call(self, request: Any) -> None:
        self.tell("call")

    def round(self, finished: Any) -> None:
        self.tell("round")

    def testing(self) -> None:
        self.tell("testing")


def in_fork(action: Any) -> tuple[int, Any]:
    """Run `action` in a fork; return the signal that ended it (0: none) and what it returned."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        told = json.dumps(action())
        with os.fdopen(writer, "w") as stream:
            stream.write(told)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read()
    _, status = os.waitpid(process, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), (json.loads(told) if told else None)


def look(folder: Path) -> dict[str, Any]:
    result = maao.load(folder)
    with RunFolder.open(folder, serializer=None, write=False) as stored:  # type: ignore[arg-type]
        calls = [(call.key, call.reply) for call in stored.ledger.calls()]
    finals = {name: [final.date, final.score.loss] for name, final in result.finals.items()}
    return {"rounds": len(result.history), "status": result.status, "calls": len(calls), "finals": finals}


def main(model: Path, folder: Path, moments: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wording = folder / "short.txt"
    wording.write_text("$texts\n$next", encoding="utf-8")
    mentor = {
        "chat": {"provider": "scripted", "replies": ["music team bank", "the news of the world", "sport and music", "business news"]},
        "style": "completion",
        "wording": str(wording),
        "listing": 1,
        "max_samples": 4,
    }
    checked = config(model, write_data(folder), mentor=mentor)
    for moment in ["", *moments]:
        run = folder / (moment.replace(":", "-") or "whole")

        def begin(run: Path = run, moment: str = moment) -> Any:
            watch = Killer(moment)
            result = maao.run(checked, run, watch=watch)
            return {"events": watch.seen, "digests": digests(result), **look(run)}

        def go_on(run: Path = run) -> Any:
            before, watch = look(run), Killer()
            result = maao.resume(run, watch=watch)
            return {"before": before, "events": watch.seen, "digests": digests(result), "after": look(run)}

        ended, told = in_fork(begin)
        resumed = in_fork(go_on)[1] if moment else {}
        print(json.dumps({"moment": moment, "signal": ended, "told": told, **resumed}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
