"""The mean of class scores of several points, and which of them are picked."""

from __future__ import annotations

import math

import torch

from maao.members import walks_of
from maao.problems.averages import average, counted, forward_selection

A, B, C = ({"x": torch.tensor([value])} for value in (1.0, 2.0, 3.0))


def test_an_average_of_averages_multiplies_counts():
    found = average([average([A, B], [1, 2]), C], [2, 1])
    assert [(float(walk["x"]), count) for walk, count in counted(found)] == [(1.0, 2), (2.0, 4), (3.0, 1)]


def test_members_that_count_alike_need_no_counts():
    assert set(average([A, B], [3, 3])) == {"x", "walk1.x"}


def test_every_fold_is_an_average_by_itself():
    full = average([{**A, "fold0.x": B["x"]}, {**C, "fold0.x": A["x"]}], [1, 2])
    fold = {name.removeprefix("fold0."): value for name, value in full.items() if name.startswith("fold0.")}
    assert [(float(walk["x"]), count) for walk, count in counted(fold)] == [(2.0, 1), (1.0, 2)]
    assert [set(walk) for walk in walks_of(full)] == [{"x", "fold0.x"}] * 2


def test_what_mends_another_point_is_picked_with_it():
    targets = torch.tensor([0, 1])
    first, second = torch.tensor([[3.0, 0.0], [0.5, 0.0]]), torch.tensor([[0.0, 0.5], [0.0, 3.0]])  # each sure of one, wrong on the other
    useless = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
    assert forward_selection([useless, first, second], targets, 2) == (0, 1, 1)


def test_scores_that_are_no_numbers_are_not_picked():
    assert forward_selection([torch.full((1, 2), math.nan), torch.tensor([[0.0, 9.0]])], torch.tensor([0]), 4) == (0, 4)
