"""Rows with what the candidates of a run are worth on `test`, against walks that are made and scored by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import maao
from maao.build import RunComponents, build
from maao.compare import compare, read_row, read_table
from maao.compare.workers import work
from maao.config import Config
from maao.core.seeds import seed_for
from maao.errors import ProblemError
from maao.optimizers.torch import TorchState
from maao.sharing import share_caches
from maao.stored_run import config_of, open_run
from maao.types import Score
from tests.api.small_runs import to_toml, write_data
from tests.tiny_sentence import sentence_folder

TEXTS = ["music team bank", "the news of the world", "sport and music", "label of the text", "topic of the news", "the band plays"]
FIRST = {"threads": 1, "plan.rounds": 2, "plan.first": "ask", "plan.steps": 4, "plan.store_every": 2}


def decoder(model: Path, data: dict[str, str]) -> dict[str, Any]:
    """Return what runs share whose mentor's texts restart a decoder's soft prompt, in two legs that ask."""
    return {
        **FIRST,
        **{f"data.{name}": path for name, path in data.items()},
        "model.name": str(model),
        "model.num_virtual_tokens": 4,
        "model.template": "{text} {slots} Topic:",
        "stage.batch_size": 8,
        "accept.rule": "race",
        "plan.proposals": 3,
        "mentor.name": "scripted",
        "mentor.texts": TEXTS,
    }


def lines(encoder: Path, data: dict[str, str]) -> dict[str, Any]:
    """Return what runs share whose mentor says class lines to a matcher, judged out of fold."""
    return {
        **{f"data.{name}": path for name, path in data.items() if name != "select"},
        "model.kind": "matcher",
        "model.name": str(encoder),
        "data.folds": 2,
        "mentor.name": "class_wordings",
        "mentor.weights": [1.0, 0.25],
        "plan.rounds": 1,
        "plan.steps": 8,
        "plan.store_every": 4,
        "accept.rule": "race",
        "accept.steps": 8,
    }


def write_table(folder: Path, base: dict[str, Any], arms: dict[str, dict[str, Any]], **top: Any) -> Path:
    told = [to_toml({"seeds": [0], "walked_on_test": True, **top}), "[base]", _keys(base), "[tasks.news]"]
    for name, settings in arms.items():
        how = settings.pop("how", "tune")
        told += ["[[arms]]", to_toml({"name": name, "how": how}), *(["[arms.settings]", _keys(settings)] if settings else [])]
    file = folder / "t.toml"
    file.write_text("\n".join(told) + "\n", encoding="utf-8")
    return file


def _keys(settings: dict[str, Any]) -> str:
    return "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in settings.items())


def rows_of(table: Path, place: Path) -> dict[str, dict[str, Any]]:
    """Run a table in this process and return its rows as they stand in their files, by arm."""
    (place / "rows").mkdir(parents=True, exist_ok=True)
    with share_caches(walk_again=True):
        assert work(read_table(table), table.parent, place, "") == ""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in (place / "rows").glob("*.json")]
    return {row["arm"]: row for row in rows}


def walk(parts: RunComponents, state: TorchState, steps: int) -> TorchState:
    for _ in range(steps):
        state, _ = parts.stage.step(parts.problem, state)
    return state


def by_hand(folder: Path) -> list[tuple[int, int, int, Score, Score]]:
    """Return leg, place, age, and scores on `select` and `test` of each proposal, walked to where the run last looked at it."""
    config: Config
    with open_run(folder, write=False) as stored:
        config, history = config_of(stored), stored.history()
    parts = build(config)
    found = []
    for r in (r for r in history if r.leg.ask):
        ages = {c.proposal: c.age for c in r.verdict.considered if c.proposal is not None}
        before, compared_at = history[r.index - 1].state, max(ages.values())
        before = walk(parts, before, max(0, compared_at - before.age))  # an incumbent that is younger walks on first
        for place, age in ages.items():
            seed = seed_for(seed_for(config.seed, "accept", r.index), place)
            state = parts.stage.restart(before, {**before.start, **r.advice.proposals[place].params}, seed=seed)
            end = walk(parts, state, age).params
            scores = [parts.problem.score([end], split)[0] for split in ("select", "test")]
            found.append((r.index, place, age, *scores))
    return found


def check(row: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Compare what a row holds of proposals with walks by hand, and its figures with what they are of; return each candidate."""
    walked = row["walked"]
    each = walked["each"]
    hand = [one for one in by_hand(folder) if one[2]]
    proposals = [one for one in each if one["proposal"] is not None]
    assert [(one["leg"], one["proposal"], one["age"]) for one in proposals] == [one[:3] for one in hand]
    for one, (*_, select, test) in zip(proposals, hand, strict=True):
        assert one["accuracy"] == test.metrics["accuracy"]
        assert (one["loss"], one["select_loss"]) == (pytest.approx(test.loss, rel=1e-6), pytest.approx(select.loss, rel=1e-6))
    for one in each:  # on record
        looks = [
            c for c in maao.load(folder).history[one["leg"]].verdict.considered if (c.proposal, c.age) == (one["proposal"], one["age"])
        ]
        assert one["source"] == "final" or one["select_loss"] in [c.score.loss for c in looks]
    assert walked["count"] == len(each) == len({(one["leg"], one["proposal"], one["source"]) for one in each})
    for name in ("accuracy", "loss"):
        assert walked["mean"][name] == pytest.approx(sum(one[name] for one in each) / len(each))
    assert walked["best"]["accuracy"] == max(one["accuracy"] for one in each)
    assert walked["best"]["loss"] == min(one["loss"] for one in each if one["accuracy"] == walked["best"]["accuracy"])
    assert walked["best_by_loss"]["loss"] == min(one["loss"] for one in each)
    (final,) = [one for one in each if one["final"]]
    assert (final["loss"], final["accuracy"]) == (row["test"]["loss"], row["test"]["accuracy"])
    return list(each)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_data(tmp_path_factory.mktemp("data"))


def test_candidates_of_a_soft_prompt_stand_in_its_row_as_walks_by_hand_end(llama: Path, data: dict[str, str], tmp_path: Path) -> None:
    arms: dict[str, dict[str, Any]] = {
        "race": {"accept.steps": 2},
        "rungs": {"accept.steps": 4, "accept.rungs": [0, 1]},
        "older": {"accept.steps": 1},  # than what is stored of the incumbent: it is walked again
        "half": {"accept.rule": "interpolate", "accept.weight": 0.5, "accept.inner": "race", "accept.steps": 2},
        "none": {"mentor.name": "none"},
        "majority": {"how": "majority"},
    }
    rows = rows_of(write_table(tmp_path, decoder(llama, data), arms), tmp_path / "out")
    for arm in ("race", "rungs", "older"):
        each = check(rows[arm], tmp_path / "out" / "runs" / f"_{arm}_news_0")
        assert sum(one["source"] == "incumbent" for one in each) == 1 and {one["leg"] for one in each} >= {1, 3}
    ages = {one["age"] for one in rows["rungs"]["walked"]["each"] if one["source"] != "final"}
    assert ages == {1, 4}
    # Of blends what is walked is another point than the proposal.
    blends = rows["half"]["walked"]["each"]
    assert [one["proposal"] for one in blends if one["leg"] == 1 and one["source"] != "final"] == [None, 0, 1, 2]
    (final,) = rows["none"]["walked"]["each"]
    assert final["source"] == "final" and rows["none"]["walked"]["mean"]["loss"] == rows["none"]["test"]["loss"]
    assert "walked" not in rows["majority"]


def test_candidates_of_class_lines_are_read_by_the_full_member(data: dict[str, str], tmp_path: Path) -> None:
    encoder = sentence_folder(tmp_path / "encoder", max_length=32)[0]
    rows = rows_of(
        write_table(tmp_path, lines(encoder, data), {"wordings": {}, "none": {"mentor.name": "none", "plan.rounds": 0}}), tmp_path / "out"
    )
    each = check(rows["wordings"], tmp_path / "out" / "runs" / "_wordings_news_0")
    assert [(one["source"], one["proposal"], one["age"]) for one in each[:3]] == [
        ("incumbent", None, 8),
        *(("wordings", i, 8) for i in (0, 1)),
    ]
    # The incumbent's walk is that of the run without a mentor.
    (alone,) = rows["none"]["walked"]["each"]
    assert (alone["age"], alone["accuracy"]) == (8, each[0]["accuracy"]) and each[0]["loss"] == pytest.approx(alone["loss"], rel=1e-6)


def test_a_row_is_otherwise_what_it_is_without_it_and_the_run_is_not_touched(llama: Path, data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = rows_of(
        write_table(tmp_path / "plain", decoder(llama, data), {"race": {"accept.steps": 2}}, walked_on_test=False), tmp_path / "a"
    )
    asked = rows_of(write_table(tmp_path, decoder(llama, data), {"race": {"accept.steps": 2}}), tmp_path / "b")
    walked = asked["race"].pop("walked")
    for row in (plain["race"], asked["race"]):
        assert row["cost"].pop("seconds") > 0
    assert list(plain["race"]) == list(asked["race"]) and plain == asked
    digests = [maao.load(tmp_path / place / "runs" / "_race_news_0").digest for place in ("a", "b")]
    assert digests[0] == digests[1]
    assert walked["cost"]["gradient_steps"] > 0 and walked["cost"]["llm_calls"] == 0


def test_rows_of_before_are_made_whole_where_their_runs_are_there(llama: Path, data: dict[str, str], tmp_path: Path) -> None:
    arms = {"race": {"accept.steps": 2}}
    before = rows_of(write_table(tmp_path, decoder(llama, data), arms, walked_on_test=False), tmp_path / "out")["race"]
    table = write_table(tmp_path, decoder(llama, data), arms)
    after = rows_of(table, tmp_path / "out")["race"]
    assert after.pop("walked")["count"] > 5 and after == before
    file = tmp_path / "out" / "rows" / "_race_news_0.json"
    written = file.stat().st_mtime_ns
    rows_of(table, tmp_path / "out")
    assert file.stat().st_mtime_ns == written


def test_rows_whose_runs_are_gone_stay_as_they_are(llama: Path, data: dict[str, str], tmp_path: Path) -> None:
    arms = {"race": {"accept.steps": 2}}
    before = rows_of(write_table(tmp_path, decoder(llama, data), arms, walked_on_test=False, keep_runs=False), tmp_path / "out")
    assert rows_of(write_table(tmp_path, decoder(llama, data), arms, keep_runs=False), tmp_path / "out") == before
    assert rows_of(write_table(tmp_path, decoder(llama, data), arms, keep_runs=False), tmp_path / "new")["race"]["walked"]["count"] > 5
    assert not (tmp_path / "new" / "runs" / "_race_news_0").exists()


def test_a_run_without_test_says_so_once_and_workers_write_such_rows_too(tmp_path: Path) -> None:
    base = {"problem": "function", "plan.rounds": 1, "plan.steps": 2, "mentor.name": "none"}
    table = write_table(tmp_path, base, {"run": {}})
    compare(table, tmp_path / "out", workers=1)
    row = read_row(tmp_path / "out" / "rows" / "_run_news_0.json")
    assert row.walked is None and "walked" in row.model_fields_set


def test_a_row_is_there_where_its_candidates_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"problem": "function", "plan.rounds": 1, "plan.steps": 2, "mentor.name": "none"}
    file = write_table(tmp_path, base, {"run": {}}, keep_runs=False)
    place, row = tmp_path / "out", tmp_path / "out" / "rows" / "_run_news_0.json"
    row.parent.mkdir(parents=True)

    def refuse(run: Path) -> None:
        raise ProblemError("other sums than on record")

    monkeypatch.setattr("maao.compare.workers._walked", refuse)
    assert work(read_table(file), tmp_path, place, "") == "_run_news_0: other sums than on record"
    held = read_row(row)
    assert held.select and "walked" not in held.model_fields_set and (place / "runs" / "_run_news_0").exists()
    monkeypatch.undo()
    assert work(read_table(file), tmp_path, place, "") == ""
    assert "walked" in read_row(row).model_fields_set and not (place / "runs" / "_run_news_0").exists()
