"""What was sent is recorded when a run ends, and shown."""

from __future__ import annotations

import json

import pytest

import maao
from maao.config import make_config
from maao.llm.chat import Message, Request
from maao.llm.sent import fields_of, sent, texts_in
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import values, write_data
from tests.cases.provider_server import chat, http, serving
from tests.commands import ran

pytest.importorskip("httpx2")


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["the star wins an award"], (1, 1)),
        (["the  star\twins an award", "a film opens tonight"], (1, 2)),
        (['he said "the star wins an award" again'], (0, 1)),
        ([f"the star wins an award {'and more ' * 20}"], (0, 1)),
        (["a star"], (0, 0)),
        (["the star wins an award\nshort"], (1, 1)),
        ([], (0, 0)),
    ],
)
def test_training_texts_are_counted_where_they_stand(texts, found):
    assert texts_in(['Misread examples:\n- "the star wins an award" (taken for sport)\nNothing else'], texts) == found


def test_a_long_text_is_found_where_it_is_shown_cut():
    long = "the star wins an award and thanks all who were there, " * 9
    assert texts_in([f"- {long[:200]}…"], [long]) == (1, 1)


def test_many_texts_are_looked_for_in_one_pass():
    texts = [f"text number {i:06} of many" for i in range(20_000)]
    assert texts_in([f"x {texts[7]} y\n{texts[19_999]}"] * 50, texts) == (2, 20_000)


def test_what_a_server_refused_was_not_sent():
    request = Request("m", (Message("user", "hi"),), seed=1, top_p=0.9)
    assert "seed" in fields_of(request)
    held = sent("told", ["m"], [(request, "seed was not sent: the server does not support it")], (), leaves=True)
    assert held.fields == ("max_tokens", "messages", "model", "temperature", "top_p")


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("examples", [False, True])
def test_a_run_records_what_it_sent(llama, tmp_path, monkeypatch, capsys, examples):  # noqa: F811
    with serving() as server:
        server.begin(lambda body, number: [http(chat("1. music team bank\n2. the news of the world"))])
        asked = {"provider": "openai", "name": "m", "base_url": server.base_url, "attempts": 1}
        settings = values(llama, write_data(tmp_path), mentor__chat=asked, mentor__shown={"examples": examples}, mentor__wording="chat")
        result = maao.run(make_config(settings), tmp_path / "run")
        bodies = json.dumps(server.bodies)
    held = maao.load(tmp_path / "run").sent
    assert held == result.sent and held.requests == 2 and held.looked_for > 5 and not held.leaves
    assert held.to == (f"m at {server.base_url} (this machine)",) and held.told.startswith(f"Mentor: {held.to[0]}. It is sent")
    assert set(held.fields) == set(server.bodies[0])
    assert ("Misread" in bodies or "misread" in bodies) == examples == (held.training_texts > 0)
    shown = ran(monkeypatch, capsys, "show", tmp_path / "run", "--calls").out
    assert " ".join(held.line().split()) in " ".join(shown.split())
    assert json.loads(ran(monkeypatch, capsys, "show", tmp_path / "run", "--json").out)["sent"]["training_texts"] == held.training_texts


def test_a_run_that_asks_nobody_sends_nothing(tmp_path):
    config = make_config({"problem": "function", "mentor": {"name": "reset"}, "plan": {"rounds": 1, "steps": 1}})
    assert maao.run(config, tmp_path / "run").sent is None
