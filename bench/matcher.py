"""Matchers on kept features: steps against a plain PyTorch loop, growth, encoding and predicting, and commands from start to result.

Features are random unit vectors here, in the places of the packaged encoder's: of 77 classes and 384 dimensions, 8 examples a class.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.frame import Figure, Run, Seconds, Shape, Step, Watch, environment, quartiles, save, take_turns, timed
from maao.codecs.no_words import NoWords
from maao.core.acceptance import AlwaysFirst
from maao.core.loop import alternate
from maao.mentors.controls import NoMentor
from maao.optimizers.torch import TorchStage, TorchState
from maao.problems.classification import ClassificationProblem
from maao.problems.methods import Bound
from maao.problems.scorers.class_residual import RESIDUAL, START, ClassResidual
from maao.problems.scorers.matcher import LOG_SCALE, Known, KnownReader
from maao.problems.scorers.probes import NoPrompt
from maao.problems.towers.dual import DualEncoder, unit
from maao.problems.towers.features import FeatureStore, KnownFeatures
from maao.threads import OWN
from maao.types import Example, Leg, Splits

MODEL = "packaged:all-minilm-l6-v2"
STEPS = 200  # of a turn
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what says how many threads a process takes
LR, MAX_NORM, SCALE = 0.01, 1.0, 20.0

LOOP = Figure("matcher_step_vs_pytorch", "steps of a matcher on kept features, batches of 32: ours / a plain PyTorch loop", 1.5, 1.2, False)
RATE = Figure("matcher_steps_a_second", "steps a second of a matcher, 77 classes of 384 dimensions, batches of 32", 1000, 2000, True, "1/s")
FULL = Figure("matcher_full_step_vs_pytorch", "steps of a matcher on kept features, full batches: ours / plain PyTorch", 1.5, 1.1, False)
ENCODING = Figure("encoding_vs_sentence_transformers", "texts encoded in a second: ours / sentence-transformers", 0.95, 1.0, True)
PREDICT = Figure("matcher_predict_over_encoder", "predicting by a tuned matcher / its encoder alone", 1.1, 1.05, False)
TUNE = Figure("matcher_tune_seconds", "maao tune on banking77, 8 labels a class, model and packages warm", 30, 12, False, "seconds")
PROBE = Figure(
    "matcher_tune_vs_probe", "maao tune / scikit-learn on sentence-transformers' features, from start to result", 3.0, 1.5, False
)
SETFIT = Figure(
    "matcher_tune_vs_setfit", "setfit's trainer (one epoch, at most 50 steps) / maao tune, from start to result", 1.0, 5.0, True
)
TWO = Figure("two_runs_at_once", "two runs at once / one alone, by the clock", 2.2, 2.05, False)


# -- problems on made features


@dataclass(frozen=True)
class Size:
    classes: int = 77
    rows: int = 616
    dims: int = 384
    batch: int = 32


class Made(KnownFeatures):
    """Features that are there already."""

    def __init__(self, features: Tensor) -> None:
        super().__init__(0, features.shape[1])
        self.features = features

    def fill(self, store: FeatureStore) -> Made:
        return self

    def num_tokens(self, which: Sequence[int]) -> int:
        return len(which)

    def raw(self, which: Sequence[int], views: Sequence[int] | None = None) -> Any:
        raise NotImplementedError


class MadeReader(KnownReader):
    """Gives `train` its features, and other splits the first of them."""

    def __init__(self, encoder: DualEncoder, features: Tensor) -> None:
        super().__init__(encoder, None)
        self._made = features

    @property
    def fields(self) -> tuple[str, ...]:
        return ("text",)

    def _features(self, examples: Sequence[Example], *, train: bool) -> KnownFeatures:
        return Made(self._made[: len(examples)])


def made_encoder(dims: int) -> DualEncoder:
    nothing = cast(Any, None)
    return DualEncoder("made", nothing, nothing, SCALE, dims, None, nn.ModuleDict({"none": nn.Linear(1, 1)}), trains_scale=True)


def made_problem(size: Size, features: Tensor) -> ClassificationProblem[Known]:
    """Return a matcher's problem on features whose class is their number modulo the number of classes."""
    labels = tuple(f"{c:05}" for c in range(size.classes))
    each = tuple(Example({"text": label}, label) for label in labels)
    train = tuple(each[i % size.classes] for i in range(size.rows))
    splits = Splits(train, train[:1], (), labels)
    encoder = made_encoder(size.dims)
    anchors = unit(torch.randn(size.classes, size.dims, generator=torch.Generator().manual_seed(1)))
    targets = torch.arange(size.rows) % size.classes
    scorer = ClassResidual(
        Bound(encoder, (), anchors), features=features, targets=targets, anchor=1.0, class_examples=0.0, bias=False, train_scale=False
    )
    return ClassificationProblem(
        NoPrompt(), scorer, NoWords(), MadeReader(encoder, features), splits, batch_size=size.batch, with_clues=False
    )


def made_features(size: Size) -> Tensor:
    return unit(torch.randn(size.rows, size.dims, generator=torch.Generator().manual_seed(0)))


class PlainLoop:
    """The same steps as one writes them in PyTorch: the same batches, loss, clipping and optimizer, and nothing that is kept."""

    def __init__(self, problem: ClassificationProblem[Known], size: Size, features: Tensor) -> None:
        start = problem.initial(0)
        self.start = start[START]
        self.residual = start[RESIDUAL].clone().requires_grad_()
        self.scale = start[LOG_SCALE].exp()
        self.optimizer = torch.optim.AdamW([self.residual], lr=LR)
        self.features, self.targets = features, torch.arange(size.rows) % size.classes
        self.rows, self.batch, self.step = size.rows, min(size.batch, size.rows), 0
        self.order = [torch.tensor(problem.batch(step, 0).which) for step in range(STEPS)]  # drawn beforehand: it counts for neither

    def steps(self) -> None:
        for _ in range(STEPS):
            which = self.order[self.step % STEPS]
            whole = len(which) == self.rows
            inputs, targets = (self.features, self.targets) if whole else (self.features[which], self.targets[which])
            weight = self.scale * self.start + self.residual
            loss = F.cross_entropy(inputs @ weight.T, targets) + 0.5 / self.rows * self.residual.pow(2).sum()
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([self.residual], MAX_NORM)
            self.optimizer.step()
            float(loss.detach())
            self.step += 1


class OurLoop:
    """Our whole loop: legs of `alternate`, each with its walk, and the observations of every step."""

    def __init__(self, problem: ClassificationProblem[Known]) -> None:
        self.problem, self.stage = problem, TorchStage(lr=LR, max_grad_norm=MAX_NORM)
        self.rounds = alternate(problem, self.stage, NoMentor(), plan=(Leg(STEPS),) * 10_000, accept=AlwaysFirst(), seed=0)
        self.state: TorchState | None = None

    def steps(self) -> None:
        self.state = next(self.rounds).state


def matcher_steps(run: Run) -> None:
    """Time blocks of steps through the whole loop, and of a plain loop, taking turns."""
    for figure, size in ((LOOP, Size()), (FULL, Size(batch=616))):
        features = made_features(size)
        problem = made_problem(size, features)
        ours, plain = OurLoop(problem), PlainLoop(problem, size, features)
        _check_parity(problem, size, features)
        with Watch() as watch:
            turns = take_turns({"ours": timed(ours.steps), "pytorch": timed(plain.steps)}, run.turns(25), shapes=[_shape(size)], warm_up=2)
        samples = turns.samples()
        figure.report(run, watch, turns.ratios("ours", "pytorch"), samples, cpu_ratio=_spread(turns.cpu_ratios("ours", "pytorch")))
        if figure is LOOP:
            a_second = [STEPS / seconds for seconds in turns.wall("ours")]
            RATE.report(run, watch, a_second, samples, cpu=_spread([STEPS / seconds for seconds in turns.cpu("ours")]))


def _check_parity(problem: ClassificationProblem[Known], size: Size, features: Tensor) -> None:
    """Refuse to compare loops that do not make the same steps."""
    stage, plain = TorchStage(lr=LR, max_grad_norm=MAX_NORM), PlainLoop(problem, size, features)
    state = stage.init(problem, problem.initial(0), seed=0)
    plain.order = [torch.tensor(problem.batch(step, 0).which) for step in range(STEPS)]
    for _ in range(STEPS):
        state, _ = stage.step(problem, state)
    plain.steps()
    apart = float((state.params[RESIDUAL] - plain.residual.detach()).abs().max() / plain.residual.detach().abs().max())
    if not apart < 1e-3:
        raise SystemExit(f"The two loops part by {apart:.2g} of the residual over {STEPS} steps: they do not make the same steps.")


def _shape(size: Size) -> Shape:
    return min(size.batch, size.rows), size.dims, size.classes


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = quartiles(values)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


# -- growth


GROWTH: dict[str, list[Size]] = {
    "classes": [Size(classes=n, rows=max(2 * n, 616)) for n in (10, 77, 1000, 10_000)],
    "rows": [Size(rows=n) for n in (100, 1000, 10_000, 100_000, 1_000_000)],
    "dims": [Size(dims=n) for n in (64, 384, 1024, 4096)],
}


def matcher_growth(run: Run) -> None:
    """Measure a step's seconds and memory, each point in a process of its own; features lie in a file that is mapped into memory."""
    found: dict[str, list[dict[str, object]]] = {}
    for curve, sizes in GROWTH.items():
        for size in sizes[:2] if run.quick else sizes:
            measured = _in_process("growth", size.__dict__)
            found.setdefault(curve, []).append({**size.__dict__, **measured})
            print(f"{curve} {size}: {measured}", flush=True)
    if run.out is not None:
        save(run.out / "matcher_growth.json", {"environment": environment(), "curves": found})


def _grow(size: Size) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.f32"
        rows = np.memmap(file, dtype=np.float32, mode="w+", shape=(size.rows, size.dims))
        draw = np.random.default_rng(0)
        for begin in range(0, size.rows, 8192):
            part = draw.standard_normal((min(8192, size.rows - begin), size.dims), dtype=np.float32)
            rows[begin : begin + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
        rows.flush()
        del rows
        features = torch.from_numpy(np.memmap(file, dtype=np.float32, mode="c", shape=(size.rows, size.dims)))
        before = _memory()
        began = time.perf_counter()
        problem = made_problem(size, features)
        stage = TorchStage(lr=LR)
        state = stage.init(problem, problem.initial(0), seed=0)
        built = time.perf_counter() - began
        seconds: list[float] = []
        while len(seconds) < 5 or (sum(seconds) < 2 and len(seconds) < 1000):
            began = time.perf_counter()
            state, _ = stage.step(problem, state)
            seconds.append(time.perf_counter() - began)
        after = _memory()
    low, middle, high = quartiles(seconds[2:])
    return {
        "step_seconds": middle,
        "lower_quartile": low,
        "upper_quartile": high,
        "build_seconds": built,
        "own_mib": after["RssAnon"] - before["RssAnon"],  # what the process holds; what is mapped can be given back at any time
        "mapped_mib": after["RssFile"] - before["RssFile"],
        "features_mib": size.rows * size.dims * 4 / 2**20,
    }


def _memory() -> dict[str, float]:
    held = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            held[name] = int(value.split()[0]) / 1024
    return held


# -- the packaged encoder


def banking77() -> Path:
    folder = os.environ.get("MAAO_DATA")
    if not folder:
        raise SystemExit("Set MAAO_DATA to the data folder (docs/data.md): this benchmark reads intents/banking77 there.")
    return Path(folder) / "intents" / "banking77"


def _texts(count: int) -> list[str]:
    from maao.data.files import read_examples

    return [example.fields["text"] for example in read_examples(banking77() / "test.csv")[:count]]


def encoding(run: Run) -> None:
    """Encode the same texts by our tower and by sentence-transformers: batches of 64, the same threads, both sorted by length."""
    from sentence_transformers import SentenceTransformer

    from maao.problems.known_texts import KnownTextReader
    from maao.problems.towers.text.inputs import InputTemplate
    from maao.problems.towers.text.loading import packaged_path
    from maao.problems.towers.text.matching import load_text_matcher

    texts = _texts(64 if run.quick else 512)
    encoder, theirs = load_text_matcher(MODEL), SentenceTransformer(str(packaged_path(MODEL)), device="cpu")
    examples = [Example({"text": text}, "") for text in texts]
    reader = KnownTextReader(encoder, InputTemplate.parse("{text}"))
    found: dict[str, Any] = {}

    def ours() -> None:
        found["ours"] = reader.given(examples).features

    def other() -> None:
        found["theirs"] = theirs.encode(texts, batch_size=64, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)

    with Watch() as watch:
        turns = take_turns({"ours": timed(ours), "theirs": timed(other)}, run.turns(9), shapes=[(1024, 384, 1536)])
    apart = float((found["ours"] - found["theirs"]).abs().max())
    if apart > 1e-4:
        raise SystemExit(f"The two sides' features lie {apart:.2g} apart: they do not read the same.")
    ENCODING.report(
        run,
        watch,
        turns.ratios("theirs", "ours"),
        turns.samples(),
        cpu_ratio=_spread(turns.cpu_ratios("theirs", "ours")),
        texts=len(texts),
        texts_a_second=_spread([len(texts) / seconds for seconds in turns.wall("ours")]),
        largest_difference=apart,
    )


def predict(run: Run) -> None:
    """Predict texts by a tuned matcher, and run its encoder on them alone: tokens, batches sorted by length, features."""
    import maao
    from maao.config import make_config

    texts = _texts(64 if run.quick else 512)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAAO_CACHE"] = str(Path(folder) / "cache")  # so that the machine's own keeps nothing of this
        result = maao.run(make_config({**_settings(), "plan": {"rounds": 0, "steps": 10}}), Path(folder) / "run")
        parts = result.predict(texts[:1]) and result._deployed.parts  # the same towers
        tower, turn = parts.frozen.input, count()

        def unseen() -> list[str]:
            number = next(turn)
            return [f"{text} {number}" for text in texts]

        def alone() -> None:
            tokens, _ = tower.read(unseen())
            order = sorted(range(len(texts)), key=lambda i: len(tokens[i].ids))
            with torch.no_grad():
                for begin in range(0, len(order), 64):
                    tower.features([tokens[i] for i in order[begin : begin + 64]])

        sides: dict[str, Step] = {"predict": timed(lambda: result.predict(unseen())), "encoder": timed(alone)}
        with Watch() as watch:
            turns = take_turns(sides, run.turns(9), shapes=[(1024, 384, 1536)])
    PREDICT.report(
        run,
        watch,
        turns.ratios("predict", "encoder"),
        turns.samples(),
        cpu_ratio=_spread(turns.cpu_ratios("predict", "encoder")),
        texts=len(texts),
    )


# -- commands, from start to result


def _settings(shots: int = 4) -> dict[str, Any]:
    """Return settings that spend 8 labels a class where half of them choose, on banking77's own test of 1,000 by hash."""
    return {
        "threads": 1,
        "model": {"kind": "matcher", "name": MODEL, "method": "class_residual"},
        "data": {
            "train": str(banking77() / "pool.csv"),
            "test": str(banking77() / "test.csv"),
            "shots": shots,
            "select_shots": shots,
            "test_size": 1000,
            "drop_repeats": True,
        },
        "plan": {"rounds": 3, "steps": 60},
        "mentor": {"name": "none"},
    }


def _toml(settings: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    for section, values in settings.items():
        if isinstance(values, dict):
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def commands(run: Run) -> None:
    """Time `maao tune` from start to result, beside a linear probe on sentence-transformers' features and setfit's trainer."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "b77.toml").write_text(_toml(_settings()), encoding="utf-8")
        tune = _command(["-m", "maao.cli", "tune", str(place / "b77.toml")], place)
        sides = {"tune": tune, "probe": _command(["-m", "bench.matcher", "probe", "{}"], place)}
        if not run.quick:
            sides["setfit"] = _command(["-m", "bench.matcher", "setfit", "{}"], place)
        with Watch() as watch:
            turns = take_turns(sides, run.turns(5, 1), shapes=[(1024, 384, 1536)])
    samples = turns.samples()
    TUNE.report(run, watch, turns.wall("tune"), samples, cpu=_spread(turns.cpu("tune")))
    PROBE.report(run, watch, turns.ratios("tune", "probe"), samples, cpu_ratio=_spread(turns.cpu_ratios("tune", "probe")))
    if "setfit" in sides:
        SETFIT.report(run, watch, turns.ratios("setfit", "tune"), samples, cpu_ratio=_spread(turns.cpu_ratios("setfit", "tune")))


def two_runs(run: Run) -> None:
    """Time one run alone, and two at once, each with the threads that it takes by default, whatever this process was told."""
    settings = {key: value for key, value in _settings().items() if key != "threads"}
    settings["model"] = {**settings["model"], "method": "coop"}  # every step runs the text tower
    settings["plan"] = {"rounds": 1, "steps": 5 if run.quick else 20}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "b77.toml").write_text(_toml(settings), encoding="utf-8")
        command = ["-m", "maao.cli", "tune", str(place / "b77.toml")]
        environment = {name: value for name, value in _environment().items() if name not in THREADS}
        environment["MAAO_CACHE"] = str(place / "cache")  # warm after the first turn
        sides = {name: _command(command, place, count, environment) for name, count in (("alone", 1), ("two", 2))}
        with Watch() as watch:
            turns = take_turns(sides, run.turns(3, 1), shapes=[(1024, 384, 1536)])
        recorded = {json.loads(file.read_text(encoding="utf-8"))["threads"] for file in place.glob("*/runs/*/environment.json")}
    waits = {name: environment[name] for name in OWN if name in environment}
    cpu = _spread(turns.cpu_ratios("two", "alone"))  # twice, where neither keeps the other waiting
    TWO.report(run, watch, turns.ratios("two", "alone"), turns.samples(), cpu_ratio=cpu, threads_of_each=sorted(recorded), waits=waits)


def _command(arguments: Sequence[str], place: Path, count: int = 1, environment: Mapping[str, str] | None = None) -> Step:
    """Return a step that runs a command of Python to its end, so many of them at once."""

    def run() -> Seconds:
        began, before = time.perf_counter(), os.times()
        made = []
        for number in range(count):
            own = place / str(number)  # two runs of one name in one folder would stand in each other's way
            own.mkdir(exist_ok=True)
            made.append(
                subprocess.Popen([sys.executable, *arguments], cwd=own, env=environment or _environment(), stdout=subprocess.DEVNULL)
            )
        if any(process.wait() for process in made):
            raise SystemExit(f"{' '.join(arguments)} failed.")
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Seconds(time.perf_counter() - began, cpu)

    return run


def _environment() -> dict[str, str]:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _in_process(what: str, settings: object) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.matcher", what, json.dumps(settings)], check=True, capture_output=True, text=True, env=_environment()
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _labelled() -> tuple[list[str], list[str], list[str], list[str]]:
    """Return texts and labels to learn from (all 8 a class) and to be tested on: those of `maao tune`."""
    from maao.config import make_config

    config = make_config(_settings())
    splits = config.data.options.load(config.seed).splits
    spent = (*splits.train, *splits.select)
    learnt = [example.fields["text"] for example in spent], [example.label for example in spent]
    return *learnt, [example.fields["text"] for example in splits.test], [example.label for example in splits.test]


def _probe() -> dict[str, float]:
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    from maao.problems.towers.text.loading import packaged_path

    torch.set_num_threads(1)
    train, labels, test, targets = _labelled()
    model = SentenceTransformer(str(packaged_path(MODEL)), device="cpu")
    encode: Callable[[list[str]], Any] = lambda texts: model.encode(texts, batch_size=64, show_progress_bar=False)  # noqa: E731
    probe = LogisticRegression(C=10, max_iter=1000).fit(encode(train), labels)
    return {"accuracy": float(probe.score(encode(test), targets))}


def _setfit() -> dict[str, float]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from maao.problems.towers.text.loading import packaged_path

    torch.set_num_threads(1)
    train, labels, test, targets = _labelled()
    model = SetFitModel.from_pretrained(str(packaged_path(MODEL)), labels=sorted(set(labels)), local_files_only=True, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(output_dir=folder, batch_size=16, num_epochs=1, max_steps=50, save_strategy="no", report_to="none")
        trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict({"text": train, "label": labels}))
        trainer.train()
    right = sum(str(one) == target for one, target in zip(model.predict(test), targets, strict=True))
    return {"accuracy": right / len(targets)}


ALL: dict[str, Callable[[Run], None]] = {
    "matcher_steps": matcher_steps,
    "encoding": encoding,
    "predict": predict,
    "commands": commands,
    "two_runs": two_runs,
    "matcher_growth": matcher_growth,
}


def matcher(run: Run) -> None:
    """All of the above."""
    for measure in ALL.values():
        measure(run)


def main(what: str, settings: str) -> dict[str, float]:
    if what == "growth":
        torch.set_num_threads(1)
        return _grow(replace(Size(), **json.loads(settings)))
    return {"probe": _probe, "setfit": _setfit}[what]()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2])))
