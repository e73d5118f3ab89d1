"""Work on a table as one of several processes: ``python -m maao.compare TABLE OUT ONLY [BESIDE]``. `compare` starts it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from maao.compare.table import read_table
from maao.compare.workers import work
from maao.sharing import share_caches
from maao.streams import outlast, outlets


def main(arguments: Sequence[str]) -> int:
    path, place, only = Path(arguments[0]), Path(arguments[1]), json.loads(arguments[2])
    beside = arguments[3] if len(arguments) > 3 else None
    table = read_table(path, beside)
    with outlets():
        outlast()
        with share_caches(walk_again=table.walked_on_test):
            failed = work(table, path.parent, place, only)
        if failed:
            print(failed, file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
