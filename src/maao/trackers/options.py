"""The `[tracker]` of a config: who is told the figures of a run. By default nobody is. Importing this loads no tracker."""

from __future__ import annotations

import os
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from maao.errors import ConfigError
from maao.installed import installed
from maao.options import Section, Text
from maao.protocols import Tracker


class TrackerOptions(Section):
    """Base of the settings of a tracker."""

    needs: ClassVar[tuple[str, ...]] = ()  # a package, and other names under which the same is published

    def check(self) -> None:
        """Make sure that its package is there, before a run begins. Raises `ConfigError`."""
        if self.needs and not any(map(installed, self.needs)):
            package = self.needs[0]
            raise ConfigError(f'[tracker] kind = "{package}" needs {package}. Install it with: pip install "maao[{package}]".')

    def build(self) -> Tracker:
        """Return the tracker."""
        raise NotImplementedError

    def told(self) -> str:
        """Return what is said before a run starts: where figures go, and whether they leave this machine. "": nowhere."""
        return ""


class NoTracker(TrackerOptions):
    """Nobody is told."""

    def build(self) -> Tracker:
        from maao.trackers.none import Nobody

        return Nobody()


class TensorBoardOptions(TrackerOptions):
    """Event files of TensorBoard, in the folder of the run."""

    needs = ("tensorboard",)
    log_dir: Text | None = Field(None, description="Folder of event files; by default tensorboard/ in the run's folder.")

    def build(self) -> Tracker:
        from maao.trackers.tensorboard import TensorBoard

        return TensorBoard(self.log_dir)

    def told(self) -> str:
        return f"Tracker: TensorBoard, files in {self.log_dir or 'the run folder'}; this stays on this machine."


class TrackioOptions(TrackerOptions):
    """Trackio: a local dashboard, or a Space on the Hugging Face Hub."""

    needs = ("trackio",)

    project: Text = Field("maao", description="Project of the tracker that runs stand in.")
    space_id: Text | None = Field(None, description="Space on the hub that figures are sent to (ORG/NAME); by default none is.")

    def check(self) -> None:
        super().check()
        sending = [name for name in SENDING if os.environ.get(name)]
        if self.space_id is None and sending:
            raise ConfigError(f"The variable {sending[0]} lets Trackio send figures away: unset it, or say so by tracker.space_id.")

    def build(self) -> Tracker:
        from maao.trackers.trackio import Trackio

        return Trackio(self.project, self.space_id)

    def told(self) -> str:
        place = "on this machine; this stays there" if self.space_id is None else f"sent to the Space {self.space_id}: {SENT}"
        return f"Tracker: Trackio, project {self.project}, {place}."


class MLflowOptions(TrackerOptions):
    """MLflow: a database in a file, or a server."""

    needs = ("mlflow", "mlflow-skinny")

    experiment: Text = Field("maao", description="Experiment that runs stand in.")
    uri: Text | None = Field(None, description="Tracking server or store; by default mlflow.db beside the run's folder.")

    @field_validator("uri")
    @classmethod
    def _no_password(cls, uri: str | None) -> str | None:
        if uri is not None and "@" in urlsplit(uri).netloc:
            raise ValueError("it holds a name or a password, and a config is stored: MLflow reads MLFLOW_TRACKING_USERNAME and _PASSWORD")
        return uri

    def build(self) -> Tracker:
        from maao.trackers.mlflow import MLflow

        return MLflow(self.experiment, self.uri)

    def told(self) -> str:
        place = "in mlflow.db beside the run; this stays on this machine" if self.uri is None else f"to {self.uri}: {SENT}"
        return f"Tracker: MLflow, experiment {self.experiment}, {place}."


class WandBOptions(TrackerOptions):
    """Weights & Biases."""

    needs = ("wandb",)

    project: Text = Field("maao", description="Project of the tracker that runs stand in.")
    entity: Text | None = Field(None, description="User or team there.")
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline: files in the run's folder, which `wandb sync` sends; online: figures are sent as they come."
    )

    def build(self) -> Tracker:
        from maao.trackers.wandb import WandB

        return WandB(self.project, self.entity, self.mode)

    def told(self) -> str:
        place = "files in the run folder; this stays on this machine" if self.mode == "offline" else f"sent to its server: {SENT}"
        return f"Tracker: Weights & Biases, project {self.project}, {place}."


SENDING = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID")  # read by Trackio where none is given
SENT = "figures, and the names and numbers among the settings; no text of the data, a prompt or the mentor"
