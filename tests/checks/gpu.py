"""On a GPU, within five minutes: parity with the processor, resume, memory, bf16, step times, a divided model. `make test-gpu`.

python -m tests.checks.gpu              on the first GPU; without one the page says that it was not run
python -m tests.checks.gpu cpu MODEL    the same script on the processor, which writes no page: is it fit to be run?

Nothing is promised bit for bit on a GPU, so each figure has a bound, which stands beside it.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.checks.record import Record

MODEL = "packaged:smollm2-135m-instruct"
SECONDS = 300.0
STEPS, TIMED = 6, 10
# Relative to the largest value: fp32 sums in another order (no TF32), bf16 has 8 bits.
BOUNDS = {"scores": 1e-4, "gradient": 1e-3, "loss": 1e-4, "bf16 scores": 0.1, "resumed": 1e-3, "divided": 1e-4}
MEMORY_MIB = 512


class Check:
    """The checks of one device against the processor.

    Args:
        folder: for runs.
        device: "cuda", or "cpu" to try the script itself.
    """

    def __init__(self, folder: Path, device: str, model: str) -> None:
        self.folder, self.device, self.model = folder, device, model

    def config(self, device: str, **model: object) -> Any:
        from maao.config import make_config

        own = {"kind": "decoder", "name": self.model, "part_tokens": 4096, **({} if "device_map" in model else {"device": device}), **model}
        if "memory_mib" in model:
            del own["part_tokens"]
        return make_config(
            {
                "seed": 0,
                "baselines": [],
                "model": own,
                "data": {"source": "packaged:bbc-headlines", "shots": 8, "select_shots": 4, "test_size": 20},
                "stage": {"batch_size": 16},
                "plan": {"kind": "rounds", "rounds": 1, "steps": STEPS, "store_every": STEPS // 2, "clues": False},
                "mentor": {"name": "none"},
            }
        )

    def read(self, device: str, **model: object) -> dict[str, Any]:
        """Return the class scores of the first point on `select`, a loss and its gradient."""
        from maao.build import build

        problem = build(self.config(device, **model)).problem
        params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}
        loss = problem.loss(params, problem.batch(0, 0))
        loss.backward()
        ((_, scores),) = problem.judged([{name: value.detach() for name, value in params.items()}], "select")
        return {"scores": scores, "loss": loss.detach().cpu(), "gradient": params["prompt"].grad}

    def parity(self) -> Iterator[str]:
        """Scores, loss and gradient of the same prompt on both, and scores in bf16."""
        wanted, found = self.read("cpu"), self.read(self.device)
        for name in ("scores", "loss", "gradient"):
            yield within(name, apart(found[name], wanted[name]))
        coarse = self.read(self.device, dtype="bfloat16")["scores"]
        yield within("bf16 scores", apart(coarse, wanted["scores"]))
        same = (coarse.argmax(1) == wanted["scores"].argmax(1)).float().mean()
        yield f"bf16 reads {100 * float(same):.0f} % of {len(coarse)} examples as the same class"

    def resumed(self) -> Iterator[str]:
        """A run that is stopped in its midst goes on to the same point."""
        import torch

        from maao.runner import Watch, resume, run

        class Stop(Watch):
            def round(self, finished: Any) -> None:
                if finished.index == 1:
                    raise KeyboardInterrupt

        whole = run(self.config(self.device), self.folder / "whole")
        with contextlib.suppress(KeyboardInterrupt):
            run(self.config(self.device), self.folder / "stopped", watch=Stop())
        again = resume(self.folder / "stopped")
        one, other = (result.history[-1].state.params["prompt"] for result in (whole, again))
        moved = apart(one, whole.history[0].state.params["prompt"])
        assert len(again.history) == len(whole.history) and moved > BOUNDS["resumed"], (len(again.history), moved)
        bits = "the same bits" if torch.equal(one, other) else "not the same bits"
        yield within("resumed", apart(other, one)) + f"; {bits}"

    def memory(self) -> Iterator[str]:
        """A step takes what `model.memory_mib` allows beside the weights, and a quarter more at most."""
        import torch

        from maao.build import build

        if self.device == "cpu":
            yield "memory: of a GPU alone"
            return
        problem = build(self.config(self.device, memory_mib=MEMORY_MIB)).problem
        params = {name: value.requires_grad_() for name, value in problem.initial(0).items()}
        problem.loss(params, problem.batch(0, 0)).backward()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        problem.loss(params, problem.batch(1, 0)).backward()
        peak = (torch.cuda.max_memory_allocated() - held) / 2**20
        assert peak <= 1.25 * MEMORY_MIB, peak
        stay = f"beside {held / 2**20:.0f} MiB that stay"
        yield f"memory of a step with memory_mib = {MEMORY_MIB}: {peak:.0f} MiB (at most {1.25 * MEMORY_MIB:.0f}) {stay}"

    def steps(self) -> Iterator[str]:
        """The time of a gradient step, its update included."""
        times = {"cpu": self.step_time("cpu"), self.device: self.step_time(self.device)}
        times[f"{self.device} in bf16"] = self.step_time(self.device, dtype="bfloat16")
        for name, (middle, low, high) in times.items():
            yield f"a step of 16 headlines, {name}: {1000 * middle:.1f} ms ({1000 * low:.1f} to {1000 * high:.1f}, {TIMED} steps)"

    def step_time(self, device: str, **model: object) -> tuple[float, float, float]:
        import torch

        from maao.build import build
        from maao.optimizers.torch import TorchStage

        problem, stage = build(self.config(device, **model)).problem, TorchStage(lr=0.01)
        state, seconds = stage.init(problem, problem.initial(0), seed=0), list[float]()
        for _ in range(3 + TIMED):
            began = time.perf_counter()
            state = stage.step(problem, state)[0]
            if device != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        held = sorted(seconds[3:])
        return statistics.median(held), held[0], held[-1]

    def divided(self) -> Iterator[str]:
        """Half of the layers elsewhere: on a second GPU, in the processor's memory, or (on the processor) on the disk."""
        import torch
        from transformers import AutoConfig

        from maao.problems.towers.text.loading import locate

        layers = AutoConfig.from_pretrained(locate(self.model)).num_hidden_layers
        here: str | int = "cpu" if self.device == "cpu" else 0
        there: str | int = "disk" if self.device == "cpu" else 1 if torch.cuda.device_count() > 1 else "cpu"
        parts = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), here)
        parts |= {f"model.layers.{i}": here if i < layers // 2 else there for i in range(layers)}
        wanted, found = self.read(self.device), self.read(self.device, device_map=parts)
        for name in ("scores", "gradient"):
            yield within("divided", apart(found[name], wanted[name])) + f" ({name}, half of the layers on {there})"

    def all(self) -> tuple[Callable[[], Iterator[str]], ...]:
        return self.parity, self.resumed, self.memory, self.steps, self.divided


def apart(found: Any, wanted: Any) -> float:
    """Return the largest difference, relative to the largest value."""
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return float((found - wanted).abs().max() / wanted.abs().max())


def within(name: str, difference: float) -> str:
    """Return a figure with its bound; fail where it is larger."""
    assert difference <= BOUNDS[name], f"{name}: {difference:.2g}, and {BOUNDS[name]:g} is allowed"
    return f"{name}: differ by {difference:.2g} (at most {BOUNDS[name]:g})"


def main(device: str = "cuda", model: str = MODEL) -> None:
    import torch

    record = Record("gpu", "make test-gpu: a GPU against the processor, within five minutes.", {})
    if device == "cuda" and not torch.cuda.is_available():
        record.note("", "not run: there was no GPU")
        record.end()
        print("not run: there is no GPU here")
        return
    record.note("", f"{torch.cuda.get_device_name() if device == 'cuda' else 'processor'}; torch {torch.__version__}; {model}")
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for part in Check(Path(folder), device, model).all():
                if (spent := time.monotonic() - began) > SECONDS - 30:
                    record.note(f"{part.__name__}: left out, {spent:.0f} s are over")
                    continue
                for line in part():
                    record.note(line)
                    print(line, flush=True)
    except BaseException as error:
        record.note(f"FAILED: {type(error).__name__}: {error}")
        raise
    finally:
        record.note(f"[{time.monotonic() - began:.0f} s]")
        if device != "cpu":
            record.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
