"""Replies that come as a file: the provider, records, and the reading of replies."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from maao.core.budget import Budget
from maao.errors import BudgetError, ChatError, ConfigError, StoreError, Waiting
from maao.llm.batch import Batch, BatchOptions
from maao.llm.batch_lines import Told, batch_line, custom_id, read_replies
from maao.llm.chat import Message, Reply, Request, Usage, reply_from_json, reply_to_json, request_from_json
from maao.llm.ledger import MemoryLedger, Recorded, WithExtra
from maao.llm.price import Price
from maao.llm.provider import Here
from maao.llm.record import Entry, add_to_record, entry_of, line_of, read_record
from maao.llm.recording import Recording
from maao.mentors.language_model import complete_all
from tests.llm.asking import ask

HERE = Here("tuned", lambda name: pytest.fail("nothing is loaded"))
WHEN = "2026-01-31T12:00:00+00:00"
TOLD = Told("a friend", WHEN, "by hand")


def entry(text="hi", reply="hello", **named):
    return Entry(ask(text), Reply(reply, Usage(3, 1, 0.5), "m-1", date=WHEN, who="a friend", how="by hand", **named))


# -- the provider


def test_what_is_on_record_is_answered_and_the_rest_is_noted_before_it_waits(tmp_path):
    add_to_record(tmp_path / "record.jsonl", [entry()])
    ledger = MemoryLedger()
    model = Recorded(Batch("m", tmp_path / "record.jsonl"), ledger)
    reply = model.complete(ask())
    assert (reply.text, reply.usage, reply.who, reply.date, reply.how) == ("hello", Usage(3, 1, 0.5), "a friend", WHEN, "by hand")
    for _ in range(2):
        with pytest.raises(Waiting, match="A reply of 'm' is waited for"):
            model.complete(ask("ho"))
    assert ledger.awaited() == (ask("ho"),) and ledger.totals().calls == 1
    add_to_record(tmp_path / "record.jsonl", [entry("ho", "well")])  # it is read as it stands when it is asked
    assert model.complete(ask("ho")).text == "well" and ledger.awaited() == ()


def test_waiting_is_no_failed_call():
    assert not issubclass(Waiting, ChatError)


def test_requests_with_a_secret_among_their_fields_do_not_wait():
    ledger = MemoryLedger()
    with pytest.raises(StoreError, match="holds 'api_key' among its further fields"):
        WithExtra(Recorded(Batch("m", None), ledger), {"api_key": "sk-very-secret"}).complete(ask())
    assert ledger.awaited() == ()


def test_all_that_is_needed_is_open_together_and_a_model_that_answers_is_asked_as_its_replies_are_taken():
    ledger = MemoryLedger()
    ledger.put(ask("one"), Reply("1"))
    waiting = complete_all(Recorded(Batch("m", None), ledger), [ask("one"), ask("two"), ask("three")])
    assert next(waiting)[0] == Reply("1")
    with pytest.raises(Waiting, match=r"^2 replies of 'm' are waited for\.$") as stop:
        next(waiting)
    assert stop.value.count == 2 and ledger.awaited() == (ask("two"), ask("three"))
    asked = []

    class Live:
        name, is_remote, price = "m", True, None

        def complete(self, request):
            asked.append(request.text)
            return Reply(request.text)

        def close(self): ...

    replies = complete_all(Live(), [ask("one"), ask("two")])
    assert next(replies)[0] == Reply("one") and asked == ["one"]


def test_what_is_open_counts_at_its_worst_for_caps():
    ledger = MemoryLedger()
    model = Recording(ledger, HERE, Budget(llm_calls=2)).record(Batch("m", None))
    with pytest.raises(Waiting) as stop:
        list(complete_all(model, [ask("one"), ask("two"), ask("three")]))
    assert stop.value.count == 2 and ledger.awaited() == (ask("one"), ask("two"))
    with pytest.raises(BudgetError, match="the cap of 2 calls is reached"):
        model.complete(ask("three"))


@pytest.mark.parametrize(
    ("settings", "price"),
    [
        ({}, Price(1.0, 4.0)),  # half of the list price
        ({"discount": 0.25}, Price(1.5, 6.0)),
        ({"usd_per_million_input": 3.0, "usd_per_million_output": 5.0}, Price(3.0, 5.0)),
    ],
)
def test_a_batch_costs_half_or_what_is_said(monkeypatch, settings, price):
    monkeypatch.setattr("maao.llm.batch.known_price", lambda name, url: Price(2.0, 8.0))
    assert BatchOptions(name="m", **settings).build(HERE).price == price


def test_what_a_record_does_not_say_of_money_is_computed_or_nothing(monkeypatch, tmp_path):
    record = tmp_path / "record.jsonl"
    add_to_record(record, [Entry(ask(), Reply("hello", Usage(1_000_000, 500_000, math.nan), "m"))])
    assert json.loads(record.read_text())["reply"]["usd"] is None
    assert Batch("m", record, price=Price(2.0, 8.0)).complete(ask()).usage.usd == 6.0
    assert math.isnan(Batch("m", record).complete(ask()).usage.usd)


def test_settings_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"needs mentor\.chat\.name"):
        BatchOptions().build(HERE)
    for wrong in (tmp_path / "record.csv", tmp_path / "nowhere" / "record.jsonl"):
        with pytest.raises(ConfigError, match=r"mentor\.chat\.replies is a \.jsonl file in a folder that exists"):
            BatchOptions(name="m", replies=str(wrong)).build(HERE)
    with pytest.raises(ConfigError, match="Set both"):
        BatchOptions(name="m", usd_per_million_input=1.0).build(HERE)
    with pytest.raises(ConfigError, match=r"mentor\.chat\.extra holds 'api_key'"):
        BatchOptions(name="m", extra={"api_key": "x"}).build(HERE)
    with pytest.raises(ValidationError, match="the price is given: drop it"):
        BatchOptions(name="m", usd_per_million_input=1.0, usd_per_million_output=1.0, discount=0.1)
    assert BatchOptions(name="m", replies=str(tmp_path)).build(HERE).replies == tmp_path  # a folder of records
    assert BatchOptions(name="m").is_remote and not BatchOptions(name="m", remote=False).is_remote


# -- records


def test_a_line_of_a_record_says_all_and_comes_back(tmp_path):
    request = Request("m", (Message("user", "Grüße\n雪"),), stop=("end",), sample=2, extra={"top_k": 5}, schema={"type": "object"})
    one = Entry(request, Reply("ja \ud83d", Usage(3, 1, 0.25, estimated=True), "m-1", "length", "a note", date=WHEN, who="w", how="h"))
    line = json.loads(line_of(one))
    assert list(line) == ["key", "sample", "request", "reply", "who", "when", "how"]
    assert (line["key"], line["sample"], line["who"], line["when"], line["how"]) == (request.key, 2, "w", WHEN, "h")
    assert line["request"] == json.loads(request.canonical())
    assert line["reply"] == {
        "text": "ja \ud83d", "model": "m-1", "finish_reason": "length", "input_tokens": 3, "output_tokens": 1, "estimated": True,
        "usd": 0.25, "note": "a note",
    }  # fmt: skip
    file = tmp_path / "record.jsonl"
    add_to_record(file, [one, entry()])
    assert read_record(file) == {one.request.key: one, ask().key: entry()}
    back = read_record(file)[request.key].reply
    assert (back.who, back.date, back.how) == ("w", WHEN, "h")
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == sorted([request.key, ask().key])


def changed(**parts):
    line = json.loads(line_of(entry()))
    for path, value in parts.items():
        node, *inner = path.split("__")
        if inner:
            line[node][inner[0]] = value
        else:
            line[node] = value
    return json.dumps(line)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", "Expecting value"),
        ("[]", "input should be a valid dictionary"),
        (changed(key="c1:0"), "its key 'c1:0' is not that of its request, c1:"),
        (changed(request__temperature=0.5), "is not that of its request"),
        (changed(request__model="another"), "is not that of its request"),
        (changed(request={"model": "m"}), "it holds no request"),
        (changed(sample=1), "its sample is 1, and its request's 0"),
        (changed(reply__text=3), "reply.text: input should be a valid string"),
        (changed(reply__input_tokens=-1), "its usage is no count of tokens"),
        (changed(reply__usd=-0.5), "its cost is -0.5, no amount"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_place(tmp_path, line, told):
    file = tmp_path / "record.jsonl"
    file.write_text(f"{line_of(entry('ho'))}\n\n{line}\n")
    with pytest.raises(StoreError) as error:
        read_record(file)
    assert str(error.value).startswith(f"{file}, line 3: ") and told in str(error.value)


def test_a_recorded_reply_is_never_replaced(tmp_path):
    file = tmp_path / "records" / "one.jsonl"
    assert add_to_record(file, [entry()]) == 1 and add_to_record(file, [entry(), entry("ho")]) == 1
    before = file.read_bytes()
    with pytest.raises(StoreError, match="already holds another reply to the request c1:"):
        add_to_record(file, [entry("third"), entry(reply="another")])
    assert file.read_bytes() == before
    add_to_record(file.with_name("two.jsonl"), [entry("third")])
    assert len(read_record(file.parent)) == 3 and read_record(tmp_path / "none.jsonl") == {}
    file.with_name("three.jsonl").write_text(line_of(entry(reply="another")))
    with pytest.raises(StoreError, match=r"answers the request c1:.* otherwise than another file"):
        read_record(file.parent)


def test_a_key_is_written_nowhere(tmp_path, monkeypatch):
    secret = "sk-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    for one in (entry(secret), entry(reply=f"it is {secret}")):
        with pytest.raises(StoreError, match=r"holds the key of \$OPENAI_API_KEY"):
            add_to_record(tmp_path / "record.jsonl", [one])
    assert not (tmp_path / "record.jsonl").exists()
    with pytest.raises(StoreError, match=r"holds the key of \$OPENAI_API_KEY"):
        batch_line(ask(secret))
    (read,) = read_replies([("line 1", plain(ask(), f"it is {secret}"))], [ask()]).entries
    assert read.reply.text == "it is ***" and read.reply.note.endswith("the key stood in the reply and was struck out")


def test_who_and_how_are_kept_with_a_reply_and_change_no_other():
    reply = Reply("hi", who="a friend", how="by hand")
    assert reply_from_json(reply_to_json(reply)).who == "a friend" and reply == Reply("hi")
    assert "who" not in json.loads(reply_to_json(Reply("hi")))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": "m"}', ask().canonical()[:-1] + ',"more":1}'])
def test_what_is_no_request_is_refused(text):
    with pytest.raises(ValueError, match="it holds no"):
        request_from_json(text)


# -- lines of the batch format


def test_a_request_as_a_line():
    request = Request(
        "m", (Message("system", "Be brief."), Message("user", "hi")), max_tokens=9, temperature=0.5, stop=("x",), extra={"k": 1}
    )
    body = {"model": "m", "max_tokens": 9, "temperature": 0.5, "stop": ["x"], "k": 1}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    named = custom_id(request.key)
    assert named == f"c1-{request.key[3:64]}" and len(named) == 64
    assert json.loads(batch_line(request)) == {
        "custom_id": named, "method": "POST", "url": "/v1/chat/completions", "body": {**body, "messages": messages},
    }  # fmt: skip
    line = json.loads(batch_line(request, model="m-1", leave_out=("stop", "temperature"), renamed=("max_tokens",)))
    assert line["body"] == {"model": "m-1", "max_completion_tokens": 9, "k": 1, "messages": messages}
    line = json.loads(batch_line(ask(style="completion", max_tokens=5)))
    assert line["url"] == "/v1/completions" and line["body"] == {"model": "m", "max_tokens": 5, "temperature": 1.0, "prompt": "hi"}


def plain(request, text, **more):
    return json.dumps({"custom_id": custom_id(request.key), "text": text, **more})


def answered(request, content, status=200, error=None, **body):
    held = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "model": "m-1", **body}
    return json.dumps({"id": "b", "custom_id": custom_id(request.key), "response": {"status_code": status, "body": held}, "error": error})


def test_a_reply_of_a_batch_is_read_as_one_of_a_server():
    line = answered(ask(), [{"type": "text", "text": "hello"}], created=1767225600, usage={"prompt_tokens": 7, "completion_tokens": 2})
    (read,) = read_replies([("line 1", line)], [ask()], told=Told(how="a batch")).entries
    assert (
        read.request == ask() and read.reply.text == "hello" and (read.reply.usage.input_tokens, read.reply.usage.output_tokens) == (7, 2)
    )
    assert math.isnan(read.reply.usage.usd) and not read.reply.usage.estimated
    assert (read.reply.who, read.reply.date, read.reply.how) == ("m-1", "2026-01-01T00:00:00+00:00", "a batch")


def test_a_plain_reply_says_of_itself_what_it_says_and_the_rest_is_told():
    own = plain(ask(), "hello", who="someone", when="2026-02-03", how="aloud", model="m-2", input_tokens=4, output_tokens=1)
    (read,) = read_replies([("line 1", own)], [ask()], told=TOLD).entries
    assert (read.reply.who, read.reply.date, read.reply.how, read.reply.model) == ("someone", "2026-02-03T00:00:00+00:00", "aloud", "m-2")
    assert (read.reply.usage.input_tokens, read.reply.usage.output_tokens, read.reply.usage.estimated) == (4, 1, False)
    (read,) = read_replies([("line 1", json.dumps({"key": ask().key, "text": "hello"}))], [ask()], told=TOLD).entries
    assert (read.reply.who, read.reply.date, read.reply.how, read.reply.model) == ("a friend", WHEN, "by hand", "m")
    assert read.reply.usage.estimated and read.reply.note == "tokens are estimated"
    assert (read.reply.usage.input_tokens, read.reply.usage.output_tokens) == (2 + 8, 5 + 8)  # a token a byte, and a few
    (read,) = read_replies([("line 1", plain(ask(style="completion"), " on"))], [ask(style="completion")], told=TOLD).entries
    assert read.reply.text == " on"
    (read,) = read_replies([("line 1", line_of(entry()))], [ask()]).entries  # of a record
    assert read == entry() and read.reply.who == "a friend"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "it is no JSON"),
        ("[1]", "it is no JSON object but '[1]'"),
        ("[" * 100_000, "it is"),
        ("{}", 'it names no request: "custom_id" is missing'),
        ('{"custom_id": 3, "text": "a"}', "it names no request"),
        (plain(ask("else"), "a"), "nothing that is open here has the id 'c1-"),
        (plain(ask(), 3), "its text is no text"),
        (plain(ask(), "a", who=3), "its who is no text"),
        (plain(ask(), "a", when="soon"), "'soon' is no date as"),
        (plain(ask(), " \n"), "it has no text: the reply is empty"),
        (json.dumps({"custom_id": custom_id(ask().key)}), 'it holds no reply: "text" or "response" is missing'),
        (answered(ask(), "a", status="200"), "its status is '200', no number"),
        (answered(ask(), "", status=429, error=None), "it failed with status 429"),
        (answered(ask(), None), "it has no text: the reply is empty"),
        (
            json.dumps({"custom_id": custom_id(ask().key), "response": None, "error": {"code": "batch_expired", "message": "too late"}}),
            "it failed with status 500: too late",
        ),
        (json.dumps({"custom_id": custom_id(ask().key), "response": {"status_code": 200, "body": None}}), "it failed with status 200"),
        (line_of(entry()).replace('"sample": 0', '"sample": 1', 1), "its sample is 1"),
    ],
)
def test_a_line_that_cannot_be_taken_is_told_and_costs_no_other(line, told):
    read = read_replies([("line 1", line), ("line 2", plain(ask("ho"), "well"))], [ask(), ask("ho")])
    assert [one.reply.text for one in read.entries] == ["well"]
    (wrong,) = read.wrong
    assert wrong.startswith("line 1: ") and told in wrong


def test_what_is_said_twice_is_taken_once_and_what_is_said_differently_not_at_all():
    one, two = ask("one"), ask("two")
    lines = [plain(one, "a"), plain(two, "b"), plain(one, "a"), plain(two, "c"), plain(two, "b")]
    read = read_replies([(f"line {i}", line) for i, line in enumerate(lines, 1)], [one, two])
    assert [entry.reply.text for entry in read.entries] == ["a"] and read.repeated == 2
    assert read.wrong == ("line 4: it answers the request of line 2 by another text: neither is taken",)
    again = read_replies([("line 1", plain(one, "a")), ("line 2", plain(one, "z"))], [two], read.entries)
    assert not again.entries and again.repeated == 1
    assert again.wrong == ("line 2: the request is answered already, by another text: a recorded reply is never replaced",)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["custom_id", "key", "text", "response", "status_code", "body", "choices", "message", "content", "error", "usage", "created",
         "request", "reply", "when", "who"]) | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(["text", "response", "error", "usage", "when", "who", "model", "request", "reply"]), values)
lines = st.one_of(
    st.text(max_size=40),
    values.map(json.dumps),
    objects.map(lambda held: json.dumps({**held, "custom_id": custom_id(ask().key)})),
    st.text(max_size=30).map(lambda text: plain(ask(), text)),
    st.text(max_size=30).map(lambda text: answered(ask("ho"), text)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(lines, max_size=6))
def test_whatever_stands_in_a_file_each_line_is_taken_or_told(held):
    awaited = [ask(), ask("ho")]
    read = read_replies([(f"line {i}", line) for i, line in enumerate(held, 1)], awaited, told=TOLD)
    asked = sum(bool(line.strip()) for line in held)
    left = sum("neither is taken" in wrong for wrong in read.wrong)
    assert 0 <= asked - len(read.entries) - len(read.wrong) - read.repeated <= left  # the first of two that differ is in no count
    keys = [entry.request.key for entry in read.entries]
    assert len(keys) == len(set(keys)) and set(keys) <= {request.key for request in awaited}
    for one in read.entries:
        assert (one.reply.text.strip() and entry_of(line_of(one)) == Entry(one.request, one.reply)) or math.isnan(one.reply.usage.usd)
    assert read_replies([("line 1", line_of(one)) for one in read.entries], awaited).wrong == ()
