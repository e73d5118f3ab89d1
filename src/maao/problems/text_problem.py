"""Texts for models that read the prompt and a text together: how they are read, what is kept of them, and what a run should know."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from maao.problems.classification import ClassificationProblem, Continuation, PromptCodec
from maao.problems.methods import PromptMethod
from maao.problems.scorers.label_words import AnswerScorer
from maao.problems.scorers.tokens import Rows, TokenScorer
from maao.problems.towers.text.forward import embedding_table
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.probes import continues_vectors
from maao.problems.towers.text.template import Template, TemplateTokenizer
from maao.problems.towers.text.tokenized import tokenize_all
from maao.protocols import Params
from maao.types import Example, Splits

SHORT = 6  # tokens of a text that is short: what is lost of its first one is told


@dataclass(frozen=True)
class TextReader:
    """Reads examples through a template. With `keep`, tokenized splits are kept in the user's cache."""

    tokenizer: TemplateTokenizer
    keep: bool = True
    prepared_tokens: int = 0

    def split(self, examples: Sequence[Example], *, train: bool) -> Rows:
        return Rows(tokenize_all(self.tokenizer, examples) if self.keep else map(self.tokenizer.example, examples))

    def given(self, examples: Sequence[Example]) -> Rows:
        for example in examples:
            self.tokenizer.template.check_fields(example)
        return Rows(map(self.tokenizer.example, examples))

    @property
    def fields(self) -> tuple[str, ...]:
        return self.tokenizer.template.fields

    def cuts(self, examples: Sequence[Example]) -> tuple[int, ...]:
        rows = map(self.tokenizer.example, examples)
        return tuple(max([row.cut, *(choice.cut for choice in row.choices)]) for row in rows)

    def readable(self, example: Example) -> str:
        return " / ".join(example.fields.values())


class TextProblem(ClassificationProblem[Rows]):
    """A classification problem on text, which shows the model and the template."""

    @property
    def tokens(self) -> TokenScorer:
        """The scorer, as one of tokens."""
        assert isinstance(self.scorer, TokenScorer)
        return self.scorer

    @property
    def frozen(self) -> FrozenModel:
        return self.tokens.frozen

    @property
    def tokenizer(self) -> TemplateTokenizer:
        assert isinstance(self.reader, TextReader)
        return self.reader.tokenizer

    @property
    def template(self) -> Template:
        return self.tokenizer.template

    @cached_property
    def reads_text_first(self) -> bool:
        """Whether a causal model reads text before anything that is tuned: deep prompts stand in front of all of it."""
        return self.frozen.kind == "decoder" and "prompt" in self.method.start(embedding_table(self.frozen)[:1].cpu())


def text_problem(
    splits: Splits,
    tokenizer: TemplateTokenizer,
    scorer: TokenScorer,
    codec: PromptCodec,
    method: PromptMethod,
    *,
    num_virtual_tokens: int,
    continuation_tokens: int = 0,
    max_cache_bytes: int = 2 * 2**30,
    **options: Any,
) -> TextProblem:
    """Return the problem of a frozen language model's soft prompt on labelled text.

    Args:
        num_virtual_tokens: rows of the initial soft prompt.
        continuation_tokens: length of the model's own continuation of its soft prompt (decoders); 0 for none.
        max_cache_bytes: the most memory for keys and values of texts before the slots (`train` and `select`, decoders); 0 for none.
        options: of the problem.
    """
    for example in splits.train[:1]:
        tokenizer.template.check_fields(example)
    frozen = scorer.frozen
    continuation = continuation_of(frozen, continuation_tokens) if continuation_tokens > 0 else None
    problem = TextProblem(method, scorer, codec, TextReader(tokenizer), splits, continuation=continuation, **options)
    notes = (*frozen.notes, *_cut_notes(problem), *_lead_notes(problem), *_reading_notes(problem, num_virtual_tokens))
    problem.notes = (*notes, *prefilled(problem, num_virtual_tokens, max_cache_bytes))
    return problem


def prefilled(problem: TextProblem, num_virtual_tokens: int, max_bytes: int) -> Iterator[str]:
    """Keep what `train` and `select`, which are read again and again, have before their slots; say so where that cannot be done."""
    scorer = problem.scorer
    if max_bytes > 0 and isinstance(scorer, AnswerScorer) and scorer.shares and problem.reads_text_first:
        reason = scorer.prefill(num_virtual_tokens, [*problem.inputs("train"), *problem.inputs("select")], max_bytes)
        if reason:
            yield f"every step reads the texts anew, which is slower: {reason}"


def continuation_of(frozen: FrozenModel, most: int) -> Continuation | None:
    """Return what gives a decoder's own greedy continuation of its soft prompt, of so many tokens; None: it writes behind no vectors."""
    if not continues_vectors(frozen):
        return None

    def continuation(realized: Params) -> tuple[str | None, int]:
        if "prompt" not in realized:
            return None, 0
        embeddings = realized["prompt"].detach().to(frozen.model.get_input_embeddings().weight)[None]
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        pad_id = frozen.tokenizer.pad_token_id or 0
        with torch.no_grad():
            ids = frozen.model.generate(
                inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=most, do_sample=False, pad_token_id=pad_id
            )[0]
        return " ".join(frozen.tokenizer.decode(ids, skip_special_tokens=True).split()), len(ids) + embeddings.shape[1]

    return continuation


def _cut_notes(problem: TextProblem) -> Iterator[str]:
    for name in ("train", "select", "test"):
        rows = problem.inputs(name)
        cut = [cut for row in rows if (cut := max([row.cut, *(choice.cut for choice in row.choices)]))]
        if cut:
            yield f"{len(cut)} of {len(rows)} texts of {name} were cut to fit the context, by at most {max(cut)} tokens"


def _lead_notes(problem: TextProblem) -> Iterator[str]:
    """Say that a short text stands first in the input, whose first token a decoder reads worse than the others.

    Measured on SmolLM2-135M, loss before tuning with a word in front: lower by 0.5 to 0.7 where texts are names of 3 tokens, by 0.03
    to 0.2 for headlines of 9, not for film reviews of 25.
    """
    own = problem.tokenizer
    bare = own.kind == "decoder" and not (own.prefix or own.template.chat or own.template.front) and own.before.startswith("{")
    length = statistics.median([len(row.before) for row in problem.inputs("train")] or [SHORT + 1])
    if bare and length <= SHORT:
        yield (
            f"each input begins with a short text ({length:.0f} tokens in the median), and a model reads the first token of its input "
            f"worse than the others: a word in front of it may help, such as model.template = {'Text: ' + str(own.template)!r}"
        )


def _reading_notes(problem: TextProblem, num_virtual_tokens: int) -> list[str]:
    """Try how the model reads rows as long as those of the run; say what is slower than it could be."""
    rows = [row for name in ("train", "select", "test") for row in problem.inputs(name)]
    return problem.tokens.notes(num_virtual_tokens, rows) if rows else []
