"""Shared by the benchmarks: the data, the two sides, and how a figure is written down."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maao.build_text import build_language
from maao.config import make_config
from maao.data.files import read_examples
from maao.data.splits import from_parts
from maao.installed import installed
from maao.problems.towers.text.loading import load_frozen
from maao.types import Splits

RESULTS = Path(__file__).parent / "results"
NUM_VIRTUAL_TOKENS = 8
MODEL = "packaged:smollm2-135m-instruct"
WORDS = {"negative": "terrible", "positive": "great"}
# The same words throughout. Slots after all text ("after") let a step run nothing but the slots; "inside" has the cue behind them.
TEMPLATES = {"before": "{slots} {text} It was", "after": "{text} It was {slots}", "inside": "{text} {slots} It was"}


@dataclass(frozen=True)
class Figure:
    """One measured figure, with what it must reach and what we aim for."""

    figure: str
    must: float
    aim: float
    higher_is_better: bool
    unit: str

    def write(self, value: float, samples: dict[str, Any]) -> None:
        """Write the figure to its file and print it."""
        record = {
            "figure": self.figure,
            "value": value,
            "must": self.must,
            "aim": self.aim,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
            "environment": environment(),
            "samples": samples,
        }
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.figure}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        reached = value >= self.must if self.higher_is_better else value <= self.must
        verdict = "reached" if reached else "NOT REACHED"
        print(f"{self.figure:36} {value:9.4g} {self.unit:10} must {self.must:g}, aim {self.aim:g}: {verdict}", flush=True)


def environment() -> dict[str, Any]:
    packages = {name: installed(name) for name in ("maao", "torch", "transformers", "peft")}
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "threads": torch.get_num_threads(), **packages}


def sst2(test_size: int = 500) -> Splits:
    """SST-2, 16 examples a class (seed 13): 32 examples to train on."""
    folder = os.environ.get("MAAO_DATA")
    if not folder:
        raise SystemExit("Set MAAO_DATA to the data folder (docs/data.md): the benchmarks read fewshot/sst-2 there.")
    base = Path(folder) / "fewshot" / "sst-2"
    names = {"0": "negative", "1": "positive"}
    parts = [read_examples(base / "seed-13" / f"{part}.tsv", label_names=names) for part in ("train", "dev")]
    test = read_examples(base / "test.tsv", label_names=names)
    return from_parts(parts[0], parts[1], test, test_size=test_size)


def our_problem(where: str, splits: Splits, **model: Any) -> Any:
    """Return our problem with slots "before" or "after" the text, full batch."""
    config = make_config(
        {
            "model": {"name": MODEL, "template": TEMPLATES[where], "label_words": WORDS, "num_virtual_tokens": NUM_VIRTUAL_TOKENS, **model},
            "stage": {"batch_size": len(splits.train)},
        }
    )
    return build_language(config, splits, load_frozen(MODEL))[0].plain


def peak_bytes() -> int:
    """Return the highest resident set of this process. Not by `getrusage`: its figure begins at that of the process it was started from."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("The highest resident set is read from /proc/self/status, which this system does not have: run on Linux.")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


WHAT = {
    "step_time_slots_before_vs_peft": "step time, slots before the text: PEFT / ours",
    "step_time_slots_after_vs_peft": "step time, slots after the text: PEFT (before it) / ours",
    "peak_memory_vs_peft": "highest resident memory: ours / PEFT",
    "step_time_over_limit": "step time, slots before the text, over what the arithmetic alone would take",
    "scoring_many_vs_separate": "scoring 16 candidate prompts on 500 examples: 16 passes / ours",
    "coop_epoch_cached_vs_reencoded": "an epoch of CoOp: images encoded at every step / features kept",
    "coop_peak_memory_cached_vs_reencoded": "highest resident memory of CoOp: features kept / images encoded at every step",
    "loss_parity_with_peft": "largest relative difference of the loss from PEFT's over 20 steps",
}


def table() -> None:
    """Print the figures that were measured as a table."""
    print("| figure | measured | must | aim |\n| --- | --- | --- | --- |")
    for name, what in WHAT.items():
        file = RESULTS / f"{name}.json"
        if file.exists():
            record = json.loads(file.read_text(encoding="utf-8"))
            sign = "at least" if record["higher_is_better"] else "at most"
            print(f"| {what} | {record['value']:.3g} | {sign} {record['must']:g} | {record['aim']:g} |")
