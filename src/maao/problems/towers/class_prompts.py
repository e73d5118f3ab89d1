"""Templates with a place for the class name and for the slots, and what they are in tokens.

A context may stand before the class name (``"{slots} {class}."``), after it (``"{class} {slots}."``), or around it
(``"{slots} {class} {slots}."``: the first half, rounded down, goes to the front). Its length is counted in tokens.

What follows the slots is read as it is inside a sentence: white space before it is the word's own, in vocabularies that tell the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maao.core.pieces import continued
from maao.errors import ConfigError, DataError
from maao.problems.towers.text.tokenizing import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOTS, CLASS = "{slots}", "{class}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenized prompt: `ids` of all its tokens, `slots` the positions whose embeddings are tuned rows (their ids are placeholders)."""

    ids: tuple[int, ...]
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassTemplate:
    """A text with one ``{class}`` and at most two ``{slots}``.

    Example:
        >>> ClassTemplate.parse("{slots} {class}.").fill("a photo of a", "cat")
        'a photo of a cat.'
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> ClassTemplate:
        """Return the template of a text. Raises `ConfigError` for one without a class, or with anything else in braces."""
        unknown = [field for field in re.findall(r"\{[^{}]*\}", text) if field not in (SLOTS, CLASS)]
        if unknown:
            raise ConfigError(f"The template {text!r} has {unknown[0]}: a prompt of classes holds {CLASS} and {SLOTS} only.")
        if text.count(CLASS) != 1:
            raise ConfigError(f"The template {text!r} must name {CLASS} once; it does {text.count(CLASS)} times.")
        if text.count(SLOTS) > 2 or (text.count(SLOTS) == 2 and not text.index(SLOTS) < text.index(CLASS) < text.rindex(SLOTS)):
            raise ConfigError(f"The template {text!r}: {SLOTS} may stand once, or once before and once after {CLASS}.")
        return cls(text)

    @property
    def has_slots(self) -> bool:
        return SLOTS in self.text

    def fill(self, words: str, name: str) -> str:
        """Return the template as text, where words stand in its only slots."""
        return self.text.replace(SLOTS, words).replace(CLASS, name)

    def prompt(self, tokenizer: PreTrainedTokenizerBase, name: str, num_virtual_tokens: int, most: int) -> Prompt:
        """Return the tokens of the prompt of one class.

        Raises:
            DataError: there are more tokens than the text tower reads, or the class name has none.
        """
        unknown = tokenizer.unk_token_id
        plain = tokenizer(" " + name, add_special_tokens=False).input_ids
        if not plain or (unknown is not None and tokenizer.unk_token != tokenizer.eos_token and set(plain) == {unknown}):
            raise DataError(f"The class name {name!r} cannot be read by this text tower: its tokenizer knows no token of it. Rename it.")
        pieces = [piece.rstrip() for piece in self.text.replace(CLASS, name).split(SLOTS)]
        tokens = [_tokens(tokenizer, piece, inside=i > 0) for i, piece in enumerate(pieces)]
        counts = {1: (), 2: (num_virtual_tokens,), 3: (num_virtual_tokens // 2, num_virtual_tokens - num_virtual_tokens // 2)}[len(pieces)]
        begin, end = special_tokens(tokenizer)
        placeholder = tokens[-1][0] if tokens[-1] else plain[0]
        ids, slots = list(begin), list[int]()
        for i, piece in enumerate(tokens):
            ids += piece
            if i < len(counts):
                slots += range(len(ids), len(ids) + counts[i])
                ids += [placeholder] * counts[i]
        ids += end
        if len(ids) > most:
            raise DataError(
                f"The prompt of the class {name!r} takes {len(ids)} tokens, and the text tower reads {most}: shorten the class name, the "
                "template or the context (model.num_virtual_tokens)."
            )
        return Prompt(tuple(ids), tuple(slots))


def prompt_of_line(tokenizer: PreTrainedTokenizerBase, text: str, most: int) -> Prompt:
    """Return the tokens of a text as it stands; what is beyond `most` of them is not read."""
    begin, end = special_tokens(tokenizer)
    own = _tokens(tokenizer, text, inside=False)[: most - len(begin) - len(end)]
    return Prompt((*begin, *own, *end))


def _tokens(tokenizer: PreTrainedTokenizerBase, piece: str, *, inside: bool) -> list[int]:
    """Return the ids of a part of a text; `inside`: of one that something stands before, which makes no word of its beginning."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    if inside and piece and not piece[0].isspace():
        with suppress(ValueError):
            return continued(ids, piece)
    return ids(piece) if piece else []


def prompts_of(
    template: ClassTemplate, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], num_virtual_tokens: int, most: int
) -> tuple[Prompt, ...]:
    """Return the prompt of every class, in order."""
    return tuple(template.prompt(tokenizer, name, num_virtual_tokens, most) for name in names)
