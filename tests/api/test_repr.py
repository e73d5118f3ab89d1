"""What a notebook shows of our objects: one line that can be read, with no tensor dumped and no address."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

import maao
from maao.config import make_config
from maao.predictor import Predictor
from maao.runner import run
from maao.types import Observation, Proposal, Verdict

FUNCTION = {"problem": "function", "mentor": {"name": "scripted", "texts": ["0, 0", "1, 1"]}, "plan": {"rounds": 1, "steps": 5}}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> maao.Result:
    return run(make_config(FUNCTION), tmp_path_factory.mktemp("runs") / "run")


def made(name: str, result: maao.Result) -> object:
    """Return an object of a public class, from a real run where a run has one."""
    asked = next(one for one in result.history if one.leg.ask)
    own = {
        "Advice": asked.advice,
        "Clues": asked.clues,
        "Config": result.config,
        "Cost": result.cost,
        "Leg": asked.leg,
        "Proposal": asked.advice.proposals[0],
        "Predictor": Predictor(result.config, [f"label {i}" for i in range(77)], (), {"prompt": torch.zeros(4, 8)}),
        "Progress": maao.Progress(1, "walking"),
        "Result": result,
        "Round": asked,
        "Score": asked.score,
        "IfBetter": maao.IfBetter(),
        "MaaoError": maao.MaaoError("It is broken."),
        "Waiting": maao.Waiting("One reply is waited for."),
    }
    return own[name] if name in own else getattr(maao, name)()


CLASSES = [name for name in maao.__all__ if inspect.isclass(getattr(maao, name))]


def readable(thing: object) -> bool:
    told = repr(thing)
    return "\n" not in told and len(told) < 400 and not any(mark in told for mark in ("tensor(", "array(", " at 0x", "<function"))


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_object_reads_in_one_line(name: str, result: maao.Result) -> None:
    assert readable(made(name, result)), repr(made(name, result))


def test_what_a_run_is_made_of_reads_well(result: maao.Result, tmp_path: Path) -> None:
    asked = next(one for one in result.history if one.leg.ask)
    assert repr(result).startswith(f"Result({str(result.folder)!r}, finished, 3 rounds, chosen Score(loss ")
    assert repr(maao.Result(tmp_path / "none")) == f"Result({str(tmp_path / 'none')!r}, cannot be read: StoreError)"
    assert repr(asked).startswith("Round(2, 5 steps, 2 proposals")
    assert repr(result.config) == "Config('function', function='rastrigin', mentor='scripted', seed=0)"
    assert repr(maao.Cost(gradient_steps=2, usd=0.5)) == "Cost(gradient_steps=2, usd=0.5)" and repr(maao.Cost()) == "Cost()"
    assert repr(maao.Score(0.25, {"f1_macro": 0.5}, 8)) == "Score(loss 0.25, f1 macro 0.5, 8 examples)"
    assert repr(Proposal("a text", {"prompt": 1})).startswith("Proposal(text='a text', source=''")
    assert all(map(readable, (*asked.observations, asked.verdict)))
    assert isinstance(asked.observations[0], Observation) and isinstance(asked.verdict, Verdict)
