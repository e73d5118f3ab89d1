"""The tiny models of `tests/api/fixtures.py`, commands, and one finished run, for the tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.api.fixtures import llama, model_folder
from tests.api.small_runs import values, write_config, write_data
from tests.commands import ran

__all__ = ["llama", "model_folder"]

MAAO = Path(sys.executable).with_name("maao")


@pytest.fixture
def maao(capsys, monkeypatch):
    """Return the function that runs a command in this process."""
    return partial(ran, monkeypatch, capsys)


@pytest.fixture(scope="session")
def settings(llama, tmp_path_factory):
    return values(llama, write_data(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="session")
def run(settings, tmp_path_factory):
    """A finished run, made by the installed command in a process of its own."""
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(tmp_path_factory.mktemp("config"), settings)
    done = subprocess.run([MAAO, "tune", config, "--run", folder / "first"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (folder / "first.out").write_text(done.stdout, encoding="utf-8")
    return folder / "first"
