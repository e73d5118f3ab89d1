"""Run the study of few labels: `python -m experiments.few_labels` (see `plan.md`).

Goes on where it stopped. The cells lie in `out/`; `experiments.few_labels.read_out` makes of them the table and the page that are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.few_labels.data import make
from maao.compare import compare

HERE = Path(__file__).parent
LABELS = (1, 2, 4, 8, 16)


def main() -> None:
    """Run the tables that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m experiments.few_labels", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="run only cells whose name holds this text; may be repeated")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--labels", type=int, nargs="*", default=LABELS, help="labels a class")
    parser.add_argument("--arms", default="labels", help="labels: arms on the frozen encoder; tuned: SetFit and LoRA; emoji: pictures")
    asked = parser.parse_args()
    make(HERE / "data")
    for count in asked.labels:
        name = f"{asked.arms}-{count}"
        compare(HERE / f"{name}.toml", HERE / "out" / name, workers=asked.workers, only=asked.only, watch=_told(name))


def _told(name: str):
    before = -1

    def watch(done: int, total: int, seconds: float) -> None:
        nonlocal before
        if done // 50 != before // 50:
            print(f"{name}: {done} of {total} cells, {seconds:.0f} s", flush=True)
        before = done

    return watch


if __name__ == "__main__":
    main()
