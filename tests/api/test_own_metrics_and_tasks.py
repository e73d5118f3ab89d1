"""A metric of one's own as the primary one, and a task of one's own, from a file beside the config."""

import io

import pytest
from rich.console import Console

import maao
from maao.config import make_config, read_config, stored_config
from maao.data.task import task_named
from maao.errors import ConfigError, DataError, StoreError
from maao.evaluation.metrics import measure
from maao.report.run import report
from maao.types import Example
from tests.api.small_runs import config, write_data

METRIC = "def rare(examples, labels, scores):\n    return 0.25\n"
TASK = """from maao.data.task import Task, label_of, text_of
from maao.types import Example


def rows(task, row):
    yield Example({"title": text_of(row, "headline")}, label_of(task, row))


SORTED = Task("sorted", ("bad", "good"), "{slots} {title}", "{title} {slots} It was {mask}", rows, label_words={"good": "fine"})
"""


def test_a_metric_of_a_file_is_the_primary_one_of_a_run(llama, tmp_path):
    (tmp_path / "own.py").write_text(METRIC)
    settings = config(llama, write_data(tmp_path), data__metrics=[f"{tmp_path}/own.py:rare", "f1_macro"])
    result = maao.run(settings, tmp_path / "run")
    assert [*result.chosen.score.metrics][1:] == ["f1_macro", "accuracy", "balanced_accuracy"]
    name, value = result.chosen.score.primary
    assert name.endswith("own.py:rare") and value == 0.25


@pytest.mark.parametrize("body", ["raise ZeroDivisionError('by zero')", "return 'high'", "return None"])
def test_a_metric_that_gives_no_number_is_told(body, tmp_path):
    (tmp_path / "own.py").write_text(f"def rare(examples, labels, scores):\n    {body}\n")
    with pytest.raises(DataError, match=r"The metric '.*own.py:rare' gives no number \((ZeroDivision|Value|Type)Error: "):
        measure([f"{tmp_path}/own.py:rare"], [Example({"text": "fine"}, "good")], ("bad", "good"), [[0.1, 0.9]])


def test_a_run_whose_metric_is_gone_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no metric '.*own.py:rare': there is no file "):
        measure([f"{tmp_path}/own.py:rare"], [Example({"text": "fine"}, "good")], ("bad", "good"), [[0.1, 0.9]])


def test_a_run_whose_mentor_is_gone_says_so_and_is_not_called_damaged(tmp_path):
    values = {"problem": "function", "mentor": {"name": f"{tmp_path}/own.py:Mine"}}
    with pytest.raises(StoreError, match=r"config.json names what is not here: 'mentor.name': there is no file .*; got .* Put it back"):
        stored_config(values, tmp_path / "config.json")


def test_a_known_metric_is_the_primary_one_where_it_is_named(llama, tmp_path):
    result = maao.run(config(llama, write_data(tmp_path), data__metrics=["f1_macro"]), tmp_path / "run")
    assert result.chosen.score.primary == ("f1_macro", result.chosen.score.metrics["f1_macro"])
    assert maao.resume(result.folder).finals["chosen"].score.primary[0] == "f1_macro"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report(result))
    told = console.export_text()
    assert "(loss and f1 macro on select)" in told and "accuracy" not in told


def test_an_unknown_metric_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match=r"data\.metrics\.0.*no metric of that name. Did you mean 'f1_macro'"):
        make_config({"data": {"metrics": ["f1_makro"]}})


def test_a_task_of_a_file_beside_the_config_reads_its_own_rows(tmp_path):
    (tmp_path / "own.py").write_text(TASK)
    (tmp_path / "x.jsonl").write_text('{"headline": "Shares fall", "label": "bad"}\n{"headline": "Shares rise", "label": "good"}\n')
    (tmp_path / "run.toml").write_text('[data]\ntask = "own.py:SORTED"\ntrain = "x.jsonl"\nmetrics = ["own.py:rare"]\n')
    (tmp_path / "own.py").write_text(TASK + METRIC)
    read = read_config(tmp_path / "run.toml")
    assert read.data.options.metrics == [f"{tmp_path}/own.py:rare"]
    assert read.task == f"{tmp_path}/own.py:SORTED" and task_named(read.task).labels == ("bad", "good")
    (tmp_path / "own.py").write_text(TASK.replace("SORTED = Task", "OTHER = print"))
    with pytest.raises(ConfigError, match="is no task"):
        task_named(f"{tmp_path}/own.py:rows")
