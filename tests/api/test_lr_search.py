"""The learning rate can be searched before a run: once, on the run's account, and never again."""

from __future__ import annotations

import json

import pytest

import maao
from maao import runner
from maao.config import make_config
from maao.errors import ConfigError
from maao.store.listing import list_runs
from maao.types import Cost
from tests.api.small_runs import StopAt, config, digests, write_data

GRID = [0.001, 0.1, 1e200]


def settings(**changes):
    values = {
        "problem": "function",
        "function": {"name": "rosenbrock"},
        "mentor": {"name": "random_restart"},
        "stage": {"optimizer": "SGD", "max_grad_norm": 1.0, "lr_grid": GRID, "lr_steps": 4},
        "plan": {"rounds": 1, "steps": 6, "store_every": 3},
        "accept": {"steps": 2},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        values.setdefault(section, {})[name] = value
    return values


def run(folder, watch=None, **changes):
    return maao.run(make_config(settings(**changes)), folder, watch=watch)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return run(tmp_path_factory.mktemp("search") / "run")


def test_the_chosen_rate_becomes_the_runs_own(found, tmp_path):
    assert found.config.stage.options.lr == 0.1
    assert json.loads((found.folder / "config.json").read_text())["stage"]["lr"] == 0.1
    plain = run(tmp_path / "plain", stage__lr=0.1, stage__lr_grid=[])
    assert digests(found) == digests(plain) and plain.lr_search is None


def test_the_search_is_recorded_with_rates_losses_and_cost(found):
    recorded = json.loads((found.folder / "environment.json").read_text())["lr_search"]
    assert (recorded["steps"], recorded["chosen"]) == (4, 0.1)
    assert [trial["rate"] for trial in recorded["trials"]] == GRID
    first, second, third = found.lr_search.trials
    assert second.loss < first.loss and first.diverged is None and third.diverged
    assert first.cost.gradient_steps == 4 and first.cost.selection_evals == 1


def test_the_list_of_runs_counts_the_steps_of_the_search(found):
    (listed,) = (summary for summary in list_runs(found.folder.parent) if summary.path == found.folder)
    walked = sum(r.cost.gradient_steps for r in found.history)
    assert listed.cost.gradient_steps == found.lr_search.cost.gradient_steps + walked == found.cost.gradient_steps > walked


def test_the_cost_of_the_search_is_part_of_the_runs(found, tmp_path):
    plain = run(tmp_path / "plain", stage__lr=0.1, stage__lr_grid=[])
    searched = found.lr_search.cost
    assert searched.gradient_steps > 8 and searched.selection_evals >= 2
    for name in ("gradient_steps", "selection_evals", "model_tokens", "scored_examples"):
        assert getattr(found.cost, name) == getattr(plain.cost, name) + getattr(searched, name)


def test_neither_resuming_nor_replaying_searches_again(found, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", watch=StopAt(2))

    def never(*_, **__):
        raise AssertionError("searched again")

    monkeypatch.setattr(runner, "try_rates", never)
    result = maao.resume(tmp_path / "run")
    assert digests(result) == digests(found) and result.lr_search.chosen == found.lr_search.chosen
    assert maao.replay(result.folder).equal and maao.replay(found.folder).equal


def test_each_rate_is_told_as_it_is_tried(tmp_path):
    class Rates(maao.Watch):
        def __init__(self):
            self.told = []

        def rate(self, trial):
            self.told.append(trial.rate)

        def started(self, *_):
            self.told.append("started")

    watch = Rates()
    run(tmp_path / "run", watch=watch)
    assert watch.told == [*GRID, "started"]


def test_a_search_in_which_all_diverge_makes_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"all diverged: .*Give lower rates"):
        run(tmp_path / "run", stage__lr_grid=[1e200, 1e201])
    assert not (tmp_path / "run").exists()


# -- budgets


@pytest.mark.parametrize("steps", [16, 20, 24, 27])
def test_the_budget_of_gradient_steps_holds_for_search_and_run_together(tmp_path, steps):
    result = run(tmp_path / "run", budget__gradient_steps=steps)
    assert sum(r.cost.gradient_steps for r in result.history) > 0 and result.cost.gradient_steps <= steps
    assert result.status_reason == f"the budget of {steps} gradient steps shortened its plan"
    assert maao.replay(result.folder).equal


def test_a_resumed_run_has_the_same_budget_left(tmp_path):
    whole = run(tmp_path / "whole", budget__gradient_steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", watch=StopAt(0), budget__gradient_steps=20)
    assert digests(maao.resume(tmp_path / "run")) == digests(whole)


def test_a_schedule_spans_the_legs_that_the_search_leaves(tmp_path):
    result = run(tmp_path / "run", budget__gradient_steps=18, stage__schedule="linear")
    plan = [r.leg.steps for r in result.history]
    assert sum(plan) == 6
    plain = run(
        tmp_path / "plain", budget__gradient_steps=6, stage__schedule="linear", stage__lr=result.config.stage.options.lr, stage__lr_grid=[]
    )
    assert digests(result) == digests(plain)


def test_a_budget_that_the_search_would_spend_is_refused_before_anything_is_loaded(tmp_path):
    values = {"model": {"name": "no-such-model"}, "stage": {"lr_grid": GRID}, "budget": {"gradient_steps": 30}}
    with pytest.raises(ConfigError, match=r"may take 30 gradient steps \(3 rates of 10 steps\), and the budget is 30: raise `budget.grad"):
        maao.run(make_config(values), tmp_path / "run")


def test_a_search_ends_where_the_seconds_of_the_run_are_spent(tmp_path):
    with pytest.raises(ConfigError, match=r"took all of the budget of 1e-09 seconds, and nothing was begun: raise `budget.seconds`"):
        run(tmp_path / "run", budget__seconds=1e-9)
    assert not (tmp_path / "run").exists()


def test_a_budget_of_seconds_that_the_search_has_spent_is_refused_with_what_it_found(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "try_rates", lambda *_, **__: iter([runner.Trial(0.1, 1.0, None, Cost(seconds=1e6))]))
    with pytest.raises(ConfigError, match=r"raise `budget.seconds`, or set stage.lr = 0.1, which it found"):
        run(tmp_path / "run", budget__seconds=10.0)
    assert not (tmp_path / "run").exists()


def test_the_seconds_of_the_search_are_spent_of_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "try_rates", lambda *_, **__: iter([runner.Trial(0.1, 1.0, None, Cost(seconds=1e6))]))
    result = run(tmp_path / "run", budget__seconds=1e6 + 1e-6)
    assert result.status_reason == "the time budget of 1e+06 seconds ended it after round 0"


@pytest.mark.parametrize("grid", [[0.1, 0.1], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_a_grid_that_makes_no_sense_is_refused(grid):
    with pytest.raises(ConfigError, match=r"stage\.lr_grid"):
        make_config(settings(stage__lr_grid=grid))


# -- find_lr


def test_find_lr_finds_what_a_run_would_choose(found):
    search = maao.find_lr(make_config(settings()))
    assert search.trials[:2] == found.lr_search.trials[:2] and search.trials[2].diverged == found.lr_search.trials[2].diverged
    assert search.chosen.rate == 0.1


def test_find_lr_has_a_grid_of_its_own_where_none_is_given():
    search = maao.find_lr(make_config(settings(stage__lr_grid=[])))
    assert tuple(trial.rate for trial in search.trials) == runner.LR_GRID


def test_find_lr_raises_where_all_diverge():
    with pytest.raises(ConfigError, match="all diverged"):
        maao.find_lr(make_config(settings(stage__lr_grid=[1e200])))


# -- a language model


def test_a_soft_prompts_rate_is_searched_and_the_run_is_the_same_as_with_that_rate(llama, tmp_path):
    data = write_data(tmp_path)
    result = maao.run(config(llama, data, stage__lr_grid=[0.001, 0.05], stage__lr_steps=2), tmp_path / "run")
    plain = maao.run(config(llama, data, stage__lr=result.config.stage.options.lr), tmp_path / "plain")
    assert digests(result) == digests(plain)
    assert maao.replay(result.folder).equal
    assert result.cost.gradient_steps == plain.cost.gradient_steps + 4
