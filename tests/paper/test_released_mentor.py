"""How the reference release asks its mentor: its wording, and the points that it shows."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from experiments.paper import released
from experiments.paper.released import first_of_walk
from maao.mentors.instruction import Shown, Task, wording, write
from maao.mentors.trajectory import entries, select
from tests.mentors.histories import HISTORY, TOLD, WITH_FIELDS, ended, finished, texts

GOLDEN = Path(__file__).parent / "golden"
WORDING = str(Path(released.__file__).with_name("released.txt"))
TASK = Task("Name the topic of a news headline.", ("business", "music", "sport"), "{text} {slots} Topic:", max_tokens=8)
EVERYTHING = Shown("both", True, True, True, True, True, True, True)


def instruction(history, shown):
    clues = history[-1].clues if history else None
    return write(wording(WORDING, shown.scores), TASK, select(history, 8), clues, count=3, shown=shown)


@pytest.mark.parametrize("case", ["empty", "history", "scores_words", "scores_none"])
def test_instruction_matches_its_golden_file(case):
    scores = case.removeprefix("scores_") if case.startswith("scores") else "both"
    text = instruction(() if case == "empty" else HISTORY, Shown(scores)) + "\n"
    path = GOLDEN / f"released_{case}.txt"
    if os.environ.get("MAAO_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_released_wording_lists_by_the_loss_that_it_shows():
    told = instruction(HISTORY, Shown("words"))
    losses = [float(line.removeprefix("Loss: ")) for line in told.splitlines() if line.startswith("Loss: ")]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True)


def test_released_wording_tells_nothing_of_the_task():
    told = instruction(TOLD, EVERYTHING)
    assert "image classification" in told and not [part for part in (TASK.description, *TASK.labels[:1], "gradient") if part in told]


@pytest.mark.parametrize(
    ("points", "wanted"),
    [(3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (10, [0, 2, 4, 6, 8]), (30, [0, 2, 4, 6, 8])],
)
def test_the_first_points_of_a_walk_are_shown_every_other_of_ten_or_more(points, wanted):
    falling = ended(*(100.0 - i for i in range(points)))
    assert texts(first_of_walk(falling, 5)) == [f"text {i}" for i in wanted]


def test_the_last_walk_only_is_seen():
    asked = finished(9, "after asking", 9.0, proposals=(("proposed", 8.5, 0),))
    history = (*ended(2.0, 1.0), asked, finished(10, "later", 8.0))
    assert texts(first_of_walk(history, 5)) == ["after asking", "proposed", "later"]


def test_losses_that_are_no_numbers_are_left_out_and_nothing_is_shown_of_nothing():
    assert texts(first_of_walk(ended(1.0, math.nan, 3.0), 5)) == ["text 2", "text 0"]
    assert [len(first_of_walk(ended(2.0, 4.0, 1.0), count)) for count in (0, 1, 2, 3, 9)] == [0, 1, 2, 3, 3]
    assert first_of_walk((), 5) == ()


def test_what_was_filled_is_told_where_it_stands():
    assert [entry.line for entry in first_of_walk(WITH_FIELDS, 9)] == [
        entry.line for entry in entries(WITH_FIELDS) if entry.line != "music news label"
    ]
