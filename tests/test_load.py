"""What a unit costs does not grow with how many there are: counted in steps of SQLite, looks and reads, never in seconds."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import load
from maao.data.folds import deal
from maao.data.sampling import take_turns
from maao.evaluation.metrics import measure
from maao.llm.chat import Request
from maao.llm.ledger import MemoryLedger, Totals
from maao.mentors import trajectory
from maao.mentors.trajectory import Entry, entries, made_to_fit
from maao.problems.scoring import accuracies
from maao.store.attempts import Spending
from maao.store.run import RunFolder
from maao.types import Example
from tests.mentors.histories import finished
from tests.store.sample_runs import NumpySerializer, make_history

WORST = Totals(1, 100, 50, 0.3)


def steps_of(connection: sqlite3.Connection, work: Callable[[], object]) -> int:
    """Return how many steps of SQLite's machine some work takes."""
    taken = [0]

    def count() -> int:
        taken[0] += 1
        return 0

    connection.set_progress_handler(count, 1)
    work()
    connection.set_progress_handler(None, 1)
    return taken[0]


# -- calls


def test_an_attempt_reads_no_more_of_a_long_account_than_of_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account, taken = Spending(tmp_path / "spending.sqlite"), [0]
    plain = account._connect

    def counted() -> sqlite3.Connection:
        connection = plain()

        def count() -> int:
            taken[0] += 1
            return 0

        connection.set_progress_handler(count, 1)
        return connection

    monkeypatch.setattr(account, "_connect", counted)
    found = []
    for i in range(400):
        taken[0] = 0
        account.replied(account.begin(f"key {i}", WORST, lambda spent: ""), Totals(1, 40, 20, 0.1))
        found.append(taken[0])
    assert found[-1] <= 1.2 * found[5]
    assert account.spent() == Totals(400, 16_000, 8_000, 40.0)


def test_sums_are_those_of_the_rows_whatever_is_done(tmp_path: Path) -> None:
    account, draw, known = Spending(tmp_path / "spending.sqlite"), random.Random(0), list[int]()
    for i in range(200):
        if known and draw.random() < 0.5:
            number = known.pop(draw.randrange(len(known)))
            account.end(number, draw.choice([Totals(), Totals(calls=1), Totals(1, 7, 3, 0.01)])) if draw.random() < 0.5 else (
                account.replied(number, Totals(1, draw.randrange(99), 5, draw.choice([0.004, float("nan")])))
            )
        else:
            known.append(account.begin(f"key {i}", Totals(1, 90, 9, 0.07), lambda spent: ""))
    with sqlite3.connect(tmp_path / "spending.sqlite") as connection:
        for state, *told in connection.execute("SELECT replied, calls, input_tokens, attempts, known FROM sums"):
            own = "SELECT sum(calls), sum(input_tokens), count(*), count(usd) FROM attempts WHERE (state = 'replied') = ?"
            assert list(connection.execute(own, (state,)).fetchone()) == told


def test_an_account_of_an_older_maao_is_summed_when_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "spending.sqlite"
    Spending(file).begin("a", WORST, lambda spent: "")
    with sqlite3.connect(file) as connection:
        for name in ("attempt_begins", "attempt_goes", "attempt_changes"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DROP TABLE sums")
        connection.execute("PRAGMA user_version = 1")
    later = Spending(file)
    assert later.spent() == Totals(1, 100, 50, 0.3, unanswered=1)
    later.begin("b", WORST, lambda spent: "")
    assert later.spent().calls == 2


def test_a_ledger_in_memory_adds_a_reply_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from maao.llm.chat import Reply

    added, plain = [0], Totals.plus

    def plus(self: Totals, reply: Reply) -> Totals:
        added[0] += 1
        return plain(self, reply)

    monkeypatch.setattr(Totals, "plus", plus)
    ledger = MemoryLedger()
    for i in range(50):
        request = Request("m", (), sample=i)
        ledger.begin(request.key, WORST, lambda spent: "")
        ledger.put(request, Reply("hello"))
    assert (added[0], ledger.totals().calls, ledger.spent().calls) == (50, 50, 50)


# -- rounds


def test_a_round_is_stored_and_read_by_itself(tmp_path: Path) -> None:
    rounds = make_history(40)
    with RunFolder.create(tmp_path / "run", config={}, environment={}, serializer=NumpySerializer()) as stored:
        connection, stored_in, read_in = stored._database._connection, [], []
        for r in rounds:
            stored_in.append(steps_of(connection, lambda r=r: stored.append(r)))
        for r in rounds:
            read_in.append(steps_of(connection, lambda r=r: stored.round(r.index)))
        assert [stored.round(r.index).index for r in rounds] == [r.index for r in rounds]
    assert max(stored_in[-5:]) <= 1.2 * max(stored_in[2:7])
    assert max(read_in[-5:]) <= 1.2 * max(read_in[2:7])


def history_of(count: int) -> tuple[Any, ...]:
    draw = random.Random(1)
    words = "topic label news of the sport music business".split()

    def text(most: int) -> str:
        return " ".join(draw.choice(words) for _ in range(draw.randrange(1, most)))

    found = []
    for index in range(count):
        proposals = tuple((text(5), draw.random(), draw.choice([0, 3])) for _ in range(3)) if index else ()
        shown = draw.choice([p[0] for p in proposals]).split() if proposals and draw.random() < 0.5 else text(4).split()
        fitted = " ".join((shown * 3)[: draw.randrange(1, 8)])
        chosen = draw.choice([None, 0, 1]) if proposals else None
        fields = {1: {"template": draw.choice(["{text} It", "{text} So"])}} if draw.random() < 0.3 else None
        found.append(finished(index, fitted, draw.random(), age=3 * index, proposals=proposals, chosen=chosen, fields=fields))
    return tuple(found)


def listed_at_once(history: Sequence[Any]) -> list[Entry]:
    """Return what `entries` lists, by looking at every text for every end."""
    found: dict[str, Entry] = {}
    filled: Any = {}
    for r in history:
        tried, filled = trajectory._stood(r, filled)
        for c in r.verdict.considered:
            text, fields = tried[c.proposal]
            itself = c.score if c.age == 0 and c.weight == 1 else None
            trajectory._add(found, Entry(text, c.score, c.age, itself, c.weight, fields=fields))
        if r.clues.projection is not None and r.state.step > 0:
            words = r.clues.projection.text
            here = (entry.text for entry in found.values() if not entry.ended and entry.fields == filled)
            proposed = next((text for text in here if made_to_fit(words, text)), None)
            end = r.clues.projection.score
            trajectory._add(found, Entry(proposed or words, r.score, r.state.age, end, ended=proposed is None, fields=filled))
    return list(found.values())


def test_each_round_is_listed_once_and_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    history, looked, fitted = history_of(120), [0], [0]
    expected = [listed_at_once(history[:count]) for count in (1, 60, 120)]
    plain, fits = trajectory._Listing._look_at, trajectory.made_to_fit

    def look_at(self: Any, r: Any, tried: Any) -> None:
        looked[0] += 1
        plain(self, r, tried)

    def fit(words: str, text: str) -> bool:
        fitted[0] += 1
        return fits(words, text)

    monkeypatch.setattr(trajectory._Listing, "_look_at", look_at)
    monkeypatch.setattr(trajectory, "made_to_fit", fit)
    for count in range(1, 121):
        entries(history[:count])
    assert looked[0] == 120 and fitted[0] < 20 * 120
    assert [entries(history[:count]) for count in (1, 60, 120)] == expected
    other = history_of(120)  # equal rounds, and not the same
    assert entries(other) == expected[-1] and entries(history) == expected[-1]


# -- classes


class Counted(Sequence[Any]):
    """A sequence that counts the looks at it."""

    def __init__(self, held: Sequence[Any]) -> None:
        self.held, self.looks = held, 0

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, place: Any) -> Any:
        self.looks += 1
        return self.held[place]

    def __iter__(self) -> Iterator[Any]:
        for one in self.held:
            self.looks += 1
            yield one


def test_classes_take_turns_without_a_look_at_those_that_have_no_more() -> None:
    groups = [Counted([f"{c} {i}" for i in range(300 if c == 0 else 1)]) for c in range(200)]
    expected = [one for turn in zip_longest(*(group.held for group in groups)) for one in turn if one is not None]
    assert list(take_turns(groups)) == expected
    assert sum(group.looks for group in groups) == 499


def test_folds_look_at_an_example_once_a_class_or_less() -> None:
    labels = [f"class {c:03}" for c in range(100)]
    rows = Counted([Example({"text": f"text {i}"}, labels[i % 100]) for i in range(300)])
    assert len(deal(rows, labels, 3, seed=0)) == 300
    assert rows.looks < 5 * 300


def test_accuracies_are_the_plain_ones_of_many_classes() -> None:
    draw = torch.Generator().manual_seed(0)
    for classes, count in ((2, 5), (30, 200), (500, 700)):
        scores, targets = torch.randn(count, classes, generator=draw), torch.randint(classes, (count,), generator=draw)
        right = scores.argmax(-1) == targets
        recalls = [int(right[targets == c].sum()) / int((targets == c).sum()) for c in targets.unique().tolist()]
        found = accuracies(scores, targets)
        assert found["accuracy"] == int(right.sum()) / count
        assert found["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls), abs=1e-15)


def test_the_f1_of_many_classes_is_the_plain_one() -> None:
    from sklearn.metrics import f1_score

    draw = random.Random(0)
    labels = [f"class {c:03}" for c in range(60)]
    examples = [Example({"text": str(i)}, draw.choice(labels)) for i in range(150)]
    scores = [[draw.random() for _ in labels] for _ in examples]
    answers = [labels[row.index(max(row))] for row in scores]
    expected = f1_score([example.label for example in examples], answers, average="macro", zero_division=0)
    assert measure(["f1_macro"], examples, labels, scores)["f1_macro"] == pytest.approx(expected)


# -- the bench


def test_what_a_further_unit_costs_stands_in_the_page() -> None:
    machine = {"seconds": 3, "load_average": [1, 2], "others": 0.5}
    points = [
        {"size": size, "seconds": 1.0, "cpu_seconds": cpu, "peak_mib": 100.0 + size, "walk_s": cpu, "machine": machine}
        for size, cpu in ((10, 1.0), (20, 1.5), (40, 4.5))
    ]
    about = {"processor": "x", "cores": 2, "python": "3.11", "torch": "2"}
    case = {"unit": "a cell", "about": "cells.", "points": points}
    written = load.page({"environment": about, "cases": {"cells": case}})
    assert "| cells | 20 | 1.0 | 1.5 | 120 | 50 | 1.02e+03 |  |" in written
    assert "| cells | 40 | 1.0 | 4.5 | 140 | 150 | 1.02e+03 | 3.00 |" in written
    assert "* cells, walk: 1.00, 1.50, 4.50" in written


@pytest.mark.parametrize("name", ["calls"])
def test_a_case_is_made_at_a_small_size(name: str, tmp_path: Path) -> None:
    assert set(load.CASES[name].make(5, tmp_path)) == {"ask_s", "ask_again_s", "list_s"}
