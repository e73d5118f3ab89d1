"""Replies that come as a file: a run stops to wait, goes on to the same end, and asks nothing twice."""

from __future__ import annotations

import json

import pytest

import maao
from maao.config import MENTOR
from maao.errors import StoreError, Waiting
from maao.llm.batch import Batch
from maao.llm.batch_lines import Told, custom_id
from maao.llm.chat import Message, Reply, Request, Usage
from maao.llm.record import add_to_record, read_record
from maao.llm.scripted import Scripted
from maao.mentors.language_model import complete_all
from maao.runner import folder_for
from maao.store.run import RunFolder
from maao.types import Advice, Proposal
from maao.waiting import import_replies, open_requests, recorded
from tests.api.small_runs import REPLIES, config, digests, pairs, write_data

# The scripted model's name and price, so that both are sent the same requests, at the same cost.
BATCH = {"provider": "batch", "name": "scripted", "usd_per_million_input": 0.0, "usd_per_million_output": 0.0}
ASKED = {"mentor__style": "completion", "mentor__max_samples": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def answers(requests):
    """Return what the scripted model says, as lines that a person would write."""
    model = Scripted(REPLIES)
    usage = {"input_tokens": 30, "output_tokens": 5}
    lines = [{"custom_id": custom_id(r.key), "text": model.complete(r).text, **usage} for r in requests]
    return [(f"line {n}", json.dumps(line)) for n, line in enumerate(lines, start=1)]


class Counted(Scripted):
    """The scripted model, with the usage that `answers` tells."""

    def complete(self, request):
        return Reply(super().complete(request).text, Usage(30, 5), self.name)


@pytest.fixture(scope="module")
def whole(llama, data, tmp_path_factory):
    """The run of a model that answers at once, in chat and in completion style."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maao.llm.scripted.ScriptedOptions.build", lambda self, here: Counted(REPLIES))
        return {style: maao.run(config(llama, data, **asked), folder / style) for style, asked in (("chat", {}), ("completion", ASKED))}


def waits(call, *arguments, **named):
    with pytest.raises(Waiting) as stop:
        call(*arguments, **named)
    return stop.value


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_a_run_that_waits_goes_on_to_the_end_of_one_that_was_answered_at_once(llama, data, tmp_path, whole, style):
    folder, asked = tmp_path / "run", {} if style == "chat" else ASKED
    stop = waits(maao.run, config(llama, data, mentor__chat=BATCH, **asked), folder)
    seen, stops = [], 1
    while True:
        now = [one.request for one in open_requests(folder).values() if one.runs == 1]
        assert len(now) == stop.count and maao.load(folder).status == "waiting"
        seen += [request.key for request in now]
        assert len(import_replies(folder, answers(now), Told(who="a friend", how="by hand")).entries) == len(now)
        try:
            result = maao.resume(folder)
            break
        except Waiting as again:
            stop, stops = again, stops + 1
    assert digests(result) == digests(whole[style]) and result.status == "finished"
    assert len(seen) == len(set(seen)) == result.cost.llm_calls == whole[style].cost.llm_calls
    assert stops == 2 if style == "chat" else stops < len(seen)  # continuations that are needed anyway are open together
    assert maao.replay(folder).equal and not open_requests(folder)
    assert {entry.reply.who for entry in recorded(folder)[0]} == {"a friend"}


def test_the_stop_says_what_is_open_and_how_to_go_on(llama, data, tmp_path):
    folder = tmp_path / "run"
    stop = waits(maao.run, config(llama, data, mentor__chat=BATCH), folder)
    assert stop.count == 1 and str(stop).startswith(f"{folder} waits for 1 reply. Go on with:")
    assert f"maao requests export {folder} --to requests.jsonl" in str(stop) and f"maao resume {folder}" in str(stop)
    again = waits(maao.resume, folder)  # nothing was answered: it stands as it did
    assert str(again) == str(stop) and len(open_requests(folder)) == 1
    assert maao.load(folder).status_reason == "it waits for 1 reply (maao requests)"


def test_the_same_call_goes_on_and_another_config_is_refused(llama, data, tmp_path, whole):
    checked = config(llama, data, mentor__chat=BATCH)
    folder = tmp_path / "mine-seed0"
    waits(maao.run, checked, folder)
    with folder_for(None, tmp_path, "mine-seed0", checked) as place:
        assert place == folder
    with folder_for(None, tmp_path, "mine-seed0", config(llama, data, mentor__chat=BATCH, stage__lr=0.5)) as place:
        assert place == tmp_path / "mine-seed0-2"
    with pytest.raises(StoreError, match="already holds a run"):
        maao.run(config(llama, data, mentor__chat=BATCH, stage__lr=0.5), folder)
    for _ in range(2):
        import_replies(folder, answers([one.request for one in open_requests(folder).values()]))
        try:
            result = maao.run(checked, folder)
        except Waiting:
            continue
    assert digests(result) == digests(whole["chat"])
    with pytest.raises(StoreError, match="already holds a run"):  # it is finished: nothing waits
        maao.run(checked, folder)


def test_a_record_is_replayed_by_anyone_without_a_call(llama, data, tmp_path, whole):
    entries, others = recorded(whole["chat"].folder)
    record = tmp_path / "strong.jsonl"
    assert add_to_record(record, entries) == len(entries) == 2 and not others
    result = maao.run(config(llama, data, mentor__chat={**BATCH, "replies": str(record)}), tmp_path / "run")
    assert digests(result) == digests(whole["chat"]) and not open_requests(tmp_path / "run")
    lines = record.read_text().splitlines()
    assert lines == sorted(lines) and add_to_record(record, entries) == 0
    assert [json.loads(line)["who"] for line in lines] == ["scripted"] * 2
    assert list(read_record(record).values()) == sorted(entries, key=lambda entry: entry.request.key)


def test_a_record_that_holds_a_part_leaves_the_rest_open(llama, data, tmp_path, whole):
    entries, _ = recorded(whole["chat"].folder)
    record = tmp_path / "strong.jsonl"
    add_to_record(record, entries[:1])
    waits(maao.run, config(llama, data, mentor__chat={**BATCH, "replies": str(record)}), tmp_path / "run")
    assert list(open_requests(tmp_path / "run")) == [entries[1].request.key]
    add_to_record(record, entries)  # whatever brings the reply into the record
    assert not open_requests(tmp_path / "run")
    assert digests(maao.resume(tmp_path / "run")) == digests(whole["chat"])


def test_a_kill_once_a_request_is_stored_leaves_a_run_that_goes_on(llama, data, tmp_path, whole, monkeypatch):
    class Killed(BaseException):
        """Stands for a kill: nothing after it is run (what reaches the disk is killed for real in `tests/store`)."""

    set_status = RunFolder.set_status

    def killed(folder, status, reason=""):
        if status == "waiting":
            raise Killed
        set_status(folder, status, reason)

    checked, folder = config(llama, data, mentor__chat=BATCH), tmp_path / "run-seed0"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "set_status", killed)
        with pytest.raises(Killed):
            maao.run(checked, folder)
    assert maao.load(folder).status == "interrupted" and len(open_requests(folder)) == 1
    (before,) = open_requests(folder)
    with folder_for(None, tmp_path, "run-seed0", checked) as place:
        assert place == folder
    waits(maao.run, checked, folder)
    assert list(open_requests(folder)) == [before]
    for _ in range(2):
        import_replies(folder, answers([one.request for one in open_requests(folder).values()]))
        try:
            assert digests(maao.run(checked, folder)) == digests(whole["chat"])
        except Waiting:
            continue


def test_examples_at_hand_and_the_same_call_go_on_and_others_do_not(llama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "model": str(llama),
        "train": pairs("train"),
        "select": pairs("select"),
        "mentor": {"chat": BATCH, "retries": 0},
        "rounds": 1,
        "steps": 2,
    }
    settings = {"threads": 1, "model.num_virtual_tokens": 4}
    waits(maao.tune, **given, settings=settings)
    (request,) = [one.request for one in open_requests(tmp_path / "runs" / "tune-seed0").values()]
    waits(maao.tune, **{**given, "train": pairs("train")[:-1]}, settings=settings)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tune-seed0", "tune-seed0-2"]
    import_replies(tmp_path / "runs" / "tune-seed0", answers([request]))
    result = maao.tune(**given, settings=settings)
    assert result.folder.name == "tune-seed0" and result.status == "finished" and result.cost.llm_calls == 1


def test_a_cap_holds_over_requests_that_are_open_together(llama, data, tmp_path, monkeypatch):
    """As with a model that answers at once: one call is made, the next is not, and the run goes on without it."""
    capped = {**ASKED, "budget__llm_calls": 1}
    waits(maao.run, config(llama, data, mentor__chat=BATCH, **capped), tmp_path / "run")
    (request,) = [one.request for one in open_requests(tmp_path / "run").values()]
    import_replies(tmp_path / "run", answers([request]))
    result = maao.resume(tmp_path / "run")
    monkeypatch.setattr("maao.llm.scripted.ScriptedOptions.build", lambda self, here: Counted(REPLIES))
    assert digests(result) == digests(maao.run(config(llama, data, **capped), tmp_path / "live"))
    assert result.cost.llm_calls == 1 and "the budget kept the mentor from being asked" in result.status_reason


def test_a_mentor_of_ones_own_waits_as_any_other(llama, data, tmp_path):
    """It says nowhere in the config that it asks by file."""

    class Adviser:
        def __init__(self, run):
            self.model, self.codec = run.record(Batch("someone", None)), run.codec

        def propose(self, history, *, count, seed):
            requests = [Request("someone", (Message("user", f"{len(history)} rounds are done"),), sample=i) for i in range(2)]
            texts = [reply.text for reply, _ in complete_all(self.model, requests) if reply is not None]
            return Advice(tuple(Proposal(text, self.codec.encode(text).params) for text in texts))

    values = config(llama, data, plan__rounds=1).model_copy(update={"mentor": MENTOR.chosen()})
    stop = waits(maao.run, values, tmp_path / "run", mentor=Adviser)
    assert stop.count == 2
    import_replies(tmp_path / "run", answers([one.request for one in open_requests(tmp_path / "run").values()]))
    result = maao.run(values, tmp_path / "run", mentor=Adviser)
    assert result.status == "finished" and sum(len(r.advice.proposals) for r in result.history) == 2
    assert maao.replay(tmp_path / "run", mentor=Adviser).llm_calls == 0
