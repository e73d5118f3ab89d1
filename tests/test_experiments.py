"""Experiments: tables become cells with the settings they name, rows become a page, and the paper's settings are understood."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from functools import cache
from pathlib import Path

import pytest

from experiments import arms, pages
from experiments.mentors.answer import answered
from experiments.study import read_out
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
    assert all(cell.config.texts.protocol in PROTOCOLS for cell in texts)
    assert all(cell.config.texts.test.startswith("/somewhere") and "{" not in cell.config.texts.train for cell in texts)
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


def test_the_readmes_configs_are_understood():
    page = (HERE.parent / "README.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)]
    assert len(blocks) >= 2
    for block in blocks:
        nothing_ignored(make_config(block))


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
    assert (tmp_path / "study.md").read_bytes() == (HERE / "results" / "study.md").read_bytes()


def study_row(arm, seed, loss, tokens=1000):
    cost = {"gradient_steps": 58, "model_tokens": tokens, "selection_evals": 17, "llm_calls": 3, "input_tokens": 90, "output_tokens": 10}
    return row(arm, seed, 1 - loss, task="SST-2", cost=cost)


def test_the_study_says_yes_only_where_every_control_is_beaten_for_sure():
    def told(mentor, *, whole=True):
        rows = [study_row("single", seed, 0.6 + seed / 100) for seed in range(3)]
        rows += [study_row("random text", seed, 0.5 + seed / 90, 1500) for seed in range(3)]
        rows += [study_row("MaaO, stronger mentor", seed, mentor + seed / 80) for seed in range(3)]
        return read_out.answer(rows, whole=whole)

    assert told(0.4).startswith("**Yes: MaaO, stronger mentor does better than every control that asks no language model.**")
    assert told(0.4, whole=False).startswith("**So far yes:")
    between = told(0.5)
    assert between.startswith("**No: no mentor does better than every control")
    assert "Better than one start: MaaO, stronger mentor by -0.09" in between and "against its best control, random text." in between
    assert "3 calls and 100 LLM tokens a run" in between and "† against random sentences" in between  # 1500 tokens are not 1000


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
