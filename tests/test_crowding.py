"""Threads that find no processor: how many a container may use, and what is said of a busy machine."""

from __future__ import annotations

import os

import pytest

from maao.crowding import crowded, processors


@pytest.mark.parametrize(("text", "most"), [("150000 100000", 1.5), ("max 100000", None), ("", None), ("much", None)])
def test_a_container_may_use_what_its_quota_says(tmp_path, text, most):
    (tmp_path / "cpu.max").write_text(text)
    whole = float(len(os.sched_getaffinity(0)))
    assert processors(tmp_path / "cpu.max") == (whole if most is None else min(whole, most))
    assert processors(tmp_path / "none") == whole


def test_only_who_has_more_threads_than_free_processors_is_told():
    for asleep in (False, True):
        assert crowded(1, 0.5, 9.0, asleep=asleep) == ""
        assert crowded(2, 2, 0.5, asleep=asleep) == "" and crowded(4, 8, 3.9, asleep=asleep) == ""
        assert "others take about 1.0 of 2 processors" in crowded(2, 2, 1.0, asleep=asleep)
        assert "this run has 64 threads and may use 2 processors" in crowded(64, 2, 0.0, asleep=asleep)
    assert "threads = 1" in crowded(2, 2, 1.0, asleep=False) and "this run has 2 threads" in crowded(2, 2, 1.0, asleep=False)
    assert "threads" not in crowded(2, 2, 1.0, asleep=True)  # fewer would not help
