"""The chat models that a run asks: recorded, held to the run's caps, and in a replay answered from the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from maao.core.budget import Budget, Clock
from maao.errors import ConfigError
from maao.llm.budget import Capped, Caps, CountedOnce, Meter, shared_accounts
from maao.llm.chat import Reply, Request
from maao.llm.guarded import Guarded
from maao.llm.in_time import BegunInTime, in_time
from maao.llm.ledger import Ledger, Recorded, Replayed, WithExtra, Wrapper
from maao.llm.provider import ChatOptions, Here
from maao.llm.secrets import guard
from maao.protocols import ChatModel, CountsAttempts, Reachable
from maao.types import Rejected


class Noted(Wrapper):
    """A model whose requests are noted before they go."""

    def __init__(self, model: ChatModel, ledger: Ledger) -> None:
        super().__init__(model)
        self.ledger = ledger

    def complete(self, request: Request) -> Reply:
        self.ledger.note_asked(request)
        return self.model.complete(request)


class Recording:
    """Models that are recorded in `ledger`; with `failed`, a history's failed calls, they are replayed and none is asked.

    `wrap` may watch the calls that are really made; where `clock` has no time left, they end.
    """

    def __init__(
        self,
        ledger: Ledger,
        here: Here,
        budget: Budget,
        *,
        failed: Iterable[Rejected] | None = None,
        clock: Clock | None = None,
        wrap: Callable[[ChatModel], ChatModel] = lambda model: model,
    ) -> None:
        self.clock = clock or Clock()
        self.ledger, self.here, self.budget, self.wrap = ledger, here, budget, wrap
        self.is_replay = failed is not None
        self._failed = iter(failed or ())
        self._asked: list[tuple[ChatModel, str]] = []  # with where each is
        self._recorders: list[Recorded | Replayed] = []

    def record(self, model: ChatModel) -> ChatModel:
        """Return a model whose calls are recorded, count for the caps, and are answered from the record in a replay."""
        if not isinstance(model, ChatModel):
            raise ConfigError(f"A chat model has name, is_remote, price, complete and close (see maao.protocols); got {model!r}.")
        return self._replayed(model.name) if self.is_replay else self._recorded(model, _where(model))

    def _recorded(self, model: ChatModel, where: str) -> ChatModel:
        self._asked.append((model, where))
        caps = Caps(self.budget.llm_calls, self.budget.llm_tokens, self.budget.usd)
        meter = Meter([(self.ledger, caps)], model.price, shared=shared_accounts())
        timed = in_time(model, self.clock) if self.clock.has_cap else model
        counted = timed.counted(meter) if isinstance(timed, CountsAttempts) else CountedOnce(timed, meter)
        asked: ChatModel = Capped(Noted(self.wrap(Guarded(counted)), self.ledger), meter, model)
        return self._kept(Recorded(BegunInTime(asked, self.clock.left) if self.clock.has_cap else asked, self.ledger))

    def chat(self, options: ChatOptions) -> ChatModel:
        """Return the model of a section, recorded. In a replay it is not built: the record alone speaks, by its name."""
        name = options.model_name(self.here.tuned)
        if self.is_replay:
            model = self._replayed(name)
        else:
            for variable in options.key_variables:
                guard(variable)
            model = self._recorded(options.build(self.here), options.where(name))
        return WithExtra(model, options.fields) if options.fields else model

    @property
    def live_calls(self) -> int | None:
        """How many calls were really made; None where no model was recorded."""
        return sum(recorder.live_calls for recorder in self._recorders) if self._recorders else None

    @property
    def to(self) -> tuple[str, ...]:
        """Say where what is asked goes, model by model."""
        return tuple(dict.fromkeys(where for _, where in self._asked))

    @property
    def leaves(self) -> bool:
        """Whether what is asked leaves this machine."""
        return any(model.is_remote for model, _ in self._asked)

    def reach(self) -> None:
        """Find out, at no cost, whether the models can be asked. Raises `ConfigError` where one cannot."""
        for model, _ in self._asked:
            if isinstance(model, Reachable):
                model.reach()

    def close(self) -> None:
        for model, _ in self._asked:
            model.close()

    def _replayed(self, name: str) -> ChatModel:
        return self._kept(Replayed(self.ledger, name, self._failed))

    def _kept(self, recorder: Recorded | Replayed) -> ChatModel:
        self._recorders.append(recorder)
        return recorder


def _where(model: ChatModel) -> str:
    return model.name if model.is_remote else f"{model.name} (this machine)"
