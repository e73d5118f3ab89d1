"""The packaged MiniLM as a matcher of texts, and a head on the packaged SmolLM2 that begins at logistic regression: minutes, no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import maao
from maao.config import make_config
from maao.problems.towers.class_prompts import ClassTemplate, prompts_of
from maao.problems.towers.text.loading import locate
from maao.problems.towers.text.sentence import load_sentence_encoder

SMOL, MINILM = "packaged:smollm2-135m-instruct", "packaged:all-minilm-l6-v2"
TEXTS = ["Shares fall as oil price climbs", "Striker out for the season", "", "Film wins top award " * 100]

pytestmark = pytest.mark.real


@pytest.fixture
def topics() -> str:
    file = Path(os.environ.get("MAAO_DATA", "data")) / "topics" / "trec" / "pool.csv"
    if not file.is_file():
        pytest.skip("the questions of TREC are not in MAAO_DATA/topics/trec")
    return str(file)


def settings(source: str, **model: Any) -> dict[str, Any]:
    return {
        "threads": 1,
        "model": model,
        "data": {"source": source, "shots": 8, "select_shots": 8, "test_size": 200},
        "plan": {"rounds": 0, "steps": 40, "clues": False},
        "mentor": {"name": "none"},
    }


def test_features_of_minilm_are_those_of_plain_transformers_and_slots_are_read_as_tokens() -> None:
    from transformers import AutoModel, AutoTokenizer

    encoder = load_sentence_encoder(MINILM)
    model, tokenizer = (kind.from_pretrained(locate(MINILM)) for kind in (AutoModel, AutoTokenizer))
    with torch.no_grad():
        ours = encoder.inputs.features(encoder.inputs.read(TEXTS)[0])
        for text, own in zip(TEXTS, ours, strict=True):
            states = model.eval()(**tokenizer([text], truncation=True, max_length=256, return_tensors="pt")).last_hidden_state[0]
            torch.testing.assert_close(own, states.mean(0) / states.mean(0).norm(), atol=1e-5, rtol=0)
        ids = tokenizer("this text is about", add_special_tokens=False).input_ids
        prompts = prompts_of(ClassTemplate.parse("{slots} {class}"), tokenizer, ["sport", "world news"], len(ids), encoder.classes.most)
        slots = encoder.classes.features(prompts, encoder.classes.table[ids])
        words = encoder.inputs.features(encoder.inputs.read(["this text is about sport", "this text is about world news"])[0])
    torch.testing.assert_close(slots, words, atol=1e-5, rtol=0)


def test_coop_and_a_probe_on_minilm_beat_the_zero_shot_classes(topics: str, tmp_path: Path) -> None:
    found = {}
    for method, lr in (("zero_shot", None), ("coop", 0.002), ("linear_probe", 0.3)):
        values = settings(topics, kind="matcher", name=MINILM, method=method)
        if lr is not None:
            values["stage"] = {"lr": lr}
        result = maao.run(make_config(values), tmp_path / method)
        found[method] = result.finals["chosen"].score.metrics["accuracy"]
    assert found["coop"] > found["zero_shot"] + 0.03 and found["linear_probe"] > found["zero_shot"] + 0.03, found


def test_a_head_on_smollm2_begins_above_chance_at_logistic_regression(topics: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    values = settings(topics, kind="head", name=SMOL, template="{text} {slots} Topic:", head_start="logistic_regression")
    values["plan"]["steps"] = 1
    result = maao.run(make_config(values), tmp_path / "run")
    assert result.finals["untuned"].score.metrics["accuracy"] > 0.35  # of six classes
    assert maao.load(tmp_path / "run").predict(["How tall is the tower?"])[0].label in result.environment["labels"]
