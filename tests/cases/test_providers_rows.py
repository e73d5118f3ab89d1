"""What providers did to runs, row by row: the record, caps, settings, errors, pauses, the address, the loud end, the key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import threading
from base64 import b64encode
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

import maao
from maao import cli
from maao.config import make_config
from maao.core.budget import Budget
from maao.errors import ChatError, ConfigError, LedgerMiss
from maao.llm.chat import Message, Reply, Request, Usage, what_is_wrong
from maao.llm.ledger import MemoryLedger, Recorded, Replayed, WithExtra
from maao.llm.openai_compatible import OpenAICompatible, _pause
from maao.llm.price import Price
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.llm.scripted import Scripted
from maao.llm.secrets import is_secret, struck_from
from maao.llm.server_reply import Answer, Trouble, read_answer
from maao.optimizers.serializer import TorchSerializer
from maao.store.database import DATABASE
from maao.store.run import RunFolder
from tests.cases.provider_server import always, chat, good, http, serving, settings
from tests.commands import exit_code

httpx2 = pytest.importorskip("httpx2")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

NAMES = [
    "type",
    "text",
    "content",
    "message",
    "error",
    "code",
    "status",
    "detail",
    "details",
    "metadata",
    "headers",
    "raw",
    "loc",
    "retryDelay",
    "refusal",
]
NAMES += ["thinking", "value", "prompt_tokens", "completion_tokens", "completion_tokens_details", "reasoning_tokens", "object", "choices"]
HEADERS = st.sampled_from(["date", "retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-requests", "location"])
KEY = "sk-test-0d9f8a7b6c5e4f3a2b1c"
ASK = Request("m", (Message("user", "hi"),))


@pytest.fixture(scope="module")
def shared():
    with serving() as found:
        yield found


@pytest.fixture
def server(shared, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    shared.begin(good)
    return shared


def run(server, folder, watch=None, **changes):
    return maao.run(make_config(settings(server, **changes)), folder, watch=watch)


def model(server, **settings):
    return OpenAICompatible("m", base_url=server.base_url, attempts=1, **settings)


def read(value, request=ASK):
    return read_answer(Answer(200, {}, json.dumps(value).encode()), request, "m")


class StopAfterTheCall(maao.Watch):
    """Interrupts a run between a recorded call and the end of its round."""

    asked = False

    def call(self, request):
        self.asked = True

    def step(self, observation):
        if self.asked:
            raise KeyboardInterrupt


def damage(folder, change):
    """Change the stored replies as an older maao could have stored them."""
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        for key, text in connection.execute("SELECT key, reply FROM calls").fetchall():
            connection.execute("UPDATE calls SET reply = ? WHERE key = ?", (change(json.loads(text)), key))
    connection.close()


def stored_calls(folder):
    with RunFolder.open(folder, serializer=TorchSerializer(), write=False) as stored:
        return stored.ledger.calls(), stored.ledger.totals()


# -- what is recorded


BAD = {
    "a list of parts": lambda reply: json.dumps({**reply, "text": [{"type": "text", "text": "1. 1 1"}]}),
    "null": lambda reply: json.dumps({**reply, "text": None}),
    "a fractional count": lambda reply: json.dumps({**reply, "usage": {**reply["usage"], "input_tokens": 1.5}}),
    "a negative count": lambda reply: json.dumps({**reply, "usage": {**reply["usage"], "output_tokens": -5}}),
    "no usage": lambda reply: json.dumps({"text": "a"}),
    "a list": lambda reply: "[]",
    "no JSON": lambda reply: '{"text": "1. 1',
    "nothing": lambda reply: "",
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD)
def test_p1_a_bad_reply_in_the_record_is_asked_for_again_on_resume(server, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        run(server, tmp_path / "run", StopAfterTheCall())
    damage(tmp_path / "run", change)
    result = maao.resume(tmp_path / "run")
    assert result.status == "finished" and len(server.bodies) == 3 and all(r.advice.proposals for r in result.history if r.leg.ask)
    calls, totals = stored_calls(tmp_path / "run")
    assert "asked again, since the reply recorded before cannot be used" in json.loads(calls[1].reply)["note"]
    assert len(calls) == totals.calls == 3  # what was paid for counts
    assert maao.replay(tmp_path / "run").equal


def test_p1_a_replay_says_that_a_recorded_reply_cannot_be_used(server, tmp_path):
    run(server, tmp_path / "run")
    damage(tmp_path / "run", BAD["a list of parts"])
    with pytest.raises(LedgerMiss, match="its text is no text but a list"):
        maao.replay(tmp_path / "run")


def test_p1_calls_that_cannot_be_used_are_shown_as_such(server, tmp_path, monkeypatch, capsys):
    run(server, tmp_path / "run")
    damage(tmp_path / "run", BAD["null"])
    assert exit_code(monkeypatch, "show", tmp_path / "run", "--calls") == 0
    assert "cannot be used: its text is no text but a NoneType" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reply",
    [
        Reply(["a"]),
        Reply(None),
        Reply("a", Usage(1.5, 1)),
        Reply("a", Usage(1, -1)),
        Reply("a", Usage(1, True)),
        Reply("a", None),
        Reply("a", model=3),
    ],
    ids=["list", "null", "fraction", "negative", "true", "no usage", "model"],
)
def test_p1_no_model_of_any_kind_has_a_bad_reply_recorded(reply):
    class Careless:
        name, is_remote, price = "careless", False, Price(1.0, 1.0)

        def complete(self, request):
            return reply

    ledger = MemoryLedger()
    with pytest.raises(ChatError, match="careless gave a reply that cannot be used"):
        Recorded(Careless(), ledger).complete(ASK)
    assert not ledger.entries


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=9)
    | st.sampled_from(["text", "length", "429", "20s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["", "choice__message", "choice__finish_reason", "message__content", "message__reasoning", "usage", "model", "choices", "error"]
)


@given(
    VALUES,
    FIELDS,
    st.sampled_from([200, 204, 400, 429, 503]),
    st.sampled_from(["chat", "completion"]),
    st.dictionaries(HEADERS, st.text(max_size=30)),
)
@settings_of(max_examples=200)
def test_p1_whatever_json_holds_is_a_sound_reply_or_a_trouble_in_words(value, field, status, style, headers):
    body = value if not field else chat(**{field: value})
    read = read_answer(Answer(status, headers, json.dumps(body).encode()), Request("m", (), style=style), "m")
    if isinstance(read, Reply):
        assert status < 300 and what_is_wrong(read) == "" and bool(read.text.strip()) == (read.why_empty == "")
        assert read.usage.input_tokens > 0 and all(not "\ud800" <= c <= "\udfff" for c in read.text + read.model + read.finish_reason)
    else:
        assert read.words and read.words.isprintable() and (status < 300 or read.status == status)


def test_p2_a_null_message_is_told():
    assert read(chat(choice__message=None)) == Trouble(200, "its `message` is null, where an object was expected")


def test_p3_usage_that_is_no_count_never_lifts_a_cap(server, tmp_path):
    server.begin(always(http(chat(usage={"prompt_tokens": -1_000_000, "completion_tokens": -1_000_000}))))
    result = run(server, tmp_path / "run", budget={"llm_tokens": 2000})
    assert len(server.bodies) < 3 and "budget kept the mentor from being asked" in result.status_reason
    assert 0 < result.cost.input_tokens < 2000


def test_p3_counts_of_an_old_record_that_are_none_are_estimated(server, tmp_path):
    run(server, tmp_path / "run")
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / DATABASE)) as connection, connection:
        connection.execute("UPDATE calls SET input_tokens = -1000000, output_tokens = 2.5, usd = -3")
    connection.close()
    _, totals = stored_calls(tmp_path / "run")
    assert totals.input_tokens > 100 and totals.output_tokens > 10 and totals.usd == 0


@pytest.mark.parametrize("caps", [{"llm_calls": 2}, {"llm_tokens": 400}, {"usd": 0.0004}], ids=str)
def test_p3_a_cap_binds_on_calls_whose_replies_are_none(caps):
    asked = []

    class Careless:
        name, is_remote, price = "careless", False, Price(1.0, 1.0)

        def complete(self, request):
            asked.append(request)
            return Reply("a", Usage(10, -3))

        def close(self): ...

    ledger = MemoryLedger()
    model = Recording(ledger, Here("", lambda name: None), Budget(**caps)).record(Careless())
    told = []
    for sample in range(6):
        with pytest.raises(ChatError) as caught:
            model.complete(Request("m", ASK.messages, sample=sample, max_tokens=100))
        told.append(str(caught.value))
    assert len(asked) == 2 and not ledger.entries
    assert all("cannot be used" in text for text in told[:2]) and all("2 that failed counted at their most" in text for text in told[2:])


def test_p3_money_that_is_not_known_does_not_lift_its_cap():
    ledger = MemoryLedger()
    ledger.put(replace(ASK, sample=1), Reply("a", Usage(1, 1, usd=float("nan"))))
    with pytest.raises(ChatError, match="cap"):
        Recording(ledger, Here("", lambda name: None), Budget(usd=1.0)).record(Scripted(["a"])).complete(ASK)


# -- settings


def test_p4_top_p_is_sent_only_where_it_says_something(server):
    model(server).complete(ASK)
    model(server).complete(Request("m", ASK.messages, top_p=0.9))
    assert "top_p" not in server.bodies[0] and server.bodies[1]["top_p"] == 0.9


def test_p4_a_config_leaves_settings_out(server, tmp_path):
    run(server, tmp_path / "run", chat={"leave_out": ["temperature", "seed"]})
    assert all(not {"temperature", "seed"} & body.keys() for body in server.bodies)
    calls, _ = stored_calls(tmp_path / "run")
    assert "temperature was not sent: mentor.chat.leave_out names it" in json.loads(calls[0].reply)["note"]


@pytest.mark.parametrize(
    "said",
    [
        "`temperature` is deprecated for this model.",
        "temperature: Extra inputs are not permitted",
        "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) value is supported.",
        "This model does not accept temperature",
        "Unrecognized request argument supplied: temperature",
        "temperature can't be set for reasoning models",
        "The parameter temperature is not available",
        "Parameter temperature has been removed",
    ],
)
def test_p4_a_refused_setting_is_known_by_many_words(server, said):
    server.begin(lambda body, n: [http({"error": {"message": said}}, 400)] if "temperature" in body else good(body, n))
    reply = model(server).complete(ASK)
    assert reply.note == "temperature was not sent: the server does not support it" and len(server.bodies) == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "'response_format.type' must be one of 'text', 'json_object'"),
        (400, "This response_format type is unavailable now"),
        (400, "json_schema is not supported by this backend"),
        (422, "Structured outputs need a newer model"),
        (404, "No endpoints found that can handle the requested parameters."),
    ],
)
def test_p4_a_schema_is_sent_and_left_out_where_it_is_refused(server, status, said):
    request = Request("m", ASK.messages, schema={"type": "object"})
    model(server).complete(request)
    assert server.bodies[0]["response_format"]["json_schema"] == {"name": "reply", "schema": {"type": "object"}, "strict": True}
    server.begin(lambda body, n: [http({"error": {"message": said}}, status)] if "response_format" in body else good(body, n))
    assert model(server).complete(request).note == "response_format was not sent: the server does not support it"


# -- errors


def test_p5_the_words_of_a_list_are_told(server):
    server.begin(always(http([{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}], 400)))
    with pytest.raises(ChatError, match=r"status 400: API key not valid\."):
        model(server).complete(ASK)


def test_p6_an_error_at_status_200_is_what_it_says():
    assert read({"error": {"message": "Rate limit exceeded", "code": 429}}) == Trouble(429, "Rate limit exceeded", "429")
    assert read({"error": {"message": "no", "code": 400}, "user_id": "x"}) == Trouble(400, "no", "400")
    assert read({"choices": [{"error": {"message": "upstream", "code": 502}, "message": {"content": ""}}]}).status == 502


# -- pauses


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"x-ratelimit-reset-requests": "20s"}, 20),
        ({"x-ratelimit-reset-requests": "1m0.5s", "x-ratelimit-reset-tokens": "6ms"}, 60.5),
        (
            {
                "x-ratelimit-reset-requests": "90s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "3s",
                "x-ratelimit-remaining-tokens": "0",
            },
            3,
        ),
        ({"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30),
        ({"date": "Wed, 21 Oct 2015 07:28:00 GMT", "x-ratelimit-reset": "1445412490"}, 10),
        ({"date": "Wed, 21 Oct 2015 07:28:00 GMT", "anthropic-ratelimit-requests-reset": "2015-10-21T07:28:05Z"}, 5),
    ],
)
def test_p9_a_pause_is_as_long_as_told(headers, seconds):
    transport = httpx2.MockTransport(lambda request: httpx2.Response(429, json={"error": {"message": "slow"}}, headers=headers))
    with pytest.raises(ChatError) as caught:
        OpenAICompatible("m", "http://127.0.0.1:1/v1", attempts=1, transport=transport).complete(ASK)
    assert _pause(caught.value) == pytest.approx(seconds)


LIMITS = {  # what a server tells of its limits beside the one that was met
    "x-ratelimit-remaining-requests": "9990",
    "x-ratelimit-reset-requests": "8h0m0s",
    "x-ratelimit-remaining-tokens": "120",
    "x-ratelimit-reset-tokens": "2s",
}


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, LIMITS, 2),
        (429, LIMITS | {"x-ratelimit-limit-requests": "10000", "x-ratelimit-limit-tokens": "90000"}, 2),
        (
            429,
            LIMITS | {"x-ratelimit-remaining-requests": "50", "x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "90000"},
            2,
        ),
        (429, LIMITS | {"x-ratelimit-remaining-tokens": "0"}, 2),
        (429, LIMITS | {"x-ratelimit-remaining-tokens": "many"}, 2),
        (429, LIMITS | {"x-ratelimit-reset-tokens": "3h"}, True),  # our own pauses
        (429, {"x-ratelimit-reset-requests": "6h"}, True),
        (429, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6h", "retry-after": "3"}, 3),
        (503, LIMITS, True),
        (503, {"x-ratelimit-reset-requests": "20s"}, True),
        (503, {"retry-after": "3", **LIMITS}, 3),
        (500, LIMITS, True),
    ],
)
def test_p9_a_limit_that_was_not_met_makes_no_trouble_final(status, headers, seconds):
    transport = httpx2.MockTransport(lambda request: httpx2.Response(status, json={"error": {"message": "busy"}}, headers=headers))
    with pytest.raises(ChatError, match=f"status {status}: busy") as caught:
        OpenAICompatible("m", "http://127.0.0.1:1/v1", attempts=1, transport=transport).complete(ASK)
    assert _pause(caught.value) == seconds


def test_p9_a_limit_that_opens_too_late_is_tried_again_and_told(server):
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6h"}
    server.begin(always(http({"error": {"message": "daily limit"}}, 429, headers)))
    with pytest.raises(ChatError, match=r"status 429: daily limit \(a limit is open again in 21600 seconds\)"):
        OpenAICompatible("m", server.base_url, attempts=2, first_pause=0.01).complete(ASK)
    assert len(server.bodies) == 2


def test_p9_a_pause_beyond_the_limit_ends_the_call_and_says_so(server):
    server.begin(always(http({"error": {"message": "daily limit"}}, 429, {"retry-after": "21600"})))
    with pytest.raises(ChatError, match=r"asks to wait 21600 seconds \(status 429: daily limit\), and mentor.chat.longest_pause is 120"):
        OpenAICompatible("m", server.base_url, attempts=5).complete(ASK)
    assert len(server.bodies) == 1


# -- the request


def test_p10_further_fields_are_sent_and_are_part_of_the_key(server, tmp_path):
    extra = {"enable_thinking": False, "chat_template_kwargs": {"deep": [1, 2.5, "x"]}}
    run(server, tmp_path / "run", chat={"extra": extra})
    assert all(body["enable_thinking"] is False and body["chat_template_kwargs"] == {"deep": [1, 2.5, "x"]} for body in server.bodies)
    calls, _ = stored_calls(tmp_path / "run")
    assert all(json.loads(call.request)["extra"] == extra for call in calls)
    assert maao.replay(tmp_path / "run").equal
    ledger = MemoryLedger()
    for fields in ({}, {"a": 1}, {"a": 2}):
        WithExtra(Recorded(Scripted(["x"]), ledger), fields).complete(ASK)
    assert len(ledger.entries) == 3


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"max_tokens": 5}, "may not hold max_tokens"),
        ({"temperature": 0.1}, "mentor.chat.leave_out"),
        ({"stream": True}, "may not hold stream"),
        ({"headers": {"Authorization": "Bearer x"}}, "'Authorization'"),
        ({"openai_api_key": "x"}, "'openai_api_key'"),
        ({"x-goog-api-key": "x"}, "'x-goog-api-key'"),
        ({"deep": [{"hf_token": "x"}]}, "'hf_token'"),
        ({"x": float("nan")}, "no JSON can"),
    ],
)
def test_p10_further_fields_that_cannot_be_are_refused(server, tmp_path, extra, told):
    with pytest.raises(ConfigError, match=told):
        run(server, tmp_path / "run", chat={"extra": extra})
    assert not (tmp_path / "run").exists() and not server.bodies


def test_p10_settings_of_servers_are_refused_where_no_server_is_asked(server, tmp_path):
    with pytest.raises(
        ConfigError, match=r"'mentor.chat.extra' would be ignored, since mentor.chat.provider is 'scripted', and openai, batch read it"
    ):
        run(server, tmp_path / "run", chat={"provider": "scripted", "replies": ["1 1"], "extra": {"a": 1}})


def asked_of(base_url, **settings):
    """Return what a server at an address was asked."""
    seen = []

    def answer(request):
        seen.append(request)
        return httpx2.Response(200, json=chat())

    OpenAICompatible("m", base_url, transport=httpx2.MockTransport(answer), **settings).complete(ASK)
    return seen[0]


def test_p10_a_query_goes_with_every_call(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    asked = asked_of("https://me.openai.azure.com/openai/deployments/d/?api-version=2024-10-21")
    assert str(asked.url) == "https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == KEY and "authorization" not in asked.headers  # Azure's name for it
    with pytest.raises(ConfigError, match="holds the secret 'api_key'"):
        OpenAICompatible("m", "https://example.com/v1?api_key=abc")


@pytest.mark.parametrize("name", ["subscription-key", "Ocp-Apim-Subscription-Key", "sig", "X-Amz-Signature", "access_token", "pwd"])
def test_p10_a_secret_in_the_query_of_an_address_is_refused_and_never_shown(server, tmp_path, name):
    for query in (f"{name}=hidden1", f"api-version=1&{name}=hidden1", f"api-version=1;{name}=hidden1"):
        with pytest.raises(ConfigError, match=rf"holds the secret '{name}'.* A key belongs into \$OPENAI_API_KEY") as caught:
            run(server, tmp_path / "run", chat={"base_url": f"{server.base_url}?{query}"})
        assert "hidden1" not in str(caught.value)
    assert not (tmp_path / "run").exists() and not server.bodies


@pytest.mark.parametrize("address", ["example.com/v1?key=hidden1", "me:hidden1@example.com/v1", "http://me:hidden1@[x/v1"])
def test_p10_an_address_that_is_none_is_told_without_what_it_may_hide(address):
    with pytest.raises(ConfigError, match="is not the address of a server") as caught:
        OpenAICompatible("m", address)
    assert "hidden1" not in str(caught.value)


def test_p10_names_of_secrets_are_known_and_settings_of_servers_are_none():
    secrets = (
        "openai_api_key hf_token HF_TOKEN x-goog-api-key Ocp-Apim-Subscription-Key sig passwd pwd signature apiKey accessToken openaiApiKey"
    )
    secrets += " client-secret db_password key X-API-Key authorization proxy-authorization Set-Cookie x_amz_security_token hub.token"
    assert [name for name in secrets.split() if not is_secret(name)] == []
    free = (
        "max_tokens min_tokens stop_token_ids pad_token_id eos_token_id bad_words_token_ids skip_special_tokens ban_eos_token add_bos_token"
    )
    free += " pad_token max_new_tokens prompt_cache_key api-version top_k logit_bias keyword tokenizer design monkey guided_json secretary"
    assert [name for name in free.split() if is_secret(name)] == []


def test_p10_a_server_without_a_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    OpenAICompatible("m", "http://10.0.0.2:8000/v1", api_key_env="").check()
    assert "authorization" not in asked_of("http://10.0.0.2:8000/v1", api_key_env="").headers
    refusing = httpx2.MockTransport(lambda request: httpx2.Response(401))
    with pytest.raises(ChatError, match=r"wants a key, and mentor\.chat\.api_key_env is empty"):
        OpenAICompatible("m", "http://10.0.0.2:8000/v1", api_key_env="", transport=refusing).complete(ASK)


def test_p11_a_drip_ends_at_the_deadline(server):
    server.begin(always(b"HTTP/1.1 200 OK\r\n\r\n", *[b" ", 0.1] * 200))
    with pytest.raises(ChatError, match=r"no whole reply within 0\.5 seconds"):
        model(server, timeout=0.5).complete(ASK)


def test_p11_a_flood_ends_at_the_limit_of_size(server):
    server.begin(always(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 65536] * 1000))
    with pytest.raises(ChatError, match="more than 4 MiB"):
        model(server, timeout=60).complete(ASK)


def test_p11_a_slow_look_up_of_a_name_ends_at_the_deadline(monkeypatch):
    ended, looked = threading.Event(), threading.Event()

    def look_up(*_, **__):
        ended.wait(60)
        looked.set()
        raise socket.gaierror(-3, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(ChatError, match="no whole reply"):
            OpenAICompatible("m", "http://slow.example/v1", api_key_env="", timeout=0.3, attempts=1).complete(ASK)
        assert not looked.is_set()  # it did not wait for the look-up
    finally:
        ended.set()


def test_p11_a_call_can_be_made_where_an_event_loop_runs(server):
    async def cell():
        return model(server).complete(ASK).text

    assert asyncio.run(cell()) == '1. "0.1 0.7"'


# -- the loud end


def config_file(server, path, **changes):
    lines = []

    def section(name, fields):
        lines.append(f"[{name}]")
        inner = {key: value for key, value in fields.items() if isinstance(value, dict)}
        lines.extend(f"{key} = {json.dumps(value)}" for key, value in fields.items() if key not in inner)
        for key, value in inner.items():
            section(f"{name}.{key}", value)

    found = settings(server, **changes)
    lines.extend(f"{key} = {json.dumps(value)}" for key, value in found.items() if not isinstance(value, dict))
    for name, fields in found.items():
        if isinstance(fields, dict):
            section(name, fields)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


CUT = http(chat(None, choice__finish_reason="length", message__reasoning_content="hm"))
LOUD = {
    "no reply": (
        http({"error": {"message": "out of order"}}, 500),
        "The mentor gave no reply: all 2 calls failed.",
        "status 500: out of order",
    ),
    "cut while thinking": (
        CUT,
        "The mentor gave nothing usable: no proposal in its 2 replies could be used.",
        "cut at 200 tokens while thinking",
    ),
    "nothing usable": (
        http(chat("I cannot.")),
        "The mentor gave nothing usable: no proposal in its 2 replies could be used.",
        "The last reason: ",
    ),
}


@pytest.mark.parametrize("kind", LOUD)
def test_p13_a_mentor_that_gave_nothing_is_the_first_line_and_an_exit_code(server, tmp_path, monkeypatch, capsys, kind):
    answer, told, why = LOUD[kind]
    server.begin(always(answer))
    folder = tmp_path / "run"
    config = config_file(server, tmp_path / "config.toml")
    assert exit_code(monkeypatch, "tune", config, "--run", folder) == cli.INCOMPLETE == 3
    out = capsys.readouterr().out
    assert out.index(told) < out.index("Rounds of run") and why in " ".join(out.split())
    assert exit_code(monkeypatch, "resume", folder) == 3
    assert capsys.readouterr().out.lstrip().startswith(told)
    assert exit_code(monkeypatch, "replay", folder) == 3
    out = capsys.readouterr().out
    assert told in out and "the same result" in out
    assert exit_code(monkeypatch, "show", folder) == 0  # reading is no failure
    assert capsys.readouterr().out.lstrip().startswith(told)
    result = maao.load(folder)
    assert result.warning.startswith(told) and result.status == "finished"
    assert maao.replay(folder).warning == result.warning


def test_p7_what_used_up_the_tokens_is_told_where_the_proposals_are(server, tmp_path):
    server.begin(always(CUT))
    result = run(server, tmp_path / "run")
    reasons = {rejected.reason for r in result.history for rejected in r.advice.rejected}
    assert reasons == {"cut at 200 tokens while thinking: raise mentor.max_tokens"}
    assert result.cost.llm_calls == 2 and result.cost.output_tokens == 20  # paid, and counted
    calls, _ = stored_calls(tmp_path / "run")
    assert json.loads(calls[0].reply)["finish_reason"] == "length"


def test_p13_a_second_mentor_does_not_hide_the_silence_of_the_first(server, tmp_path):
    server.begin(always(http({"error": {"message": "out of order"}}, 500)))
    result = run(server, tmp_path / "run", mix={"name": "random_restart"})
    assert result.warning.startswith("The mentor gave no reply")
    server.begin(always(http(chat("I cannot."))))
    result = run(server, tmp_path / "other", mix={"name": "random_restart"})
    assert all(r.advice.proposals for r in result.history if r.leg.ask) and result.warning.startswith("The mentor gave nothing usable")


def test_p13_one_usable_reply_is_enough(server, tmp_path):
    server.begin(lambda body, n: good(body, n) if n == 2 else [http({"error": {"message": "busy"}}, 500)])
    result = run(server, tmp_path / "run")
    assert result.warning == "" and result.status_reason == "the mentor gave no reply once"


def test_p13_nothing_is_begun_where_no_server_answers(tmp_path, monkeypatch, capsys):
    with serving() as gone:
        pass
    with pytest.raises(ConfigError, match=r"Cannot reach http://127.0.0.1:\d+/v1 .*Nothing was begun"):
        run(gone, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config = config_file(gone, tmp_path / "config.toml")
    assert exit_code(monkeypatch, "tune", config, "--run", tmp_path / "run") == 1
    assert capsys.readouterr().err.startswith("Error: Cannot reach")


def test_p13_a_run_stays_as_it_is_where_no_server_answers_on_resume(tmp_path):
    with serving() as server, pytest.raises(KeyboardInterrupt):
        run(server, tmp_path / "run", StopAfterTheCall())
    with pytest.raises(ConfigError, match="Cannot reach"):
        maao.resume(tmp_path / "run")
    assert maao.load(tmp_path / "run").status == "stopped"


def test_p13_a_key_that_is_not_accepted_is_told_before_the_run(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refusing = httpx2.MockTransport(lambda request: httpx2.Response(401, json={"error": {"message": KEY}}))
    with pytest.raises(ConfigError, match="does not accept the key") as caught:
        OpenAICompatible("m", transport=refusing).reach()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [200, 403, 404, 429, 500, 501])
def test_p13_any_other_answer_is_a_server(status):
    OpenAICompatible("m", "http://127.0.0.1:1/v1", transport=httpx2.MockTransport(lambda request: httpx2.Response(status))).reach()


# -- the key


def test_p14_the_key_is_struck_out_of_all_that_is_kept_and_shown(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CASES_KEY", KEY)
    server.begin(always(http(chat(f'1. "0.5 0.7"\n2. {KEY}', model=f"m {KEY}", choice__finish_reason=KEY))))
    config = config_file(server, tmp_path / "config.toml", chat={"api_key_env": "CASES_KEY"})
    assert exit_code(monkeypatch, "tune", config, "--run", tmp_path / "run") == 0
    assert exit_code(monkeypatch, "show", tmp_path / "run", "--calls") == 0
    assert f"authorization: bearer {KEY}" in server.heads[-1].lower().replace(KEY.lower(), KEY)  # it was really used
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err and "the key stood in the reply and was struck out" in shown.out
    for file in (path for path in (tmp_path / "run").rglob("*") if path.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
    assert KEY not in repr(maao.load(tmp_path / "run").history)


HIDDEN_KEY = "sk-Zq7+v/Kd93hB2mXw0pTfLs8RuYc5NaEj"
FORMS = {
    "a part": lambda key: key[5:14],
    "base64": lambda key: b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex().upper(),
    "an address": lambda key: quote(key, ""),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_p14_no_form_of_a_key_is_in_anything_that_a_run_leaves(server, tmp_path, monkeypatch, capsys, form):
    """In good replies, errors and headers; then all files and all that was printed are searched, whole and in 8 characters."""
    monkeypatch.setenv("CASES_KEY", HIDDEN_KEY)
    hidden = form(HIDDEN_KEY)
    held = chat(f'1. "0.5 0.7"\n2. {hidden}', model=hidden, choice__finish_reason=hidden, id=hidden)
    bad = http({"error": {"message": f"no {hidden}", "code": hidden}}, 400, {"location": hidden, "x-key": hidden})
    server.begin(lambda body, number: [bad] if number == 2 else [http(held, headers={"x-key": hidden})])
    config = config_file(server, tmp_path / "config.toml", chat={"api_key_env": "CASES_KEY"})
    assert exit_code(monkeypatch, "tune", config, "--run", tmp_path / "run") == 0
    assert exit_code(monkeypatch, "show", tmp_path / "run", "--calls", "--clues") == 0
    shown = capsys.readouterr()
    assert len(server.bodies) == 2 and "***" in shown.out and hidden not in shown.out + shown.err
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    texts = {str(path): path.read_bytes().decode("latin-1") for path in left if path.suffix != ".safetensors"}
    assert len(texts) >= 4
    for name, text in {**texts, "printed": shown.out + shown.err, "names": " ".join(map(str, left))}.items():
        assert struck_from(text, HIDDEN_KEY) == text, name


PLAIN_KEY = "Zq7+v/Kd93hB2mXw0pTfLs8RuYc5NaEj"  # begins as no provider's keys do, and JSON may escape some of it


def telling(status, said, headers=lambda before: {}):
    """Return a provider whose server answers so, with words of its own (`said` takes what stands before the key)."""
    return lambda before: OpenAICompatible(
        "m",
        "http://127.0.0.1:1/v1",
        attempts=1,
        transport=httpx2.MockTransport(lambda request: httpx2.Response(status, headers=headers(before), content=said(before))),
    )


def escaped(text):
    return json.dumps(text).replace("/", "\\/").replace("+", "\\u002B").encode()


def body(**changes):
    return json.dumps(chat(**changes)).encode()


CUTS = {  # where a server's words are cut, and what a server says that has the key there
    "an error": (300, telling(500, lambda before: json.dumps({"error": {"message": before + PLAIN_KEY}}).encode())),
    "an error, escaped": (300, telling(500, lambda before: b'{"error": {"message": ' + escaped(before + PLAIN_KEY) + b"}}")),
    "an error in an error": (300, telling(500, lambda before: b'{"error": ' + escaped(escaped(before + PLAIN_KEY).decode()) + b"}")),
    "a place in an error": (
        200,
        telling(422, lambda before: json.dumps({"detail": [{"loc": [before + PLAIN_KEY], "msg": "no"}]}).encode()),
    ),
    "no JSON": (80, telling(200, lambda before: (before + PLAIN_KEY).encode())),
    "no JSON, status 500": (300, telling(500, lambda before: (before + PLAIN_KEY).encode())),
    "wide characters": (39, telling(200, lambda before: (before + PLAIN_KEY).encode("utf-16"))),
    "a web page": (300, telling(502, lambda before: f"<title>{before}{PLAIN_KEY}</title>".encode())),
    "a part": (40, telling(200, lambda before: body(message__content=[{"type": before + PLAIN_KEY}]))),
    "a refusal": (300, telling(200, lambda before: body(content="", message__refusal=before + PLAIN_KEY))),
    "a model": (200, telling(200, lambda before: body(model=before + PLAIN_KEY))),
    "a reason": (200, telling(200, lambda before: body(choice__finish_reason=before + PLAIN_KEY))),
    "models": (100, telling(404, lambda before: json.dumps({"data": [{"id": before + PLAIN_KEY}], "error": {"message": "no"}}).encode())),
    "a redirection": (300, telling(307, lambda before: b"", lambda before: {"location": f"http://x/{before[9:]}{PLAIN_KEY}"})),
    "a redirection, quoted": (
        300,
        telling(307, lambda before: b"", lambda before: {"location": f"http://x/{before[9:]}{quote(PLAIN_KEY, '')}"}),
    ),
}


@pytest.mark.parametrize("within", [1, 8, 20, 31])
@pytest.mark.parametrize("name", CUTS)
def test_p14_no_part_of_a_key_stays_where_words_are_cut(monkeypatch, name, within):
    monkeypatch.setenv("OPENAI_API_KEY", PLAIN_KEY)
    length, provider = CUTS[name]
    try:
        told = repr(provider("." * (length - within)).complete(ASK))
    except ChatError as error:
        told = str(error)
    assert "Z" not in told and "...." in told.replace(" ", "")  # it has the server's words, and no word of ours has a Z


def test_p14_an_error_of_the_connection_shows_no_part_of_a_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", PLAIN_KEY)

    def broken(request):
        raise httpx2.ReadError("." * 285 + PLAIN_KEY)

    with pytest.raises(ChatError, match="broke off") as caught:
        OpenAICompatible("m", "http://127.0.0.1:1/v1", attempts=1, transport=httpx2.MockTransport(broken)).complete(ASK)
    assert PLAIN_KEY[:3] not in str(caught.value)


def test_p14_a_key_across_the_parts_of_a_text_is_struck_out(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", PLAIN_KEY)
    parts = [{"type": "text", "text": PLAIN_KEY[i : i + 7]} for i in range(0, len(PLAIN_KEY), 7)]
    server.begin(always(http(chat(message__content=parts))))
    reply = model(server).complete(ASK)
    assert reply.text == "***" and reply.note == "the key stood in the reply and was struck out"


def test_p14_a_key_of_digits_leaves_numbers_numbers(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "1234567890")
    server.begin(always(http(chat("id 1234567890", created=1234567890123))))
    reply = model(server).complete(ASK)
    assert reply.text == "id 111" and reply.note == "the key stood in the reply and was struck out"


def test_p14_a_word_in_the_place_of_a_key_is_left_in_replies(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server.begin(always(http(chat("none of them"))))
    assert model(server).complete(ASK).text == "none of them"


def test_p14_a_replay_gives_what_was_recorded():
    ledger = MemoryLedger()
    ledger.put(ASK, Reply("***"))
    assert Replayed(ledger, "m").complete(ASK).text == "***"
