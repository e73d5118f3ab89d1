"""`maao requests`, as it is typed: what waits goes out as a file, and what was answered comes in."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from maao.config import make_config
from maao.llm.chat import Message, Request
from maao.store.run import RunFolder
from tests.api.small_runs import values, write_config, write_data
from tests.commands import ran

BATCH = {"provider": "batch", "name": "a strong model"}
REPLY = "1. music team bank\n2. the news of the world"


@pytest.fixture
def maao(capsys, monkeypatch, tmp_path):
    """Return the function that runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return partial(ran, monkeypatch, capsys)


@pytest.fixture(scope="module")
def settings(llama, tmp_path_factory):
    return values(llama, write_data(tmp_path_factory.mktemp("data")), mentor__chat=BATCH)


@pytest.fixture
def config(settings, tmp_path):
    return write_config(tmp_path, settings)


def written(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def batch_output(request: dict, text: str) -> str:
    """Return a line as OpenAI's batches give it back."""
    message = {"role": "assistant", "content": text, "refusal": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "strong-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49},
    }
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": None})


def test_tune_export_import_and_the_same_command_again_to_the_end(maao, config, tmp_path):
    for stop in (1, 2):
        done = maao("tune", config)
        assert done.code == 4 and "waits for 1 reply. Go on with:" in done.err and "Traceback" not in done.told()
        assert "maao requests export runs/config-seed0 --to requests.jsonl" in done.err
        assert ("going on after 1 stored rounds" in done.out) == (stop == 2)
        assert [path.name for path in Path("runs").iterdir()] == ["config-seed0"]
        done = maao("requests", "export", "runs/config-seed0", "--to", "requests.jsonl", "--model", "strong-2026", "--leave-out", "seed")
        assert done.code == 0 and "1 request to strong-2026: requests.jsonl (at most " in done.out
        (request,) = written(tmp_path / "requests.jsonl")
        assert (request["method"], request["url"]) == ("POST", "/v1/chat/completions") and set(request) == {
            "custom_id",
            "method",
            "url",
            "body",
        }
        assert set(request["body"]) == {"model", "max_tokens", "temperature", "messages"} and request["body"]["model"] == "strong-2026"
        Path("replies.jsonl").write_text(batch_output(request, f"{REPLY}\n3. number {stop}") + "\n", encoding="utf-8")
        done = maao("requests", "import", "runs/config-seed0", "replies.jsonl", "--how", "a batch")
        assert done.code == 0 and "1 reply taken; 0 replies still waited for." in done.out
    done = maao("resume", "runs/config-seed0")
    assert done.code == 0 and "(finished;" in done.out
    calls = maao("show", "runs/config-seed0", "--calls").out
    assert calls.count("answered by strong-2026, a batch") == 2 and "40 tokens in, 9 out," in calls and "2026-01-01T00:00:00+00:00" in calls
    assert maao("runs").out.count("finished") == 1
    assert maao("replay", "runs/config-seed0").code == 0


def test_requests_are_answered_by_hand_as_texts_in_a_folder(maao, config, tmp_path):
    assert maao("tune", config, "--run", "mine").code == 4
    listed = maao("requests", "list", "mine")
    assert "a strong model, sample 0, at most 200 tokens, for 1 run" in listed.out and "1 open request: at most " in listed.out
    done = maao("requests", "export", "mine", "--to", "asked")
    (asked,) = Path("asked").iterdir()
    assert done.code == 0 and asked.name.startswith("c1-") and asked.read_text() in maao("requests", "list", "mine", "--full").out
    Path("answered").mkdir()
    (Path("answered") / asked.name).write_text(REPLY, encoding="utf-8")
    (Path("answered") / "notes.txt").write_text("about something else", encoding="utf-8")
    done = maao("requests", "import", "mine", "answered", "--who", "a person", "--when", "2026-02-03", "--into", "record.jsonl")
    assert done.code == 3 and "1 reply taken; 0 replies still waited for." in done.out
    assert done.err == "Not taken: notes.txt: nothing that is open here has the id 'notes'.\n"
    (line,) = written(tmp_path / "record.jsonl")
    assert (line["who"], line["when"], line["how"]) == ("a person", "2026-02-03T00:00:00+00:00", "")
    assert line["reply"]["text"] == REPLY and line["reply"]["estimated"] and line["reply"]["usd"] is None
    assert maao("requests", "import", "mine", "answered").out == "0 replies taken, 1 known already; 0 replies still waited for.\n"
    assert maao("requests", "export", "mine", "--to", "more.jsonl").out == "Nothing is open in mine.\n"


def test_what_runs_recorded_becomes_a_record_that_another_run_replays(maao, config, settings, tmp_path):
    chat = {"provider": "scripted", "name": "a strong model", "replies": [REPLY]}
    (tmp_path / "live").mkdir()
    live = write_config(tmp_path / "live", {**settings, "mentor": {**settings["mentor"], "chat": chat}})
    told = maao("tune", live, "--run", "live-run")
    assert told.code == 0
    done = maao("requests", "record", "live-run", "--to", "strong.jsonl", "--how", "scripted")
    assert done.out == "2 replies added to strong.jsonl, of 2.\n"
    again = maao("tune", config, "--run", "again", "--set", "mentor.chat.replies=strong.jsonl")
    assert again.code == 0 and "by file (maao requests); replies on record" in again.out.replace("\n", " ").replace("│", "")
    digest = [line for line in told.out.splitlines() if line.startswith("Final parameters")]
    assert digest == [line for line in again.out.splitlines() if line.startswith("Final parameters")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("requests", "list", "."), "neither a run folder (run.sqlite) nor the folder of a comparison (rows/)"),
        (("requests", "import", ".", "nothing.jsonl"), "Cannot read nothing.jsonl: No such file or directory."),
        (("requests", "import", ".", "nothing.jsonl", "--when", "soon"), "--when 'soon' is no date as 2026-01-31T12:00:00+00:00."),
        (("requests", "export", ".", "--to", "a.jsonl", "--leave-out", "top_k"), "--leave-out top_k: there is no such setting."),
        (("requests", "record", ".", "--to", "a.txt"), "A record is a .jsonl file; got a.txt."),
    ],
)
def test_what_cannot_be_done_is_told(maao, arguments, told):
    done = maao(*arguments)
    assert done.code == 1 and told in done.err and done.err.count("\n") == 1


def waiting_run(folder, chat, *requests):
    """Make a run that waits for replies to these requests."""
    settings = {"problem": "function", "mentor": {"name": "opro", "exemplars": 0, "chat": {"provider": "batch", **chat}}}
    values = make_config(settings).model_dump(mode="json")
    with RunFolder.create(folder, config=values, environment={}, serializer=NoTensors()) as run:
        for request in requests:
            run.ledger.wait_for(request)
        run.set_status("waiting")


class NoTensors:
    """The serializer of a run without rounds."""


def asked(model, text, **named):
    return Request(model, (Message("user", text),), max_tokens=100, **named)


def test_what_cells_ask_of_several_models_goes_to_each_and_comes_into_the_record_of_each(maao, tmp_path):
    table = tmp_path / "out"
    (table / "rows").mkdir(parents=True)
    (tmp_path / "small").mkdir()
    price = {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}
    strong = {"name": "strong/1", "replies": str(tmp_path / "strong.jsonl"), **price}
    one, two, three = asked("strong/1", "one"), asked("strong/1", "two"), asked("small", "one", style="completion")
    waiting_run(table / "runs" / "a", strong, one, two)
    waiting_run(table / "runs" / "b", strong, one)
    waiting_run(table / "runs" / "c", {"name": "small", "replies": str(tmp_path / "small")}, three)
    waiting_run(table / "runs" / "d", {"name": "small"}, three)
    refused = maao("requests", "export", table, "--to", "all.jsonl", "--model", "x")
    assert refused.code == 1 and "--model x would put what is asked of several models (small, strong/1) to one" in refused.err
    done = maao("requests", "export", table, "--to", "all.jsonl")
    tokens = 2 * (3 + 8 + 48 + 8)  # bytes, what no text is without, and a chat's template
    assert f"2 requests to strong/1: all-strong-1-chat.jsonl (at most {tokens} tokens read and 200 written, $0.0005)" in done.out
    assert (
        "1 request to small: all-small-completion.jsonl (at most 11 tokens read and 100 written, at a price that is not known" in done.out
    )
    lines = [line for name in ("strong-1-chat", "small-completion") for line in written(tmp_path / f"all-{name}.jsonl")]
    assert [line["url"] for line in lines] == ["/v1/chat/completions"] * 2 + ["/v1/completions"]
    used = {"input_tokens": 10, "output_tokens": 5}
    replies = [{"custom_id": line["custom_id"], "text": f"reply {i}", **used} for i, line in enumerate(lines)]
    Path("replies.jsonl").write_text("\n".join(map(json.dumps, replies)), encoding="utf-8")
    assert "3 replies taken; 0 replies still waited for." in maao("requests", "import", table, "replies.jsonl").out
    found = {str(path.relative_to(tmp_path)): written(path) for path in tmp_path.rglob("*.jsonl") if not path.name.startswith("all-")}
    texts = {name: [line["reply"]["text"] for line in lines] for name, lines in found.items() if name != "replies.jsonl"}
    assert {name: sorted(held) for name, held in texts.items()} == {
        "strong.jsonl": ["reply 0", "reply 1"],
        "small/small.jsonl": ["reply 2"],
        "out/replies.jsonl": ["reply 2"],  # of the cell that names no record: the comparison's own
    }
    again = maao("requests", "import", table, "replies.jsonl")
    assert again.out == "0 replies taken, 3 known already; 0 replies still waited for.\n"
    assert [line["reply"]["usd"] for line in found["strong.jsonl"]] == [20e-6, 20e-6]  # by the price of the config
    assert [line["reply"]["usd"] for line in found["small/small.jsonl"]] == [None]


def test_replies_with_a_price_go_into_the_record_that_is_named_too(maao, tmp_path):
    """It may be the very one that the cells read."""
    table, strong = tmp_path / "out", tmp_path / "strong.jsonl"
    (table / "rows").mkdir(parents=True)
    chat = {"name": "strong/1", "replies": str(strong), "usd_per_million_input": 1.0, "usd_per_million_output": 2.0}
    request = asked("strong/1", "one")
    waiting_run(table / "runs" / "a", chat, request)
    reply = {"custom_id": request.key, "text": "a reply", "input_tokens": 10, "output_tokens": 5}
    Path("replies.jsonl").write_text(json.dumps(reply), encoding="utf-8")
    done = maao("requests", "import", table, "replies.jsonl", "--into", strong)
    assert done.code == 0 and "1 reply taken" in done.out
    assert [line["reply"]["usd"] for line in written(strong)] == [20e-6]
