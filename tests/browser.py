"""A real browser for tests of what is read in one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser. Where there is none, that is an error: nothing else opens a page as a reader does."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "There is no chromium: apt-get install chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
