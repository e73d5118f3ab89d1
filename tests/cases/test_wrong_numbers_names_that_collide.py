"""Names that would share a file are refused, both by name: no arm is absent from a page for good."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from maao.compare import cells, compare, read_rows, read_table
from maao.compare.table import file_name
from maao.errors import ConfigError, StoreError
from maao.runner import free_folder

BASE = {"problem": "function", "plan.rounds": 0, "plan.steps": 1, "mentor.name": "none"}


def table(folder: Path, arms: list[str], *, tasks: list[str] | None = None, models: list[str] | None = None, seeds: str = "[0]") -> Path:
    def named(section: str, names: list[str] | None) -> str:
        return "".join(f"[{section}.{json.dumps(name, ensure_ascii=False)}]\n" for name in names or ())

    base = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in BASE.items())
    listed = "".join(f"[[arms]]\nname = {json.dumps(arm, ensure_ascii=False)}\n" for arm in arms)
    file = folder / "t.toml"
    file.write_text(f"seeds = {seeds}\n[base]\n{base}\n{named('models', models)}{named('tasks', tasks or ['a'])}{listed}", encoding="utf-8")
    return file


NFC, NFD = unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lr 0.01", "lr=0.01"),
        ("a/b", "a b"),
        ("a/b", "a\\b"),
        ("LR", "lr"),
        ("straße", "STRASSE"),
        ("Ω", "ω"),
        ("a:b", "a?b"),
    ],
)
def test_l14_arms_that_would_share_a_file_are_refused(tmp_path, first, second):
    with pytest.raises(ConfigError) as error:
        read_table(table(tmp_path, [first, second]))
    assert f"arm {first!r}" in str(error.value) and f"arm {second!r}" in str(error.value)
    assert "would be kept in one file" in str(error.value) and "Rename one of them" in str(error.value)


@pytest.mark.parametrize(("first", "second"), [("lr 0.01", "lr=0.01"), ("News", "news")])
def test_l14_tasks_and_models_alike(tmp_path, first, second):
    with pytest.raises(ConfigError, match=r"task .* would be kept|would be kept in one file.*task"):
        read_table(table(tmp_path, ["x"], tasks=[first, second]))
    with pytest.raises(ConfigError, match=r"would be kept in one file.*model"):
        read_table(table(tmp_path, ["x"], models=[first, second]))


def test_l14_names_that_run_into_one_another_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="would be kept in one file, _a_b_c_0"):
        read_table(table(tmp_path, ["a_b", "a"], tasks=["c", "b_c"]))


def test_l14_names_that_can_be_told_apart_are_kept_apart(tmp_path):
    file = table(tmp_path, ["lr 0.01", "lr 0.1", NFC, f"{NFD}2", "-", "..."])
    names = [cell.name for cell in cells(read_table(file), tmp_path)]
    assert len(set(names)) == len(names) == 6
    assert file_name("m", "lr 0.01", "t", 3) == "m_lr-0.01_t_3"  # as it always was: comparisons that were begun go on


def test_l14_a_name_too_long_for_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"are too long for a file together \(\d+ bytes\): shorten one"):
        read_table(table(tmp_path, ["x" * 250, "y"]))
    with pytest.raises(ConfigError, match="too long"):
        read_table(table(tmp_path, ["字" * 90, "y"]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("seeds = [0]", "seeds = 3"), "'seeds'"),
        (("seeds = [0]", 'seeds = ["a"]'), "'seeds.0'"),
        (("seeds = [0]", "seeds = [1.5]"), "'seeds.0'"),
        (("seeds = [0]", "seeds = [true]"), "'seeds.0'"),
        (('name = "x"', "name = 3"), "'arms.0.name'"),
        (('name = "x"', 'name = ""'), "'arms.0.name'"),
        (('name = "x"', 'name = "x"\nsettings = 3'), "'arms.0.settings'"),
        (('name = "x"', 'name = "x"\ntasks = "a"'), "'arms.0.tasks'"),
        (("[base]", "base = 3\n[samples]"), "'base'"),
    ],
)
def test_l14_a_table_of_other_types_is_told_by_its_key(tmp_path, change, told):
    file = table(tmp_path, ["x"])
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ConfigError, match=rf"t.toml: {told}: "):
        read_table(file)


def test_l14_a_cell_named_twice_is_refused(tmp_path):
    file = table(tmp_path, ["x"])
    file.write_text(file.read_text().replace('name = "x"', 'name = "x"\ntasks = ["a", "a"]'))
    with pytest.raises(ConfigError, match="is named twice: drop one"):
        read_table(file)


def row(arm: str) -> str:
    return json.dumps({"arm": arm, "model": "", "task": "a", "seed": 0, "cost": {}})


def test_l14_the_file_of_an_arm_that_was_renamed_is_not_taken_for_anothers(tmp_path):
    (tmp_path / "out" / "rows").mkdir(parents=True)
    (tmp_path / "out" / "rows" / "_lr-0.01_a_0.json").write_text(row("lr 0.01"))
    with pytest.raises(StoreError, match=r"holds the row of arm 'lr 0.01'.* arm 'lr=0.01'.* old name back, or choose another --out"):
        compare(table(tmp_path, ["lr=0.01"]), tmp_path / "out")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"arm": 3}', row("x")[:-3], row("x").replace("{}", "[]")])
def test_l14_a_damaged_row_is_told_by_its_file(tmp_path, content):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "_x_a_0.json").write_text(content)
    with pytest.raises(StoreError, match=r"_x_a_0.json is damaged"):
        read_rows(tmp_path)


def test_l14_a_folder_for_a_run_is_named_within_what_disks_take(tmp_path):
    with free_folder(tmp_path, "字" * 200) as first, free_folder(tmp_path, "字" * 200) as second:
        assert first != second and len(second.name.encode()) < 220
        assert first.is_dir() and second.is_dir()
