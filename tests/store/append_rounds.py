"""Appends rounds to a run in a process of its own, to be killed. Arguments: folder, rounds, and at which event to die (0: never).

An event is a call by which something reaches the disk, or an SQL statement. Prints a line for each stored round, at the end the events.
"""

import sys

from dies_at import Events
from sample_runs import make_history, open_run


def main(folder: str, rounds: int, die_at: int) -> None:
    events = Events(die_at)
    with open_run(folder, write=True) as run:
        events.follow(run)
        for round in make_history(rounds, start=run.rounds_done):
            run.append(round)
            print(round.index, flush=True)
    print("events", events.count)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
