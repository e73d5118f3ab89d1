import json
import math
import traceback

import pytest

from maao.errors import BudgetError, ChatError, ConfigError
from maao.llm.budget import Capped, Caps, Meter, worst_case_tokens
from maao.llm.chat import Message, Request, sampling_seed
from maao.llm.ledger import MemoryLedger, Recorded, Totals
from maao.llm.openai_compatible import OpenAICompatible
from maao.llm.price import Price
from tests.llm.asking import ask

httpx2 = pytest.importorskip("httpx2")

KEY = "sk-verySecret0123456789"
LOCAL = "http://127.0.0.1:8000/v1"


def chat_reply(text="hello", usage=True, **fields):
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m-2026",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        **fields,
    }
    if usage:
        body["usage"] = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return httpx2.Response(200, json=body)


def completion_reply(text=" world"):
    choice = {"index": 0, "finish_reason": "length", "text": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return httpx2.Response(
        200, json={"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    )


def failure(status, message="no", **fields):
    headers = fields.pop("headers", None)
    return httpx2.Response(status, json={"error": {"message": message, **fields}}, headers=headers)


class Server:
    """A server that is a list of answers: responses, errors to raise, or callables of the request's body."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.bodies = []

    def __call__(self, request):
        self.asked.append(request)
        body = json.loads(request.content) if request.content else None
        self.bodies.append(body)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(body) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def model_of(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def make(server, base_url=LOCAL, **settings):
        return OpenAICompatible("m", base_url=base_url, transport=httpx2.MockTransport(server), **settings)

    return make


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


def test_chat_request_is_sent_as_asked_and_the_reply_is_read(model_of):
    server = Server(chat_reply())
    request = Request(
        "m",
        (Message("system", "Be brief."), Message("user", "hi")),
        max_tokens=9,
        temperature=0.3,
        top_p=0.9,
        stop=("\n",),
        seed=4,
        sample=1,
        extra={"top_k": 7},
    )
    reply = model_of(server).complete(request)
    assert server.asked[0].url.path == "/v1/chat/completions"
    assert server.bodies[0] == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["\n"],
        "seed": sampling_seed(request),
        "top_k": 7,
    }
    assert (reply.text, reply.model, reply.finish_reason, reply.note) == ("hello", "m-2026", "stop", "")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.estimated) == (100, 20, False)


def test_completion_request_continues_the_text(model_of):
    server = Server(completion_reply())
    reply = model_of(server).complete(ask("hello", style="completion", max_tokens=2))
    assert server.asked[0].url.path == "/v1/completions"
    assert server.bodies[0]["prompt"] == "hello" and "messages" not in server.bodies[0]
    assert (reply.text, reply.finish_reason) == (" world", "length")


def test_what_was_not_asked_for_is_not_sent(model_of):
    server = Server(chat_reply())
    model_of(server).complete(ask())
    assert not {"seed", "stop", "top_p", "response_format"} & server.bodies[0].keys()


def test_usage_is_estimated_and_flagged_where_the_server_does_not_count(model_of):
    reply = model_of(Server(chat_reply(usage=False))).complete(ask())
    assert reply.usage.estimated and reply.usage.input_tokens > 0 and reply.usage.output_tokens > 0


def test_reply_without_text_is_still_a_paid_reply(model_of):
    reply = model_of(Server(chat_reply(text=None))).complete(ask())
    assert reply.text == "" and reply.usage.output_tokens == 20


def test_given_price_is_charged(model_of):
    model = model_of(Server(chat_reply()), price=Price(10.0, 100.0))
    assert model.complete(ask()).usage.usd == pytest.approx(0.003)


def test_unknown_price_is_said_to_be_unknown(model_of):
    model = model_of(Server(chat_reply()))
    assert model.price is None and math.isnan(model.complete(ask()).usage.usd)


@pytest.mark.parametrize(
    "trouble",
    [
        failure(408),
        failure(409),
        failure(429, "slow down"),
        failure(500),
        failure(503),
        httpx2.ConnectError("Connection refused"),
        httpx2.ReadTimeout(""),
    ],
    ids=["408", "409", "429", "500", "503", "refused", "timeout"],
)
def test_temporary_trouble_is_tried_again(model_of, trouble):
    server = Server(trouble, trouble, chat_reply())
    assert model_of(server).complete(ask()).text == "hello"
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_final_refusal_is_not_tried_again(model_of, status):
    server = Server(failure(status))
    with pytest.raises(ChatError):
        model_of(server).complete(ask())
    assert len(server.asked) == 1


def test_spent_quota_is_not_tried_again(model_of):
    server = Server(failure(429, "You exceeded your current quota", code="insufficient_quota"))
    with pytest.raises(ChatError, match="no credit"):
        model_of(server).complete(ask())
    assert len(server.asked) == 1


def test_attempts_are_as_many_as_asked_for(model_of):
    server = Server(failure(503, "overloaded"))
    with pytest.raises(ChatError, match="overloaded"):
        model_of(server, attempts=3).complete(ask())
    assert len(server.asked) == 3


def test_pause_that_the_server_asks_for_is_kept(model_of):
    from maao.llm.openai_compatible import _pause

    server = Server(failure(429, headers={"retry-after": "7"}))
    with pytest.raises(ChatError) as caught:
        model_of(server, attempts=1).complete(ask())
    assert _pause(caught.value) == 7
    assert _pause(ChatError("final")) is False


def test_connection_refused_asks_whether_the_server_runs(model_of):
    with pytest.raises(ChatError, match=r"Cannot reach http://127.0.0.1:8000/v1 \(Connection refused\). Is the server running"):
        model_of(Server(httpx2.ConnectError("Connection refused")), attempts=1).complete(ask())


def test_rejected_key_names_the_variable_to_set(model_of, key):
    model = model_of(Server(failure(401, f"Incorrect API key provided: {key}")), base_url="https://api.example.com/v1")
    with pytest.raises(ChatError, match="OPENAI_API_KEY"):
        model.complete(ask())


def test_unknown_model_lists_those_that_the_server_has(model_of):
    models = httpx2.Response(
        200, json={"object": "list", "data": [{"id": n, "object": "model", "created": 0, "owned_by": "me"} for n in "ab"]}
    )
    with pytest.raises(ChatError, match=r"does not know the model 'm'.*It has: a, b"):
        model_of(Server(failure(404), models)).complete(ask())
    with pytest.raises(ChatError, match="does not say which models"):
        model_of(Server(failure(404), failure(404))).complete(ask())


@pytest.mark.parametrize("answer", [httpx2.Response(200, text="<html>Welcome</html>"), httpx2.Response(200, json={"ok": True})])
def test_something_that_is_no_such_server_is_called_that(model_of, answer):
    with pytest.raises(ChatError, match="ends in /v1"):
        model_of(Server(answer)).complete(ask())


def test_broken_json_is_a_chat_error(model_of):
    answer = httpx2.Response(200, content=b"{", headers={"content-type": "application/json"})
    with pytest.raises(ChatError, match="ends in /v1"):
        model_of(Server(answer)).complete(ask())


def refuses(name, message, **fields):
    """A server that refuses calls with a setting."""
    return Server(lambda body: failure(400, message, **fields) if name in body else chat_reply())


def test_newer_token_limit_is_used_where_the_old_one_is_refused(model_of):
    message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    server = refuses("max_tokens", message, code="unsupported_parameter", param="max_tokens")
    reply = model_of(server).complete(ask(max_tokens=9))
    assert server.bodies[1]["max_completion_tokens"] == 9 and "max_tokens" not in server.bodies[1]
    assert reply.note == "max_tokens was sent as max_completion_tokens"


@pytest.mark.parametrize(
    ("name", "message", "fields"),
    [
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0.3 with this model.",
            {"code": "unsupported_value", "param": "temperature"},
        ),
        ("seed", "Unexpected fields in the request: {'seed'}", {}),
        ("stop", "body.stop: Extra inputs are not permitted", {}),
        ("top_p", "`top_p` isn't supported", {}),
        ("temperature", "temperature is deprecated for this model", {}),
    ],
)
def test_setting_that_the_server_refuses_is_left_out_and_the_reply_says_so(model_of, name, message, fields):
    server = refuses(name, message, **fields)
    model = model_of(server)
    reply = model.complete(ask(temperature=0.3, top_p=0.9, seed=1, stop=("x",)))
    assert name in reply.note and "not support" in reply.note
    again = model.complete(ask(temperature=0.3, top_p=0.9, seed=1, stop=("x",), sample=1))
    assert again.note == reply.note and len(server.asked) == 3  # not refused a second time


def test_value_out_of_range_is_not_left_out(model_of):
    server = refuses("temperature", "Invalid 'temperature': decimal above maximum value.", param="temperature")
    with pytest.raises(ChatError, match="above maximum"):
        model_of(server).complete(ask(temperature=9.0))


@pytest.mark.parametrize("answer", [failure(400, f"bad {KEY}"), failure(500, f"Bearer {KEY}"), failure(401, KEY), failure(403, KEY)])
def test_key_is_in_no_error_text_and_no_traceback(model_of, key, answer):
    with pytest.raises(ChatError) as caught:
        model_of(Server(answer), attempts=2).complete(ask())
    shown = "".join(traceback.format_exception(caught.value))
    assert key not in shown
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_key_is_sent_and_neither_kept_nor_recorded(model_of, key):
    server, ledger = Server(chat_reply()), MemoryLedger()
    model = model_of(server)
    Recorded(model, ledger).complete(ask())
    assert server.asked[0].headers["authorization"] == f"Bearer {key}"
    assert key not in repr(ledger.entries) and key not in repr(vars(model)) and key not in repr(model)


def test_key_is_in_no_log(model_of, key, caplog):
    caplog.set_level(0)
    with pytest.raises(ChatError):
        model_of(Server(failure(500, key)), attempts=2).complete(ask())
    assert caplog.records and key not in caplog.text and key not in repr([vars(record) for record in caplog.records])


def test_local_server_needs_no_key_and_a_remote_one_does(model_of):
    model_of(Server(chat_reply())).check()
    server = Server(chat_reply())
    remote = model_of(server, base_url="https://api.example.com/v1", api_key_env="EXAMPLE_KEY")
    with pytest.raises(ConfigError, match="EXAMPLE_KEY"):
        remote.check()
    with pytest.raises(ChatError, match="EXAMPLE_KEY"):
        remote.complete(ask())
    assert not server.asked


def test_mangled_key_is_noticed_before_it_is_sent(model_of, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a\u2026b c")
    with pytest.raises(ChatError, match="characters that no key has") as caught:
        model_of(Server(chat_reply())).complete(ask())
    assert "sk-a" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "remote"),
    [
        (None, True),
        ("http://localhost:1/v1", False),
        ("http://[::1]:1/v1", False),
        ("http://127.8.0.1/v1", False),
        ("http://10.0.0.2/v1", True),
    ],
)
def test_only_a_loopback_address_is_not_remote(base_url, remote):
    assert OpenAICompatible("m", base_url=base_url).is_remote is remote


@pytest.mark.parametrize("base_url", ["localhost:8000", "http://", "https://user:pass@example.com/v1", "https://example.com/v1?key=abc"])
def test_address_that_cannot_be_one_or_holds_a_secret_is_refused(base_url):
    with pytest.raises(ConfigError):
        OpenAICompatible("m", base_url=base_url)


@pytest.mark.parametrize("name", ["n", "max_tokens", "model"])
def test_extra_settings_cannot_get_around_caps_and_records(model_of, name):
    server = Server(chat_reply())
    with pytest.raises(ChatError, match=name):
        model_of(server).complete(ask(extra={name: 5}))
    assert not server.asked


# -- attempts are written down before they go


WORST = worst_case_tokens(ask(max_tokens=100))


def counted(model, ledger, **caps):
    meter = Meter([(ledger, Caps(**caps))], model.price)
    return Recorded(Capped(model.counted(meter), meter, model), ledger)


PAID = {"price": Price(1.0, 10.0), "first_pause": 0.0}


def test_every_attempt_is_on_record_before_it_goes(model_of):
    ledger, seen = MemoryLedger(), []

    def watching(body):
        seen.append(ledger.spent().calls)
        return failure(500) if len(seen) < 3 else chat_reply()

    counted(model_of(Server(watching), **PAID), ledger).complete(ask(max_tokens=100))
    assert seen == [1, 2, 3]
    spent = Price(1.0, 10.0).usd(100, 20) + 2 * Price(1.0, 10.0).usd(*WORST)
    assert ledger.spent() == Totals(3, 100 + 2 * WORST[0], 20 + 2 * WORST[1], pytest.approx(spent), unanswered=2)
    assert ledger.totals().calls == 1


@pytest.mark.parametrize(
    ("answer", "spent"),
    [
        (failure(429), Totals(2, unanswered=2)),
        (failure(400), Totals(1, unanswered=1)),
        (httpx2.Response(307), Totals(1, unanswered=1)),
        (httpx2.ConnectError("refused"), Totals(2, unanswered=2)),
        (httpx2.ConnectTimeout("no"), Totals(2, unanswered=2)),
        (failure(408), Totals(2, 2 * WORST[0], 2 * WORST[1], 2 * Price(1.0, 10.0).usd(*WORST), unanswered=2)),
        (failure(500), Totals(2, 2 * WORST[0], 2 * WORST[1], 2 * Price(1.0, 10.0).usd(*WORST), unanswered=2)),
        (httpx2.ReadTimeout("slow"), Totals(2, 2 * WORST[0], 2 * WORST[1], 2 * Price(1.0, 10.0).usd(*WORST), unanswered=2)),
        (httpx2.ReadError("broke"), Totals(2, 2 * WORST[0], 2 * WORST[1], 2 * Price(1.0, 10.0).usd(*WORST), unanswered=2)),
        (httpx2.Response(200, text="no JSON"), Totals(1, *WORST, Price(1.0, 10.0).usd(*WORST), unanswered=1)),
    ],
)
def test_what_an_attempt_without_a_reply_took(model_of, answer, spent):
    ledger = MemoryLedger()
    with pytest.raises(ChatError):
        counted(model_of(Server(answer), attempts=2, **PAID), ledger).complete(ask(max_tokens=100))
    assert ledger.spent() == spent


def test_no_further_attempt_is_made_where_it_would_pass_a_cap(model_of):
    ledger, server = MemoryLedger(), Server(failure(500))
    with pytest.raises(BudgetError, match=r"cap of 3 calls is reached \(3 made, with 3 that failed counted at their most\)"):
        counted(model_of(server, attempts=9, **PAID), ledger, calls=3).complete(ask())
    assert len(server.asked) == 3


def test_a_setting_that_is_refused_costs_an_attempt(model_of):
    ledger, server = MemoryLedger(), refuses("seed", "seed is not supported")
    counted(model_of(server, **PAID), ledger).complete(ask(seed=1))
    assert ledger.spent() == ledger.totals() + Totals(1, unanswered=1) and len(server.asked) == 2


def test_without_a_key_nothing_is_written_down(model_of):
    ledger, remote = MemoryLedger(), model_of(Server(chat_reply()), base_url="https://api.example.com/v1")
    with pytest.raises(ChatError, match="No key"):
        counted(remote, ledger).complete(ask())
    assert ledger.spent() == Totals()
