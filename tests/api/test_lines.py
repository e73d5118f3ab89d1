"""Whole runs with example lines: recorded, replayed, and refused where they have changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import maao
from maao import run
from maao.build import build
from maao.config import make_config
from maao.errors import ConfigError, StoreError
from maao.report.story import ending_of, story
from tests.api.small_runs import pairs, values, write_data
from tests.tiny_sentence import sentence_folder

LINES = {"music": ["the song plays"], "sport": {"examples": ["the team won the cup", "a match the news"]}}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(LINES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def test_a_run_with_lines_replays_and_is_refused_where_they_have_changed(encoder: Path, tmp_path: Path, lines: Path) -> None:
    own = {"model": {"kind": "matcher", "name": str(encoder), "method": "lp++"}, "mentor": {"name": "none"}}
    data = write_data(tmp_path)
    plain = run(make_config(values(encoder, data, **own)), tmp_path / "plain")
    result = run(make_config(values(encoder, {**data, "lines": str(lines)}, **own)), tmp_path / "run")
    assert result.digest != plain.digest
    assert result.environment["data"] == plain.environment["data"]
    assert result.environment["lines"].startswith("sha256:") and plain.environment["lines"] == ""
    assert any("3 lines of 2 of 3 classes join train, at 0.5" in note for note in result.environment["notes"])
    assert maao.replay(tmp_path / "run").equal
    lines.write_text(json.dumps({**LINES, "music": ["another song"]}), encoding="utf-8")
    with pytest.raises(StoreError, match=r"The example lines of data\.lines have changed since the run .* Bring the old file back"):
        maao.replay(tmp_path / "run")
    lines.unlink()
    assert maao.load(tmp_path / "run").predict(["the song plays"])[0].label in ("business", "music", "sport")  # in use nothing reads them


def test_lines_join_examples_at_hand_which_are_kept_without_them(encoder: Path, tmp_path: Path, lines: Path) -> None:
    result = maao.tune(
        model=str(encoder),
        train=pairs("train"),
        select=pairs("select"),
        template="{slots} {class}",
        mentor="none",
        rounds=1,
        steps=2,
        folder=tmp_path / "run",
        settings={"model.kind": "matcher", "model.method": "coop", "data.lines": str(lines), "data.lines_weight": 0.25},
    )
    assert any("at 0.25 of the weight" in note for note in result.environment["notes"])
    assert maao.replay(tmp_path / "run").equal
    assert "the song plays" not in (tmp_path / "run" / "examples.json").read_text(encoding="utf-8")


def test_what_trains_nothing_reads_no_lines(encoder: Path, tmp_path: Path, lines: Path) -> None:
    own = {"model": {"kind": "matcher", "name": str(encoder), "method": "zero_shot"}, "mentor": {"name": "none"}}
    with pytest.raises(ConfigError, match=r"'data\.lines' would be ignored, since model\.method is 'zero_shot', which trains nothing"):
        make_config({**values(encoder, write_data(tmp_path), **own), "data": {**write_data(tmp_path), "lines": str(lines)}})


def test_lines_stand_in_every_fold_and_are_judged_in_none(encoder: Path, tmp_path: Path, lines: Path) -> None:
    model = {"kind": "matcher", "name": str(encoder), "method": "class_residual", "wordings": ["{class}"]}
    own = {"model": model, "mentor": {"name": "none"}}
    data = {name: path for name, path in write_data(tmp_path).items() if name != "select"}
    config = make_config(values(encoder, {**data, "select": "cross_validation", "folds": 2, "lines": str(lines)}, **own))
    problem = build(config).problem
    train = problem.splits.train
    assert all(member.splits.lines == problem.splits.lines and len(member.splits.lines) == 3 for member in problem.members)
    assert sorted(len(member.inputs("train")) for member in problem.members) == [len(train) // 2 + 3] * 2
    score = problem.score([problem.initial(0)], "select")[0]
    assert score.num_examples == len(train)
    result = run(config, tmp_path / "run")
    assert result.status == "finished" and maao.replay(tmp_path / "run").equal
    right, count = round(result.finals["chosen"].score.accuracy * len(pairs("test"))), len(pairs("test"))
    told = story(ending_of(result))[0].text
    assert told.startswith(
        f"From {len(train)} labelled examples and 3 lines about the classes it puts {right} of {count} test examples into "
    )
