"""The frame of the benchmarks: sides take turns in alternating order, and the worse quartile is judged."""

from __future__ import annotations

import json
import statistics

import pytest

from bench import matcher
from bench.__main__ import main
from bench.frame import Figure, Run, Seconds, Turn, Turns, Watch, take_turns, timed


def test_sides_take_turns_in_alternating_order_after_a_warm_up(capsys):
    made = []
    sides = {name: timed(lambda name=name: made.append(name)) for name in "ab"}
    turns = take_turns(sides, 3, shapes=[(2, 3, 4)])
    assert made == list("abbaabba")
    assert [list(turn.seconds) for turn in turns.turns] == [["b", "a"], ["a", "b"], ["b", "a"]]
    assert all(rate > 0 for turn in turns.turns for rate in turn.rates)
    assert capsys.readouterr().out.count("turn") == 3


def test_ratios_are_of_the_same_turn():
    pairs = [((6.0, 3.0), (2.0, 1.0)), ((1.0, 1.0), (0.5, 0.25))]
    turns = Turns(tuple(Turn({"theirs": Seconds(*a), "ours": Seconds(*b)}, (1.0, 3.0)) for a, b in pairs))
    assert turns.ratios("theirs", "ours") == [3.0, 2.0]
    assert turns.ratios("theirs", "ours", extra=0.5) == [2.4, 1.0]
    assert turns.cpu_ratios("theirs", "ours") == [3.0, 4.0]
    assert turns.turns[0].rate == 2.0


@pytest.mark.parametrize(("higher", "must", "reached"), [(True, 2.0, True), (True, 2.1, False), (False, 4.0, True), (False, 3.9, False)])
def test_what_must_be_reached_is_asked_of_the_worse_quartile(tmp_path, capsys, higher, must, reached):
    figure = Figure("ratio", "a ratio", must, must, higher)
    with Watch() as watch:
        figure.report(Run(out=tmp_path), watch, [1.0, 2.0, 3.0, 4.0, 5.0], {"raw": [1]})
    record = json.loads((tmp_path / "ratio.json").read_text(encoding="utf-8"))
    assert (record["value"], record["quartiles"], record["count"], record["reached"]) == (3.0, [2.0, 4.0], 5, reached)
    assert record["environment"]["processor"] and record["environment"]["threads"] >= 1
    assert len(record["machine"]["load_average"]) == 2
    assert ("NOT REACHED" in capsys.readouterr().out) is not reached


def test_a_quick_run_writes_nothing_unless_told_where(tmp_path, capsys):
    with Watch() as watch:
        Figure("ratio", "a ratio", 1.0, 1.0, True).report(Run(quick=True, out=None), watch, [2.0], {})
    assert capsys.readouterr().out.startswith("ratio: 2 times; must 1, aim 1: reached")


def test_the_watch_sees_what_the_machine_does():
    with Watch() as watch:
        told = watch.told()
    assert told["quiet"] is None or told["others"] >= 0.0
    assert statistics.fmean(told["load_average"]) >= 0


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match=r"Unknown benchmark nosuch. Known: steps, .*growth"):
        main(["nosuch"])


def test_the_matchers_loop_and_the_plain_one_make_the_same_steps():
    for batch in (8, 64):
        size = matcher.Size(classes=4, rows=40, dims=16, batch=batch)
        features = matcher.made_features(size)
        problem = matcher.made_problem(size, features)
        matcher._check_parity(problem, size, features)
        if batch == 8:
            with pytest.raises(SystemExit, match="do not make the same steps"):
                matcher._check_parity(problem, size, features.flip(0))


def test_growth_tells_what_a_process_holds_and_what_is_mapped():
    found = matcher._grow(matcher.Size(classes=4, rows=400, dims=16, batch=8))
    assert found["step_seconds"] > 0 and found["features_mib"] == 400 * 16 * 4 / 2**20
    assert {"own_mib", "mapped_mib", "build_seconds"} <= set(found)
