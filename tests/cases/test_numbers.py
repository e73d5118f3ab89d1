"""Numbers that go wrong in a run: each is noticed, told as it happens and at the end, and acted on as configured, for every kind."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

import maao
from maao.cli import app
from maao.config import make_config
from maao.console import Terminal
from maao.errors import DataError, NotFinite
from maao.mentors.population import fittest
from maao.mentors.trajectory import select
from maao.problems.classification import Batch, ClassificationProblem
from maao.runner import run
from maao.troubles import Trouble
from maao.types import Advice, Clues, Considered, Cost, Leg, Proposal, Round, Score, Verdict
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import values, write_data
from tests.api.test_images import model as clip  # noqa: F401  (a fixture)
from tests.api.test_images import pictures, settings  # noqa: F401  (a fixture)
from tests.tiny_sentence import sentence_folder

PLAN = {"rounds": 0, "steps": 6, "store_every": 2}
KINDS = ("soft prompt", "head", "matcher", "pictures")
Loss = Callable[[Any, Any, Batch], Tensor]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_folder(tmp_path_factory.mktemp("encoder"), max_length=12)[0]


@pytest.fixture
def config_of(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what makes the config of a small run of a kind; further settings by section."""
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))

    def made(kind: str, **sections: dict[str, Any]) -> Any:
        if kind == "pictures":
            base = settings(request.getfixturevalue("clip"), request.getfixturevalue("pictures"), mentor={"name": "none"})
        else:
            name = request.getfixturevalue("encoder" if kind == "matcher" else "llama")
            model: dict[str, Any] = {"name": str(name), "num_virtual_tokens": 4, "template": "{text} {slots} Topic:"}
            if kind == "head":
                model |= {"kind": "head", "template": "{slots} {text}"}
            if kind == "matcher":
                model = {"kind": "matcher", "name": str(name), "wordings": ["{class}"], "method": "coop"}
            base = values(name, write_data(tmp_path), model=model, mentor={"name": "none"}, accept={"rule": "best_of"})
            base.pop("accept")
        base["plan"] = PLAN
        for section, own in sections.items():
            base[section] = own if section in ("mentor", "accept") else {**base.get(section, {}), **own}
        return make_config({**base, "threads": 1, "baselines": []})

    return made


class Told(maao.Watch):
    """Keeps what is told while a run goes on."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, told: str) -> None:
        self.notes.append(told)


def kinds(result: maao.Result) -> set[str]:
    return {trouble.kind for trouble in result.troubles}


def changed_loss(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Tensor, Any], Tensor]) -> None:
    """Change the loss of every gradient step; `change` is given the number of the call, the loss and the params."""
    plain, calls = ClassificationProblem.loss, iter(range(10**6))

    def loss(self: Any, params: Any, batch: Batch) -> Tensor:
        found = plain(self, params, batch)
        return change(next(calls), found, params) if torch.is_grad_enabled() else found

    monkeypatch.setattr(ClassificationProblem, "loss", loss)


def endless_gradient(loss: Tensor, params: Any) -> Tensor:
    """Return a loss of the same value, whose gradient is no number."""
    first = next(value for value in params.values() if value.requires_grad)
    return loss + (0 * first.sum()).sqrt()


FAULTS: dict[str, Callable[[int, Tensor, Any], Tensor]] = {
    "a loss that is NaN": lambda call, loss, params: loss * math.nan if call == 3 else loss,
    "a loss without end": lambda call, loss, params: loss * math.inf if call == 3 else loss,
    "a gradient that is NaN": lambda call, loss, params: endless_gradient(loss, params) if call == 3 else loss,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_numbers_goes_back_and_is_told(
    kind: str, fault: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_loss(monkeypatch, FAULTS[fault])
    told = Told()
    result = run(config_of(kind), tmp_path / "run", watch=told)
    assert result.status == "finished" and all(math.isfinite(r.score.loss) for r in result.history)
    assert [round(r.state.lr_scale, 3) for r in result.history] == [1.0, 1.0, 0.5, 0.5]
    (told_once,) = [note for note in told.notes if "went back" in note]
    assert told_once.startswith("Round 2: 1 of its 2 steps met a loss or gradient that is no finite number")
    assert "went_back" in kinds(maao.load(tmp_path / "run"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_stops_where_that_is_asked_and_the_best_point_is_used(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_loss(monkeypatch, FAULTS["a loss that is NaN"])
    told = Told()
    result = run(config_of(kind, stage={"not_finite": "stop"}), tmp_path / "run", watch=told)
    assert (result.status, len(result.history)) == ("finished", 2) and "chosen" in result.finals
    assert "its walk ended after round 1: The loss is nan at step 3" in result.status_reason
    assert any("the best point that is stored is used" in note for note in told.notes)
    monkeypatch.undo()
    assert maao.replay(tmp_path / "run", progress=False).same >= 2  # the fault was none of the config's


@pytest.mark.parametrize("kind", KINDS)
def test_where_every_step_fails_the_walk_ends(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_loss(monkeypatch, lambda call, loss, params: loss * math.nan if call > 2 else loss)
    result = run(config_of(kind, stage={"most_rollbacks": 2}), tmp_path / "run")
    assert result.status == "finished" and "after 2 steps that went back for that reason" in result.status_reason
    assert result.chosen.score.loss == min(held.score.loss for held in result.history)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_cannot_begin_says_so_and_is_stopped(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ClassificationProblem.read_split

    def no_numbers(self: Any, points: Any, split: Any) -> Any:
        return tuple(replace(read, scores=read.scores * math.nan) for read in plain(self, points, split))

    monkeypatch.setattr(ClassificationProblem, "read_split", no_numbers)
    changed_loss(monkeypatch, lambda call, loss, params: loss * math.nan)
    told = Told()
    with pytest.raises(NotFinite, match=r"loss is nan at the starting point of step 0"):
        run(config_of(kind), tmp_path / "run", watch=told)
    stopped = maao.load(tmp_path / "run")
    assert stopped.status == "stopped" and "The loss is nan at the starting point" in stopped.status_reason
    assert any("the model gives no number for" in note and "its point is not used" in note for note in told.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_that_does_not_move_is_told(kind: str, config_of: Callable[..., Any], tmp_path: Path) -> None:
    told = Told()
    result = run(config_of(kind, stage={"lr": 1e-300, "options": {"weight_decay": 0.0}}), tmp_path / "run", watch=told)
    assert kinds(result) >= {"not_moved"}
    assert sum("gradient steps moved nothing" in note for note in told.notes) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_one_class_are_told_once_and_at_the_end(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ClassificationProblem.read_split

    def first_class(self: Any, points: Any, split: Any) -> Any:
        favored = torch.zeros(len(self.splits.labels))
        favored[0] = 1e4
        return tuple(replace(read, scores=read.scores + favored) for read in plain(self, points, split))

    monkeypatch.setattr(ClassificationProblem, "read_split", first_class)
    told = Told()
    result = run(config_of(kind), tmp_path / "run", watch=told)
    label = result.environment["labels"][0]
    assert sum("are put into one class" in note for note in told.notes) == 1
    (one,) = [trouble for trouble in result.troubles if trouble.kind == "one_class"]
    assert f"It puts all {result.finals['chosen'].score.num_examples} test examples into one class, {label!r}" in one.text


@pytest.mark.parametrize("kind", KINDS)
def test_some_examples_without_numbers_count_as_wrong(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ClassificationProblem.read_split

    def two_unread(self: Any, points: Any, split: Any) -> Any:
        found = plain(self, points, split)
        if split == "test":
            for read in found:
                read.scores[0], read.scores[1, 0] = math.nan, math.inf
        return found

    before = run(config_of(kind, data={"metrics": ["f1_macro"]}), tmp_path / "before")
    monkeypatch.setattr(ClassificationProblem, "read_split", two_unread)
    result = run(config_of(kind, data={"metrics": ["f1_macro"]}), tmp_path / "run")
    score, count = result.finals["chosen"].score, before.finals["chosen"].score.num_examples
    assert (score.unread, math.isfinite(score.loss)) == (2, False)
    assert 0 <= round((before.finals["chosen"].score.accuracy - score.accuracy) * count) <= 2
    (one,) = [trouble for trouble in result.troubles if trouble.kind == "not_finite"]
    assert one.text == f"On test: the model gives no number for 2 of {count} examples there, which count as read wrongly."


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_without_a_number_is_named(
    kind: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(config_of(kind), tmp_path / "run")
    plain = ClassificationProblem.class_scores
    monkeypatch.setattr(ClassificationProblem, "class_scores", lambda self, params, inputs: plain(self, params, inputs) * math.nan)
    inputs = [str(next(Path(request_data(result)).rglob("*.png")))] if kind == "pictures" else ["shares profit"]
    (one,) = result.try_predict(inputs)
    assert "the model gives no number for it" in one.reason  # type: ignore[union-attr]
    with pytest.raises(DataError, match="the model gives no number for it"):
        result.predict(inputs)


def request_data(result: maao.Result) -> str:
    return str(result.config.data.options.source)


def test_a_restart_that_cannot_be_walked_is_taken_back(config_of: Callable[..., Any], tmp_path: Path) -> None:
    class Mad:
        def propose(self, history: Any, *, count: int, seed: int) -> Advice[Any]:
            point = {name: value * math.nan for name, value in history[-1].state.params.items()}
            return Advice((Proposal("mad", point),))

    config = config_of(
        "soft prompt", plan={"rounds": 2, "steps": 2, "store_every": 2}, accept={"rule": "always_first"}, mentor={"name": "custom"}
    )
    told = Told()
    result = run(config, tmp_path / "run", mentor=Mad(), watch=told)
    assert all(math.isfinite(r.score.loss) for r in result.history) and len(result.history) == 4
    asked = [r for r in result.history if r.leg.ask]
    assert [r.verdict.chosen for r in asked] == [None, None]
    assert all("taken unscored; taken back, since The loss is nan" in r.verdict.reason for r in asked)
    assert [trouble.text for trouble in result.troubles if trouble.kind == "taken_back"] == [
        "2 restarts of the mentor's could not be walked from and were taken back."
    ]
    assert maao.replay(tmp_path / "run", mentor=Mad()).equal


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["soft prompt", "head"])
def test_half_precision_that_overflows_is_named(
    kind: str, dtype: str, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_loss(monkeypatch, FAULTS["a loss without end"])
    result = run(config_of(kind, model={"dtype": dtype}), tmp_path / "run")
    (one,) = [trouble for trouble in result.troubles if trouble.kind == "half_precision"]
    assert dtype in one.text and "model.dtype = " in one.text


def test_terminal_show_report_and_json_tell_it(config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_loss(monkeypatch, FAULTS["a loss that is NaN"])
    with Terminal(Console(file=io.StringIO(), width=300)) as terminal:
        result = run(config_of("soft prompt"), tmp_path / "run", watch=terminal)
    assert "Round 2: 1 of its 2 steps met" in terminal.console.file.getvalue()  # type: ignore[attr-defined]
    said = "1 of 6 gradient steps met a loss or gradient that is no finite number and went back to the last good point"
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "run")])
    assert said in shown.output.replace("\n", " ")
    document = json.loads(CliRunner().invoke(app, ["show", str(tmp_path / "run"), "--json"]).output)
    assert (document["troubles"][0]["kind"], document["troubles"][0]["round"]) == ("went_back", None)
    assert said in document["troubles"][0]["text"] and said in json.dumps(document["story"])
    page = tmp_path / "page.html"
    CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--split", "none", "--to", str(page)])
    assert said in page.read_text(encoding="utf-8")
    assert isinstance(result.troubles[0], Trouble)


def test_mentors_are_shown_no_loss_that_is_no_number() -> None:
    losses = [1.0, math.nan, math.inf, -math.inf, 0.5]
    proposals = tuple(Proposal(f"text {i}", {}) for i in range(len(losses)))
    considered = tuple(Considered(i, Score(loss), age=2) for i, loss in enumerate(losses))
    history = (
        Round(
            0,
            Leg(2, ask=True),
            Advice(proposals),
            Verdict(None, None, considered),
            (),
            Score(1.0),
            Clues(),
            SimpleNamespace(params={}, start={}, step=2, age=2),
            Cost(),
        ),
    )
    assert [entry.text for entry in fittest(history)] == ["text 4", "text 0"]
    assert [entry.text for entry in select(history, 9)] == ["text 0", "text 4"]


def test_a_feature_without_numbers_names_its_input(
    encoder: Path, config_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maao.problems.towers.text.sentence import TextInputs

    plain = TextInputs.features

    def some(self: Any, inputs: Any, *rest: Any) -> Tensor:
        found = plain(self, inputs, *rest)
        found[[i for i, one in enumerate(inputs) if self.told(one).startswith("shares")]] = math.nan
        return found

    monkeypatch.setattr(TextInputs, "features", some)
    with pytest.raises(DataError, match=r"no finite feature for the text that begins 'shares"):
        run(config_of("matcher"), tmp_path / "run")


def test_a_comparison_tells_of_cells_without_a_loss() -> None:
    from maao.baselines.outcome import figures
    from maao.compare.page import pairs_of, without_loss, without_loss_told
    from maao.compare.rows import Row

    scores = {"plain": Score(0.5, {"accuracy": 0.75}, 4), "mad": Score(math.nan, {"accuracy": 0.5}, 4, unread=2)}
    rows = [Row(task="t", arm=arm, model="m", seed=seed, test=figures(score), cost={}) for arm, score in scores.items() for seed in (0, 1)]
    assert json.loads(json.dumps(rows[-1].test, allow_nan=False)) == {"accuracy": 0.5, "examples": 4, "unread": 2}
    assert pairs_of(rows, "mad", "plain", "t", "loss", 1.0) == [] and len(pairs_of(rows, "mad", "plain", "t", "accuracy", 100.0)) == 2
    assert without_loss_told(without_loss(rows), 4) == (
        "2 cells of 4 have no finite loss on test (arms: mad), and are in nothing that is said of losses. In 2 of them the model gave no "
        "number for some examples, which count as read wrongly."
    )
