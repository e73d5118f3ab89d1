"""Lets a run wait for replies and takes them, killed at every event in turn. Arguments: a folder. Prints how many events there were.

An event is a call by which something reaches the disk, or an SQL statement. Each attempt lives in a fork of this process. After each kill
what was said to be done is there, what is there is whole, and going on leads to the same end: nothing is asked twice, nothing is lost.
"""

import os
import signal
import sys
from pathlib import Path

from dies_at import Events
from sample_runs import NumpySerializer, open_run

from maao.llm.chat import Message, Reply, Request, Usage
from maao.llm.record import Entry, add_to_record, read_record
from maao.store.run import RunFolder

ENTRIES = [
    Entry(Request("m", (Message("user", f"question {i}"),)), Reply(f"answer {i}", Usage(3, 4), "m", date="2026-01-01", who="a friend"))
    for i in range(2)
]


def act(run, record, done=lambda name: None):
    """Wait for both replies, take both into the record and the ledger; doing so again changes nothing."""
    for i, (request, _) in enumerate(ENTRIES):
        run.ledger.wait_for(request)
        done(f"waits {i}")
    for i, (request, reply) in enumerate(ENTRIES):
        add_to_record(record, [ENTRIES[i]])
        done(f"recorded {i}")
        run.ledger.put(request, reply)
        done(f"answered {i}")


def attempt(folder, die_at):
    """Act in a fork that dies at an event (0: never); return the signal that ended it, and what it had said to be done."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        events = Events(die_at)
        with open_run(folder, write=True) as run:
            events.follow(run)
            act(run, folder / "record.jsonl", lambda name: os.write(writer, f"{name}\n".encode()))
        os.write(writer, f"events {events.count}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read().splitlines()
    _, status = os.waitpid(process, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), told


def look(folder):
    """Return what waits and what was answered, and the record."""
    with open_run(folder) as run:
        awaited = [request.text for request in run.ledger.awaited()]
        answered = [run.ledger.get(call.key).text for call in run.ledger.calls()]
    record = folder / "record.jsonl"
    held = {entry.reply.text for entry in read_record(record).values()}
    return awaited, answered, held


def check(folder, told):
    awaited, answered, held = look(folder)
    for i in range(2):
        waits = f"question {i}" in awaited
        assert waits or f"answer {i}" in answered or f"waits {i}" not in told
        assert not (waits and f"answer {i}" in answered)
        assert f"answer {i}" in answered or f"answered {i}" not in told
        assert f"answer {i}" in held or f"recorded {i}" not in told
        assert f"answer {i}" in held or f"answer {i}" not in answered  # it comes into the record first
    with open_run(folder, write=True) as run:
        act(run, folder / "record.jsonl")


def create(folder):
    RunFolder.create(folder, config={}, environment={}, serializer=NumpySerializer()).close()


def main(place):
    create(place / "whole")
    ended, told = attempt(place / "whole", 0)
    events = int(told[-1].split()[-1])
    assert ended == 0
    end = look(place / "whole")
    assert end == ([], ["answer 0", "answer 1"], {"answer 0", "answer 1"})
    for die_at in range(1, events + 1):
        folder = place / str(die_at)
        create(folder)
        ended, told = attempt(folder, die_at)
        assert ended == signal.SIGKILL, die_at
        check(folder, told)
        assert look(folder) == end, die_at
        assert (folder / "record.jsonl").read_bytes() == (place / "whole" / "record.jsonl").read_bytes()
        with open_run(folder) as run:
            assert len(run._database.rows("SELECT key FROM awaited")) == 2
    print(events)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
