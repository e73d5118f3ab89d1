"""Shared by the benchmarks of language models: the data, the model and our problem on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from maao.build_text import build_language
from maao.config import make_config
from maao.data.files import read_examples
from maao.data.splits import from_parts
from maao.problems.towers.text.loading import load_frozen
from maao.types import Splits

NUM_VIRTUAL_TOKENS = 8
MODEL = "packaged:smollm2-135m-instruct"
WORDS = {"negative": "terrible", "positive": "great"}
# The same words throughout. Slots after all text ("after") let a step run nothing but the slots; "inside" has the cue behind them.
TEMPLATES = {"before": "{slots} {text} It was", "after": "{text} It was {slots}", "inside": "{text} {slots} It was"}


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
