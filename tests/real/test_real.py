"""The packaged models themselves: minutes, no network.

Run with HF_HUB_OFFLINE=1; the first use of SmolLM2 converts its GGUF file, which takes half a minute (the copy is kept).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import maao
from maao.config import make_config, without_unread
from tests.api.small_runs import digests
from tests.export.written import logits, written

SMOL, MINILM = "packaged:smollm2-135m-instruct", "packaged:all-minilm-l6-v2"
TEXTS = ["Shares fall as oil price climbs", "Striker out for the season", "Film wins top award"]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def settings(**sections):
    """Return the settings of a run of a minute or less: the packaged headlines, 2 a topic."""
    words = {"business": "business", "entertainment": "entertainment", "politics": "politics", "sports": "sports", "tech": "technology"}
    base = {
        "threads": 1,
        "model": {"name": SMOL, "template": "{text} {slots} Topic:", "label_words": words, "num_virtual_tokens": 4},
        "data": {"source": "packaged:bbc-headlines", "shots": 2, "select_shots": 2, "test_size": 10},
        "plan": {"rounds": 1, "steps": 3, "store_every": 2, "proposals": 2},
        "accept": {"steps": 1},
        "mentor": {"style": "completion", "max_tokens": 12, "max_samples": 2, "description": "Name the topic of a headline."},
    }
    for name, section in sections.items():
        base[name] = {**base.get(name, {}), **section} if isinstance(section, dict) else section
    given = [f"{name}.{key}" for name, section in sections.items() if isinstance(section, dict) for key in section]
    without_unread(base, given)
    return base


def test_a_peft_adapter_of_smollm2_gives_our_logits(tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = {"template": "{slots} {text} Topic:"}
    result = maao.run(make_config(settings(model=model, mentor={"name": "none"})), tmp_path / "run")
    result.save(tmp_path / "adapter", "peft")
    base = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's own
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    problem, labels = result._tuned(result.params).problem, result.environment["labels"]
    words = result.config.model.kind.options.label_words
    for text in TEXTS:
        encoded = tokenizer(f" {text} Topic:", return_tensors="pt")
        with torch.no_grad():
            logits = theirs(**encoded).logits[0, -1]
            ours = problem.scorer.class_scores(result.params, [problem.tokenizer({"text": text})])[0]
        ids = [tokenizer(f" {words[label]}", add_special_tokens=False).input_ids for label in labels]
        assert float((ours - logits[[word for (word,) in ids]]).abs().max() / logits.abs().max()) < 1e-5


def test_the_exported_file_runs_smollm2_and_gives_our_predictions(tmp_path):
    result = maao.run(make_config(settings(mentor={"name": "none"}, plan={"rounds": 1, "steps": 1})), tmp_path / "run")
    result.save(tmp_path, "tensor")
    prompt = written(tmp_path)
    ids = [prompt.tokenizer(f" {word}").input_ids[0] for word in result.config.model.kind.options.label_words.values()]
    theirs = logits(prompt, TEXTS[0])[ids].softmax(-1)
    assert torch.allclose(theirs, torch.tensor(list(result.predict([TEXTS[0]])[0].probabilities.values())), atol=1e-4)


def test_a_head_on_minilm_learns_and_predicts(tmp_path):
    changes = {
        "model": {"name": MINILM, "template": "{slots} {text}", "label_words": None},
        "data": {"shots": 8, "select_shots": 4, "test_size": 50},
        "stage": {"lr": 0.02},
        "plan": {"rounds": 1, "steps": 15, "store_every": 0},
        "mentor": {"name": "none"},
    }
    result = maao.run(make_config(settings(**changes)), tmp_path / "run")
    losses = [observation.loss for r in result.history for observation in r.observations]
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    assert result.finals["chosen"].score.accuracy > result.finals["untuned"].score.accuracy
    predictions = maao.load(result.folder).predict(TEXTS)
    assert [p.label for p in predictions] == ["business", "sports", "entertainment"]


KILLED = """
import json, os, signal, sys
import maao
from maao.config import make_config, without_unread

class Kill(maao.Watch):
    steps = 0
    def step(self, observation):
        self.steps += 1
        if self.steps == 3:
            os.kill(os.getpid(), signal.SIGKILL)

maao.run(make_config(json.loads(sys.argv[1])), sys.argv[2], watch=Kill())
"""


def test_a_killed_run_of_smollm2_as_its_own_mentor_goes_on_to_the_same_end(tmp_path):
    small = {
        "data": {"shots": 1, "select_shots": 1, "test_size": 5},
        "plan": {"kind": "legs", "legs": [{"steps": 1}, {"steps": 1}, {"steps": 1, "ask": True, "proposals": 1}]},
        "mentor": {"max_tokens": 6, "listing": 2},
    }
    checked = settings(**small)
    whole = maao.run(make_config(checked), tmp_path / "whole")
    assert whole.cost.llm_calls > 0 and whole.cost.gradient_steps >= 3
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(checked), str(tmp_path / "run")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(maao.load(tmp_path / "run").history) == 2  # in the race, or in the last leg, after the mentor was asked
    assert digests(maao.resume(tmp_path / "run")) == digests(whole)
    found = maao.replay(tmp_path / "run")
    assert found.equal and found.llm_calls == 0
