"""Templates: ordinary text with slots for the soft prompt and fields for an example's text, turned into token ids.

``"{slots} {text} It was"``, ``"{text} {slots} Topic:"`` or ``"Text: {text} {slots} Topic:"`` say where the virtual tokens go. Two rules fix
every border:

* white space before the slots belongs to the soft prompt (in most vocabularies a word carries its leading space); white space at the very
  end belongs to the label word. Neither is encoded as a token of its own.
* slots at the very front stand before special tokens such as ``[CLS]``, where PEFT puts a soft prompt too.

``{mask}`` is where a label word is read: the mask token of a masked model, T5's first sentinel, and for a decoder the place right behind
the input, where it must stand. ``{sep}`` parts two segments as the tokenizer's own pairs are parted. ``{choice}`` stands for each of an
example's choices in turn, where a trained head reads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

from maao.errors import ConfigError, DataError, ModelError
from maao.types import Example

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
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

    @classmethod
    def parse(cls, text: str, *, chat: bool = False) -> Template:
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
        return cls(before, after, chat)

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
        tokenizer: a fast Hugging Face tokenizer.
        template: where slots and fields stand.
        kind: what reads the input. All but decoders keep the special tokens that follow a text (``[SEP]``); a decoder's answer must follow
            the text at once.
        max_length: the most tokens of an input, slots and answer included. Of a longer one the longest fields are cut at their ends.
        reserved: how many of them slots and answer need.

    `before` and `after` are the template's text around the slots as it is encoded, `prefix` and `suffix` the special tokens' ids, and
    `answer_prefix` what stands between the input and a label word.
    """

    def __init__(self, tokenizer: Any, template: Template, *, kind: Kind, max_length: int, reserved: int) -> None:
        self.tokenizer = tokenizer
        self.kind = kind
        self.template = template
        self.mask = self._mask_token()
        self.separator = _separator(tokenizer) if "sep" in template.names else ()
        before, after = (template.before, template.after) if kind != "decoder" else self._without_mask(template.before, template.after)
        if template.chat:
            before, after = _in_chat(tokenizer, f"{before}{{slots}}{after}")
        self.before, self.after = before.rstrip(" "), after.rstrip(" ")
        self.answer_prefix = self._answer_prefix()
        self.prefix, suffix = ((), ()) if template.chat else special_tokens(tokenizer)
        self.suffix = suffix if kind != "decoder" else ()
        self._room = max_length - reserved
        if self._room < 1:
            raise ModelError(
                f"{reserved} virtual and answer tokens do not fit the model's context of {max_length} tokens. Use fewer virtual tokens."
            )

    @cached_property
    def identity(self) -> str:
        """What an example's token ids follow from, beside the example: equal for two that tokenize alike."""
        vocabulary = hashlib.sha256(self.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
        parts = (vocabulary, self.kind, self.before, self.after, self.prefix, self.suffix, self.separator, self.mask, self.answer_prefix)
        return repr((*parts, self.template.front, self._room))

    def __call__(self, fields: Mapping[str, str], answer: int = 0) -> Tokenized:
        """Return an input, with room for so many more tokens of an answer than are reserved."""
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
        ids = tuple(self.tokenizer(self.answer_prefix + word.strip(), add_special_tokens=False).input_ids) if word.strip() else ()
        unknown = self.tokenizer.unk_token_id
        if not ids or (unknown is not None and (unknown in ids if whole else set(ids) == {unknown})):
            raise ModelError(f"The tokenizer cannot write the answer {word!r}: it becomes {'unknown' if ids else 'no'} tokens.")
        return ids

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
                "DeBERTa), or a trained head (model.kind = 'encoder')."
            )
        return str(self.tokenizer.mask_token)

    def _without_mask(self, before: str, after: str) -> tuple[str, str]:
        """Return a decoder's template, which is read right behind its end."""
        if "{mask}" in before or ("{mask}" in after and after.rstrip().rpartition("{mask}")[2] not in ("", ".")):
            raise ConfigError(
                f"The template {str(self.template)!r} goes on behind {{mask}}, but a decoder says its answer at the end: put {{mask}} last."
            )
        return before, after.rpartition("{mask}")[0].rstrip(" ") if "{mask}" in after else after

    def _answer_prefix(self) -> str:
        if self.kind == "encoder_decoder":
            return ""
        if self.kind == "masked":
            lead = (self.before + "{slots}" + self.after).partition("{mask}")[0]
            return " " if lead.endswith(" ") else ""
        return "" if self.after.endswith("\n") else " "

    def _tokenize(self, fields: Mapping[str, str]) -> Tokenized:
        parts = [self._ids(_fill(part, fields, self._marks())) for part in (self.before, self.after)]
        if self.template.front and not self.template.chat:
            before, after = [], [*self.prefix, *parts[1], *self.suffix]
        else:
            before, after = [*self.prefix, *parts[0]], [*parts[1], *self.suffix]
        ids = [*before, *after]
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

    def _marks(self) -> dict[str, str]:
        return {"mask": self.mask, "sep": SPLIT}

    def _ids(self, text: str) -> list[int]:
        """Return token ids, with `SEPARATOR` where two segments part."""
        first, mark, second = text.partition(SPLIT)
        ids = self.tokenizer(first.rstrip(" ") if mark else first, add_special_tokens=False).input_ids if first else []
        return [*ids, SEPARATOR, *self._ids(second.lstrip(" "))] if mark else ids


SPLIT = "\x1f"  # the unit separator: no text holds it
SEPARATOR = -1  # stands among ids for where two segments part


def _separator(tokenizer: Any) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts between the two texts of a pair."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    pair = tokenizer("a", "a").input_ids
    prefix, suffix = special_tokens(tokenizer)
    between = pair[len(prefix) + len(plain) : len(pair) - len(suffix) - len(plain)]
    if between:
        return tuple(between)
    raise ModelError(
        "The tokenizer puts nothing between the two texts of a pair, so {sep} has no meaning for it: write a separator of your own into "
        "the template, a new line for example."
    )


def special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    raise ModelError("The tokenizer changes a text when it adds special tokens: where they stand cannot be told.")


def _fill(text: str, fields: Mapping[str, str], marks: Mapping[str, str]) -> str:
    """Return a template's text with its fields filled in; a text that holds a mark itself must not become one."""
    taken = [mark for mark in marks.values() if mark]

    def value(name: str) -> str:
        if name in marks:
            return marks[name]
        found = fields[name]
        for mark in taken:
            found = found.replace(mark, " ")
        return found

    return _FIELD.sub(lambda match: value(match[1]), text)


def _in_chat(tokenizer: Any, template: str) -> tuple[str, str]:
    """Return the parts of a template as one user turn of the model's own chat template, up to where the assistant begins to speak."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("The tokenizer has no chat template: set `model.chat = false`, or use an instruct model.")
    turn = [{"role": "user", "content": template}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    if text.count("{slots}") != 1:
        raise ModelError("The model's chat template changes the text of a turn: {slots} was not found in it exactly once.")
    before, after = text.split("{slots}")
    return before, after
