"""A language model as the mentor: what it is sent, what becomes of a call that fails, and where the key is not."""

from __future__ import annotations

from io import StringIO

import pytest

import maao
from maao.errors import ConfigError
from tests.api.server import KEY, chat_server
from tests.api.small_runs import REPLIES, config, digests, examples, write_data

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


class Opening(maao.Watch):
    """Keeps what a person is told before a run."""

    def started(self, parts, asked, folder, done):
        self.disclosure = asked.disclosure


def run(llama, data, folder, server, watch=None, **changes):
    chat = {"provider": "openai", "name": "served", "base_url": server.base_url, "attempts": 1}
    return maao.run(config(llama, data, mentor__chat=chat, **changes), folder, watch=watch)


def answering(number):
    return 200, REPLIES[(number - 1) % 3]


def test_a_server_is_asked_and_its_usage_counted(llama, data, tmp_path):
    with chat_server(answering) as server:
        result = run(llama, data, tmp_path / "run", server)
    assert len(server.bodies) == 2
    assert result.cost.llm_calls == 2 and result.cost.input_tokens == 200 and result.cost.output_tokens == 20
    assert [p.text for p in result.history[1].advice.proposals] == ["music team bank", "the news of the world"]
    found = maao.replay(result.folder)  # the server is gone
    assert found.equal and found.llm_calls == 0


def test_a_server_in_completion_style_is_sent_a_listing_to_continue(llama, data, tmp_path):
    with chat_server(lambda number: (200, f" news {'ab'[number % 2]} team (loss 0.2)\nmore")) as server:
        result = run(llama, data, tmp_path / "run", server, mentor__style="completion")
    assert all("prompt" in body and "messages" not in body for body in server.bodies)
    assert [p.text for p in result.history[1].advice.proposals] == ["news b team", "news a team"]


def test_no_training_text_is_sent_unless_asked_for(llama, data, tmp_path):
    with chat_server(answering) as server:
        run(llama, data, tmp_path / "run", server)
    texts = {example.fields["text"] for split in ("train", "select", "test") for example in examples(split)}
    assert server.asked and not [text for text in texts if f'"{text}"' in server.asked or f'\\"{text}\\"' in server.asked]
    assert "misread" not in server.asked


def test_training_texts_are_shown_to_a_server_on_this_machine_where_asked_for(llama, data, tmp_path):
    opening = Opening()
    with chat_server(answering) as server:
        run(llama, data, tmp_path / "run", server, opening, mentor__shown={"examples": True})
    train = {example.fields["text"] for example in examples("train")}
    others = {example.fields["text"] for split in ("select", "test") for example in examples(split)}
    assert [text for text in train if f'\\"{text}\\"' in server.asked]
    assert not [text for text in others if f'\\"{text}\\"' in server.asked]
    assert "misread training examples" in opening.disclosure and "No training example is sent" not in opening.disclosure


def test_what_is_sent_where_is_said_before_a_run(llama, data, tmp_path):
    opening = Opening()
    with chat_server(answering) as server:
        run(llama, data, tmp_path / "run", server, opening)
    assert opening.disclosure.startswith(f"Mentor: served at {server.base_url} (this machine).")
    assert "this stays on this machine" in opening.disclosure
    assert opening.disclosure.endswith("No training example is sent.")
    maao.replay(tmp_path / "run", watch=opening)
    assert opening.disclosure == "Mentor: replies come from the record. No model is asked, nothing is sent anywhere."


def test_a_mentor_that_always_fails_costs_the_rounds_their_proposals_only(llama, data, tmp_path):
    with chat_server(lambda number: (500, "out of order")) as server:
        result = run(llama, data, tmp_path / "run", server)
    assert result.status == "finished" and len(result.history) == 5 and result.finals
    assert result.status_reason == "the mentor gave no reply 2 times"
    for r in result.history:
        if r.leg.ask:
            assert r.advice.proposals == () and r.verdict.chosen is None
            (rejected,) = r.advice.rejected
            assert rejected.kind == "failed_call" and "out of order" in rejected.reason
    asked = len(server.bodies)
    found = maao.replay(result.folder)
    assert found.equal and found.llm_calls == 0 and len(server.bodies) == asked


def test_a_mentor_that_fails_once_is_asked_again_in_the_next_round(llama, data, tmp_path):
    with chat_server(lambda number: (500, "busy") if number == 1 else answering(number)) as server:
        result = run(llama, data, tmp_path / "run", server)
    assert result.status_reason == "the mentor gave no reply once"
    asked = [r for r in result.history if r.leg.ask]
    assert [len(r.advice.proposals) for r in asked] == [0, 2]
    found = maao.replay(result.folder)
    assert found.equal and found.llm_calls == 0


def test_a_failure_midway_through_the_samples_of_a_round_is_replayed(llama, data, tmp_path):
    with chat_server(lambda number: (500, "busy") if number == 2 else (200, f" {'abcdefgh'[number]} team news")) as server:
        result = run(llama, data, tmp_path / "run", server, mentor__style="completion")
    assert [len(r.advice.proposals) for r in result.history if r.leg.ask] == [1, 2]
    assert maao.replay(result.folder).equal


def test_a_local_model_that_cannot_hold_a_conversation_costs_proposals_only(llama, data, tmp_path):
    result = maao.run(config(llama, data, mentor__chat={"provider": "local"}), tmp_path / "run")
    assert result.status == "finished"
    assert all("has no chat template" in r.advice.rejected[0].reason for r in result.history if r.leg.ask)
    assert maao.replay(result.folder).equal


def test_the_tuned_model_itself_can_be_the_mentor(llama, data, tmp_path):
    changes = {"mentor__chat": {"provider": "local"}, "mentor__style": "completion", "mentor__listing": 1, "mentor__max_tokens": 4}
    wording = tmp_path / "short.txt"
    wording.write_text("$texts\n$next", encoding="utf-8")
    result = maao.run(config(llama, data, mentor__wording=str(wording), **changes), tmp_path / "run")
    assert result.cost.llm_calls > 0
    assert maao.replay(result.folder).equal
    again = maao.run(config(llama, data, mentor__wording=str(wording), **changes), tmp_path / "again")
    assert digests(again) == digests(result)


def test_brackets_and_rubbish_in_a_reply_harm_nothing(llama, data, tmp_path):
    rubbish = "1. [red] music [bold]\n2. \u001b[31m team \U0001f3b5 \x00\n3. :smile: %s {slots} {text} $listing"
    with chat_server(lambda number: (200, rubbish)) as server:
        result = run(llama, data, tmp_path / "run", server, plan__proposals=3)
    assert result.status == "finished"
    assert maao.replay(result.folder).equal
    from rich.console import Console

    from maao.report.run import clues_lines, report

    screen = StringIO()
    console = Console(width=250, file=screen)
    console.print(report(result))
    console.print(*clues_lines(result))
    assert "[red] music [bold]" in screen.getvalue() and ":smile:" in screen.getvalue()
    assert "\x1b" not in screen.getvalue() and "\0" not in screen.getvalue()


# -- the key


def test_the_key_stands_nowhere_in_the_run_folder(llama, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with chat_server(lambda number: (401, f"bad key {KEY}") if number == 2 else answering(number)) as server:
        chat = {"provider": "openai", "name": "served", "base_url": server.base_url, "attempts": 1, "api_key_env": "MY_KEY"}
        result = maao.run(config(llama, data, mentor__chat=chat), tmp_path / "run")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"  # it was really used
    files = [path for path in result.folder.rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
    assert "MY_KEY" in (result.folder / "config.json").read_text(encoding="utf-8")
    assert KEY not in repr(result.history)


def test_an_address_that_holds_a_password_is_refused(llama, data, tmp_path):
    chat = {"provider": "openai", "name": "m", "base_url": f"http://me:{KEY}@127.0.0.1/v1"}
    with pytest.raises(ConfigError, match="A key belongs into") as error:
        maao.run(config(llama, data, mentor__chat=chat), tmp_path / "run")
    assert KEY not in str(error.value)
    assert not (tmp_path / "run").exists()
