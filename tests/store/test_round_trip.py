"""A round is restored as it was appended, to the last bit."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from sample_runs import NumpySerializer, State, make_history, open_run, same

from maao.errors import StoreError
from maao.store.digest import round_digest
from maao.store.run import RunFolder
from maao.types import (
    Advice,
    Clues,
    Confusion,
    Considered,
    Cost,
    Leg,
    Misclassified,
    Observation,
    Projection,
    Proposal,
    Rejected,
    Round,
    Score,
    Token,
    Verdict,
)

numbers = st.floats()  # NaN of every payload, infinities and -0.0 among them
texts = st.text(st.characters(exclude_categories=()), max_size=8)  # with lone surrogates and NUL
notes = st.none() | texts
counts = st.integers(0, 2**63 - 1)  # what an integer column holds
any_size = st.integers(-(2**80), 2**80)
costs = st.builds(Cost, any_size, any_size, any_size, any_size, any_size, any_size, any_size, numbers, numbers)
scores = st.builds(Score, numbers, st.dictionaries(texts | st.just("accuracy"), numbers, max_size=3), any_size, costs)
tokens = st.lists(st.lists(st.builds(Token, texts, numbers), max_size=2).map(tuple), max_size=2).map(tuple)
plain = st.recursive(
    st.none() | st.booleans() | any_size | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts | st.sampled_from(["$float", "$dict"]), inner, max_size=2),
    max_leaves=4,
)
dtypes = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint64, np.uint8, np.bool_, np.complex64])
tensors = dtypes.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_dims=2, max_side=3)))
params = st.dictionaries(st.sampled_from(["prompt", "x", "bias", "é"]), tensors, max_size=2)
states = st.builds(State, params, params, params, counts, counts, any_size, plain)


def tuples(inner):
    return st.lists(inner, max_size=2).map(tuple)


clues = st.builds(
    Clues,
    st.none() | st.builds(Projection, texts, scores, numbers),
    tokens,
    tokens,
    tokens,
    tuples(st.builds(Confusion, texts, texts, any_size)),
    tuples(st.builds(Misclassified, texts, texts, texts)),
    notes,
    costs,
)
proposals = st.builds(Proposal, texts, params, texts, notes, st.dictionaries(texts, texts, max_size=2))
rounds = st.builds(
    Round,
    st.just(0),
    st.builds(Leg, counts, st.booleans(), any_size, any_size),
    st.builds(Advice, tuples(proposals), tuples(st.builds(Rejected, texts, texts)), costs),
    st.builds(
        Verdict, states, st.none() | counts, tuples(st.builds(Considered, st.none() | counts, scores, counts, numbers)), texts, costs
    ),
    tuples(st.builds(Observation, counts, numbers, st.none() | params, notes, costs)),
    scores,
    clues,
    states,
    costs,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(round=rounds)
def test_any_round_is_restored_bit_for_bit(tmp_path_factory, round):
    folder = tmp_path_factory.mktemp("trip") / "run"
    with RunFolder.create(folder, config={}, environment={}, serializer=NumpySerializer()) as run:
        run.append(round)
    with open_run(folder) as run:
        (restored,) = run.history()
    assert same(restored, round)
    assert round_digest(restored, NumpySerializer()) == round_digest(round, NumpySerializer())


def test_a_history_is_restored_in_order(run, folder):
    history = make_history(12)
    for round in history:
        run.append(round)
    assert same(run.history(), history)
    with open_run(folder) as reader:
        assert same(reader.history(), history)
        assert reader.rounds_done == 12


def test_restored_arrays_can_be_written_to_and_are_nobody_elses(run):
    run.append(make_history(1)[0])
    first, second = run.history()[0], run.history()[0]
    first.state.params["prompt"][:] = 0
    assert same(second, make_history(1)[0])


@pytest.mark.parametrize("order", list(itertools.permutations(["b", "a", "c"])))
def test_the_order_of_named_tensors_survives(run, order):
    round = make_history(1)[0]
    given = {name: np.full(2, ord(name), dtype=np.float32 if name == "b" else np.float64) for name in order}
    state = State(given, {}, {}, step=1, age=1, seed=0)
    run.append(Round(0, round.leg, Advice(), Verdict(state, None), (), round.score, Clues(), state, Cost()))
    assert list(run.history()[0].state.params) == list(order)


def test_arrays_that_are_not_laid_out_in_c_order_are_restored(run):
    given = {"t": np.arange(6.0).reshape(2, 3).T, "s": np.arange(10)[::3], "z": np.array(2.5)}
    round = make_history(1)[0]
    state = State(given, {}, {}, step=1, age=1, seed=0)
    run.append(Round(0, round.leg, Advice(), Verdict(state, None), (), round.score, Clues(), state, Cost()))
    restored = run.history()[0].state.params
    assert all(np.array_equal(restored[name], array) and restored[name].shape == array.shape for name, array in given.items())


@pytest.mark.parametrize("extra", [np.int64(3), {1: "a"}, b"bytes", object()])
def test_what_is_not_plain_json_in_a_state_is_refused_and_nothing_is_stored(run, extra):
    round = make_history(1)[0]
    state = State({}, {}, {}, step=1, age=1, seed=0, extra=extra)
    with pytest.raises(StoreError, match="Cannot store"):
        run.append(Round(0, round.leg, Advice(), Verdict(state, None), (), round.score, Clues(), state, Cost()))
    assert run.rounds_done == 0


def test_an_array_of_a_type_that_safetensors_does_not_know_is_refused(run):
    round = make_history(1)[0]
    state = State({"words": np.array(["a", "b"])}, {}, {}, step=1, age=1, seed=0)
    with pytest.raises(StoreError, match=r"array 'params\.words' of type <U1"):
        run.append(Round(0, round.leg, Advice(), Verdict(state, None), (), round.score, Clues(), state, Cost()))
