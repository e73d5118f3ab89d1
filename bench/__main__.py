"""Run the benchmarks: `python -m bench [NAME ...]`; without a name, those that give the figures of the README's table."""

from __future__ import annotations

import sys

from bench import common, growth, language, vision

FIGURES = {
    "step_times": language.step_times,
    "loss_parity": language.loss_parity,
    "peak_memory": language.peak_memory,
    "scoring_many": language.scoring_many,
    "coop_epoch": vision.coop_epoch,
    "coop_memory": vision.coop_memory,
}
ON_REQUEST = {"growth": growth.growth, "large": growth.large, "table": common.table}


def main(names: list[str]) -> None:
    known = {**FIGURES, **ON_REQUEST}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"Unknown benchmark {', '.join(unknown)}. Known: {', '.join(known)}.")
    for name in names or FIGURES:
        known[name]()
    if not names:
        common.table()


if __name__ == "__main__":
    main(sys.argv[1:])
