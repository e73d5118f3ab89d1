"""The protocols of the house, on one page. Everything else is an implementation of one of them, or glue.

`P` is the tuned values, `S` a stage's state (it shows `params`, `start`, `step` and `age`). In this project `P` is always a mapping of
names to tensors, as a state dict is: `{"prompt": (num_virtual_tokens, embed_dim)}`, or `{"x": (dim,)}`. The protocols do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol

from maao.types import Advice, Clues, Observation, P, Round, S, Score, Split, Token, Verdict

if TYPE_CHECKING:
    from maao.llm.chat import Reply, Request

History = tuple[Round[P, S], ...]
Proposals = Sequence[Any]
Arrays = Mapping[str, Any]  # name -> numpy array


class Problem(Protocol[P]):
    """What is tuned.

    Five methods more are used where a problem has them: ``score_many(points, split) -> tuple[Score, ...]``, where scoring several points
    together saves work; ``random_start(seed) -> P``, what a random restart replaces (without a head, say); ``blend(incumbent,
    proposed, weight) -> P``, the point between two, where params are not what is read and so cannot be blended one by one;
    ``fill(fields) -> P``, the params of what a proposal fills beside its text, which a mentor is given that fills more than that; and
    ``take_in(points, known) -> Cost``, what proposals cost beside their walks and scores, where `known` ones were taken in before.
    """

    def initial(self, seed: int) -> P:
        """Return a starting point; the same seed gives the same point."""
        ...

    def batch(self, step: int, seed: int) -> Any:
        """Return the training batch of a step: a function of its arguments, with no hidden iterator."""
        ...

    def loss(self, params: P, batch: Any) -> Any:
        """Return the scalar loss of a batch as a tensor that can be differentiated with respect to `params`."""
        ...

    def num_tokens(self, params: P, batch: Any) -> int:
        """Return how many tokens (or images, or evaluations) one forward pass over a batch runs through the frozen model."""
        ...

    def score(self, params: P, split: Split) -> Score:
        """Return loss and metrics over a whole split: pure, deterministic, without gradient."""
        ...

    def clues(self, params: P, *, start: P | None = None, score: Score | None = None) -> Clues:
        """Return what else can be said in words about a point; `start` is where its walk began, `score` its own on `select`."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded(Generic[P]):
    """A text turned into params: the text that was really encoded, and what was done to it to make it fit (None: nothing)."""

    params: P
    text: str
    note: str | None = None


class Codec(Protocol[P]):
    """The text bottleneck between doer and mentor. `decode(encode(text).params)` gives back `encode(text).text`."""

    def decode(self, params: P) -> str: ...

    def encode(self, text: str) -> Encoded[P]:
        """Return the params of a text. Raises `CodecError` for a text that holds nothing to encode."""
        ...


class TokenCodec(Codec[P], Protocol[P]):
    """A codec whose words are tokens of a vocabulary, one for each row of a soft prompt."""

    def nearest(self, vectors: Any, count: int) -> tuple[tuple[Token, ...], ...]:
        """Return for each row of ``(num_virtual_tokens, embed_dim)`` the `count` closest tokens, closest first."""
        ...

    def sample(self, count: int, seed: int) -> Any:
        """Return ``(count, embed_dim)`` embedding rows of random words."""
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


class Mentor(Protocol[P]):
    """Whatever suggests restarts. Pure: the same history, count and seed give the same advice; the history *is* its memory."""

    def propose(self, history: History[P, Any], *, count: int, seed: int) -> Advice[P]: ...


class Acceptance(Protocol[P, S]):
    """What becomes of the proposals."""

    def __call__(
        self, problem: Problem[P], stage: GradientStage[P, S], history: History[P, S], state: S, proposals: Proposals, *, seed: int
    ) -> Verdict[S]: ...

    def max_steps(self, proposals: int) -> int:
        """Return the most gradient steps that judging so many proposals may take, so that a step budget is kept beforehand."""
        ...


class ChatModel(Protocol):
    """One provider of language-model replies."""

    @property
    def name(self) -> str: ...

    def complete(self, request: Request) -> Reply:
        """Return the reply. Raises `ChatError` when there is none to be had."""
        ...


class Serializer(Protocol[P, S]):
    """Params and states as numpy arrays and plain JSON, and back, without losing a bit."""

    def dump_params(self, params: P) -> Arrays: ...

    def load_params(self, arrays: Arrays) -> P: ...

    def dump_state(self, state: S) -> tuple[Arrays, Mapping[str, Any]]: ...

    def load_state(self, arrays: Arrays, meta: Mapping[str, Any]) -> S: ...
