"""What `docs/write-a-mentor.md` and `docs/tune-a-new-problem.md` show is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import maao
from maao import choices
from maao.options import OneOf
from maao.testing import assert_same_history
from tests.api.small_runs import config, write_data

DOCS = Path(__file__).parents[2] / "docs"


def python_of(name):
    """Return a page's Python, one block after the other."""
    page = (DOCS / name).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))


@pytest.fixture(scope="module")
def code():
    return python_of("write-a-mentor.md")


@pytest.fixture
def shown(code):
    names: dict = {"__name__": "shown"}
    exec(compile(code, "write-a-mentor.md", "exec"), names)
    return names


@pytest.mark.parametrize(("make", "source", "calls"), [("make_thesaurus", "thesaurus", None), ("make_adviser", "scripted", 0)])
@pytest.mark.parametrize("initial", ["vocabulary", "normal"])
def test_the_mentors_of_the_page_run_and_replay(shown, llama, tmp_path, make, source, calls, initial):
    settings = config(llama, write_data(tmp_path), model__initial=initial, mentor={"name": "custom"})
    result = maao.run(settings, tmp_path / "run", mentor=shown[make])
    assert {p.source for r in result.history for p in r.advice.proposals} == {source}
    assert result.cost.llm_calls == (0 if calls is None else 2)
    found = maao.replay(result.folder, mentor=shown[make])
    assert found.equal and found.llm_calls == calls


def test_the_adviser_of_the_page_is_held_to_the_caps(shown, llama, tmp_path):
    result = maao.run(
        config(llama, write_data(tmp_path), budget__llm_calls=1, mentor={"name": "custom"}), tmp_path / "run", mentor=shown["make_adviser"]
    )
    assert result.status_reason == "the budget kept the mentor from being asked once"
    assert maao.replay(result.folder, mentor=shown["make_adviser"]).equal


@pytest.fixture(scope="module")
def ink():
    names: dict = {"__name__": "ink"}
    exec(compile(python_of("tune-a-new-problem.md"), "tune-a-new-problem.md", "exec"), names)
    return names


def test_the_mentor_of_the_new_problem_finds_the_ink_that_walking_does_not(ink):
    alone, helped = (maao.best_round(ink[name]) for name in ("alone", "helped"))
    assert alone.clues.projection.text == "white" and helped.clues.projection.text in ("black", "navy")
    assert helped.score.loss < alone.score.loss and helped.score.accuracy > alone.score.accuracy
    rejected = [line for r in ink["helped"] for line in r.advice.rejected]
    assert [line.text for line in rejected] == ["a dark one"] and "is no color of" in rejected[0].reason


@pytest.mark.parametrize("most", [1, 3])
def test_the_walk_over_the_new_problem_goes_on_to_the_same_bits(ink, tmp_path, most):
    mentor = ink["Scripted"](("white", "a dark one", "navy", "gold"), ink["codec"])
    assert len(ink["walk"](tmp_path / "run", mentor, most)) == most
    history = ink["walk"](tmp_path / "run", mentor)
    assert_same_history(history, ink["helped"], ink["TorchSerializer"]())


def test_the_settings_that_the_glossary_names_are_there():
    named = re.findall(r"`([a-z]+)\.([a-z_]+)`", (DOCS / "glossary.md").read_text(encoding="utf-8"))
    assert len(named) > 8
    for section, key in named:
        field = maao.Config.model_fields[section]
        chosen = [one for one in field.metadata if isinstance(one, OneOf)]
        kinds = [choices.load(one.table, name) for one in chosen for name in choices.names(one.table)] or [field.annotation]
        tables = [table for kind in kinds if section == "model" for table in kind.chooses.values()]
        kinds += [choices.load(table, name) for table in tables for name in choices.names(table)]
        assert key in [one.key for one in chosen] or any(key in kind.model_fields for kind in kinds), f"{section}.{key}"


@pytest.mark.parametrize("name", ["write-a-mentor.md", "tune-a-new-problem.md"])
def test_the_test_classes_of_a_page_have_all_they_need(name, tmp_path):
    (tmp_path / "test_page.py").write_text(python_of(name), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout
