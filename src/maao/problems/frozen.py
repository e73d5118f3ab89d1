"""What a frozen model makes of examples with nothing tuned: their features, those of the class texts, and its zero-shot class scores.

This is what baselines stand on. It is built beside the problem of a run (`Builder.frozen`), and knows nothing of methods or prompts.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol

import torch
from torch import Tensor, nn

from maao.errors import ConfigError, DataError
from maao.problems.known_texts import KnownTextReader
from maao.problems.scorers import I
from maao.problems.scorers.head import AnswerHead, PooledHead
from maao.problems.scorers.label_words import AnswerScorer, LabelWords
from maao.problems.scorers.matcher import Known, KnownReader
from maao.problems.scorers.other_words import DecodedWords, MaskedWords
from maao.problems.scorers.tokens import Rows, TokenScorer
from maao.problems.scoring import class_scores
from maao.problems.towers.dual import DualEncoder, unit
from maao.problems.towers.text.divided import is_divided
from maao.problems.towers.text.forward import Inputs, context_length, embedding_table
from maao.problems.towers.text.loading import FrozenModel, locate
from maao.problems.towers.text.sentence import TextInputs
from maao.problems.towers.text.template import Template, TemplateTokenizer, Tokenized
from maao.problems.towers.text.tokenizing import num_rows
from maao.protocols import Params
from maao.types import Example

NO_SENTENCES = (
    "SetFit tunes one sentence encoder, and {name} {what}: name a text encoder in model.name, with model.kind = 'matcher', or choose "
    "another baseline."
)
NO_PROMPT = "Examples in the prompt are for decoders that answer by label words, and {name} is read otherwise: choose another baseline."
SHOWN = "demonstrations"  # the field of a template in whose place they stand
FIELD = re.compile(r"\{(\w+)\}")
SCALE = 20.0  # of a cosine between hidden states, where no model says another


class FrozenReader(Protocol):
    """Reads examples by a frozen model, untuned.

    Attributes:
        is_unit: features have length one, and a cosine between them means something as it is.
        scale: what a cosine is multiplied by to be a class score.
        tokens: those run through the model so far; what is kept from before costs none.
    """

    @property
    def is_unit(self) -> bool: ...

    @property
    def scale(self) -> float: ...

    @property
    def tokens(self) -> int: ...

    def features(self, examples: Sequence[Example]) -> Tensor:
        """Return ``(len(examples), width)`` features on the CPU."""
        ...

    def class_features(self) -> Tensor:
        """Return ``(num_classes, width)`` features of the class texts. Raises `ConfigError` where a class text cannot be read so."""
        ...

    def zero_shot(self, examples: Sequence[Example]) -> Tensor:
        """Return ``(len(examples), num_classes)`` class scores without any label: by label words, or by nearness to the class texts."""
        ...

    def num_tokens(self, examples: Sequence[Example]) -> int:
        """Return how many tokens one reading of examples runs, before it is done; 0 where features are kept."""
        ...

    def tunable(self) -> Tunable[Any]:
        """Return a copy of the model whose weights may change."""
        ...

    def demonstrated(self, most_tokens: int) -> Demonstrated:
        """Return what reads texts behind demonstrations, in prompts of at most so many tokens. Raises `ConfigError` for no decoder."""
        ...

    def sentences(self) -> Sentences:
        """Return what the model is to the library sentence-transformers. Raises `ConfigError` where it is no sentence encoder."""
        ...


@dataclass(frozen=True)
class Sentences:
    """A sentence encoder by name, and the texts that it reads.

    Attributes:
        name: a folder, or a hub name.
        max_length: the most tokens of a text.
        texts: what of examples is read.
    """

    name: str
    revision: str | None
    device: str
    max_length: int
    texts: Callable[[Sequence[Example]], list[str]]


@dataclass(frozen=True)
class Tunable(Generic[I]):
    """A copy of a frozen model, for those who change its weights.

    Attributes:
        module: what reads inputs, and may be changed.
        inputs: turns examples into what is encoded.
        encode: inputs to ``(len(inputs), width)`` features, with a gradient where one is on.
        num_tokens: of inputs, how many tokens one pass takes.
    """

    module: nn.Module
    inputs: Callable[[Sequence[Example]], I]
    encode: Callable[[I], Tensor]
    num_tokens: Callable[[I], int]


class MatcherFrozen:
    """Reads by the two towers of a matcher.

    Args:
        encoder: the towers.
        reader: of inputs, which keeps their features.
        class_texts: the features of the classes in hand-written wordings ``(num_classes, embed_dim)``.
    """

    is_unit = True

    def __init__(self, encoder: DualEncoder, reader: KnownReader, class_texts: Tensor) -> None:
        self.encoder, self.reader, self._class_texts = encoder, reader, class_texts

    @property
    def scale(self) -> float:
        return self.encoder.scale

    @property
    def tokens(self) -> int:
        return self.reader.prepared_tokens

    def features(self, examples: Sequence[Example]) -> Tensor:
        return self.encoder.own(self.reader.split(examples, train=False).features).cpu()

    def class_features(self) -> Tensor:
        return self.encoder.own(self._class_texts).float().cpu()

    def zero_shot(self, examples: Sequence[Example]) -> Tensor:
        return self.scale * self.features(examples) @ self.class_features().T

    def num_tokens(self, examples: Sequence[Example]) -> int:
        return 0

    def demonstrated(self, most_tokens: int) -> Demonstrated:
        raise ConfigError(NO_PROMPT.format(name=self.encoder.name))

    def sentences(self) -> Sentences:
        encoder, reader = self.encoder, self.reader
        if not isinstance(reader, KnownTextReader) or not isinstance(encoder.input, TextInputs):
            raise ConfigError(NO_SENTENCES.format(name=encoder.name, what="reads pictures"))
        tower = encoder.input.tower
        if encoder.text is not tower and encoder.text.model is not tower.model:
            raise ConfigError(NO_SENTENCES.format(name=encoder.name, what="is a pair of encoders"))
        template = reader.template
        return Sentences(
            locate(encoder.name),
            encoder.revision,
            str(encoder.device),
            tower.most,
            lambda examples: [template.fill(example.fields) for example in examples],
        )

    def tunable(self) -> Tunable[Known]:
        tower, encoder = copy.deepcopy(self.encoder.input), self.encoder
        return Tunable(
            tower.model,
            self.reader.given,
            lambda inputs: encoder.own(tower.features(inputs.raw)),
            lambda inputs: inputs.num_tokens,
        )


class AnswerStates(AnswerHead):
    """Gives the hidden state at the answer position of a decoder in the place of class scores."""

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        return self.features(params, rows)


class PooledStates(PooledHead):
    """Gives the pooled hidden states of an encoder (or of a decoder) in the place of class scores."""

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        return self.features(params, rows)


class MaskStates(MaskedWords):
    """Gives the hidden state at the mask of a masked model in the place of class scores."""

    def class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        return self._logits(params, rows, [(0,)] * len(rows))[:, 0].float()

    def _read(self, params: Params, inputs: Inputs, where: Tensor, ids: Tensor | None) -> Tensor:
        return AnswerScorer._read(self, params, inputs, where, ids)

    def _output(self, answers: Tensor, ids: Tensor | None) -> Tensor:
        return answers


def states_of(scorer: TokenScorer, frozen: FrozenModel) -> TokenScorer | None:
    """Return what reads one vector of an input where a scorer reads classes; None: an encoder-decoder, which has no one place for it."""
    if isinstance(scorer, DecodedWords):
        return None
    if isinstance(scorer, MaskedWords):
        return MaskStates(frozen, [(0,)], side=scorer.side)
    if isinstance(scorer, PooledHead):  # a virtual token cannot be read where there is none
        return PooledStates(frozen, 1, pooling="mean" if scorer.pooling == "virtual" else scorer.pooling, side=scorer.side)
    return AnswerStates(frozen, 1, side=scorer.side)


class LanguageFrozen:
    """Reads by a language model or a text encoder, on the template with nothing in its slots.

    Args:
        scorer: how a run reads classes: by label words, or a head (whose weights are not looked at).
        tokenizer: binds the template.
        label_words: what stands for each label, in the order of the classes: in the place of the text, and as an answer.
        at_a_time: inputs that run together.
    """

    is_unit = False
    scale = SCALE

    def __init__(self, scorer: TokenScorer, tokenizer: TemplateTokenizer, label_words: Mapping[str, str], at_a_time: int) -> None:
        self.scorer, self.tokenizer, self.label_words, self._at_a_time = scorer, tokenizer, label_words, at_a_time
        self._found_states = states_of(scorer, scorer.frozen)
        self.tokens = 0

    @property
    def nothing(self) -> Params:
        """What the model reads in the slots: no row."""
        return {"prompt": torch.empty(0, embedding_table(self.scorer.frozen).shape[1])}

    @property
    def _states(self) -> TokenScorer:
        if self._found_states is None:
            name = self.scorer.frozen.name
            raise ConfigError(f"{name} is an encoder-decoder, which has no one vector for a text: choose a baseline without features.")
        return self._found_states

    def rows(self, examples: Sequence[Example]) -> Rows:
        """Return examples as tokens. Raises `ConfigError` for examples with choices of their own, which have no classes in common."""
        if any(example.choices for example in examples):
            raise ConfigError("These examples have choices of their own, and a baseline on features needs classes that all of them share.")
        return Rows(map(self.tokenizer.example, examples))

    def features(self, examples: Sequence[Example]) -> Tensor:
        return self.read(self._states, self.rows(examples))

    def class_features(self) -> Tensor:
        fields = self.tokenizer.template.fields
        if len(fields) != 1:
            raise ConfigError(
                f"A class text is read in the place of the text, and the template {str(self.tokenizer.template)!r} has {len(fields)} "
                "fields: leave class names out (class_names = false)."
            )
        return self.read(self._states, Rows(self.tokenizer({fields[0]: text}) for text in self.label_words.values()))

    def zero_shot(self, examples: Sequence[Example]) -> Tensor:
        if not isinstance(self.scorer, LabelWords):
            return self.scale * unit(self.features(examples)) @ unit(self.class_features()).T
        return self.read(self.scorer, Rows(map(self.tokenizer.example, examples)))

    def num_tokens(self, examples: Sequence[Example]) -> int:
        return self.scorer.num_tokens(self.nothing, self.rows(examples)) if examples else 0

    def demonstrated(self, most_tokens: int) -> Demonstrated:
        scorer = self.scorer
        if not isinstance(scorer, LabelWords) or scorer.frozen.kind != "decoder":
            raise ConfigError(NO_PROMPT.format(name=scorer.frozen.name))
        return Demonstrated(self, scorer, most_tokens)

    def sentences(self) -> Sentences:
        raise ConfigError(NO_SENTENCES.format(name=self.scorer.frozen.name, what=f"is read as a {self.scorer.frozen.kind}"))

    def tunable(self) -> Tunable[Rows]:
        own = self.scorer.frozen
        if is_divided(own.model):
            raise ConfigError(f"it tunes a copy of the weights of {own.name}, which model.device_map divides: a copy would not fit either")
        frozen = replace(own, model=copy.deepcopy(own.model))
        states = states_of(self._states, frozen)
        assert states is not None
        return Tunable(
            frozen.model,
            self.rows,
            lambda rows: states.class_scores(self.nothing, rows),
            lambda rows: states.num_tokens(self.nothing, rows),
        )

    def read(self, scorer: TokenScorer, rows: Rows) -> Tensor:
        """Return what a scorer gives of rows, and count their tokens."""
        self.tokens += scorer.num_tokens(self.nothing, rows)
        with torch.no_grad():
            (found,), _ = class_scores(scorer, [self.nothing], rows, self._at_a_time)
        return found


class Demonstrated:
    """Reads texts behind demonstrations: the template without slots, filled in, with the label word behind it, a blank line between two.

    Args:
        frozen: the model, and the template.
        words: its label words.
        most_tokens: of a prompt; the model may read fewer.
    """

    def __init__(self, frozen: LanguageFrozen, words: LabelWords, most_tokens: int) -> None:
        template, own = frozen.tokenizer.template, frozen.tokenizer
        if "sep" in template.names:
            raise ConfigError(f"The template {str(template)!r} parts two segments ({{sep}}), which has no place among demonstrations.")
        self._frozen, self._words = frozen, words
        self._text = (template.before.rstrip(" ") + template.after).strip(" ").replace("{mask}", "").rstrip(" ")
        self.name = words.frozen.name
        self.room = min(most_tokens, context_length(words.frozen))
        self._tokenizer = TemplateTokenizer(
            words.frozen.tokenizer,
            Template.parse("{" + SHOWN + "}{slots}" + self._text, chat=template.chat, turn=template.turn),
            kind=own.kind,
            max_length=self.room,
            reserved=max(map(len, words.words)) - 1,
            rows=num_rows(words.frozen.model),
            label_space=own.label_space,
        )

    def fits(self, shown: Sequence[Example], examples: Sequence[Example]) -> bool:
        """Say whether every text fits behind these demonstrations, whole."""
        try:
            return not any(row.cut for row in self._rows(shown, examples))
        except DataError:  # not even without the text
            return False

    def __call__(self, shown: Sequence[Example], examples: Sequence[Example]) -> Tensor:
        """Return ``(len(examples), num_classes)`` class scores."""
        return self._frozen.read(self._words, self._rows(shown, examples))

    def _rows(self, shown: Sequence[Example], examples: Sequence[Example]) -> Rows:
        before = "".join(f"{self._filled(example)}{self._answer(example)}\n\n" for example in shown)
        return Rows(self._tokenizer({SHOWN: before, **example.fields}) for example in examples)

    def _filled(self, example: Example) -> str:
        return FIELD.sub(lambda match: example.fields[match[1]], self._text)

    def _answer(self, example: Example) -> str:
        word = self._frozen.label_words[example.label]
        return self._tokenizer.answer_prefix(word) + word
