"""Baselines that change weights: they change a copy, learn, are the same for one seed, and say what they cost."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maao.baselines.lora import LoRA
from maao.baselines.setfit import SetFit
from maao.baselines.task import Task, load_task
from maao.config import make_config
from maao.errors import ConfigError
from maao.sharing import share_caches
from tests.api.small_runs import values, write_data
from tests.tiny_sentence import sentence_folder


def matcher(tmp_path: Path) -> Task:
    folder = sentence_folder(tmp_path / "encoder")[0]
    own = {"kind": "matcher", "name": str(folder), "cache": False}
    return load_task(make_config(values(folder, write_data(tmp_path), model=own, mentor={"name": "none"})))


def language(folder: Path, tmp_path: Path, **changes: Any) -> Task:
    return load_task(make_config(values(folder, write_data(tmp_path), mentor={"name": "none"}, **changes)))


def check_lora(task: Task) -> None:
    before = task.frozen.features(task.test.examples)
    read = LoRA(steps=30, lr=1e-2, batch_size=8).on_test(task)
    assert (task.frozen.features(task.test.examples) == before).all()  # the run's own weights are as they were
    assert read.score.cost.gradient_steps == 30 and read.score.cost.model_tokens > 0
    assert read.memory_mib is None or read.memory_mib > 10
    again = LoRA(steps=30, lr=1e-2, batch_size=8).on_test(task)
    assert (again.log_probabilities == read.log_probabilities).all()
    known = LoRA(steps=30, lr=1e-2, batch_size=8).fit(task, task.labelled).answer(task.labelled)
    learned = known[range(len(known)), task.labelled.targets]
    assert -learned.mean() < math.log(3) / 2  # half of what knowing nothing costs


def test_lora_learns_on_a_copy_of_a_matchers_encoder(tmp_path: Path) -> None:
    check_lora(matcher(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "changes"), [("bert", {}), ("llama", {}), ("llama", {"model__kind": "head", "model__pooling": "mean"})]
)
def test_lora_learns_on_a_copy_of_a_language_model(
    architecture: str, changes: dict[str, Any], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    check_lora(language(model_folder(architecture), tmp_path, **changes))


def test_lora_learns_from_fewer_labels_than_a_batch_holds(tmp_path: Path) -> None:
    task = matcher(tmp_path)
    few, many = (LoRA(steps=3, lr=1e-2, batch_size=size).fit(task, task.labelled) for size in (len(task.labelled), 1_000))
    assert (few.answer(task.test) == many.answer(task.test)).all() and few.cost.gradient_steps == 3


def test_setfit_tunes_a_copy_of_the_encoder_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("setfit")
    task = matcher(tmp_path)
    before = task.frozen.features(task.test.examples)
    capfd.readouterr()
    none, read = (SetFit(steps=steps, batch_size=4, lr=1e-3).on_test(task) for steps in (0, 12))
    assert capfd.readouterr() == ("", "")
    assert (task.frozen.features(task.test.examples) == before).all()
    assert read.score.cost.gradient_steps == 12 and read.score.loss < none.score.loss
    assert [path.name for path in Path.cwd().glob("checkpoints*")] == []


def test_setfit_is_for_one_sentence_encoder(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SetFit tunes one sentence encoder, and .* is read as a decoder: name a text encoder"):
        SetFit().on_test(language(llama, tmp_path))


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = matcher(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(sys.modules, "setfit", None)
    for baseline, extra in ((LoRA(), "peft"), (SetFit(), "setfit")):
        with pytest.raises(ConfigError, match=rf"pip install \"maao\[{extra}\]\""):
            baseline.on_test(task)


def test_their_rows_say_what_they_cost(tmp_path: Path) -> None:
    with share_caches():
        task = matcher(tmp_path)
        row = LoRA(steps=1).run(task.config, tmp_path)
    assert row["chosen"] == {"steps": 1} and row["cost"]["gradient_steps"] == 1 and row["cost"]["seconds"] > 0
    assert ("memory_mib" in row) == Path("/proc/self/clear_refs").exists()
