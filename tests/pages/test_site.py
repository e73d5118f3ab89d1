"""The site in a real Chromium: its pages fit a desk and a phone, show their drawings, and ask for nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
SHOWN = (
    "index",
    "tutorial",
    "concepts",
    "guarantees",
    "findings",
    "settings",
    "api/maao",
    "api/types",
    "notebooks/few_labels",
    "repo/CHANGELOG",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_show_their_drawings_and_ask_for_nothing_elsewhere(width: int, site: Path, chromium: Any) -> None:
    asked: list[str] = []
    for name in SHOWN:
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
        assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 80))") == [], name
        assert page.locator("h1").first.is_visible()
        page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
