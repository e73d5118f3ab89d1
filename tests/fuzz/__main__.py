"""``python -m tests.fuzz [NAME ...] [--count N] [--seed N]``: so many inputs a target, and what escaped. `make fuzz` writes it down."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from tests.checks.record import Record
from tests.fuzz import running, targets

COUNT = 20_000


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("names", nargs="*", metavar="NAME", help=f"targets, by default all: {', '.join(targets.MAKERS)}")
    asked.add_argument("--count", type=int, default=COUNT, help="inputs a target")
    asked.add_argument("--seed", type=int, default=None, help="by default one of the day")
    asked.add_argument("--record", action="store_true", help="write docs/checked/fuzz.txt")
    given = asked.parse_args()
    seed = int(f"{datetime.now(UTC):%Y%m%d}") if given.seed is None else given.seed
    record = Record("fuzz", f"make fuzz: {given.count:,} inputs a target, seed {seed}. Inputs / escapes, and seconds of the processor.", {})
    escaped = 0
    try:
        for name in given.names or targets.MAKERS:
            began = time.process_time()
            target = targets.target(name)
            number, found = running.run(target, given.count, seed)
            grown = [family for family, make in target.growing.items() if not running.grows_in_proportion(target, make)]
            escaped += len(found) + len(grown)
            told = [
                f"{name}: {number:,} / {sum(one.count for one in found)}   ({time.process_time() - began:.0f} s; {target.covers})",
                *(f"  {one.count} times {one.told}\n    {one.input[:2000]}" for one in found),
                *(f"  more time than in proportion to its size: {family}" for family in grown),
                f"  time in proportion to size: {len(target.growing) - len(grown)} / {len(target.growing)}",
            ]
            print("\n".join(told), flush=True)
            record.note("", *told)
            if given.record:
                record.end()  # as far as it is: a target takes minutes
    finally:
        targets.clean()
    sys.exit(1 if escaped else 0)


if __name__ == "__main__":
    main()
