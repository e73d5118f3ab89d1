import json
import math
import os
import subprocess
import sys

import pytest

from maao.llm.chat import Message, Reply, Request, Usage, reply_from_json, reply_to_json, sampling_seed, what_is_wrong

REQUEST = Request(
    model="m",
    messages=(Message("system", "Be brief."), Message("user", "Fünf Äpfel — 日本語?")),
    max_tokens=32,
    temperature=0.7,
    stop=("\n",),
    seed=3,
    sample=2,
    extra={"top_k": 5, "min_p": 0.1},
)
GOLDEN = "c1:e68cb3e8ec839b062070316c59052ba97b6cd512eaac7cea2b3fe5328a553c8a"


def test_key_of_a_request_is_the_golden_one():
    assert REQUEST.key == GOLDEN


def test_key_is_the_same_in_another_process_with_another_hash_seed():
    code = "import sys; from maao.llm.chat import Message, Request; print(eval(sys.stdin.buffer.read().decode()).key)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], input=repr(REQUEST).encode(), capture_output=True, env=environment, check=True)
    assert done.stdout.decode().strip() == GOLDEN


def test_order_of_extra_settings_does_not_change_the_key():
    turned = Request(**{**{f: getattr(REQUEST, f) for f in Request.__slots__}, "extra": {"min_p": 0.1, "top_k": 5}})
    assert turned.key == GOLDEN


def test_reply_survives_json():
    reply = Reply("héllo", Usage(3, 4, 0.01, True), "m-2026", "length", note="seed was not sent", date="2026-01-01", seconds=1.5)
    assert reply_from_json(reply_to_json(reply)) == reply


def test_reply_stored_before_notes_existed_can_be_read():
    old = json.loads(reply_to_json(Reply("a")))
    del old["note"]
    assert reply_from_json(json.dumps(old)) == Reply("a")


def test_sampling_seed_differs_between_samples_and_is_absent_without_a_seed():
    seeds = {sampling_seed(Request("m", (), seed=5, sample=k)) for k in range(20)}
    assert len(seeds) == 20 and all(0 <= s < 2**31 for s in seeds)
    assert sampling_seed(Request("m", ())) is None


def test_a_schema_is_part_of_the_key_only_where_there_is_one():
    with_schema = Request(**{**{f: getattr(REQUEST, f) for f in Request.__slots__}, "schema": {"type": "object"}})
    assert '"schema"' not in REQUEST.canonical() and with_schema.key != GOLDEN


@pytest.mark.parametrize(("usd", "is_amount"), [(1e300, True), (math.nan, True), (math.inf, False), (10**400, False), (-1.0, False)])
def test_a_cost_that_no_float_holds_is_no_amount(usd, is_amount):
    assert (what_is_wrong(Reply("hi", Usage(1, 1, usd))) == "") == is_amount
