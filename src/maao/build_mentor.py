"""Build the mentor of a run from its config: what it may use of the run, and the chat models that it asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maao.config import Config
from maao.core.budget import Clock
from maao.llm.ledger import Ledger
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.mentors.built import BuiltMentor, OwnMentor, build_chosen, build_own
from maao.mentors.context import CodecWords, MentorContext, Words
from maao.protocols import ChatModel, History, Vocabulary
from maao.types import failed_calls

if TYPE_CHECKING:
    from maao.build import RunComponents


def build_mentor(
    parts: RunComponents,
    ledger: Ledger,
    *,
    own: OwnMentor | None = None,
    replay: History[Any, Any] | None = None,
    clock: Clock | None = None,
    wrap: Callable[[ChatModel], ChatModel] = lambda m: m,
) -> BuiltMentor:
    """Build the mentor, or the caller's `own`. Its chat model is recorded in `ledger`; to `replay` a history, it answers from there alone.

    `wrap` may watch the calls that are really made; `clock` ends them where the run's seconds are spent.
    """
    here = Here(parts.config.model.speaker, lambda name: parts.loaded.load(name, parts.config.model))
    models = Recording(ledger, here, parts.budget, failed=None if replay is None else failed_calls(replay), clock=clock, wrap=wrap)
    run = _context(parts, models)
    return build_chosen(parts.config.mentor, run, models) if own is None else build_own(own, run, models)


def _context(parts: RunComponents, models: Recording) -> MentorContext:
    """Return what a mentor may use of a run."""
    config = parts.config
    run = MentorContext(parts.codec, models.record, models.chat, seed=config.seed, tuned=config.model.speaker)
    return config.builder.for_mentor(parts, replace(run, input=config.builder.input, vocabulary=_vocabulary(parts)))


def _vocabulary(parts: RunComponents) -> Words | None:
    if not isinstance(parts.codec, Vocabulary):
        return None
    method = parts.problem.problem_for({}).method
    return CodecWords(parts.codec, parts.codec, lambda params: method.to_vocabulary_space(method.realize(params)))


def wording_digest(config: Config) -> str:
    """Return a hash of the text that an instruction is made from, or nothing where none is written."""
    text = config.mentor.options.wording_text(config.builder.input)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else ""
