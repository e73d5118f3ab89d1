"""Run the benchmarks: `python -m bench [NAME ...]`; without a name, those that give the figures of the table of docs/speed.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from bench import growth, language, load, matcher, vision
from bench.frame import RESULTS, Run
from bench.table import table

FIGURES: dict[str, Callable[[Run], None]] = {
    "steps": language.steps,
    "loss_parity": language.loss_parity,
    "peak_memory": language.peak_memory,
    "scoring_many": language.scoring_many,
    "coop_epoch": vision.coop_epoch,
    "coop_memory": vision.coop_memory,
}
ON_REQUEST: dict[str, Callable[[Run], None]] = {
    "growth": growth.growth,
    "large": growth.large,
    "matcher": matcher.matcher,
    **matcher.ALL,
    "load": load.load,
    **{f"load-{name.replace(' ', '-')}": partial(load.load, only=(name,)) for name in load.CASES},
    "table": table,
}


def main(arguments: Sequence[str] | None = None) -> None:
    known = {**FIGURES, **ON_REQUEST}
    parser = argparse.ArgumentParser(prog="python -m bench", description="What is measured, how, and how to read it: bench/README.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; by default {', '.join(FIGURES)}, table")
    parser.add_argument("--quick", action="store_true", help="fewer turns, to see that it works; written only where --out says")
    parser.add_argument("--out", type=Path, help="the folder that the JSON files are written to (default: bench/results)")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's own choice)")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        raise SystemExit(f"Unknown benchmark {', '.join(unknown)}. Known: {', '.join(known)}.")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    run = Run(asked.quick, asked.out or (None if asked.quick else RESULTS))
    for name in asked.names or [*FIGURES, "table"]:
        print(f"{name}:", flush=True)
        known[name](run)


if __name__ == "__main__":
    main()
