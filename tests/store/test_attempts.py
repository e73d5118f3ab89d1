"""What runs spend from together: one file, many processes, and no more than the cap, whoever is killed."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maao.errors import BudgetError, StoreError
from maao.llm.budget import Caps
from maao.llm.ledger import Totals
from maao.store.attempts import PICO, TABLE, Spending
from tests.store.cap_trials import trial

WORST = Totals(1, 100, 50, 0.5)
PART = Totals(1, 40, 20, 0.125)


def free(spent: Totals) -> str:
    return ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spending.sqlite"


def test_caps_hold_over_processes_and_kills() -> None:
    found = [trial(number) for number in range(20)]
    assert [one for one in found if not one.held] == []
    assert any(one.kills for one in found)  # how many there are follows from how fast the machine is


def test_nothing_is_made_before_the_first_attempt(file: Path) -> None:
    account = Spending(file)
    assert account.spent() == Totals() and account.waiting("k") is None and not file.exists()


def test_what_one_spends_the_other_sees(file: Path) -> None:
    one, other = Spending(file, "one"), Spending(file, "other")
    first, second = one.begin("k", WORST, free), other.begin("k", WORST, free)
    assert one.spent() == other.spent() == Totals(2, 200, 100, 1.0, unanswered=2)
    one.replied(first, PART)
    other.end(second, Totals(calls=1))
    assert Spending(file).spent() == Totals(2, 40, 20, 0.125, unanswered=1)
    other.end(second, Totals())
    assert one.spent() == PART
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute("SELECT who, state FROM attempts").fetchall() == [("one", "replied")]


def test_what_is_refused_is_not_written(file: Path) -> None:
    account, caps = Spending(file), Caps(tokens=299)
    account.begin("a", WORST, lambda spent: caps.refusal(spent, WORST))
    with pytest.raises(BudgetError, match="150 are spent, with 1 that failed counted at their most, and this call could take 150"):
        account.begin("b", WORST, lambda spent: caps.refusal(spent, WORST))
    assert account.spent().calls == 1


def test_looking_at_what_is_spent_and_writing_are_one_step(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maao.store.attempts.BUSY_SECONDS", 0.01)
    one, other = Spending(file, "one"), Spending(file, "other")
    one.begin("first", WORST, free)

    def meanwhile(spent: Totals) -> str:
        with pytest.raises(StoreError, match="stayed locked"):
            other.begin("between", WORST, free)
        return ""

    one.begin("second", WORST, meanwhile)
    assert one.spent().calls == 2


def test_money_that_is_not_known_makes_the_sum_unknown(file: Path) -> None:
    account = Spending(file)
    account.replied(account.begin("a", WORST, free), Totals(1, 1, 1, math.nan))
    account.replied(account.begin("b", WORST, free), PART)
    assert math.isnan(account.spent().usd) and account.spent().tokens == 62


MOST = 2**63 / PICO  # dollars in whole pico-dollars that a column of SQLite holds: about $9.2 million


@pytest.mark.parametrize("usd", [MOST / 4, MOST / 2, math.nextafter(MOST, 0), MOST, 2 * MOST, 1e20, 1e300, sys.float_info.max])
@pytest.mark.parametrize("state", ["open", "replied"])
def test_money_beyond_all_reason_is_summed_and_holds_caps(file: Path, usd: float, state: str) -> None:
    account, caps = Spending(file), Caps(usd=1e15)
    asked = Totals(1, 100, 50, usd)
    numbers = [account.begin(key, asked, free) for key in "abc"]
    if state == "replied":
        for number in numbers:
            account.replied(number, asked)
    assert Spending(file).spent().usd == pytest.approx(3 * usd)
    assert bool(caps.refusal(Spending(file).spent(), WORST)) == (3 * usd >= 1e15)
    for number in numbers[:2]:
        account.end(number, Totals())
    assert Spending(file).spent().usd == pytest.approx(usd)
    account.replied(numbers[2], PART)
    assert Spending(file).spent().usd == pytest.approx(PART.usd, abs=1e-6)


@pytest.mark.parametrize("usd", [MOST / 3, MOST, 1e300])
def test_an_older_file_whose_money_has_no_sum_in_whole_numbers_is_made_whole(file: Path, usd: float) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(TABLE)
        row = ("k", "", "open", 0, 1, 100, 50, usd, "")
        connection.executemany("INSERT INTO attempts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [row] * 3)
        connection.execute("PRAGMA user_version = 1")
    assert Spending(file).spent().usd == pytest.approx(3 * usd)
    Spending(file).begin("k", WORST, free)
    assert Spending(file).spent().calls == 4


def test_drift_below_nothing_is_nothing(file: Path) -> None:
    account = Spending(file)
    account.begin("k", Totals(1, 100, 50, 0.0), free)
    with account.transaction() as connection:
        connection.execute("UPDATE sums SET pico_usd = -6000.0")
    assert account.spent().usd == 0.0


def test_a_look_reads_as_of_one_moment(file: Path) -> None:
    account = Spending(file)
    account.begin("k", WORST, free)
    with ThreadPoolExecutor(1) as pool:
        with account.snapshot() as connection:
            before = connection.execute("SELECT count(*) FROM attempts").fetchone()[0]
            writing = pool.submit(account.begin, "k", WORST, free)
            time.sleep(0.5)
            assert connection.execute("SELECT count(*) FROM attempts").fetchone()[0] == before == 1
        writing.result()
    assert account.spent().calls == 2


def test_a_request_that_waits_is_one_attempt_for_all(file: Path) -> None:
    one, other = Spending(file, "one"), Spending(file, "other")
    number = one.begin("k", WORST, free)
    one.waits(number)
    assert other.waiting("k") == number
    other.replied(number, PART)
    one.replied(number, PART)
    assert one.spent() == PART and one.waiting("k") is None


def test_a_file_that_a_killed_process_left_empty_is_made_whole(file: Path) -> None:
    late = Spending(file)
    file.touch()
    assert late.spent() == Totals()
    late.begin("k", WORST, free)
    assert Spending(file).spent().calls == 1


@pytest.mark.parametrize("damage", ["no database", "newer"])
def test_a_file_that_cannot_be_used_is_told(file: Path, damage: str) -> None:
    if damage == "newer":
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("PRAGMA user_version = 9")
    else:
        file.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"spending\.sqlite is damaged"):
        Spending(file)
