"""Small problems, built as `maao.build` builds them, and kept: one model and one set of prepared examples for all tests of a process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from maao.config import make_config, without_unread
from maao.data.folds import deal
from maao.problems.cross_validated import CrossValidated
from maao.problems.framed import FramedProblem
from maao.problems.text_problem import TextProblem, text_problem
from maao.problems.texts import build_framed_scorer, build_method, build_scorer
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
) -> TextProblem:
    """Return the problem of a tiny model: a head for an encoder, label words for any other. `model` are settings of that section."""
    frozen = tiny_model(architecture)
    splits = splits or tiny_splits(2)
    given = {**(model or {}), **({} if words is None else {"label_words": words})}
    given |= {name: options.pop(name) for name in ("initial", "initial_text", "frozen_dropout") if name in options}
    settings = {"model": {"num_virtual_tokens": num_virtual_tokens, "hidden": 8, **given}}
    without_unread(settings, [f"model.{name}" for name in given])  # most methods have no network
    config = make_config(settings)
    of = (config.model, frozen, splits, Template.parse(template), max_length or context_length(frozen))
    scorer, tokenize = build_scorer(*of)
    method, codec = build_method(config.model, frozen, config.seed, splits.labels)
    problem = text_problem(splits, tokenize, scorer, codec, method, num_virtual_tokens=num_virtual_tokens, **{"batch_size": 4, **options})
    REFRAMES[problem] = lambda pair: build_framed_scorer(*of, pair)
    return problem


REFRAMES: WeakKeyDictionary[TextProblem, Any] = WeakKeyDictionary()


def framed_problem(*args: Any, max_cache_bytes: int = 2 * 2**30, **options: Any) -> FramedProblem:
    """Return the same problem with proposals that fill the pattern and the verbalizer."""
    plain = soft_prompt_problem(*args, max_cache_bytes=max_cache_bytes, **options)
    rows = options.get("num_virtual_tokens", ROWS)
    return FramedProblem(plain, REFRAMES[plain], num_virtual_tokens=rows, max_cache_bytes=max_cache_bytes)


@cache
def _kept(architecture: str, template: str, model: tuple[tuple[str, Any], ...], options: tuple[tuple[str, Any], ...]) -> TextProblem:
    return soft_prompt_problem(architecture, template, model=dict(model), **dict(options))


def kept_problem(
    architecture: str = "llama", template: str = "{text} {slots} Topic:", *, model: dict[str, Any] | None = None, **options: Any
) -> TextProblem:
    return _kept(architecture, template, tuple((model or {}).items()), tuple(options.items()))


@cache
def kept_framed_problem() -> FramedProblem:
    return framed_problem("llama", "{text} {slots} Topic:")


@cache
def kept_cross_validated() -> CrossValidated:
    """Return the same whose labels all train, in two folds."""
    splits = tiny_splits(2)
    folded = replace(splits, select=(), folds=deal(splits.train, splits.labels, 2, 0))
    problem = framed_problem("llama", "{text} {slots} Topic:", splits=folded)
    return CrossValidated(problem)
