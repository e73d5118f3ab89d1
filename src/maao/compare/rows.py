"""A row: what was run in a cell, and how it did. It is a JSON file; what it holds is said in `docs/compare.md`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from maao.baselines.outcome import Figures, Outcome, figures, spent
from maao.config import Config
from maao.core.acceptance import InterpolateOptions, RaceOptions
from maao.data.checks import canonical_json
from maao.data.sampling import sha256
from maao.errors import ConfigError
from maao.mentors.class_lines.base import LinesOptions
from maao.options import MANY, Section
from maao.store.recorded import Record
from maao.store.run import read_json
from maao.types import Cost, choice_name

if TYPE_CHECKING:
    from maao.compare.table import Cell
    from maao.result import Result

OLDER = {"looks": "selection_evals"}  # names in older rows


class Asking(Record):
    """What became of the proposals, one time that the mentor was asked.

    `won`: one of them became a restart; `margin`: by how much less loss than the incumbent the best one had (below zero: it lost), each
    at the age at which the rule compared them; None where they were not compared.
    """

    wanted: int
    usable: int
    won: bool
    margin: float | None = None


class Each(Record):
    """A candidate on `test`.

    `leg`: the round that asked; `proposal`: its place there, None for the incumbent and for a run's final point by itself; `source`: who
    proposed it, or "incumbent" or "final"; `age`: gradient steps of its walk when it was compared; `select_loss`: its loss then, None
    where nothing judged; `chosen`: the race of its leg went on with it; `final`: it is the point that the run reports.
    """

    leg: int
    proposal: int | None
    source: str
    age: int
    accuracy: float
    loss: float
    select_loss: float | None
    chosen: bool
    final: bool


class Walked(Record):
    """All candidates of a run on `test`: how many, their mean, the best by accuracy and by loss, each, and what reading them cost."""

    count: int
    mean: Figures
    best: Figures
    best_by_loss: Figures
    each: list[Each]
    cost: Figures


class Row(Record):
    """A row, as far as a page may need it. Older ones are taken by the names of today."""

    task: str
    arm: str
    method: str = ""
    model: str
    mentor: str = ""
    seed: int
    shots: int | None = None
    protocol: str | None = None
    data: str | None = None  # the same: the same labels and test examples; None in older rows, and where it is not known
    select: Figures | None = None
    test_untuned: Figures | None = None
    test: Figures | None = None
    test_words: Figures | None = None
    words: str | None = None
    steps: int | None = None
    cost: Figures
    curve: list[Figures] = Field(default_factory=list)
    asked: list[Asking] = Field(default_factory=list)
    capped: int = 0  # calls that a cap did not allow
    walked: Walked | None = None  # where the table asks for it

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        values = dict(given)
        if isinstance(values.get("cost"), dict):
            values["cost"] = _today(values["cost"])
        if isinstance(values.get("curve"), list):
            values["curve"] = [_today(point) if isinstance(point, dict) else point for point in values["curve"]]
        return values

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Arm, model, task and seed."""
        return self.arm, self.model, self.task, self.seed

    def on_test(self, metric: str) -> float | None:
        """Return a figure on `test`; None where there is none."""
        return None if self.test is None else self.test.get(metric)


def _today(held: dict[str, object]) -> dict[str, object]:
    return {OLDER.get(name, name): value for name, value in held.items()}


def read_row(file: Path) -> Row:
    """Return a row. Raises `StoreError` for a file that is none."""
    return Row.model_validate(read_json(file.parent, file.name, Row))


def check_row(row: Mapping[str, object], how: str) -> None:
    """Raise `ConfigError` where an arm of one's own gave what is no row, before it is kept."""
    try:
        Row.model_validate(json.loads(json.dumps(row)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The arm's way '{how}' gave no row: {' '.join(str(error).split())}.") from error


def read_rows(place: Path) -> list[Row]:
    """Return all rows of a comparison, in the order of their names."""
    return [read_row(file) for file in sorted((place / "rows").glob("*.json"))]


# -- making one


class Tune(Section):
    """A cell that is a run of maao."""

    def run(self, config: Config, folder: Path) -> Outcome:
        """Run a cell, or go on with it."""
        from maao.runner import resume, run
        from maao.store.database import DATABASE

        begun = (folder / DATABASE).exists()
        result = resume(folder) if begun else run(config, folder)
        chosen = result.chosen
        return {
            "select": figures(chosen.score),
            **{f"test_{name}" if name != "chosen" else "test": figures(final.score) for name, final in result.finals.items()},
            "words": result.text or None,
            "steps": chosen.state.step,
            "cost": spent(result.cost),
            "curve": curve(result),
            "asked": [asking.model_dump() for asking in asked(result)],
            **({"capped": refused} if (refused := result.capped) else {}),
        }


def run_cell(cell: Cell, folder: Path) -> dict[str, object]:
    """Run a cell, or go on with it, and return its row."""
    return {**_begin(cell), **cell.how.options.run(cell.config, folder)}


def _begin(cell: Cell) -> dict[str, object]:
    """Return how a cell's row begins: what was run."""
    config = cell.config
    method = config.model.method.name
    return {
        "task": cell.task,
        "arm": cell.arm,
        "method": method if isinstance(cell.how.options, Tune) else choice_name(cell.how.name),
        "model": cell.model,
        "mentor": config.mentor.name,
        "seed": cell.seed,
        "shots": config.data.options.shots,
        "protocol": config.data.options.protocol_name,
        "data": _data(config),
    }


def _data(config: Config) -> str | None:
    """Return a name of a cell's labels and test examples, which other seeds share where the seed does not sample them."""
    if "data" not in config.builder.sections:
        return None
    data = config.data.options
    told = [data.model_dump(mode="json"), config.seed if data.is_sampled else None]
    return sha256(canonical_json(told))[:16]


def asked(result: Result) -> list[Asking]:
    """Return what became of the proposals, one entry for each time that the mentor was asked."""
    rule = result.config.accept.options
    if isinstance(rule, InterpolateOptions):
        rule = rule.inner.options
    compared_at = rule.steps if isinstance(rule, RaceOptions) else 0
    mentor = result.config.mentor.options
    most = len(mentor.weights) if isinstance(mentor, LinesOptions) else MANY  # lines make a proposal at each of their weights, and no more
    found = []
    for r in (r for r in result.history if r.leg.ask):
        own = [c.score.loss for c in r.verdict.considered if c.proposal is None and (not compared_at or c.age == compared_at)]
        judged = [c for c in r.verdict.considered if c.proposal is not None]
        theirs = [c.score.loss for c in judged if c.age == compared_at and math.isfinite(c.score.loss)]
        margin = own[0] - min(theirs) if own and theirs and math.isfinite(own[0]) else None
        wanted = min(r.leg.proposals, most)
        found.append(Asking(wanted=wanted, usable=len(r.advice.proposals), won=r.verdict.chosen is not None, margin=margin))
    return found


def curve(result: Result) -> list[Figures]:
    """Return how the best score on `select` fell while tokens were spent: one point a round."""
    spent_so_far, best, points = Cost(), float("inf"), list[Figures]()
    for r in (r for r in result.history if not r.score.is_unjudged):  # without labels nothing is judged
        spent_so_far += r.cost
        best = min(best, r.score.rank)
        if not math.isfinite(best):
            continue
        points.append(
            {
                "model_tokens": spent_so_far.model_tokens,
                "llm_tokens": spent_so_far.input_tokens + spent_so_far.output_tokens,
                "selection_evals": spent_so_far.selection_evals,
                "select_loss": best,
            }
        )
    return points
