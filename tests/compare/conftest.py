"""The tiny models of `tests/api/fixtures.py`, for the tests of this folder; and workers that need no start."""

from __future__ import annotations

import pytest

from maao.compare import workers
from tests.api.fixtures import llama, model_folder
from tests.compare.here import Here

__all__ = ["llama", "model_folder"]


@pytest.fixture
def worker_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let comparisons of this test work in this process."""
    monkeypatch.setattr(workers, "LocalWorker", Here)
