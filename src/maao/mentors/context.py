"""What a mentor is built from, and what every mentor's section of a config is.

A mentor knows no problem and no data: what it needs of a run comes in by a `MentorContext`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field, field_validator

from maao.errors import CodecError, ConfigError
from maao.llm.chat import Style
from maao.llm.provider import ChatOptions
from maao.mentors.fields import BAR, NAMES, Fields, Name
from maao.mentors.instruction import Task
from maao.options import Chosen, OneOf, Section
from maao.protocols import ChatModel, Codec, Mentor, Params, Vocabulary
from maao.types import Example

if TYPE_CHECKING:
    from torch import Tensor

Input = Literal["text", "matched_text", "image", "numbers"]  # "matched_text": texts that are compared with the texts of classes


class Words(Protocol):
    """The words of a vocabulary."""

    def random_words(self, count: int, seed: int) -> list[str]: ...

    def near(self, word: str) -> list[str]:
        """Return words near to a word; none where it cannot be told."""
        ...


@dataclass(frozen=True)
class CodecWords:
    """The words of a codec's vocabulary.

    Args:
        codec: encodes a word.
        vocabulary: the codec's tokens.
        rows: ``params -> (num_virtual_tokens, embed_dim)``, the rows whose nearest tokens are words.
    """

    codec: Codec[Params]
    vocabulary: Vocabulary
    rows: Callable[[Params], Tensor]

    def random_words(self, count: int, seed: int) -> list[str]:
        rows = self.vocabulary.sample(count, seed)
        return [tokens[0].text.strip() for tokens in self.vocabulary.nearest(rows, 1)]

    def near(self, word: str) -> list[str]:
        """Return the five words nearest to the first token of a word."""
        try:
            rows = self.rows(self.codec.encode(word).params)
        except CodecError:
            return []
        return [token.text.strip() for token in self.vocabulary.nearest(rows[:1], 6)[0][1:] if token.text.strip()]


class Proceed(Protocol):
    """How the tuned model goes on from a text with a point's vectors in it."""

    def __call__(
        self, params: Params, before: str, after: str, *, seed: int, temperature: float, top_p: float, max_tokens: int
    ) -> tuple[str, int, int]:
        """Return the continuation, and the tokens read and written."""
        ...


ReadByName = Callable[[Sequence[str]], Iterable[Sequence[float]]]  # texts -> the probabilities of the classes, one text after the other


@dataclass(frozen=True)
class MentorContext:
    """What a mentor may use of a run.

    Args:
        codec: words <-> params, random starts, and what a proposal may fill.
        record: a chat model whose calls are recorded in the run, count for its caps, and are answered from the record in a replay.
        input: what the problem reads.
        train: labelled texts to learn from; () where there are none. `folds` has the fold of each where labels are cross-validated.
        labels: the names of the classes, as a mentor is told them.
        classes: the same as the data have them, in their order; () where there are none.
        template: what stands around a prompt, with ``{slots}`` in the prompt's place.
        told: what is told of the task beside the mentor's own description.
        length: about how many words fill a prompt; `max_tokens` is how many tokens it is told that one may have.
        seed: the run's.
        vocabulary: random words and near ones; None where a problem's words are none of a vocabulary.
        read_by_name: reads texts by the frozen model and the classes' names alone; None where there are no classes.
        proceed: lets the tuned model go on from vectors; None where it cannot.
        own: what stands around a prompt, by the names of a proposal's fields, where proposals may fill it.
        not_filled: why a name cannot be filled here.
        chat: builds the chat model of a section, recorded.
        tuned: the name of the model that is tuned.
    """

    codec: Codec[Params]
    record: Callable[[ChatModel], ChatModel]
    chat: Callable[[ChatOptions], ChatModel]
    input: Input = "text"
    train: Sequence[Example] = ()
    folds: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    template: str = ""
    told: str = ""
    length: int = 8
    max_tokens: int = 8
    seed: int = 0
    tuned: str = ""
    vocabulary: Words | None = None
    read_by_name: ReadByName | None = None
    proceed: Proceed | None = None
    own: Mapping[str, str] = field(default_factory=dict)
    not_filled: Mapping[str, str] = field(default_factory=dict)

    def task(self, description: str) -> Task:
        """Return what a mentor is told of the task."""
        whole = f"{description} {self.told}" if self.told else description
        return Task(whole, self.labels, self.template, self.max_tokens)

    def fields(self, names: Sequence[Name]) -> Fields | None:
        """Return what a mentor fills beside the prompt; None: nothing.

        Raises:
            ConfigError: the problem has no such thing to fill.
        """
        if not names:
            return None
        wrong = next((self.not_filled[name] for name in names if name in self.not_filled), "")
        barred = [part for part in (*self.labels, *self.own.values()) if BAR.strip() in part]
        if wrong:
            raise ConfigError(wrong)
        if barred:
            raise ConfigError(
                f"mentor.fills sets a bar between the parts of a line, and one of them holds a bar: {barred[0]!r}. Change it."
            )
        return Fields(tuple(name for name in NAMES if name in names), self.labels, self.own)

    def words_of(self, mentor: str) -> Words:
        """Return the words of the vocabulary. Raises `ConfigError`, which names the mentor, where there is none."""
        if self.vocabulary is None:
            raise ConfigError(f"The mentor '{mentor}' takes words of a vocabulary: use it with a problem of texts or of pictures.")
        return self.vocabulary


class MentorOptions(Section):
    """Settings of a mentor; those of a plugin are a child of this too."""

    asks: ClassVar[bool] = False  # whether it asks a chat model
    reads_clues: ClassVar[bool] = False  # whether it reads the walk in words
    repeats_examples: ClassVar[bool] = False  # whether what it proposes can repeat training text
    proposes_lines: ClassVar[bool] = False  # whether it says class lines, so that it serves where there is no prompt too

    @property
    def asks_a_person(self) -> bool:
        return False

    @property
    def chats(self) -> tuple[ChatOptions, ...]:
        """The providers that it asks."""
        return ()

    @property
    def reads_self_continuation(self) -> bool:
        """Whether the tuned model's continuation of its prompt is shown, which takes tokens to make."""
        return False

    def check(self) -> None:
        """Say before anything is loaded what is missing. Raises `ConfigError`."""

    def check_sending(self, tuned: str) -> None:
        """Refuse to send training text unasked, where anything is to be sent: a replay sends nothing. Raises `ConfigError`.

        Args:
            tuned: the name of the tuned model.
        """

    def wording_text(self, input: Input) -> str:
        """Return the text that its instructions are made from; "" where none is written."""
        return ""

    def disclosure(self, run: MentorContext) -> str:
        """Say what is sent, and where to."""
        return ""

    def build(self, run: MentorContext) -> Mentor[Params]:
        raise NotImplementedError


class CustomOptions(MentorOptions):
    """A mentor of one's own, an object: it reads no setting."""

    def build(self, run: MentorContext) -> Mentor[Params]:
        raise ConfigError("mentor.name = 'custom' stands for a mentor of your own: start the run from Python, with mentor=... .")


CHAT = OneOf("chat", "provider", "local")
MIX = OneOf("mentor", "name", "random_restart")


class AskingOptions(MentorOptions):
    """Settings of every mentor that asks a chat model. A second mentor may stand beside it, which asks nobody."""

    asks: ClassVar[bool] = True

    temperature: float = Field(0.8, ge=0, le=1_000, description="Sampling temperature of a reply; 0: the likeliest token each time.")
    max_tokens: int = Field(200, ge=1, le=10_000_000, description="Most tokens of a reply.")
    chat: Annotated[Chosen[ChatOptions], CHAT] = Field(default_factory=CHAT.chosen, description="Which language model is asked.")
    mix: Annotated[Chosen[MentorOptions], MIX] | None = Field(
        None, description="A second mentor, which asks nobody: it makes a part of the proposals, and those that the first leaves missing."
    )
    mix_share: float = Field(0.5, ge=0, lt=1, description="The second mentor's part of the proposals, rounded down.")

    @field_validator("mix")
    @classmethod
    def _asks_nobody(cls, mix: Chosen[MentorOptions] | None) -> Chosen[MentorOptions] | None:
        if mix is not None and (mix.options.asks or mix.name in ("none", "custom")):
            raise ValueError(f"a second mentor proposes and asks no chat model: '{mix.name}' cannot be one")
        return mix

    @property
    def asks_a_person(self) -> bool:
        return self.chat.options.is_person

    @property
    def chats(self) -> tuple[ChatOptions, ...]:
        return (self.chat.options,)

    def unread(self) -> dict[str, str]:
        found = {} if self.mix is not None else {"mix_share": "there is no mentor.mix: drop it"}
        if self.asks_a_person:
            found |= dict.fromkeys(("temperature", "max_tokens"), "a person is asked: drop it")
        return found

    @property
    def shares_examples(self) -> bool:
        """Whether training text may go to a remote model."""
        return False

    def check(self) -> None:
        if self.mix is not None:
            self.mix.options.check()

    def check_sending(self, tuned: str) -> None:
        if self.mix is None:
            return
        self.mix.options.check_sending(tuned)
        if self.mix.options.repeats_examples and self.chat.options.is_remote and not self.shares_examples:
            raise ConfigError(
                f"What mentor.mix = '{self.mix.name}' proposes can repeat training text, and a language model that does not run on this "
                "machine is shown it: set mentor.share_examples = true if it may leave it (where this mentor has that setting), or choose "
                "another second mentor."
            )

    def where(self, run: MentorContext) -> str:
        return "leaves this machine" if self.chat.options.is_remote else "stays on this machine"


class ShowingOptions(AskingOptions):
    """Settings of mentors whose instructions hold training examples."""

    share_examples: bool = Field(False, description="Let training examples go to a remote model.")
    exemplars: int = Field(3, ge=0, le=100_000, description="Training examples that are shown.")

    @property
    def shares_examples(self) -> bool:
        return self.share_examples

    def check_sending(self, tuned: str) -> None:
        super().check_sending(tuned)
        chat = self.chat.options
        if chat.is_remote and self.exemplars and not self.share_examples:
            raise ConfigError(
                f"This mentor shows training examples, and {chat.model_name(tuned)} does not run on this machine: set "
                "mentor.share_examples = true if they may leave it, or mentor.exemplars = 0."
            )


def asks_in_its_own_words(name: str, options: AskingOptions, run: MentorContext, *, shows_examples: bool) -> str:
    """Return what is said before a run of a mentor that has no wording to choose."""
    told = "prompts with their scores" + (" and training examples" if shows_examples else ", and no training example")
    who = options.chat.options.model_name(run.tuned)
    return f"Mentor: {name}, asking {who}. It is sent {told}; this {options.where(run)}."


def style_of(chat: ChatOptions, style: Style) -> Style:
    """Return how a model is asked: a person once, as in a chat, not for each sample."""
    return "chat" if chat.is_person else style
