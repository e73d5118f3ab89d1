"""The ledger of calls in a run's database."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from sample_runs import make_round, open_run, same

from maao.errors import StoreError
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
