"""The page of a comparison: every seed, every difference, every cost, as the comparison itself has them."""

from __future__ import annotations

import json

import pytest

from maao.compare.page import RESULTS, differences, read_comparison
from maao.errors import StoreError
from maao.report.html.page import write_page
from maao.report.html.run_view import Wanted
from tests.report.pages import BAD, SCRIPT, Page, write_results


@pytest.fixture(scope="module")
def page(comparison_page):
    return Page(comparison_page.read_text(encoding="utf-8"))


def test_every_seed_of_every_arm_is_drawn_and_told(page):
    assert page.open == []
    drawn = page.of("svg")
    assert len(drawn) == 3  # differences, seeds, curves
    dots = [attributes for name, attributes in page.elements if name == "use" and "var(--s" in attributes.get("style", "")]
    assert len(dots) >= 9
    for told in ("75.0", "78.0", "78.0", "66.0", "69.0"):
        assert told in page.text


def test_differences_stand_with_their_intervals(page, comparison):
    record = read_comparison(comparison)
    found = {d.arm: d for d in differences(record.rows, "plain") if d.metric == "accuracy"}
    assert set(found) == {BAD, "_worse"}
    for d in found.values():
        assert f"{d.low:+.3f} to {d.high:+.3f}" in page.text
    assert "is better than plain by +6.00 points" in page.text and "is worse than plain: -3.00 points" in page.text


def test_costs_and_what_became_of_proposals_stand_in_it(page):
    assert "took 1.50 times the model tokens of plain" in page.text
    assert "6 of 9 2 of 3" in page.text


def test_names_are_shown_and_not_obeyed(page):
    assert SCRIPT in page.text and "business<script>" in page.text and "$x^2$" in page.text
    assert not page.of("script")


def test_cells_that_are_not_run_are_told(tmp_path):
    folder = write_results(tmp_path / "some", total=12)
    assert "9 of 12 cells have been run" in Page(write_page([folder], tmp_path / "p.html", Wanted()).read_text(encoding="utf-8")).text
    folder = write_results(tmp_path / "none", rows=[])
    assert "No cell has been run yet." in Page(write_page([folder], tmp_path / "p.html", Wanted()).read_text(encoding="utf-8")).text


def test_capped_cells_are_counted_among_those_that_were_run(tmp_path):
    folder = write_results(tmp_path / "some", total=12)
    held = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    held["rows"][0]["capped"] = 1
    (folder / RESULTS).write_text(json.dumps(held), encoding="utf-8")
    text = Page(write_page([folder], tmp_path / "p.html", Wanted()).read_text(encoding="utf-8")).text
    assert "9 of 12 cells have been run" in text and "A cap kept 1 of 9 cells from asking" in text


def test_an_older_comparison_without_title_and_total_is_read(tmp_path):
    folder = write_results(tmp_path / "old")
    held = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    for name in ("title", "about", "total"):
        del held[name]
    (folder / RESULTS).write_text(json.dumps(held), encoding="utf-8")
    assert Page(write_page([folder], tmp_path / "p.html", Wanted()).read_text(encoding="utf-8")).text.startswith("table")


def test_a_damaged_one_is_named(tmp_path):
    with pytest.raises(StoreError, match=RESULTS):
        write_page([write_results(tmp_path / "bad", rows=[{"task": 1}])], tmp_path / "p.html", Wanted())
