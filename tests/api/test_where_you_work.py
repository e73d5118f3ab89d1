"""`docs/where-you-work.md`: each block gives a tuned classifier in at most ten lines, and runs as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_transformers import peft_trainer

PAGE = Path(__file__).parents[2] / "docs" / "where-you-work.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_no_example_is_longer_than_ten_lines() -> None:
    assert BLOCKS and all(len(block.strip().split("\n")) <= 10 for block in BLOCKS)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> dict[str, Any]:
    """Run the page from top to bottom, in a folder of its own, with the Trainer of some script."""
    names: dict[str, Any] = {"__name__": "shown", "trainer": peft_trainer(llama, tmp_path_factory.mktemp("script"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place := tmp_path_factory.mktemp("page"))
        for block in BLOCKS:
            exec(compile(block, PAGE.name, "exec"), names)
        names["result"].folder, names["logged"].folder = place / "runs" / "frame", place / "runs" / "logged"
    return names


@pytest.mark.real
def test_the_pipeline_of_the_page_tells_card_from_rate(shown: dict[str, Any]) -> None:
    assert shown["pipeline"].predict(shown["frame"].text).tolist() == shown["frame"].label.tolist()


@pytest.mark.real
def test_the_frame_of_the_page_keeps_its_index(shown: dict[str, Any]) -> None:
    found = shown["found"]
    assert found.index.tolist() == ["a", "b", "c", "d"] and found.predicted.tolist() == shown["frame"].label.tolist()
    assert found.columns.tolist() == ["predicted", "probability", "p(card)", "p(rate)"]
    assert (found[["p(card)", "p(rate)"]].sum(axis=1) - 1).abs().max() < 1e-6


@pytest.mark.real
def test_the_data_set_of_the_page_is_judged_on_its_test(shown: dict[str, Any]) -> None:
    assert shown["tuned"].finals["chosen"].score.accuracy == 1.0 and shown["tuned"].environment["labels"] == ["card", "rate"]


@pytest.mark.real
def test_the_run_of_the_page_is_logged(shown: dict[str, Any]) -> None:
    assert list((shown["logged"].folder / "tensorboard").glob("events*"))
    assert shown["logged"].digest == shown["result"].digest


@pytest.mark.real
def test_the_pictures_of_the_page_are_told_apart(shown: dict[str, Any]) -> None:
    assert shown["colors"].finals["chosen"].score.accuracy == 1.0


@pytest.mark.real
def test_the_script_of_the_page_has_a_mentor(shown: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in (Path(shown["trainer"].args.output_dir) / "mentor.jsonl").read_text().splitlines()]
    asked = [[one["text"] for one in line["proposals"]] for line in lines if line["event"] == "asked"]
    assert [len(texts) for texts in asked] == [2, 1] and asked[0] == ["the topic of the news", "sport or music?"]


@pytest.mark.real
def test_what_the_page_shares_predicts_the_same(shown: dict[str, Any]) -> None:
    probabilities = [one.probabilities for one in shown["shared"].predict(shown["frame"])]
    assert probabilities == [
        dict(zip(("card", "rate"), row, strict=True)) for row in shown["found"][["p(card)", "p(rate)"]].to_numpy().tolist()
    ]
