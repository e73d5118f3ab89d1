"""Experiments: tables become cells with the settings they name, rows become a page, and the paper's settings are understood."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from experiments import arms, pages
from experiments.mentors.answer import answered
from experiments.study import mended, read_out
from maao import build as building
from maao import compare as comparison
from maao.baselines.majority import Majority
from maao.baselines.peft import Peft
from maao.baselines.zero_shot import ZeroShot
from maao.compare import Cell, Row, Table
from maao.compare.rows import Tune, run_cell
from maao.config import make_config, read_config
from maao.data.protocols import PROTOCOLS
from maao.errors import ConfigError
from maao.options import Chosen
from maao.problems.kinds import settled
from maao.problems.towers.text.loading import kind_of
from tests import tiny_vision as tiny
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import values, write_data

HERE = Path(pages.__file__).parent
TABLES = sorted(HERE.glob("*.toml"))
STUDY = sorted((HERE / "study").glob("*.toml"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_cell_of_a_table_is_a_config_of_its_own(path, monkeypatch):
    monkeypatch.setenv("MAAO_DATA", "/somewhere")
    cells = list(comparison.cells(comparison.read_table(path), path.parent))
    assert len({cell.key for cell in cells}) == len(cells) > 10
    assert {type(cell.how.options).__name__ for cell in cells} <= {
        "Tune",
        "Majority",
        "ZeroShot",
        "ZeroShotWordings",
        "Peft",
        "LinearProbe",
    }
    texts = [cell for cell in cells if cell.config.texts is not None and not cell.config.texts.is_cross_validated]
    pools = [cell.config.texts for cell in texts if cell.config.texts.protocol is None]  # which no result is reported on
    assert all(data.source.startswith("/somewhere") and data.shots and data.test_size for data in pools)
    whole = [cell.config.texts for cell in texts if cell.config.texts.protocol is not None]
    assert all(data.protocol in PROTOCOLS and data.test.startswith("/somewhere") and "{" not in data.train for data in whole)
    assert all(cell.config.pictures.source == "emoji" and cell.config.pictures.shots for cell in cells if cell.config.texts is None)


@pytest.mark.parametrize("path", sorted((HERE / "paper").glob("*.toml")), ids=lambda path: path.stem)
def test_the_papers_settings_are_understood(path):
    config = read_config(path)
    assert "released.py" not in path.read_text(encoding="utf-8")
    assert config.accept.name != "always_first" and config.stage.options.on_restart == "clear"
    assert (config.plan.name, config.plan.options.ask_after, config.model.num_virtual_tokens) == ("epochs", [0, 1, 2], 8)


SETTINGS = {"nlu", "nlu-small", "clip", "clip-small", "clip-small-shots"}
OF_THE_PAPER = sorted(path for path in (HERE / "paper/tables").glob("*.toml") if path.stem not in SETTINGS)


@pytest.mark.parametrize("scale", ["the paper's", "small"])
@pytest.mark.parametrize("path", OF_THE_PAPER, ids=lambda path: path.stem)
def test_every_table_of_the_paper_can_be_run_at_both_scales(path, scale, monkeypatch):
    monkeypatch.setenv("MAAO_DATA", "/somewhere")
    small = {"mentors": "clip-small", "shots": "clip-small-shots"}.get(path.stem, "nlu-small")
    table = comparison.read_table(path, None if scale != "small" else path.parent / f"{small}.toml")
    cells = list(comparison.cells(table, path.parent))
    assert len({cell.name for cell in cells}) == len(cells) == len(table.arms) * len(table.tasks) * len(table.seeds)
    for cell in cells:
        nothing_ignored(cell.config)


@pytest.mark.parametrize("path", [*TABLES, *STUDY], ids=lambda path: path.stem)
def test_no_cell_of_a_table_has_a_setting_that_nothing_reads(path, monkeypatch):
    monkeypatch.setenv("MAAO_DATA", "/somewhere")
    for cell in comparison.cells(comparison.read_table(path), path.parent):
        nothing_ignored(cell.config)


@pytest.mark.parametrize("path", ["demo", "demo-decoder", *sorted((HERE / "paper").glob("*.toml"))], ids=str)
def test_no_config_of_ours_has_a_setting_that_nothing_reads(path):
    nothing_ignored(read_config(path))


def nothing_ignored(config):
    """Check what a config's sections say together; of a model that is on this machine, the way it is read too."""
    building._check_together(config)
    if config.texts is not None and config.model.kind.name == "auto" and config.model.name.startswith("packaged:"):
        settled(config.model, own_kind(config.model.name))


own_kind = cache(kind_of)  # many cells have the same model


def row(arm, seed, accuracy, **more):
    test = {"accuracy": accuracy, "loss": 1 - accuracy}
    about = {"arm": arm, "task": "t", "model": "m", "seed": seed, "method": "x", "protocol": "full", "shots": None}
    return Row.model_validate({**about, "test": test, "cost": {}, **more})


OVERVIEW = pages.Overview(differences=[["a", "b"]])
TABLE = Table.model_validate(
    {
        "name": "n",
        "title": "T",
        "about": "About.",
        "seeds": [0, 1, 2],
        "models": {"m": {}},
        "tasks": {"t": {}},
        "arms": [{"name": "a"}, {"name": "b"}],
        "page": Chosen("Overview", OVERVIEW),
    }
)


def test_a_page_has_means_deviations_and_paired_intervals():
    rows = [row("a", 0, 0.5), row("a", 1, 0.6), row("a", 2, 0.7), row("b", 0, 0.4), row("b", 1, 0.5), row("b", 2, 0.6)]
    page = OVERVIEW.page(TABLE, rows)
    assert "| m | a | 60.0 ± 10.0; 0.400 |" in page
    assert "| t | 3 | +10.00 (+10.00 to +10.00) | -0.10 (-0.10 to -0.10) |" in page


def test_a_page_says_how_many_seeds_there_are_where_some_are_missing():
    assert "| m | a | 50.0 (1); 0.500 |" in OVERVIEW.page(TABLE, [row("a", 0, 0.5)])


def test_rows_of_two_protocols_are_not_read_out(tmp_path):
    write(tmp_path, [row("a", 0, 0.5), row("b", 0, 0.5, protocol="fewglue-32")])
    with pytest.raises(ConfigError, match=r"full.*fewglue-32|fewglue-32.*full"):
        comparison.read_out(TABLE, tmp_path, 6)


def write(place, rows):
    (place / "rows").mkdir()
    for one in rows:
        (place / "rows" / f"{one.arm}-{one.seed}.json").write_text(one.model_dump_json(exclude_unset=True))


def test_results_are_written_whole_and_read_back(tmp_path):
    write(tmp_path, [row("a", 0, 0.5)])
    page = comparison.read_out(TABLE, tmp_path, 6)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == [row("a", 0, 0.5).model_dump(exclude_unset=True)]
    assert page.read_text().startswith("# T\n")


@pytest.mark.parametrize("path", [*TABLES, *STUDY], ids=lambda path: path.stem)
def test_what_is_committed_reads_out_to_the_very_page_that_is_committed(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MAAO_DATA", "/somewhere")
    committed = HERE / "results" / path.stem
    shutil.copytree(committed / "rows", tmp_path / "rows")
    table = comparison.read_table(path)
    told = list(comparison.cells(table, path.parent))
    page = comparison.read_out(table, tmp_path, len(told))
    assert page.read_bytes() == (committed / "page.md").read_bytes()
    plots = {file.name for file in committed.glob("*.png")}
    assert plots == {file.name for file in tmp_path.glob("*.png")}
    held = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert len(held) == len(list((committed / "rows").glob("*.json"))) and all("selection_evals" in one["cost"] for one in held)


@pytest.mark.parametrize("path", [*TABLES, *STUDY], ids=lambda path: path.stem)
def test_a_table_goes_on_from_the_rows_that_are_committed(path, monkeypatch):
    monkeypatch.setenv("MAAO_DATA", "/somewhere")
    rows = HERE / "results" / path.stem / "rows"
    held = {file.stem: comparison.read_row(file).key for file in rows.glob("*.json")}
    cells = {cell.name: cell.key for cell in comparison.cells(comparison.read_table(path), path.parent)}
    assert sum(name in cells for name in held) > 15
    assert all(cells.get(name, key) == key for name, key in held.items())  # the search dropped an arm after its first cell


def test_the_study_reads_out_to_the_page_that_is_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(read_out, "STUDY", tmp_path / "study.md")
    read_out.main()
    for name in ("study.md", "study.csv"):
        assert (tmp_path / name).read_bytes() == (HERE / "results" / name).read_bytes()


def study_row(arm, seed, loss, tokens=1000, task="BBC headlines"):
    cost = {"gradient_steps": 58, "model_tokens": tokens, "selection_evals": 17, "llm_calls": 3, "input_tokens": 90, "output_tokens": 10}
    return row(arm, seed, 1 - loss, task=task, cost=cost)


def two_tasks(arm, loss, step, tokens=1000):
    """Return three seeds on each of two tasks, the second a little apart from the first."""
    tasks = ("BBC headlines", "AG News")
    return [study_row(arm, seed, loss + seed / step + at / 2 / step, tokens, task) for at, task in enumerate(tasks) for seed in range(3)]


def test_the_study_says_yes_only_where_every_control_is_beaten_over_pairs_and_over_tasks():
    def told(mentor, *, step=80, whole=True):
        rows = [*two_tasks("single", 0.6, 100), *two_tasks("random text", 0.5, 90, 1500), *two_tasks("MaaO, stronger mentor", mentor, step)]
        return read_out.answer(rows, whole=whole)

    assert told(0.4).startswith("**Yes: MaaO, stronger mentor does better than every control that asks no language model, over pairs and")
    assert told(0.4, whole=False).startswith("**So far yes:")
    between = told(0.5)
    assert between.startswith("**No: no mentor does better than every control")
    assert "Better than one start, at least over pairs: MaaO, stronger mentor -0.09" in between
    assert "against its best control, `random text`." in between and "MaaO, stronger mentor 3 and 100" in between
    rows = [row for row in two_tasks("MaaO, stronger mentor", 0.4, 80) if row.task == "AG News"]
    alone = read_out.answer([*two_tasks("single", 0.6, 100), *rows], whole=True)
    assert (
        alone.startswith("**No:") and "Better than one start, at least over pairs: MaaO, stronger mentor -0.19" in alone
    )  # one task is no unit


def test_comparisons_are_counted_over_pairs_and_over_tasks_and_corrected_for_all():
    rows = [*two_tasks("single", 0.6, 100), *two_tasks("hand-written texts", 0.5, 90), *two_tasks("MaaO, stronger mentor", 0.4, 80)]
    told = read_out.answer(rows, whole=True)
    assert (
        "Of 2 comparisons of MaaO, 1 with controls and 1 with a large model's texts: over pairs of task and seed, 2 better and none" in told
    )
    assert "over tasks, 2 better and none worse by their 95 % intervals, and 2 after Holm's correction for all 2." in told
    assert "A large model, asked once" not in told  # to random sentences, which are not there


def test_an_arm_beside_another_has_the_mean_of_each_task_and_what_it_cost_there():
    """Task by task: a mean over tasks would say 1.5 times the tokens, and hide that one task took as many."""
    ours = [study_row("a", seed, loss, tokens, task) for task, tokens, losses in TASKS for seed, loss in enumerate(losses)]
    theirs = [study_row("b", seed, 0.5, 1000, task) for task, _, losses in TASKS for seed in range(2)]
    one = read_out.beside([*ours, *theirs], "a", "b")
    assert one.tasks == pytest.approx([0.2, -0.1]) and one.over_pairs[0] == pytest.approx(0.05) == pytest.approx(one.over_tasks[0])
    assert one.spread[0] == pytest.approx(((0.3**2 / 2) - 0.1**2) ** 0.5) and not one.equal_cost
    assert read_out.beside([*ours, *theirs[2:]], "a", "b").equal_cost  # the first task alone
    assert read_out.tokens_ratio([*ours, *theirs], "a", "b", "x") == 2.0


TASKS = (("x", 2000, (0.6, 0.8)), ("y", 1000, (0.3, 0.5)))


def test_cells_whose_mentor_saw_lines_for_its_own_task_are_struck_out_of_every_figure(tmp_path):
    committed = comparison.read_rows(HERE / "results" / "study")
    struck = [row for row in committed if mended.is_struck(row)]
    assert len(struck) == 70 and {row.task for row in struck} == {"SST-2", "SST-2, MiniLM"} and len(committed) == 595
    assert {row.arm for row in struck} == {*read_out.MENTORS} - {"OPRO"}  # it has no worked example
    held = json.loads((HERE / "results" / "study" / "results.json").read_text(encoding="utf-8"))
    assert [tuple(one.values()) for one in held["struck"]] == [(row.arm, row.task, row.seed) for row in struck]
    named = {(one["arm"], one["task"]) for one in held["differences"]}
    assert ("OPRO", "SST-2") in named and not named & {(row.arm, row.task) for row in struck}
    assert not [name for name, _ in named if "hand-written" in name]
    for page in ("study.md", "study/page.md", "search/page.md"):
        assert "hand-written" not in (HERE / "results" / page).read_text(encoding="utf-8")


def test_arms_that_are_no_run_give_rows_of_the_same_form(llama, tmp_path):  # noqa: F811
    config = make_config(values(llama, write_data(tmp_path), model__template="{slots} {text} Topic:", mentor__name="none"))
    for name, baseline in (("majority", Majority()), ("zero_shot", ZeroShot()), ("peft", Peft())):
        found = run_cell(Cell("arm", "m", "t", 0, config, Chosen(name, baseline)), tmp_path / name)
        assert found["method"] == name and {"test", "cost", *(("select",) if name == "peft" else ())} <= found.keys()
        assert 0 <= found["test"]["accuracy"] <= 1
        assert Row.model_validate(found).key == ("arm", "m", "t", 0)
    cell = Cell("tuned", "m", "t", 0, config, Chosen("tune", Tune()))
    found = run_cell(cell, tmp_path / "run")
    assert found["method"] == "prompt_tuning" and found["cost"]["gradient_steps"] > 0
    again = run_cell(cell, tmp_path / "run")  # a finished run is read, not made again
    assert again == found


def test_the_best_wording_is_chosen_on_select_and_read_once_on_test(tmp_path, monkeypatch):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    tiny.clip_model().save_pretrained(tmp_path / "clip")
    tiny.clip_tokenizer().save_pretrained(tmp_path / "clip")
    for label in ("cat", "dog", "lion"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(7):
            tiny.Pictures().open(f"{label}/{i}").save(tmp_path / "pictures" / label / f"{i}.png")
    wordings = ["a photo of the {class}.", "{class}", "small drawing of {class}."]
    model = {"name": str(tmp_path / "clip"), "wordings": wordings}
    given = {
        "model": model,
        "data": {"source": str(tmp_path / "pictures"), "shots": 2},
        "mentor": {"name": "none"},
    }
    config = make_config(given)
    found = arms.ZeroShotWordings().run(config, tmp_path)
    alone = {}
    for wording in wordings:
        own = building.build(make_config({**given, "model": {**model, "method": "zero_shot", "wordings": [wording]}})).problem
        alone[wording] = own.score([own.initial(0)], "select")[0].loss
    assert found["words"] == min(alone, key=alone.get) and found["select"]["loss"] == min(alone.values())
    assert found["cost"]["selection_evals"] == 3
    with pytest.raises(ConfigError, match=r"needs model\.wordings"):
        arms.ZeroShotWordings().run(make_config({**given, "model": {"name": str(tmp_path / "clip")}}), tmp_path)


def test_a_line_of_a_reply_that_was_torn_off_is_asked_again(tmp_path):
    """What was written before it stays, whatever alphabet it is in."""
    replies = tmp_path / "replies.jsonl"
    assert answered(replies) == set()
    whole = json.dumps({"custom_id": "a", "text": "où est ma carte"}, ensure_ascii=False).encode() + b"\n"
    replies.write_bytes(whole + '{"custom_id": "b", "text": "é'.encode()[:-1])
    assert answered(replies) == {"a"} and replies.read_bytes() == whole
    assert answered(replies) == {"a"} and replies.read_bytes() == whole
