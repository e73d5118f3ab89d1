"""The search for the judge of class lines: its rules, on losses that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.judge.read_out import end, keeps


def way(race, last=None, accuracy=(0.5, 0.6)):
    last = race if last is None else last
    at = {"losses25": np.array(race), "losses100": np.array(last)}
    return {**at, "accuracy25": accuracy[0], "accuracy100": accuracy[1], "loss25": 2.0, "loss100": 1.0}


@pytest.mark.parametrize(
    ("alone", "both", "labels", "kept"),
    [
        ([0.5, 0.5], [0.5, 0.5], 1, {"J0", "J1", "Jz 1", "A", "A 1", "AD", "S", "B", "N"}),
        (
            [0.5, 0.5],
            [0.7, 0.9],
            1,
            {"J1", "Jz 1", "A", "A 1", "AD", "S", "B", "N"},
        ),  # it takes a fifth of the loss away, and 0.4 is asked
        ([0.5, 0.5], [0.5, 1.2], 2, {"J1", "A", "A 1", "AD", "S", "B", "N"}),  # it takes 0.15 away, with an error of 0.35
        ([1.8, 2.0], [0.5, 0.5], 8, {"J0", "J1", "Jz 1", "A", "A 1", "AD", "S", "N"}),  # worse alone than labels, better than the names
        ([2.5, 3.0], [0.5, 0.5], 8, {"J0", "J1", "Jz 1", "N"}),
        ([0.5, 0.5], [1.2, 1.2], 8, {"A", "A 1", "S", "B", "N"}),
    ],
)
def test_each_judge_keeps_lines_by_what_it_is_told(alone, both, labels, kept):
    ways = {"names": way([2.0, 2.2]), "none": way([1.0, 1.0]), "alone": way([9.0, 9.0], alone), "both": way(both)}
    judges = ("U", "J0", "J1", "Jz 1", "A", "A 1", "AD", "S", "B", "N")
    assert {judge for judge in judges if keeps(judge, ways, labels)} == kept


def test_a_run_reports_the_age_that_did_better_out_of_fold():
    assert end(way([0.5, 0.5], [0.4, 0.5])) == (0.6, 1.0)
    assert end(way([0.5, 0.5], [0.5, 0.5])) == (0.5, 2.0)
