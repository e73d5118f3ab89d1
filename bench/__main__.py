"""Run the benchmarks: `python -m bench [NAME ...]`."""

from __future__ import annotations

import sys

from bench import language

BENCHMARKS = {"step_times": language.step_times, "loss_parity": language.loss_parity, "peak_memory": language.peak_memory}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"Unknown benchmark {', '.join(unknown)}. Known: {', '.join(BENCHMARKS)}.")
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
