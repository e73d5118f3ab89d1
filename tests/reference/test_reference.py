"""The tool itself: the same runs come to the same, and every run's settings are read."""

from __future__ import annotations

import json

import pytest
import torch

from maao.config import make_config
from tests.reference.__main__ import main
from tests.reference.runs import runs

TWO = ("function_scripted", "slots_first")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_reference_run_has_settings_that_are_read(tmp_path):
    for settings in runs(tmp_path).values():
        make_config(settings)


def test_the_same_runs_come_to_the_same(tmp_path, threads, monkeypatch):
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))
    for name in ("first.json", "second.json"):
        main(tmp_path / name, TWO)
    found = [json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("first.json", "second.json")]
    assert found[0] == found[1] and set(found[0]) == set(TWO)
