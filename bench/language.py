"""Language figures: a step against PEFT's, against the arithmetic, the same loss, and peak memory."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F

from bench.common import NUM_VIRTUAL_TOKENS, TEMPLATES, Figure, median, our_problem, peak_bytes, sst2
from bench.peft_side import TrainerSide, peft_model
from maao.optimizers.torch import TorchStage

BLOCKS, STEPS, OUR_STEPS = 3, 3, 5  # the sides take turns: blocks of steps, the first of a block a warm-up
SIDES = ("before", "after", "inside")
LR = 0.01
# Rounding differs (rows are packed), and AdamW divides by gradients that are close to zero: at 0.01 two walks that agree to 1e-5 for ten
# steps part by half of the loss within twenty, whatever rounds them. A smaller rate shows the loss and its gradient, not that.
PARITY_LR = 0.001


def step_times() -> None:
    """Time a step of PEFT and of ours, taking turns."""
    splits = sst2()
    stage = TorchStage(lr=LR, max_grad_norm=1.0)
    sides: dict[str, Any] = {}
    for where in SIDES:
        problem = our_problem(where, splits)
        sides[where] = problem, stage.init(problem, problem.initial(1), seed=0)
    before = sides["before"][0]
    batch = before.batch(0, 0)
    rows = before.read(batch)
    rival = TrainerSide(before.frozen, rows, before.scorer.words, batch.targets, LR)
    seconds: dict[str, list[float]] = {"peft": [], **{where: [] for where in SIDES}}
    for _ in range(BLOCKS):
        seconds["peft"] += rival.steps(STEPS)[1:]
        for where in SIDES:
            problem, state = sides[where]
            for step in range(OUR_STEPS):
                began = time.perf_counter()
                state, _ = stage.step(problem, state)
                if step:
                    seconds[where].append(time.perf_counter() - began)
            sides[where] = problem, state
    fill = _fill_seconds(splits)
    after = median(seconds["after"]) + fill / 50  # filling the cache, spread over 50 steps
    peft = median(seconds["peft"])
    inside = peft / (median(seconds["inside"]) + fill / 50)
    samples = {**seconds, "cache_fill_seconds": fill, "templates": TEMPLATES, "ratio_with_the_cue_behind_the_slots": inside}
    Figure("step_time_slots_before_vs_peft", 3.0, 4.0, True, "times").write(peft / median(seconds["before"]), samples)
    Figure("step_time_slots_after_vs_peft", 9.0, 12.0, True, "times").write(peft / after, samples)
    _over_limit(before, rows, seconds["before"])


def scoring_many() -> None:
    """Time the scoring of 16 candidate prompts on 500 texts: 16 passes of their own, and ours, which reads each text once for all."""
    candidates, examples = 16, 500
    problem = our_problem("after", sst2(test_size=examples), cache_mib=0)
    points = [problem.initial(seed) for seed in range(candidates)]
    seconds: dict[str, list[float]] = {"separate": [], "ours": []}
    problem.score([points[0]], "select")  # warms up
    began = time.perf_counter()
    apart = [problem.score([point], "test")[0] for point in points]
    seconds["separate"].append(time.perf_counter() - began)
    began = time.perf_counter()
    together = problem.score(points, "test")
    seconds["ours"].append(time.perf_counter() - began)
    worst = max(abs(a.loss - b.loss) / a.loss for a, b in zip(apart, together, strict=True))
    assert worst < 1e-4, f"the two ways to score differ by {worst:.1e}"
    samples = {**seconds, "candidates": candidates, "examples": examples, "largest_relative_difference": worst}
    value = median(seconds["separate"]) / median(seconds["ours"])
    Figure("scoring_many_vs_separate", 1.5, 3.0, True, "times").write(value, samples)


def _fill_seconds(splits: Any) -> float:
    """Return the seconds that filling the cache of the training texts takes."""
    from maao.problems.towers.text.forward import PrefixCache

    problem = our_problem("after", splits, cache_mib=0)
    cache = PrefixCache(problem.frozen)
    began = time.perf_counter()
    cache.fill(problem.read(problem.batch(0, 0)))
    return time.perf_counter() - began


def _over_limit(problem: Any, rows: Any, seconds: list[float]) -> None:
    model = problem.frozen.model
    table = model.get_input_embeddings().weight.numel()
    parameters = sum(p.numel() for p in model.parameters()) - table
    tokens = sum(len(row) + NUM_VIRTUAL_TOKENS for row in rows)
    rate = _matrix_rate()
    limit = 4 * parameters * tokens / rate
    samples = {"parameters": parameters, "tokens": tokens, "flop_per_second": rate, "limit_seconds": limit, "seconds": seconds}
    Figure("step_time_over_limit", 1.6, 1.25, False, "times").write(median(seconds) / limit, samples)


def _matrix_rate() -> float:
    """Return the machine's fp32 matrix rate in floating-point operations a second: the best of several square products."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def loss_parity() -> None:
    """Compare 20 steps of ours and of a `PeftModel` from the same start: same loss, slots before, fp32."""
    splits = sst2()
    worst: dict[str, float] = {}
    samples: dict[str, Any] = {}
    for objective in ("classes", "vocabulary"):
        problem = our_problem("before", splits, objective=objective)
        stage = TorchStage(lr=PARITY_LR, max_grad_norm=None, options={"weight_decay": 0.0})
        state = stage.init(problem, problem.initial(1), seed=0)
        theirs = peft_model(problem.frozen, state.params["prompt"])
        optimizer = torch.optim.AdamW(theirs.prompt_encoder.parameters(), lr=PARITY_LR, weight_decay=0.0)
        batch = problem.batch(0, 0)
        words = torch.tensor([word[0] for word in problem.scorer.words])
        pairs = []
        for _ in range(20):
            state, seen = stage.step(problem, state)
            optimizer.zero_grad()
            logits = _peft_answer_logits(theirs, problem.read(batch), problem.frozen.tokenizer.pad_token_id)
            if objective == "classes":
                loss = F.cross_entropy(logits[:, words], batch.targets)
            else:
                loss = F.cross_entropy(logits, words[batch.targets])
            loss.backward()
            optimizer.step()
            pairs.append((seen.loss, float(loss.detach())))
        worst[objective] = max(abs(a - b) / abs(b) for a, b in pairs)
        samples[objective] = pairs
    Figure("loss_parity_with_peft", 1e-4, 1e-5, False, "relative").write(max(worst.values()), {"worst": worst, **samples})


def _peft_answer_logits(model: Any, rows: Any, fill: int) -> Any:
    """Return ``(batch, vocab_size)`` logits at each row's last token, from PEFT's full forward on a right-padded batch."""
    sequences = [[*row.before, *row.after] for row in rows]
    length = max(map(len, sequences))
    ids = torch.tensor([s + [fill] * (length - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (length - len(s)) for s in sequences])
    logits = model(input_ids=ids, attention_mask=mask).logits
    last = torch.tensor([NUM_VIRTUAL_TOKENS + len(s) - 1 for s in sequences])
    return logits[torch.arange(len(rows)), last]


def peak_memory() -> None:
    """Compare the highest resident set of a process that loads the model and makes 5 steps."""
    peaks = {side: _peak_of(side) for side in ("ours", "peft")}
    Figure("peak_memory_vs_peft", 0.5, 0.33, False, "ratio").write(
        peaks["ours"] / peaks["peft"], {f"{k}_bytes": v for k, v in peaks.items()}
    )


def _peak_of(side: str) -> int:
    done = subprocess.run([sys.executable, "-m", "bench.language", side], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _five_steps(side: str) -> None:
    splits = sst2()
    problem = our_problem("before", splits)
    if side == "ours":
        stage = TorchStage(lr=LR)
        state = stage.init(problem, problem.initial(1), seed=0)
        for _ in range(5):
            state, _ = stage.step(problem, state)
    else:
        batch = problem.batch(0, 0)
        TrainerSide(problem.frozen, problem.read(batch), problem.scorer.words, batch.targets, LR).steps(5)
    print(peak_bytes())


if __name__ == "__main__":
    _five_steps(sys.argv[1])
