"""What was sent is recorded when a run ends, and shown."""

from __future__ import annotations

import json
from contextlib import suppress
from time import process_time

import pytest

import maao
from maao.config import make_config
from maao.errors import BudgetError, ChatError, Waiting
from maao.llm.chat import Message, Request
from maao.llm.scripted import Scripted
from maao.llm.sent import fields_of, sent, texts_in
from maao.types import Advice
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


def test_many_texts_that_begin_alike_are_looked_for_in_many_lines_at_once():
    texts = [f"I want to know number {i:06} of many" for i in range(20_000)]
    lines = "\n".join(f"- I want to know number {i:06} of {'many' if i % 2 else 'few'}" for i in range(4_000))
    began = process_time()
    assert texts_in([lines], texts) == (2_000, 20_000)
    assert process_time() - began < 5  # each text beside each line took a minute


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


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_requests_without_a_reply_are_on_record_too(llama, tmp_path, monkeypatch, capsys):  # noqa: F811
    with serving() as server:
        server.begin(lambda body, number: [http({"error": {"message": "broken"}}, 500)])
        asked = {"provider": "openai", "name": "m", "base_url": server.base_url, "attempts": 2, "first_pause": 0.0}
        shown = {"mentor__shown": {"examples": True}, "mentor__wording": "chat"}
        result = maao.run(make_config(values(llama, write_data(tmp_path), mentor__chat=asked, **shown)), tmp_path / "run")
        bodies = json.dumps(server.bodies)
    held = result.sent
    assert len(server.bodies) == 4 and not result.calls  # each of the two was tried twice
    assert (held.requests, held.unanswered) == (2, 2) and set(held.fields) == set(server.bodies[0])
    assert ("Misread" in bodies or "misread" in bodies) and held.training_texts > 0
    assert held.line().startswith(f"Sent to {held.to[0]}: 2 requests, 2 of them without a reply (")
    assert json.loads(ran(monkeypatch, capsys, "show", tmp_path / "run", "--json").out)["sent"]["unanswered"] == 2


class Failing(Scripted):
    """Somebody's own model elsewhere: asked for the first time it fails, then it replies."""

    is_remote = True

    def __init__(self, error):
        super().__init__(["-1.0 0.5"] * 9, name="theirs")
        self.error, self.requests = error, []

    def complete(self, request):
        self.requests.append(request)
        if len(self.requests) == 1:
            raise self.error
        return super().complete(request)


def own(model):
    """Return a mentor of one's own that asks `model` by the run, and proposes nothing."""

    def made(run):
        asked = run.record(model)

        class Own:
            def propose(self, history, *, count, seed):
                with suppress(ChatError, BudgetError):
                    asked.complete(Request("theirs", (Message("user", f"round {len(history)}"),)))
                return Advice(())

        return Own()

    return made


PLAN = {"problem": "function", "plan": {"rounds": 4, "steps": 1}}


def test_what_a_mentor_of_one_s_own_sends_by_the_run_is_on_record(tmp_path):
    model = Failing(ChatError("no"))
    held = maao.run(make_config(PLAN), tmp_path / "run", mentor=own(model)).sent
    assert len(model.requests) > 1 and held.to == ("theirs",) and held.leaves
    assert (held.requests, held.unanswered) == (len(model.requests), 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("defect")])
def test_what_was_sent_is_on_record_where_a_run_is_interrupted_or_fails(tmp_path, error):
    model = Failing(error)
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else Exception):
        maao.run(make_config(PLAN), tmp_path / "run", mentor=own(model))
    held = maao.load(tmp_path / "run").sent
    assert (held.requests, held.unanswered, held.to) == (1, 1, ("theirs",))
    result = maao.resume(tmp_path / "run", mentor=own(model))  # the same request, which is replied to
    assert result.sent.unanswered == 0 and result.sent.requests == len({request.key for request in model.requests})


def test_a_request_that_waits_is_on_record_as_one_without_a_reply(tmp_path):
    batch = {"provider": "batch", "name": "m"}
    config = make_config({**PLAN, "mentor": {"name": "language_model", "chat": batch}})
    with pytest.raises(Waiting):
        maao.run(config, tmp_path / "run")
    held = maao.load(tmp_path / "run").sent
    assert held.requests == held.unanswered >= 1 and held.leaves


def test_a_call_that_a_cap_keeps_from_going_was_not_sent(tmp_path):
    model = Failing(ChatError("no"))
    held = maao.run(make_config({**PLAN, "budget": {"llm_calls": 1}}), tmp_path / "run", mentor=own(model)).sent
    assert len(model.requests) == 1 and (held.requests, held.unanswered) == (1, 1)
