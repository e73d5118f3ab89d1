"""Runs made of plain numpy, for the tests of the store: small, deterministic, and with something in every field."""

import struct
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

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

Params = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class State:
    params: Params
    start: Params
    moments: Params
    step: int
    age: int
    seed: int
    extra: Any = None


class NumpySerializer:
    def dump_params(self, params):
        return params

    def load_params(self, arrays):
        return dict(arrays)

    def dump_state(self, state):
        arrays = {f"{part}.{name}": a for part in ("params", "start", "moments") for name, a in getattr(state, part).items()}
        return arrays, {"step": state.step, "age": state.age, "seed": state.seed, "extra": state.extra}

    def load_state(self, arrays, meta):
        parts: dict[str, Params] = {"params": {}, "start": {}, "moments": {}}
        for key, array in arrays.items():
            part, _, name = key.partition(".")
            parts[part][name] = array
        return State(**parts, **meta)


def make_history(rounds: int, *, start: int = 0, size: int = 6) -> tuple[Round, ...]:
    """Return the first rounds of one fixed run; each ends where the next begins."""
    return tuple(make_round(index, size=size) for index in range(start, rounds))


def make_state(index: int, size: int) -> State:
    prompt = np.arange(2 * size, dtype=np.float32).reshape(2, size) / np.float32(index + 7)
    params = {"prompt": prompt, "bias": np.arange(3) / (index + 3)}
    moments = {"exp_avg": prompt / np.float32(3), "count": np.array(index)}
    return State(params, {"prompt": np.zeros((2, size), np.float32)}, moments, step=10 * index, age=10, seed=2**70 + index)


def make_round(index: int, *, size: int = 6) -> Round:
    before, after = make_state(index, size), make_state(index + 1, size)
    proposal = Proposal("a \N{SNOWMAN} text", {"prompt": before.params["prompt"]}, "mentor", "cut", {"template": "{slots} {text}"})
    score = Score(1.0 / (index + 1), {"accuracy": index / 10, "f1": 0.25}, 40, Cost(scored_examples=40, selection_evals=1))
    return Round(
        index=index,
        leg=Leg(steps=2, ask=index % 2 == 0, keep_every=2),
        advice=Advice((proposal,), (Rejected("Sure!", "not a proposal"),), Cost(llm_calls=1, input_tokens=90, usd=0.25, seconds=0.5)),
        verdict=Verdict(before, 0, (Considered(None, score), Considered(0, score, 5, 0.5)), "the lower loss", Cost(selection_evals=2)),
        observations=(
            Observation(10 * index, 0.5, before.params, "a rollback", Cost(gradient_steps=1)),
            Observation(10 * index + 1, float("nan")),
        ),
        score=score,
        clues=Clues(
            Projection("words", score, -0.0),
            nearest=((Token("a", 0.5),), ()),
            confusions=(Confusion("x", "y", 3),),
            misclassified=(Misclassified("t", "x", "y"),),
            self_continuation="",
        ),
        state=after,
        cost=Cost(gradient_steps=2, llm_calls=1, usd=0.25, seconds=1.5),
    )


def same(a: Any, b: Any) -> bool:
    """Return whether two values are the same to the last bit: types, signs of zero, payloads of NaN, order of mappings, seconds."""
    if type(a) is not type(b):
        return False
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


def files_in(folder) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def open_run(folder, *, write: bool = False) -> RunFolder:
    return RunFolder.open(folder, serializer=NumpySerializer(), write=write)
