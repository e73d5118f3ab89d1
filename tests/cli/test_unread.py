"""Output that nobody reads to its end: what is made is made all the same, and what only prints stops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from maao.result import load
from maao.streams import Outlet, outlast, outlets
from tests.api.small_runs import to_toml

MAAO = Path(sys.executable).with_name("maao")
FUNCTION = {"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 3}}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "f.toml").write_text(to_toml(FUNCTION), encoding="utf-8")
    return tmp_path / "f.toml"


def closed() -> int:
    """Return the end of a pipe that is written, which nobody reads."""
    read, written = os.pipe()
    os.close(read)
    return written


def said(*command: object, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with its standard output somewhere; return its exit code and what it told beside."""
    return subprocess.run([MAAO, *map(str, command)], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120)


def test_a_run_whose_output_is_no_longer_read_goes_on_to_its_end(config, tmp_path):
    pipe = closed()
    try:
        done = subprocess.run(
            [MAAO, "tune", config, "--run", tmp_path / "run"], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120
        )
        shown = said("runs", tmp_path, stdout=pipe)
    finally:
        os.close(pipe)
    assert done.returncode == 0
    assert done.stderr == "Note: standard output is no longer read. This goes on without it, and what is made is stored.\n"
    assert load(tmp_path / "run").status == "finished" and len(load(tmp_path / "run").history) == 3
    assert (shown.returncode, shown.stderr) == (141, "")


def test_a_run_that_nobody_hears_at_all_goes_on_too(config, tmp_path):
    pipe = closed()
    try:
        command = [MAAO, "tune", config, "--run", tmp_path / "run", "--json"]  # rounds are told on standard error
        done = subprocess.run(command, stdout=pipe, stderr=pipe, timeout=120)
    finally:
        os.close(pipe)
    assert done.returncode == 0 and load(tmp_path / "run").status == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_an_error_and_costs_no_work(config, tmp_path):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [MAAO, "tune", config, "--run", tmp_path / "run"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
        shown = said("runs", tmp_path, stdout=full)
    assert done.returncode == 1 and load(tmp_path / "run").status == "finished"
    assert done.stderr.startswith("Note: standard output cannot be written (No space left on device).") and done.stderr.count("\n") == 1
    assert (shown.returncode, shown.stderr) == (1, "Error: standard output cannot be written: No space left on device.\n")


def test_what_comes_after_a_loss_leads_nowhere_for_children_too(monkeypatch, capfd):
    with os.fdopen(closed(), "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with outlets():
            outlast()
            print("é", flush=True)
            print("more", flush=True)
            child = subprocess.run([sys.executable, "-c", "print('child', flush=True)"], stdout=stream, timeout=60)
            assert child.returncode == 0
        assert sys.stdout is stream and Outlet.failed is None
    assert capfd.readouterr().err.startswith("Note: standard output is no longer read.")
