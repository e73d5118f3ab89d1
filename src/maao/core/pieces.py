"""How a tokenizer writes a part of a text that goes on behind another part."""

from __future__ import annotations

from collections.abc import Callable


def continued(ids: Callable[[str], list[int]], text: str) -> list[int]:
    """Return the token ids of a text that goes on behind another one, which it does not join.

    Many tokenizers write a text's first word as if a space stood before it. Behind other text it must not be.
    """
    for before in ("a", "the", "1", ")", ":"):
        alone, both = ids(before), ids(before + text)
        if alone and both[: len(alone)] == alone:
            return both[len(alone) :]
    raise ValueError(f"The tokenizer joins the beginning of {text!r} to whatever stands before it.")


def adds_space(ids: Callable[[str], list[int]]) -> bool:
    """Say whether a tokenizer writes the first word of a text as it writes a word behind a space, and not one behind a colon.

    Llama 2, T5, XLM-R and other SentencePiece vocabularies do; so does a byte-level one with `add_prefix_space`.
    """

    def ends(text: str, word: str) -> bool:
        own = ids(word)
        return ids(text)[-len(own) :] == own

    return any(ids(word) and ends(f": {word}", word) and not ends(f":{word}", word) for word in ("a", "the", "1"))
