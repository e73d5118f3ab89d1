"""A run that means harm, made once, and the page of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maao.report.html.page import write_page
from maao.report.html.run_view import Wanted
from tests.api.fixtures import llama, model_folder
from tests.report.pages import hostile_run

__all__ = ["llama", "model_folder"]


@pytest.fixture(scope="session")
def hostile(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose texts, labels and replies mean harm."""
    return hostile_run(llama, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def hostile_page(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    return write_page([hostile], tmp_path_factory.mktemp("pages") / "hostile.html", Wanted())
