"""The list of runs shows every folder, the unreadable ones with their problem."""

import math
from dataclasses import replace

import pytest
from sample_runs import NumpySerializer, make_round

from maao.errors import StoreError
from maao.store.listing import list_runs
from maao.store.run import RunFolder
from maao.types import Score


def create(folder):
    config = {"problem": "function", "seed": 0, **{key: {} for key in ("stage", "plan", "accept", "mentor", "budget")}}
    environment = {"labels": [], "packages": {}, "prepared_tokens": 0, "majority": None}
    return RunFolder.create(folder, config=config, environment=environment, serializer=NumpySerializer())


def test_runs_are_listed_by_name_with_how_they_stand(tmp_path):
    with create(tmp_path / "b") as run:
        for index in range(3):
            run.append(make_round(index))
        run.append(replace(make_round(3), score=Score(math.nan, {"accuracy": math.nan})))
        run.set_status("stopped", "enough")
    create(tmp_path / "a").close()
    with create(tmp_path / "c"):
        a, b, c = list_runs(tmp_path)
    assert (a.name, a.status, a.rounds_done, a.best_loss, a.best_accuracy) == ("a", "interrupted", 0, None, None)
    assert (b.name, b.status, b.reason, b.rounds_done, b.best_loss, b.best_accuracy) == ("b", "stopped", "enough", 4, 1 / 3, 0.2)
    assert (b.cost.gradient_steps, b.cost.usd, b.problem) == (8, 1.0, None)
    assert (c.name, c.status) == ("c", "running")


def test_a_folder_that_cannot_be_read_is_listed_with_its_problem(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "run.sqlite").write_bytes(b"garbage" * 1000)
    (tmp_path / "notes.txt").write_text("not a folder")
    (tmp_path / ".hidden").mkdir()
    create(tmp_path / "well").close()
    empty, garbage, well = list_runs(tmp_path)
    assert "is not a run folder" in empty.problem
    assert "is damaged" in garbage.problem
    assert well.problem is None


def test_listing_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="There is no folder"):
        list_runs(tmp_path / "nowhere")


def test_listing_changes_nothing(tmp_path):
    with create(tmp_path / "a") as run:
        run.append(make_round(0))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    list_runs(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
