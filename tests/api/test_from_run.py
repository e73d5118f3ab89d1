"""A run that begins from another: further labels, a class more, and what it may not see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import maao
from maao import run
from maao.baselines.task import load_task
from maao.config import make_config
from maao.data.kept import keeping
from maao.data.splits import from_parts
from maao.errors import ConfigError, DataError, StoreError
from maao.origin import _key
from maao.problems.adopted import adopted
from maao.report.story import ending_of
from maao.types import Example
from tests.api.small_runs import config, pairs, values, write_csv, write_data
from tests.commands import ran
from tests.tiny import LABELS
from tests.tiny_sentence import sentence_folder

NEW = [("weather rain sun", "weather"), ("sun and rain", "weather"), ("rain the coach", "weather"), ("weather of the bank", "weather")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def settings(model: Path, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    own = {"kind": "matcher", "name": str(model), "method": "class_residual", "wordings": ["{class}"]}
    return values(model, data, **{"model": own, "mentor": {"name": "none"}, **changes})


@pytest.fixture(scope="module")
def first(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> maao.Result:
    folder = tmp_path_factory.mktemp("first")
    return run(make_config(settings(encoder, write_data(folder))), folder / "run")


def further(first: maao.Result, encoder: Path, folder: Path, **changes: Any) -> maao.Result:
    """Tune on with a class more: its examples train and choose."""
    data = write_data(folder)
    write_csv(Path(data["train"]), pairs("train") + NEW[:2])
    write_csv(Path(data["select"]), pairs("select") + NEW[2:])
    return run(make_config({**settings(encoder, {**data, **changes}), "from_run": str(first.folder)}), folder / "run")


def test_a_class_joins_and_the_others_go_on_where_they_were(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    result = further(first, encoder, tmp_path)
    begun = result.history[0].state.params
    order = result.environment["labels"]
    assert order == sorted([*LABELS, "weather"])
    for label in LABELS:
        row, old = order.index(label), first.environment["labels"].index(label)
        assert torch.equal(begun["residual"][row], first.params["residual"][old])
        assert torch.equal(begun["start"][row], first.params["start"][old])
    assert float(begun["residual"][order.index("weather")].abs().max()) == 0.0
    assert torch.equal(begun["log_scale"], first.params["log_scale"])
    assert not result.history[0].state.moments  # the optimizer is a new one
    assert result.environment["origin"] and result.config.from_run == str(first.folder)
    assert any("new classes begin as they do in any run: weather" in note for note in result.environment["notes"])
    assert ending_of(result).earlier == str(first.folder) and ending_of(first).earlier == ""
    gains = [found and found.over_untuned for found in (first.baselines, result.baselines)]
    assert [gain.over for gain in gains if gain is not None] == ["untuned model", "point it began from"]
    assert maao.replay(result.folder).equal and "weather" in result.predict(["rain"])[0].probabilities


def test_a_prompt_goes_on_with_other_classes(encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    one = run(make_config(settings(encoder, data, model__method="coop")), tmp_path / "one")
    write_csv(Path(data["train"]), pairs("train") + NEW[:2])
    write_csv(Path(data["select"]), pairs("select") + NEW[2:])
    two = run(make_config({**settings(encoder, data, model__method="coop"), "from_run": str(one.folder)}), tmp_path / "two")
    assert torch.equal(two.history[0].state.params["prompt"], one.params["prompt"])


def test_heads_and_label_words_go_on(llama: Path, model_folder: Any, tmp_path: Path) -> None:
    for name, model in (("words", llama), ("head", model_folder("bert"))):
        own = {"mentor": {"name": "none"}, "plan__rounds": 1, "plan__first": "walk"}
        template = {"model__template": "{text} {slots}", "model__kind": "head"} if name == "head" else {}
        data = write_data(tmp_path)
        one = run(config(model, data, **own, **template), tmp_path / f"{name}-one")
        write_csv(Path(data["train"]), [*pairs("train"), ("label of the text", "news"), ("the news", "news")])
        write_csv(Path(data["select"]), [*pairs("select"), ("news the text", "news")])
        two = run(config(model, data, **own, **template, from_run=str(one.folder)), tmp_path / f"{name}-two")
        begun = two.history[0].state.params
        assert torch.equal(begun["prompt"], one.params["prompt"])
        if name == "head":
            rows = [two.environment["labels"].index(label) for label in LABELS]
            assert torch.equal(begun["head.weight"][rows], one.params["head.weight"])
            assert len(begun["head.weight"]) == len(LABELS) + 1


def test_in_memory_and_at_the_terminal_a_run_goes_on(llama: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    one = maao.tune(
        model=str(llama), train=pairs("train"), select=pairs("select"), mentor="none", steps=2, folder=tmp_path / "one",
        settings={"model.num_virtual_tokens": 3},
    )  # fmt: skip
    two = maao.tune(
        train=[*pairs("train"), ("the coach of a team", LABELS[2])], select=pairs("select"), from_run=one.folder, rounds=0,
        folder=tmp_path / "two",
    )  # fmt: skip
    assert torch.equal(two.history[0].state.params["prompt"], one.params["prompt"])
    assert (two.config.model.num_virtual_tokens, two.config.plan.options.steps, two.config.mentor.name) == (3, 2, "none")
    told = ran(monkeypatch, capsys, "tune", "--from", two.folder, "--run", tmp_path / "three")
    assert told.code == 1 and "came from memory" in told.err
    train = write_csv(tmp_path / "more.csv", [*pairs("train"), ("music of the coach", LABELS[1])])
    select = write_csv(tmp_path / "select.csv", pairs("select"))
    sets = [f"data.train={train}", f"data.select={select}", "plan.rounds=0"]
    laid = [part for one in sets for part in ("--set", one)]
    told = ran(monkeypatch, capsys, "tune", "--from", two.folder, *laid, "--run", tmp_path / "three")
    assert told.code == 0, told.told()
    assert torch.equal(maao.load(tmp_path / "three").history[0].state.params["prompt"], two.params["prompt"])


def test_what_was_trained_on_does_not_judge(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    write_csv(Path(data["train"]), pairs("select") + NEW[:2])
    write_csv(Path(data["select"]), pairs("train")[:2] + NEW[2:])
    changed = make_config({**settings(encoder, data), "from_run": str(first.folder)})
    result = run(changed, tmp_path / "run")
    assert any("2 examples of select joined train" in note for note in result.environment["notes"])
    assert maao.resume(tmp_path / "run").digest == result.digest
    write_csv(Path(data["select"]), pairs("train")[:2])
    with pytest.raises(DataError, match="nothing is left to choose by"):
        run(changed, tmp_path / "other")


def test_a_test_stays_a_test(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    write_csv(Path(data["train"]), pairs("train") + pairs("test")[:1])
    write_csv(Path(data["test"]), pairs("test")[1:])
    with pytest.raises(DataError, match=r"train has 1 example that stand in the test of the run .*no longer be a test"):
        run(make_config({**settings(encoder, data), "from_run": str(first.folder)}), tmp_path / "run")
    write_csv(Path(data["train"]), NEW[:2] + pairs("select"))
    write_csv(Path(data["select"]), NEW[2:])
    write_csv(Path(data["test"]), pairs("train"))
    with pytest.raises(DataError, match=r"test has .* that the run .* was tuned on"):
        run(make_config({**settings(encoder, data), "from_run": str(first.folder)}), tmp_path / "run")


def test_what_an_origin_had_seen_is_passed_on(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = further(first, encoder, tmp_path / "second")
    data = write_data(tmp_path)
    write_csv(Path(data["train"]), NEW + [(f"{text} today", label) for text, label in pairs("train")])
    write_csv(Path(data["select"]), [(f"{text} then", label) for text, label in [*pairs("select"), *NEW]])
    write_csv(Path(data["test"]), pairs("train"))  # of the first run, and of the second
    with pytest.raises(DataError, match=r"test has .* that the run .* was tuned on"):
        run(make_config({**settings(encoder, data), "from_run": str(second.folder)}), tmp_path / "run")
    seen = [json.loads((one.folder / "seen.json").read_text(encoding="utf-8")) for one in (first, second)]
    assert all({*seen[0][name]} <= {*seen[1][name]} for name in ("train", "select", "test"))


def test_lines_count_as_what_was_trained_on(encoder: Path, tmp_path: Path) -> None:
    data = {**write_data(tmp_path), "lines": str(tmp_path / "lines.json")}
    Path(data["lines"]).write_text(json.dumps({LABELS[0]: ["a line of its own"]}), encoding="utf-8")
    one = run(make_config(settings(encoder, data)), tmp_path / "one")
    write_csv(Path(data["test"]), [("a line of its own", LABELS[0])])
    del data["lines"]
    with pytest.raises(DataError, match=r"test has 1 example that the run .* was tuned on"):
        run(make_config({**settings(encoder, data), "from_run": str(one.folder)}), tmp_path / "two")


def test_a_mentors_lines_count_as_what_was_trained_on_in_every_run_that_goes_on_from_there(encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    unlabelled = {"train": data["train"], "test": data["test"], "shots": 0}
    says = settings(encoder, unlabelled, mentor={"name": "class_wordings", "examples": 2, "descriptions": 0})
    says["plan"] = {"rounds": 1, "steps": 2}
    one = run(make_config({**says, "accept": {"rule": "race", "steps": 2}}), tmp_path / "one")
    assert one.lines is not None and len(one.lines) == 6
    two = run(make_config({**settings(encoder, data), "from_run": str(one.folder)}), tmp_path / "two")
    line = one.lines.lines[0]
    write_csv(Path(data["test"]), [(line.text, line.label), *pairs("test")])
    for origin in (one, two):
        with pytest.raises(DataError, match=r"test has 1 example that the run .* was tuned on"):
            run(
                make_config(
                    {**settings(encoder, {**data, "train": data["select"], "select": data["train"]}), "from_run": str(origin.folder)}
                ),
                tmp_path / "x",
            )


def test_lines_beside_examples_at_hand_may_not_stand_in_the_test_either(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    (text, label), *_ = pairs("test")
    (tmp_path / "lines.json").write_text(json.dumps({label: [text]}), encoding="utf-8")
    given = make_config({**settings(encoder, {"lines": str(tmp_path / "lines.json")}), "from_run": str(first.folder)})
    parts = [[Example({"text": f"{text} {name}"}, label) for text, label in pairs(name)] for name in ("train", "select")]
    splits = from_parts(*parts, (), labels=LABELS)
    with pytest.raises(DataError, match=r"train has 1 example that stand in the test of the run .*no longer be a test"):
        run(given, tmp_path / "run", splits=splits)
    assert not (tmp_path / "run").exists()


def test_lines_among_examples_at_hand_are_refused(encoder: Path, tmp_path: Path) -> None:
    parts = [[Example({"text": text}, label) for text, label in pairs(name)] for name in ("train", "select")]
    splits = replace(from_parts(*parts, (), labels=LABELS), lines=(Example({"text": "a line"}, LABELS[0]),))
    with pytest.raises(ConfigError, match=r"Example lines come from a file: .*data\.lines"):
        run(make_config(settings(encoder, {})), tmp_path / "run", splits=splits)


def test_baselines_of_one_process_do_not_share_what_an_origin_forbids(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    write_csv(Path(data["train"]), NEW[:2] + [(f"{text} today", label) for text, label in pairs("train")])
    write_csv(Path(data["select"]), NEW[2:])
    write_csv(Path(data["test"]), pairs("train"))
    plain = settings(encoder, data)
    with keeping():
        load_task(make_config(plain))
        with pytest.raises(DataError, match="was tuned on"):
            load_task(make_config({**plain, "from_run": str(first.folder)}))


def test_a_picture_is_known_by_its_content() -> None:
    one, moved = (Example({"image": place, "content": "hash"}, "cat") for place in ("cat/1.png", "test/cat/1.png"))
    assert _key(one) == _key(moved) != _key(Example({"image": "cat/1.png", "content": "other"}, "cat"))


def test_features_of_another_making_are_refused(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    other = {**settings(encoder, data, model__hidden_layers=[2]), "from_run": str(first.folder)}
    with pytest.raises(ConfigError, match="it read texts otherwise"):
        run(make_config(other), tmp_path / "run")


def test_another_model_or_method_is_refused(first: maao.Result, encoder: Path, llama: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.method there was class_residual, here coop"):
        run(make_config({**settings(encoder, data, model__method="coop"), "from_run": str(first.folder)}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model\.name there was"):
        run(config(llama, data, from_run=str(first.folder)), tmp_path / "run")
    with pytest.raises(StoreError, match="There is no folder"):
        run(make_config({**settings(encoder, data), "from_run": str(tmp_path / "nowhere")}), tmp_path / "run")


def test_a_run_that_saw_what_nobody_kept_is_refused(first: maao.Result, encoder: Path, tmp_path: Path) -> None:
    seen = first.folder / "seen.json"
    kept = seen.read_text()
    assert {name: len(keys) for name, keys in json.loads(kept).items()} == {name: len(pairs(name)) for name in ("train", "select", "test")}
    seen.unlink()
    try:
        with pytest.raises(StoreError, match="kept no hashes of its examples"):
            run(make_config({**settings(encoder, write_data(tmp_path)), "from_run": str(first.folder)}), tmp_path / "run")
    finally:
        seen.write_text(kept)


def test_params_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"its prompt is of shape \(3, 2\), here it is \(4, 2\)"):
        adopted({"prompt": torch.zeros(4, 2)}, {"prompt": torch.zeros(3, 2)}, ["a"], ["a"], set())
    with pytest.raises(ConfigError, match="its frame says how its own classes are read"):
        adopted({"x": torch.zeros(1)}, {"x": torch.zeros(1), "frame": torch.zeros(1)}, ["a", "b"], ["a"], set())


def test_members_that_judge_begin_afresh(encoder: Path, tmp_path: Path) -> None:
    data = {"train": str(write_csv(tmp_path / "train.csv", pairs("train"))), "select": "cross_validation", "folds": 2}
    one = run(make_config(settings(encoder, data, plan__steps=6)), tmp_path / "one")
    write_csv(Path(data["train"]), [*pairs("train"), *NEW])
    two = run(make_config({**settings(encoder, data), "from_run": str(one.folder)}), tmp_path / "two")
    begun = two.history[0].state.params
    rows = [two.environment["labels"].index(label) for label in LABELS]
    assert torch.equal(begun["residual"][rows], one.params["residual"]) and float(one.params["residual"].abs().max()) > 0
    assert all(float(begun[f"fold{fold}.residual"].abs().max()) == 0.0 for fold in range(2))
    assert maao.replay(two.folder).equal


def test_a_run_that_was_judged_out_of_fold_goes_on_so(llama: Path, tmp_path: Path) -> None:
    own: dict[str, Any] = {"mentor": "none", "steps": 2, "rounds": 0}
    one = maao.tune(model=str(llama), train=pairs("train"), select="cross_validation", folder=tmp_path / "one", **own)
    two = maao.tune(train=[*pairs("train"), *pairs("select")], from_run=one.folder, folder=tmp_path / "two", rounds=0)
    assert two.config.data.options.select == "cross_validation" and any(name.startswith("fold") for name in two.chosen.state.params)
