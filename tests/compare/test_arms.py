"""Arms that are no run of maao, and pages: those that maao carries, and those of a file beside the table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from maao.baselines.majority import Majority
from maao.baselines.peft import Peft
from maao.compare import cells, compare, read_table, workers
from maao.config import make_config
from maao.errors import ConfigError, MaaoError
from tests.api.small_runs import values, write_data
from tests.compare.here import Here

TABLE = """
seeds = [0, 1]
baseline = "run"
page = "mine.py:Short"
heading = "What came of it"

[base]
"problem" = "function"
"plan.rounds" = 1
"plan.steps" = 2
"mentor.name" = "none"

[tasks.bowl]
"stage.lr" = 0.1

[[arms]]
name = "run"

[[arms]]
name = "guess"
how = "mine.py:Guess"
at = 0.25
"""

MINE = """
from maao.baselines.outcome import spent
from maao.options import Section
from maao.types import Cost


class Guess(Section):
    at: float = 0.5

    def run(self, config, folder):
        return {"test": {"loss": self.at, "accuracy": config.seed / 2}, "cost": spent(Cost())}


class Short(Section):
    heading: str = ""

    def write(self, table, rows, place, total):
        (place / "page.md").write_text(f"{self.heading}: {len(rows)} of {total}")
        return {"best": min(row.arm for row in rows)}


NOTHING = 3
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    file = tmp_path / "t.toml"
    file.write_text(TABLE)
    return file


def test_arms_and_pages_of_a_file_beside_the_table_join_as_they_are(table: Path, tmp_path: Path) -> None:
    page = compare(table, tmp_path / "out", workers=1)
    assert page.read_text() == "What came of it: 4 of 4"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["best"] == "guess"
    rows = [row for row in results["rows"] if row["arm"] == "guess"]
    assert [(row["method"], row["test"]) for row in rows] == [
        ("Guess", {"loss": 0.25, "accuracy": 0.0}),
        ("Guess", {"loss": 0.25, "accuracy": 0.5}),
    ]


def test_a_table_in_another_folder_takes_what_it_lacks_with_the_files_beside_that(table: Path, tmp_path: Path) -> None:
    (tmp_path / "further").mkdir()
    (tmp_path / "further" / "t.toml").write_text('with = "../t.toml"\nseeds = [3]\n')
    found = list(cells(read_table(tmp_path / "further" / "t.toml"), tmp_path))
    assert [(cell.arm, type(cell.how.options).__name__) for cell in found] == [("run", "Tune"), ("guess", "Guess")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("at = 0.25", "att = 0.25"), r"unknown key 'arms\.1\.att'. Did you mean 'arms\.1\.at'"),
        (("at = 0.25", 'at = "low"'), r"'arms\.1\.at': .*; got 'low'"),
        (
            ("mine.py:Guess", "majorty"),
            r"'arms\.1\.how': there is no baseline of that name. Did you mean 'majority'\? Known: tune, majority",
        ),
        (("mine.py:Guess", "yours.py:Guess"), r"'arms\.1\.how': there is no file .*yours\.py"),
        (("mine.py:Guess", "mine.py:Gess"), r"'arms\.1\.how': .*mine\.py holds no class Gess"),
        (("mine.py:Guess", "mine.py:NOTHING"), r"'arms\.1\.how': .*mine\.py holds no class NOTHING"),
        (("mine.py:Short", "long"), r"'page': there is no page of that name\. Known: differences"),
        (("heading =", "headline ="), r"unknown key 'headline'\. Did you mean 'heading'"),
    ],
)
def test_what_an_arm_or_a_page_cannot_be_is_told(change: tuple[str, str], told: str, table: Path) -> None:
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(ConfigError, match=told):
        read_table(table)


def test_a_file_that_cannot_be_imported_is_told(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(ConfigError, match=r"mine\.py cannot be imported \(ModuleNotFoundError: No module named 'nothing_of_that_name'\)"):
        read_table(table)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ZeroDivisionError('by\\nzero')", "_guess_bowl_0: ZeroDivisionError: by zero"),
        ("return {'test': {'loss': 0.1}}", "_guess_bowl_0: The arm's way '.*mine.py:Guess' gave no row: .*cost"),
        ("return {'cost': spent(Cost()), 'words': object()}", "gave no row: Object of type object is not JSON serializable"),
        ("return None", "_guess_bowl_0: TypeError"),
    ],
)
def test_an_arm_that_fails_leaves_no_row_and_stops_no_other(
    body: str, told: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = next(line.strip() for line in MINE.splitlines() if line.strip().startswith("return {"))
    (tmp_path / "mine.py").write_text(MINE.replace(returned, body, 1))
    with monkeypatch.context() as patch:
        patch.setattr(workers, "LocalWorker", Here)  # the file is mended below, and is read anew by a process of its own
        with pytest.raises(MaaoError, match=told):
            compare(table, tmp_path / "out", workers=1)
    assert sorted(file.name for file in (tmp_path / "out" / "rows").glob("*.json")) == ["_run_bowl_0.json", "_run_bowl_1.json"]
    (tmp_path / "mine.py").write_text(MINE)
    assert compare(table, tmp_path / "out", workers=1).read_text() == "What came of it: 4 of 4"


def test_baselines_refuse_in_words_what_they_cannot_do(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A baseline is made of labelled examples, and a function has none"):
        Majority().run(make_config({"problem": "function", "mentor": {"name": "none"}}), tmp_path)
    head = make_config(values(model_folder("bert"), write_data(tmp_path), mentor__name="none"))
    with pytest.raises(ConfigError, match="'peft' tunes a prompt in front of a text, read by the label words of a decoder"):
        Peft().run(head, tmp_path)


def test_the_guides_table_and_its_arm_are_understood(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    first, *arms = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "guide.toml").write_text(first + "".join(arms))
    found = list(cells(read_table(tmp_path / "guide.toml"), tmp_path))
    assert {cell.arm for cell in found} == {"none", "random restart", "mentor", "majority class"}
    (tmp_path / "arms.py").write_text(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0])
    own = TABLE.replace("mine.py:Guess", "arms.py:Untuned").replace("at = 0.25", "begin = 2").replace("mine.py:Short", "differences")
    (tmp_path / "own.toml").write_text(own.replace('heading = "What came of it"\n', ""))
    compare(tmp_path / "own.toml", tmp_path / "out", workers=1, only="guess")
    row = json.loads((tmp_path / "out" / "rows" / "_guess_bowl_0.json").read_text())
    assert row["method"] == "Untuned" and row["test"]["loss"] > 0
