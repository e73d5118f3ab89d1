"""`docs/where-you-work.md`: each block gives a tuned classifier in at most ten lines, and runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "where-you-work.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_no_example_is_longer_than_ten_lines() -> None:
    assert BLOCKS and all(len(block.strip().split("\n")) <= 10 for block in BLOCKS)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the page from top to bottom, in a folder of its own."""
    names: dict[str, Any] = {"__name__": "shown"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for block in BLOCKS:
            exec(compile(block, PAGE.name, "exec"), names)
    return names


def test_the_pipeline_of_the_page_tells_card_from_rate(shown: dict[str, Any]) -> None:
    assert shown["pipeline"].predict(shown["frame"].text).tolist() == shown["frame"].label.tolist()
