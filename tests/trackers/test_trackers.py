"""Trackers: figures arrive whole, nothing but figures goes out, and what fails stops no run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import maao
from maao import choices
from maao.api import tune
from maao.config import Config, make_config
from maao.errors import ConfigError
from maao.protocols import TrackedRun
from maao.runner import Watch, run
from maao.store.mirror import Mirror
from maao.trackers.wandb import WandB
from tests.api.fixtures import llama, model_folder
from tests.api.small_runs import LABELS, REPLIES, StopAt, pairs

__all__ = ["llama", "model_folder"]


class Kept:
    """Keeps all it is told."""

    def __init__(self) -> None:
        self.started: list[TrackedRun] = []
        self.rounds: list[tuple[int, dict[str, float]]] = []
        self.ended: list[dict[str, Any]] = []

    def start(self, run: TrackedRun) -> None:
        self.started.append(run)

    def log(self, index: int, figures: Any) -> None:
        self.rounds.append((index, dict(figures)))

    def finish(self, summary: Any) -> None:
        self.ended.append(dict(summary))


def a_config(tracker: dict[str, Any] | None = None, **changes: Any) -> Config:
    own = {"problem": "function", "mentor": {"name": "scripted", "texts": ["0, 0"]}, "plan": {"rounds": 1, "steps": 5}}
    return make_config({**own, **({} if tracker is None else {"tracker": tracker}), **changes})


def tracked_by(tracker: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tracker of every run be this one."""
    monkeypatch.setattr(choices.load("tracker", "none"), "build", lambda self: tracker)


def test_rounds_and_the_end_are_told_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked_by(kept := Kept(), monkeypatch)
    result = run(a_config(), tmp_path / "run")
    assert [one.name for one in kept.started] == ["run"] and kept.started[0].done == 0
    assert [index for index, _ in kept.rounds] == [one.index for one in result.history]
    for (_, figures), finished in zip(kept.rounds, result.history, strict=True):
        assert figures["select/loss"] == finished.score.loss
        assert ("mentor/proposals" in figures) == finished.leg.ask
    assert kept.rounds[-1][1]["cost/gradient_steps"] == result.cost.gradient_steps
    assert kept.ended == [{**kept.ended[0], "status": "finished", "select/loss": result.chosen.score.loss}]


def test_a_run_that_is_stopped_and_goes_on_is_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked_by(kept := Kept(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(a_config(), tmp_path / "run", watch=StopAt(1))
    result = maao.resume(tmp_path / "run")
    assert kept.started[0].key == kept.started[1].key and kept.started[1].done == len(kept.rounds[: kept.started[1].done]) > 0
    assert [summary["status"] for summary in kept.ended] == ["stopped", "finished"]
    assert kept.rounds[-1][1]["cost/gradient_steps"] == result.cost.gradient_steps


def test_a_tracker_that_hangs_at_the_end_and_is_stopped_leaves_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hangs(Kept):
        def finish(self, summary: Any) -> None:
            super().finish(summary)
            raise KeyboardInterrupt

    tracked_by(kept := Hangs(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(a_config(store={"mirror": str(tmp_path / "mirror")}), tmp_path / "run")
    assert [summary["status"] for summary in kept.ended] == ["finished"]
    assert maao.load(tmp_path / "run").status == "finished"
    (tmp_path / "run").rename(tmp_path / "away")
    Mirror(str(tmp_path / "mirror"), "run").pull(tmp_path / "run")
    assert maao.load(tmp_path / "run").status == "finished"


def test_no_text_of_data_prompt_mentor_or_folder_goes_out(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked_by(kept := Kept(), monkeypatch)
    mentor = {"retries": 0, "description": "Tell the secret topic.", "chat": {"provider": "scripted", "replies": REPLIES}}
    small = {"model.num_virtual_tokens": 4, "accept.steps": 2, "plan.proposals": 2, "threads": 1}
    result = tune(
        model=str(llama), train=pairs("train"), select=pairs("select"), test=pairs("test"), mentor=mentor, rounds=1, steps=2,
        settings=small, labels={label: f" {label}" for label in LABELS}, folder=tmp_path / "run",
    )  # fmt: skip
    (told,) = kept.started
    words = [str(value) for value in told.settings.values() if isinstance(value, str)]
    assert sorted(words) == sorted(
        ["classification", "gradient", "rounds", "race", "language_model", "decoder", "prompt_tuning", "a local model"]
    )
    assert told.settings["data.train"] == len(pairs("train")) and told.settings["data.classes"] == len(LABELS)
    everything = repr((told.settings, kept.rounds, kept.ended))
    secrets = [*LABELS, "secret", str(llama), result.text, *(text for text, _ in pairs("train")), str(tmp_path)]
    assert not [secret for secret in secrets if secret and secret in everything]
    assert kept.ended[0]["test/chosen/accuracy"] == result.finals["chosen"].score.accuracy


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_a_tracker_that_fails_stops_no_run_and_is_told_once(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Kept):
        def __getattribute__(self, name: str) -> Any:
            if name == fails:
                raise OSError("no network")
            return super().__getattribute__(name)

    class Notes(Watch):
        told: list[str] = []

        def note(self, told: str) -> None:
            self.told.append(told)

    tracked_by(kept := Fails(), monkeypatch)
    watch = Notes()
    watch.told = []
    result = run(a_config(), tmp_path / "run", watch=watch)
    assert result.status == "finished"
    assert watch.told == ["The tracker failed and is told nothing more (OSError: no network). The run goes on."]
    assert len(kept.rounds) == (len(result.history) if fails == "finish" else 0) and kept.ended == []


def test_without_a_watch_the_failure_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    tracked_by(object(), monkeypatch)
    with caplog.at_level(logging.WARNING, logger="maao"):
        run(a_config(), tmp_path / "run")
    assert [record.message for record in caplog.records] == [
        "The tracker failed and is told nothing more (AttributeError: 'object' object has no attribute 'start'). The run goes on."
    ]


def test_a_tracker_changes_nothing_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(a_config(), tmp_path / "plain")
    told = run(a_config({"kind": "tensorboard"}), tmp_path / "told")
    assert plain.digest == told.digest and maao.replay(tmp_path / "told").equal


def test_a_missing_package_is_told_before_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maao.trackers.options.installed", lambda package: None)
    with pytest.raises(ConfigError, match=r'kind = "wandb" needs wandb. Install it with: pip install "maao\[wandb\]"'):
        run(a_config({"kind": "wandb"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        ({"kind": "tensorboard"}, True),
        ({"kind": "trackio"}, True),
        ({"kind": "trackio", "space_id": "me/space"}, False),
        ({"kind": "mlflow"}, True),
        ({"kind": "mlflow", "uri": "http://there"}, False),
        ({"kind": "wandb"}, True),
        ({"kind": "wandb", "mode": "online"}, False),
    ],
)
def test_what_leaves_the_machine_is_said(given: dict[str, Any], stays: bool) -> None:
    told = a_config(given).tracker.options.told()
    assert ("on this machine" in told) == stays and ("no text of the data" in told) == (not stays)
    assert a_config().tracker.options.told() == ""


def test_event_files_of_tensorboard_are_read_back(tmp_path: Path) -> None:
    result = run(a_config({"kind": "tensorboard"}), tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    losses = [(one.step, one.value) for one in events.Scalars("select/loss")]
    assert losses == [(one.index, pytest.approx(one.score.loss, rel=1e-6)) for one in result.history]
    assert events.Scalars("summary/select/loss")[0].value == pytest.approx(result.chosen.score.loss)
    elsewhere = run(a_config({"kind": "tensorboard", "log_dir": str(tmp_path / "logs")}), tmp_path / "run-2")
    assert elsewhere.status == "finished" and list((tmp_path / "logs" / "run-2").glob("events*"))


def test_what_would_send_figures_unasked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maao.trackers.options.installed", lambda package: "1.0")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    with pytest.raises(ConfigError, match="TRACKIO_SPACE_ID lets Trackio send figures away"):
        run(a_config({"kind": "trackio"}), tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a name or a password"):
        a_config({"kind": "mlflow", "uri": "https://me:secret@there.example"})


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **held: Any) -> None:
    module = ModuleType(name)
    vars(module).update(held)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("maao.trackers.options.installed", lambda package: "1.0")


def test_trackio_is_called_by_its_public_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    stand_in(
        monkeypatch,
        "trackio",
        init=lambda **given: calls.append(given),
        log=lambda held: calls.append(held),
        finish=lambda: calls.append("end"),
    )
    result = run(a_config({"kind": "trackio", "project": "mine"}), tmp_path / "run")
    first, *rounds, summary, last = calls
    assert (first["project"], first["name"][:4], first["resume"], "space_id" in first) == ("mine", "run-", "allow", False)
    assert [held["round"] for held in rounds] == [one.index for one in result.history]
    assert summary["summary/select/loss"] == result.chosen.score.loss and last == "end"


def test_wandb_sends_nothing_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    held = SimpleNamespace(
        log=lambda figures, step: calls.append((step, figures)),
        summary=SimpleNamespace(update=calls.append),
        finish=lambda exit_code: calls.append(exit_code),
    )

    def init(**given: Any) -> Any:
        calls.append(given)
        return held

    stand_in(monkeypatch, "wandb", init=init, Settings=lambda **given: given)
    result = run(a_config({"kind": "wandb"}), tmp_path / "run")
    first, *rounds, summary, code = calls
    assert first["mode"] == "offline" and first["resume"] == "allow" and first["settings"]["console"] == "off"
    assert [step for step, _ in rounds] == [one.index for one in result.history] and code == 0
    assert summary["status"] == "finished"
    assert WandB("p", None, "online").mode == "online"


class StandInClient:
    """What of `mlflow.MlflowClient` is used, with its names and arguments."""

    runs: dict[str, SimpleNamespace] = {}
    uris: list[str] = []

    def __init__(self, tracking_uri: str) -> None:
        self.uris.append(tracking_uri)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if self.runs else None

    def create_experiment(self, name: str) -> str:
        return "7"

    def search_runs(self, experiment_ids: list[str], filter_string: str, max_results: int) -> list[Any]:
        return [one for key, one in self.runs.items() if filter_string == f"tags.`maao.run` = '{key}'"]

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        (key,) = tags.values()
        self.runs[key] = SimpleNamespace(info=SimpleNamespace(run_id=key), params={}, metrics=[], ended=[])
        return self.runs[key]

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].ended.append(status)

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.runs[run_id].params[key] = value

    def log_metric(self, run_id: str, key: str, value: float, step: int | None = None) -> None:
        self.runs[run_id].metrics.append((key, step, value))

    def set_tag(self, run_id: str, key: str, value: Any) -> None: ...

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].ended.append(status)


def test_mlflow_takes_a_run_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "mlflow", MlflowClient=StandInClient)
    StandInClient.runs, StandInClient.uris = {}, []
    with pytest.raises(KeyboardInterrupt):
        run(a_config({"kind": "mlflow"}), tmp_path / "run", watch=StopAt(1))
    result = maao.resume(tmp_path / "run")
    (one,) = StandInClient.runs.values()
    assert one.ended == ["KILLED", "RUNNING", "FINISHED"] and one.params["plan.steps"] == 5
    assert StandInClient.uris == [f"sqlite:///{tmp_path / 'mlflow.db'}"] * 2
    losses = {step: value for key, step, value in one.metrics if key == "select/loss"}
    assert losses == {one.index: one.score.loss for one in result.history}


def test_a_file_of_ones_own_is_a_tracker(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from maao.trackers.options import TrackerOptions\n"
        "class Lines:\n"
        "    def __init__(self, file): self.file = open(file, 'w')\n"
        "    def start(self, run): print(run.name, file=self.file)\n"
        "    def log(self, index, figures): print(index, figures['select/loss'], file=self.file)\n"
        "    def finish(self, summary): print(summary['status'], file=self.file); self.file.close()\n"
        "class LinesOptions(TrackerOptions):\n"
        "    file: str\n"
        "    def build(self): return Lines(self.file)\n"
    )
    result = run(a_config({"kind": f"{tmp_path / 'own.py'}:LinesOptions", "file": str(tmp_path / "lines")}), tmp_path / "run")
    lines = (tmp_path / "lines").read_text().splitlines()
    assert lines[0] == "run" and lines[-1] == "finished" and len(lines) == len(result.history) + 2
