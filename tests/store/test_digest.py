"""Digests tell apart what differs in a bit, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from sample_runs import make_round

from maao.store.digest import params_digest, round_digest
from maao.types import Cost, Observation, Score


@pytest.fixture
def digest(serializer):
    return lambda round: round_digest(round, serializer)


def test_equal_rounds_have_equal_digests(digest):
    assert digest(make_round(3)) == digest(make_round(3))
    assert digest(make_round(3)) != digest(make_round(4))


def test_digests_are_the_same_on_every_machine(digest, serializer):
    assert params_digest({"x": np.arange(3, dtype=np.float32)}, serializer) == (
        "0c0efddf3b5c7d8dc92fcce77290bc442634c53316f89aa97845f71ff3fe4658"
    )
    assert digest(make_round(0)) == "9cff16d828e7fc0bc885b5585faf906d2950299baf20d5ea61b05ec145a99360"


def test_seconds_take_no_part(digest):
    round = make_round(0)
    slower = replace(
        round, cost=replace(round.cost, seconds=99.0), advice=replace(round.advice, cost=replace(round.advice.cost, seconds=7.0))
    )
    assert digest(slower) == digest(round)


def test_every_other_part_takes_part(digest):
    r = make_round(0)
    state = replace(r.state, seed=r.state.seed + 1)
    moved = replace(r.state, params={**r.state.params, "bias": np.nextafter(r.state.params["bias"], 1)})
    changed = [
        replace(r, index=1),
        replace(r, leg=replace(r.leg, ask=False)),
        replace(r, advice=replace(r.advice, rejected=())),
        replace(r, advice=replace(r.advice, proposals=())),
        replace(r, verdict=replace(r.verdict, chosen=None)),
        replace(r, verdict=replace(r.verdict, considered=tuple(replace(c, weight=0.25) for c in r.verdict.considered))),
        replace(r, verdict=replace(r.verdict, state=state)),
        replace(r, observations=r.observations[:1]),
        replace(r, observations=(r.observations[0], Observation(1, -float("nan")))),
        replace(r, score=Score(r.score.loss)),
        replace(r, clues=replace(r.clues, self_continuation=None)),
        replace(r, clues=replace(r.clues, projection=replace(r.clues.projection, gap=0.0))),  # it was -0.0
        replace(r, state=state),
        replace(r, state=moved),
        replace(r, cost=Cost()),
    ]
    digests = [digest(r), *map(digest, changed)]
    assert len(set(digests)) == len(digests)


def test_the_order_of_a_mapping_takes_no_part(digest, serializer):
    a, b = np.zeros(2), np.ones(3)
    assert params_digest({"a": a, "b": b}, serializer) == params_digest({"b": b, "a": a}, serializer)
    r = make_round(0)
    assert digest(r) == digest(replace(r, score=replace(r.score, metrics=dict(reversed(r.score.metrics.items())))))


def test_params_of_one_tensor_are_kept_under_their_digest(run, folder, serializer):
    round = make_round(0)
    run.append(round)
    name = params_digest(round.advice.proposals[0].params, serializer)
    assert (folder / "tensors" / f"{name}.safetensors").exists()


@pytest.mark.parametrize(
    "other", [np.zeros(3, np.float64), np.zeros((3, 1), np.float32), -np.zeros(3, np.float32), np.zeros(4, np.float32)], ids=str
)
def test_type_shape_and_sign_take_part(other, serializer):
    assert params_digest({"x": np.zeros(3, np.float32)}, serializer) != params_digest({"x": other}, serializer)
