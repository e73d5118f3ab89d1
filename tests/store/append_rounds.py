"""Appends rounds to a run in a process of its own, to be killed. Arguments: folder, rounds, and at which event to die (0: never).

An event is a call by which something reaches the disk, or an SQL statement. Prints a line for each stored round, at the end the events.
"""

import os
import signal
import sys

from sample_runs import make_history, open_run


def main(folder: str, rounds: int, die_at: int) -> None:
    events = 0

    def count(*_: object) -> None:
        nonlocal events
        events += 1
        if events == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*arguments):
            count()
            result = function(*arguments)
            count()
            return result

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    with open_run(folder, write=True) as run:
        run._database._connection.set_trace_callback(count)
        for round in make_history(rounds, start=run.rounds_done):
            run.append(round)
            print(round.index, flush=True)
    print("events", events)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
