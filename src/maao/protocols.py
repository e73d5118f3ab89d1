"""The protocols of the house, on one page. Everything else is an implementation of one of them, or glue.

`P` is the tuned values, `S` a stage's state (it shows `params`, `start`, `step` and `age`). In this project `P` is always a mapping of
names to tensors, as a state dict is: `{"prompt": (num_virtual_tokens, embed_dim)}`, or `{"x": (dim,)}`. The protocols do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, runtime_checkable

from maao.types import JSON, Advice, Clues, Cost, Example, Observation, P, Round, S, Score, Split, Token, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from torch import Tensor

    from maao.llm.budget import Meter
    from maao.llm.chat import Reply, Request
    from maao.llm.price import Price

    Params: TypeAlias = Mapping[str, Tensor]
    Array: TypeAlias = npt.NDArray[np.generic]
else:
    Params, Array = Mapping, object

History = tuple[Round[P, S], ...]
Proposals = Sequence[Any]
Arrays = Mapping[str, Array]


NO_FIELDS: Mapping[str, str] = MappingProxyType({})


class Problem(Protocol[P]):
    """What is tuned."""

    def initial(self, seed: int) -> P:
        """Return a starting point; the same seed gives the same point."""
        ...

    def batch(self, step: int, seed: int) -> Any:
        """Return the training batch of a step: a function of its arguments, with no hidden iterator."""
        ...

    def loss(self, params: P, batch: Any) -> Tensor:
        """Return the scalar loss of a batch as a tensor that can be differentiated with respect to `params`."""
        ...

    def num_tokens(self, params: P, batch: Any) -> int:
        """Return how many tokens (or images, or evaluations) one forward pass over a batch runs through the frozen model."""
        ...

    def score(self, points: Sequence[P], split: Split) -> tuple[Score, ...]:
        """Return loss and metrics of each point over a whole split, in their order: pure, deterministic, without gradient.

        Work may be shared between points, so that a loss may differ by rounding from that of the same point alone; what must be equal bit
        for bit is asked with the same points together. What scoring costs is the sum of what the scores say.
        """
        ...

    def clues(self, params: P, *, start: P | None = None, score: Score | None = None) -> Clues:
        """Return what else can be said in words about a point; `start` is where its walk began, `score` its own on `select`."""
        ...


@runtime_checkable
class Prefills(Protocol):
    """A problem that reads something once for proposals of a new kind: texts before the slots, where a proposal has its own template."""

    def prefill_cost(self, points: Sequence[Any], known: Sequence[Any]) -> Cost:
        """Return what points cost beside their walks and scores, where the `known` ones were charged before."""
        ...


@runtime_checkable
class Averages(Protocol[P]):
    """A problem that can read several points as one, by the mean of what they say of an input (their class scores)."""

    def average(self, points: Sequence[P], counts: Sequence[int]) -> P:
        """Return one point that reads as several, each counted so often.

        The first stands for it where one alone is used: to walk on from, say.
        """
        ...

    def pick(self, points: Sequence[P], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count in an average of so many picks, chosen on `select`, and what that cost."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded(Generic[P]):
    """A text turned into params: the text that was really encoded, what was done to make it fit (None: nothing), and what that cost."""

    params: P
    text: str
    note: str | None = None
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A point in words. `text` is None where no words near it survive, and `note` says why; it can be walked from all the same."""

    text: str | None
    cost: Cost = field(default_factory=Cost)
    note: str = ""


class Codec(Protocol[P]):
    """The text bottleneck between doer and mentor, and all that a proposal may fill.

    ``decode(encode(text).params).text`` gives back ``encode(text).text``.
    """

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of what a proposal may fill beside its text (the template, label words); none for most."""
        ...

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[P]:
        """Return the params of a text, all that a proposal replaces at a restart.

        Raises:
            CodecError: the text holds nothing to encode, or a field cannot be filled so.
        """
        ...

    def decode(self, params: P) -> Decoded: ...

    def random(self, seed: int) -> P:
        """Return the params of a random start, all that a text would replace (not a head, say)."""
        ...

    def blend(self, old: P, new: P, weight: float) -> P:
        """Return the start that reads as ``(1 - weight) * old + weight * new``, for the names of `new`."""
        ...


@runtime_checkable
class Vocabulary(Protocol):
    """A codec whose words are tokens of a vocabulary, one for each row of a soft prompt."""

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        """Return for each row of ``(num_virtual_tokens, embed_dim)`` the `count` closest tokens, closest first."""
        ...

    def sample(self, count: int, seed: int) -> Tensor:
        """Return ``(count, embed_dim)`` embedding rows of random words."""
        ...


class TokenCodec(Codec[P], Vocabulary, Protocol[P]):
    """A codec with a vocabulary."""


@runtime_checkable
class Deployable(Protocol):
    """A problem that names the class of an input: a point of it can be used on what it was not tuned on, and exported."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that an input must have."""
        ...

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        """Return ``(len(inputs), num_classes)`` scores of inputs, whose labels are not looked at; their softmax is the probabilities.

        Raises:
            DataError: one of them cannot be read.
        """
        ...

    def judged(self, points: Sequence[Params], split: Split) -> tuple[tuple[Score, Tensor], ...]:
        """Return the score of each point on a split of the problem's own data, and the class scores ``(num_examples, num_classes)`` in it.

        What the points read alike is read once.
        """
        ...

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        """Return how many tokens of each input do not fit the model's context."""
        ...


@runtime_checkable
class Pictured(Protocol):
    """A problem on pictures, which shows those of its data by their keys."""

    def picture(self, key: str) -> Image.Image: ...


class Frozen(Protocol):
    """The frozen model of a run: a language model, or the towers of a matcher."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """How it reads: decoder, masked, encoder, encoder_decoder, or matcher."""
        ...

    @property
    def digest(self) -> str:
        """A hash of its weights."""
        ...


class GradientStage(Protocol[P, S]):
    """The doer. States are values: `step` and `restart` return a new one and leave the old one as it was."""

    def init(self, problem: Problem[P], params: P, *, seed: int) -> S: ...

    def step(self, problem: Problem[P], state: S, *, keep: bool = False) -> tuple[S, Observation[P]]:
        """Make one step; with `keep`, the observation holds the params it speaks of."""
        ...

    def restart(self, state: S, params: P, *, seed: int) -> S:
        """Move to `params` (those named; others stay). The one place where optimizer moments are kept or cleared."""
        ...


@runtime_checkable
class Mentor(Protocol[P]):
    """Whatever suggests restarts. Pure: the same history, count and seed give the same advice; the history *is* its memory."""

    def propose(self, history: History[P, S], *, count: int, seed: int) -> Advice[P]: ...


@runtime_checkable
class JudgesAlone(Protocol[P]):
    """A problem that can say what a proposal is worth by itself: what it says trains, no label does, and all labels judge."""

    def without_labels(self, fields: Mapping[str, str]) -> tuple[Problem[P], Encoded[P]]:
        """Return the problem where no label trains and `select` is all of them, and where a proposal with these fields begins.

        Its `initial` is what is there without the proposal. Raises `CodecError` for fields that cannot be used.
        """
        ...


class Acceptance(Protocol[P, S]):
    """What becomes of the proposals."""

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]: ...

    def max_steps(self, proposals: int) -> int:
        """Return the most gradient steps that judging so many proposals may take, so that a step budget is kept beforehand."""
        ...


@runtime_checkable
class ChatModel(Protocol):
    """One provider of language-model replies."""

    @property
    def name(self) -> str: ...

    @property
    def is_remote(self) -> bool:
        """Whether asking it sends text to another machine."""
        ...

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None: not known, so that money cannot be capped."""
        ...

    def complete(self, request: Request) -> Reply:
        """Return the reply. Raises `ChatError` when there is none to be had."""
        ...

    def close(self) -> None:
        """Let go of what is held: a connection, a process. A run calls it at its end."""
        ...


@runtime_checkable
class Reachable(Protocol):
    """A chat model that can find out, at no cost, whether it can be asked."""

    def reach(self) -> None:
        """Raises `ConfigError` where it cannot be asked."""
        ...


@runtime_checkable
class HasReplies(Protocol):
    """A chat model that may have a reply at hand, for which nobody is asked and nothing is paid."""

    def has_reply(self, request: Request) -> bool: ...


@runtime_checkable
class EndsInTime(Protocol):
    """A chat model whose calls can be ended at any moment."""

    def ending(self, left: Callable[[], float]) -> ChatModel:
        """Return this model, whose calls end with `maao.llm.in_time.out_of_time()` where `left()` gives no seconds any more."""
        ...


@runtime_checkable
class CountsAttempts(Protocol):
    """A chat model that may try a call several times, and writes each attempt down before it goes."""

    def counted(self, meter: Meter) -> ChatModel:
        """Return this model, which tells the meter of every attempt."""
        ...


class Serializer(Protocol[P, S]):
    """Params and states as numpy arrays and plain JSON, and back, without losing a bit."""

    def dump_params(self, params: P) -> Arrays: ...

    def load_params(self, arrays: Arrays) -> P: ...

    def dump_state(self, state: S) -> tuple[Arrays, JSON]: ...

    def load_state(self, arrays: Arrays, meta: JSON) -> S: ...


Figure: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run as it begins.

    Attributes:
        name: of its folder.
        key: the same each time the run goes on, and no other run's.
        folder: where it is, on this machine.
        settings: names of choices, numbers and switches, by dotted key; no text, no path and no label.
        done: rounds that were finished before, where it goes on.
    """

    name: str
    key: str
    folder: Path
    settings: Mapping[str, Figure]
    done: int = 0


class Tracker(Protocol):
    """Whoever is told the figures of a run while it goes on. What it raises never stops a run."""

    def start(self, run: TrackedRun) -> None:
        """A run begins, or goes on."""
        ...

    def log(self, index: int, figures: Mapping[str, float]) -> None:
        """A round has ended: its loss and metrics on `select`, its last loss on `train`, what came of proposals, and the cost so far."""
        ...

    def finish(self, summary: Mapping[str, Figure]) -> None:
        """The run has ended, or stops here: its status, the chosen point on `select` and the declared points on `test`, and the cost."""
        ...
