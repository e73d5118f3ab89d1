"""Whole runs of the mentor that says what classes mean: two rounds with what went wrong between them, replayed without a call."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import maao
from maao import run
from maao.class_lines import ClassLines
from maao.config import make_config
from maao.errors import ConfigError
from maao.llm.chat import Request
from maao.llm.scripted import Scripted, ScriptedOptions
from maao.report.class_lines import beliefs
from maao.report.lines import few_refused
from maao.report.run import report
from maao.types import Rejected
from tests.api.small_runs import pairs, values, write_data
from tests.tiny_sentence import sentence_folder

LABELS = ("business", "music", "sport")
SAID = {
    "business": ["stocks go up", "a firm that earns"],
    "music": ["the band plays a song", "the singer tours"],
    "sport": ["the team won the match", "the player scored"],
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What is really asked of a scripted model, which says something new each time."""
    asked: list[Request] = []

    def reply(request: Request) -> str:
        asked.append(request)
        new = [f"round {len(asked)} of {label}" for label in LABELS]
        told = {label: {"examples": [*SAID[label], text]} for label, text in zip(LABELS, new, strict=True)}
        return json.dumps({label: told[label] for label in LABELS if "Class: " not in request.text or f"Class: {label}" in request.text})

    monkeypatch.setattr(ScriptedOptions, "build", lambda self, here: Scripted(reply, "wise"))
    return asked


def settings(encoder: Path, folder: Path, **mentor: Any) -> dict[str, Any]:
    data = {name: path for name, path in write_data(folder).items() if name != "select"}
    return {
        **values(encoder, data, threads=1),
        "baselines": [],
        "model": {"kind": "matcher", "name": str(encoder), "wordings": ["{class}"]},
        "data": {**data, "folds": 2},
        "mentor": {"name": "class_lines", "descriptions": 0, "chat": {"provider": "scripted", "name": "wise", "replies": ["x"]}, **mentor},
        "plan": {"rounds": 2, "steps": 4},
        "accept": {"rule": "always_first"},
    }


def test_a_later_round_is_told_what_went_wrong_and_adds_to_the_lines(encoder: Path, tmp_path: Path, requests: list[Request]) -> None:
    result = run(make_config(settings(encoder, tmp_path)), tmp_path / "run")
    first, second = [r for r in result.history if r.leg.ask]
    before = result.history[second.index - 1].clues
    assert first.verdict.chosen == second.verdict.chosen == 0 and before.confusions and before.line_weights
    confused = {label for c in before.confusions for label in (c.label, c.predicted)}
    lines = [ClassLines.from_fields(r.advice.proposals[0].fields, LABELS) for r in (first, second)]
    for label in LABELS:
        assert len(lines[1].of(label)) - len(lines[0].of(label)) == int(label in confused)
    assert len(requests) == 2 and requests[0].sample == requests[1].sample == 0
    told = requests[1].text
    assert "each behind how far the classifier believes it" in told and f"Taken for: {before.confusions[0].predicted}" in told
    shown = [m.text for m in before.misclassified if json.dumps(m.text) in told]
    assert shown and {*shown} <= {text for text, _ in pairs("train")}
    assert maao.replay(tmp_path / "run").equal and len(requests) == 2


def test_no_text_of_the_data_is_in_a_request_that_shows_none(encoder: Path, tmp_path: Path, requests: list[Request]) -> None:
    run(make_config(settings(encoder, tmp_path, misread=0)), tmp_path / "run")
    texts = [text for split in ("train", "test") for text, _ in pairs(split)]
    assert len(requests) == 2 and not [text for request in requests for text in texts if text in request.text]


def test_seeds_share_the_replies_that_they_fall_on(encoder: Path, tmp_path: Path, requests: list[Request]) -> None:
    for seed in (0, 1, 3):
        run(make_config({**settings(encoder, tmp_path, samples=3), "seed": seed, "plan": {"rounds": 1, "steps": 2}}), tmp_path / str(seed))
    assert [request.sample for request in requests] == [0, 1, 0] and requests[0].key == requests[2].key != requests[1].key


def test_a_report_counts_lines_and_shows_few(encoder: Path, tmp_path: Path, requests: list[Request]) -> None:
    result = run(make_config(settings(encoder, tmp_path)), tmp_path / "run")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report(result))
    told = console.export_text()
    assert "9 examples" in told and told.count("stocks go up") <= 1
    weights = result.history[-1].clues.line_weights
    assert len(weights) > 6 and len(beliefs(weights)) == 8 and beliefs(()) == []


def test_of_many_lines_that_were_not_used_few_are_told() -> None:
    capped = Rejected("", "a cap", "capped")
    many = [*(Rejected(f"text {i}", "tried before" if i % 2 else f"reason {i % 8}") for i in range(40)), capped]
    told, more = few_refused(many)
    assert told == [*many[:8], capped]
    assert more == "not used: 32 more (tried before, 16 times; reason 0, 4 times; reason 2, 4 times; 2 other reasons)"
    assert few_refused(many[:10]) == (many[:10], "")


def test_a_problem_without_classes_is_refused() -> None:
    mentor = {"name": "class_lines", "chat": {"provider": "scripted", "replies": ["x"]}}
    with pytest.raises(ConfigError, match="this problem has none"):
        run(make_config({"problem": "function", "mentor": mentor}), "/nowhere")
