"""A doer's state as numpy arrays and plain JSON, and back, without losing a bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from maao.optimizers.torch import Moment, TorchState
from maao.protocols import Array, Arrays, Params
from maao.types import JSON


class TorchSerializer:
    """Params and `TorchState` as numpy arrays and JSON."""

    def dump_params(self, params: Params) -> Arrays:
        return {name: _array(value) for name, value in params.items()}

    def load_params(self, arrays: Arrays) -> Params:
        return {name: _tensor(value) for name, value in arrays.items()}

    def dump_state(self, state: TorchState) -> tuple[Arrays, JSON]:
        arrays: dict[str, Array] = {}
        values: dict[str, Moment] = {}
        parts: dict[str, Mapping[str, Moment]] = {
            "params": state.params,
            "start": state.start,
            "moments": state.moments,
            "good": state.good or {},
            "good_moments": state.good_moments,
        }
        if state.sums:
            parts["sums"] = state.sums
        for part, mapping in parts.items():
            for name, value in mapping.items():
                if isinstance(value, Tensor):
                    arrays[f"{part}:{name}"] = _array(value)
                else:
                    values[f"{part}:{name}"] = value
        order = {part: list(mapping) for part, mapping in parts.items()}
        numbers: JSON = {"seed": state.seed, "step": state.step, "age": state.age, "lr_scale": state.lr_scale}
        if state.sums:
            numbers["weight"] = state.weight
        return arrays, {**numbers, "values": values, "order": order, "has_good": state.good is not None}

    def load_state(self, arrays: Arrays, meta: JSON) -> TorchState:
        def tensors(part: str) -> dict[str, Tensor]:
            return {name: _tensor(arrays[f"{part}:{name}"]) for name in meta["order"][part]}

        def moments(part: str) -> dict[str, Moment]:
            keys = {name: f"{part}:{name}" for name in meta["order"][part]}
            return {name: _tensor(arrays[key]) if key in arrays else meta["values"][key] for name, key in keys.items()}

        return TorchState(
            params=tensors("params"),
            start=tensors("start"),
            seed=meta["seed"],
            step=meta["step"],
            age=meta["age"],
            moments=moments("moments"),
            good=tensors("good") if meta["has_good"] else None,
            good_moments=moments("good_moments"),
            lr_scale=meta["lr_scale"],
            sums=tensors("sums") if "sums" in meta["order"] else {},
            weight=meta.get("weight", 0.0),
        )


def _array(value: Tensor) -> Array:
    found: Array = value.detach().cpu().numpy()
    return found


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array))
