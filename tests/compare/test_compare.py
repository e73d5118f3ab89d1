"""Comparing arms: cells by several processes, stops that lose nothing, and a page that says plainly what differs."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from maao.cli import app
from maao.compare import Row, Table, cells, compare, read_out, read_row, read_table, workers
from maao.compare.page import ALL, Difference, calls_told, ceiling, costs_beside, differences, page_text, unequal, won
from maao.compare.rows import _begin, asked
from maao.compare.table import Arm
from maao.compare.workers import LocalWorker, work
from maao.config import make_config
from maao.errors import ConfigError, MaaoError, Waiting
from maao.llm.batch_lines import Told, custom_id
from maao.llm.ledger import Totals
from maao.llm.record import read_record
from maao.store.attempts import Spending
from maao.types import Advice, Considered, Leg, Proposal, Score, Verdict
from maao.waiting import import_replies, open_requests, recorded
from tests import tiny_vision as tiny
from tests.api.server import chat_server
from tests.compare.here import Here

TABLE = """
title = "Tiny"
about = "A table for a test."
seeds = [0, 1]
baseline = "none"

[base]
"model.name" = "{model}"
"model.initial" = "vocabulary"
"data.shots" = 2
"data.select_shots" = 2
"plan.rounds" = 1
"plan.steps" = 2
"plan.store_every" = 0
"mentor.name" = "none"

[tasks.pictures]
"data.source" = "{pictures}"

[[arms]]
name = "none"

[[arms]]
name = "restart"
settings = {{ "mentor.name" = "random_restart" }}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("compare")
    tiny.clip_model().save_pretrained(base / "clip")
    tiny.clip_tokenizer().save_pretrained(base / "clip")
    (base / "clip" / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}')
    for label in ("cat", "dog", "lion"):
        (base / "pictures" / label).mkdir(parents=True)
        for i in range(7):
            tiny.Pictures().open(f"{label}/{i}").save(base / "pictures" / label / f"{i}.png")
    file = base / "tiny.toml"
    file.write_text(TABLE.format(model=base / "clip", pictures=base / "pictures"))
    return file


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAO_CACHE", str(tmp_path / "cache"))


def test_a_comparison_runs_every_cell_once_and_reads_it_out(table: Path, tmp_path: Path) -> None:
    place, told = tmp_path / "out", []
    page = compare(table, place, workers=2, watch=lambda done, total, seconds: told.append((done, total)))
    rows = json.loads((place / "results.json").read_text())["rows"]
    assert {(row["arm"], row["seed"]) for row in rows} == {(arm, seed) for arm in ("none", "restart") for seed in (0, 1)}
    assert told[-1] == (4, 4)
    text = page.read_text()
    assert "**restart**" in text and "Not at equal cost: restart" in text and "cells have been run" not in text
    for name in ("anytime-model-tokens.png", "anytime-llm-tokens.png", "differences.png", "cost-and-gain.png"):
        assert (place / name).stat().st_size > 1000
    before = {file.name: file.stat().st_mtime_ns for file in (place / "rows").glob("*.json")}
    compare(table, place, workers=1)
    assert {file.name: file.stat().st_mtime_ns for file in (place / "rows").glob("*.json")} == before
    losses = [point["select_loss"] for point in rows[0]["curve"]]
    assert losses == sorted(losses, reverse=True) and len(losses) > 1
    assert [[told["usable"] for told in row["asked"]] for row in rows if row["arm"] == "restart"] == [[3], [3]]
    assert "| restart | 6 of 6 | " in text


def test_a_killed_comparison_goes_on_where_it_stopped(table: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    command = [sys.executable, "-m", "maao.compare", str(table), str(place), "[]"]
    (place / "rows").mkdir(parents=True)
    worker = subprocess.Popen(command)
    deadline = time.monotonic() + 100
    while not list((place / "rows").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    kept = {file.name: file.read_bytes() for file in (place / "rows").glob("*.json")}
    assert 1 <= len(kept) < 4
    compare(table, place, workers=1)
    whole = {file.name: file.read_bytes() for file in (place / "rows").glob("*.json")}
    assert len(whole) == 4 and all(whole[name] == content for name, content in kept.items())


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_killed_comparison_repeats_no_recorded_llm_call(table: Path, tmp_path: Path) -> None:
    worker: list[subprocess.Popen[bytes]] = []

    def reply(number: int) -> tuple[int, str]:
        if number == 3:  # two answers are in the record, the third will never be
            worker[0].kill()
            worker[0].wait()
        return 200, f"- a {('small', 'large', 'fine', 'plain', 'quick', 'still')[number % 6]} picture of"

    with chat_server(reply) as server:
        file, place = tmp_path / "asking.toml", tmp_path / "out"
        arm = '\n[[arms]]\nname = "asking"\n[arms.settings]\n"mentor.name" = "opro"\n"mentor.chat.provider" = "openai"\n'
        arm += f'"mentor.chat.name" = "served"\n"mentor.chat.base_url" = "{server.base_url}"\n"plan.proposals" = 2\n"plan.rounds" = 2\n'
        file.write_text(table.read_text().replace("seeds = [0, 1]", "seeds = [0]") + arm)
        (place / "rows").mkdir(parents=True)
        worker.append(subprocess.Popen([sys.executable, "-m", "maao.compare", str(file), str(place), json.dumps(["asking"])]))
        assert worker[0].wait(100) == -signal.SIGKILL and not list((place / "rows").glob("*.json"))
        compare(file, place, workers=1, only="asking")
    sent = [json.dumps(body, sort_keys=True) for body in server.bodies]
    row = json.loads(next((place / "rows").glob("*.json")).read_text())
    assert row["cost"]["llm_calls"] == len(sent) - 1 == len(set(sent)) and sent[2] == sent[3]


def test_an_arm_sets_what_holds_for_one_task(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    text = table.read_text().replace("[tasks.pictures]", '[tasks.drawings]\n"data.source" = "emoji"\n[tasks.pictures]')
    file.write_text(text + '[arms.by_task.drawings]\n"mentor.size" = 0.5\n"mentor.name" = "perturb"\n')
    made = {(cell.arm, cell.task): cell.config.mentor for cell in cells(read_table(file), tmp_path) if cell.seed == 0}
    assert {key: mentor.name for key, mentor in made.items() if key[0] == "restart"} == {
        ("restart", "drawings"): "perturb",
        ("restart", "pictures"): "random_restart",
    }
    file.write_text(text + '[arms.by_task.nothing]\n"mentor.size" = 0.5\n')
    with pytest.raises(ConfigError, match="'restart' names what the table lacks: nothing"):
        read_table(file)


@pytest.mark.usefixtures("worker_here")
def test_the_command_prints_the_page(table: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["compare", str(table), "--out", str(tmp_path / "out"), "--workers", "1", "--only", "none", "--only", "no such"]
    )
    assert done.exit_code == 0, done.output
    assert "2 of 4 cells have been run" in done.output and "results.json" in done.output


def fake_ray() -> ModuleType:
    """A module with the few parts of Ray that a comparison uses, whose cluster is a thread a task."""
    ray = ModuleType("ray")
    pool = ThreadPoolExecutor(4)

    class Remote:
        def __init__(self, run: Any) -> None:
            self.run = run

        def remote(self, *arguments: Any) -> Future[Any]:
            return pool.submit(self.run, *arguments)

    def wait(tasks: list[Future[Any]], timeout: float) -> tuple[list[Future[Any]], list[Future[Any]]]:
        done = [task for task in tasks if task.done()]
        return done, [task for task in tasks if task not in done]

    parts = {
        "is_initialized": lambda: True,
        "remote": lambda **options: Remote,
        "wait": wait,
        "get": lambda task: task.result(),
        "cancel": lambda task, force: task.cancel(),
        "exceptions": SimpleNamespace(RayError=RuntimeError),
    }
    for name, part in parts.items():
        setattr(ray, name, part)
    return ray


def test_a_cluster_runs_the_same_workers(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Ray, whose own cluster wants sockets; `maao compare --ray` was run by hand on Ray 2.60."""
    monkeypatch.setitem(sys.modules, "ray", fake_ray())
    compare(table, tmp_path / "out", workers=2, ray=True)
    assert len(list((tmp_path / "out" / "rows").glob("*.json"))) == 4
    broken = tmp_path / "broken.toml"
    broken.write_text(table.read_text() + '\n[[arms]]\nname = "bad"\nsettings = { "data.shots" = 99 }\n')
    with pytest.raises(MaaoError, match=r"(?s)first failure: .*bad.*fewer than"):
        compare(broken, tmp_path / "out", workers=1, ray=True)


def test_a_table_takes_what_it_lacks_from_another_file(table: Path, tmp_path: Path) -> None:
    text = table.read_text()
    arms = text.index("[[arms]]")
    (tmp_path / "settings.toml").write_text(text[:arms])
    (tmp_path / "arms.toml").write_text(f'with = "settings.toml"\nseeds = [7]\n{text[arms:]}')
    named = read_table(tmp_path / "arms.toml")
    assert named.seeds == [7] and named.title == "Tiny" and len(list(cells(named, tmp_path))) == 2
    other = tmp_path / "other.toml"
    other.write_text(text[:arms].replace("pictures]", "drawings]"))
    assert list(read_table(tmp_path / "arms.toml", other).tasks) == ["drawings"]
    with pytest.raises(ConfigError, match="There is no table"):
        read_table(tmp_path / "arms.toml", tmp_path / "nowhere.toml")


def test_arms_run_on_every_model_unless_they_name_one(table: Path, tmp_path: Path) -> None:
    text = table.read_text().replace("[tasks.pictures]", "[models.one]\n[models.two]\n[tasks.pictures]")
    file = tmp_path / "models.toml"
    file.write_text(text + 'model = "two"\n')
    made = [(cell.arm, cell.model) for cell in cells(read_table(file), tmp_path) if cell.seed == 0]
    assert made == [("none", "one"), ("none", "two"), ("restart", "two")]


@pytest.mark.usefixtures("worker_here")
def test_a_cell_that_fails_is_told_and_the_others_are_kept(table: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(table.read_text() + '\n[[arms]]\nname = "bad"\nsettings = { "data.shots" = 99 }\n')
    with pytest.raises(MaaoError, match=r"(?s)first failure: .*bad.*fewer than"):
        compare(broken, tmp_path / "out", workers=1)
    assert len(list((tmp_path / "out" / "rows").glob("*.json"))) == 4


def row(arm: str, seed: int, accuracy: float, *, task: str = "t", tokens: int = 100, evals: int = 5, **more: Any) -> Row:
    cost: dict[str, int | float] = dict.fromkeys(("gradient_steps", "llm_calls", "input_tokens", "output_tokens"), 0)
    cost |= {"model_tokens": tokens, "selection_evals": evals}
    test = {"accuracy": accuracy, "loss": 1 - accuracy}
    return Row.model_validate({"arm": arm, "task": task, "model": "m", "seed": seed, "test": test, "cost": cost, **more})


def test_differences_pair_seeds_and_say_what_is_better() -> None:
    rows = [row("base", s, 0.5 + s / 50) for s in range(6)] + [row("good", s, 0.55 + s / 50 + s % 2 / 200) for s in range(6)]
    rows += [row("same", s, 0.5 + s / 50 + (0.02 if s % 2 else -0.02)) for s in range(6)]
    found = {(d.arm, d.metric): d for d in differences(rows, "base")}
    good = found["good", "accuracy"]
    assert good.pairs == 6 and good.mean == pytest.approx(5.25) and good.low > 0 and good.corrected == pytest.approx(2 * 2 / 64)
    assert found["good", "loss"].mean == pytest.approx(-0.0525) and found["good", "loss"].better > 0.5
    text = page_text(Table(name="x", baseline="base"), rows, list(found.values()), len(rows))
    assert "**good** is better than base by +5.25 points" in text and "**same** cannot be told apart from base" in text


def test_few_pairs_have_no_verdict_and_no_effect_size() -> None:
    def read(pairs: int) -> tuple[Difference, Difference, str]:
        rows = [row(arm, s, 0.5 + 0.1 * i + s / 100 * (1 + i)) for i, arm in enumerate(("a", "probe")) for s in range(pairs)]
        found = differences(rows, "a")
        return found[0], found[1], page_text(Table(name="x", baseline="a"), rows, found, len(rows))

    two, loss, text = read(2)
    assert two.low > 0 and two.effect is None and loss.effect is None and json.loads(json.dumps(asdict(two)))["effect"] is None
    assert "**probe** beside a: too few pairs to say; +10.50 points" in text and "is better than a" not in text and ", lower" not in text
    assert "| - |" in text
    three, _, text = read(3)
    assert three.effect is None and "**probe** is better than a by +11.00 points" in text and ", lower." in text
    four, _, text = read(4)
    assert four.effect is not None and f"| {four.effect:+.2f} |" in text and "| - |" not in text


def test_intervals_over_seeds_that_share_their_data_say_so() -> None:
    def text(**more: str) -> str:
        rows = [row(arm, s, 0.5 + s / 100, **more) for arm in "ab" for s in range(3)]
        return page_text(Table(name="x", baseline="a"), rows, differences(rows, "a"), 6)

    assert "the intervals cover the seed alone, not other labels or other test examples." in text(data="one")
    assert "the seed alone" not in text()  # an older row does not say it
    own = [row(arm, s, 0.5 + s / 100, data=str(s)) for arm in "ab" for s in range(3)]
    assert "the seed alone" not in page_text(Table(name="x", baseline="a"), own, differences(own, "a"), 6)


@pytest.mark.parametrize(
    ("data", "equal"),
    [
        ({}, True),
        ({"data.shots": 2}, False),
        ({"data.train": "{seed}.csv"}, False),
        ({"data.train": "{x}{{seed}.csv"}, False),
        ({"data.select": "cross_validation"}, True),
    ],
)
def test_a_row_names_data_that_seeds_share(tmp_path: Path, data: dict[str, object], equal: bool) -> None:
    text = Table(
        name="x",
        baseline="a",
        seeds=[0, 1],
        tasks={"t": {"data.train": "train.csv", "data.test": "test.csv", **data}},
        base={"model.kind": "matcher"},
        arms=[Arm(name="a")],
    )
    first, second = (_begin(cell)["data"] for cell in cells(text, tmp_path))
    assert (first == second) is equal and first is not None


@pytest.mark.parametrize("train", ["{seed:02d}.csv", "{seed}{seed.real}.csv", "{seed", "{seeds}.csv"])
def test_a_seed_in_another_form_is_refused(tmp_path: Path, train: str) -> None:
    tasks: dict[str, dict[str, object]] = {"t": {"data.train": train}}
    with pytest.raises(ConfigError, match=r"x: 'data\.train' is '.*': a seed is filled in as \{seed\} alone"):
        list(cells(Table(name="x", baseline="a", seeds=[0], tasks=tasks, arms=[Arm(name="a")]), tmp_path))


def test_names_of_cells_and_money_that_is_no_number_on_a_page(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.json").write_text(row("a/", 0, 0.5, task="#b", capped=1).model_dump_json(exclude_unset=True))
    for _ in range(2):
        Spending(tmp_path / "spending.sqlite").begin("k", Totals(1, 1, 1, sys.float_info.max), lambda spent: "")
    page = read_out(Table(name="x", baseline="a/"), tmp_path, 1).read_text()
    assert "a\\//m/#b/0" in page
    held = (tmp_path / "results.json").read_text()
    assert "Infinity" not in held and json.loads(held)["spent"]["usd"] is None


def test_the_ceiling_of_any_choice_stands_on_the_page() -> None:
    def walked(mean: float, best: float, loss: float, count: int) -> dict[str, object]:
        own = {"count": count, "each": [], "cost": {}, "mean": {"accuracy": mean, "loss": 1 - mean}}
        return {**own, "best": {"accuracy": best, "loss": 0.9}, "best_by_loss": {"accuracy": mean, "loss": loss}}

    rows = [row("a", 0, 0.5, walked=walked(0.4, 0.6, 0.3, 4)), row("a", 1, 0.7, walked=walked(0.6, 0.8, 0.2, 7)), row("old", 0, 0.5)]
    told = ceiling(rows)
    assert told[-1] == "| a | 2 | 5.5 | 60.0; 0.400 | 50.0; 0.500 | 70.0; 0.250 |" and "a bound, no result" in told[1]
    assert told[-1] in page_text(Table(name="x", baseline="a"), rows, [], len(rows))
    assert ceiling(rows[2:]) == [] and ceiling([row("none", 0, 0.5, walked=None)]) == []


def test_what_became_of_proposals_is_told_each_time_of_asking() -> None:
    twice = [{"wanted": 3, "usable": 3, "won": True, "margin": 0.1}, {"wanted": 3, "usable": 1, "won": False, "margin": None}]
    rows = [row("a", 0, 0.5, asked=twice), row("a", 1, 0.5, asked=twice[1:]), row("none", 0, 0.5, asked=[])]
    assert won(rows)[-1] == "| a | 5 of 9 | 1 of 2 | 0 of 1 |"
    assert won([row("old", 0, 0.5)]) == []


def test_a_margin_is_taken_at_the_age_at_which_the_rule_compared() -> None:
    def considered(proposal: int | None, loss: float, age: int) -> Considered:
        return Considered(proposal, Score(loss), age)

    def asking(*seen: Considered, chosen: int | None = None) -> SimpleNamespace:
        return SimpleNamespace(leg=Leg(0, ask=True), advice=Advice((Proposal("x", {}),)), verdict=Verdict(None, chosen, seen))

    halved = asking(considered(None, 0.5, 6), considered(0, 0.1, 0), considered(1, 0.9, 0), considered(0, 0.4, 6), chosen=0)
    lost = asking(considered(None, 0.5, 6), considered(0, math.nan, 6), considered(1, 0.75, 6))
    config = make_config({"accept": {"rule": "race", "steps": 6}})
    dropped = asking(considered(None, 0.5, 6), considered(0, 0.1, 0))  # all that were left had to stop before they were as old
    found = asked(SimpleNamespace(config=config, history=[halved, lost, asking(), dropped]))
    assert [entry.margin for entry in found] == [pytest.approx(0.1), -0.25, None, None]
    assert [entry.won for entry in found] == [True, False, False, False]
    assert [entry.wanted for entry in found] == [3, 3, 3, 3]
    lines = make_config({"model": {"kind": "matcher"}, "mentor": {"name": "class_names", "weights": [0.5]}})
    assert asked(SimpleNamespace(config=lines, history=[lost]))[0].wanted == 1  # one for each weight


def test_tasks_are_told_apart_and_together() -> None:
    rows = [row(arm, s, 0.5 + 0.1 * (arm == "b") + s / 50, task=task) for arm in "ab" for s in range(3) for task in ("x", "y")]
    found = {(d.task, d.metric): d.pairs for d in differences(rows, "a")}
    assert found["x", "accuracy"] == 3 and found[ALL, "accuracy"] == 6


def test_costs_that_lie_apart_are_told() -> None:
    costs = {"a": {"model_tokens": 100.0, "selection_evals": 5.0}, "b": {"model_tokens": 105.0, "selection_evals": 10.0}}
    assert unequal(costs, "a") == ["Not at equal cost: b took 2.00 times the looks of a."]
    costs["b"]["model_tokens"] = 50.0
    assert unequal(costs, "a") == ["Not at equal cost: b took 0.50 times the model tokens and 2.00 times the looks of a."]


def test_costs_are_compared_over_the_cells_that_both_arms_have() -> None:
    """An arm that leaves out the dear task is no cheaper."""

    def told(arm: str, tasks: str) -> list[Row]:
        return [
            row(arm, 0, 0.5, task=task).model_copy(update={"cost": {"model_tokens": cost}}) for task, cost in DEAR.items() if task in tasks
        ]

    found = costs_beside([*told("a", "xy"), *told("b", "x")], "b", "a")
    assert found["a"]["model_tokens"] == found["b"]["model_tokens"] == 100.0 and unequal(found, "a") == []
    assert costs_beside([*told("a", "y"), *told("b", "x")], "b", "a") == {}


DEAR = {"x": 100.0, "y": 900.0}


def test_what_a_mentor_cost_is_told_beside_what_all_arms_spend():
    none = {"llm_calls": 0, "input_tokens": 0, "output_tokens": 0, "usd": 0.0}
    costs = {"a": none, "b": {"llm_calls": 1.5, "input_tokens": 12_000, "output_tokens": 800, "usd": 0.0125}}
    assert calls_told(costs) == ["Extra cost: the mentor of b made 1.5 calls a cell (12,000 tokens in, 800 out, $0.0125)."]
    assert calls_told({"b": {**costs["b"], "usd": 0.0}})[0].endswith("800 out).")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("seeds = [0, 1]", "sedes = [0]"), "unknown key 'sedes'"),
        (('baseline = "none"', 'baseline = "nobody"'), "none of the arms"),
        (('name = "restart"', 'name = "none"'), "a name of its own"),
        (('name = "restart"', 'name = "restart"\ntasks = ["texts"]'), "names what the table lacks: texts"),
        (('name = "restart"', 'name = "restart"\nmodle = "x"'), "unknown key 'arms.1.modle'. Did you mean 'arms.1.model'"),
        (("seeds = [0, 1]", "seeds = []"), "needs `seeds`"),
        (("seeds = [0, 1]", "seeds = [0, 1"), "is not valid TOML"),
    ],
)
def test_tables_that_cannot_be_used_say_why(change: tuple[str, str], told: str, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(table.read_text().replace(*change))
    with pytest.raises(ConfigError, match=told):
        read_table(file)


def test_cells_come_seed_by_seed_with_one_thread_each(table: Path) -> None:
    found = list(cells(read_table(table), table.parent))
    assert [cell.seed for cell in found] == [0, 0, 1, 1]
    assert all(cell.config.threads == 1 for cell in found)
    with pytest.raises(ConfigError, match="no table"):
        read_table(table.parent / "none.toml")


def test_run_folders_are_kept_unless_the_table_says_otherwise(table: Path, tmp_path: Path) -> None:
    small = table.read_text().replace('baseline = "none"', 'baseline = "none"\nkeep_runs = false').replace("seeds = [0, 1]", "seeds = [0]")
    (table.parent / "unkept.toml").write_text(small)
    place = tmp_path / "out"
    (place / "rows").mkdir(parents=True)
    assert work(read_table(table.parent / "unkept.toml"), table.parent, place, "") == ""
    assert len(list((place / "rows").glob("*.json"))) == 2 and not list((place / "runs").iterdir())
    assert work(read_table(table), table.parent, place, "_1") == ""
    assert sorted(folder.name for folder in (place / "runs").iterdir()) == ["_none_pictures_1", "_restart_pictures_1"]


def test_a_page_may_read_another_metric_than_accuracy(tmp_path: Path) -> None:
    rows = [
        row(arm, s, 0.5, test={"accuracy": 0.5, "f1_macro": 0.4 + 0.1 * (arm == "b") + s / 50, "loss": 1.0})
        for arm in "ab"
        for s in range(4)
    ]
    (tmp_path / "rows").mkdir()
    for one in rows:
        (tmp_path / "rows" / f"{one.arm}{one.seed}.json").write_text(one.model_dump_json(exclude_unset=True))
    table = Table.model_validate({"name": "x", "baseline": "a", "metric": "f1_macro"})
    text = read_out(table, tmp_path, len(rows)).read_text()
    assert "**b** is better than a by +10.00 points" in text and "`test` f1 macro in per cent" in text
    assert "| b | 53.0 ± 2.6; 1.000 (4) |" in text and (tmp_path / "differences.png").exists()


def test_older_rows_are_read_by_the_names_of_today(tmp_path: Path) -> None:
    old = {"arm": "a", "model": "", "task": "t", "seed": 0, "cost": {"looks": 3}, "curve": [{"looks": 1, "select_loss": 0.5}]}
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = read_row(tmp_path / "old.json")
    assert read.cost == {"selection_evals": 3} and read.curve == [{"selection_evals": 1, "select_loss": 0.5}]


def test_rows_of_a_protocol_that_departs_from_a_named_one_are_read_out(tmp_path: Path) -> None:
    def told(*protocols: str) -> str:
        for old in (tmp_path / "rows").glob("*.json"):
            old.unlink()
        for i, protocol in enumerate(protocols):
            one = row(f"arm {i}", 0, 0.5, protocol=protocol, shots=2)
            (tmp_path / "rows" / f"{i}.json").write_text(one.model_dump_json(exclude_unset=True))
        return read_out(Table(name="x", baseline="arm 0"), tmp_path, 2).read_text()

    (tmp_path / "rows").mkdir()
    assert "arm 1" in told("images-few-shot-2-select-3", "images-few-shot-2-select-3")
    with pytest.raises(ConfigError, match="Results of different protocols cannot be compared"):
        told("images-few-shot-2-select-3", "images-few-shot-2")


def test_a_worker_that_says_much_is_not_held_up_by_those_who_do_not_listen_yet() -> None:
    """A pipe holds 64 KiB: whoever writes more to one waits until it is read, which nobody does before the worker ends."""
    worker = LocalWorker(
        [sys.executable, "-c", "import sys; sys.stderr.write('x' * 500_000 + chr(10) + 'the end'); sys.exit(3)"], os.environ
    )
    until = time.monotonic() + 60
    while worker.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert worker.returncode == 3
    told = worker.communicate()[1]
    assert told is not None and len(told) == 500_008 and told.endswith("the end")


@pytest.mark.usefixtures("worker_here")
def test_cells_that_wait_share_their_requests_and_the_same_command_goes_on(table: Path, tmp_path: Path) -> None:
    arm = '\n[[arms]]\nname = "{name}"\n[arms.settings]\n"mentor.name" = "opro"\n"mentor.exemplars" = 0\n"plan.proposals" = 2\n{chat}\n'
    chat = '"mentor.chat.provider" = "batch"\n"mentor.chat.name" = "strong"'
    file, place = tmp_path / "waiting.toml", tmp_path / "out"
    text = table.read_text().replace("seeds = [0, 1]", "seeds = [0]")
    file.write_text(text + arm.format(name="one", chat=chat) + arm.format(name="other", chat=f'{chat}\n"accept.rule" = "if_better"'))
    for _ in range(2):  # the second time nothing has come in: nothing is run, and the page says the same
        with pytest.raises(Waiting, match=r"^2 of 4 cells wait for 2 replies\. Go on with:") as stop:
            compare(file, place, workers=1)
        assert f"maao requests export {place} --to requests.jsonl" in str(stop.value) and stop.value.count == 2
        page = (place / "page.md").read_text()
        assert "\n**2 of 4 cells wait for 2 replies.** `maao requests list" in page and "| none |" in page
        assert json.loads((place / "results.json").read_text())["waiting"] == {"cells": 2, "replies": 2}
    changed = tmp_path / "changed.toml"
    changed.write_text(file.read_text().replace('"plan.steps" = 2', '"plan.steps" = 3'))
    with pytest.raises(MaaoError, match=r"waits, and was begun with other settings than the table has now\. Remove that folder"):
        compare(changed, place, workers=1, only="one")
    found = open_requests(place)
    assert [one.runs for one in found.values()] == [2, 2] and sorted(one.request.sample for one in found.values()) == [0, 1]
    words = ("- a small picture of", "- a large drawing of")
    lines = [json.dumps({"custom_id": custom_id(key), "text": words[one.request.sample]}) for key, one in found.items()]
    assert len(import_replies(place, [(f"line {i}", line) for i, line in enumerate(lines)], Told("a friend")).entries) == 2
    compare(file, place, workers=1)
    assert "cells wait" not in (place / "page.md").read_text() and len(list((place / "rows").glob("*.json"))) == 4
    held = read_record(place / "replies.jsonl")
    assert [entry.reply.who for entry in held.values()] == ["a friend"] * 2
    shutil.rmtree(place / "runs")
    assert recorded(place) == (list(held.values()), 0)  # as after a comparison that keeps no runs
    again = tmp_path / "again"  # by anyone who has the record
    record = f'{chat}\n"mentor.chat.replies" = "{place / "replies.jsonl"}"'
    file.write_text(text + arm.format(name="one", chat=record) + arm.format(name="other", chat=f'{record}\n"accept.rule" = "if_better"'))
    compare(file, again, workers=1)
    ours, theirs = ({row["arm"]: row for row in json.loads((where / "results.json").read_text())["rows"]} for where in (place, again))
    assert {arm: row["test"] for arm, row in ours.items()} == {arm: row["test"] for arm, row in theirs.items()}


@pytest.mark.usefixtures("worker_here")
def test_a_failed_cell_is_told_beside_those_that_wait(table: Path, tmp_path: Path) -> None:
    asking = '\n[[arms]]\nname = "waits"\n[arms.settings]\n"mentor.name" = "opro"\n"mentor.exemplars" = 0\n'
    asking += '"mentor.chat.provider" = "batch"\n"mentor.chat.name" = "strong"\n'
    (tmp_path / "arms.py").write_text(
        "from maao.options import Section\n\nclass Broken(Section):\n    def run(self, config, folder):\n        raise ValueError('no')\n"
    )
    file = tmp_path / "failing.toml"
    text = table.read_text().replace("seeds = [0, 1]", "seeds = [0]")
    file.write_text(text + asking + '\n[[arms]]\nname = "broken"\nhow = "arms.py:Broken"\n')
    with pytest.raises(MaaoError, match=r"Some cells failed; .* 1 of 4 cells waits for 3 replies\. The first failure: _broken") as stop:
        compare(file, tmp_path / "out", workers=1)
    assert not isinstance(stop.value, Waiting)


@pytest.mark.usefixtures("worker_here")
def test_a_copied_comparison_reads_and_writes_its_own_record(table: Path, tmp_path: Path) -> None:
    file, place, copied = tmp_path / "waits.toml", tmp_path / "out", tmp_path / "elsewhere" / "out"
    asking = '\n[[arms]]\nname = "waits"\n[arms.settings]\n"mentor.name" = "opro"\n"mentor.exemplars" = 0\n'
    asking += '"mentor.chat.provider" = "batch"\n"mentor.chat.name" = "strong"\n'
    file.write_text(table.read_text().replace("seeds = [0, 1]", "seeds = [0]") + asking)
    with pytest.raises(Waiting):
        compare(file, place, workers=1)
    shutil.copytree(place, copied)
    lines = [(key, json.dumps({"custom_id": custom_id(key), "text": "<INS>a photo of the</INS>"})) for key in open_requests(copied)]
    assert lines and import_replies(copied, lines).entries
    assert (copied / "replies.jsonl").exists() and not (place / "replies.jsonl").exists()
    assert not open_requests(copied) and len(open_requests(place)) == len(lines)
    assert compare(file, copied, workers=1) == copied / "page.md"
    assert [row["arm"] for row in json.loads((copied / "results.json").read_text())["rows"]].count("waits") == 1
    with pytest.raises(Waiting):
        compare(file, place, workers=1)


@pytest.mark.usefixtures("worker_here")
def test_a_worker_that_was_killed_is_no_silent_loss_of_its_cells(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(Here):
        """Ends half of the cells, and is killed."""

        def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
            super().__init__([*command[:5], json.dumps(["_none_"])], environment)
            self.returncode, self._told = -9, ""

    with monkeypatch.context() as patch:
        patch.setattr(workers, "LocalWorker", Killed)
        with pytest.raises(MaaoError, match=r"Some cells failed.*a worker was ended before it was done \(exit code -9; .*Start it again"):
            compare(table, tmp_path / "out", workers=1)
    assert "cells have been run" in (tmp_path / "out" / "page.md").read_text()
    assert compare(table, tmp_path / "out", workers=1).exists()
    assert len(list((tmp_path / "out" / "rows").glob("[!.]*.json"))) == 4
