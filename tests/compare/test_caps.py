"""Caps over all cells of a comparison, whichever process runs them, and a page that says what was spent and who was kept from asking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maao.compare import compare, read_out, read_row, read_table
from maao.compare.workers import work
from maao.errors import ConfigError
from maao.llm.ledger import Totals
from maao.store.attempts import Spending
from tests.api.server import ChatServer, chat_server

TABLE = """
seeds = [0, 1, 2]
{budget}

[base]
problem = "function"
"plan.rounds" = 2
"plan.steps" = 1
"mentor.name" = "language_model"
"mentor.retries" = 0
"mentor.max_tokens" = 50
"mentor.chat.provider" = "openai"
"mentor.chat.name" = "m"
"mentor.chat.base_url" = "{url}"
"mentor.chat.attempts" = 2
"mentor.chat.first_pause" = 0.0
{price}

[tasks.rastrigin]
"function.name" = "rastrigin"

[[arms]]
name = "asks"

[[arms]]
name = "asks too"
settings = {{ "stage.lr" = 0.02 }}
"""
PRICE = '"mentor.chat.usd_per_million_input" = 100.0\n"mentor.chat.usd_per_million_output" = 1000.0'

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def table_of(tmp_path: Path, server: ChatServer, budget: str, price: str = PRICE) -> Path:
    file = tmp_path / "table.toml"
    file.write_text(TABLE.format(budget=f"[budget]\n{budget}" if budget else "", url=server.base_url, price=price))
    return file


def run_here(file: Path, place: Path) -> Path:
    """Run all cells in this process, as one worker does."""
    (place / "rows").mkdir(parents=True, exist_ok=True)
    table = read_table(file)
    assert work(table, file.parent, place, "") == ""
    return read_out(table, place, 6)


def replies(number: int) -> tuple[int, str]:
    return 200, '- "0.5 0.5"'


def first_lines(page: Path) -> str:
    return "\n".join(page.read_text().splitlines()[:8])


def test_a_cap_holds_over_all_cells_and_the_page_says_whom_it_kept_from_asking(tmp_path: Path) -> None:
    with chat_server(replies) as server:
        page = compare(table_of(tmp_path, server, "llm_calls = 5"), tmp_path / "out", workers=2)
        again = compare(tmp_path / "table.toml", tmp_path / "out", workers=2)
    assert len(server.bodies) == 5 and again == page
    rows = [read_row(file) for file in (tmp_path / "out" / "rows").glob("*.json")]
    assert len(rows) == 6 and sum(row.capped for row in rows) > 0
    assert sum(row.cost["llm_calls"] for row in rows) == 5
    told = first_lines(page)
    capped = sum(bool(row.capped) for row in rows)
    assert f"**A cap kept {capped} cell{'s' * (capped > 1)} of 6 from asking**" in told and "asks" in told
    assert "Spent together: 5 calls of at most 5; 550 tokens; $0.1000." in told  # 100 in, 10 out each, as the server counts
    assert json.loads((tmp_path / "out" / "results.json").read_text())["spent"] == {
        "calls": 5, "input_tokens": 500, "output_tokens": 50, "usd": 0.1, "unanswered": 0,
    }  # fmt: skip


def test_retries_count_for_the_cap_of_all(tmp_path: Path) -> None:
    with chat_server(lambda number: (503, "busy")) as server:
        page = run_here(table_of(tmp_path, server, "llm_calls = 5"), tmp_path / "out")
    assert len(server.bodies) == 5
    assert "Spent together: 5 calls of at most 5, 5 of them without a reply and counted at their most;" in first_lines(page)


def test_a_killed_comparison_that_goes_on_does_not_begin_its_cap_anew(tmp_path: Path) -> None:
    def slow(number: int) -> tuple[int, str]:
        time.sleep(0.3)
        return replies(number)

    with chat_server(slow) as server:
        file = table_of(tmp_path, server, "llm_calls = 6")
        (tmp_path / "out" / "rows").mkdir(parents=True)
        worker = subprocess.Popen([sys.executable, "-m", "maao.compare", str(file), str(tmp_path / "out"), "[]"])
        while len(server.bodies) < 2:  # the second call is open
            time.sleep(0.01)
            assert worker.poll() is None
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        spent = Spending(tmp_path / "out" / "spending.sqlite").spent()
        assert spent.calls == len(server.bodies) == 2 and spent.unanswered == 1
        run_here(file, tmp_path / "out")
        assert len(server.bodies) == 6 == Spending(tmp_path / "out" / "spending.sqlite").spent().calls


def test_money_is_capped_over_all_where_prices_are_known_and_refused_where_not(tmp_path: Path) -> None:
    with chat_server(replies) as server:
        run_here(table_of(tmp_path, server, "usd = 0.75"), tmp_path / "out")
        spent = Spending(tmp_path / "out" / "spending.sqlite").spent()
        calls = spent.calls
        assert 0 < spent.usd <= 0.75 and spent == Totals(calls, 100 * calls, 10 * calls, pytest.approx(0.02 * calls))


@pytest.mark.parametrize("value", ["llm_calls = 0", "usd = -1.0", "llm_call = 3", "seconds = 5"])
def test_a_budget_of_nothing_or_of_what_is_not_there_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "table.toml").write_text(TABLE.format(budget=f"[budget]\n{value}", url="http://127.0.0.1:9/v1", price=PRICE))
    with pytest.raises(ConfigError, match="budget"):
        read_table(tmp_path / "table.toml")
