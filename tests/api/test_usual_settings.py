"""What usually goes with a method is what a config gets where it does not say."""

from __future__ import annotations

import pytest

import maao
from maao.config import make_config
from tests.tiny_sentence import sentence_folder

MATCHER = {"kind": "matcher"}
PAIRS = [("shares fall", "money"), ("oil price", "money"), ("the match", "sport"), ("a goal", "sport")]


def made(**sections):
    return make_config({"model": MATCHER, **sections})


def test_a_matcher_of_texts_needs_one_line():
    config = made()
    assert config.model.name == "packaged:all-minilm-l6-v2" and config.model.method.name == "class_residual"
    assert config.mentor.name == "none" and config.data.options.select == "cross_validation"
    assert (config.stage.options.lr, config.stage.options.batch_size) == (0.05, 4096)
    assert (config.plan.options.rounds, config.plan.options.steps, config.plan.options.store_every) == (0, 100, 25)
    assert config.stage.options.given() == config.plan.options.given() == []


def test_what_a_config_says_stands():
    config = made(stage={"lr": 0.1, "options": {"eps": 1e-6}}, data={"select_shots": 4}, plan={"kind": "epochs"})
    assert config.stage.options.lr == 0.1 and config.stage.options.options == {"weight_decay": 0.0, "eps": 1e-6}
    assert config.data.options.select is None and config.plan.name == "epochs"


@pytest.mark.parametrize(
    ("given", "rate", "options"), [({"lr_grid": [0.01, 0.1]}, 0.01, {"weight_decay": 0.0}), ({"optimizer": "Rprop"}, 0.01, {})]
)
def test_a_search_and_another_optimizer_keep_the_rest(given, rate, options):
    stage = made(stage=given).stage.options
    assert (stage.lr, stage.options, stage.batch_size) == (rate, options, 4096)


def test_examples_to_choose_by_are_not_set_aside_for_cross_validation(tmp_path):
    settings = {"model.kind": "matcher", "model.cache": False, "plan.steps": 2, "plan.store_every": 2, "baselines": []}
    folder, train, select = str(sentence_folder(tmp_path)[0]), PAIRS, [(f"{text} today", label) for text, label in PAIRS]
    apart = maao.tune(model=folder, train=train, select=select, mentor="none", settings=settings, folder=tmp_path / "apart")
    assert apart.chosen.score.num_examples == 4 and apart.config.data.options.select is None
    mapped = maao.tune(
        model=folder, train={"train": train, "validation": select}, mentor="none", settings=settings, folder=tmp_path / "map"
    )
    assert mapped.digest == apart.digest
    folds = maao.tune(model=folder, train=train, mentor="none", settings=settings, folder=tmp_path / "folds")
    assert folds.config.data.options.select == "cross_validation" and folds.environment["notes"]
