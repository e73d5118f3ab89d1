"""What `docs/write-a-mentor.md` shows is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import maao
from tests.api.small_runs import config, write_data

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def code():
    """The page's Python, one block after the other."""
    page = (DOCS / "write-a-mentor.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))


@pytest.fixture
def shown(code):
    names: dict = {"__name__": "shown"}
    exec(compile(code, "write-a-mentor.md", "exec"), names)
    return names


@pytest.mark.parametrize(("make", "source", "calls"), [("make_thesaurus", "thesaurus", None), ("make_adviser", "scripted", 0)])
@pytest.mark.parametrize("initial", ["vocabulary", "normal"])
def test_the_mentors_of_the_page_run_and_replay(shown, llama, tmp_path, make, source, calls, initial):
    settings = config(llama, write_data(tmp_path), model__initial=initial)
    result = maao.run(settings, tmp_path / "run", mentor=shown[make])
    assert {p.source for r in result.history for p in r.advice.proposals} == {source}
    assert result.cost.llm_calls == (0 if calls is None else 2)
    found = maao.replay(result.folder, mentor=shown[make])
    assert found.equal and found.llm_calls == calls


def test_the_adviser_of_the_page_is_held_to_the_caps(shown, llama, tmp_path):
    result = maao.run(config(llama, write_data(tmp_path), budget__llm_calls=1), tmp_path / "run", mentor=shown["make_adviser"])
    assert result.status_reason == "the budget kept the mentor from being asked once"
    assert maao.replay(result.folder, mentor=shown["make_adviser"]).equal


def test_the_test_class_of_the_page_has_all_it_needs(code, tmp_path):
    (tmp_path / "test_thesaurus.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout
