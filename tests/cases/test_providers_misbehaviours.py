"""Misbehaviours of a provider, over a real socket: what came of each, what was told, what was stored, how many calls were made.

Every case is one run. Its first question meets the misbehaviour, then it is interrupted; the server mends its ways, the run is resumed,
finishes with a proposal of the mentor's, and is replayed without a call. No case may raise, or hang beyond its deadline.
"""

from __future__ import annotations

import gzip
import itertools
import json
import time
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib import import_module
from typing import Any

import pytest

import maao
from maao.config import make_config
from maao.llm.secrets import struck_from
from maao.store.database import Database
from maao.types import failed_calls
from tests.cases.provider_server import FORMS, MODELS, RESET, Echo, Play, always, chat, echoes, first, good, http, serving, settings

pytest.importorskip("httpx2")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

DEADLINE = 1.0  # seconds of an attempt, in cases that meet it
SLACK = 60.0  # for a busy machine: what is caught is hanging, not slowness

KEY = "sk-test-0d9f8a7b6c5e4f3a2b1c"
USED, EMPTY, FAILED = "a proposal", "a reply without a proposal", "no reply"


@dataclass(frozen=True)
class Case:
    """`told` stands in the reason (of what was not used) or in the note (of a reply that was); `calls` counts requests to the model."""

    play: Play
    outcome: str
    told: str = ""
    calls: int = 1
    chat: dict[str, Any] = field(default_factory=dict)
    mentor: dict[str, Any] = field(default_factory=dict)
    estimated: bool = False


def used(answer: object, told: str = "", **fields: Any) -> Case:
    return Case(always(answer if isinstance(answer, bytes) else http(answer)), USED, told, **fields)


def empty(answer: object, told: str, **fields: Any) -> Case:
    return Case(always(http(answer)), EMPTY, told, **fields)


def failed(answer: object, told: str, calls: int = 1, **fields: Any) -> Case:
    return Case(always(answer if isinstance(answer, bytes) else http(answer)), FAILED, told, calls, **fields)


def error(status: int, body: object, told: str, calls: int = 1, headers: dict[str, str] | None = None, **fields: Any) -> Case:
    return Case(always(http(body, status, headers)), FAILED, told, calls, **fields)


def estimated(usage: object) -> Case:
    return used(chat(usage=usage), "tokens are estimated", estimated=True)


def refuses(name: str, message: object, status: int = 400, **mentor: Any) -> Case:
    """A server that refuses calls with a setting, and is asked again without it."""
    told = "max_completion_tokens" if name == "max_tokens" else f"{name} was not sent"
    return Case(lambda body, n: [http(message, status)] if name in body else good(body, n), USED, told, calls=2, mentor=mentor)


def slow(*steps: Any) -> Case:
    return Case(always(*steps), FAILED, "within 1 seconds", chat={"timeout": DEADLINE, "attempts": 1})


def then_good(*steps: Any, told: str = "", **fields: Any) -> Case:
    return Case(first(*steps), USED, told, calls=2, **fields)


def message(text: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": text, **fields}}


TEXT = '1. "0.5 0.7"'
WHOLE = http(chat())
HEAD, _, BODY = WHOLE.partition(b"\r\n\r\n")
HEAD += b"\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
DRIP = [b" ", 0.05] * 100
LARGE = [b" " * 65536] * 200


def in_chunks(body: bytes) -> bytes:
    return b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (body[:9], body[9:])) + b"0\r\n\r\n"


def packed(body: bytes, how: str = "gzip") -> bytes:
    made = gzip.compress(body, 1) if how == "gzip" else zlib.compress(body, 1)
    return http(made, headers={"Content-Encoding": how})


CASES = {
    # content of many shapes
    "content-list": used(chat([{"type": "text", "text": '1. "0.5 '}, {"type": "text", "text": '0.7"'}])),
    "content-list-with-thoughts": used(
        chat([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": TEXT}])
    ),
    "content-list-of-texts": used(chat(['1. "0.5', ' 0.7"'])),
    "content-part-alone": used(chat({"type": "text", "text": TEXT})),
    "content-list-empty": empty(chat([]), "the reply is empty (finish reason: stop)"),
    "content-list-with-image": failed(chat([{"type": "image_url", "image_url": {}}]), "a part of the type 'image_url'"),
    "content-list-with-null": failed(chat([None]), "a list that holds null"),
    "content-number": failed(chat(7), "`content` is a number, where text was expected"),
    "content-true": failed(chat(True), "`content` is true or false"),
    "content-null": empty(chat(None), "the reply is empty (finish reason: stop)"),
    "content-null-no-reason": empty(chat(None, choice__finish_reason=None), "(finish reason: none given)"),
    "content-white": empty(chat(" \n\t "), "the reply is empty"),
    "content-absent": empty({"choices": [{"message": {"role": "assistant"}}]}, "the reply is empty", estimated=True),
    "thinking-cut": empty(
        chat(None, choice__finish_reason="length", message__reasoning_content="Let me"),
        "cut at 200 tokens while thinking: raise mentor.max_tokens",
    ),
    "thinking-cut-other-field": empty(chat("", choice__finish_reason="length", message__reasoning="Let me"), "while thinking"),
    "thinking-cut-counted": empty(
        chat(
            None,
            choice__finish_reason="length",
            usage={"prompt_tokens": 9, "completion_tokens": 200, "completion_tokens_details": {"reasoning_tokens": 200}},
        ),
        "while thinking",
    ),
    "cut-at-once": empty(chat("", choice__finish_reason="length"), "cut at 200 tokens before a word"),
    "thinking-only": empty(chat(None, message__reasoning_content="Let me"), "thought and said nothing"),
    "thinking-beside": used(chat(TEXT, message__reasoning_content="Let me think")),
    "refusal": empty(chat(None, message__refusal="I cannot help with that."), "the model refused: I cannot help with that."),
    "filtered": empty(chat(None, choice__finish_reason="content_filter"), "finish reason: content_filter"),
    "tool-call": empty(chat(None, message__tool_calls=[{"id": "1"}], choice__finish_reason="tool_calls"), "called a tool"),
    "message-null": failed(chat(choice__message=None), "`message` is null"),
    "message-text": failed(chat(choice__message="hi"), "`message` is a text"),
    "choices-null": failed(chat(choices=None), "`choices` is null"),
    "choices-empty": failed(chat(choices=[]), "`choices` is an empty list"),
    "choices-object": failed(chat(choices={"0": {}}), "`choices` is an object"),
    "choices-of-null": failed(chat(choices=[None]), "`choices` is a list"),
    "top-list": used([chat()]),
    "top-null": failed(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull", "its answer is null"),
    "top-text": failed(http(b'"hello"'), "its answer is a text"),
    "top-number": failed(http(b"3"), "its answer is a number"),
    "other-json": failed({"ok": True}, "ends in /v1"),
    "completion-text-null": empty(chat(None), "the reply is empty", mentor={"style": "completion", "max_samples": 1}),
    "completion-text-list": Case(always(http(chat([" 0.5 0.7"]))), USED, mentor={"style": "completion", "max_samples": 1}),
    "completion-message-only": used(
        {"choices": [{"message": {"content": " 0.5 0.7"}}]}, mentor={"style": "completion", "max_samples": 1}, estimated=True
    ),
    # names of any type
    "model-number": used(chat(model=7)),
    "model-null": used(chat(model=None)),
    "model-list": used(chat(model=["a"])),
    "finish-number": used(chat(choice__finish_reason=3)),
    "finish-object": used(chat(choice__finish_reason={"type": "stop"})),
    "finish-list": used(chat(choice__finish_reason=[1])),
    "finish-absent": used({"choices": [{"message": {"content": TEXT}}]}, estimated=True),
    # usage that is no count
    "usage-fractional": estimated({"prompt_tokens": 12.5, "completion_tokens": 3.25}),
    "usage-text": estimated({"prompt_tokens": "many", "completion_tokens": "few"}),
    "usage-negative": estimated({"prompt_tokens": -1000000, "completion_tokens": -5}),
    "usage-true": estimated({"prompt_tokens": True, "completion_tokens": True}),
    "usage-huge": estimated({"prompt_tokens": 10**30, "completion_tokens": 10**30}),
    "usage-null": estimated(None),
    "usage-list": estimated([1, 2]),
    "usage-nulls": estimated({"prompt_tokens": None, "completion_tokens": None}),
    "usage-zeros": estimated({"prompt_tokens": 0, "completion_tokens": 0}),
    "usage-nan": used(http(json.dumps(chat(usage={"prompt_tokens": float("nan"), "completion_tokens": 1}))), "estimated", estimated=True),
    "usage-whole-float": used(chat(usage={"prompt_tokens": 12.0, "completion_tokens": 3.0})),
    "usage-other-names": used(chat(usage={"input_tokens": 12, "output_tokens": 3})),
    # bytes that are no text, text that is no JSON
    "empty-body": failed(http(b""), "its answer is empty"),
    "no-content-204": failed(http(b"", 204), "its answer is empty"),
    "web-page": failed(
        http("<html><head><title>Welcome</title></head></html>", headers={"Content-Type": "text/html"}), "the web page 'Welcome'"
    ),
    "plain-text": failed(http("hello"), "no JSON: 'hello'"),
    "event-stream": failed(http("data: {}\n\n"), "no JSON: 'data: {}'"),
    "json-cut": failed(http(BODY[:40]), "no JSON"),
    "json-twice": failed(http(BODY + BODY), "no JSON"),
    "json-deep": failed(http(b"[" * 200_000), "nested too deeply"),
    "json-deep-object": failed(http(b'{"choices":' * 100_000), "nested too deeply"),
    "json-long-number": failed(http(b'{"choices": ' + b"9" * 5000 + b"}"), "no JSON"),
    "latin-1": failed(http(json.dumps(chat("1. “é”"), ensure_ascii=False).encode("cp1252")), "not text in UTF-8"),
    "utf-16": used(http(json.dumps(chat()).encode("utf-16"))),
    "byte-order-mark": used(http(b"\xef\xbb\xbf" + BODY)),
    "surrogate-alone": used(http(json.dumps(chat(TEXT + "\n\ud83d"))), "surrogates"),
    "surrogate-bytes": used(http(BODY.replace(b"0.7", b"0.7\xed\xa0\xbd")), "surrogates"),
    "nul-bytes": used(http(json.dumps(chat(TEXT + "\n\0")))),
    "nan-outside": used(http(json.dumps(chat(created=float("nan"))))),
    "escape-codes": used(http(json.dumps(chat(TEXT, model="\x1b[31mred")))),
    # on the wire
    "length-too-long": Case(always(HEAD.replace(b"Content-Length: ", b"Content-Length: 9") + BODY), FAILED, "broke off", calls=2),
    "length-too-short": failed(HEAD.replace(b"Content-Length: ", b"Content-Length: 0000000002\r\nX-Old: ") + BODY, "no JSON"),
    "length-garbage": failed(HEAD.replace(b"Content-Length: ", b"Content-Length: -7 x") + BODY, "broke off", calls=2),
    "no-length": used(ENDLESS + BODY),
    "chunked": used(CHUNKED + in_chunks(BODY)),
    "chunked-garbage": failed(CHUNKED + b"zz\r\n" + BODY, "broke off", calls=2),
    "chunked-cut": failed(CHUNKED + in_chunks(BODY)[:-20], "broke off", calls=2),
    "gzip": used(packed(BODY)),
    "deflate": used(packed(BODY, "deflate")),
    "gzip-garbage": failed(http(b"no gzip", headers={"Content-Encoding": "gzip"}), "failed"),
    "gzip-bomb": failed(packed(b" " * 2**28), "more than 4 MiB"),
    "encoding-unknown": used(http(BODY, headers={"Content-Encoding": "rot13"})),
    "no-http": failed(b"SSH-2.0-OpenSSH_9.9\r\n", "broke off", calls=2),
    "http-1.0": used(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "status-line-alone": failed(b"HTTP/1.1 200 OK\r\n", "broke off", calls=2),
    "early-close": Case(always(), FAILED, "broke off", calls=2),
    "reset": Case(always(RESET), FAILED, "broke off", calls=2),
    "reset-within": Case(always(WHOLE[:-20], 0.05, RESET), FAILED, "broke off", calls=2),
    "reset-once": then_good(RESET),
    "closed-once": then_good(),
    "header-huge": failed(http(BODY, headers={"X-Long": "a" * 300_000}), "broke off", calls=2),
    "continue-first": used(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE),
    "two-answers": used(WHOLE + WHOLE),
    "connection-close": used(http(BODY, headers={"Connection": "close"})),
    "says-keep-alive-and-closes": used(http(BODY, headers={"Connection": "keep-alive", "Keep-Alive": "timeout=5"})),
    "endless-body": Case(always(ENDLESS, *LARGE), FAILED, "more than 4 MiB"),
    "endless-error": Case(always(ENDLESS.replace(b"200 OK", b"500 X"), *LARGE), FAILED, "more than 4 MiB"),
    "silence": slow(5.0),
    "drip-of-spaces": slow(ENDLESS, *DRIP),
    "drip-of-headers": slow(b"HTTP/1.1 200 OK\r\n", *[b"X-A: b\r\n", 0.05] * 100),
    "drip-of-an-error": slow(ENDLESS.replace(b"200 OK", b"500 X"), *DRIP),
    "drip-of-chunks": slow(CHUNKED, *[b"1\r\n \r\n", 0.05] * 100),
    "stop-within": slow(WHOLE[:-20], 5.0),
    "slow-once": then_good(5.0, chat={"timeout": 2.0}),
    # redirections lead text elsewhere
    "redirect": error(307, b"", "redirects to http://127.0.0.1:9/v1", headers={"Location": "http://127.0.0.1:9/v1"}),
    "redirect-moved": error(301, b"", "mentor.chat.base_url", headers={"Location": "/elsewhere"}),
    "redirect-nowhere": error(302, b"", "an address that it does not name"),
    "not-modified": error(304, b"", "redirects"),
    # errors
    "error-object": error(400, message("your words"), "your words"),
    "error-list": error(400, [{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}], "API key not valid"),
    "error-text": error(400, {"error": "your words"}, "your words"),
    "error-message": error(400, {"object": "error", "message": "your words", "code": 40303}, "your words"),
    "error-detail": error(422, {"detail": [{"loc": ["body", "messages"], "msg": "too long"}]}, "body.messages: too long"),
    "error-detail-text": error(400, {"detail": "your words"}, "your words"),
    "error-errors": error(400, {"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
    "error-raw-beside": error(400, message("Provider returned error", metadata={"raw": "the true words"}), "the true words"),
    "error-plain": error(400, "your words", "your words"),
    "error-page": error(502, "<html><title>502 Bad Gateway</title></html>", "'502 Bad Gateway'", calls=2),
    "error-empty": error(400, b"", "its answer is empty"),
    "error-null": error(400, b"null", "Bad Request"),
    "error-number": error(400, b"7", "Bad Request"),
    "error-nested": error(400, {"error": {"error": {"error": "your words"}}}, "your words"),
    "error-deep": error(400, b"[" * 100_000, "nested too deeply"),
    "error-escape-codes": error(400, message("\x1b[31mred"), "[31mred"),
    "error-not-utf-8": error(400, b"\xff\xfe\xff", "not text in UTF-8"),
    "error-long": error(400, message("long " * 100_000), "..."),
    "error-in-200": failed({"error": {"message": "no such thing", "code": 400}}, "no such thing"),
    "error-in-200-limit": failed({"error": {"message": "Rate limit exceeded", "code": 429}}, "status 429: Rate limit exceeded", calls=2),
    "error-in-200-limit-name": failed({"error": {"message": "slow down", "type": "rate_limit_exceeded"}}, "status 429: slow down", calls=2),
    "error-in-200-list": failed([{"error": {"message": "overloaded", "code": 503}}], "status 503", calls=2),
    "error-in-200-choice": failed({"choices": [{"error": {"message": "upstream", "code": 502}}]}, "status 502: upstream", calls=2),
    "error-in-200-once": Case(first(http({"error": {"message": "busy", "code": 429}})), USED, calls=2),
    "error-in-200-object": failed({"object": "error", "message": "too long", "code": 40303}, "too long"),
    "error-in-200-text": failed({"error": "model is loading, unavailable"}, "status 503", calls=2),
    "unknown-status-999": error(599, b"", "status 599", calls=2),
    "status-401": error(401, message("bad key"), "does not accept the key"),
    "status-402": error(402, message("pay"), "no credit left: pay"),
    "status-403": error(403, message("not yours"), "not yours"),
    "status-404": error(404, message("no such model"), "no such model. It has: good-model"),
    "status-408": error(408, message("timeout"), "status 408", calls=2),
    "status-413": error(413, message("too large"), "too large"),
    "status-418": error(418, message("teapot"), "teapot"),
    "status-429": error(429, message("slow down"), "slow down", calls=2),
    "status-429-quota": error(429, message("out of money", code="insufficient_quota"), "no credit left"),
    "status-429-quota-type": error(429, message("out of money", type="insufficient_quota"), "no credit left"),
    "status-500": error(500, message("oops"), "oops", calls=2),
    "status-503-once": then_good(http(message("loading"), 503)),
    # pauses
    "wait-seconds": then_good(http(message("slow"), 429, {"Retry-After": "0.05"})),
    "wait-milliseconds": then_good(http(message("slow"), 429, {"retry-after-ms": "50"})),
    "wait-reset": then_good(http(message("slow"), 429, {"x-ratelimit-reset-requests": "50ms", "x-ratelimit-remaining-requests": "0"})),
    "wait-retry-delay": then_good(http(message("slow", details=[{"retryDelay": "0.05s"}]), 429)),
    "wait-too-long": error(429, message("slow"), "asks to wait 3600 seconds", headers={"Retry-After": "3600"}),
    "wait-too-long-reset": error(
        429, message("slow"), "a limit is open again in 90 seconds", calls=2, headers={"x-ratelimit-reset-requests": "1m30s"}
    ),
    "wait-too-long-date": error(429, message("slow"), "asks to wait", headers={"Retry-After": formatdate(time.time() + 7200, usegmt=True)}),
    "wait-too-long-inner": error(
        429,
        message("slow", metadata={"headers": {"X-RateLimit-Reset": str(int((time.time() + 79_000) * 1000))}}),
        "a limit is open again in 7",
        calls=2,
    ),
    "wait-past-date": then_good(http(message("slow"), 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})),
    "wait-negative": then_good(http(message("slow"), 429, {"Retry-After": "-5"})),
    "wait-garbage": then_good(http(message("slow"), 429, {"Retry-After": "soon", "x-ratelimit-reset": "?"})),
    "wait-nan": then_good(http(message("slow"), 429, {"Retry-After": "nan"})),
    "wait-infinite": error(429, message("slow"), "asks to wait inf", headers={"Retry-After": "inf"}),
    # settings that are refused
    "refuses-temperature": refuses("temperature", message("temperature is deprecated for this model")),
    "refuses-top-p": refuses("top_p", message("`temperature` and `top_p` cannot both be specified"), top_p=0.9),
    "refuses-seed": refuses("seed", {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, 422),
    "refuses-max-tokens": refuses("max_tokens", message("Unsupported parameter", param="max_tokens", code="unsupported_parameter")),
    "refuses-stop": Case(
        lambda body, n: [http(message("unknown field 'stop'"), 400)] if "stop" in body else [http(chat(" 0.5 0.7"))],
        USED,
        "stop was not sent",
        calls=2,
        mentor={"style": "completion", "max_samples": 1},
    ),
    "refuses-two": Case(
        lambda body, n: (
            [http(message("seed is not supported"), 400)]
            if "seed" in body
            else [http(message("temperature is deprecated"), 400)]
            if "temperature" in body
            else good(body, n)
        ),
        USED,
        "temperature was not sent",
        calls=3,
    ),
    "refuses-all": error(400, message("seed, temperature and all else unsupported"), "refuses the call", calls=3),
    "refuses-a-value": error(400, message("Invalid 'temperature': above maximum", param="temperature"), "above maximum"),
    # the key
    "key-in-reply": used(chat(f"{TEXT}\n{KEY}"), "the key stood in the reply", chat={"api_key_env": "CASES_KEY"}),
    "key-in-model": used(chat(model=KEY), "the key stood in the reply", chat={"api_key_env": "CASES_KEY"}),
    "key-in-finish": used(chat(choice__finish_reason=KEY), chat={"api_key_env": "CASES_KEY"}),
    "key-in-refusal": empty(chat(None, message__refusal=f"no {KEY}"), "the model refused: no ***", chat={"api_key_env": "CASES_KEY"}),
    "key-in-error": error(400, message(f"no {KEY}"), "no ***", chat={"api_key_env": "CASES_KEY"}),
    "key-in-page": error(500, f"<title>{KEY}</title>", "***", calls=2, chat={"api_key_env": "CASES_KEY"}),
    "key-in-redirect": error(
        307, b"", "redirects to", headers={"Location": f"http://127.0.0.1:9/?k={KEY}"}, chat={"api_key_env": "CASES_KEY"}
    ),
    "key-in-no-json": failed(http(KEY), "no JSON: '***'", chat={"api_key_env": "CASES_KEY"}),
    "key-in-names": failed(chat([{"type": KEY[:30]}]), "a part of the type '***'", chat={"api_key_env": "CASES_KEY"}),
}


ENDS = {"used": USED, "empty": EMPTY, "failed": FAILED}


def echoing(echo: Echo) -> Case:
    return Case(always(*echo.steps), ENDS[echo.outcome], calls=echo.calls, chat={"api_key_env": "CASES_KEY"})


CASES |= {  # in every place, in one form after the other
    f"repeats the key: {place}, {form}": echoing(echoes(KEY, FORMS[form])[place])
    for place, form in zip(echoes(KEY, FORMS["itself"]), itertools.cycle(FORMS), strict=False)
}


@pytest.fixture(scope="module")
def server():
    import_module("maao.optimizers.torch")  # what every run needs is loaded now, so that no case is charged for it
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("CASES_KEY", KEY)


class StopAfterAsking(maao.Watch):
    """Interrupts a run once the first round that asked is stored."""

    def round(self, finished):
        if finished.leg.ask:
            raise KeyboardInterrupt


def calls_of(folder):
    database = Database(folder, write=False)
    try:
        return [
            (json.loads(row["reply"]), row["input_tokens"], row["output_tokens"])
            for row in database.rows("SELECT * FROM calls ORDER BY id")
        ]
    finally:
        database.close()


def test_p_there_are_enough_misbehaviours():
    assert len(CASES) >= 80


@pytest.mark.parametrize("name", CASES)
def test_p_misbehaviour(server, tmp_path, name):
    case, folder = CASES[name], tmp_path / "run"
    server.begin(case.play, {"data": [{"id": KEY}, {"id": KEY[:20]}]} if "such model" in name else MODELS)
    config = make_config(settings(server, **{**case.mentor, "chat": {"attempts": 2, "longest_pause": 1.0, **case.chat}}))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        maao.run(config, folder, watch=StopAfterAsking())
    assert time.monotonic() - began < SLACK

    (asked,) = [r for r in maao.load(folder).history if r.leg.ask]
    reasons = " ".join(rejected.reason for rejected in asked.advice.rejected)
    stored = calls_of(folder)
    assert len(server.bodies) == case.calls, reasons
    assert len(stored) == (case.outcome != FAILED) == asked.advice.cost.llm_calls, reasons
    assert bool(asked.advice.proposals) == (case.outcome == USED), reasons
    assert bool(failed_calls((asked,))) == (case.outcome == FAILED), reasons
    if stored:
        reply, read, written = stored[0]
        assert isinstance(reply["text"], str) and isinstance(reply["model"], str) and isinstance(reply["finish_reason"], str)
        assert reply["usage"]["estimated"] == (case.estimated or "key: usage" in name) and read > 0 and written >= 0
        reasons += reply["note"]
    assert case.told in reasons
    for file in (path for path in folder.rglob("*") if path.is_file()):
        held = file.read_bytes().decode("latin-1")
        assert struck_from(held, KEY) == held, file

    server.begin(good)
    result = maao.resume(folder)
    assert result.status == "finished" and len(server.bodies) == 1
    assert result.history[-1].advice.proposals and not result.warning
    found = maao.replay(folder)
    assert found.equal and found.llm_calls == 0 and len(server.bodies) == 1
