"""Prompt tuning (Lester et al., 2021): the soft prompt of a frozen language model as a `Problem`.

What is tuned is ``{"prompt": (num_virtual_tokens, embed_dim)}``, and a head where the reader has one. Nothing of the frozen model changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import CodecError, ConfigError, ProblemError
from maao.interfaces import TokenCodec
from maao.problems.language.forward import embedding_table
from maao.problems.language.loading import FrozenModel
from maao.problems.language.readers import LabelWords, Reader
from maao.problems.language.template import TemplateTokenizer, Tokenized
from maao.types import Clues, Confusion, Cost, Example, Misread, Projection, Score, Split, Splits

Params = Mapping[str, Tensor]
Initial = Literal["vocabulary", "normal", "text", "labels"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenized examples with their class numbers."""

    rows: tuple[Tokenized, ...]
    targets: Tensor  # (batch,)

    def take(self, which: Sequence[int]) -> Rows:
        return Rows(tuple(self.rows[i] for i in which), self.targets[list(which)])


class SoftPromptProblem:
    """The soft prompt of a frozen language model, on labelled text.

    Args:
        frozen: the model.
        splits: labelled examples.
        tokenizer: the template, bound to the model's tokenizer.
        reader: how classes are read from the model.
        codec: the words of a soft prompt.
        num_virtual_tokens: rows of the initial soft prompt.
        initial: "vocabulary" (rows of random words), "normal" (with the standard deviation of the embedding table), "labels" (the labels'
            words), or "text" with `initial_text`.
        batch_size: examples a gradient step; all of `train` if it is no larger.
        score_batch: examples scored at a time.
        clue_tokens: how many tokens a slot are kept in each clue.
        account_tokens: length of the model's own continuation of its soft prompt (decoders); 0 for none.
        part_tokens: the most tokens, padding included, that a gradient step runs at a time; bounds its memory.
        max_cache_bytes: the most memory for keys and values of texts before the slots (`train` and `select`, decoders); 0 for none.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        splits: Splits,
        tokenizer: TemplateTokenizer,
        reader: Reader,
        codec: TokenCodec[Params],
        *,
        num_virtual_tokens: int,
        initial: Initial = "vocabulary",
        initial_text: str | None = None,
        batch_size: int = 32,
        score_batch: int = 64,
        clue_tokens: int = 3,
        clue_misread: int = 5,
        account_tokens: int = 0,
        max_cache_bytes: int = 2 * 2**30,
        part_tokens: int = 512,
    ) -> None:
        if initial == "text" and not initial_text:
            raise ConfigError('`model.initial = "text"` needs the text: set `model.initial_text`.')
        for example in splits.train[:1]:
            tokenizer.template.check_fields(example)
        self.frozen, self.splits, self.reader, self.codec = frozen, splits, reader, codec
        self.tokenizer, self.template = tokenizer, tokenizer.template
        self._num_virtual_tokens = num_virtual_tokens
        self._initial, self._initial_text = initial, initial_text
        self._batch_size, self._score_batch = batch_size, score_batch
        self._part_tokens = part_tokens
        self._clue_tokens, self._clue_misread, self._account_tokens = clue_tokens, clue_misread, account_tokens
        self._rows = {name: self._prepare(getattr(splits, name)) for name in ("train", "select", "test")}
        self.notes = (*self._cut_notes(), *self._cache_notes(max_cache_bytes))

    # -- Problem

    def initial(self, seed: int) -> Params:
        return {"prompt": self._initial_prompt(seed_for(seed, "prompt")), **self.reader.initial(seed_for(seed, "reader"))}

    def batch(self, step: int, seed: int) -> Rows:
        rows = self._rows["train"]
        count = len(rows.rows)
        if count <= self._batch_size:
            return rows
        per_epoch = count // self._batch_size
        epoch, index = divmod(step, per_epoch)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, "epoch", epoch))).tolist()
        return rows.take(order[index * self._batch_size : (index + 1) * self._batch_size])

    def loss(self, params: Params, batch: Rows) -> Tensor:
        tuned = {name: value for name, value in params.items() if value.requires_grad}
        parts = self._parts(params, batch)
        if not tuned or not torch.is_grad_enabled() or len(parts) == 1:
            return self.reader.loss(params, batch.rows, batch.targets.to(self.frozen.device))
        return self._loss_in_parts(params, tuned, batch, parts)

    def num_tokens(self, params: Params, batch: Rows) -> int:
        return self.reader.num_tokens(len(params["prompt"]), batch.rows)

    def score(self, params: Params, split: Split) -> Score:
        rows = self._rows.get(split)
        if rows is None or not rows.rows:
            raise ProblemError(f"There are no examples in the split '{split}' to score.")
        with torch.no_grad():
            scores = self._class_scores(params, rows.rows)
        return self._score(scores, rows, split, self.num_tokens(params, rows))

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        rows = self._rows["train"]
        gradient, scores = self._gradient(params, rows)
        tokens = 2 * self.num_tokens(params, rows)
        predicted = scores.argmax(-1).tolist()
        wrong = [(i, p) for i, (p, t) in enumerate(zip(predicted, rows.targets.tolist(), strict=True)) if p != t]
        projection = self._project(params, score or self.score(params, "select"))
        hard = projection.score.cost if projection else Cost()
        moved = None if start is None or start["prompt"].shape != params["prompt"].shape else params["prompt"] - start["prompt"]
        account, generated = self._account(params)
        return Clues(
            projection=projection,
            nearest=self.codec.nearest(params["prompt"], self._clue_tokens),
            gradient=self._pointing(-gradient),
            displacement=() if moved is None else self._pointing(moved),
            confusions=self._confusions(wrong),
            misread=self._misread(wrong, scores),
            account=account,
            cost=hard + Cost(model_tokens=tokens + generated, scored_examples=len(rows.rows)),
        )

    # -- using a tuned prompt

    def probabilities(self, params: Params, examples: Sequence[Mapping[str, str]]) -> Tensor:
        """Return ``(len(examples), num_classes)`` probabilities for unlabelled examples, given as their text fields."""
        for fields in examples:
            self.template.check_fields(Example(fields, ""))
        with torch.no_grad():
            return self._class_scores(params, [self.tokenizer(fields) for fields in examples]).softmax(-1)

    # -- parts

    def _prepare(self, examples: Sequence[Example]) -> Rows:
        numbers = {label: i for i, label in enumerate(self.splits.labels)}
        return Rows(tuple(self.tokenizer(e.fields) for e in examples), torch.tensor([numbers[e.label] for e in examples], dtype=torch.long))

    def _cut_notes(self) -> Iterator[str]:
        for name, rows in self._rows.items():
            cut = [row.cut for row in rows.rows if row.cut]
            if cut:
                yield f"{len(cut)} of {len(rows.rows)} texts of {name} were cut to fit the context, by at most {max(cut)} tokens"

    def _cache_notes(self, max_bytes: int) -> Iterator[str]:
        """Keep what `train` and `select`, which are read again and again, have before their slots; say so where that cannot be done."""
        if max_bytes > 0 and isinstance(self.reader, LabelWords):
            reason = self.reader.keep_prefixes([*self._rows["train"].rows, *self._rows["select"].rows], max_bytes)
            if reason:
                yield f"every step reads the texts anew, which is slower: {reason}"

    @property
    def prepared(self) -> Cost:
        """What was run through the model once, before the first step."""
        cache = self.reader.cache if isinstance(self.reader, LabelWords) else None
        return Cost(model_tokens=cache.num_tokens if cache else 0)

    def _initial_prompt(self, seed: int) -> Tensor:
        count = self._num_virtual_tokens
        if self._initial == "vocabulary":
            return self.codec.sample(count, seed).float()
        if self._initial == "normal":
            table = embedding_table(self.frozen)
            return torch.randn(count, table.shape[1], generator=torch.Generator().manual_seed(seed)) * table.float().std().cpu()
        text = self._initial_text if self._initial == "text" else " ".join(self.splits.labels)
        assert text is not None
        return self.codec.encode(text).params["prompt"].clone()

    def _class_scores(self, params: Params, rows: Sequence[Tokenized]) -> Tensor:
        """Return ``(len(rows), num_classes)`` scores, computed in batches of rows of similar length."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        chunks = [order[i : i + self._score_batch] for i in range(0, len(order), self._score_batch)]
        scores = torch.cat([self.reader.class_scores(params, [rows[i] for i in chunk]).cpu() for chunk in chunks])
        return scores[torch.tensor(order).argsort()]

    def _parts(self, params: Params, batch: Rows) -> list[list[int]]:
        """Return a batch in parts of rows of similar length, each of at most `part_tokens` tokens with its padding."""
        count = len(params["prompt"])
        widths = [self.reader.num_tokens(count, [row]) for row in batch.rows]
        parts: list[list[int]] = [[]]
        for i in sorted(range(len(widths)), key=lambda i: widths[i]):
            if parts[-1] and (len(parts[-1]) + 1) * widths[i] > self._part_tokens:
                parts.append([])
            parts[-1].append(i)
        return parts

    def _loss_in_parts(self, params: Params, tuned: Params, batch: Rows, parts: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean loss of a batch, its gradient computed part by part: little padding, and the memory of one part only."""
        leaves = {name: value.detach().requires_grad_() for name, value in tuned.items()}
        total = torch.zeros((), device=self.frozen.device)
        gradients = [torch.zeros_like(value) for value in leaves.values()]
        terms = self.reader.num_terms(batch.targets)
        for which in parts:
            part = batch.take(which)
            weight = self.reader.num_terms(part.targets) / terms
            loss = self.reader.loss({**params, **leaves}, part.rows, part.targets.to(self.frozen.device)) * weight
            for gradient, own in zip(gradients, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                gradient += own
            total += loss.detach()
        # The sums below are exactly zero; what they carry is the gradient.
        carriers = [((value - value.detach()) * gradient).sum() for value, gradient in zip(tuned.values(), gradients, strict=True)]
        return total + torch.stack(carriers).sum().to(total)

    def _score(self, scores: Tensor, rows: Rows, split: Split, tokens: int) -> Score:
        right = scores.argmax(-1) == rows.targets
        recalls = [float(right[rows.targets == c].float().mean()) for c in rows.targets.unique().tolist()]
        metrics = {"accuracy": float(right.float().mean()), "balanced_accuracy": sum(recalls) / len(recalls)}
        loss = float(F.cross_entropy(scores, rows.targets))
        cost = Cost(model_tokens=tokens, scored_examples=len(rows.rows), looks=int(split == "select"))
        return Score(loss, metrics, len(rows.rows), cost)

    def _gradient(self, params: Params, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return the gradient of the mean loss over rows with respect to the soft prompt, and the class scores."""
        prompt = params["prompt"].detach().clone().requires_grad_()
        total, parts = torch.zeros_like(prompt), []
        for begin in range(0, len(rows.rows), self._score_batch):
            part = rows.take(range(begin, min(begin + self._score_batch, len(rows.rows))))
            scores = self.reader.class_scores({**params, "prompt": prompt}, part.rows)
            loss = F.cross_entropy(scores, part.targets.to(scores.device), reduction="sum") / len(rows.rows)
            total += torch.autograd.grad(loss, prompt)[0]
            parts.append(scores.detach().cpu())
        return total, torch.cat(parts)

    def _project(self, params: Params, soft: Score) -> Projection | None:
        """Return the point's words with what they are worth on `select`; None if no words near it survive."""
        try:
            words = self.codec.decode(params)
        except CodecError:
            return None
        hard = self.score({**params, **self.codec.encode(words).params}, "select")
        return Projection(words, hard, hard.loss - soft.loss)

    def _pointing(self, directions: Tensor) -> tuple[Any, ...]:
        return self.codec.nearest(directions, self._clue_tokens) if bool(directions.any()) else ()

    def _confusions(self, wrong: Sequence[tuple[int, int]]) -> tuple[Confusion, ...]:
        labels = self.splits.labels
        counts = Counter((self.splits.train[i].label, labels[p]) for i, p in wrong)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Confusion(label, predicted, count) for (label, predicted), count in ranked)

    def _misread(self, wrong: Sequence[tuple[int, int]], scores: Tensor) -> tuple[Misread, ...]:
        """Return the examples of `train` that are misread with the most confidence."""
        confidence = scores.softmax(-1)
        worst = sorted(wrong, key=lambda pair: (-float(confidence[pair[0], pair[1]]), pair[0]))[: self._clue_misread]
        shown = [(self.splits.train[i], self.splits.labels[p]) for i, p in worst]
        return tuple(Misread(" / ".join(e.fields.values()), e.label, predicted) for e, predicted in shown)

    def _account(self, params: Params) -> tuple[str | None, int]:
        """Return the model's own greedy continuation of its soft prompt, and how many tokens that ran through it."""
        if self._account_tokens < 1 or self.frozen.kind != "decoder":
            return None, 0
        embeddings = params["prompt"].detach().to(self.frozen.model.get_input_embeddings().weight)[None]
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        pad_id = self.frozen.tokenizer.pad_token_id or 0
        with torch.no_grad():
            ids = self.frozen.model.generate(
                inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=self._account_tokens, do_sample=False, pad_token_id=pad_id
            )[0]
        return " ".join(self.frozen.tokenizer.decode(ids, skip_special_tokens=True).split()), len(ids) + embeddings.shape[1]
