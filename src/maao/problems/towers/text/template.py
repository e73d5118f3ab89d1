"""Templates: ordinary text with slots for the soft prompt and fields for an example's text, turned into token ids.

``"{slots} {text} It was"``, ``"{text} {slots} Topic:"`` or ``"Text: {text} {slots} Topic:"`` say where the virtual tokens go. Two rules fix
every border:

* white space before the slots belongs to the soft prompt (in most vocabularies a word carries its leading space); white space at the very
  end belongs to the label word. Neither is encoded as a token of its own.
* slots at the very front stand before special tokens such as ``[CLS]``, where PEFT puts a soft prompt too.

The parts around the slots are tokenized as parts of one text: a tokenizer that writes a text's first word as if a space stood before it
(Llama 2, T5) does so at the beginning of the input alone. What an example says is text: the name of a special token in it is no such token.

``{mask}`` is where a label word is read: the mask token of a masked model, T5's first sentinel, and for a decoder the place right behind
the input, where it must stand. ``{sep}`` parts two segments as the tokenizer's own pairs are parted. ``{choice}`` stands for each of an
example's choices in turn, where a trained head reads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from maao.core.pieces import adds_space, continued
from maao.errors import ConfigError, DataError, ModelError
from maao.problems.towers.text.chat_turn import in_turn, render_turn
from maao.problems.towers.text.tokenizing import (
    LabelSpace,
    Specials,
    needs_space,
    refuse_surrogates,
    separator,
    special_tokens,
)
from maao.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENDS_IN_FIELD = re.compile(_FIELD.pattern + "$")
MARKS = ("slots", "mask", "sep")  # places in a template that are no fields of an example
Kind = Literal["decoder", "encoder", "masked", "encoder_decoder"]


@dataclass(frozen=True, slots=True)
class Tokenized:
    """An example's token ids before and after the slots. Indices count these ids, without the slots."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    cut: int = 0  # tokens of its text that did not fit
    mask_at: int | None = None  # where a masked model reads the answer
    second: int | None = None  # where the second segment begins
    words: tuple[tuple[int, ...], ...] = ()  # the answers to choose from, where an example has its own
    choices: tuple[Tokenized, ...] = ()  # the inputs to choose from, one for each choice; this is the first of them
    weight: float | None = None  # in the training loss; None: a labelled example, which weighs 1

    def __len__(self) -> int:
        return len(self.before) + len(self.after)

    def with_masks(self, count: int, mask: int) -> Tokenized:
        """Return the same with `count` mask tokens where one stands."""
        assert self.mask_at is not None
        extra, cut = (mask,) * (count - 1), self.mask_at - len(self.before)
        second = self.second + count - 1 if self.second is not None and self.second > self.mask_at else self.second
        if cut < 0:
            before = (*self.before[: self.mask_at], *extra, *self.before[self.mask_at :])
            return replace(self, before=before, second=second)
        return replace(self, after=(*self.after[:cut], *extra, *self.after[cut:]), second=second)


@dataclass(frozen=True, slots=True)
class Template:
    """A template's text before and after ``{slots}``, as written; `front` if nothing stands before the slots.

    With `chat` it stands in a user turn of the model's own chat template, or in the `turn` that one rendered to (`render_turn`).

    Example:
        >>> template = Template.parse("{text} {slots} Topic:")
        >>> template.fields
        ('text',)
        >>> template.front
        False
    """

    before: str
    after: str
    chat: bool = False
    turn: str | None = None

    @classmethod
    def parse(cls, text: str, *, chat: bool = False, turn: str | None = None) -> Template:
        try:
            refuse_surrogates(f"The template {text!r}", text)
        except DataError as error:  # here it is a setting that holds it
            raise ConfigError(str(error)) from None
        names = _FIELD.findall(text)
        if names.count("slots") != 1:
            raise ConfigError(
                f"The template {text!r} has {names.count('slots') or 'no'} places for the soft prompt: write {{slots}} exactly once, "
                'for example "{text} {slots} Topic:".'
            )
        if not set(names) - set(MARKS):
            raise ConfigError(f"The template {text!r} shows nothing of an example: name at least one of its fields, for example {{text}}.")
        for mark in ("mask", "sep"):
            if names.count(mark) > 1:
                raise ConfigError(f"The template {text!r} has {names.count(mark)} places {{{mark}}}: write it at most once.")
        before, after = text.split("{slots}")
        return cls(before, after, chat, turn)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an example that the template shows."""
        return tuple(name for name in self.names if name not in MARKS)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_FIELD.findall(self.before + self.after)))

    @property
    def has_mask(self) -> bool:
        return "mask" in self.names

    @property
    def front(self) -> bool:
        return self.before == ""

    def __str__(self) -> str:
        return f"{self.before}{{slots}}{self.after}"

    def check_fields(self, example: Example) -> None:
        """Raise if the template asks for a field that examples do not have."""
        known = [*example.fields, *(["choice"] if example.choices else [])]
        for name in self.fields:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f" Did you mean {{{near[0]}}}?" if near else ""
                raise ConfigError(f"The template {str(self)!r} has an unknown field {{{name}}}.{hint} Examples have: {', '.join(known)}.")


class TemplateTokenizer:
    """A template bound to a tokenizer: examples in, token ids out.

    Args:
        tokenizer: a Hugging Face tokenizer.
        template: where slots and fields stand.
        kind: what reads the input. All but decoders keep the special tokens that follow a text (``[SEP]``); a decoder's answer must follow
            the text at once.
        max_length: the most tokens of an input, slots and answer included. Of a longer one the longest fields are cut at their ends.
        reserved: how many of them slots and answer need.
        rows: how many token ids the model has an embedding for; None: all that the tokenizer gives.
        label_space: whether a space stands before an answer; "auto": as its script would have it.

    `before` and `after` are the template's text around the slots as it is encoded, `prefix` and `suffix` the special tokens' ids. With
    `joins`, the tokenizer writes the beginning of a text otherwise than its middle.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        *,
        kind: Kind,
        max_length: int,
        reserved: int,
        rows: int | None = None,
        label_space: LabelSpace = "auto",
    ) -> None:
        self.tokenizer = tokenizer
        self.kind = kind
        self.template = template
        self.label_space = label_space
        self.joins = adds_space(self._plain)
        self.mask = self._mask_token()
        self.separator = separator(tokenizer) if "sep" in template.names else ()
        before, after = (template.before, template.after) if kind != "decoder" else self._without_mask(template.before, template.after)
        if template.chat:
            turn = template.turn or render_turn(tokenizer, str(template))
            before, after = in_turn(turn, f"{before}{{slots}}{after}").split("{slots}")
        refuse_surrogates("The template in its turn", before + after)
        self.before, self.after = before.rstrip(" "), after.rstrip(" ")
        if self.joins and self.begins_behind_slots:
            self.after = self.after.lstrip(" ")
        self.prefix, suffix = ((), ()) if template.chat else special_tokens(tokenizer)
        self.suffix = suffix if kind != "decoder" else ()
        self._rows = rows
        self._room = max_length - reserved
        if self._room < 1:
            raise ModelError(
                f"{reserved} virtual and answer tokens do not fit the model's context of {max_length} tokens. Use fewer virtual tokens."
            )

    @property
    def begins_behind_slots(self) -> bool:
        """Whether the text begins behind the slots, with special tokens where it has such."""
        return self.template.front and not self.template.chat

    @cached_property
    def identity(self) -> str | None:
        """What an example's token ids follow from, beside the example: equal for two that tokenize alike; None: that cannot be told."""
        if not self.tokenizer.is_fast:  # a class of its own, in Python: what it does is written nowhere else
            return None
        vocabulary = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        parts = (vocabulary, self.kind, self.before, self.after, self.prefix, self.suffix, self.separator, self.mask, self.label_space)
        return repr((*parts, self.begins_behind_slots, self._room))

    def __call__(self, fields: Mapping[str, str], answer: int = 0) -> Tokenized:
        """Return an input, with room for so many more tokens of an answer than are reserved.

        Raises:
            DataError: a text with half a character, or no room for any of it.
            ModelError: a token for which the model has no embedding.
        """
        for name in self.template.fields:
            refuse_surrogates(f"The field {name} of an example, {fields[name][:40]!r},", fields[name])
        room = self._room - answer
        whole = self._tokenize(fields)
        if len(whole) <= room:
            return whole
        low, high = 0, max(len(fields[name]) for name in self.template.fields)  # the most characters of a field with which all fits
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._tokenize({name: text[:middle] for name, text in fields.items()})) <= room:
                low = middle
            else:
                high = middle - 1
        shortened = self._tokenize({name: text[:low] for name, text in fields.items()})
        if len(shortened) > room:
            raise DataError(
                f"The template {str(self.template)!r} alone takes {len(shortened)} tokens, but only {room} are left in the model's "
                "context beside slots and answer. Shorten the template or raise `model.max_length`."
            )
        return replace(shortened, cut=len(whole) - len(shortened))

    def example(self, example: Example) -> Tokenized:
        """Return an example's input; of one with choices, the inputs or the answers to choose from."""
        if not example.choices:
            return self(example.fields)
        if "choice" in self.template.fields:
            choices = tuple(self({**example.fields, "choice": choice}) for choice in example.choices)
            return replace(choices[0], choices=choices)
        words = tuple(self.word(choice, whole=False) for choice in example.choices)
        spoken_here = self.kind != "encoder_decoder"  # its decoder says them, beside the input
        return replace(self(example.fields, max(map(len, words)) - 1 if spoken_here else 0), words=words)

    def word(self, word: str, *, whole: bool = True) -> tuple[int, ...]:
        """Return the token ids of an answer; unless it must be written `whole`, some of them may be unknown to the vocabulary."""
        refuse_surrogates(f"The answer {word!r}", word)
        written = self._plain if whole else self._as_text  # what an example says is text; a config may mean a special token
        ids = tuple(self._at(written, self.answer_prefix(word) + word.strip(), self.answer_begins)) if word.strip() else ()
        unknown = self.tokenizer.unk_token_id
        if not ids or (unknown is not None and (unknown in ids if whole else set(ids) == {unknown})):
            raise ModelError(f"The tokenizer cannot write the answer {word!r}: it becomes {'unknown' if ids else 'no'} tokens.")
        self._refuse_outside(ids)
        return ids

    def answer_prefix(self, word: str) -> str:
        """Return what stands between the input and an answer: a space, or nothing."""
        if self.label_space != "auto":
            return " " if self.label_space else ""
        if self.kind == "encoder_decoder":
            return ""
        if self.kind == "masked":
            return " " if self._before_mask.endswith(" ") else ""
        # What stands there in an example, a field's text, cannot be known.
        known = "" if _ENDS_IN_FIELD.search(self.after) else self.after
        return " " if needs_space(known, word.strip()) else ""

    @property
    def answer_begins(self) -> bool:
        """Whether an answer is the first word of a text: what a decoder beside the input says, or a mask in front of all."""
        return self.kind == "encoder_decoder" or (self.kind == "masked" and not self._before_mask.strip(" "))

    @property
    def _before_mask(self) -> str:
        return (self.before + "{slots}" + self.after).partition("{mask}")[0]

    def _mask_token(self) -> str:
        """Return what ``{mask}`` becomes; nothing for models that have no such token."""
        if not self.template.has_mask or self.kind == "decoder":
            return ""
        if self.kind == "encoder":
            raise ConfigError(
                f"The template {str(self.template)!r} has a {{mask}}, but a trained head reads no mask: leave it out, or set "
                'model.kind = "masked" to score label words there.'
            )
        if self.kind == "encoder_decoder":
            sentinel = "<extra_id_0>"
            return sentinel if sentinel in self.tokenizer.get_vocab() else ""
        if self.tokenizer.mask_token is None:
            raise ModelError(
                "The tokenizer has no mask token, so label words cannot be read at {mask}. Use a masked language model (BERT, RoBERTa, "
                "DeBERTa), or a trained head (model.kind = 'head')."
            )
        return str(self.tokenizer.mask_token)

    def _without_mask(self, before: str, after: str) -> tuple[str, str]:
        """Return a decoder's template, which is read right behind its end."""
        if "{mask}" in before or ("{mask}" in after and after.rstrip().rpartition("{mask}")[2] not in ("", ".")):
            raise ConfigError(
                f"The template {str(self.template)!r} goes on behind {{mask}}, but a decoder says its answer at the end: put {{mask}} last."
            )
        return before, after.rpartition("{mask}")[0].rstrip(" ") if "{mask}" in after else after

    def _tokenize(self, fields: Mapping[str, str]) -> Tokenized:
        named = self._specials.named_in([fields[name] for name in self.template.fields])
        head = self._part(self.before, fields, begins=True, literal=named is not None)
        tail = self._part(self.after, fields, begins=self.begins_behind_slots, literal=named is not None)
        if self.begins_behind_slots:
            before, after = [], [*self.prefix, *tail, *self.suffix]
        else:
            before, after = [*self.prefix, *head], [*tail, *self.suffix]
        ids = [*before, *after]
        self._refuse_outside(ids)
        mask_at = second = None
        if self.kind == "masked" and self.template.has_mask:
            mask_at = ids.index(self.tokenizer.mask_token_id)
        if SEPARATOR in ids:
            place = ids.index(SEPARATOR)
            at_once = len(self.separator)
            if place < len(before):
                before[place : place + 1] = self.separator
            else:
                after[place - len(before) : place - len(before) + 1] = self.separator
            second = place + at_once
            if mask_at is not None and mask_at > place:
                mask_at += at_once - 1
        return Tokenized(tuple(before), tuple(after), mask_at=mask_at, second=second)

    def _part(self, part: str, fields: Mapping[str, str], *, begins: bool, literal: bool) -> list[int]:
        """Return the ids of a template's part, with `SEPARATOR` where two segments part; `begins`: no text stands before it."""
        written = self._with_literals if literal else self._filled
        first, mark, second = part.partition("{sep}")
        ids = written(first.rstrip(" ") if mark else first, fields, begins)
        return [*ids, SEPARATOR, *written(second.lstrip(" "), fields, True)] if mark else ids

    def _filled(self, part: str, fields: Mapping[str, str], begins: bool) -> list[int]:
        return self._at(self._plain, self._fill(part, fields), begins)

    def _with_literals(self, part: str, fields: Mapping[str, str], begins: bool) -> list[int]:
        """Return the same where a field names a special token: those of the template become ids one by one, the rest is text."""
        ids: list[int] = []
        for piece in self._specials.parts(part.replace("{mask}", self.mask)):
            if isinstance(piece, int):
                ids.append(piece)
                begins = self._plain(f"{self.tokenizer.convert_ids_to_tokens(piece)}a")[1:] == self._plain("a")
            else:
                ids += self._at(self._as_text, self._fill(piece, fields), begins)
        return ids

    def _at(self, ids: Callable[[str], list[int]], text: str, begins: bool) -> list[int]:
        """Return the ids of a text that begins the input, or goes on behind something."""
        if begins or not self.joins or not text:
            return ids(text)
        try:
            return continued(ids, text)
        except ValueError as error:
            raise ModelError(f"{error} Write a space or a new line around {{slots}} in the template.") from error

    def _plain(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids if text else []
        return found

    def _as_text(self, text: str) -> list[int]:
        """Return the ids of a text in which no special token is meant."""
        found = self._split(text)
        name = self._specials.named_in([text])
        if name is None or self.tokenizer.convert_tokens_to_ids(name) not in found:
            return found
        ids: list[int] = []
        rest = text
        while name is not None:  # a Unigram has these names among its pieces, and finds them whole alone
            inside = rest.index(name) + 1
            ids += self._at(self._split, rest[:inside], begins=not ids)
            rest = rest[inside:]
            name = self._specials.named_in([rest])
        return [*ids, *self._at(self._split, rest, begins=False)]

    def _split(self, text: str) -> list[int]:
        """Return the ids of a text, names of special tokens taken apart."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids if text else []
        return found

    def _fill(self, text: str, fields: Mapping[str, str]) -> str:
        """Return a template's text with its fields filled in; a name in braces that is none of them (a chat turn may hold one) stays."""
        known = {**{name: fields[name] for name in self.template.fields}, "mask": self.mask}
        return _FIELD.sub(lambda match: known.get(match[1], match[0]), text)

    def _refuse_outside(self, ids: Sequence[int]) -> None:
        if self._rows is None or max(ids, default=0) < self._rows:
            return
        worst = max(ids)
        raise ModelError(
            f"The tokenizer's token {self.tokenizer.convert_ids_to_tokens(worst)!r} (id {worst}) has no row in the model's embedding "
            f"table, which has {self._rows}. Was a token added to the tokenizer alone? Call model.resize_token_embeddings(len(tokenizer)) "
            "and save both, or load the tokenizer that belongs to the model."
        )

    @cached_property
    def _specials(self) -> Specials:
        return Specials(self.tokenizer)


SEPARATOR = -1  # stands among ids for where two segments part
