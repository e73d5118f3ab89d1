"""Numbers that no run can mean: refused in words before memory is taken, or the run goes on and says what happened."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import maao
from maao import choices, cli
from maao.config import PATHS, Config, Section, make_config, read_config, set_value
from maao.core.lr_finder import try_rates
from maao.core.plan import MOST_LEGS
from maao.errors import ConfigError, MaaoError, ProblemError
from maao.optimizers.torch import TorchStage
from maao.options import OneOf
from maao.problems.settings import ModelConfig
from maao.types import Score
from tests.api.fixtures import llama, model_folder  # noqa: F401  (fixtures)
from tests.api.small_runs import values, write_config, write_data

DIGITS = "9" * 4400
HUGE = int("f" * 4400, 16)  # as TOML's 0xfff... gives: Python will not print it
VALUES: dict[str, Any] = {"0": 0, "-1": -1, "1e38": 1e38, "nan": math.nan, "inf": math.inf, "10**13": 10**13, "huge": HUGE}
QUICK = {
    "problem": "function",
    "threads": 1,
    "plan": {"rounds": 1, "steps": 2},
    "accept": {"steps": 1},
    "mentor": {"name": "scripted", "texts": ["1 1", "2 2"]},
}

NEEDED: dict[str, tuple[str, Any]] = {  # what a setting must stand with to be read at all
    "plan.min_delta": ("plan.patience", 1),
    "stage.warmup_lr": ("stage.warmup_steps", 1),
    "stage.average_std": ("stage.average_mean", 1.0),
}


def numeric(section: type[BaseModel] = Config, path: str = "") -> Iterator[str]:
    """Yield every setting that takes a number, by dotted key."""
    for name, field in section.model_fields.items():
        kinds = repr(field.annotation)
        tables = [one.table for one in field.metadata if isinstance(one, OneOf)]
        if tables:
            for choice in choices.names(tables[0]):
                yield from numeric(choices.load(tables[0], choice), f"{path}{name}.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from numeric(field.annotation, f"{path}{name}.")
        elif ("int" in kinds or "float" in kinds) and "str" not in kinds and "dict" not in kinds:
            yield f"{path}{name}"
    if section is ModelConfig:
        yield from KIND_OR_METHOD


def of_kinds_and_methods() -> dict[str, tuple[str, str]]:
    """Return the numbers that a kind or a method of the model's section reads, each with what chooses it."""
    found = {}
    for field, table in ModelConfig.chooses.items():
        for choice in choices.names(table):
            found |= dict.fromkeys(numeric(choices.load(table, choice), "model."), (f"model.{field}", choice))
    return found


KIND_OR_METHOD = of_kinds_and_methods()
NEEDED |= KIND_OR_METHOD


def with_value(key: str, value: Any) -> dict[str, Any]:
    values: dict[str, Any] = {name: dict(held) if isinstance(held, dict) else held for name, held in QUICK.items()}
    if key.startswith(("mentor.chat.", "mentor.shown.")):  # which a mentor that asks reads
        values["mentor"] = {"name": "language_model", "chat": {"provider": "openai"}}
    is_list = key in ("stage.lr_grid", "accept.rungs", "plan.ask_after")
    set_value(values, key, [value] if is_list else value)
    if key in NEEDED:
        set_value(values, *NEEDED[key])
    return values


def test_m10_every_section_has_its_numbers_driven():
    found = list(numeric())
    assert len(found) > 70 and {"seed", "stage.lr", "function.dim", "mentor.chat.timeout", "budget.usd", "plan.rounds"} <= set(found)


@pytest.mark.parametrize("key", sorted(set(numeric())))
def test_m10_a_number_either_runs_or_is_refused_in_words(key, tmp_path):
    for told, value in VALUES.items():
        said = refusal(key, value, tmp_path / f"run {told}")
        assert "\n" not in said and len(said) < 600, told


def refusal(key: str, value: Any, folder: Path) -> str:
    """Return in what words a value is refused; nothing where it makes a run."""
    try:
        config = make_config(with_value(key, value))
    except ConfigError as error:
        return str(error) if key in str(error) else f"{key} is not named\n"
    try:
        assert maao.run(config, folder).history, key
    except MaaoError as error:
        return str(error)
    return ""


RATES = ("stage.lr", "stage.lr_grid", "stage.warmup_lr")  # any finite one may be tried: that it diverges is what a search finds


@pytest.mark.parametrize("key", sorted(set(numeric())))
@pytest.mark.parametrize("value", ["nan", "inf", "1e38", "huge"])
def test_m10_what_is_not_finite_or_absurd_is_refused_by_every_setting(key, value):
    if key in RATES and value == "1e38":
        make_config(with_value(key, VALUES[value]))
        return
    with pytest.raises(ConfigError, match=key):
        make_config(with_value(key, VALUES[value]))


@pytest.mark.parametrize("text", [f"seed = {DIGITS}", f"seed = 0x{'f' * 4400}", "seed = [" * 2 + "[" * 5000, f"[stage]\nlr = {DIGITS}.0"])
def test_m10_toml_that_python_cannot_read_is_told(tmp_path, text):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_config(file)
    assert "run.toml" in str(error.value) and len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "setting", [f"seed={DIGITS}", f"seed=0x{'f' * 4400}", f"stage.options={{eps = {DIGITS}}}", "stage.options={eps = inf}"]
)
def test_m10_settings_on_the_command_line_are_refused_alike(tmp_path, monkeypatch, capsys, setting):
    file = tmp_path / "run.toml"
    file.write_text('problem = "function"\n[mentor]\nname = "none"\n')
    monkeypatch.setattr(sys, "argv", ["maao", "tune", str(file), "--set", setting, "--run", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == 1 and told.startswith("Error: ") and told.count("\n") == 1 and len(told) < 600
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["x" * 300, "x" * 5000, "a/" * 3000, "nul\\u0000nul"], ids=["300", "5000", "deep", "null"])
@pytest.mark.parametrize("key", [".".join(path) for path in PATHS])
def test_m10_a_name_that_no_file_can_have_is_refused(tmp_path, key, text):
    file = tmp_path / "run.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match=rf"^'{key}' can name no file and no model \(.*\); got ") as error:
        read_config(file, (f'{key}="{text}"',))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("plan", [{"rounds": 1e9}, {"rounds": 10**6}, {"rounds": 10, "steps": 10**8, "store_every": 1}])
def test_m10_a_plan_of_too_many_legs_is_refused_before_a_folder_is_made(tmp_path, plan):
    with pytest.raises(ConfigError, match=rf"more than the {MOST_LEGS:,} that a run may have: lower `plan.rounds`"):
        maao.run(make_config({**QUICK, "plan": plan}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_m10_epochs_without_end_are_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"lower `plan.rounds` or `plan.epochs`"):
        maao.run(make_config({**QUICK, "plan": {"kind": "epochs", "epochs": 10**9}}), tmp_path / "run")


@pytest.mark.parametrize(
    "options",
    [
        {"betas": 5},
        {"betas": [0.9]},
        {"betas": [0.9, "x"]},
        {"eps": "x"},
        {"weight_decay": -1},
        {"weight_decay": [1]},
        {"no_such": 1},
        {"lr": 1},
        {"fused": "maybe", "foreach": True},
    ],
    ids=str,
)
def test_m10_options_that_the_optimizer_cannot_take_are_refused_in_words(tmp_path, options):
    values = {**QUICK, "stage": {"options": options}}
    with pytest.raises(ConfigError, match=r"torch.optim.AdamW refuses its settings"):
        maao.run(make_config(values), tmp_path / "run")


def test_m10_an_option_that_only_a_step_reads_is_refused_before_the_run(tmp_path):
    values = {**QUICK, "stage": {"optimizer": "LBFGS", "options": {"line_search_fn": "weak"}}}
    with pytest.raises(ConfigError, match=r"torch.optim.LBFGS refuses its settings"):
        maao.run(make_config(values), tmp_path / "run")


@pytest.mark.parametrize(
    "options", [{"eps": math.inf}, {"eps": math.nan}, {"eps": HUGE}, {"when": __import__("datetime").date(2020, 1, 1)}], ids=range(4)
)
def test_m10_options_that_cannot_be_stored_are_refused(options):
    with pytest.raises(ConfigError, match=r"'stage.options': it holds"):
        make_config({"stage": {"options": options}})


@pytest.mark.parametrize("lr", [1e6, 1e5])
def test_m10_a_loss_that_overflows_is_told_and_the_run_goes_on(tmp_path, lr):
    values = {
        "problem": "function",
        "function": {"name": "rosenbrock"},
        "stage": {"optimizer": "SGD", "lr": lr, "max_grad_norm": 0},
        "plan": {"rounds": 0, "steps": 12},
        "mentor": {"name": "none"},
    }
    result = maao.run(make_config(values), tmp_path / "run")
    notes = [o.note for r in result.history for o in r.observations if o.note]
    assert notes and "not finite" in notes[0] and "back to the last good point" in notes[0]
    seen = [o for r in result.history for o in r.observations]
    assert len(seen) == 12 and all(bool(o.note) != math.isfinite(o.loss) for o in seen)
    good = next(before.loss for before, after in pairwise(seen) if after.note)
    assert [r.score.loss for r in result.history] == [seen[0].loss, good, good]  # the start, and twice where the rollbacks lead to
    assert result.chosen.index == 0 and result.status == "finished"


@dataclass(frozen=True)
class Square:
    """x^2 in float32, as the params of models are."""

    def initial(self, seed):
        return {"x": torch.ones(2)}

    def batch(self, step, seed):
        return None

    def loss(self, params, batch):
        return (params["x"] ** 2).sum()

    def num_tokens(self, params, batch):
        return 1

    def score(self, points, split):
        return tuple(Score(float(self.loss(params, None))) for params in points)


@pytest.mark.parametrize("settings", [{"lr": 1e39}, {"lr": 1e200}], ids=str)
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_m10_a_rate_that_float32_cannot_hold_is_told(optimizer, settings):
    problem, stage = Square(), TorchStage(optimizer, **settings)
    state = stage.init(problem, problem.initial(0), seed=0)
    with pytest.raises(ProblemError, match=r"No step of \w+ can be made at a learning rate of .*Lower stage.lr"):
        stage.step(problem, state)
    (trial,) = try_rates(problem, lambda rate: stage, [stage.lr], steps=2, seed=0)
    assert trial.diverged and "can be made at a learning rate" in trial.diverged


def test_m10_the_largest_rates_of_float32_roll_back():
    problem, stage = Square(), TorchStage("SGD", lr=1e37)
    state = stage.init(problem, problem.initial(0), seed=0)
    state, _ = stage.step(problem, state)
    state, seen = stage.step(problem, state)
    assert seen.note and "back to the last good point" in seen.note and float(state.params["x"][0]) == 1.0


def test_m10_a_run_at_such_a_rate_ends_in_words(llama, tmp_path, monkeypatch, capsys):  # noqa: F811
    file = write_config(tmp_path, values(llama, write_data(tmp_path), stage__lr=1e39))
    monkeypatch.setattr(sys, "argv", ["maao", "tune", str(file), "--run", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("Error: ")


def test_m10_too_little_memory_is_told(tmp_path, monkeypatch, capsys):
    def short(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        )

    monkeypatch.setattr("maao.runner.build", short)
    file = tmp_path / "run.toml"
    file.write_text('problem = "function"\n[mentor]\nname = "none"\n')
    monkeypatch.setattr(sys, "argv", ["maao", "tune", str(file), "--run", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        cli.main()
    assert "Error: There is not enough memory" in capsys.readouterr().err


def test_m10_the_defaults_and_the_packaged_config_stand_within_their_bounds():
    assert make_config({}) == Config()
    read_config("demo")
    read_config("demo-decoder")
    assert Path(maao.__file__)
