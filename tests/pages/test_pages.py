"""README and docs: every block of code is run, read or parsed, every link leads somewhere, every promise has its test."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shlex
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import maao
from maao.compare.table import read_table
from maao.config import make_config
from tests.api.small_runs import config, pairs, write_config, write_csv, write_data
from tests.commands import ran
from tests.pages.reading import DOCS, PAGES, ROOT, Block, blocks, commands, name_of, of
from tests.test_experiments import nothing_ignored

KNOWN = {"python", "sh", "toml", "json", "sql", "csv", "diff", "bibtex", "text"}
RUN_ELSEWHERE = {  # with what they need, in the file that is named
    "docs/write-a-mentor.md": "tests/api/test_docs.py",
    "docs/tune-a-new-problem.md": "tests/api/test_docs.py",
    "docs/extend.md": "tests/api/test_extend.py",
    "docs/where-you-work.md": "tests/api/test_where_you_work.py",
}
REAL = {"README.md", "docs/tutorial.md", "docs/your-data.md"}  # they name packaged models
TUTORIAL = DOCS / "tutorial.md"


def with_python() -> list[Any]:
    names = dict.fromkeys(name_of(page) for page, _ in of("python") if name_of(page) not in RUN_ELSEWHERE)
    return [pytest.param(name, marks=pytest.mark.real if name in REAL else ()) for name in names if name != "docs/tutorial.md"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def prepared(place: Path, request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Return the function that puts what a page takes for granted into its folder, and returns the names that it uses."""

    def small_run(folder: str) -> None:
        data = write_data(place)
        maao.run(config(request.getfixturevalue("llama"), data, plan__rounds=1, mentor={"name": "none"}), place / folder)

    def prepare(page: str) -> dict[str, Any]:
        rows = [*pairs("train"), *pairs("select")]  # old ones and new
        if page == "docs/evaluate.md" or page == "docs/commands.md":
            small_run("runs/demo-seed0")
        elif page == "docs/tune-further.md":
            small_run("runs/intents-seed0")
        elif page == "docs/run-folder.md":
            small_run("runs/demo-seed0")
        elif page == "docs/baselines.md":
            request.getfixturevalue("encoder")(place)
        elif page == "docs/your-data.md":
            write_csv(place / "labels.csv", rows)
            write_csv(place / "test.csv", pairs("test"))
            write_csv(place / "further.csv", pairs("select"))
        return {"rows": rows}

    return prepare


@pytest.fixture
def encoder() -> Callable[[Path], None]:
    """Write `my.toml`, a config of a tiny sentence encoder."""
    from tests.tiny_sentence import sentence_folder

    def written(place: Path) -> None:
        folder = sentence_folder(place / "encoder", max_length=12)[0]
        settings = {"model": {"kind": "matcher", "name": str(folder)}, "data": write_data(place), "mentor": {"name": "none"}, "threads": 1}
        settings["data"].pop("select")
        write_config(place, settings).rename(place / "my.toml")

    return written


def test_every_block_says_its_language() -> None:
    odd = [f"{name_of(page)}:{block.line} {block.language!r}" for page in PAGES for block in blocks(page) if block.language not in KNOWN]
    assert odd == []


def test_marks_are_known() -> None:
    odd = [
        f"{name_of(page)}:{block.line} {block.mark!r}"
        for page in PAGES
        for block in blocks(page)
        if block.mark and block.mark != "prints" and not re.match(r"not run: \w.{8,}", block.mark)
    ]
    assert odd == []


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def is_in(line: str, told: str) -> bool:
    """Whether a line, or a part of one, was printed: numbers may differ in their last places from machine to machine."""
    words = r"\s+".join(re.escape(word) for word in line.split())
    form = re.compile(re.sub(r"\d[\d,]*(?:\\\.\d+)?", r"(\\d[\\d,]*(?:\\.\\d+)?)", words))
    wanted = [float(number.replace(",", "")) for number in NUMBER.findall(line)]
    for found in form.finditer(told):
        if all(math.isclose(float(a.replace(",", "")), b, rel_tol=0.03, abs_tol=0.02) for a, b in zip(found.groups(), wanted, strict=True)):
            return True
    return False


def assert_printed(block: Block, told: str) -> None:
    missing = [line for line in block.code.splitlines() if line.strip() and not is_in(line, told)]
    assert missing == [], f"line {block.line} of the page: {missing}\nnot in\n{told[-3000:]}"


def test_a_figure_that_was_not_printed_is_found_out() -> None:
    told = "tuned   0.700  1,000 steps\nso: 3 of 5"
    assert is_in("tuned 0.701", told) and is_in("1,001 steps", told) and is_in("so: 3", told)
    assert not is_in("tuned 0.770", told) and not is_in("tuned 0.700 900", told) and not is_in("so: 4", told)


@pytest.mark.parametrize("name", with_python())
def test_python_runs_as_it_stands(name: str, prepared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = prepared(name)
    told = ""
    for block in blocks(ROOT / name):
        if block.language == "python" and block.is_run:
            exec(compile(block.code, f"{name}:{block.line}", "exec"), names)
            told += capsys.readouterr().out
        elif block.mark == "prints":
            assert_printed(block, told)


def read_as_config(block: Block) -> None:
    values = tomllib.loads(block.code)
    if "project" in values:  # of a package: tests/api/test_extend.py installs it
        assert values["project"]["entry-points"]["maao.plugins"]
        return
    nothing_ignored(make_config(completed(values)))


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a config with the least that it needs beside it: some examples, and a chat model's mentor where one is set."""
    values = dict(values)
    if values.get("problem") != "function":
        values.setdefault("data", {"source": "pool.csv"})
        data = values["data"] = dict(values["data"])
        if not {"source", "train", "task"} & set(data):
            data["source"] = "pool.csv"
    return values


@pytest.mark.parametrize(
    ("page", "block"),
    [pytest.param(page, block, id=f"{name_of(page)}:{block.line}") for page, block in of("toml") if name_of(page) not in RUN_ELSEWHERE],
)
def test_settings_are_read(page: Path, block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAO_DATA", str(place))
    values = tomllib.loads(block.code)
    if "arms" in values and "seeds" in values:
        (place / "table.toml").write_text(block.code, encoding="utf-8")
        assert read_table(place / "table.toml").arms
    elif "arms" in values:
        assert all("name" in arm for arm in values["arms"])
    else:
        read_as_config(block)


@pytest.mark.parametrize(("page", "block"), [pytest.param(page, block, id=f"{name_of(page)}:{block.line}") for page, block in of("json")])
def test_json_is_json(page: Path, block: Block) -> None:
    for part in [block.code] if block.code.lstrip().startswith("{\n") else block.code.splitlines():
        json.loads(part)


def parsed(command: list[str]) -> None:
    """Parse a command of maao as the command line does, and run nothing; what is not understood is raised."""
    from maao.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("maao", command[1:])
    while isinstance(group, TyperGroup):
        name, group, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        context = group.make_context(name, rest, parent=context)


def optional_parts() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize(("page", "block"), [pytest.param(page, block, id=f"{name_of(page)}:{block.line}") for page, block in of("sh")])
def test_commands_are_understood(page: Path, block: Block, place: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for command in commands(block.code):
        words = shlex.split(command)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[0] == "maao":
            with suppress(typer.Exit):  # --help
                parsed(words)
        elif words[0] == "make":
            assert set(words[1:]) <= targets, command
        elif words[0] == "pip":
            named = {part for word in words for extras in re.findall(r"\[([\w,]+)\]", word) for part in extras.split(",")}
            assert named <= optional_parts(), command
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, command
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), command
        else:
            assert words[0] in {"pytest", "git"}, command


@pytest.mark.parametrize(("page", "block"), [pytest.param(page, block, id=f"{name_of(page)}:{block.line}") for page, block in of("sql")])
def test_questions_to_a_run_are_answered(page: Path, block: Block, prepared: Any, place: Path) -> None:
    import sqlite3

    prepared(name_of(page))
    database = sqlite3.connect(place / "runs" / "demo-seed0" / "run.sqlite")
    for question in filter(str.strip, re.sub(r"--.*", "", block.code).split(";")):
        database.execute(question).fetchall()
    database.close()


@pytest.mark.real
def test_the_tutorial_runs_from_its_beginning_to_its_end(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    names: dict[str, Any] = {}
    told = ""
    for block in blocks(TUTORIAL):
        if block.title:
            (place / block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "sh" and block.is_run:
            for command in commands(block.code):
                done = ran(monkeypatch, capsys, *shlex.split(command)[1:])
                assert done.code == 0, f"{command}\n{done.told()}"
                told += done.told()
        elif block.language == "python":
            exec(compile(block.code, f"tutorial.md:{block.line}", "exec"), names)
            told += capsys.readouterr().out
        elif block.mark == "prints":
            assert_printed(block, told)
    assert "MPs vote on ban" in (place / "headlines.html").read_text(encoding="utf-8")
    assert {path.name for path in (place / "served").iterdir()} >= {"classes.safetensors", "use_classes.py"}


# -- links and promises


def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "tools" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in hooks().links(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert [
        link for link in missing if not link.startswith("../notebooks/") and not (page.parent / link).with_suffix(".ipynb").exists()
    ] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    assert [page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).as_posix() not in navigation] == []


def test_each_promise_names_a_test_that_is_there() -> None:
    page = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 25 and page.count("| `tests/") == len(named)
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


def test_figures_of_the_readme_stand_on_the_page_that_has_them_all() -> None:
    found = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What was found")[2].partition("## Install")[0]
    figures = re.findall(r"[+-]\d+\.\d|\b\d+\.\d(?= points)", found)
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    assert len(figures) >= 5 and [figure for figure in figures if figure.lstrip("+") not in page] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_pages_name_no_place_of_a_machine() -> None:
    assert [name_of(page) for page in PAGES if re.search(r"/(work|home|tmp)/\w", page.read_text(encoding="utf-8"))] == []
