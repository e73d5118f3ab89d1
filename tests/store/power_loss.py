"""Cuts the power at every call by which a run reaches the disk, fills the disk at every call that needs room, or lets nothing be
written. Arguments: "cut", "full" or "read-only", and in how many random ways what was not safe is left.

Started with the library of `disk.py` before all others. Prints how many cuts or failures there were.
"""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from disk import Disk, Left, leave, read_trace, scratch
from sample_runs import NumpySerializer, make_history, open_run, same

from maao.errors import StoreError
from maao.llm.chat import Message, Reply, Request
from maao.llm.record import Entry, add_to_record, read_record
from maao.store.run import RunFolder
from maao.types import Score

ROUNDS = 2
REQUESTS = [Request("m", (Message("user", f"question {i}"),)) for i in range(ROUNDS)]


def act(folder: Path, say: Callable[[str], None]) -> None:
    """Make a run and end it: for each round a call and the round; say what is promised once it is."""
    with RunFolder.create(folder, config={}, environment={}, serializer=NumpySerializer()) as run:
        say("created")
        go_on(run, folder, say)


def go_on(run: RunFolder, folder: Path, say: Callable[[str], None] = lambda what: None) -> None:
    for round in make_history(ROUNDS, start=run.rounds_done):
        request = REQUESTS[round.index]
        run.ledger.put(request, Reply(f"answer {round.index}"))
        say(f"reply {round.index}")
        add_to_record(folder.parent / "record.jsonl", [Entry(request, Reply(f"answer {round.index}"))])
        say(f"recorded {round.index}")
        run.append(round)
        say(f"round {round.index}")
    if not run.finals():
        run.record_final("chosen", "test", Score(0.5), "")
        say("final")
    run.set_status("finished")
    say("finished")


def check(folder: Path, promised: list[str]) -> None:
    """What was promised is there, what is there is whole, and going on leads to the same end."""
    if not (folder / "run.sqlite").exists():
        assert "created" not in promised, promised
        return
    rounds = sum(one.startswith("round ") for one in promised)
    with open_run(folder) as run:
        done = run.rounds_done
        assert done >= rounds, (done, promised)
        assert same(run.history(), make_history(done))
        for i, request in enumerate(REQUESTS):
            held = run.ledger.get(request.key)
            assert held in (None, Reply(f"answer {i}")) and (held is not None or f"reply {i}" not in promised), (i, promised)
        assert run.finals() or "final" not in promised
        assert run.status == "finished" or "finished" not in promised
    recorded = {entry.reply.text for entry in read_record(folder.parent / "record.jsonl").values()}
    assert recorded >= {f"answer {one.split()[1]}" for one in promised if one.startswith("recorded ")}, (recorded, promised)
    with open_run(folder, write=True) as run:
        go_on(run, folder)
        assert same(run.history(), make_history(ROUNDS))
        assert len(run.ledger.calls()) == ROUNDS and run.status == "finished"


def cut(disk: Disk, place: Path, count: int) -> int:
    """Cut the power before every call."""
    ways: list[tuple[Left, int]] = [("nothing", 0), *(("some", seed) for seed in range(count))]  # all of it: a kill, tried elsewhere
    folder = place / "disk" / "whole" / "run"
    folder.parent.mkdir(parents=True)
    disk.trace(place / "disk", place / "trace")
    act(folder, disk.say)
    disk.fail(place / "nowhere", 0)
    trace, tried = read_trace(place / "trace"), 0
    for at in range(len(trace.calls) + 1):
        promised = [call.to for call in trace.calls[:at] if call.name == "say"]
        for left, seed in ways:
            to = place / "left"
            leave(trace, at, folder, to, left, seed)
            try:
                check(to / "run", promised)
            except Exception as error:
                last = [f"{call.name} {call.to}" for call in trace.calls[max(0, at - 6) : at]]
                raise AssertionError(f"cut before call {at}, {left} of what was not safe is left, behind {last}") from error
            shutil.rmtree(to)
            tried += 1
    return tried


def full(disk: Disk, place: Path, count: int) -> int:
    """Let each call that needs room fail, from it on (a full disk) or it alone (a disk that errs once)."""
    tried = 0
    for code, lasting in ((errno.ENOSPC, True), (errno.EIO, False)):
        at, ended = 1, False
        while not ended:
            folder = place / "disk" / "whole" / "run"
            folder.parent.mkdir(parents=True)
            promised: list[str] = []
            disk.fail(place / "disk", at, code, lasting=lasting)
            try:
                act(folder, promised.append)
            except StoreError as error:
                told = str(error)
                assert code != errno.ENOSPC or "disk is full" in told, told
                assert any(said in told for said in ("safe", "No round was made", "as it was", "Nothing was changed")), told
            ended = disk.writes < at
            disk.fail(place / "nowhere", 0)
            try:
                check(folder, promised)
            except Exception as error:
                raise AssertionError(f"{errno.errorcode[code]} at write {at}, behind {promised}") from error
            shutil.rmtree(place / "disk")
            at, tried = at + 1, tried + 1
    return tried


def read_only(disk: Disk, place: Path, count: int) -> int:
    """Let nothing be written: what is there can be read, and all else is told."""
    folder = place / "disk" / "run"
    folder.parent.mkdir()
    act(folder, lambda what: None)
    disk.fail(place / "disk", 1, errno.EROFS)
    with open_run(folder) as run:
        assert same(run.history(), make_history(ROUNDS)) and run.ledger.get(REQUESTS[0].key) is not None
    told = []
    for use in (
        lambda: RunFolder.create(folder.with_name("new"), config={}, environment={}, serializer=NumpySerializer()),
        lambda: open_run(folder, write=True).set_status("running"),
        lambda: add_to_record(folder.parent / "record.jsonl", [Entry(Request("m", ()), Reply("x"))]),
    ):
        try:
            use()
        except StoreError as error:
            told.append(str(error))
    assert len(told) == 3 and all("may not be written" in one and "writable" in one for one in told), told
    return len(told)


if __name__ == "__main__":
    with scratch() as name:
        print({"cut": cut, "full": full, "read-only": read_only}[sys.argv[1]](Disk(), Path(name), int(sys.argv[2])))
