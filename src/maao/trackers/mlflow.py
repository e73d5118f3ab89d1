"""Figures into MLflow. Source: https://mlflow.org/docs/latest/python_api/mlflow.client.html, `MlflowClient`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from maao.protocols import Figure, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "maao.run"


class MLflow:
    """A run of an experiment, taken up again by its tag. Nothing global of MLflow is set.

    Args:
        uri: a server or a store; None: a database in a file beside the run's folder.
    """

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        self.experiment, self.uri = experiment, uri
        self._client: MlflowClient | None = None
        self._run = ""

    def start(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(self.uri or f"sqlite:///{run.folder.absolute().parent / 'mlflow.db'}")
        known = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if known is None else known.experiment_id
        again = client.search_runs([experiment], f"tags.`{TAG}` = '{run.key}'", max_results=1)
        if again:
            self._run = again[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        else:
            self._run = client.create_run(experiment, run_name=run.name, tags={TAG: run.key}).info.run_id
            for name, value in run.settings.items():
                client.log_param(self._run, name, value)
        self._client = client

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        assert self._client is not None
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=index)

    def finish(self, summary: Mapping[str, Figure]) -> None:
        assert self._client is not None
        for name, value in summary.items():
            if isinstance(value, int | float):
                self._client.log_metric(self._run, f"summary/{name}", value)
            else:
                self._client.set_tag(self._run, name, value)
        self._client.set_terminated(self._run, status="FINISHED" if summary.get("status") == "finished" else "KILLED")
