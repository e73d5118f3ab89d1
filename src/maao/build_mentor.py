"""Build the mentor of a run from its config: what it may use of the run, and the chat models that it asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maao.config import Config
from maao.llm.ledger import Ledger
from maao.llm.provider import Here
from maao.llm.recording import Recording
from maao.mentors.built import BuiltMentor, OwnMentor, build_chosen, build_own
from maao.mentors.context import CodecWords, Input, MentorContext, Proceed, Words
from maao.mentors.fields import NAMES
from maao.problems.kinds import DEFAULT_TEMPLATE, label_words
from maao.protocols import ChatModel, History, Vocabulary
from maao.types import TEMPLATE, WORD, failed_calls

if TYPE_CHECKING:
    from maao.build import RunComponents


def build_mentor(
    parts: RunComponents,
    ledger: Ledger,
    *,
    own: OwnMentor | None = None,
    replay: History[Any, Any] | None = None,
    wrap: Callable[[ChatModel], ChatModel] = lambda m: m,
) -> BuiltMentor:
    """Build the mentor, or the caller's `own`. Its chat model is recorded in `ledger`; to `replay` a history, it answers from there alone.

    `wrap` may watch the calls that are really made.
    """
    here = Here(parts.config.model.speaker, lambda name: parts.loaded.load(name, parts.config.model))
    models = Recording(ledger, here, parts.budget, failed=None if replay is None else failed_calls(replay), wrap=wrap)
    run = _context(parts, models)
    return build_chosen(parts.config.mentor, run, models) if own is None else build_own(own, run, models)


def _context(parts: RunComponents, models: Recording) -> MentorContext:
    """Return what a mentor may use of a run."""
    config, problem, splits = parts.config, parts.problem, parts.splits
    run = MentorContext(parts.codec, models.record, models.chat, seed=config.seed, tuned=config.model.speaker)
    if splits is None:
        function = config.function
        told = f"The point is {function.dim} numbers, separated by spaces. Find the point where {function.name} is lowest."
        return replace(
            run,
            input="numbers",
            labels=("a number each",),
            template="{slots}",
            told=told,
            length=function.dim,
            max_tokens=function.dim * 2,
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )
    model = config.model
    if parts.encoder is not None:
        return replace(
            run,
            input=_read_as(config),
            labels=parts.class_names,
            template=(model.template or "").replace("{class}", "<CLASS>"),
            length=model.num_virtual_tokens,
            max_tokens=model.num_virtual_tokens,
            vocabulary=_vocabulary(parts),
            not_filled=dict.fromkeys(NAMES, NOTHING_TO_FILL),
        )
    words = label_words(model) or {label: label for label in splits.labels}
    not_filled = {}
    if config.model.kind.name == "head":
        not_filled["label_words"] = "mentor.fills names label_words, and this model is read by a trained head, which has none: drop them."
    elif any(example.choices for example in splits.train):
        not_filled["label_words"] = (
            "mentor.fills names label_words, and these examples have answers of their own to choose from: drop them."
        )
    return replace(
        run,
        train=splits.train,
        labels=splits.labels,
        template=model.template or DEFAULT_TEMPLATE,
        length=model.num_virtual_tokens,
        max_tokens=model.num_virtual_tokens,
        vocabulary=_vocabulary(parts),
        proceed=_proceed(parts),
        own={TEMPLATE: str(problem.problem_for({}).template), **{WORD + label: words.get(label, label) for label in splits.labels}},
        not_filled=not_filled,
    )


def _read_as(config: Config) -> Input:
    """Return what the inputs are to a mentor's wording."""
    if config.input == "text" and config.model.kind.name == "matcher":
        return "matched_text"
    return config.input


NOTHING_TO_FILL = "mentor.fills is for problems of language: pictures and functions have no template or label words to fill."


def _vocabulary(parts: RunComponents) -> Words | None:
    if not isinstance(parts.codec, Vocabulary):
        return None
    method = parts.problem.problem_for({}).method
    return CodecWords(parts.codec, parts.codec, lambda params: method.to_vocabulary_space(method.realize(params)))


def _proceed(parts: RunComponents) -> Proceed | None:
    """Return how the tuned model goes on from its soft prompt: it is a decoder, and there are rows in slots."""
    frozen, model = parts.frozen, parts.config.model
    if frozen is None or frozen.kind != "decoder" or model.method.name not in ("prompt_tuning", "p_tuning", "pez"):
        return None
    from maao.llm.local import LocalModel

    local, method = LocalModel(frozen.model, frozen.tokenizer, frozen.name), parts.problem.problem_for({}).method

    def proceed(
        params: Any, before: str, after: str, *, seed: int, temperature: float, top_p: float, max_tokens: int
    ) -> tuple[str, int, int]:
        import torch

        with torch.no_grad():
            rows = method.realize(params)["prompt"]
        return local.proceed(rows, before, after, seed=seed, temperature=temperature, top_p=top_p, max_tokens=max_tokens)

    return proceed


def wording_digest(config: Config) -> str:
    """Return a hash of the text that an instruction is made from, or nothing where none is written."""
    text = config.mentor.options.wording_text(_read_as(config))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest() if text else ""
