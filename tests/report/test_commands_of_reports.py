"""`maao report` and `maao watch` as they are typed."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial

import pytest

from tests.commands import ran
from tests.report.pages import Page


@pytest.fixture
def maao(capsys, monkeypatch, tmp_path):
    """Return the function that runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(ran, monkeypatch, capsys)


def test_a_page_is_named_after_its_run_and_told(maao, hostile, comparison, tmp_path):
    done = maao("report", hostile, "--split", "none")
    assert done.code == 0 and done.out.startswith("Written: run<b>bold-report.html (")
    assert "maao evaluate" not in Page((tmp_path / "run<b>bold-report.html").read_text(encoding="utf-8")).text.split("Class by class")[-1]
    done = maao("report", hostile, comparison, "--split", "none", "--json")
    held = json.loads(done.out)
    assert done.code == 0 and held["page"] == "report.html" and held["bytes"] == (tmp_path / "report.html").stat().st_size
    assert "What became of 2 runs and comparisons" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_reading_test_again_is_said_on_the_page(maao, hostile, tmp_path):
    assert maao("report", hostile, "--split", "test", "--to", "page.html").code == 0
    assert "Note: test is read again here" in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text


def test_what_cannot_be_done_is_told_in_a_line(maao, hostile, tmp_path):
    for arguments, told in (
        ((tmp_path / "none",), "There is no folder"),
        ((tmp_path,), "neither a run"),
        ((hostile, "--split", "all"), "There is no split 'all'"),
        ((hostile, "--split", "none", "--to", tmp_path / "no" / "page.html"), "give --to with a file in a folder that exists"),
    ):
        done = maao("report", *arguments)
        assert done.code == 1 and told in done.err and done.err.splitlines()[-1].startswith("Error: "), done.err


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_told_with_the_command(maao, hostile, monkeypatch, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    done = maao("report", hostile, "--split", "none")
    assert done.code == 1 and 'pip install "maao[report]"' in done.err


def test_without_scikit_learn_the_rest_is_there(maao, hostile, monkeypatch, tmp_path):
    for name in ("sklearn.metrics", "sklearn.decomposition"):
        monkeypatch.setitem(sys.modules, name, None)
    assert maao("report", hostile, "--to", "page.html").code == 0
    text = Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert (
        "Not shown: Evaluating needs the package scikit-learn" in text and "The way of the tuned point is not drawn: A report needs" in text
    )


def test_data_that_are_gone_are_said_to_be(maao, hostile, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(hostile, copy)
    held = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    held["data"]["train"] = "/nowhere/train.csv"
    (copy / "config.json").write_text(json.dumps(held), encoding="utf-8")
    assert maao("report", copy, "--to", "page.html").code == 0
    assert "Not shown: " in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text.split("Class by class")[-1]


def test_a_finished_run_is_watched_to_its_end(maao, hostile):
    done = maao("watch", hostile)
    assert done.code == 0 and "\x1b" not in done.out and "<script>" in done.out
    assert done.out.splitlines()[0].startswith("Watching ")
