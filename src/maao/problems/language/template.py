"""Templates: ordinary text with slots for the soft prompt and fields for an example's text, turned into token ids.

``"{slots} {text} It was"``, ``"{text} {slots} Topic:"`` or ``"Text: {text} {slots} Topic:"`` say where the virtual tokens go. Two rules fix
every border:

* white space before the slots belongs to the soft prompt (in most vocabularies a word carries its leading space); white space at the very
  end belongs to the label word. Neither is encoded as a token of its own.
* slots at the very front stand before special tokens such as ``[CLS]``, where PEFT puts a soft prompt too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from maao.errors import ConfigError, DataError, ModelError
from maao.types import Example

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Tokenized:
    """An example's token ids before and after the slots."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    cut: int = 0  # tokens of its text that did not fit

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


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
        if len(names) == 1:
            raise ConfigError(f"The template {text!r} shows nothing of an example: name at least one of its fields, for example {{text}}.")
        before, after = text.split("{slots}")
        return cls(before, after, chat)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_FIELD.findall(self.before + self.after)))

    @property
    def front(self) -> bool:
        return self.before == ""

    def __str__(self) -> str:
        return f"{self.before}{{slots}}{self.after}"

    def check_fields(self, example: Example) -> None:
        """Raise if the template asks for a field that examples do not have."""
        for name in self.fields:
            if name not in example.fields:
                near = get_close_matches(name, example.fields, n=1)
                hint = f" Did you mean {{{near[0]}}}?" if near else ""
                raise ConfigError(
                    f"The template {str(self)!r} has an unknown field {{{name}}}.{hint} Examples have: {', '.join(example.fields)}."
                )


class TemplateTokenizer:
    """A template bound to a tokenizer: examples in, token ids out.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        template: where slots and fields stand.
        encoder: keep the special tokens that follow a text (``[SEP]``); a decoder's answer must follow the text at once.
        max_length: the most tokens of an input, slots and answer included. Of a longer one the longest fields are cut at their ends.
        reserved: how many of them slots and answer need.

    `before` and `after` are the template's text around the slots as it is encoded, `prefix` and `suffix` the special tokens' ids, and
    `answer_prefix` what stands between the input and a label word.
    """

    def __init__(self, tokenizer: Any, template: Template, *, encoder: bool, max_length: int, reserved: int) -> None:
        self.tokenizer = tokenizer
        self.template = template
        before, after = (template.before, template.after) if not template.chat else _in_chat(tokenizer, template)
        self.before, self.after = before.rstrip(" "), after.rstrip(" ")
        self.answer_prefix = "" if self.after.endswith("\n") else " "
        self.prefix, suffix = ((), ()) if template.chat else special_tokens(tokenizer)
        self.suffix = suffix if encoder else ()
        self._room = max_length - reserved
        if self._room < 1:
            raise ModelError(
                f"{reserved} virtual and answer tokens do not fit the model's context of {max_length} tokens. Use fewer virtual tokens."
            )

    def __call__(self, fields: Mapping[str, str]) -> Tokenized:
        whole = self._tokenize(fields)
        excess = len(whole) - self._room
        if excess <= 0:
            return whole
        low, high = 0, max(len(fields[name]) for name in self.template.fields)  # the most characters of a field with which all fits
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._tokenize({name: text[:middle] for name, text in fields.items()})) <= self._room:
                low = middle
            else:
                high = middle - 1
        shortened = self._tokenize({name: text[:low] for name, text in fields.items()})
        if len(shortened) > self._room:
            raise DataError(
                f"The template {str(self.template)!r} alone takes {len(shortened)} tokens, but only {self._room} are left in the model's "
                "context beside slots and answer. Shorten the template or raise `model.max_length`."
            )
        return Tokenized(shortened.before, shortened.after, cut=len(whole) - len(shortened))

    def _tokenize(self, fields: Mapping[str, str]) -> Tokenized:
        before, after = (self._ids(_fill(part, fields)) for part in (self.before, self.after))
        if self.template.front and not self.template.chat:
            return Tokenized((), (*self.prefix, *after, *self.suffix))
        return Tokenized((*self.prefix, *before), (*after, *self.suffix))

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids if text else []


def special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    raise ModelError("The tokenizer changes a text when it adds special tokens: where they stand cannot be told.")


def _fill(text: str, fields: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: fields[match[1]], text)


def _in_chat(tokenizer: Any, template: Template) -> tuple[str, str]:
    """Return the parts of a template as one user turn of the model's own chat template, up to where the assistant begins to speak."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("The tokenizer has no chat template: set `model.chat = false`, or use an instruct model.")
    turn = [{"role": "user", "content": str(template)}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    if text.count("{slots}") != 1:
        raise ModelError("The model's chat template changes the text of a turn: {slots} was not found in it exactly once.")
    before, after = text.split("{slots}")
    return before, after
