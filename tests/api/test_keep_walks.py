"""Whole runs that keep all walks: the average is stored, resumed, replayed, used, and exported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import maao
from maao import run
from maao.config import make_config
from maao.core.averaging import walked
from maao.errors import ConfigError
from maao.members import walks_of
from maao.optimizers.serializer import TorchSerializer
from maao.problems.averages import counted
from maao.testing import assert_same_history
from maao.types import Example
from tests.api.small_runs import config, pairs, values, write_data
from tests.tiny_sentence import sentence_folder

TEXTS = ["shares profit the news", "song album", "team match the news"]
KEPT: dict[str, Any] = {"accept__keep": "average", "accept__members": 4}


@pytest.fixture(scope="module")
def kept(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> maao.Result:
    folder = tmp_path_factory.mktemp("kept")
    return run(config(llama, write_data(folder), **KEPT), folder / "run")


def test_a_run_is_closed_by_the_average_of_its_walks(kept: maao.Result, llama: Path, tmp_path: Path) -> None:
    plain = run(config(llama, write_data(tmp_path)), tmp_path / "run")
    assert [r.score for r in walked(kept.history)] == [r.score for r in plain.history]
    closing = kept.history[-1]
    assert closing.leg.closing and kept.chosen == closing and kept.best_walk.score == plain.chosen.score
    assert sum(count for _, count in counted(kept.params)) == 4 and kept.walks == len(walks_of(kept.params)) > 1
    assert closing.score.loss <= min(c.score.loss for r in walked(kept.history) for c in r.verdict.considered) + 1e-6
    assert kept.cost.gradient_steps == plain.cost.gradient_steps and kept.cost.selection_evals > plain.cost.selection_evals
    assert kept.finals["best_walk"].score == plain.finals["chosen"].score and kept.text == plain.text
    assert kept.finals["words"].score == plain.finals["words"].score


def test_an_average_is_read_again_as_it_was_stored(kept: maao.Result) -> None:
    loaded = maao.load(kept.folder)
    assert_same_history(loaded.history, kept.history, TorchSerializer())
    assert loaded.walks == kept.walks
    assert [p.probabilities for p in loaded.predict(TEXTS)] == [p.probabilities for p in kept.predict(TEXTS)]
    tested = loaded.evaluate([{"text": text, "label": label} for text, label in pairs("test")])
    assert tested.score.metrics == kept.finals["chosen"].score.metrics
    assert maao.replay(kept.folder).equal and maao.resume(kept.folder).digest == kept.digest


def test_a_prediction_is_the_mean_of_its_walks(kept: maao.Result) -> None:
    found = kept.predict(TEXTS[:1])[0].probabilities
    problem = kept._deployed.problem
    each = [
        (problem.probabilities(walk, [Example({"text": text}, "") for text in TEXTS[:1]]), count) for walk, count in counted(kept.params)
    ]
    mean = sum(count * own.log() for own, count in each) / sum(count for _, count in each)
    assert [*found.values()] == pytest.approx(mean.softmax(-1)[0].tolist(), rel=1e-4)


def test_a_stop_before_the_average_is_made_is_gone_on_from(llama: Path, tmp_path: Path, kept: maao.Result, monkeypatch: Any) -> None:
    import maao.runner

    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(maao.runner, "close", stops)
        with pytest.raises(KeyboardInterrupt):
            run(config(llama, write_data(tmp_path), **KEPT), tmp_path / "run")
    assert maao.load(tmp_path / "run").status == "stopped"
    assert maao.resume(tmp_path / "run").digest == kept.digest


def test_each_walk_of_a_soft_prompt_is_exported(kept: maao.Result, tmp_path: Path) -> None:
    written = kept.save(tmp_path / "tensor")
    told = json.loads((tmp_path / "tensor" / "average.json").read_text(encoding="utf-8"))
    assert told["walks"] == {f"walk{i}": count for i, (_, count) in enumerate(counted(kept.params))} and "mean" in told["how"]
    for i, walk in enumerate(walks_of(kept.params)):
        assert torch.equal(load_file(tmp_path / "tensor" / f"walk{i}" / "prompt.safetensors")["prompt"], walk["prompt"])
    assert all(path.exists() for path in written)


def test_class_features_of_an_average_give_its_scores(tmp_path: Path) -> None:
    encoder = sentence_folder(tmp_path / "encoder", max_length=12)[0]
    own = {"kind": "matcher", "name": str(encoder), "method": "coop", "initial": "vocabulary"}
    changes: dict[str, Any] = {"model": own, "mentor": {"name": "random_restart"}, **KEPT, "accept__keep": "uniform"}
    result = run(make_config(values(Path(), write_data(tmp_path), **changes)), tmp_path / "run")
    assert result.walks == 4
    result.save(tmp_path / "classes", "classes")
    held = load_file(tmp_path / "classes" / "classes.safetensors")
    deployed = result._deployed
    feature = deployed.problem.reader.given([Example({"text": text}, "") for text in TEXTS]).features
    scores = held["scale"] * feature @ held["weight"].T
    for row, prediction in zip(scores.softmax(-1).tolist(), result.predict(TEXTS), strict=True):
        assert row == pytest.approx([*prediction.probabilities.values()], rel=1e-4)


def test_proposals_that_fill_patterns_are_averaged_each_in_its_own(llama: Path, tmp_path: Path) -> None:
    lines = ["the news of | text {text} {slots} label", "topic of it | {slots} {text} It was"]
    mentor = {"name": "scripted", "fills": ["template"], "texts": lines}
    changes: dict[str, Any] = {**KEPT, "accept__keep": "uniform", "mentor": mentor}
    result = run(config(llama, write_data(tmp_path), **changes), tmp_path / "run")
    pairs_of = {str(walk.get("frame")) for walk in walks_of(result.params)}
    assert len(pairs_of) > 1, [r.advice.rejected for r in result.history]
    assert maao.replay(tmp_path / "run").equal
    closing = result.history[-1]  # what is stored is what was scored, whatever pair the last walk had
    assert result.evaluate("select").score.loss == pytest.approx(closing.score.loss, rel=1e-6)
    tested = result.evaluate([{"text": text, "label": label} for text, label in pairs("test")])
    assert tested.score.metrics == result.finals["chosen"].score.metrics and not math.isnan(tested.score.loss)


def test_one_walk_is_told_and_reported_alone(llama: Path, tmp_path: Path) -> None:
    plan = {"kind": "legs", "legs": [{"steps": 2}]}
    result = run(config(llama, write_data(tmp_path), mentor={"name": "perturb"}, plan=plan, **KEPT), tmp_path / "run")
    assert result.walks == 1 and "there were no two walks to average" in result.status_reason


def test_a_function_says_nothing_that_could_be_averaged(tmp_path: Path) -> None:
    settings = {"problem": "function", "mentor": {"name": "perturb"}, "accept": {"rule": "race", "keep": "average"}}
    with pytest.raises(ConfigError, match=r"accept\.keep = 'average' is the mean of what walks say"):
        run(make_config(settings), tmp_path / "run")


def test_members_are_picked_out_of_fold(llama: Path, tmp_path: Path) -> None:
    data = {"train": write_data(tmp_path)["train"], "select": "cross_validation", "folds": 2}
    result = run(config(llama, data, **{**KEPT, "accept__keep": "uniform"}), tmp_path / "run")
    closing = result.chosen.state.params
    assert result.walks == len(walks_of(result.params)) > 1
    assert {name for name in closing if name.startswith("fold0.")} == {
        "fold0.prompt",
        *(f"fold0.walk{i}.prompt" for i in range(1, result.walks)),
    }
    scores = [walk for walk in walks_of(closing) if "fold1.prompt" in walk]
    assert len(scores) == result.walks and result.chosen.score.num_examples == len(pairs("train"))
    assert maao.replay(tmp_path / "run").equal and len(result.predict(TEXTS)) == 3
    picked = run(config(llama, data, **KEPT), tmp_path / "picked")
    assert picked.chosen.score.loss <= picked.best_walk.score.loss + 1e-6
