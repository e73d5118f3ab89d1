"""How the cost of a step grows with text length, batch, virtual tokens and model, in time and memory; and a step at a large size."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.common import MODEL, WORDS
from bench.frame import Run, Watch, environment, peak_bytes, save, take_turns, timed
from bench.language import Arithmetic, OurSide
from bench.peft_side import peft_model
from maao.build_text import build_language
from maao.config import make_config
from maao.optimizers.torch import TorchStage
from maao.problems.towers.text.loading import FrozenModel, load_frozen
from maao.types import Example, Splits

STEPS = 2  # behind one that warms up


@dataclass(frozen=True)
class Setting:
    """One point of a curve. `layers` = 0 is the packaged model; otherwise a random model of its shape with so many layers."""

    where: str = "before"
    length: int = 64
    batch: int = 8
    virtual: int = 8
    layers: int = 0


CURVES: dict[str, list[Setting]] = {
    "length": [Setting(where, length, batch=4) for where in ("before", "after") for length in (32, 64, 128, 256, 512, 1024)],
    "batch": [Setting(where, batch=batch) for where in ("before", "after") for batch in (1, 4, 16, 32)],
    "virtual": [Setting(where, virtual=virtual) for where in ("before", "after") for virtual in (1, 8, 32, 64)],
    "layers": [Setting(where, layers=layers) for where in ("before", "after") for layers in (8, 15, 30, 60)],
}


def growth(run: Run) -> None:
    """Measure every point in a process of its own, write `growth.json` and `growth.png`; the rate is told beside each point."""
    found: dict[str, list[dict[str, Any]]] = {}
    with Watch() as watch:
        for curve, settings in CURVES.items():
            found[curve] = []
            for setting in [*settings[:1], *settings[-1:]] if run.quick else settings:
                done = subprocess.run(
                    [sys.executable, "-m", "bench.growth", json.dumps(setting.__dict__)], check=True, capture_output=True, text=True
                )
                measured = json.loads(done.stdout.splitlines()[-1])
                found[curve].append({**setting.__dict__, **measured})
                print(curve, setting, measured, flush=True)
                if run.out is not None:
                    save(run.out / "growth.json", {"environment": environment(), "machine": watch.told(), "curves": found})
    if run.out is not None:
        _plot(found, run.out)


def _plot(found: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {"length": "tokens of a text", "batch": "examples a batch", "virtual": "virtual tokens", "layers": "layers"}
    figure, axes = pyplot.subplots(2, len(found), figsize=(4 * len(found), 6), sharey="row", layout="constrained")
    for column, (curve, points) in enumerate(found.items()):
        for row, (key, label) in enumerate((("seconds", "seconds a step"), ("peak_mib", "highest resident set, MiB"))):
            for where in ("before", "after"):
                own = [point for point in points if point["where"] == where]
                axes[row, column].plot([p[curve] for p in own], [p[key] for p in own], marker="o", label=f"slots {where} the text")
            axes[row, column].set_xscale("log", base=2)
            axes[row, column].set_xlabel(names[curve])
            if column == 0:
                axes[row, column].set_ylabel(label)
        axes[0, column].set_yscale("log")
    axes[0, 0].legend()
    figure.savefig(folder / "growth.png", dpi=120)


def _measure(setting: Setting) -> dict[str, float]:
    frozen = load_frozen(MODEL)
    if setting.layers:
        frozen = _random_model(frozen, setting.layers)
    side = OurSide(_problem(frozen, setting), TorchStage(lr=0.01))
    turns = take_turns({"ours": side.step}, STEPS, shapes=Arithmetic.of(frozen.model, 0).shapes(512))
    rate = statistics.median(turn.rate for turn in turns.turns)
    times = {"seconds": statistics.median(turns.wall("ours")), "cpu_seconds": statistics.median(turns.cpu("ours"))}
    return {**times, "flop_per_second": rate, "peak_mib": peak_bytes() / 2**20}


def _random_model(frozen: FrozenModel, layers: int) -> FrozenModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**frozen.model.config.to_dict(), "num_hidden_layers": layers})
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return replace(frozen, model=model, tried={})


def _problem(frozen: FrozenModel, setting: Setting) -> Any:
    word = " news"  # one token
    splits = _texts(setting.batch, setting.length, word)
    template = "{slots} {text} It was" if setting.where == "before" else "{text} It was {slots}"
    model = {"name": MODEL, "template": template, "label_words": WORDS, "num_virtual_tokens": setting.virtual}
    return build_language(make_config({"model": model, "stage": {"batch_size": setting.batch}}), splits, frozen)[0].plain


def _texts(batch: int, length: int, word: str) -> Splits:
    """Return `batch` different texts of about `length` tokens each."""
    rows = tuple(Example({"text": f"{i}{word * (length - 4)}"}, ("negative", "positive")[i % 2]) for i in range(max(2, batch)))
    return Splits(rows[:batch], rows[:1], (), ("negative", "positive"))


def large(run: Run) -> None:
    """A step at the size of a 1 B decoder with random weights, ours against a `PeftModel`, on an accelerator if there is one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load_frozen(MODEL)
    shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = LlamaConfig(**{**base.model.config.to_dict(), **shape, "head_dim": 64})
    frozen = replace(base, model=LlamaForCausalLM(config).to(device).eval().requires_grad_(False), tried={})
    ours = {where: OurSide(_problem(frozen, Setting(where, length=64, batch=32)), TorchStage(lr=0.01)) for where in ("before", "after")}
    sides = {"peft": timed(_peft_step(frozen, ours["before"].problem, device)), **{where: side.step for where, side in ours.items()}}
    with Watch() as watch:
        turns = take_turns(sides, run.turns(5, 2), shapes=Arithmetic.of(frozen.model, 0).shapes(512))
    record = {"environment": {**environment(), "device": device}, "machine": watch.told(), **turns.samples()}
    if run.out is not None:
        save(run.out / "large.json", record)


def _peft_step(frozen: FrozenModel, problem: Any, device: str) -> Callable[[], None]:
    model = peft_model(frozen).to(device)
    optimizer = torch.optim.AdamW(model.prompt_encoder.parameters(), lr=0.01)
    batch = problem.batch(0, 0)
    rows = [[*row.before, *row.after] for row in problem.read(batch)]
    width = max(map(len, rows))
    fill = frozen.tokenizer.pad_token_id
    answers = [problem.scorer.words[target][0] for target in batch.targets.tolist()]
    sequences = [[*row, answer, *[fill] * (width - len(row))] for row, answer in zip(rows, answers, strict=True)]
    ids = torch.tensor(sequences, device=device)
    mask = torch.tensor([[1] * (len(row) + 1) + [0] * (width - len(row)) for row in rows], device=device)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        labels[i, len(row)] = answers[i]

    def step() -> None:
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        float(loss.detach())  # waits for the accelerator

    return step


if __name__ == "__main__":
    print(json.dumps(_measure(Setting(**json.loads(sys.argv[1])))))
