"""A cap ends a run cleanly with what it has, and the run says so."""

from __future__ import annotations

import pytest

import maao
from maao.config import make_config
from maao.core.budget import Clock
from maao.errors import ConfigError, NotFinite
from maao.optimizers.torch import TorchStage
from tests.api.server import chat_server
from tests.api.small_runs import config, digests, write_data
from tests.cases.provider_server import FOR_EVER, always, settings, until_asked


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def run(llama, data, folder, **changes):
    return maao.run(config(llama, data, **changes), folder)


def told(result):
    """All that a reader of the run is told about calls that were not made."""
    return [rejected.reason for r in result.history for rejected in r.advice.rejected]


@pytest.mark.parametrize("steps", [1, 7, 9, 10, 12])
def test_gradient_steps_are_never_passed(llama, data, tmp_path, steps):
    result = run(llama, data, tmp_path / "run", budget__gradient_steps=steps, plan__first="walk")
    assert 0 < result.cost.gradient_steps <= steps
    assert result.status == "finished"
    assert result.status_reason == f"the budget of {steps} gradient steps shortened its plan"
    assert set(result.finals) == {"untuned", "chosen", "words"}
    assert maao.replay(result.folder).equal


def test_a_budget_that_does_not_bind_is_not_mentioned(llama, data, tmp_path):
    free = run(llama, data, tmp_path / "free")
    capped = run(llama, data, tmp_path / "capped", budget__gradient_steps=1000, budget__llm_calls=100, budget__seconds=1000)
    assert capped.status_reason == ""
    assert digests(capped) == digests(free)


def test_a_run_ends_with_its_seconds(llama, data, tmp_path):
    result = run(llama, data, tmp_path / "run", budget__seconds=1e-9)
    assert len(result.history) == 1
    assert result.status == "finished"
    assert result.status_reason == "the time budget of 1e-09 seconds ended it after round 0"
    assert set(result.finals) == {"untuned", "chosen", "words"}
    assert maao.replay(result.folder).equal


class Looks(Clock):
    """A clock by which each look takes a second."""

    looked = 0

    def __init__(self, seconds=None, spent=0.0):
        super().__init__(seconds, spent, now=self.look)

    def look(self):
        Looks.looked += 1
        return float(Looks.looked)


@pytest.mark.parametrize(
    ("first", "seconds", "ended"),
    [
        ("walk", 3, "in round 1, after 1 of 2 steps"),
        ("ask", 5, "in round 1, before the mentor's proposals were judged"),
        ("ask", 9, "in round 1, before the mentor's proposals were judged"),
    ],
)
def test_what_the_time_cut_is_stored_as_far_as_it_came(llama, data, tmp_path, monkeypatch, first, seconds, ended):
    monkeypatch.setattr("maao.runner.Clock", Looks)
    result = run(llama, data, tmp_path / "run", budget__seconds=seconds, plan__first=first)
    monkeypatch.undo()
    assert result.status_reason.startswith(f"the time budget of {seconds} seconds ended it {ended}")
    assert (result.status, result.cost.seconds >= seconds) == ("finished", True)
    assert result.cost.gradient_steps == sum(r.leg.steps for r in result.history) < 8
    assert digests(maao.resume(result.folder)) == digests(result)
    found = maao.replay(result.folder)
    assert found.equal and found.llm_calls == 0


def test_a_restart_that_was_taken_back_in_a_leg_that_the_time_cut_is_replayed(llama, data, tmp_path, monkeypatch):
    """The restart fails at its second step; the time ends the leg that is walked in its place after the first."""
    plain = TorchStage.step

    def step(self, problem, state, *, keep=False):
        if state.age == 1 and state.step > 1:
            raise NotFinite("The loss is nan.")
        return plain(self, problem, state, keep=keep)

    monkeypatch.setattr(TorchStage, "step", step)
    with monkeypatch.context() as timed:
        timed.setattr("maao.runner.Clock", Looks)
        result = run(llama, data, tmp_path / "run", budget__seconds=14, plan__first="walk", accept={"rule": "always_first"})
    last = result.history[-1]
    assert (last.leg.steps, last.verdict.chosen) == (1, None) and last.verdict.reason.endswith("taken back, since The loss is nan.")
    assert digests(maao.resume(result.folder)) == digests(result)
    assert maao.replay(result.folder).equal


def test_a_run_killed_before_it_says_that_its_time_is_up_is_not_gone_on_with(llama, data, tmp_path, monkeypatch):
    class Stop(maao.Watch):
        def round(self, finished):
            if finished.leg.steps == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr("maao.runner.Clock", Looks)
    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data, budget__seconds=3, plan__first="walk"), tmp_path / "run", watch=Stop())
    monkeypatch.undo()
    result = maao.resume(tmp_path / "run")
    assert result.status_reason == "the time budget of 3 seconds ended it in round 1, after 1 of 2 steps"
    assert maao.replay(result.folder).equal


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_call_is_cut_where_the_time_is_up_and_counts_at_its_worst(tmp_path):
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    for server, seconds in until_asked():
        server.begin(always(FOR_EVER))
        settings_ = settings(server, {"seconds": seconds}, chat={"timeout": FOR_EVER, **prices})
        result = maao.run(make_config(settings_), tmp_path / f"run{seconds:g}")
    assert result.status_reason == (
        f"the time budget of {seconds:g} seconds ended it in round 1, before the mentor's proposals were judged; "
        "the budget kept the mentor from being asked once"
    )
    assert told(result) == ["Call ended: the seconds of the run are spent."]
    assert len(server.bodies) == 1 == result.unanswered.calls and result.unanswered.usd > 0
    assert maao.replay(result.folder).equal
    assert maao.resume(result.folder).status_reason == result.status_reason and len(server.bodies) == 1


def test_a_run_whose_seconds_are_spent_is_not_gone_on_with(llama, data, tmp_path):
    class Stop(maao.Watch):
        def testing(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data, budget__seconds=1e-9), tmp_path / "run", watch=Stop())
    result = maao.resume(tmp_path / "run")
    assert len(result.history) == 1 and result.status == "finished" and result.finals


def test_calls_that_would_pass_a_cap_are_not_made(llama, data, tmp_path):
    result = run(llama, data, tmp_path / "run", budget__llm_calls=1)
    assert result.cost.llm_calls == 1
    assert len(result.history) == 5  # the walk goes on without the mentor
    assert "Call not made: the cap of 1 calls is reached (1 made)." in told(result)
    assert result.status_reason == "the budget kept the mentor from being asked once"
    found = maao.replay(result.folder)
    assert found.equal and found.llm_calls == 0


def test_tokens_are_counted_at_their_worst_before_a_call(llama, data, tmp_path):
    result = run(llama, data, tmp_path / "run", budget__llm_tokens=10)
    assert result.cost.llm_calls == 0
    assert all("the cap is 10 tokens, 0 are spent" in reason for reason in told(result))
    assert result.status_reason == "the budget kept the mentor from being asked 2 times"
    assert maao.replay(result.folder).equal


def test_tokens_allow_what_fits(llama, data, tmp_path):
    whole = run(llama, data, tmp_path / "whole")
    spent = whole.cost.input_tokens + whole.cost.output_tokens
    result = run(llama, data, tmp_path / "run", budget__llm_tokens=spent)  # not enough for the second call's worst case
    assert result.cost.llm_calls == 1
    assert result.cost.input_tokens + result.cost.output_tokens <= spent


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_money_is_capped_where_the_price_is_known(llama, data, tmp_path):
    changes = {"provider": "openai", "name": "m", "usd_per_million_input": 1000.0, "usd_per_million_output": 1000.0}
    with chat_server(lambda number: (200, "never asked")) as server:
        result = run(llama, data, tmp_path / "run", budget__usd=0.0001, mentor__chat={**changes, "base_url": server.base_url})
    assert not server.bodies
    assert result.cost.usd == 0 and result.cost.llm_calls == 0
    assert all("the cap is $0.0001, $0 is spent" in reason for reason in told(result))
    assert result.status_reason == "the budget kept the mentor from being asked 2 times"


def test_money_cannot_be_capped_without_a_price(llama, data, tmp_path):
    chat = {"provider": "openai", "name": "a-model-nobody-sells", "base_url": "http://127.0.0.1:9/v1"}
    with pytest.raises(ConfigError, match=r"Cannot keep a cap of \$1: the price of 'a-model-nobody-sells' is unknown"):
        run(llama, data, tmp_path / "run", budget__usd=1, mentor__chat=chat)
    assert not (tmp_path / "run").exists()


def test_a_scripted_mentor_costs_nothing_of_a_money_budget(llama, data, tmp_path):
    result = run(llama, data, tmp_path / "run", budget__usd=0.01)
    assert result.cost.llm_calls == 2 and result.status_reason == ""


@pytest.mark.parametrize("name", ["gradient_steps", "llm_calls", "llm_tokens", "usd", "seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_budget_of_nothing_is_refused_before_anything_is_loaded(tmp_path, name, value):
    settings = {"model": {"name": "no-such-model"}, "data": {"source": "no-such.csv"}, "budget": {name: value}}
    with pytest.raises(ConfigError, match=rf"A budget of {value}(\.0)? {name} leaves nothing to do"):
        maao.run(make_config(settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_budget_below_the_first_step_is_refused(llama, data, tmp_path):
    with pytest.raises(ConfigError, match=r"does not reach the first step of the plan. Raise `budget.gradient_steps`"):
        run(llama, data, tmp_path / "run", budget__gradient_steps=3)  # the race before the first leg may take 6


def test_the_budget_is_no_part_of_using_a_finished_run(llama, data, tmp_path):
    result = run(llama, data, tmp_path / "run", budget__gradient_steps=8)
    assert maao.load(result.folder).predict(["music film"])


def test_recorded_replies_count_for_a_run_that_goes_on(llama, data, tmp_path):
    """What was paid for before a stop is paid for: the cap holds over both parts together."""

    class StopAtSecondCall(maao.Watch):
        calls = 0

        def call(self, request):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt

    whole = run(llama, data, tmp_path / "whole", budget__llm_calls=2, plan__rounds=3)
    with pytest.raises(KeyboardInterrupt):
        maao.run(config(llama, data, budget__llm_calls=2, plan__rounds=3), tmp_path / "run", watch=StopAtSecondCall())
    result = maao.resume(tmp_path / "run")
    assert digests(result) == digests(whole)
    assert result.status_reason == whole.status_reason == "the budget kept the mentor from being asked once"
