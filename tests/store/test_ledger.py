"""The ledger of calls in a run's database."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from sample_runs import make_round, open_run, same

from maao.errors import BudgetError, StoreError
from maao.llm.budget import Caps
from maao.llm.chat import Message, Reply, Request, Usage
from maao.llm.ledger import Recorded, Replayed, Totals
from maao.llm.scripted import Scripted


def request(text="Improve this prompt.", **settings):
    return Request("gpt-test", (Message("system", "Be brief."), Message("user", text)), **settings)


REPLY = Reply(
    "1. a 雪 text\n2. \ud83d", Usage(120, 30, 0.0125), "gpt-test-2026-01", "length", date="2026-01-02T03:04:05+00:00", seconds=1.25
)  # fmt: skip


def test_a_recorded_reply_comes_back_whole(run, folder):
    assert run.ledger.get(request().key) is None
    run.ledger.put(request(), REPLY)
    assert same(run.ledger.get(request().key), REPLY)
    with open_run(folder) as reader:
        assert same(reader.ledger.get(request().key), REPLY)
        assert reader.ledger.get(request(sample=1).key) is None


def test_totals_add_up(run):
    assert run.ledger.totals() == Totals(0, 0, 0, 0.0)
    run.ledger.put(request(), REPLY)
    run.ledger.put(request(sample=1), REPLY)
    assert run.ledger.totals() == Totals(2, 240, 60, 0.025)


WORST = Totals(1, 100, 50, 0.5)


def test_an_attempt_is_counted_at_its_worst_until_its_reply_is_put(run, folder):
    number = run.ledger.begin(request().key, WORST, lambda spent: "")
    assert run.ledger.spent() == Totals(1, 100, 50, 0.5, unanswered=1) and run.ledger.totals() == Totals()
    run.ledger.replied(number, Totals(1, 120, 30, 0.0125))
    assert run.ledger.spent().usd == 0.5  # until it is put, with the reply
    run.ledger.put(request(), REPLY)
    assert run.ledger.spent() == run.ledger.totals() == Totals(1, 120, 30, 0.0125)


def test_attempts_without_a_reply_are_there_for_whoever_opens_the_run_again(run, folder):
    first, _ = (run.ledger.begin(request().key, WORST, lambda spent: "") for _ in range(2))
    run.ledger.end(first, Totals(calls=1))
    run.ledger.put(request(), REPLY)  # the second
    run.ledger.begin(request(sample=1).key, Totals(1, 1, 1, math.nan), lambda spent: "")
    run.close()
    with open_run(folder, write=True) as again:
        assert again.ledger.spent().calls == 3 and again.ledger.unanswered().unanswered == 2
        assert math.isnan(again.ledger.spent().usd) and again.ledger.spent().tokens == 152
        again.ledger.end(3, Totals())
        assert again.ledger.spent() == Totals(2, 120, 30, 0.0125, unanswered=1)


def test_an_attempt_that_is_refused_is_not_written(run):
    run.ledger.put(request(), REPLY)
    told = []
    with pytest.raises(BudgetError, match="too much"):
        run.ledger.begin(request().key, WORST, lambda spent: told.append(spent) or "too much")
    assert told == [Totals(1, 120, 30, 0.0125)] and run.ledger.unanswered() == Totals()


@pytest.mark.parametrize("usd", [math.nextafter(2**63 / 1e12, 0), 2**63 / 1e12, 1e300])
def test_a_price_beyond_all_reason_loses_no_reply_and_holds_the_cap(run, folder, usd):
    reply = replace(REPLY, usage=Usage(120, 30, usd))
    for sample in range(3):
        run.ledger.begin(request(sample=sample).key, Totals(1, 100, 50, usd), lambda spent: "")
    run.ledger.put(request(), reply)
    run.close()
    with open_run(folder, write=True) as again:
        assert same(again.ledger.get(request().key), reply)
        assert again.ledger.spent().usd == pytest.approx(3 * usd) and again.ledger.unanswered().usd == pytest.approx(2 * usd)
        assert bool(Caps(usd=1e15).refusal(again.ledger.spent(), WORST)) == (usd > 1e15)


def test_an_attempt_that_waits_is_found_until_it_has_a_reply(run):
    number = run.ledger.begin(request().key, WORST, lambda spent: "")
    assert run.ledger.waiting(request().key) is None
    run.ledger.waits(number)
    assert run.ledger.waiting(request().key) == number
    run.ledger.put(request(), REPLY)
    assert run.ledger.waiting(request().key) is None
    assert run.ledger.spent() == Totals(1, 120, 30, 0.0125)


def test_a_cost_that_is_not_known_is_put_twice_as_any_reply(run):
    unknown = replace(REPLY, usage=Usage(1, 2, math.nan))
    run.ledger.put(request(), unknown)
    run.ledger.put(request(), replace(unknown, usage=Usage(1, 2, float("nan"))))
    with pytest.raises(StoreError, match="another reply"):
        run.ledger.put(request(), replace(unknown, usage=Usage(1, 2, 0.0)))
    assert math.isnan(run.ledger.totals().usd)


def test_totals_are_those_of_calls_that_came_meanwhile_too(run):
    for i in range(3):
        run.ledger.put(request(sample=i), REPLY)
        assert run.ledger.totals() == Totals(i + 1, 120 * (i + 1), 30 * (i + 1), pytest.approx(0.0125 * (i + 1)))


def test_a_recorded_reply_is_never_replaced(run):
    run.ledger.put(request(), REPLY)
    run.ledger.put(request(), replace(REPLY, date="later", seconds=9.0))  # the same reply, as far as equality goes
    with pytest.raises(StoreError, match=r"already recorded in .* with another reply"):
        run.ledger.put(request(), Reply("another", Usage(1, 2, 0.5)))
    assert same(run.ledger.get(request().key), REPLY)
    assert run.ledger.totals().calls == 1


def test_the_ledger_records_for_a_model_and_replays_it(run, folder):
    Recorded(Scripted(["hello"]), run.ledger).complete(request())
    with open_run(folder) as reader:
        assert Replayed(reader.ledger, "gpt-test").complete(request()).text == "hello"


def test_calls_show_what_was_asked_and_answered(run):
    run.ledger.put(request(), REPLY)
    (call,) = run.ledger.calls()
    assert json.loads(call.request) == json.loads(request().canonical())
    assert json.loads(call.reply)["text"] == REPLY.text
    assert (call.key, call.model, call.date, call.seconds) == (request().key, "gpt-test-2026-01", REPLY.date, 1.25)
    assert (call.input_tokens, call.output_tokens, call.usd) == (120, 30, 0.0125)
    assert call.created.endswith("+00:00")


def test_credentials_in_a_request_are_not_stored(run, folder):
    secret = "sk-very-secret"
    asked = request(extra={"api_key": secret, "headers": [{"X-API-Key": secret, "max_tokens": 5}], "top_k": 4})
    run.ledger.put(asked, REPLY)
    (call,) = run.ledger.calls()
    assert json.loads(call.request)["extra"] == {
        "api_key": "(not stored)", "headers": [{"X-API-Key": "(not stored)", "max_tokens": 5}], "top_k": 4,
    }  # fmt: skip
    assert run.ledger.get(asked.key) == REPLY
    assert not any(secret.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_call_is_on_the_disk_when_put_returns(run, folder):
    run.close()
    code = """
import os, signal, sys
from sample_runs import open_run
from maao.llm.chat import Message, Reply, Request
run = open_run(sys.argv[1], write=True)
run.ledger.put(Request("m", (Message("user", "hi"),)), Reply("hello"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", code, str(folder)], env=env).returncode == -signal.SIGKILL
    with open_run(folder) as reader:
        assert reader.ledger.get(Request("m", (Message("user", "hi"),)).key) == Reply("hello")


def test_a_reader_cannot_put(run, folder):
    with open_run(folder) as reader, pytest.raises(StoreError, match="opened for reading"):
        reader.ledger.put(request(), REPLY)


def test_threads_take_turns(run):
    run.append(make_round(0))
    failed = []

    def work(worker):
        try:
            for sample in range(5):
                run.ledger.put(request(seed=worker, sample=sample), REPLY)
                assert len(run.history()) == 1
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert run.ledger.totals().calls == 20


def test_a_cost_that_is_not_known_stays_unknown(run):
    run.ledger.put(request(), Reply("hi", Usage(1, 1, float("nan"))))
    assert str(run.ledger.totals().usd) == "nan"
    assert str(run.ledger.calls()[0].usd) == "nan"
