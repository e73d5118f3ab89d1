"""A person answers at the terminal that shows the run: the bar is out of the way while they type."""

from __future__ import annotations

import io
from time import sleep
from types import SimpleNamespace

import pytest
from rich.console import Console

from maao.bars import REDRAW
from maao.config import make_config
from maao.console import Terminal
from maao.core.budget import Budget
from maao.llm.chat import Message, Request
from maao.llm.ledger import MemoryLedger
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.mentors.built import BuiltMentor
from maao.mentors.controls import NoMentor
from maao.progress import job
from maao.types import Leg

REQUEST = Request("anyone", (Message("user", "What next?"),))


def load(name):
    raise AssertionError("no model is loaded")


@pytest.fixture
def started(tmp_path):
    """Return the function from a mentor section to a terminal that shows a run with that mentor."""
    opened = []

    def make(mentor):
        terminal = Terminal(Console(file=io.StringIO(), force_terminal=True, width=200))
        opened.append(terminal)
        parts = SimpleNamespace(
            config=make_config({"mentor": mentor}),
            plan=(Leg(2, ask=True),),
            accept=SimpleNamespace(max_steps=lambda proposals: 0),
            frozen=None,
            encoder=None,
            splits=None,
            notes=(),
        )
        terminal.started(parts, BuiltMentor(NoMentor(), Recording(MemoryLedger(), Here("", load), Budget())), tmp_path, 0)
        return terminal

    yield make
    for terminal in opened:
        terminal.bars.pause()


@pytest.mark.parametrize("mentor", [{"name": "person"}, {"chat": {"provider": "person", "name": "me"}}], ids=str)
def test_bar_stops_while_a_person_types_and_goes_on_with_the_next_step(started, mentor):
    terminal = started(mentor)
    live = terminal.bars.progress.live
    with terminal, job("walking", 2) as walking:
        assert live.is_started
        with job("asking me"):
            terminal.call(REQUEST)
            assert not live.is_started
        assert not live.is_started
        sleep(REDRAW)
        walking.advance()
        assert live.is_started
    assert not live.is_started


@pytest.mark.parametrize("mentor", [{"chat": {"provider": "local"}}, {"name": "scripted"}], ids=str)
def test_bar_goes_on_while_a_model_is_asked(started, mentor):
    terminal = started(mentor)
    with terminal, job("walking", 2):
        terminal.call(REQUEST)
        assert terminal.bars.progress.live.is_started
