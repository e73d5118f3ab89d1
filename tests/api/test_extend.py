"""What `docs/extend.md` adds, as it stands there: its diffs apply and pass their suites; each runs from a file, and as a plugin."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import maao
from maao import choices
from maao.config import read_config
from maao.errors import ConfigError, StoreError
from maao.types import Round
from tests.api.small_runs import digests, pairs, to_toml, values, write_data
from tests.tiny_sentence import sentence_folder

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def added() -> Iterator[tuple[str, str]]:
    """Yield the path and the code of each new file of the page."""
    for block in blocks("diff"):
        for path, lines in re.findall(r"--- /dev/null\n\+\+\+ b/(\S+)\n@@.*@@\n((?:\+.*\n)+)", block):
            yield path, re.sub(r"^\+", "", lines, flags=re.MULTILINE)


FILES = {Path(path).name: code for path, code in added()}
ROWS = {name: (f"{module}.py", attribute) for name, module, attribute in re.findall(r'\+ +"(\w+)": "[\w.]+\.(\w+):(\w+)",', PAGE)}
SETTINGS = [tomllib.loads(block) for block in blocks("toml")]


def chosen_of(settings: Any) -> list[str]:
    """Return the names of the page's rows that nested settings choose."""
    if isinstance(settings, dict | list):
        return [name for held in (settings.values() if isinstance(settings, dict) else settings) for name in chosen_of(held)]
    return [settings] if settings in ROWS else []


SHOWN = {name: settings for settings in SETTINGS for name in chosen_of(settings)}


def renamed(settings: Any, change: Callable[[str], str]) -> Any:
    """Return nested settings with the names of the page's rows changed."""
    if isinstance(settings, dict):
        return {key: renamed(held, change) for key, held in settings.items()}
    if isinstance(settings, list):
        return [renamed(held, change) for held in settings]
    return change(settings) if settings in ROWS else settings


def by_file(name: str) -> str:
    return ":".join(ROWS[name])


def by_name(name: str) -> str:
    return name


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is installed with the entry points of the page."""
    points = next(settings for settings in SETTINGS if "project" in settings)["project"]["entry-points"]["maao.plugins"]
    site = tmp_path / "site"
    package, information = site / "my_package", site / "my_package-1.dist-info"
    package.mkdir(parents=True)
    information.mkdir()
    (package / "__init__.py").touch()
    for name, code in FILES.items():
        (package / name).write_text(code, encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n", encoding="utf-8")
    lines = [f"{name} = {held}\n" for name, held in points.items()]
    (information / "entry_points.txt").write_text("[maao.plugins]\n" + "".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    choices._plugins.cache_clear()
    yield site
    for module in [module for module in sys.modules if module.split(".")[0] == "my_package"]:
        del sys.modules[module]
    monkeypatch.undo()
    choices._plugins.cache_clear()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


def laid_over(base: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    return {
        **base,
        **{key: laid_over(base.get(key, {}), held) if isinstance(held, dict) else held for key, held in further.items()},
    }


@pytest.fixture
def config(llama: Path, encoder: Path, tmp_path: Path) -> Callable[[str, Callable[[str], str]], maao.Config]:
    """Return the function that reads a small run's config with what the page sets for a row, from a TOML file with the code beside it."""

    def read(name: str, change: Callable[[str], str], *assignments: str) -> maao.Config:
        shown = renamed(SHOWN[name], change)
        own: dict[str, Any] = {} if "mentor" in shown else {"mentor": {"name": "none"}}
        whole = values(llama, write_data(tmp_path), **own)
        if shown.get("model", {}).get("kind") == "matcher":
            whole["model"] = {"num_virtual_tokens": 4}
            shown["model"]["name"] = str(encoder)
        if "chat" in shown.get("mentor", {}):
            del whole["mentor"]["chat"]
        elif "mentor" in shown:
            del whole["mentor"]
        if "task" in shown.get("data", {}):
            del whole["model"]["template"]
            for split in ("train", "select", "test"):
                rows = [json.dumps({"headline": text, "label": label}) for text, label in pairs(split)]
                file = "headlines.jsonl" if split == "train" else f"{split}.jsonl"
                (tmp_path / file).write_text("\n".join(rows), encoding="utf-8")
                whole["data"][split] = file
        for file, code in FILES.items():
            (tmp_path / file).write_text(code, encoding="utf-8")
        (tmp_path / "my.toml").write_text(to_toml(laid_over(whole, shown)), encoding="utf-8")
        return read_config(tmp_path / "my.toml", assignments)

    return read


class Stop(maao.Watch):
    """Stops a run after its third round."""

    def round(self, finished: Round[Any, Any]) -> None:
        if finished.index == 2:
            raise KeyboardInterrupt


def test_every_row_of_the_page_is_shown_in_a_config_and_is_none_of_ours() -> None:
    assert len(ROWS) == len(FILES) == 6 and set(SHOWN) == set(ROWS)
    assert not set(ROWS) & {name for table in choices.CHOICES.values() for name in table}


@pytest.mark.parametrize("name", ROWS)
def test_each_runs_from_a_file_beside_the_config_resumes_and_replays(name: str, config: Any, tmp_path: Path) -> None:
    settings = config(name, by_file)
    whole = maao.run(settings, tmp_path / "whole")
    assert str(tmp_path / by_file(name)) in (tmp_path / "whole" / "config.json").read_text()
    with suppress(KeyboardInterrupt):
        maao.run(settings, tmp_path / "run", watch=Stop())
    assert len(maao.load(tmp_path / "run").history) == 3
    resumed = maao.resume(tmp_path / "run")
    assert digests(resumed) == digests(whole)
    assert maao.replay(tmp_path / "run").equal
    assert len(maao.load(tmp_path / "run").predict(["song album"])) == 1
    LOOKS.get(name, lambda result: None)(whole)


def further(result: Any) -> None:
    assert {p.source for one in result.history for p in one.advice.proposals} == {"further 0.25", "further 0.5"}


def clipped(result: Any) -> None:
    assert set(result.params) == {"prompt"}


def smooth_coop(result: Any) -> None:
    assert set(result.params) == {"prompt", "log_scale"}


def command(result: Any) -> None:
    assert {p.text for one in result.history for p in one.advice.proposals} == {"music team bank", "the news of the world"}
    assert result.cost.llm_calls == 2


def worst_class(result: Any) -> None:
    name, value = result.chosen.score.primary
    assert name.endswith("worst_class.py:worst_class") and 0 <= value <= 1


def headlines(result: Any) -> None:
    assert "f1_macro" in result.finals["chosen"].score.metrics
    assert str(result.config.model.template) == "{title} {slots} Topic: {mask}"


LOOKS = {check.__name__: check for check in (further, clipped, smooth_coop, command, worst_class, headlines)}


@pytest.mark.parametrize("name", ["further", "worst_class"])
def test_a_run_is_not_gone_on_with_when_the_file_has_changed(name: str, config: Any, tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt):
        maao.run(config(name, by_file), tmp_path / "run", watch=Stop())
    file = tmp_path / ROWS[name][0]
    file.write_text(file.read_text().replace("return", "return  "), encoding="utf-8")
    for use in (maao.resume, maao.replay):
        with pytest.raises(StoreError, match="A file of your own that the config names a class of has changed"):
            use(tmp_path / "run")


@pytest.mark.parametrize("name", ROWS)
def test_each_runs_by_its_name_as_a_plugin(name: str, plugins: Path, config: Any, tmp_path: Path) -> None:
    assert maao.replay(maao.run(config(name, by_name), tmp_path / "run").folder).equal


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("further", "mentor.sise=0.5", r"unknown key 'mentor\.sise'\. Did you mean 'mentor\.size'"),
        ("further", "mentor.size=-1", r"'mentor\.size'.*greater than 0"),
        ("clipped", "model.mos=2.0", r"unknown key 'model\.mos'\. Did you mean 'model\.most'"),
        ("smooth_coop", "model.smoothin=0.2", r"Did you mean 'model\.smoothing'"),
        ("command", "mentor.chat.timeouts=3", r"Did you mean 'mentor\.chat\.timeout'"),
    ],
)
def test_a_setting_that_it_does_not_read_is_refused(name: str, wrong: str, told: str, config: Any) -> None:
    with pytest.raises(ConfigError, match=told):
        config(name, by_file, wrong)


def test_the_diffs_of_the_page_apply_and_what_they_add_passes_the_suites(tmp_path: Path) -> None:
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for block in blocks("diff"):
        done = subprocess.run(["git", "apply", "-v", "-"], input=block, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
    command = next(line for line in blocks("sh")[0].splitlines() if line.startswith("pytest "))
    arguments = [argument.strip('"') for argument in re.findall(r'"[^"]*"|\S+', command)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 40 and "skipped" not in done.stdout
