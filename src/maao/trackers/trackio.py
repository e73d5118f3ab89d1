"""Figures into Trackio. Source: https://github.com/gradio-app/trackio, `init`, `log`, `finish`."""

from __future__ import annotations

from collections.abc import Mapping

from maao.protocols import Figure, TrackedRun


class Trackio:
    """A run of a project, taken up again under its name.

    Args:
        space_id: a Space on the hub that figures are sent to; None: none is.
    """

    def __init__(self, project: str, space_id: str | None = None) -> None:
        self.project, self.space_id = project, space_id

    def start(self, run: TrackedRun) -> None:
        import trackio

        more = {} if self.space_id is None else {"space_id": self.space_id}
        trackio.init(
            project=self.project,
            name=f"{run.name}-{run.key[:6]}",  # it knows a run by its name, and folders of two places may share one
            config=dict(run.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,  # figures of the run alone, none of the machine
            auto_log_cpu=False,
            **more,
        )

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        import trackio

        trackio.log({**figures, "round": index})

    def finish(self, summary: Mapping[str, Figure]) -> None:
        import trackio

        trackio.log({f"summary/{name}": value for name, value in summary.items() if isinstance(value, int | float)})
        trackio.finish()
