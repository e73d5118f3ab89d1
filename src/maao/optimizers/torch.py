"""The doer: any `torch.optim` optimizer behind init, step and restart, with its whole state as a value.

A step takes the optimizer up from the state, makes one update on copies, and reads the state back, so nothing is left that a stored run
would forget. Taking it up takes longer than a small update: so the optimizer that made the last state is kept, and goes on where it is
given that very object. Any other state (stored, restarted, rolled back, of another branch of a race) is taken up by its values, and both
ways give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from maao.errors import ConfigError, NotFinite, ProblemError
from maao.members import member_of
from maao.protocols import Params, Problem
from maao.types import Cost, Observation

Moment = Tensor | int | float | str | bool | None
Moments = Mapping[str, Moment]
LAST_BYTES = 2**24  # of params, whose optimizer is kept: larger ones take longer to move than to take up
Nested = Moment | Mapping[str, "Nested"] | list["Nested"] | tuple["Nested", ...]  # an optimizer's own state of one of the params


@dataclass(frozen=True, slots=True, eq=False)
class TorchState:
    """Where a walk stands. `moments` is the optimizer's own state, flat: ``{"prompt/exp_avg": Tensor, "prompt/step": Tensor, ...}``.

    `good` and `good_moments` are the last point whose loss was a finite number, and the moments it had: what a rollback returns to.
    """

    params: Params
    start: Params
    seed: int
    step: int = 0
    age: int = 0
    moments: Moments = field(default_factory=dict)
    good: Params | None = None
    good_moments: Moments = field(default_factory=dict)
    lr_scale: float = 1.0  # halved by every rollback
    sums: Params = field(default_factory=dict)  # of an average over epochs, weighted; empty before the first
    weight: float = 0.0  # what they weigh together


@dataclass(frozen=True, slots=True)
class GaussianAverage:
    """Params averaged over epochs with the weights of a Gaussian, in place of the last ones, at the end of a schedule.

    Epoch e (from 1) weighs ``exp(-(e - mean)^2 / (2 std^2))``; weights are normalised. A restart begins the average anew: points on either
    side of a jump have no walk in common.

    Source: Khattak et al., Self-regulating Prompts, ICCV 2023 (Gaussian weighted prompt aggregation).
    """

    mean: float
    std: float
    steps_per_epoch: int

    def weight(self, epoch: int) -> float:
        return math.exp(-((epoch - self.mean) ** 2) / (2 * self.std**2))


@dataclass(frozen=True)
class TorchStage:
    """Gradient steps with a `torch.optim` optimizer.

    Args:
        optimizer: the name of a class in `torch.optim`, "AdamW" for example.
        lr: learning rate.
        options: further arguments of the optimizer's class.
        schedule: how the learning rate changes over `schedule_steps`: "constant", "linear" (to zero), "cosine" (to zero) or "exponential"
            (times 0.1 over the whole length). Counted over the run, not from the last restart.
        warmup_steps: the rate first rises linearly over so many steps.
        schedule_steps: length of the schedule, usually all steps of the plan; needed unless the schedule is constant.
        max_grad_norm: clip the gradient of all params together to this norm, of each member by itself where several walk together; None:
            do not clip.
        warmup_lr: a constant rate for the warm-up, in place of the rise.
        average: what becomes of the params after the last of `schedule_steps`.
        on_restart: "clear" the optimizer's moments when a restart moves the params, or "keep" them (as the reference
            release did, by accident).
        not_finite: what becomes of a step whose loss or gradient is no finite number: "go_back" to the last good point with half the
            learning rate, or "stop" the walk.
        most_rollbacks: after so many since a restart the walk stops: the learning rate is halved by each.

    Example:
        >>> from maao.problems.functions import FunctionProblem
        >>> problem, stage = FunctionProblem("rosenbrock"), TorchStage(lr=0.1)
        >>> state = stage.init(problem, problem.initial(0), seed=0)
        >>> state, observation = stage.step(problem, state)
        >>> state.step, observation.step
        (1, 0)
    """

    optimizer: str = "AdamW"
    lr: float = 0.01
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    warmup_steps: int = 0
    schedule_steps: int | None = None
    max_grad_norm: float | None = 1.0
    on_restart: Literal["clear", "keep"] = "clear"
    warmup_lr: float | None = None
    average: GaussianAverage | None = None
    not_finite: Literal["go_back", "stop"] = "go_back"
    most_rollbacks: int = 20
    _last: _Last = field(default_factory=lambda: _Last(), init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.optimizer not in optimizer_names():
            raise ConfigError(f"Unknown optimizer '{self.optimizer}'. Those that can be used: {', '.join(optimizer_names())}.")
        if not self.lr > 0:
            raise ConfigError(f"`stage.lr` must be above zero; got {self.lr}.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ConfigError(f"`stage.max_grad_norm` must be above zero (in a config, 0 switches clipping off); got {self.max_grad_norm}.")
        if self.schedule != "constant" and not self.schedule_steps:
            raise ConfigError(f"A {self.schedule} schedule needs `schedule_steps`, the length over which the learning rate changes.")
        if self.average is not None and not self.schedule_steps:
            raise ConfigError("An average over epochs needs `schedule_steps`, the step after which it takes the place of the params.")
        try:
            self._try_a_step()
        except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"torch.optim.{self.optimizer} refuses its settings {dict(self.options)}: {error}") from error

    def init(self, problem: Problem[Params], params: Params, *, seed: int) -> TorchState:
        own = _copy(params)
        try:
            self._build([value.clone().requires_grad_() for value in _trained(own).values()], 1.0)
        except ValueError as error:  # Muon moves matrices only
            raise ConfigError(f"torch.optim.{self.optimizer} cannot tune these params: {error}. Choose another optimizer.") from error
        return TorchState(params=own, start=own, seed=seed)

    def restart(self, state: TorchState, params: Params, *, seed: int) -> TorchState:
        moved = {**state.params, **_copy(params)}
        fits = all(moved[name].shape == old.shape for name, old in _trained(state.params).items())
        moments = state.moments if self.on_restart == "keep" and fits else {}
        return replace(
            state, params=moved, start=moved, age=0, moments=moments, good=None, good_moments={}, lr_scale=1.0, sums={}, weight=0.0
        )

    def step(self, problem: Problem[Params], state: TorchState, *, keep: bool = False) -> tuple[TorchState, Observation[Params]]:
        batch = problem.batch(state.step, state.seed)
        tokens = problem.num_tokens(state.params, batch)
        walking = self._last.pop(state)
        if walking is None:
            walking = _Walking.of(state, lambda leaves: self._build(leaves, self._rate(state)))
        else:
            for group in walking.optimizer.param_groups:
                group["lr"] = self.lr * self._rate(state)
        optimizer, leaves = walking.optimizer, walking.leaves
        read = {**state.params, **leaves}
        versions = {name: leaf._version for name, leaf in leaves.items()}
        seen: list[tuple[float, bool]] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = problem.loss(read, batch)
            loss.backward()
            value = float(loss.detach())
            seen.append((value, self._clipped(walking.members, math.isfinite(value)) and math.isfinite(value)))
            return loss

        try:
            optimizer.step(closure)  # type: ignore[arg-type]  # some evaluate more than once; the first is the loss at `state.params`
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            rate = self.lr * self._rate(state)
            raise ProblemError(
                f"No step of {self.optimizer} can be made at a learning rate of {rate:g}: {error}. Lower stage.lr, or what stands in "
                "stage.options."
            ) from error
        loss, finite = seen[0]
        cost = Cost(gradient_steps=1, model_tokens=2 * tokens * len(seen))
        kept = state.params if keep else None
        if not finite:
            return self._roll_back(state, loss), Observation(state.step, loss, kept, self._rollback_note(state, loss), cost)
        goes_on = walking.num_bytes <= LAST_BYTES
        moved = {name: leaf.detach() for name, leaf in leaves.items() if leaf._version != versions[name]}
        after = self._averaged(
            replace(
                state,
                params={**state.params, **({name: leaf.clone() for name, leaf in moved.items()} if goes_on else moved)},
                step=state.step + 1,
                age=state.age + 1,
                moments=_dump_moments(walking, copied=goes_on),
                good=state.params,
                good_moments=state.moments,
            )
        )
        # After the last step an average may have taken the place of the params; moments that would be taken up in another type differ.
        if goes_on and after.step != self.schedule_steps and _kept_as_they_are(after):
            self._last.push(after, walking)
        return after, Observation(state.step, loss, kept, None, cost)

    def _clipped(self, members: Sequence[Sequence[Tensor]], clip: bool) -> bool:
        """Say whether all gradients are finite; where they are, clip them if that is asked."""
        if self.max_grad_norm is None:
            return _finite([leaf for member in members for leaf in member])
        grads = [[leaf.grad for leaf in member if leaf.grad is not None] for member in members]
        norms = [torch.nn.utils.get_total_norm(own) for own in grads]
        # A norm that is a number is one of numbers.
        if not all(math.isfinite(norm) for norm in norms) and not _finite([leaf for member in members for leaf in member]):
            return False
        if clip:
            for member, norm in zip(members, norms, strict=True):
                torch.nn.utils.clip_grads_with_norm_(member, self.max_grad_norm, norm)
        return True

    def _averaged(self, state: TorchState) -> TorchState:
        """Return a state after a step with its epoch added to the average; after the last step, with the average as its params."""
        if self.average is None:
            return state
        whole = state.step % self.average.steps_per_epoch == 0
        if whole:
            weight = self.average.weight(state.step // self.average.steps_per_epoch)
            sums = {name: value * weight + (state.sums[name] if state.sums else 0) for name, value in _trained(state.params).items()}
            state = replace(state, sums=sums, weight=state.weight + weight)
        if state.step == self.schedule_steps and state.weight > 0:
            averages = {name: value / state.weight for name, value in state.sums.items()}
            return replace(state, params={**state.params, **averages})
        return state

    def _roll_back(self, state: TorchState, loss: float) -> TorchState:
        """Return the last good point, at half the learning rate. Raises `NotFinite` where there is none, or the walk is to stop."""
        what = f"The loss is {loss}" if not math.isfinite(loss) else "The gradient is no finite number"
        if state.good is None:
            raise NotFinite(
                f"{what} at the starting point of step {state.step}: there is no good point to go back to. "
                "Look at the start (a text of ordinary length and norm?) and at the precision of the frozen model."
            )
        if self.not_finite == "stop":
            raise NotFinite(f"{what} at step {state.step}, where the walk stops (stage.not_finite = 'stop'): lower stage.lr")
        if state.lr_scale <= 0.5**self.most_rollbacks:
            raise NotFinite(
                f"{what} at step {state.step}, after {self.most_rollbacks} steps that went back for that reason since the walk began "
                f"(stage.most_rollbacks); the learning rate is down to {self.lr * self._rate(state):.3g}: lower stage.lr"
            )
        return replace(
            state, params=state.good, moments=state.good_moments, step=state.step + 1, age=state.age + 1, lr_scale=state.lr_scale / 2
        )

    def _rollback_note(self, state: TorchState, loss: float) -> str:
        halved = self.lr * self._rate(state) / 2
        return f"loss or gradient not finite ({loss}): back to the last good point, learning rate halved to {halved:g}"

    def _try_a_step(self) -> None:
        """Make a step of nothing: some settings are read only there. What float32 cannot hold is told by the params' own step."""
        leaf = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        optimizer = self._build([leaf], 1.0)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = leaf.sum()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]

    def _build(self, leaves: list[Tensor], rate: float) -> torch.optim.Optimizer:
        return optimizer_class(self.optimizer)(leaves, lr=self.lr * rate, **self.options)

    def _rate(self, state: TorchState) -> float:
        """Return what the learning rate is multiplied with at this step."""
        if self.warmup_lr is not None and state.step < self.warmup_steps:
            return self.warmup_lr / self.lr * state.lr_scale
        rate = min(1.0, (state.step + 1) / self.warmup_steps) if self.warmup_steps and self.warmup_lr is None else 1.0
        if self.schedule != "constant":
            done = self.scheduled(state.step)
            rate *= {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "exponential": 0.1**done}[self.schedule]
        return rate * state.lr_scale

    def scheduled(self, step: int) -> float:
        """Return how much of the schedule lies behind a step, from 0 to 1."""
        assert self.schedule_steps is not None
        return min(1.0, step / self.schedule_steps)


def optimizer_names() -> tuple[str, ...]:
    """Return the optimizers of `torch.optim` that can be used: all but those for sparse gradients, which no params here have."""
    kinds = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    return tuple(
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
    )


def optimizer_class(name: str) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of `torch.optim` of that name."""
    found: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, name)
    return found


def by_member(names: Sequence[str], leaves: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return tensors by the member that they belong to (see `maao.members`); all together where nothing walks beside the full one."""
    found: dict[str, list[Tensor]] = {}
    for name, leaf in zip(names, leaves, strict=True):
        found.setdefault(member_of(name), []).append(leaf)
    return list(found.values())


def is_trained(value: Tensor) -> bool:
    """Say whether a stage moves a tensor: whole numbers (a proposal's label words, say) are carried along."""
    return value.is_floating_point()


def _trained(params: Params) -> dict[str, Tensor]:
    return {name: value for name, value in params.items() if is_trained(value)}


def _copy(params: Params) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in params.items()}


def _finite(leaves: Sequence[Tensor]) -> bool:
    return all(leaf.grad is None or bool(leaf.grad.isfinite().all()) for leaf in leaves)


@dataclass(frozen=True, slots=True)
class _Walking:
    """An optimizer that stands at a state: the tensors that it moves, by name, the names by tensor, and those of each member."""

    leaves: dict[str, Tensor]
    names: dict[int, str]
    optimizer: torch.optim.Optimizer
    members: list[list[Tensor]]

    @classmethod
    def of(cls, state: TorchState, build: Callable[[list[Tensor]], torch.optim.Optimizer]) -> _Walking:
        leaves = {name: value.detach().clone().requires_grad_() for name, value in _trained(state.params).items()}
        optimizer = build(list(leaves.values()))
        _load_moments(optimizer, list(leaves), state.moments)
        names = {id(leaf): name for name, leaf in leaves.items()}
        return cls(leaves, names, optimizer, by_member(list(leaves), list(leaves.values())))

    @property
    def num_bytes(self) -> int:
        return sum(leaf.numel() * leaf.element_size() for leaf in self.leaves.values())


class _Last:
    """The optimizer that made the last state, for whoever goes on from that very object."""

    def __init__(self) -> None:
        self._held: tuple[TorchState, _Walking] | None = None

    def pop(self, state: TorchState) -> _Walking | None:
        """Return the optimizer that stands at a state, once: it moves. None: it stands elsewhere, and is given up."""
        held, self._held = self._held, None
        return held[1] if held is not None and held[0] is state else None

    def push(self, state: TorchState, walking: _Walking) -> None:
        self._held = state, walking


def _kept_as_they_are(state: TorchState) -> bool:
    """Say whether moments taken up by value would have the type that they have: torch gives them that of their param, but for the count."""
    held = ((path.split("/"), value) for path, value in state.moments.items() if isinstance(value, Tensor) and value.is_floating_point())
    return all(path[-1] == "step" or value.dtype == state.params[path[0]].dtype for path, value in held)


def _dump_moments(walking: _Walking, *, copied: bool) -> dict[str, Moment]:
    """Return the optimizer's state as one flat mapping ``"param/key/...": tensor or plain value``; of what it goes on to change, copies."""
    flat: dict[str, Moment] = {}
    for leaf, values in walking.optimizer.state.items():
        _flatten(values, walking.names[id(leaf)], flat, copied)
    return flat


def _flatten(value: Nested, path: str, out: dict[str, Moment], copied: bool) -> None:
    if isinstance(value, Tensor):
        out[path] = value.detach().clone() if copied else value.detach()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(inner, f"{path}/{key}", out, copied)
    elif isinstance(value, list | tuple):
        out[f"{path}/#"] = len(value)  # a list's length, so that an empty one is remembered too
        for i, inner in enumerate(value):
            _flatten(inner, f"{path}/{i}", out, copied)
    else:
        out[path] = value


def _load_moments(optimizer: torch.optim.Optimizer, names: list[str], flat: Moments) -> None:
    if not flat:
        return  # some optimizers begin with moments of their own (Adagrad of torch 2.9), which an empty state would take from them
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value.clone() if isinstance(value, Tensor) else value
    state = {names.index(name): _unflatten(values) for name, values in tree.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _unflatten(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if "#" in node:
        return [_unflatten(node[str(i)]) for i in range(node["#"])]
    return {key: _unflatten(value) for key, value in node.items()}
