"""What a provider of replies is as a section of a config, ``[mentor.chat]``. Each provider's own stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field

from maao.llm.price import FREE, Price
from maao.options import Section, Text
from maao.protocols import ChatModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Loaded(Protocol):
    """A language model in this process."""

    @property
    def kind(self) -> str: ...

    @property
    def model(self) -> PreTrainedModel: ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


@dataclass(frozen=True)
class Here:
    """What this process has: the name of the model that is tuned, and how a model is loaded by name, once."""

    tuned: str
    load: Callable[[str], Loaded]


class ChatOptions(Section):
    """Settings of a provider; those of a plugin are a child of this too."""

    is_person: ClassVar[bool] = False  # who is asked once, as in a chat, and never again in the same round

    name: Text | None = Field(None, description="Model name; by default the tuned model itself (local).")

    @property
    def is_remote(self) -> bool:
        """Whether what is asked leaves this machine. Known before the model is built, and in a replay, which builds none."""
        return False

    @property
    def fields(self) -> Mapping[str, Any]:
        """Further fields of every request, which are part of what is recorded."""
        return {}

    @property
    def key_variables(self) -> tuple[str, ...]:
        """Variables of the environment that hold its keys: what they hold is struck out of all that is stored and told."""
        return ()

    @property
    def may_cost(self) -> bool:
        """Whether a run that asks it may cost money: an estimate is told before."""
        return self.is_remote

    @property
    def tries(self) -> int:
        """How often one call is tried at most."""
        return 1

    def price(self, name: str) -> Price | None:
        """Return what tokens of a model of that name cost; None: not known. Known before the model is built."""
        return None if self.is_remote else FREE

    def model_name(self, tuned: str) -> str:
        """Return the name that requests carry: part of the ledger's key, so equal in a run and in its replay."""
        raise NotImplementedError

    def where(self, name: str) -> str:
        """Say where text goes, for a model of that name."""
        raise NotImplementedError

    def build(self, here: Here) -> ChatModel:
        raise NotImplementedError
