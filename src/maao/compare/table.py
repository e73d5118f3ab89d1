"""A table: what its file says, and the cells that this makes.

A table is a TOML file: what all cells share (`base`), models, tasks, arms and seeds, each a set of settings by dotted key; what stands
later wins. An arm that names no model runs on all of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError

from maao.choices import own_file
from maao.compare.page import Differences
from maao.compare.rows import Tune
from maao.config import Config, belong_together, expand_paths, explain, make_config, parse_toml, set_value, without_unread
from maao.errors import ConfigError
from maao.llm.budget import Caps
from maao.options import Chosen, Section, Text

SAMPLED = ("data.train", "data.select", "data.test", "data.lines")  # paths in which {seed} stands for the sample of a seed
LONGEST_NAME = 240  # bytes: file systems take 255, and endings and locks take some
Settings = dict[str, object]  # of a config, by dotted key


class Arm(Section):
    """An arm of a table. `how` it is run: as a run of maao ("tune"), or by a baseline, whose settings stand beside."""

    chooses: ClassVar = {"how": "baseline"}

    name: Text
    how: Chosen = Chosen("tune", Tune())
    model: Text | None = None
    tasks: list[str] | None = None
    seeds: list[int] | None = None
    settings: Settings = Field(default_factory=dict)
    by_task: dict[str, Settings] = Field(default_factory=dict)


class SharedBudget(Section):
    """Hard caps over all cells of a table together, whoever runs them; what is left out is not capped. A cell may have its own beside."""

    llm_calls: int | None = Field(None, gt=0, le=2**53)
    llm_tokens: int | None = Field(None, gt=0, le=2**53)
    usd: float | None = Field(None, gt=0, le=1e15)

    @property
    def caps(self) -> Caps:
        return Caps(self.llm_calls, self.llm_tokens, self.usd, whose="the comparison's")


class Table(Section):
    """A table, with what `with` names laid under it. `page` says how it is read out; its settings stand beside.

    Without `keep_runs` a cell's run folder is removed once its row is written: thousands of cells take more disk than they are worth.

    With `walked_on_test` a row also holds what each candidate of its run is worth on `test` (`compare/walked.py`), read when all is chosen.
    """

    chooses: ClassVar = {"page": "page"}

    name: Text
    title: str = ""
    about: str = ""
    seeds: list[int] = Field(default_factory=list)
    baseline: str = ""
    base: Settings = Field(default_factory=dict)
    models: dict[str, Settings] = Field(default_factory=dict)
    tasks: dict[str, Settings] = Field(default_factory=dict)
    arms: list[Arm] = Field(default_factory=list)
    samples: dict[str, str | int] = Field(default_factory=dict)
    keep_runs: bool = True
    walked_on_test: bool = False
    budget: SharedBudget = Field(default_factory=SharedBudget)
    page: Chosen = Chosen("differences", Differences())

    def models_of(self, arm: Arm) -> list[str]:
        """Return the models that an arm runs on; where the table has none, one without a name."""
        return [arm.model] if arm.model is not None else list(self.models) or [""]

    def tasks_of(self, arm: Arm) -> list[str]:
        """Return the tasks that an arm runs on."""
        return arm.tasks if arm.tasks is not None else list(self.tasks)

    def seeds_of(self, arm: Arm) -> list[int]:
        """Return the seeds that an arm runs with."""
        return arm.seeds if arm.seeds is not None else self.seeds


@dataclass(frozen=True)
class Cell:
    """One arm on one task with one seed."""

    arm: str
    model: str
    task: str
    seed: int
    config: Config
    how: Chosen

    @property
    def name(self) -> str:
        """A name that a file can have; `read_table` sees to it that each cell has one of its own."""
        return file_name(self.model, self.arm, self.task, self.seed)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Arm, model, task and seed."""
        return self.arm, self.model, self.task, self.seed


def file_name(model: str, arm: str, task: str, seed: int) -> str:
    """Return the name of a cell's files.

    Example:
        >>> file_name("", "lr = 0.01", "news", 3)
        '_lr---0.01_news_3'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{model}_{arm}_{task}_{seed}")


# -- reading


def read_table(path: str | Path, beside: str | Path | None = None) -> Table:
    """Return a table, checked.

    Args:
        path: the table.
        beside: another file with the sections that the table lacks (tasks and models, say); by default the one that its `with` names.

    Raises:
        ConfigError: what is not TOML, unknown keys, and arms or tasks that are not there.
    """
    file = Path(path)
    values = _read_toml(file)
    named = values.pop("with", None)
    if beside is not None or named is not None:
        other = _read_toml(Path(beside) if beside is not None else file.parent / str(named))
        other.pop("with", None)
        values = {**other, **values}
    values.setdefault("name", file.stem)
    try:
        table = Table.model_validate(values, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain(error)}") from None
    for needed, held in (("seeds", table.seeds), ("tasks", table.tasks), ("arms", table.arms)):
        if not held:
            raise ConfigError(f"{file}: a table needs `{needed}`, and it has none.")
    names = [arm.name for arm in table.arms]
    if len({(arm.name, arm.model) for arm in table.arms}) < len(names):
        raise ConfigError(f"{file}: every arm needs a name of its own; they are {', '.join(names)}.")
    for arm in table.arms:
        missing = [task for task in (*(arm.tasks or ()), *arm.by_task) if task not in table.tasks]
        if missing or (arm.model is not None and arm.model not in table.models):
            raise ConfigError(f"{file}, arm '{arm.name}' names what the table lacks: {', '.join(missing) or arm.model}.")
    table = table.model_copy(update={"baseline": table.baseline or names[0]})
    if table.baseline not in names:
        raise ConfigError(f"{file}: the baseline '{table.baseline}' is none of the arms: {', '.join(names)}.")
    _check_names(table, file)
    return table


def _read_toml(file: Path) -> dict[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no table {file}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as a table: {error}.") from error
    values = parse_toml(text, str(file))
    arms = values.get("arms")
    for section in (values, *(arms if isinstance(arms, list) else ())):
        for key in ("page", "how"):
            if isinstance(section, dict) and key in section:
                section[key] = own_file(section[key], file.parent)
    return values


def _check_names(table: Table, file: Path) -> None:
    """Refuse cells whose files could not be told apart, or could not be made. Not every disk tells large letters from small."""
    taken: dict[str, str] = {}
    for arm, model, task, seed in _places(table):
        name = file_name(model, arm.name, task, seed)
        told = f"arm {arm.name!r}, {f'model {model!r}, ' if model else ''}task {task!r}, seed {seed}"
        if len(name.encode()) > LONGEST_NAME:
            raise ConfigError(f"{file}: the names of {told} are too long for a file together ({len(name.encode())} bytes): shorten one.")
        other = taken.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), told)
        if other is told:
            continue
        if other == told:
            raise ConfigError(f"{file}: {told} is named twice: drop one.")
        raise ConfigError(f"{file}: two cells would be kept in one file, {name}: {other}; and {told}. Rename one of them.")


# -- cells


def cells(table: Table, folder: Path) -> Iterator[Cell]:
    """Return the cells of a table, seed by seed: a comparison that is stopped early has whole seeds. `folder` is where paths begin.

    Raises:
        ConfigError: the settings of a cell cannot be used; or, after the last cell, what arms share holds a setting that no cell reads.
    """
    unread: dict[tuple[str, str], str] = {}  # settings that a cell does not read, by section and dotted key, with the reason
    read: set[str] = set()  # dotted keys that some cell reads: a task may describe itself to mentors that only other tasks have
    for arm, model, task, seed in _places(table):
        config, dropped = _config_and_dropped(table, arm, model, task, seed, folder)
        for section, settings in _shared(table, model, task).items():
            for own in settings:
                ignored = {(section, key): why for key, why in dropped.items() if belong_together(key, own)}
                unread |= ignored
                read |= set() if ignored else {own}
        yield Cell(arm.name, model, task, seed, config, arm.how)
    told = [
        f"'{key}' in [{section}] would be ignored, since {why}"
        for (section, key), why in unread.items()
        if not any(belong_together(key, other) for other in read)
    ]
    if told:
        raise ConfigError(f"{table.name}: no cell reads what all share: {'; '.join(told)}.")


def _places(table: Table) -> Iterator[tuple[Arm, str, str, int]]:
    """Return arm, model, task and seed of every cell of a table, seed by seed."""
    for seed in sorted({seed for arm in table.arms for seed in table.seeds_of(arm)}):
        for arm in table.arms:
            if seed in table.seeds_of(arm):
                for model in table.models_of(arm):
                    for task in table.tasks_of(arm):
                        yield arm, model, task, seed


def _shared(table: Table, model: str, task: str) -> Mapping[str, Settings]:
    """Return what arms share in a cell, by the section that holds it, in the order in which it is laid down."""
    return {"base": table.base, f"models.{model}": table.models.get(model, {}), f"tasks.{task}": table.tasks[task]}


def _config_and_dropped(table: Table, arm: Arm, model: str, task: str, seed: int, folder: Path) -> tuple[Config, Mapping[str, str]]:
    """Return the config of a cell, and what it does not read of the settings that arms share, each with the reason."""
    # One thread: the same bits whatever the number of workers. Baselines are arms here, and not shown again with every run.
    values: dict[str, object] = {"seed": seed, "threads": 1, "baselines": []}
    sample = table.samples.get(str(seed), seed)
    own = arm.settings, arm.by_task.get(task, {})
    for settings in (*_shared(table, model, task).values(), *own):
        for key, value in settings.items():
            if key in SAMPLED and isinstance(value, str):
                if re.search(r"\{seed(?!\})", value):
                    raise ConfigError(f"{table.name}: '{key}' is {value!r}: a seed is filled in as {{seed}} alone. Write it so.")
                value = value.replace("{seed}", str(sample))
            set_value(values, key, deepcopy(value))  # a section may be given whole
    expand_paths(values, folder)
    dropped = without_unread(values, [key for settings in own for key in settings])  # what arms share is read by those that can
    return make_config(values, f"{table.name}, arm '{arm.name}', task '{task}'"), dropped


def texts_in(only: str | Sequence[str]) -> list[str]:
    """Return the texts that names of cells are to hold; none: all cells are meant."""
    return [text for text in ([only] if isinstance(only, str) else only) if text]


def is_among(cell: Cell, only: str | Sequence[str]) -> bool:
    """Say whether a cell is one of those that are meant."""
    texts = texts_in(only)
    return not texts or any(text in cell.name for text in texts)
