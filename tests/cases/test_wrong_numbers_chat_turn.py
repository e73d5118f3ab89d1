"""A run reads the chat turn that it began with, on whatever day it is gone on with, replayed, used or exported."""

from __future__ import annotations

import copy
from datetime import datetime

import pytest
import torch
from transformers.utils import chat_template_utils, logging

import maao
from maao.config import make_config
from maao.errors import ConfigError
from maao.problems.towers.text.chat_turn import in_turn, render_turn
from tests.api.small_runs import LABELS, REPLIES, StopAt, digests, pairs
from tests.tiny import bpe_tokenizer, tiny_model

DATED = "<s>Today is {{ strftime_now('%d %B %Y') }}.\n{{ messages[0]['content'] }}</s>\n<s>assistant{{ '\\n' }}"


def set_day(monkeypatch, day):
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 3, day)

    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)


@pytest.fixture
def folder(tmp_path):
    frozen = tiny_model("llama")
    tokenizer = copy.deepcopy(frozen.tokenizer)
    tokenizer.chat_template = DATED
    logging.disable_progress_bar()
    frozen.model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def tuned(model, folder, watch=None, **settings):
    return maao.tune(
        model=str(model),
        train=pairs("train"),
        select=pairs("select"),
        labels=dict(zip(LABELS, "abc", strict=True)),
        steps=2,
        rounds=1,
        folder=folder,
        watch=watch,
        settings={
            "threads": 1,
            "model.chat": True,
            "accept.rule": "best_of",
            "mentor.retries": 0,
            "mentor.chat": {"provider": "scripted", "replies": REPLIES},
            **settings,
        },
    )


def test_l3_a_run_keeps_the_turn_that_it_began_with(folder, tmp_path, monkeypatch):
    texts = ["shares music", "team"]
    set_day(monkeypatch, 1)
    result = tuned(folder, tmp_path / "run")
    before = [p.probabilities for p in result.predict(texts)]
    assert result.config.model.kind.options.chat_turn == "<s>Today is 01 March 2026.\n{turn}</s>\n<s>assistant\n"
    assert any("prints a date" in note for note in result.environment["notes"])
    set_day(monkeypatch, 2)
    again = maao.load(tmp_path / "run")
    assert [p.probabilities for p in again.predict(texts)] == before
    assert maao.replay(tmp_path / "run").equal
    again.save(tmp_path / "out", "tensor")
    assert "01 March" in (tmp_path / "out" / "use_prompt.json").read_text(encoding="utf-8")
    other = tuned(folder, tmp_path / "other")
    assert other.config.model.kind.options.chat_turn.startswith("<s>Today is 02 March")
    assert digests(other) != digests(result)
    same = tuned(folder, tmp_path / "same", **{"model.chat_turn": result.config.model.kind.options.chat_turn})
    assert digests(same) == digests(result)


def test_l3_an_interrupted_run_goes_on_in_the_same_turn(folder, tmp_path, monkeypatch):
    set_day(monkeypatch, 1)
    whole = tuned(folder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tuned(folder, tmp_path / "part", watch=StopAt(0))
    set_day(monkeypatch, 2)
    assert digests(maao.resume(tmp_path / "part")) == digests(whole)


def test_l3_chance_in_a_template_is_drawn_once():
    own = copy.deepcopy(bpe_tokenizer())
    own.chat_template = "{{ range(1000) | random }} {{ messages[0]['content'] }}"
    turns = {render_turn(own, "{text} {slots}") for _ in range(5)}
    assert len(turns) > 1  # so what is kept is the text
    assert all(turn.endswith(" {turn}") for turn in turns)


def test_l3_templates_that_a_mentor_fills_stand_in_the_same_turn(monkeypatch):
    from maao.build_text import build_language
    from maao.problems.framed import PatternVerbalizer
    from maao.problems.texts import build_framed_scorer
    from maao.problems.towers.text.template import Template
    from tests.tiny import tiny_splits

    frozen = tiny_model("llama")
    own = copy.deepcopy(frozen.tokenizer)
    own.chat_template = DATED
    frozen = type(frozen)(frozen.model, own, frozen.kind, frozen.name)
    set_day(monkeypatch, 1)
    settings = {"chat": True, "chat_turn": render_turn(own, "{text} {slots} Topic:"), "num_virtual_tokens": 4}
    model = make_config({"model": settings}).model
    set_day(monkeypatch, 2)
    template = Template.parse("{text} {slots} Topic:", chat=True, turn=model.kind.options.chat_turn)
    pair = PatternVerbalizer(template="{text} {slots} It was", label_words=())
    _, tokenize = build_framed_scorer(model, frozen, tiny_splits(2), template, 60, pair)
    assert tokenize.before.startswith("<s>Today is 01 March 2026.\n{text}")
    problem = build_language(make_config({"model": settings}), tiny_splits(2), frozen)[0].plain
    assert problem.tokenizer.before == "<s>Today is 01 March 2026.\n{text}"
    assert torch.isfinite(problem.loss(problem.initial(0), problem.batch(0, 0)))


def test_l3_a_turn_without_a_chat_is_not_ignored(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"'model\.chat_turn' would be ignored, since model.chat is false"):
        tuned(folder, tmp_path / "run", **{"model.chat": False, "model.chat_turn": "{turn}"})


def test_l3_a_field_may_be_called_as_the_mark_of_a_turn():
    assert in_turn("User: {turn|trim}", " {turn} {slots} x ") == "User: {turn} {slots} x"
