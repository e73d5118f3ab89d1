"""Load: what a unit costs (a cell, a row, a round, a call, a class) as there are more of them, in CPU seconds and in memory.

Each size is made in a process of its own: its CPU seconds (children included) and its largest resident set are the system's count, and
imports are in all of them alike. What a further unit costs is what lies between two sizes, divided by the units between them; it is flat
where that stays as it was between the sizes before. CPU seconds, since other work takes time from a clock.
"""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.frame import Run, Watch, environment, save


@dataclass(frozen=True)
class Case:
    """One kind of load: what a unit is, the sizes, those of a quick run, and what is made of so many units."""

    unit: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    make: Callable[[int, Path], dict[str, float]]
    about: str


def load(run: Run, only: tuple[str, ...] = ()) -> None:
    """Measure every case at its sizes, each in a process, one at a time, small sizes first; write `load.json` and `load.md` after each.

    What stands in `load.json` is not measured again: remove the file to begin anew.
    """
    kept = run.out / "load.json" if run.out is not None else None
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))["cases"] if kept is not None and kept.exists() else {}
    cases = {name: case for name, case in CASES.items() if not only or name in only}
    for turn in range(max(len(case.sizes) for case in cases.values())):
        for name, case in cases.items():
            points = found.get(name, {}).get("points", [])
            size = (case.quick if run.quick else case.sizes)[turn : turn + 1]
            if not size or any(point["size"] == size[0] for point in points):
                continue
            with Watch() as watch:
                measured = _measured(name, size[0])
            about = environment()
            measured["machine"] = {**watch.told(), "processor": about["processor"]}
            points = sorted([*points, measured], key=lambda point: float(point["size"]))
            found[name] = {"unit": case.unit, "about": case.about, "points": points}
            if kept is not None:
                ordered = {name: found[name] for name in CASES if name in found}
                save(kept, {"environment": about, "cases": ordered})
                kept.with_suffix(".md").write_text(page(json.loads(kept.read_text(encoding="utf-8"))), encoding="utf-8")
    for name in cases:
        for line in growth(found[name]["points"]):
            print(f"{name}: {line}", flush=True)


def _measured(name: str, size: int) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "bench.load", name, str(size)], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} at {size}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name} {size:,}: {measured}", flush=True)
    return measured


def growth(points: list[dict[str, Any]]) -> Iterator[str]:
    """Yield for each pair of neighbouring sizes what a further unit costs there."""
    for one in further(points):
        yield f"{one['from']:,} to {one['to']:,}: {1e3 * one['cpu_seconds']:.3g} ms of CPU and {one['kib']:.3g} KiB a further unit"


def further(points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return what a further unit costs between neighbouring sizes.

    Example:
        >>> one, two = {"size": 10, "cpu_seconds": 1.0, "peak_mib": 100.0}, {"size": 20, "cpu_seconds": 1.5, "peak_mib": 110.0}
        >>> further([one, two])
        [{'from': 10, 'to': 20, 'cpu_seconds': 0.05, 'kib': 1024.0}]
    """
    return [
        {
            "from": small["size"],
            "to": large["size"],
            "cpu_seconds": (large["cpu_seconds"] - small["cpu_seconds"]) / (large["size"] - small["size"]),
            "kib": 1024 * (large["peak_mib"] - small["peak_mib"]) / (large["size"] - small["size"]),
        }
        for small, large in pairwise(points)
    ]


def page(record: dict[str, Any]) -> str:
    """Return what was measured as a page."""
    about, cases = record["environment"], record["cases"]
    processor = about["processor"]
    opening = f"""# Load

What a unit costs as there are more of them; made by `make bench-load` (`python -m bench load`), and how by `bench/load.py`.

Measured on {processor}, {about["cores"]} cores, Python {about["python"]}, torch {about["torch"]}, one thread each. CPU seconds
are those of the process and its children, the peak its largest resident set; imports are in both, alike at each size. A *further unit* is
what lies between a size and the one before it, divided by the units between; the last column is its CPU time against that of the line
above: 1 is flat. The sizes of a whole run: {_sizes()}; one that stands in no line below was not measured yet
(`make bench-load` goes on behind those that were).

| case | units | clock, s | CPU, s | peak, MiB | a further unit: CPU, ms | KiB | against before |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""
    lines = [line for name, case in cases.items() for line in _table_lines(name, case["points"])]
    lines += ["", "What a case is:", ""]
    lines += [f"* **{name}** (a unit is {case['unit']}): {case['about']}" for name, case in cases.items()]
    lines += ["", "What else the machine did, size by size (load average before and after; the part of all cores that others took):", ""]
    lines += [f"* {name}: {'; '.join(_machine_told(point, processor) for point in case['points'])}" for name, case in cases.items()]
    lines += ["", "Parts of a case, CPU seconds at each size:", ""]
    lines += [line for name, case in cases.items() for line in _part_lines(name, case["points"])]
    return opening + "\n".join(lines) + "\n"


def _sizes() -> str:
    return "; ".join(f"{name} {', '.join(f'{size:,}' for size in case.sizes)}" for name, case in CASES.items())


def _table_lines(name: str, points: list[dict[str, Any]]) -> Iterator[str]:
    before: float | None = None
    for point, step in zip(points, [None, *further(points)], strict=True):
        told = f"| {name} | {point['size']:,} | {point['seconds']:.1f} | {point['cpu_seconds']:.1f} | {point['peak_mib']:.0f} |"
        if step is None:
            yield f"{told}  |  |  |"
            continue
        against = "" if before is None else f"{step['cpu_seconds'] / before:.2f}"
        yield f"{told} {1e3 * step['cpu_seconds']:.3g} | {step['kib']:.3g} | {against} |"
        before = step["cpu_seconds"]


def _machine_told(point: dict[str, Any], processor: str) -> str:
    begin, end = point["machine"]["load_average"]
    told = f"{point['size']:,}: load {begin} and {end}, others {point['machine']['others']}"
    return told if point["machine"].get("processor") == processor else f"{told}, on an earlier machine"


def _part_lines(name: str, points: list[dict[str, Any]]) -> Iterator[str]:
    for key in (key for key in points[-1] if key.endswith("_s")):
        yield f"* {name}, {key.removesuffix('_s')}: " + ", ".join(f"{point[key]:.2f}" for point in points)


# -- what is made


class Parts:
    """CPU seconds of the parts of a case."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = _cpu()

    def done(self, name: str) -> None:
        """What came since the last part was this one."""
        now = _cpu()
        self.seconds[f"{name}_s"] = now - self._last
        self._last = now


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def cells(count: int, folder: Path) -> dict[str, float]:
    from maao.compare.workers import compare

    (folder / "table.toml").write_text(
        f"""baseline = "arm 0"
seeds = {list(range(count // 5))}

[base]
problem = "function"
"mentor.name" = "none"
"plan.rounds" = 0
"plan.steps" = 2

[tasks.bowl]

"""
        + "".join(f'[[arms]]\nname = "arm {i}"\nsettings = {{ "stage.lr" = {0.01 * (i + 1)} }}\n\n' for i in range(5)),
        encoding="utf-8",
    )
    parts = Parts()
    compare(folder / "table.toml", folder / "out", workers=2)
    assert len(list((folder / "out" / "rows").glob("*.json"))) == count
    parts.done("compare")
    compare(folder / "table.toml", folder / "out", workers=2)
    parts.done("again")
    return parts.seconds


def _rows(file: Path, count: int, classes: int, seed: int) -> None:
    """Write made-up rows: a class's own words among those of all, and a number that tells them apart."""
    draw = random.Random(seed)
    with file.open("w", newline="", encoding="utf-8") as out:
        write = csv.writer(out)
        write.writerow(["text", "label"])
        for i in range(count):
            label = i % classes
            write.writerow([f"{WORDS[draw.randrange(len(WORDS))]} {WORDS[label % len(WORDS)]} {label} of {seed} {i}", f"class {label:04}"])


WORDS = (
    "music film actor song album award star team match goal player coach win cup race game shares profit market bank economy growth firm "
    "trade price sales minister party election vote law government policy tax plan software phone internet online mobile computer web"
).split()


def _encoder(folder: Path) -> str:
    from tests.tiny_sentence import sentence_folder

    return str(sentence_folder(folder / "encoder", max_length=24)[0])


def _decoder(folder: Path) -> str:
    from tests.tiny import tiny_model

    frozen = tiny_model("llama")
    frozen.model.save_pretrained(folder / "decoder")
    frozen.tokenizer.save_pretrained(folder / "decoder")
    return str(folder / "decoder")


def _data(folder: Path, rows: int, classes: int, judged: int) -> dict[str, str]:
    files = {"train": rows, "select": judged, "test": judged}
    for seed, (name, count) in enumerate(files.items()):
        _rows(folder / f"{name}.csv", count, classes, seed)
    return {name: str(folder / f"{name}.csv") for name in files}


def _run(folder: Path, parts: Parts, **settings: Any) -> None:
    import maao
    from maao.config import make_config

    os.environ["MAAO_CACHE"] = str(folder / "cache")
    parts.done("data")
    result = maao.run(make_config({"threads": 1, "mentor": {"name": "none"}, **settings}), folder / "run", progress=False)
    parts.done("run")
    again = maao.load(folder / "run")
    assert again.status == "finished"
    result.predict(["music film 3 of 5", "bank market"])
    parts.done("use")


def matcher_rows(count: int, folder: Path) -> dict[str, float]:
    parts = Parts()
    _run(
        folder,
        parts,
        model={"kind": "matcher", "name": _encoder(folder), "method": "linear_probe", "wordings": ["{class}"]},
        data=_data(folder, count, 10, 500),
        plan={"rounds": 0, "steps": 20, "store_every": 10, "clues": False},
        stage={"batch_size": 32},
        baselines=[],
    )
    return parts.seconds


def prompt_rows(count: int, folder: Path) -> dict[str, float]:
    parts = Parts()
    _run(
        folder,
        parts,
        model={"name": _decoder(folder), "num_virtual_tokens": 4, "template": "{slots} {text} Topic:", "label_words": LABEL_WORDS},
        data=_data(folder, count, 4, 100),
        plan={"rounds": 0, "steps": 20, "store_every": 10, "clues": False},
        stage={"batch_size": 8},
        baselines=[],
    )
    return parts.seconds


LABEL_WORDS = {f"class {i:04}": word for i, word in enumerate(("music", "sport", "business", "news"))}


def rounds(count: int, folder: Path) -> dict[str, float]:
    import maao
    from maao.config import make_config
    from maao.report.documents import run_document
    from maao.report.html.page import write_page
    from maao.report.html.run_view import Wanted

    replies = [f"{i} {i + 1}\n{i + 2} {i}" for i in range(3 * count)]
    parts = Parts()
    values = {
        "problem": "function",
        "threads": 1,
        "plan": {"rounds": count, "steps": 1, "store_every": 0, "proposals": 2},
        "accept": {"rule": "race", "steps": 1},
        "mentor": {"name": "language_model", "retries": 0, "chat": {"provider": "scripted", "replies": replies}},
    }
    maao.run(make_config(values), folder / "run", progress=False)
    parts.done("walk")
    result = maao.load(folder / "run")
    assert len(result.history) == count + 2
    parts.done("read")
    run_document(result)
    parts.done("document")
    write_page([folder / "run"], folder / "page.html", Wanted(split=None))
    parts.done("page")
    assert maao.replay(folder / "run", progress=False).equal
    parts.done("replay")
    return parts.seconds


def calls(count: int, folder: Path) -> dict[str, float]:
    from maao.llm.budget import Caps, CountedOnce, Meter
    from maao.llm.chat import Message, Request
    from maao.llm.ledger import Recorded
    from maao.llm.price import Price
    from maao.llm.scripted import Scripted
    from maao.store.attempts import Spending
    from maao.store.run import RunFolder
    from maao.stored_run import torch_serializer

    parts = Parts()
    stored = RunFolder.create(folder / "run", config={}, environment={}, serializer=torch_serializer())
    with stored:
        caps = Caps(10 * count, 10**12, 10**9, "the bench's")
        shared = Spending(folder / "spending.sqlite", "one cell")
        meter = Meter([(stored.ledger, caps)], Price(1.0, 2.0), shared=[(shared, caps)])
        model = Recorded(CountedOnce(Scripted(["a reply"] * count), meter), stored.ledger)
        for i in range(count):
            model.complete(Request("scripted", (Message("user", f"question {i}"),), sample=i))
        parts.done("ask")
        assert stored.ledger.totals().calls == shared.spent().calls == count
        for i in range(count):
            model.complete(Request("scripted", (Message("user", f"question {i}"),), sample=i))
        parts.done("ask_again")
        assert len(stored.ledger.calls()) == count
        parts.done("list")
    return parts.seconds


def classes(count: int, folder: Path) -> dict[str, float]:
    import maao

    parts = Parts()
    _run(
        folder,
        parts,
        model={"kind": "matcher", "name": _encoder(folder), "method": "class_residual", "wordings": ["{class}"]},
        data={**_data(folder, 4000, count, 2000), "metrics": ["f1_macro"]},
        plan={"rounds": 0, "steps": 20, "store_every": 10},
        stage={"batch_size": 32},
        baselines=["majority", "knn", "prototypes"],
    )
    maao.load(folder / "run").evaluate("test")
    parts.done("evaluate")
    return parts.seconds


CASES = {
    "cells": Case(
        "a cell", (50, 160, 500), (10, 20), cells, "`maao compare` of small cells (a function, two steps) on 2 workers; then again."
    ),
    "matcher rows": Case(
        "a training row",
        (10_000, 100_000, 1_000_000),
        (200, 400),
        matcher_rows,
        "a linear probe on a tiny sentence encoder, from a CSV file to predictions; features go to the cache on disk.",
    ),
    "prompt rows": Case(
        "a training row", (1_000, 10_000, 100_000), (100, 200), prompt_rows, "a soft prompt of a tiny decoder, 20 steps of 8 rows."
    ),
    "rounds": Case(
        "a round", (100, 300, 1_000), (5, 10), rounds, "a run with a language model as the mentor (scripted), read, shown and replayed."
    ),
    "calls": Case(
        "a call", (1_000, 10_000, 100_000), (50, 100), calls, "calls through a run's ledger and a comparison's account, both with caps."
    ),
    "classes": Case(
        "a class", (100, 500, 2_000), (5, 10), classes, "4,000 rows and 2,000 of test in so many classes: a matcher, judged and evaluated."
    ),
}


def main(name: str, size: int) -> None:
    """Make one case at one size; print what it took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MAAO_BENCH_FOLDER")) as folder:
        parts = CASES[name].make(size, Path(folder))
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"size": size, "seconds": time.perf_counter() - began, "cpu_seconds": _cpu(), "peak_mib": max(peaks), **parts}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
