"""Where the price of a model is not known, that is said wherever an amount would stand: before, during and after, in words and in JSON."""

from __future__ import annotations

import json
import math
import re

import pytest

import maao
from maao.build import build
from maao.compare import read_out, read_table
from maao.compare.page import mean_cost
from maao.compare.rows import Row
from maao.compare.workers import work
from maao.config import make_config
from maao.runner import _before_paying
from maao.watching import Standing
from tests.api.small_runs import to_toml
from tests.cases.provider_server import good, serving, settings
from tests.commands import ran

pytest.importorskip("httpx2")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

UNKNOWN = "at a price that is not known"
PRICED = {"usd_per_million_input": 1000.0, "usd_per_million_output": 1000.0}  # of 110 tokens a call: 11 cents


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


def about(usd):
    return None if usd is None else pytest.approx(usd)


def words(told):
    return re.sub(r"\s+", " ", told)


@pytest.mark.parametrize(("price", "told", "usd"), [({}, UNKNOWN, None), (PRICED, "$0.2200", 0.22)], ids=["unknown", "known"])
def test_during_a_run_and_after_it(server, tmp_path, monkeypatch, capsys, price, told, usd):
    server.begin(good)
    config = tmp_path / "config.toml"
    config.write_text(to_toml(settings(server, chat=price)))
    tuned = words(ran(monkeypatch, capsys, "tune", config, "--run", tmp_path / "run").out)
    each = told if usd is None else "$0.1100"
    assert tuned.count(f"1 call, 100 tokens in, 10 out, {each}") == 2  # a line for each time that it was asked
    assert f"2 mentor calls (200 tokens in, 20 out, {told})" in tuned

    assert f"2 mentor calls (200 tokens in, 20 out, {told})" in words(ran(monkeypatch, capsys, "show", tmp_path / "run").out)
    calls = words(ran(monkeypatch, capsys, "show", tmp_path / "run", "--calls").out)
    assert calls.count(f"100 tokens in, 10 out, finish reason: stop; {each}") == 2
    shown = json.loads(ran(monkeypatch, capsys, "show", tmp_path / "run", "--calls", "--json").out)
    assert shown["cost"]["usd"] == about(usd) and [call["usd"] is None for call in shown["calls"]] == [usd is None] * 2
    assert f"2 mentor calls (200 tokens in, 20 out, {told})" in words(ran(monkeypatch, capsys, "watch", tmp_path / "run").out)
    assert ran(monkeypatch, capsys, "report", tmp_path / "run", "--to", tmp_path / "page.html").code == 0
    assert told in (tmp_path / "page.html").read_text()


def test_while_a_run_is_watched():
    told = Standing(5, done=2, calls=2, usd=math.nan, since=10.0).told(13.0)
    assert told == f"round 3 of 5, for 3 s; the mentor was called 2 times, {UNKNOWN}"
    assert "called once, $0.5000" in Standing(5, done=2, calls=1, usd=0.5, since=10.0).told(13.0)


def test_before_a_run(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")

    class Told(maao.Watch):
        def paying(self, estimate, caps):
            self.told = estimate.told("This run", caps)

    watch, values = Told(), settings(server, chat={"base_url": "https://models.example.com/v1", "name": "a-model-nobody-sells"})
    _before_paying(build(make_config(values)), watch, 0)
    assert "what that costs is not known" in watch.told and "There is no cap on it" in watch.told


TABLE = """
seeds = [0]

[base]
problem = "function"
"plan.rounds" = 1
"plan.steps" = 1
"mentor.name" = "language_model"
"mentor.retries" = 0
"mentor.chat.provider" = "openai"
"mentor.chat.name" = "m"
"mentor.chat.base_url" = "{url}"
{price}

[tasks.rastrigin]
"function.name" = "rastrigin"

[[arms]]
name = "asks"

[[arms]]
name = "asks too"
settings = {{ "stage.lr" = 0.02 }}
"""


@pytest.mark.parametrize(
    ("price", "told", "usd"),
    [("", UNKNOWN, None), ('"mentor.chat.usd_per_million_input" = 1000\n"mentor.chat.usd_per_million_output" = 1000', "$0.1100", 0.22)],
    ids=["unknown", "known"],
)  # fmt: skip
def test_in_a_comparison(server, tmp_path, monkeypatch, capsys, price, told, usd):
    server.begin(good)
    table = tmp_path / "table.toml"
    table.write_text(TABLE.format(url=server.base_url, price=price))
    (tmp_path / "out" / "rows").mkdir(parents=True)
    assert work(read_table(table), tmp_path, tmp_path / "out", ()) == ""
    page = words(read_out(read_table(table), tmp_path / "out", 2).read_text())
    assert f"Extra cost: the mentor of asks made 1.0 calls a cell (100 tokens in, 10 out, {told})." in page
    assert f"Spent together: 2 calls; 220 tokens; {told if usd is None else '$0.2200'}." in page
    assert json.loads((tmp_path / "out" / "results.json").read_text())["spent"]["usd"] == about(usd)
    assert ran(monkeypatch, capsys, "report", tmp_path / "out", "--to", tmp_path / "page.html").code == 0
    assert told in (tmp_path / "page.html").read_text()


def test_a_mean_of_cells_is_not_known_where_one_is_not():
    def row(**cost):
        return Row.model_validate({"task": "t", "arm": "a", "model": "m", "seed": 0, "cost": cost})

    assert mean_cost([row(llm_calls=2.0, usd=0.5), row(llm_calls=0.0, usd=0.0)])["usd"] == 0.25
    assert math.isnan(mean_cost([row(llm_calls=2.0, usd=0.5), row(llm_calls=2.0)])["usd"])
    assert mean_cost([row(gradient_steps=3.0)])["usd"] == 0.0  # it asked nobody
