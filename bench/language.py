"""Language figures: a step against PEFT's and against its arithmetic, scoring many prompts, the same loss, and peak memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from bench.common import NUM_VIRTUAL_TOKENS, TEMPLATES, our_problem, sst2
from bench.frame import Figure, Run, Seconds, Shape, Watch, peak_bytes, quartiles, take_turns, timed
from bench.peft_side import TrainerSide, peft_model
from maao.optimizers.torch import TorchStage
from maao.types import Splits

SIDES = ("before", "after", "inside")
LR = 0.01
FILL_STEPS = 50  # over so many steps the seconds that filling the cache takes are spread
# Rounding differs (rows are packed), and AdamW divides by gradients that are close to zero: at 0.01 two walks that agree to 1e-5 for ten
# steps part by half of the loss within twenty, whatever rounds them. A smaller rate shows the loss and its gradient, not that.
PARITY_LR = 0.001
PARITY_STEPS = 20

BEFORE = Figure("step_time_slots_before_vs_peft", "step time, slots before the text: PEFT / ours", 3.0, 4.0, True)
AFTER = Figure("step_time_slots_after_vs_peft", "step time, slots after the text: PEFT (before it) / ours", 9.0, 12.0, True)
LIMIT = Figure(
    "step_time_over_limit",
    "step time, slots before the text, over what the arithmetic alone would take at the rate beside it",
    1.6,
    1.25,
    False,
)
SCORING = Figure("scoring_many_vs_separate", "scoring 16 candidate prompts: 16 passes / ours", 1.5, 3.0, True)
PARITY = Figure("loss_parity_with_peft", "largest relative difference of the loss from PEFT's over 20 steps", 1e-4, 1e-5, False, "relative")
MEMORY = Figure("peak_memory_vs_peft", "highest resident memory: ours / PEFT", 0.5, 0.33, False)


class OurSide:
    """Our steps, one behind the other."""

    def __init__(self, problem: Any, stage: TorchStage) -> None:
        self.problem, self.stage = problem, stage
        self.state = stage.init(problem, problem.initial(1), seed=0)
        self.step = timed(self._step)

    def _step(self) -> None:
        self.state, _ = self.stage.step(self.problem, self.state)


def steps(run: Run) -> None:
    """Time a step of PEFT and of ours, taking turns."""
    splits = sst2()
    ours = {where: OurSide(our_problem(where, splits), TorchStage(lr=LR, max_grad_norm=1.0)) for where in SIDES}
    before = ours["before"].problem
    batch = before.batch(0, 0)
    rows = before.read(batch)
    rival = TrainerSide(before.frozen, rows, before.scorer.words, batch.targets, LR)
    arithmetic = Arithmetic.of(before.frozen.model, tokens=sum(len(row) + NUM_VIRTUAL_TOKENS for row in rows))
    with Watch() as watch:
        turns = take_turns(
            {"peft": rival.step, **{where: ours[where].step for where in SIDES}}, run.turns(12), shapes=arithmetic.shapes(len(rows) * 16)
        )
        fill = _fill_seconds(splits)
    samples = {**turns.samples(), "cache_fill_seconds": fill.wall, "templates": TEMPLATES}
    wall, cpu = fill.wall / FILL_STEPS, fill.cpu / FILL_STEPS
    BEFORE.report(run, watch, turns.ratios("peft", "before"), samples, cpu_ratio=_spread(turns.cpu_ratios("peft", "before")))
    AFTER.report(
        run,
        watch,
        turns.ratios("peft", "after", wall),
        samples,
        cpu_ratio=_spread(turns.cpu_ratios("peft", "after", cpu)),
        with_the_cue_behind_the_slots=_spread(turns.ratios("peft", "inside", wall)),
    )
    over = [turn.seconds["before"].wall * turn.rate / arithmetic.operations for turn in turns.turns]
    LIMIT.report(run, watch, over, samples, arithmetic=arithmetic.__dict__)


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = quartiles(values)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


@dataclass(frozen=True)
class Arithmetic:
    """What a gradient step is made of where nothing is kept or shared: 2 operations a weight and token forwards, and 2 backwards."""

    parameters: int
    tokens: int
    hidden: int
    inner: int

    @classmethod
    def of(cls, model: Any, tokens: int) -> Arithmetic:
        parameters = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
        return cls(parameters, tokens, model.config.hidden_size, model.config.intermediate_size)

    @property
    def operations(self) -> int:
        return 4 * self.parameters * self.tokens

    def shapes(self, rows: int) -> list[Shape]:
        """Return the products of a layer's feed-forward network, three quarters of its arithmetic."""
        return [(rows, self.hidden, self.inner), (rows, self.inner, self.hidden)]


def _fill_seconds(splits: Splits) -> Seconds:
    """Return what filling the cache of the training texts takes."""
    from maao.problems.towers.text.forward import PrefixCache

    problem = our_problem("after", splits, cache_mib=0)
    cache = PrefixCache(problem.frozen)
    return timed(lambda: cache.fill(problem.read(problem.batch(0, 0))))()


def scoring_many(run: Run) -> None:
    """Time the scoring of 16 candidate prompts on texts: 16 passes of their own, and ours, which reads each text once for all."""
    candidates, examples = 16, 16 if run.quick else 64
    problem = our_problem("after", sst2(test_size=examples), cache_mib=0)
    points = [problem.initial(seed) for seed in range(candidates)]
    found: dict[str, Any] = {}

    def separate() -> None:
        found["separate"] = [problem.score([point], "test")[0] for point in points]

    def together() -> None:
        found["ours"] = problem.score(points, "test")

    problem.score([points[0]], "test")  # warms up
    shapes = Arithmetic.of(problem.frozen.model, 0).shapes(512)
    with Watch() as watch:
        turns = take_turns({"separate": timed(separate), "ours": timed(together)}, run.turns(5, 2), shapes=shapes, warm_up=0)
    worst = max(abs(a.loss - b.loss) / a.loss for a, b in zip(found["separate"], found["ours"], strict=True))
    if worst >= 1e-4:
        raise SystemExit(f"The two ways to score differ by {worst:.1e}.")
    samples = {**turns.samples(), "candidates": candidates, "examples": examples, "largest_relative_difference": worst}
    SCORING.report(run, watch, turns.ratios("separate", "ours"), samples, cpu_ratio=_spread(turns.cpu_ratios("separate", "ours")))


def loss_parity(run: Run) -> None:
    """Compare 20 steps of ours and of a `PeftModel` from the same start: same loss, slots before, fp32."""
    splits = sst2()
    with Watch() as watch:
        pairs = {objective: _parity(splits, objective, run.turns(PARITY_STEPS, 5)) for objective in ("classes", "vocabulary")}
    worst = {objective: max(abs(a - b) / abs(b) for a, b in own) for objective, own in pairs.items()}
    PARITY.report(run, watch, [max(worst.values())], {"worst": worst, **pairs})


def _parity(splits: Splits, objective: str, count: int) -> list[tuple[float, float]]:
    """Return the losses of both sides, step by step."""
    problem = our_problem("before", splits, objective=objective)
    stage = TorchStage(lr=PARITY_LR, max_grad_norm=None, options={"weight_decay": 0.0})
    state = stage.init(problem, problem.initial(1), seed=0)
    theirs = peft_model(problem.frozen, state.params["prompt"])
    optimizer = torch.optim.AdamW(theirs.prompt_encoder.parameters(), lr=PARITY_LR, weight_decay=0.0)
    batch = problem.batch(0, 0)
    words = torch.tensor([word[0] for word in problem.scorer.words])
    pairs = []
    for _ in range(count):
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
    return pairs


def _peft_answer_logits(model: Any, rows: Any, fill: int) -> Any:
    """Return ``(batch, vocab_size)`` logits at each row's last token, from PEFT's full forward on a right-padded batch."""
    sequences = [[*row.before, *row.after] for row in rows]
    length = max(map(len, sequences))
    ids = torch.tensor([s + [fill] * (length - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (length - len(s)) for s in sequences])
    logits = model(input_ids=ids, attention_mask=mask).logits
    last = torch.tensor([NUM_VIRTUAL_TOKENS + len(s) - 1 for s in sequences])
    return logits[torch.arange(len(rows)), last]


def peak_memory(run: Run) -> None:
    """Compare the highest resident set of processes that load the model and make 5 steps, taking turns."""
    peaks: dict[str, list[int]] = {"ours": [], "peft": []}
    with Watch() as watch:
        for _ in range(run.turns(3, 1)):
            for side, own in peaks.items():
                own.append(_peak_of(side))
    values = [ours / peft for ours, peft in zip(peaks["ours"], peaks["peft"], strict=True)]
    MEMORY.report(run, watch, values, {f"{side}_bytes": own for side, own in peaks.items()})


def _peak_of(side: str) -> int:
    done = subprocess.run([sys.executable, "-m", "bench.language", side], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _five_steps(side: str) -> None:
    splits = sst2()
    problem = our_problem("before", splits)
    if side == "ours":
        own = OurSide(problem, TorchStage(lr=LR))
        step = own.step
    else:
        batch = problem.batch(0, 0)
        step = TrainerSide(problem.frozen, problem.read(batch), problem.scorer.words, batch.targets, LR).step
    for _ in range(5):
        step()
    print(peak_bytes())


if __name__ == "__main__":
    _five_steps(sys.argv[1])
