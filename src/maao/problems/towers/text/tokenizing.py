"""How a tokenizer writes the parts of one text: a part that goes on behind another, special tokens, the border before an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from maao.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from maao.problems.towers.text.loading import FrozenModel

LabelSpace = Literal["auto"] | bool

# How Unicode names the letters and marks of scripts that set no space between words. Korean sets spaces.
UNSPACED = (
    "CJK IDEOGRAPHIC FULLWIDTH HALFWIDTH HIRAGANA KATAKANA KATAKANA-HIRAGANA BOPOMOFO YI "
    "THAI LAO KHMER MYANMAR TIBETAN TAI JAVANESE BALINESE"
).split()


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer puts before and after a text.

    Raises:
        ModelError: it puts them there unasked too, or changes the text beside them.
    """
    plain = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    unasked = set(plain) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    if unasked:
        shown = ", ".join(tokenizer.convert_ids_to_tokens(sorted(unasked)))
        raise ModelError(
            f"The tokenizer adds {shown} to every text, also where it is asked to add nothing (add_special_tokens=False): the parts of a "
            "template cannot be put together. Save it without this, for example with add_bos_token=False."
        )
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    raise ModelError("The tokenizer changes a text when it adds special tokens: where they stand cannot be told.")


def separator(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
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


@cache
def is_unspaced(character: str) -> bool:
    """Say whether a character is of a script that sets no space between words.

    Example:
        >>> [is_unspaced(character) for character in "aé한体か：。ไ1"]
        [False, False, False, True, True, True, True, True, False]
    """
    return "\u3000" <= character <= "\u303f" or unicodedata.name(character, "").split(" ")[0] in UNSPACED


def needs_space(before: str, word: str) -> bool:
    """Say whether a word is written with a space behind a text (an empty one: it is not known), as its script would have it.

    Example:
        >>> needs_space("Topic:", "music"), needs_space("Topic:", "体育"), needs_space("主题：", "music"), needs_space("Topic:\\n", "music")
        (True, False, False, False)
    """
    return not (before.endswith("\n") or is_unspaced(before[-1:] or " ") or is_unspaced(word[:1] or " "))


class Specials:
    """The special tokens of a tokenizer by their names, and texts that hold such a name as ordinary text.

    A tokenizer reads ``</s>`` in a text as the token of that name. In what a template or a chat turn says, that is meant; in an example
    (HTML, a log, an attack) it is not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._added = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.special}
        names = sorted({*self._added, *tokenizer.all_special_tokens}, key=len, reverse=True)
        self._names = tuple(name for name in names if name)
        self._first = {name[0] for name in self._names}
        self._parts = re.compile("(" + "|".join(map(re.escape, self._names)) + ")") if self._names else None

    def named_in(self, texts: Sequence[str]) -> str | None:
        """Return a special token whose name stands in one of the texts."""
        for text in texts:
            if any(first in text for first in self._first):
                found = next((name for name in self._names if name in text), None)
                if found is not None:
                    return found
        return None

    def parts(self, text: str) -> list[str | int]:
        """Return a text cut at its special tokens, which become ids. White space that such a token takes with it is left out."""
        if self._parts is None:
            return [text]
        pieces = self._parts.split(text)  # texts and names by turns
        added = [self._added.get(piece) for piece in ("", *pieces, "")]
        cut: list[str | int] = []
        for place, piece in enumerate(pieces):
            before, after = added[place], added[place + 2]
            if place % 2:
                cut.append(self._tokenizer.convert_tokens_to_ids(piece))
                continue
            left = piece.lstrip() if before is not None and before.rstrip else piece
            cut.append(left.rstrip() if after is not None and after.lstrip else left)
        return cut


def outside(frozen: FrozenModel) -> Mapping[str, int]:
    """Return the tokens of a tokenizer, with their ids, for which the model's embedding table has no row."""
    rows = num_rows(frozen.model)
    if rows is None:
        return {}
    unread = [(i, token) for token, i in frozen.tokenizer.get_vocab().items() if i >= rows]
    return {token: i for i, token in sorted(unread)}


def num_rows(model: PreTrainedModel) -> int | None:
    """Return how many token ids a model has an embedding for; None: it has no table of them."""
    try:
        table = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # such a model is refused in words, where it is tried
        return None
    weight = getattr(table, "weight", None)
    return None if weight is None else int(weight.shape[0])


def refuse_surrogates(name: str, text: str) -> None:
    """Raise if a text holds half a character, which no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{name} holds U+{ord(text[error.start]):04X} at place {error.start + 1}, half of a character that was cut in two (a lone "
            "surrogate): no tokenizer can read it. Remove it, or save the text as UTF-8 anew."
        ) from error
