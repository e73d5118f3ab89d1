"""A real server on this machine: llama.cpp's, with the packaged SmolLM2 (135 million parameters), asked over HTTP."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from maao.core.budget import Budget
from maao.errors import BudgetError, ChatError
from maao.llm.chat import Message, Request
from maao.llm.ledger import MemoryLedger, Replayed
from maao.llm.openai_compatible import OpenAICompatible
from maao.llm.provider import Here
from maao.llm.recording import Recording

PACKAGES = ("llama_cpp", "fastapi", "uvicorn", "pydantic_settings", "sse_starlette", "starlette_context")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.server,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(bool(MISSING), reason=f"no model server ({', '.join(MISSING)} missing): pip install 'llama-cpp-python[server]'"),
]

NAME = "smollm2"
QUESTION = Request(NAME, (Message("user", "Name three fruits."),), max_tokens=16, temperature=0.8, seed=7)
COUNTING = Request(NAME, (Message("user", "The numbers are 1, 2,"),), style="completion", max_tokens=12, temperature=0.0)


@pytest.fixture
def model(server, monkeypatch: pytest.MonkeyPatch) -> OpenAICompatible:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return server.model()


def test_server_answers_a_chat(model):
    model.check()
    reply = model.complete(QUESTION)
    assert reply.text.strip() and reply.note == "" and reply.model == NAME
    assert 10 < reply.usage.input_tokens < 60 and 0 < reply.usage.output_tokens <= 16 and not reply.usage.estimated
    assert not model.is_remote and model.price is None


def test_server_continues_a_text(model):
    reply = model.complete(COUNTING)
    assert reply.text.lstrip().startswith("3")
    assert reply.finish_reason == "length" and reply.usage.output_tokens == 12


def test_server_stops_at_a_stop_string(model):
    whole = model.complete(COUNTING)
    reply = model.complete(replace(COUNTING, stop=("4",)))
    assert reply.text == whole.text[: whole.text.index("4")] and reply.finish_reason == "stop"


def test_server_samples_by_seed_and_sample(model):
    model.complete(QUESTION)  # the server keeps what it read of a prompt: from the second call on it computes the same
    first = model.complete(QUESTION)
    assert model.complete(QUESTION).text == first.text
    assert len({model.complete(replace(QUESTION, sample=sample)).text for sample in range(4)}) > 1


def test_calls_of_a_real_server_are_recorded_replayed_and_capped(model):
    ledger = MemoryLedger()
    recorded = Recording(ledger, Here("", lambda name: None), Budget(llm_calls=1)).record(model)
    reply = recorded.complete(QUESTION)
    assert recorded.complete(QUESTION) == reply == Replayed(ledger, NAME).complete(QUESTION)
    assert recorded.live_calls == 1 and reply.date and reply.seconds > 0
    with pytest.raises(BudgetError):
        recorded.complete(COUNTING)


def test_prompt_beyond_the_context_is_a_chat_error(model):
    with pytest.raises(ChatError, match="context"):
        model.complete(replace(QUESTION, messages=(Message("user", "apple " * 2600),)))


def test_wrong_address_on_a_running_server_is_a_chat_error(server):
    model = OpenAICompatible(NAME, base_url=server.base_url.removesuffix("/v1"), attempts=1)
    with pytest.raises(ChatError, match="address is wrong"):
        model.complete(QUESTION)


def test_server_that_does_not_run_is_a_chat_error(unused_port):
    model = OpenAICompatible(NAME, base_url=f"http://127.0.0.1:{unused_port}/v1", attempts=1)
    with pytest.raises(ChatError, match="Is the server running"):
        model.complete(QUESTION)
