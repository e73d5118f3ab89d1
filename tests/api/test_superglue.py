"""SuperGLUE end to end on tiny models: every task, every way to read a class, every prompt method, from the files as they are published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import maao
from maao.config import make_config
from tests.tiny import tiny_model

FOLDERS = {"boolq": "BoolQ", "copa": "COPA", "rte": "RTE", "wic": "WiC", "wsc": "WSC"}
KINDS = {"llama": "auto", "bert": "auto", "roberta": "auto", "bert_masked": "masked", "roberta_masked": "masked", "t5": "auto"}
METHODS = [
    {"method": "prompt_tuning", "class_weights": "balanced"},
    {"method": "p_tuning", "encoder": "lstm", "hidden": 8},
    {"method": "p_tuning", "encoder": "mlp", "hidden": 8},
    {"method": "prefix_tuning"},
    {"method": "prefix_tuning", "projection": True, "hidden": 8},
    {"method": "pez"},
]


@pytest.fixture(scope="module")
def data():
    folder = Path(os.environ.get("MAAO_DATA", "data")) / "fewglue"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: docs/data.md says where FewGLUE comes from; set MAAO_DATA to the folder that holds fewglue/")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    kept: dict[str, str] = {}

    def save(architecture):
        if architecture not in kept:
            frozen = tiny_model(architecture)
            folder = tmp_path_factory.mktemp(architecture)
            frozen.model.save_pretrained(folder)
            frozen.tokenizer.save_pretrained(folder)
            kept[architecture] = str(folder)
        return kept[architecture]

    return save


def tune(data, folder, task, name, kind, **model):
    files = data / FOLDERS[task]
    values = {
        "model": {"name": name, "kind": kind, "num_virtual_tokens": 2, "max_length": 62, **model},
        "data": {
            "task": task,
            "protocol": "fewglue-32",
            "drop_repeats": True,
            **{part: str(files / f"{file}.jsonl") for part, file in (("train", "train"), ("select", "dev32"), ("test", "val"))},
        },
        "plan": {"kind": "legs", "legs": [{"steps": 0}, {"steps": 2}]},
        "mentor": {"name": "none"},
        "stage": {"lr": 0.02},
    }
    return maao.run(make_config(values), folder)


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("task", FOLDERS)
def test_every_task_is_tuned_by_every_family(data, saved, tmp_path, task, architecture):
    result = tune(data, tmp_path / "run", task, saved(architecture), KINDS[architecture])
    assert result.status == "finished"
    assert {"untuned", "chosen"} <= result.finals.keys()
    chosen = result.finals["chosen"].score
    assert 0 <= chosen.metrics["accuracy"] <= 1 and chosen.num_examples <= 500
    assert result.history[-1].observations[0].loss > 0
    assert "{slots}" in result.config.model.template  # the stored config says what was read
    assert result.environment["notes"][0].startswith("Protocol fewglue-32")


@pytest.mark.parametrize("model", METHODS, ids=lambda model: "-".join(map(str, model.values())))
@pytest.mark.parametrize(("task", "architecture"), [("copa", "llama"), ("copa", "bert"), ("wsc", "roberta_masked")])
def test_every_method_tunes_a_task(data, saved, tmp_path, task, architecture, model):
    result = tune(data, tmp_path / "run", task, saved(architecture), KINDS[architecture], **model)
    moved = result.history[-1].state
    assert any(not (moved.params[name] == moved.start[name]).all() for name in moved.params)
    again = maao.replay(tmp_path / "run")
    assert again.equal


def test_a_prediction_among_choices_is_one_of_them(data, saved, tmp_path):
    result = tune(data, tmp_path / "run", "copa", saved("llama"), "auto")
    from maao.types import Example

    example = Example({"premise": "It rained", "connective": "so"}, "", choices=("the street was wet", "the street was dry"))
    (prediction,) = result.predict([example])
    assert prediction.label in ("0", "1") and sum(prediction.probabilities.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("task", ["copa", "rte"])
def test_a_file_of_a_task_is_evaluated_on_as_it_is_published(data, saved, tmp_path, task):
    result = tune(data, tmp_path / "run", task, saved("llama"), "auto")
    found = maao.load(tmp_path / "run").evaluate(data / FOLDERS[task] / "dev32.jsonl")
    select = result.chosen.score
    assert (found.num_examples, found.score.metrics) == (select.num_examples, select.metrics)
    assert found.log_loss == pytest.approx(select.loss, abs=1e-5) and len(found.mistakes) == round(32 * (1 - found.accuracy))
