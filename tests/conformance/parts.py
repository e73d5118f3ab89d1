"""Small problems, built as `maao.build` builds them, and kept: one model and one set of prepared examples for all tests of a process."""

from __future__ import annotations

from functools import cache
from typing import Any

from maao.config import make_config, without_unread
from maao.problems.language.soft_prompt import SoftPromptProblem
from maao.problems.texts import build_framed_reader, build_method, build_reader
from maao.problems.towers.text.forward import context_length
from maao.problems.towers.text.template import Template
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
    model: dict[str, Any] | None = None,
    **options: Any,
) -> SoftPromptProblem:
    """Return the problem of a tiny model: a head for an encoder, label words for any other. `model` are settings of that section."""
    frozen = tiny_model(architecture)
    splits = splits or tiny_splits(2)
    given = {**(model or {}), **({} if words is None else {"label_words": words})}
    given |= {name: options.pop(name) for name in ("initial", "initial_text") if name in options}
    settings = {"model": {"num_virtual_tokens": num_virtual_tokens, "hidden": 8, **given}}
    without_unread(settings, [f"model.{name}" for name in given])  # most methods have no network
    config = make_config(settings)
    of = (config.model, frozen, splits, Template.parse(template), max_length or context_length(frozen))
    reader, tokenize = build_reader(*of)
    method, codec = build_method(config.model, frozen, config.seed, splits.labels)
    options = {"batch_size": 4, "reframe": lambda frame: build_framed_reader(*of, frame), **options}
    return SoftPromptProblem(frozen, splits, tokenize, reader, codec, method=method, num_virtual_tokens=num_virtual_tokens, **options)


@cache
def _kept(architecture: str, template: str, model: tuple[tuple[str, Any], ...], options: tuple[tuple[str, Any], ...]) -> SoftPromptProblem:
    return soft_prompt_problem(architecture, template, model=dict(model), **dict(options))


def kept_problem(
    architecture: str = "llama", template: str = "{text} {slots} Topic:", *, model: dict[str, Any] | None = None, **options: Any
) -> SoftPromptProblem:
    return _kept(architecture, template, tuple((model or {}).items()), tuple(options.items()))
