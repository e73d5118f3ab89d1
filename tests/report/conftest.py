"""A run that means harm, made once, and the page of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maao.report.html.page import write_page
from maao.report.html.run_view import Wanted
from tests.api.fixtures import llama, model_folder
from tests.browser import chromium
from tests.report.pages import hostile_run, picture_run, write_results

__all__ = ["chromium", "llama", "model_folder"]


@pytest.fixture(scope="session")
def hostile(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose texts, labels and replies mean harm."""
    return hostile_run(llama, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def hostile_page(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    return write_page([hostile], tmp_path_factory.mktemp("pages") / "hostile.html", Wanted())


@pytest.fixture(scope="session")
def pictured_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run on pictures."""
    folder = tmp_path_factory.mktemp("pictured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAAO_CACHE", str(folder / "cache"))
        return write_page([picture_run(folder)], folder / "pictured.html", Wanted())


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three arms with three seeds."""
    return write_results(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="session")
def comparison_page(comparison: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    return write_page([comparison], tmp_path_factory.mktemp("pages") / "comparison.html", Wanted())
