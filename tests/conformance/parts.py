"""Small problems, built as `maao.build` builds them, and kept: one model and one set of prepared examples for all tests of a process."""

from __future__ import annotations

from functools import cache
from typing import Any

from maao.codecs.nearest_token import NearestTokenCodec
from maao.problems.language.forward import context_length, embedding_table
from maao.problems.language.readers import Head, LabelWords, label_word_ids
from maao.problems.language.soft_prompt import SoftPromptProblem
from maao.problems.language.template import Template, TemplateTokenizer
from tests.tiny import tiny_model, tiny_splits

ROWS = 3


def soft_prompt_problem(
    architecture: str = "llama",
    template: str = "{text} {slots} Topic:",
    *,
    splits: Any = None,
    num_virtual_tokens: int = ROWS,
    max_length: int | None = None,
    words: dict[str, str] | None = None,
    pooling: Any = "mean",
    codec_options: dict[str, Any] | None = None,
    **options: Any,
) -> SoftPromptProblem:
    """Return the problem of a tiny model: label words for a decoder, a head for an encoder."""
    frozen = tiny_model(architecture)
    splits = splits or tiny_splits(2)
    parsed = Template.parse(template)
    encoder = frozen.kind == "encoder"
    length = max_length or context_length(frozen)

    def tokenizer(reserved: int) -> TemplateTokenizer:
        return TemplateTokenizer(frozen.tokenizer, parsed, encoder=encoder, max_length=length, reserved=reserved)

    if encoder:
        reader: Any = Head(frozen, len(splits.labels), pooling=pooling)
        tokenize = tokenizer(num_virtual_tokens)
    else:
        prefix = tokenizer(num_virtual_tokens).answer_prefix
        ids = label_word_ids(frozen, splits.labels, words or {label: label for label in splits.labels}, prefix)
        reader = LabelWords(frozen, ids)
        tokenize = tokenizer(num_virtual_tokens + max(map(len, ids)) - 1)
    codec = NearestTokenCodec(frozen.tokenizer, embedding_table(frozen), num_virtual_tokens=num_virtual_tokens, **(codec_options or {}))
    options = {"batch_size": 4, **options}
    return SoftPromptProblem(frozen, splits, tokenize, reader, codec, num_virtual_tokens=num_virtual_tokens, **options)


@cache
def kept_problem(architecture: str = "llama", template: str = "{text} {slots} Topic:", **options: Any) -> SoftPromptProblem:
    return soft_prompt_problem(architecture, template, **options)
