"""A user's job on pictures: a folder of them and a dual encoder in, a tuned prompt, predictions, exports and a contact sheet out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import maao
from maao.cli import app
from maao.config import make_config
from maao.errors import ConfigError, DataError, MaaoError
from maao.report.mistakes import mistakes_table
from maao.runner import run
from tests import tiny_vision as tiny
from tests.export.written import copied

LABELS = ("cat", "dog", "sea_lion", "lion")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tiny.clip_model().save_pretrained(folder)
    tiny.clip_tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("pictures"), tiny.Pictures()
    for label in LABELS:
        (folder / label).mkdir()
        for i in range(8):
            source.open(f"{label}/{i}").save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))


def settings(name: Path, pictures: Path, **given: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": {"name": str(name), "initial": "vocabulary"},
        "data": {"source": str(pictures), "shots": 2, "select_shots": 2},
        "plan": {"rounds": 1, "steps": 4, "store_every": 2},
        "accept": {"rule": "best_of"},
        "mentor": {"name": "scripted", "texts": ["a photo of the", "small drawing"]},
        "stage": {"lr": 0.02},
    }
    for key, value in given.items():
        section, _, own = key.partition("__")
        values[section] = value if not own else {**values.get(section, {}), own: value}
    if values["mentor"]["name"] == "none":  # nobody proposes what a rule could judge
        values.pop("accept")
    return values


def test_a_run_on_pictures_from_beginning_to_end(model: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run(make_config(settings(model, pictures)), folder)
    assert set(result.finals) == {"untuned", "chosen", "words"}
    asked = [r for r in result.history if r.leg.ask]
    assert asked and {p.text for r in asked for p in r.advice.proposals} <= {
        "a photo of the",
        "small drawing small drawing",
        "small drawing",
    }
    assert maao.replay(folder).equal
    # From the folder alone, without the data: the same probabilities as the run's own problem gives.
    loaded = maao.load(folder)
    files = [str(pictures / "cat" / "0.png"), str(pictures / "dog" / "3.png")]
    found = loaded.predict(files)
    assert [p.label in LABELS for p in found] == [True, True]
    again = result.predict(files)
    assert [p.probabilities for p in found] == [p.probabilities for p in again]
    assert sum(found[0].probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_exports_serve_without_the_text_tower(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(make_config(settings(model, pictures)), tmp_path / "run")
    out = tmp_path / "out"
    result.save(out, "ctx")
    ctx = torch.load(out / "model.pth.tar", weights_only=True)["state_dict"]["ctx"]
    torch.testing.assert_close(ctx, result.params["prompt"], rtol=0, atol=0)
    result.save(out, "classes")
    encoder = tiny.clip_encoder()
    file = pictures / "lion" / "1.png"
    with Image.open(file) as image:
        feature = encoder.input.features(encoder.pixels.pixels(image.convert("RGB"))[None])[0]
    expected = result.predict([file])[0]
    assert copied(out / "use_classes.py").Classes(out).probabilities(feature) == pytest.approx(dict(expected.probabilities), abs=1e-4)
    result.save(out, "text")
    assert (out / "prompt.txt").read_text().strip() == result.text
    result.save(out, "tensor")
    assert json.loads((out / "maao.json").read_text())["class_names"] == ["cat", "dog", "lion", "sea lion"]
    with pytest.raises(ConfigError, match="no format 'peft'"):
        result.save(out, "peft")


PROBES = ("zero_shot", "linear_probe", "lp++", "class_residual")


@pytest.mark.parametrize("method", ["cocoop", "kgcoop", "prograd", "tcp", "input_prompt", "maple", "promptsrc", *PROBES])
def test_every_method_runs_predicts_and_resumes(method: str, model: Path, pictures: Path, tmp_path: Path) -> None:
    values = settings(model, pictures, model__method=method, mentor={"name": "none"})
    if method in PROBES:  # which have no prompt that could begin somewhere
        values["model"].pop("initial")
    result = run(make_config(values), tmp_path / "run")
    assert result.finals["chosen"].score.num_examples == 16
    assert (result.history[-1].state.step == 0) == (method == "zero_shot")
    assert maao.replay(tmp_path / "run").equal
    assert maao.load(tmp_path / "run").predict([pictures / "cat" / "1.png"])[0].label in LABELS


def test_new_classes_are_judged_beside_the_base(model: Path, pictures: Path, tmp_path: Path) -> None:
    values = settings(model, pictures, data__protocol="base-to-new", mentor={"name": "none"})
    result = run(make_config(values), tmp_path / "run")
    assert result.environment["labels"] == ["cat", "dog"]
    names = set(result.finals)
    assert {"chosen", "untuned", "new classes, chosen", "new classes, untuned"} <= names
    assert result.finals["new classes, chosen"].score.num_examples == 8


def test_all_pictures_train_and_each_is_judged_by_what_has_not_seen_it(model: Path, pictures: Path, tmp_path: Path) -> None:
    plain = {"mentor": {"name": "none"}, "model__views": 2, "data__protocol": "base-to-new", "plan__rounds": 0}
    folded = {"source": str(pictures), "shots": 2, "select": "cross_validation"}
    result = run(make_config(settings(model, pictures, **{"data": folded, **plain})), tmp_path / "run")
    apart = run(make_config(settings(model, pictures, **plain)), tmp_path / "apart")
    for own, other in zip(result.history, apart.history, strict=True):
        assert own.score.num_examples == 4 and torch.equal(own.state.params["prompt"], other.state.params["prompt"])
        assert not torch.equal(own.state.params["prompt"], own.state.params["fold1.prompt"]) or not own.index
    assert result.finals["new classes, untuned"].score.loss == apart.finals["new classes, untuned"].score.loss
    assert maao.replay(tmp_path / "run").equal
    assert result.picture(result._whole.examples.judged[0]).size and result.predict([str(pictures / "cat" / "0.png")])
    assert result.config.data.options.protocol_name == "images-base-to-new-2-cross-validation-5"
    none = run(make_config(settings(model, pictures, **{**plain, "data": {**folded, "shots": 0}})), tmp_path / "none")
    assert len(none.history) == 1 and none.predict([str(pictures / "cat" / "0.png")])[0].label in LABELS


def test_a_gaussian_average_takes_the_place_of_the_last_point(model: Path, pictures: Path, tmp_path: Path) -> None:
    values = settings(model, pictures, mentor={"name": "none"}, stage={"lr": 0.02, "batch_size": 4, "average_mean": 2.0})
    plain = settings(model, pictures, mentor={"name": "none"}, stage={"lr": 0.02, "batch_size": 4})
    averaged, last = (run(make_config(v), tmp_path / name) for v, name in ((values, "a"), (plain, "b")))
    assert torch.equal(averaged.history[1].state.params["prompt"], last.history[1].state.params["prompt"])
    assert not torch.equal(averaged.history[-1].state.params["prompt"], last.history[-1].state.params["prompt"])
    assert maao.replay(tmp_path / "a").equal


def test_the_commands_on_pictures(model: Path, pictures: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'[model]\nname = "{model}"\ninitial = "vocabulary"\n'
        f'[data]\nsource = "{pictures}"\nshots = 2\nselect_shots = 2\n'
        '[plan]\nrounds = 1\nsteps = 2\nstore_every = 0\n[mentor]\nname = "random_restart"\n'
    )
    folder, sheet = tmp_path / "run", tmp_path / "mistakes.png"
    cli = CliRunner()

    def say(*args: str) -> str:
        done = cli.invoke(app, list(args))
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    told = say("tune", str(config), "--run", str(folder))
    assert "(matcher)" in told and "4 classes: cat, dog, lion, sea lion" in told
    told = say("show", str(folder), "--mistakes", str(sheet))
    assert "worst mistakes on select" in told and sheet.stat().st_size > 1000
    told = say("predict", str(folder), str(pictures / "cat" / "0.png"))
    assert told.split("\t")[0] in LABELS and told.strip().endswith("0.png")
    told = say("export", str(folder), "--to", str(tmp_path / "out"))
    assert all(f"{name}: " in told for name in ("tensor", "text", "ctx", "classes")) and "not written" not in told


def test_what_cannot_be_predicted_is_named(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(make_config(settings(model, pictures, mentor={"name": "none"})), tmp_path / "run")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    for given, told in ((["none.png"], "none.png"), ([str(bad)], "bad.png"), ([{"image": "x"}], "paths of image files")):
        with pytest.raises(DataError, match=told):
            result.predict(given)
    with pytest.raises(DataError, match="a list of image files"):
        result.predict("x.png")
    assert result.predict([]) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model__depth": 2}, "'model.depth' would be ignored, since model.method is 'coop', and tcp, maple, promptsrc read it"),
        ({"model__template": "a {class}."}, "no {slots}"),
        ({"model__initial": "text", "mentor": {"name": "random_restart"}}, "the same text each time"),
        ({"model": {"method": "lp++"}}, "a mentor has nothing to propose"),
        ({"model": {"method": "lp++", "num_virtual_tokens": 8}, "mentor": {"name": "none"}}, "'lp++', which trains no prompt"),
        ({"model__initial_text": "a photo"}, "model.initial_text"),
    ],
)
def test_settings_that_nothing_reads_are_refused_before_anything_is_loaded(
    given: dict[str, Any], told: str, model: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(MaaoError, match=told.replace("{", r"\{").replace("+", r"\+")):
        run(make_config(settings(model, pictures, **given)), tmp_path / "run")


def test_tune_images_is_the_same_in_python(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = maao.tune_images(
        pictures, model=str(model), shots=2, rounds=1, steps=2, folder=tmp_path / "run", settings={"data.select_shots": 2}
    )
    assert result.config.mentor.name == "none" and result.finals["chosen"].score.num_examples == 16


@pytest.mark.parametrize(("given", "bits"), [({}, 12), ({"data__bits": 16}, 16)])
def test_predict_reads_grey_by_the_depth_of_the_data_that_trained(
    given: dict[str, Any], bits: int, model: Path, pictures: Path, tmp_path: Path
) -> None:
    """A dark picture by itself looks as it looked beside the others of its folder."""
    deep = tmp_path / "deep"
    for label in LABELS[:2]:
        (deep / label).mkdir(parents=True)
        for i in range(8):
            with Image.open(pictures / label / f"{i}.png") as image:
                Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 8).save(deep / label / f"{i}.png")
    dark = np.linspace(0, 500, 1024).astype(np.uint16).reshape(32, 32)
    dark[0, :2] = 0, 4000
    Image.fromarray(dark).save(deep / "cat" / "bright.png")
    dark[0, 1] = 0
    Image.fromarray(dark).save(tmp_path / "dark.png")
    shades = np.floor(dark / (2**bits - 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(shades).save(tmp_path / "shades.png")
    result = run(make_config(settings(model, deep, mentor={"name": "none"}, **given)), tmp_path / "run")
    assert result.config.data.options.bits == bits
    for used in (result, maao.load(tmp_path / "run")):
        one, other = used.predict([tmp_path / "dark.png", tmp_path / "shades.png"])
        assert one.probabilities == other.probabilities
    assert maao.replay(tmp_path / "run").equal


def test_a_depth_that_no_picture_would_be_read_by_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'data\.bits' would be ignored"):
        run(make_config(settings(model, Path("emoji"), data={"source": "emoji", "bits": 12})), tmp_path / "run")


def test_pictures_at_hand_are_evaluated_and_mistakes_found(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(make_config(settings(model, pictures, mentor={"name": "none"})), tmp_path / "run")
    loaded = maao.load(tmp_path / "run")
    given = [(str(pictures / label / f"{number}.png"), label) for label in LABELS for number in range(2)]
    right = sum(p.label == label for p, (_, label) in zip(loaded.predict([file for file, _ in given]), given, strict=True))
    for used in (result, loaded):
        found = used.evaluate(given)
        assert (found.num_examples, found.accuracy) == (len(given), right / len(given))
    assert loaded.evaluate("test").score.metrics == result.finals["chosen"].score.metrics
    mistakes = loaded.mistakes()
    select = result.chosen.score
    assert len(mistakes) == min(24, round(select.num_examples * (1 - (select.accuracy or 0))))
    assert all(loaded.picture(one.example).mode == "RGB" for one in mistakes)


def test_a_folder_of_pictures_is_evaluated_on_and_its_mistakes_can_be_shown(model: Path, pictures: Path, tmp_path: Path) -> None:
    run(make_config(settings(model, pictures, mentor={"name": "none"})), tmp_path / "run")
    loaded = maao.load(tmp_path / "run")
    held_out = tmp_path / "held out"
    for label in LABELS:
        shutil.copytree(pictures / label, held_out / label.upper())
    judged = loaded.judged(held_out)
    found = loaded.evaluated(judged)
    files = [(path, label) for label in LABELS for path in sorted((pictures / label).iterdir())]
    read = [one.label for one in loaded.predict([path for path, _ in files])]
    assert found.num_examples == len(files) and len(found.notes) == 1
    assert found.accuracy == sum(own == label for own, (_, label) in zip(read, files, strict=True)) / len(files)
    assert found.mistakes and all(judged.picture(one.example).mode == "RGB" for one in found.mistakes)
    assert len(mistakes_table(found.mistakes).splitlines()) == 1 + len(found.mistakes)
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), str(held_out), "--mistakes", str(tmp_path / "sheet.png")])
    assert done.exit_code == 0 and str(held_out / LABELS[0].upper() / "0.png")[:40] in done.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 128
    shutil.copytree(held_out, tmp_path / "parts" / "test")
    shutil.copytree(held_out, tmp_path / "parts" / "train")
    with pytest.raises(DataError, match=r"holds splits .*'train'.*: name one of them"):
        loaded.evaluate(tmp_path / "parts")
    with pytest.raises(DataError, match=r"holds no folders: labelled pictures stand in a folder for each label"):
        loaded.evaluate(held_out / LABELS[0].upper())


def test_a_mentor_says_what_is_seen_in_pictures_of_each_class(model: Path, pictures: Path, tmp_path: Path) -> None:
    said = {label: {"descriptions": [f"fur of a {label}", f"the shape of a {label}"]} for label in LABELS}
    mentor = {"name": "class_lines", "examples": 0, "descriptions": 2, "chat": {"provider": "scripted", "replies": [json.dumps(said)]}}
    given = settings(model, pictures, mentor=mentor, model={"name": str(model), "method": "class_residual"}, data__shots=3)
    given["data"].pop("select_shots")
    given |= {"plan": {"rounds": 2, "steps": 4, "store_every": 2}, "accept": {"rule": "always_first"}, "baselines": []}
    result = run(make_config(given), tmp_path / "run")
    first, second = [r.advice for r in result.history if r.leg.ask]
    assert first.proposals[0].fields["descriptions.sea_lion"] == "fur of a sea_lion\nthe shape of a sea_lion"
    assert not second.proposals and {r.reason.rpartition(" ")[2] for r in second.rejected} <= {"before", "for"}
    calls = CliRunner().invoke(app, ["show", str(tmp_path / "run"), "--calls"]).output
    assert calls.count("You write texts that stand for the classes of a picture classifier.") == 2 and "misread" not in calls
    assert maao.replay(tmp_path / "run").equal
