"""Fixtures that several folders share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)  # the same examples on every machine, however slow
settings.load_profile("fixed")


@pytest.fixture
def write(tmp_path):
    """Return the function that writes a file of that name, from text or bytes."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def serializer():
    from maao.optimizers.serializer import TorchSerializer

    return TorchSerializer()


@pytest.fixture
def quiet_datasets():
    """Keep the bars of `datasets` off the terminal."""
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run tiny models on one thread: for tensors this small, more only wait for one another. Real models get all."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads((os.cpu_count() or 1) if any(item.get_closest_marker(m) for m in ("real", "server")) else 1)
