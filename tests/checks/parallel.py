"""Two single-thread processes on the CPU (gloo) against one: the same params within 1e-5, and the time of a step. `make test-parallel`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.checks.record import ROOT, Record

CONFIG = """
seed = 0
threads = 1
baselines = []
[model]
kind = "decoder"
part_tokens = 4096
[data]
source = "packaged:bbc-headlines"
shots = 16
select_shots = 4
test_size = 20
[stage]
batch_size = 32
[plan]
kind = "rounds"
rounds = 1
steps = {steps}
clues = false
[mentor]
name = "none"
"""
STEPS = 4


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record = Record("parallel", __doc__ or "", {folder: "TMP"})
        (folder / "config.toml").write_text(CONFIG.format(steps=STEPS), encoding="utf-8")
        variables = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
        tune = ["tune", folder / "config.toml", "--set", "seed=0", "--run"]
        record.run([sys.executable, "-m", "maao.cli", *tune, folder / "one"], last=6, **variables)
        # `accelerate launch` starts one process a GPU; on the processor alone torch's own launcher starts several.
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "--"]
        record.run([*launch, "maao.cli", *tune, folder / "two"], last=6, **variables)
        record.note("", *compared(folder / "one", folder / "two"), own_work(folder / "config.toml"))
        record.versions(Path(sys.executable))
        record.end()


def compared(one: Path, two: Path) -> list[str]:
    """Return how far apart the params of two runs are, and how long their walks took; fail where they differ."""
    import maao

    results = [maao.load(run) for run in (one, two)]
    assert [result.environment.get("processes", 1) for result in results] == [1, 2]
    first, second = (result.history for result in results)
    apart = max(float((first[-1].state.params[name] - second[-1].state.params[name]).abs().max()) for name in first[-1].state.params)
    moved = float((first[-1].state.params["prompt"] - first[0].state.params["prompt"]).abs().max())
    seconds = [sum(finished.cost.seconds for finished in history if finished.observations) for history in (first, second)]
    steps = sum(len(finished.observations) for finished in first)
    assert apart < 1e-5 < moved, (apart, moved)
    return [
        f"{steps} steps moved the prompt by at most {moved:.3g}; the two differ by at most {apart:.2g}",
        f"walk and scores: {seconds[0]:.1f} s by one process, {seconds[1]:.1f} s by two, {seconds[0] / seconds[1]:.2f} times as fast",
    ]


def own_work(config: Path) -> str:
    """Return what a process computes itself of a shared step, in processor time, which other work on the machine does not change."""
    import torch

    import maao
    from maao.build import build
    from maao.problems.shares import Share, sharing

    problem = build(maao.read_config(str(config))).problem
    params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}

    def seconds(share: Share) -> float:
        taken = []
        for step in range(4):
            began = time.process_time()
            with sharing(share):
                torch.autograd.grad(problem.loss(params, problem.batch(step, 0)), list(params.values()), allow_unused=True)
            taken.append(time.process_time() - began)
        return sorted(taken)[1]

    whole, half = (seconds(Share(0, count, lambda own: own)) for count in (1, 2))
    return f"processor seconds of a step: {whole:.2f} of all of a batch, {half:.2f} of its half: at most {whole / half:.2f} times as fast"


if __name__ == "__main__":
    main()
