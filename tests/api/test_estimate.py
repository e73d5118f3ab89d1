"""What may cost money is told before it begins, asked at a terminal, and not begun unasked where there is neither an answer nor a cap."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

import maao
from maao.build import RunComponents, build
from maao.compare.estimate import _caps, _paid, of_cells
from maao.compare.table import cells, read_table
from maao.config import Config, make_config
from maao.console import Terminal, agree
from maao.errors import ConfigError
from maao.estimate import Estimate, estimated
from maao.llm.budget import Caps, worst_case_tokens
from maao.llm.chat import Message, Request
from maao.runner import BeforePaying
from tests.api.server import ChatServer, chat_server
from tests.commands import exit_code

PRICE = {"usd_per_million_input": 100.0, "usd_per_million_output": 1000.0}
AT = "https://api.example.com/v1"


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take servers on this machine for others."""
    monkeypatch.setattr("maao.llm.openai_compatible._is_loopback", lambda host: False)


def values(price: dict[str, float] = PRICE, base_url: str = AT, **changes: object) -> dict[str, object]:
    chat = {"provider": "openai", "name": "gpt-x", "base_url": base_url, "api_key_env": "", "attempts": 3, **price}
    mentor = {"name": "language_model", "retries": 1, "max_tokens": 50, "chat": chat}
    return {"problem": "function", "plan": {"rounds": 3, "steps": 1, "first": "walk"}, "mentor": mentor, **changes}


def test_an_estimate_counts_what_the_mentor_asks_at_the_beginning() -> None:
    parts = build(make_config(values()))
    found = estimated(parts)
    asks = sum(leg.ask for leg in parts.plan)
    assert found is not None and asks == 3
    assert (found.askings, found.calls, found.tries, found.written) == (3, 6, 3, 6 * 50)
    assert found.who == ("gpt-x at https://api.example.com/v1",)
    assert found.most_usd == pytest.approx((100 * _most_read(parts) + 1000 * 300) / 1e6)
    assert found.read == 3 * math.ceil(_most_read(parts) / 3 / 4) and found.usd < found.most_usd
    left = estimated(parts, done=len(parts.plan) - 1)
    assert left is not None and left.calls == 2
    assert estimated(parts, done=len(parts.plan)) is None


def _most_read(parts: object) -> int:
    """Return what all askings read at most, from requests that a server really got."""
    from maao.estimate import _asked

    requests = _asked(parts, next(leg for leg in parts.plan if leg.ask))  # type: ignore[attr-defined, arg-type]
    assert len(requests) == 2 and all(isinstance(request, Request) and request.max_tokens == 50 for request in requests)
    return 3 * sum(worst_case_tokens(request)[0] for request in requests)


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_the_first_prompt_that_is_sent_is_the_one_that_was_counted(tmp_path: Path) -> None:
    with chat_server(lambda number: (200, "nothing of use")) as server:
        config = make_config(values(base_url=server.base_url, plan={"rounds": 1, "steps": 1, "first": "ask"}))
        found = estimated(build(config))
        maao.run(config, tmp_path / "run")
    sent = [Request("gpt-x", tuple(Message(**message) for message in body["messages"]), max_tokens=50) for body in server.bodies]
    assert found is not None and found.calls is not None and len(sent) <= found.calls
    assert worst_case_tokens(sent[0])[0] <= found.read * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"mentor": {"name": "none"}},
        {"mentor": {"name": "language_model", "chat": {"provider": "scripted", "replies": ["- 1 1"]}}},
        {"mentor": {"name": "language_model", "chat": {"provider": "batch", "name": "gpt-4o-mini"}}},
    ],
    ids=["nobody", "here", "by file"],
)
def test_what_costs_nothing_now_is_not_estimated(changes: dict[str, object]) -> None:
    assert estimated(build(make_config({**values(), **changes}))) is None


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    found = estimated(build(make_config(values(price={}))))
    assert found is not None and math.isnan(found.usd) and not found.is_free
    assert "what that costs is not known" in found.told("This run", Caps()) and "There is no cap on it" in found.told("This run", Caps())
    nothing = Estimate(("m",), 2, None, 1, 0, 0, 0.1, 0.1)
    assert "how many calls these take, and what they cost, is not known before" in nothing.told("This run", Caps(calls=5))
    assert (nothing + found).calls is None and nothing.times(3).askings == 6


def test_a_model_without_a_price_is_free() -> None:
    found = estimated(build(make_config(values(price=dict.fromkeys(PRICE, 0.0)))))
    assert found is not None and found.is_free


TOLD = "This run asks gpt-x"


@pytest.mark.parametrize(("answer", "begins"), [("y", True), ("YES", True), ("", False), ("n", False), ("nyet", False)])
def test_a_person_is_asked_at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str, begins: bool) -> None:
    console = Console(force_terminal=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr(console, "input", lambda prompt, markup: asked.append(prompt) or answer)
    if begins:
        agree(console, TOLD, Caps(), yes=False)
    else:
        with pytest.raises(ConfigError, match="Nothing was begun"):
            agree(console, TOLD, Caps(calls=1), yes=False)
    assert asked == ["Go on? [y/N] "]


def test_without_a_terminal_it_goes_on_by_yes_or_by_a_cap(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=200)
    with pytest.raises(ConfigError, match="no terminal to ask at"):
        agree(console, TOLD, Caps(), yes=False)
    agree(console, TOLD, Caps(), yes=True)
    agree(console, TOLD, Caps(usd=1.0), yes=False)
    assert capsys.readouterr().out.count(TOLD) == 3


def test_the_terminal_is_asked_and_a_plain_watch_is_not() -> None:
    assert isinstance(Terminal(Console()), BeforePaying) and not isinstance(maao.Watch(), BeforePaying)


def write(server: ChatServer, file: Path, cap: str = "") -> Path:
    file.write_text(
        f"""problem = "function"
plan = {{rounds = 1, steps = 1}}
{cap}
[mentor]
max_tokens = 50
[mentor.chat]
provider = "openai"
name = "gpt-x"
base_url = "{server.base_url}"
api_key_env = ""
usd_per_million_input = 100.0
usd_per_million_output = 1000.0
"""
    )
    return file


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_commands_tell_before_they_ask_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with chat_server(lambda number: (200, "- 0.5 0.5")) as server:
        file = write(server, tmp_path / "config.toml")
        assert exit_code(monkeypatch, "tune", file, "--run", tmp_path / "run") == 1
        told = capsys.readouterr()
        assert "Give --yes, or cap what may be spent" in told.err and "This run asks gpt-x" in " ".join(told.out.split())
        assert not server.bodies and not (tmp_path / "run").exists()
        assert exit_code(monkeypatch, "tune", file, "--run", tmp_path / "run", "--yes") == 0
        assert server.bodies
        capped = write(server, tmp_path / "capped.toml", "budget = {usd = 1.0}")
        assert exit_code(monkeypatch, "tune", capped, "--run", tmp_path / "capped") == 0
        assert "Caps: $1." in " ".join(capsys.readouterr().out.split())


TABLE = """
seeds = [0, 1]
[base]
problem = "function"
"plan.rounds" = 2
"plan.steps" = 1
"mentor.max_tokens" = 50
"mentor.chat.provider" = "openai"
"mentor.chat.name" = "gpt-x"
"mentor.chat.base_url" = "https://api.example.com/v1"
"mentor.chat.api_key_env" = ""
"mentor.chat.usd_per_million_input" = 100.0
"mentor.chat.usd_per_million_output" = 1000.0
[tasks.a]
"function.name" = "rastrigin"
[tasks.b]
"function.name" = "ackley"
[[arms]]
name = "asks"
settings = { "budget.llm_calls" = 7 }
[[arms]]
name = "nobody"
settings = { "mentor.name" = "none" }
"""


def test_cells_that_are_still_to_run_are_estimated_together(tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text(TABLE)
    table = read_table(file)
    paid = _paid(table, tmp_path, tmp_path / "out", "")
    assert [cell.key for cell in paid] == [("asks", "", task, seed) for seed in (0, 1) for task in ("a", "b")]
    one = estimated(build(next(cells(table, tmp_path)).config))
    total = of_cells(paid)
    assert one is not None and total is not None and one.calls is not None
    assert (total.askings, total.calls, total.written) == (4 * one.askings, 4 * one.calls, 4 * one.written)
    assert total.most_usd == pytest.approx(4 * one.most_usd, rel=0.05)
    assert _caps(table, paid) == Caps(calls=28, whose="the comparison's")
    (tmp_path / "out" / "rows").mkdir(parents=True)
    (tmp_path / "out" / "rows" / f"{paid[0].name}.json").touch()
    assert len(_paid(table, tmp_path, tmp_path / "out", "")) == 3
    assert len(_paid(table, tmp_path, tmp_path / "out", "_b_")) == 2


def test_what_cells_ask_that_cannot_be_built_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.toml").write_text(TABLE)
    paid = _paid(read_table(tmp_path / "table.toml"), tmp_path, tmp_path / "out", "")

    def build_some(config: Config) -> RunComponents:
        if config.function.name == "ackley":
            raise ConfigError("It needs more memory.")
        return build(config)

    monkeypatch.setattr("maao.compare.estimate.build", build_some)
    total = of_cells(paid)
    assert total is not None and total.calls is None and not total.is_free and math.isnan(total.usd)
    lacks = f"Not all of it can be estimated: {paid[1].name} cannot be built (It needs more memory). "
    assert lacks in total.told("this", Caps()) and "is not known before" in total.told("this", Caps())
    assert Estimate.from_json(json.loads(json.dumps(total.to_json()))).unbuilt == total.unbuilt
