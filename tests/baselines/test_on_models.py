"""Baselines on tiny frozen models of every kind, as arms of a table and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maao import choices
from maao.baselines.task import load_task
from maao.build import build
from maao.compare.rows import check_row, run_cell
from maao.compare.table import cells, read_table
from maao.config import Config, make_config
from maao.errors import ConfigError
from maao.sharing import share_caches
from tests.api.small_runs import pairs, values, write_data
from tests.tiny_sentence import sentence_folder

CHEAP = ("majority", "zero_shot", "prototypes", "linear_probe", "knn")


def matcher(tmp_path: Path, **changes: Any) -> Config:
    folder = sentence_folder(tmp_path / "encoder")[0]
    own = {"kind": "matcher", "name": str(folder), "cache": False}
    return make_config(values(folder, write_data(tmp_path), **{"model": own, "mentor": {"name": "none"}, **changes}))


def language(folder: Path, tmp_path: Path, **changes: Any) -> Config:
    return make_config(values(folder, write_data(tmp_path), mentor={"name": "none"}, **changes))


def rows_of(config: Config, tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {name: choices.load("baseline", name)().run(config, tmp_path) for name in CHEAP}


def check(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        assert row["test"]["examples"] == len(pairs("test")) and 0 < row["test"]["loss"] < 20
        assert json.dumps(row)


def test_a_matcher_is_read_by_the_features_that_its_run_keeps(tmp_path: Path) -> None:
    config = matcher(tmp_path, model__method="coop")
    with share_caches():
        check(rows_of(config, tmp_path))
        task, problem = load_task(config), build(config).problem
        kept = task.frozen.encoder.own(problem.inputs("test").features_of.features).numpy()
        assert task.test.features == pytest.approx(kept, abs=1e-6)
        assert task.class_features == pytest.approx(task.frozen.encoder.own(problem.scorer.bound.anchors).numpy(), abs=1e-6)


def test_layers_beside_the_encoders_own_vector_are_no_part_of_a_baseline(tmp_path: Path) -> None:
    tasks = {}
    for method in ("zero_shot", "class_residual"):
        (tmp_path / method).mkdir()
        tasks[method] = load_task(matcher(tmp_path / method, model__method=method))
    own, beside = tasks["zero_shot"], tasks["class_residual"]
    assert beside.frozen.encoder.embed_dim == 2 * own.frozen.encoder.embed_dim
    assert beside.test.features == pytest.approx(own.test.features, abs=1e-5)
    assert beside.class_features == pytest.approx(own.class_features, abs=1e-5)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("llama", {}),
        ("llama", {"model__kind": "head"}),
        ("llama", {"model__kind": "head", "model__pooling": "mean"}),
        ("bert", {}),
        ("bert_masked", {"model__kind": "masked", "model__template": "{text} {slots} {mask}"}),
    ],
)
def test_language_models_are_read_with_nothing_in_the_slots(
    architecture: str, changes: dict[str, Any], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    config = language(model_folder(architecture), tmp_path, **changes)
    with share_caches():
        check(rows_of(config, tmp_path))
        task = load_task(config)
        assert task.test.features.shape == (len(pairs("test")), 32) and task.class_features.shape == (3, 32)
        one_by_one = np.stack([task.frozen.features([example])[0].numpy() for example in task.test.examples[:3]])
        assert task.test.features[:3] == pytest.approx(one_by_one, abs=1e-4)


def test_what_has_no_vector_for_a_text_is_told(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    config = language(model_folder("t5"), tmp_path)
    assert choices.load("baseline", "zero_shot")().run(config, tmp_path)["test"]["examples"] == len(pairs("test"))
    with pytest.raises(ConfigError, match="is an encoder-decoder, which has no one vector for a text"):
        choices.load("baseline", "linear_probe")().run(config, tmp_path)


TABLE = """
seeds = [0]
baseline = "probe"

[base]
"mentor.name" = "none"
"model.kind" = "matcher"
"model.name" = "{model}"
"model.cache" = false
"data.train" = "{train}"
"data.select" = "{select}"
"data.test" = "{test}"

[tasks.news]

[[arms]]
name = "probe"
how = "linear_probe"

[[arms]]
name = "probe and names"
how = "linear_probe"
class_names = true

[[arms]]
name = "neighbours"
how = "knn"
"""


def test_they_are_arms_of_a_table_and_share_model_data_and_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maao.problems.towers.text import sentence

    folder = sentence_folder(tmp_path / "encoder")[0]
    (tmp_path / "t.toml").write_text(TABLE.format(model=folder, **write_data(tmp_path)))
    read = []
    whole = sentence.TextInputs.features
    monkeypatch.setattr(sentence.TextInputs, "features", lambda self, *given: read.append(1) or whole(self, *given))
    with share_caches():
        rows = [run_cell(cell, tmp_path / "run") for cell in cells(read_table(tmp_path / "t.toml"), tmp_path)]
    assert len(read) == 3  # labelled texts, and test in two batches: once for all three arms
    assert rows[0]["cost"]["model_tokens"] > 0 == rows[1]["cost"]["model_tokens"]
    for row in rows:
        check_row(row, "linear_probe")
    assert [row["method"] for row in rows] == ["linear_probe", "linear_probe", "knn"] and rows[1]["chosen"]["C"] > 0
