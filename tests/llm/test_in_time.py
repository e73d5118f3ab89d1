"""Calls that end where the seconds of a run are spent."""

from __future__ import annotations

import itertools
import os
import threading
import time

import pytest

from maao.core.budget import Budget, Clock
from maao.errors import BudgetError, ChatError
from maao.llm.chat import Message, Reply, Request
from maao.llm.in_time import OnAThread
from maao.llm.ledger import MemoryLedger
from maao.llm.local import LocalModel
from maao.llm.openai_compatible import OpenAICompatible
from maao.llm.person import Person
from maao.llm.price import FREE
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.llm.scripted import FailingModel, Scripted
from tests.cases.provider_server import FOR_EVER, always, good, http, serving, until_asked

stamina = pytest.importorskip("stamina")

ASK = Request("m", (Message("user", "Say a word."),), max_tokens=12, seed=1)
ENDED = "Call ended: the seconds of the run are spent"


def recording(seconds, spent=0.0, now=lambda: 0.0):
    """Return models whose clock stands still: what is left does not follow from how busy the machine is."""
    clock = Clock(seconds, spent, now=now)
    clock.begin()
    return Recording(MemoryLedger(), Here("m", None), Budget(seconds=seconds), clock=clock)


class Endless:
    """A model of somebody else's, which does not come back."""

    name, is_remote, price = "m", False, FREE

    def __init__(self):
        self.let_go = threading.Event()

    def complete(self, request):
        self.let_go.wait(FOR_EVER)
        return Reply("late")

    def close(self):
        self.let_go.set()


def test_any_model_is_left_where_the_time_is_up_and_counts_at_its_worst():
    models = recording(0.3)
    with pytest.raises(BudgetError, match=ENDED):
        models.record(Endless()).complete(ASK)
    assert models.ledger.spent().calls == models.ledger.spent().unanswered == 1
    assert models.ledger.spent().output_tokens == 12 and models.ledger.totals().calls == 0
    models.close()


def test_no_call_is_begun_when_the_time_is_up():
    models = recording(1.0, spent=1.0)
    with pytest.raises(BudgetError, match="Call not made: the seconds of the run are spent"):
        models.record(Scripted(["hello"], "m")).complete(ASK)
    assert models.ledger.spent().calls == 0


def test_a_recorded_reply_needs_no_time():
    models = recording(100.0)
    model = models.record(Scripted(["hello"], "m"))
    assert model.complete(ASK).text == "hello"
    models.clock.spent = 1000.0
    assert model.complete(ASK).text == "hello"


def test_what_a_model_raises_on_a_thread_is_raised():
    with pytest.raises(ChatError, match="the line is dead"):
        OnAThread(FailingModel("the line is dead"), lambda: FOR_EVER).complete(ASK)


def test_a_local_model_stops_at_the_token(tiny_model, tiny_tokenizer):
    model = LocalModel(tiny_model, tiny_tokenizer, "tiny")
    whole = model.complete(ASK)
    assert whole.usage.output_tokens > 3
    looks = itertools.count()
    with pytest.raises(BudgetError, match=ENDED):
        model.ending(lambda: 3.0 - next(looks)).complete(ASK)
    assert next(looks) == 4  # looked at behind each token: 3, 2, 1, 0 seconds are left
    assert model.ending(lambda: 1.0).complete(ASK) == whole == model.complete(ASK)


def test_a_person_is_waited_for_as_long_as_there_is_time():
    def typed(text):
        place, terminal = os.openpty()
        os.write(place, text)
        return place, open(terminal)

    place, terminal = typed(b"a word\n\n")
    with terminal, open(os.devnull, "w") as shown:
        assert Person(terminal, shown).ending(lambda: FOR_EVER).complete(ASK).text == "a word"
        with pytest.raises(BudgetError, match=ENDED):
            Person(terminal, shown).ending(lambda: 0.05).complete(ASK)
    os.close(place)


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


def remote(server, **settings):
    return OpenAICompatible("m", server.base_url, api_key_env="", **settings)


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("play", [always(FOR_EVER), always(http("x", length=False), *[0.1, b" "] * 1_200)], ids=["silent", "drips"])
def test_a_server_that_does_not_answer_is_left(play):
    for server, seconds in until_asked():
        server.begin(play)
        models = recording(seconds, now=time.perf_counter)
        with pytest.raises(BudgetError, match="the seconds of the run are spent") as ended:
            models.record(remote(server, timeout=FOR_EVER)).complete(ASK)
    assert ended.match(ENDED)
    assert len(server.bodies) == 1 and models.ledger.spent().output_tokens == 12


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "60"}], ids=["own pause", "asked pause"])
def test_a_server_is_not_paused_for(server, headers, monkeypatch):
    server.begin(always(http({"error": {"message": "busy"}}, 429, headers)))
    paused = []
    monkeypatch.setattr(time, "sleep", paused.append)
    models = recording(FOR_EVER, now=lambda: FOR_EVER if paused else FOR_EVER - 2.0 if server.bodies else 0.0)
    with stamina.set_testing(False), pytest.raises(BudgetError, match=ENDED):
        models.record(remote(server, timeout=FOR_EVER, first_pause=20.0)).complete(ASK)
    assert paused == [2.0]
    assert len(server.bodies) == 1 and models.ledger.spent().output_tokens == 0  # a limit is answered, and takes nothing


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_server_is_tried_again_while_there_is_time(server):
    server.begin(lambda body, number: [http({"error": "busy"}, 503)] if number < 3 else good(body, number))
    assert recording(FOR_EVER).record(remote(server, timeout=FOR_EVER, first_pause=0.01)).complete(ASK).text == '1. "0.3 0.7"'
    assert len(server.bodies) == 3
