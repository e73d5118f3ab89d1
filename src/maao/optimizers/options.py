"""Stages as sections of a config. They stand apart from the stages, so that reading a config loads no torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from maao.errors import ConfigError
from maao.options import MANY, Options, Section, Text
from maao.protocols import GradientStage, Params

if TYPE_CHECKING:
    from maao.optimizers.cma_es import CMAStage
    from maao.optimizers.torch import TorchStage, TorchState


class StageOptions(Section):
    """Settings that stand in every stage's section: what a problem and the search for a learning rate read of it."""

    batch_size: int = Field(32, ge=1, le=MANY, description="Examples a step; all of train if there are no more.")
    lr_grid: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list, description="Rates to try before a run starts; the one with the lowest loss on select becomes lr."
    )
    lr_steps: int = Field(10, ge=1, le=MANY, description="Gradient steps that each rate of lr_grid walks; they count for the budget.")

    @field_validator("lr_grid")
    @classmethod
    def _differ(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) < len(rates):
            raise ValueError("names a rate twice; a rate is tried once")
        return rates

    def check(self) -> None:
        """Say before anything is loaded what the stage lacks. Raises `ConfigError`."""

    def check_members(self) -> None:
        """Refuse what cannot walk several points together, each as it would alone. Raises `ConfigError`."""

    def build(self, schedule_steps: int, steps_per_epoch: int, lr: float | None = None) -> GradientStage[Params, TorchState]:
        """Build the stage.

        Args:
            schedule_steps: the most steps that lead to a run's end: the length of a schedule.
            steps_per_epoch: how many steps go through `train` once.
            lr: another learning rate than the section's, in a search for one.
        """
        raise NotImplementedError


class GradientOptions(StageOptions):
    """Settings of `TorchStage`."""

    optimizer: Text = Field("AdamW", description="A class of torch.optim.")
    lr: float = Field(0.01, gt=0, description="Learning rate.")
    options: Options = Field(default_factory=dict, description="Further arguments of the optimizer's class.")
    schedule: Literal["constant", "linear", "cosine", "exponential"] = Field("constant", description="Learning rate over the plan.")
    warmup_steps: int = Field(0, ge=0, le=MANY, description="Steps over which the learning rate rises first.")
    warmup_lr: float | None = Field(None, gt=0, description="A constant rate for the warm-up, in place of a rise (CoOp's: 1e-5).")
    average_mean: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="Epoch that weighs most in a Gaussian average of the params over epochs (PromptSRC); without it none is taken.",
    )
    average_std: float = Field(1.0, ge=1e-3, le=1e6, description="Width of that average, in epochs.")
    max_grad_norm: float | None = Field(1.0, ge=0, le=1e30, description="Clip the gradient's norm to this; 0: do not clip.")
    on_restart: Literal["clear", "keep"] = Field("clear", description="What becomes of the optimizer's moments at a restart.")
    not_finite: Literal["go_back", "stop"] = Field(
        "go_back",
        description="What becomes of a step whose loss or gradient is no finite number: back to the last good point at half the rate, or "
        "the walk stops, and the run ends with the best point that is stored.",
    )
    most_rollbacks: int = Field(
        20, ge=1, le=1000, description="Steps since a restart that may go back so; after them the walk stops: each halves the rate."
    )

    def unread(self) -> dict[str, str]:
        found = {}
        if self.lr_grid:
            found["lr"] = "stage.lr_grid is searched for the learning rate: drop one of the two"
        if not self.warmup_steps:
            found["warmup_lr"] = "there are no stage.warmup_steps: set them, or drop it"
        if self.average_mean is None:
            found["average_std"] = "there is no stage.average_mean: set it, or drop it"
        if self.not_finite == "stop":
            found["most_rollbacks"] = "stage.not_finite is 'stop', so that no step goes back: drop one of the two"
        return found

    def check_members(self) -> None:
        if self.optimizer == "LBFGS":  # one line search for all params together
            raise ConfigError(
                "data.select = 'cross_validation' walks several points together, which LBFGS would mix: choose another optimizer."
            )

    def build(self, schedule_steps: int, steps_per_epoch: int, lr: float | None = None) -> TorchStage:
        from maao.optimizers.torch import GaussianAverage, TorchStage

        return TorchStage(
            optimizer=self.optimizer,
            lr=self.lr if lr is None else lr,
            options=self.options,
            schedule=self.schedule,
            warmup_steps=self.warmup_steps,
            schedule_steps=schedule_steps or None,
            max_grad_norm=self.max_grad_norm or None,  # 0 in a config: TOML has no null
            warmup_lr=self.warmup_lr,
            average=None if self.average_mean is None else GaussianAverage(self.average_mean, self.average_std, steps_per_epoch),
            on_restart=self.on_restart,
            not_finite=self.not_finite,
            most_rollbacks=self.most_rollbacks,
        )


class CMAOptions(StageOptions):
    """Settings of `CMAStage`."""

    population: int = Field(8, ge=4, le=10_000, description="Candidates of a generation.")
    dim: int = Field(50, ge=2, le=2_000, description="Numbers that are searched over.")
    size: float = Field(0.5, gt=0, le=1e6, description="The search's first standard deviation, beside the start's own size.")

    def unread(self) -> dict[str, str]:
        return dict.fromkeys(("lr_grid", "lr_steps"), "stage.kind is 'cma_es', which has no learning rate: drop it")

    def check(self) -> None:
        if find_spec("cmaes") is None:
            raise ConfigError("stage.kind = 'cma_es' needs the package cmaes: pip install \"maao[cma]\".")

    def check_members(self) -> None:
        raise ConfigError(
            "data.select = 'cross_validation' walks several points together, and stage.kind = 'cma_es' searches for one: use stage.kind = "
            "'gradient', or set examples apart to choose by."
        )

    def build(self, schedule_steps: int, steps_per_epoch: int, lr: float | None = None) -> CMAStage:
        from maao.optimizers.cma_es import CMAStage

        return CMAStage(self.population, self.dim, self.size)
