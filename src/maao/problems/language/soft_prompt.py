"""The prompt of a frozen language model as a `Problem`, for every prompt method and every way to read a class.

What is tuned is named by the method, ``{"prompt": (num_virtual_tokens, embed_dim)}`` in prompt tuning, and by the reader (a head, where it
has one). Nothing of the frozen model changes.
"""

from __future__ import annotations

import copy
import re
import statistics
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import CodecError, ConfigError, DataError, ModelError, ProblemError, is_out_of_memory
from maao.problems.evidence import Wrong, accuracies, epoch_batch
from maao.problems.language.frame import FRAME, Frame, FramedCodec, without_frame
from maao.problems.language.methods import Method, PromptCodec
from maao.problems.language.methods.prompt_tuning import PromptTuning
from maao.problems.language.readers import LabelWords, Reader, count_in_slots
from maao.problems.towers.text.forward import PrefixCache, embedding_table
from maao.problems.towers.text.loading import FrozenModel
from maao.problems.towers.text.packing import cut_by_length
from maao.problems.towers.text.probes import continues_vectors
from maao.problems.towers.text.template import TemplateTokenizer, Tokenized
from maao.problems.towers.text.tokenized import tokenize_all
from maao.protocols import Params, TokenCodec
from maao.types import TEMPLATE, WORD, Clues, Cost, Example, Projection, Score, Split, Splits

Measure = Callable[[Sequence[Example], Sequence[Sequence[float]]], Mapping[str, float]]
Reframe = Callable[[Frame], tuple[Reader, TemplateTokenizer]]

FRAMES = 8  # proposals' frames that are kept with their tokenized examples
SHORT = 6  # tokens of a text that is short: what is lost of its first one is told
PART_COST = 32  # what another part of a batch costs beside its tokens, in tokens: some layers' worth of small operations


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokenized examples with their class numbers."""

    rows: tuple[Tokenized, ...]
    targets: Tensor  # (batch,)
    seed: int = 0  # of what is random in a pass over them: dropout
    which: tuple[int, ...] | None = None  # their places in the split; None: all of it

    def take(self, which: Sequence[int], seed: int = 0) -> Rows:
        return Rows(tuple(self.rows[i] for i in which), self.targets[list(which)], seed, tuple(which))


class SoftPromptProblem:
    """The soft prompt of a frozen language model, on labelled text.

    Args:
        frozen: the model.
        splits: labelled examples.
        tokenizer: the template, bound to the model's tokenizer.
        reader: how classes are read from the model.
        codec: the words of a soft prompt, and where one begins.
        method: what is trained and what of it the model reads; by default plain prompt tuning.
        measure: further metrics of class scores, by name.
        num_virtual_tokens: rows of the initial soft prompt.
        initial_params: tuned elsewhere, to begin with; what they do not name begins as the codec's random starts do.
        batch_size: examples a gradient step; all of `train` if it is no larger.
        score_batch: examples scored at a time.
        clue_tokens: how many tokens a slot are kept in each clue.
        account_tokens: length of the model's own continuation of its soft prompt (decoders); 0 for none.
        part_tokens: the most tokens, padding included, that a gradient step runs at a time; bounds its memory.
        with_clues: say in words where a leg ended; otherwise clues are empty, and cost nothing.
        frozen_dropout: leave the frozen model's dropout on in training; what is dropped follows from the step's seed.
        max_cache_bytes: the most memory for keys and values of texts before the slots (`train` and `select`, decoders); 0 for none.
        reframe: how classes are read in a proposal's frame; without it, proposals fill the slots alone.
    """

    def __init__(
        self,
        frozen: FrozenModel,
        splits: Splits,
        tokenizer: TemplateTokenizer,
        reader: Reader,
        codec: PromptCodec,
        *,
        method: Method | None = None,
        measure: Measure | None = None,
        num_virtual_tokens: int,
        initial_params: Params | None = None,
        batch_size: int = 32,
        score_batch: int = 64,
        clue_tokens: int = 3,
        clue_misread: int = 5,
        account_tokens: int = 0,
        max_cache_bytes: int = 2 * 2**30,
        part_tokens: int = 512,
        frozen_dropout: bool = False,
        with_clues: bool = True,
        reframe: Reframe | None = None,
    ) -> None:
        for example in splits.train[:1]:
            tokenizer.template.check_fields(example)
        self.frozen, self.splits, self.reader, self._words = frozen, splits, reader, codec
        self.tokenizer, self.template = tokenizer, tokenizer.template
        self.method: Method = method or PromptTuning()
        self._measure = measure
        self._num_virtual_tokens = num_virtual_tokens
        self._initial_params = initial_params
        self._batch_size, self._score_batch = batch_size, score_batch
        self._part_tokens = part_tokens
        self._frozen_dropout, self._with_clues = frozen_dropout, with_clues
        self._clue_tokens, self._clue_misread, self._account_tokens = clue_tokens, clue_misread, account_tokens
        self._rows: Mapping[str, Rows] = {name: self._prepare(getattr(splits, name)) for name in ("train", "select", "test")}
        self._reframe = reframe
        self.codec: TokenCodec[Params] = codec if reframe is None else FramedCodec(codec, self._fields, self.filled)
        self._frame = Frame()  # that this is read in; the problems of proposals' frames are copies of this one
        self._framed: OrderedDict[Frame, SoftPromptProblem] = OrderedDict()
        if frozen_dropout and isinstance(reader, LabelWords):  # what runs once would drop nothing, or the same for all rows
            reader.shares, max_cache_bytes = False, 0
        self._bytes_of_frame = max_cache_bytes // FRAMES
        self._reads_anew = False  # texts are to be kept that are not yet: of a frame, when it is first walked or scored
        self.notes = (*frozen.notes, *self._cut_notes(), *self._lead_notes(), *self._reading_notes(), *self._cache_notes(max_cache_bytes))

    # -- Problem

    def initial(self, seed: int) -> Params:
        return {**self.codec.random(seed), **self.reader.initial(seed_for(seed, "reader")), **(self._initial_params or {})}

    def batch(self, step: int, seed: int) -> Rows:
        rows = self._rows["train"]
        count = len(rows.rows)
        dropout = seed_for(seed, "dropout", step)
        if count <= self._batch_size:
            return replace(rows, seed=dropout)
        return rows.take(epoch_batch(count, self._batch_size, step, seed), dropout)

    def loss(self, params: Params, batch: Rows) -> Tensor:
        here = self._home(params)
        if here is not self:
            return here.loss(without_frame(params), here._as_here(batch))
        with self._room(), self._dropout(batch.seed):
            tuned = {name: value for name, value in params.items() if value.requires_grad}
            parts = self._parts(params, batch)
            if not tuned or not torch.is_grad_enabled():
                parts = [list(range(len(batch.rows)))]
            if len(parts) == 1:
                realized = self.method.realize(params)
                shared, rows = self.reader.share(realized, batch.rows) or (realized, batch.rows)
                return self.reader.loss(shared, rows, batch.targets.to(self.frozen.device))
            return self._loss_in_parts(params, tuned, batch, parts)

    def num_tokens(self, params: Params, batch: Rows) -> int:
        here = self._home(params)
        if here is not self:
            return here.num_tokens(without_frame(params), here._as_here(batch))
        return self.reader.num_tokens(count_in_slots(params), batch.rows, batch.targets)

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        """Return the scores of points on a split. A text before the slots of a causal model is read once for all of them."""
        if not getattr(self.splits, split, ()):
            raise ProblemError(f"There are no examples in the split '{split}' to score.")
        homes = [self._home(point) for point in points]
        if any(home is not self for home in homes):
            return self._score_framed(points, homes, split)
        rows = self._rows[split]
        with torch.no_grad(), self._room():
            scores, once = self._class_scores(points, rows.rows)
        examples = getattr(self.splits, split)
        found = []
        for i, (point, own) in enumerate(zip(points, scores, strict=True)):
            tokens = self._scored_tokens(point, rows.rows, after_text=once > 0) + (once if i == 0 else 0)
            found.append(self._score(own, rows, examples, split, tokens))
        return tuple(found)

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        if not self._with_clues:
            return Clues()
        here = self._home(params)
        if here is not self:
            return here.clues(without_frame(params), start=None if start is None else without_frame(start), score=score)
        rows = self._rows["train"]
        with self._room():
            gradient, scores = self._gradient(params, rows)
        tokens = 2 * self.reader.num_tokens(count_in_slots(params), rows.rows)
        wrong = Wrong.of(self.splits, scores, rows.targets)
        own = score or self.score([params], "select")[0]
        projection, words = self._project(params, own)
        hard = projection.score.cost if projection else Cost()
        now = self._in_words(params)
        then = None if start is None else self._in_words(start)
        moved = None if then is None or then.shape != now.shape else now - then
        account, generated = self._account(params)
        return Clues(
            projection=projection,
            nearest=self._words.nearest(now, self._clue_tokens),
            gradient=self._pointing(-gradient),
            displacement=() if moved is None else self._pointing(moved),
            confusions=wrong.confusions(),
            misread=wrong.worst(self._clue_misread, lambda e: " / ".join(e.fields.values())),
            account=account,
            cost=hard + words + Cost(model_tokens=tokens + generated, scored_examples=len(rows.rows)),
        )

    # -- frames

    @property
    def _fields(self) -> tuple[str, ...]:
        """The names of what proposals may fill: a head has no label words, and examples with choices have words of their own."""
        words = isinstance(self.reader, LabelWords) and not any(example.choices for example in self.splits.train)
        return (TEMPLATE, *(WORD + label for label in self.splits.labels)) if words else (TEMPLATE,)

    def filled(self, fields: Mapping[str, str]) -> Params:
        """Return the params of what a proposal fills in beside the slots, by name (see `Frame.from_fields`).

        Raises:
            CodecError: it is no template of these examples, or its words cannot be written or told apart.
        """
        frame = Frame.from_fields(fields, self.splits.labels)
        if frame.template is not None and sorted(_shown(frame.template)) != sorted(_shown(str(self.template))):
            own = ", ".join(f"{{{name}}}" for name in _shown(str(self.template)))
            raise CodecError(f"The template {frame.template!r} must hold each of these once, and nothing else in braces: {own}.")
        params = {FRAME: frame.tensor()}
        try:
            here = self.framed(params)
            here.tokenizer(dict.fromkeys(here.template.fields, ""))  # is there room for it?
        except (ConfigError, ModelError, DataError) as error:
            raise CodecError(str(error)) from error
        return params

    def framed(self, params: Params) -> SoftPromptProblem:
        """Return the problem as params read it: this one, or a copy in the frame that they name."""
        frame = Frame.of(params)
        if frame is None or frame == self._frame:
            return self
        found = self._framed.pop(frame, None) or self._copied_into(frame)
        self._framed[frame] = found  # the last one used, at the end
        if len(self._framed) > FRAMES:
            self._framed.popitem(last=False)
        return found

    def _copied_into(self, frame: Frame) -> SoftPromptProblem:
        """Return this problem in a frame."""
        if self._reframe is None:
            raise ProblemError("These params name a template or label words of their own, and this problem was built without them.")
        reader, tokenizer = self._reframe(frame)
        framed = copy.copy(self)
        framed.reader, framed.tokenizer, framed.template = reader, tokenizer, tokenizer.template
        framed._rows, framed._frame = _Prepared(framed), frame
        if isinstance(reader, LabelWords) and isinstance(self.reader, LabelWords):
            reader.shares = self.reader.shares
            if tokenizer.before == self.tokenizer.before:
                reader.cache = self.reader.cache
            else:
                framed._reads_anew = self._bytes_of_frame > 0 and self._reads_text_first
        return framed

    def _home(self, params: Params) -> SoftPromptProblem:
        """Return the problem as params read it, its texts before the slots kept as this one's are, in its share of their memory."""
        home = self.framed(params)
        if home._reads_anew:
            home._reads_anew = False
            assert isinstance(home.reader, LabelWords)
            home.reader.keep_prefixes(
                self._num_virtual_tokens, [*home._rows["train"].rows, *home._rows["select"].rows], self._bytes_of_frame
            )
        return home

    def prefill_cost(self, points: Sequence[Params], known: Sequence[Params]) -> Cost:
        """Return what points cost beside walks and scores: the texts before the slots are read once in each template that is new."""
        seen = {Frame.of(point) for point in known}
        new = {frame: point for point in points if (frame := Frame.of(point)) not in seen}
        homes = [home for home in map(self._home, new.values()) if home.tokenizer.before != self.tokenizer.before]
        return Cost(model_tokens=sum(home._kept_tokens for home in homes))

    @property
    def label_words(self) -> Mapping[str, str]:
        """What a proposal's frame says for each label; empty where that is as the config says."""
        return dict(zip(self.splits.labels, self._frame.label_words, strict=True)) if self._frame.label_words else {}

    def _as_here(self, batch: Rows) -> Rows:
        """Return a batch that another frame's problem made, as this one reads its examples."""
        rows = self._rows["train"]
        return replace(rows, seed=batch.seed) if batch.which is None else rows.take(batch.which, batch.seed)

    def _score_framed(self, points: Sequence[Params], homes: Sequence[SoftPromptProblem], split: Split) -> tuple[Score, ...]:
        """Return scores of points in several frames: those of one frame together, all in their order."""
        found: dict[int, Score] = {}
        for home in dict.fromkeys(homes):
            own = [i for i, other in enumerate(homes) if other is home]
            found |= zip(own, home.score([without_frame(points[i]) for i in own], split), strict=True)
        return tuple(found[i] for i in range(len(points)))

    # -- using a tuned prompt

    @property
    def fields(self) -> tuple[str, ...]:
        return self.template.fields

    def split_probabilities(self, params: Params, split: Split) -> Tensor:
        """Return ``(num_examples, num_classes)`` probabilities of the examples of a split."""
        here = self._home(params)
        with torch.no_grad(), self._room():
            return here._class_scores([without_frame(params)], here._rows[split].rows)[0][0].softmax(-1)

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        """Return how many tokens of each input do not fit the model's context."""
        rows = map(self.framed(params).tokenizer.example, inputs)
        return tuple(max([row.cut, *(choice.cut for choice in row.choices)]) for row in rows)

    def probabilities(self, params: Params, examples: Sequence[Mapping[str, str] | Example]) -> Tensor:
        """Return ``(len(examples), num_classes)`` probabilities for unlabelled examples, given as their text fields (or as examples)."""
        here = self.framed(params)
        if here is not self:
            return here.probabilities(without_frame(params), examples)
        given = [fields if isinstance(fields, Example) else Example(fields, "") for fields in examples]
        for example in given:
            self.template.check_fields(example)
        with torch.no_grad():
            return self._class_scores([params], [self.tokenizer.example(example) for example in given])[0][0].softmax(-1)

    # -- parts

    def _prepare(self, examples: Sequence[Example], *, keep: bool = True) -> Rows:
        numbers = {label: i for i, label in enumerate(self.splits.labels)}
        rows = tokenize_all(self.tokenizer, examples) if keep else tuple(map(self.tokenizer.example, examples))
        return Rows(rows, torch.tensor([numbers[e.label] for e in examples], dtype=torch.long))

    def _cut_notes(self) -> Iterator[str]:
        for name, rows in self._rows.items():
            cut = [cut for row in rows.rows if (cut := max([row.cut, *(choice.cut for choice in row.choices)]))]
            if cut:
                yield f"{len(cut)} of {len(rows.rows)} texts of {name} were cut to fit the context, by at most {max(cut)} tokens"

    def _lead_notes(self) -> Iterator[str]:
        """Say that a short text stands first in the input, whose first token a decoder reads worse than the others.

        Measured on SmolLM2-135M, loss before tuning with a word in front: lower by 0.5 to 0.7 where texts are names of 3 tokens, by 0.03
        to 0.2 for headlines of 9, not for film reviews of 25.
        """
        own = self.tokenizer
        bare = own.kind == "decoder" and not (own.prefix or self.template.chat or self.template.front) and own.before.startswith("{")
        length = statistics.median([len(row.before) for row in self._rows["train"].rows] or [SHORT + 1])
        if bare and length <= SHORT:
            yield (
                f"each input begins with a short text ({length:.0f} tokens in the median), and a model reads the first token of its input "
                f"worse than the others: a word in front of it may help, such as model.template = {'Text: ' + str(self.template)!r}"
            )

    def _reading_notes(self) -> list[str]:
        """Try how the model reads rows as long as those of the run; say what is slower than it could be."""
        rows = [row for part in self._rows.values() for row in part.rows]
        return self.reader.notes(self._num_virtual_tokens, rows) if rows else []

    def _cache_notes(self, max_bytes: int) -> Iterator[str]:
        """Keep what `train` and `select`, which are read again and again, have before their slots; say so where that cannot be done."""
        if max_bytes > 0 and isinstance(self.reader, LabelWords) and self._reads_text_first:
            rows = [*self._rows["train"].rows, *self._rows["select"].rows]
            reason = self.reader.keep_prefixes(self._num_virtual_tokens, rows, max_bytes)
            if reason:
                yield f"every step reads the texts anew, which is slower: {reason}"

    @property
    def prepared(self) -> Cost:
        """What was run through the model once, before the first step."""
        return Cost(model_tokens=self._kept_tokens + self._words.start_tokens)

    @property
    def _kept_tokens(self) -> int:
        """The tokens of the texts whose keys and values are kept."""
        cache = self.reader.cache if isinstance(self.reader, LabelWords) else None
        return cache.num_tokens if cache is not None else 0

    @cached_property
    def _reads_text_first(self) -> bool:
        """Say whether a causal model reads text before anything that is tuned: deep prompts stand in front of all of it."""
        return self.frozen.kind == "decoder" and "prompt" in self.method.start(embedding_table(self.frozen)[:1].cpu())

    def _in_words(self, params: Params) -> Tensor:
        with torch.no_grad():
            return self.method.in_words(self.method.realize(params))

    def _class_scores(self, points: Sequence[Params], rows: Sequence[Tokenized]) -> tuple[list[Tensor], int]:
        """Return for each point ``(len(rows), num_classes)`` scores, and the tokens of text that were read once for all points.

        Rows of similar length are scored together.
        """
        realized = [self.method.realize(point) for point in points]
        shared = [self.reader.share(point, rows) for point in realized]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        chunks = [order[i : i + self._score_batch] for i in range(0, len(order), self._score_batch)]
        found: list[list[Tensor]] = [[] for _ in points]
        once = 0
        for chunk in chunks:
            part = [rows[i] for i in chunk]
            with self._texts_read_once(part, [point for point, common in zip(realized, shared, strict=True) if common is None]) as tokens:
                for own, point, common in zip(found, realized, shared, strict=True):
                    params, short = (point, part) if common is None else (common[0], [common[1][i] for i in chunk])
                    own.append(self.reader.class_scores(params, short).float().cpu())
            once += tokens
        back = torch.tensor(order).argsort()
        return [torch.cat(own)[back] for own in found], once

    @contextmanager
    def _texts_read_once(self, rows: Sequence[Tokenized], points: Sequence[Params]) -> Iterator[int]:
        """Keep the keys and values of these rows' texts while several points are scored on them; give the tokens that this took."""
        reader = self.reader
        worth_it = len(points) > 1 and isinstance(reader, LabelWords) and self._reads_text_first and any(row.before for row in rows)
        if not worth_it or not isinstance(reader, LabelWords) or reader.holds(rows):
            yield 0
            return
        if not reader.reads_kept(max(map(count_in_slots, points)), rows):
            yield 0
            return
        kept, reader.cache = reader.cache, PrefixCache(self.frozen)
        try:
            reader.cache.fill(rows)
            yield reader.cache.num_tokens
        finally:
            reader.cache = kept

    def _scored_tokens(self, params: Params, rows: Sequence[Tokenized], *, after_text: bool) -> int:
        in_slots = count_in_slots(params)
        if not after_text:
            return self.reader.num_tokens(in_slots, rows)
        return sum(self.reader.num_tokens(in_slots, [replace(row, before=())]) for row in rows)  # one by one: none of it is shared

    def _parts(self, params: Params, batch: Rows) -> list[list[int]]:
        """Return a batch in parts of rows of similar length, each of at most `part_tokens` tokens with its padding.

        Of all ways to cut the rows, sorted by length, the one that costs least: tokens with their padding, and `PART_COST` for each part.
        Rows that are packed have no padding: they are cut into equal parts.
        """
        widths = self.reader.widths(count_in_slots(params), batch.rows)
        order = sorted(range(len(widths)), key=lambda i: widths[i])
        if self.reader.packs(count_in_slots(params), batch.rows):
            return _cut_evenly(order, widths, self._part_tokens)
        cuts = cut_by_length([widths[i] for i in order], PART_COST, self._part_tokens)
        return [order[begin:end] for begin, end in cuts]

    def _loss_in_parts(self, params: Params, tuned: Params, batch: Rows, parts: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean loss of a batch, its gradient computed part by part: little padding, and the memory of one part only.

        A network's output is computed once, and its gradient is summed over the parts before it goes on to the params.
        """
        own = {name: value.detach().requires_grad_() for name, value in tuned.items()}
        weights = self.reader.weights(batch.rows, batch.targets.to(self.frozen.device))
        losses = []

        def part_loss(read: Params, rows: Sequence[Tokenized], which: list[int]) -> Tensor:
            targets = batch.targets[which].to(self.frozen.device)
            loss = self.reader.loss(read, rows, targets) * (weights[which].sum() / weights.sum())
            losses.append(loss.detach())
            return loss

        gradients = self._summed_gradients(self.method.realize({**params, **own}), list(own.values()), batch.rows, parts, part_loss)
        total = torch.zeros((), device=self.frozen.device)
        for loss in losses:
            total += loss
        # The sums below are exactly zero; what they carry is the gradient.
        carriers = [
            ((value - value.detach()) * gradient.to(value)).sum().to(total)
            for value, gradient in zip(tuned.values(), gradients, strict=True)
            if gradient is not None
        ]
        return total + torch.stack(carriers).sum()

    def _summed_gradients(
        self,
        realized: Params,
        wanted: Sequence[Tensor],
        rows: Sequence[Tokenized],
        parts: Sequence[Sequence[int]],
        part_loss: Callable[[Params, Sequence[Tokenized], list[int]], Tensor],
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of the sum of all parts' losses with respect to what `realized` follows from; None: nothing follows from it.

        Keys and values of slots that open every row are computed once. What goes on from there is the gradient that all parts sum up to.
        """
        read, short = self.reader.share(realized, rows) or (realized, rows)
        moving = {name: value for name, value in read.items() if value.requires_grad}
        leaves = {name: value.detach().requires_grad_() for name, value in moving.items()}
        summed = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in leaves.items()}  # bf16 would lose small parts
        for which in parts:
            index = list(which)
            loss = part_loss({**read, **leaves}, [short[i] for i in index], index)
            for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True), strict=True):
                if gradient is not None:
                    summed[name] += gradient
        carried = [gradient.to(value.dtype) for gradient, value in zip(summed.values(), moving.values(), strict=True)]
        return torch.autograd.grad(list(moving.values()), list(wanted), carried, allow_unused=True)

    def _score(self, scores: Tensor, rows: Rows, examples: Sequence[Example], split: Split, tokens: int) -> Score:
        metrics = accuracies(scores, rows.targets)
        if self._measure is not None:
            metrics |= self._measure(examples, scores.tolist())
        loss = float(F.cross_entropy(scores, rows.targets))
        cost = Cost(model_tokens=tokens, scored_examples=len(rows.rows), selection_evals=int(split == "select"))
        return Score(loss, metrics, len(rows.rows), cost)

    @contextmanager
    def _dropout(self, seed: int) -> Iterator[None]:
        """Let the frozen model drop out what a seed says, where that is wanted."""
        if not self._frozen_dropout:
            yield
            return
        devices = [self.frozen.device] if self.frozen.device.type == "cuda" else []
        self.frozen.model.train()
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                yield
        finally:
            self.frozen.model.eval()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say what to do where an accelerator's memory does not suffice."""
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ProblemError(
                f"There is no room in memory for a part of a batch: {str(error).splitlines()[0]} Lower model.part_tokens (now "
                f"{self._part_tokens}) or model.score_batch (now {self._score_batch}), or set model.memory_mib."
            ) from error

    def _gradient(self, params: Params, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return the gradient of the mean loss over rows with respect to what is compared with words, and the class scores."""
        with torch.no_grad():
            realized = self.method.realize(params)
        leaves = {name: realized[name].detach().clone().requires_grad_() for name in realized if name in ("prompt", "keys", "values")}
        count = len(rows.rows)
        scores: list[Tensor] = []

        def part_loss(read: Params, part: Sequence[Tokenized], which: list[int]) -> Tensor:
            own = self.reader.class_scores(read, part)
            scores.append(own.detach().cpu())
            return F.cross_entropy(own, rows.targets[which].to(own.device), reduction="sum") / count

        # Rows whose texts are held are short: they run as many at a time as they are scored.
        reader = self.reader
        held = isinstance(reader, LabelWords) and reader.holds(rows.rows) and not reader.can_share(count_in_slots(realized), rows.rows)
        chunks = [range(begin, min(begin + self._score_batch, count)) for begin in range(0, count, self._score_batch)]
        parts: Sequence[Sequence[int]] = chunks if held else self._parts(params, rows)
        found = self._summed_gradients({**realized, **leaves}, list(leaves.values()), rows.rows, parts, part_loss)
        total = {
            name: torch.zeros_like(value) if gradient is None else gradient
            for (name, value), gradient in zip(leaves.items(), found, strict=True)
        }
        back = torch.tensor([i for part in parts for i in part]).argsort()
        return self.method.in_words(total), torch.cat(scores)[back]

    def _project(self, params: Params, soft: Score) -> tuple[Projection | None, Cost]:
        """Return the point's words with what they are worth on `select`, and what it cost to find them and to start there."""
        decoded = self._words.decode(params)
        if decoded.text is None:
            return None, decoded.cost
        start = self._words.encode(decoded.text)
        (hard,) = self.score([{**params, **start.params}], "select")
        return Projection(decoded.text, hard, hard.loss - soft.loss), decoded.cost + start.cost

    def _pointing(self, directions: Tensor) -> tuple[Any, ...]:
        return self._words.nearest(directions, self._clue_tokens) if bool(directions.any()) else ()

    def _account(self, params: Params) -> tuple[str | None, int]:
        """Return the model's own greedy continuation of its soft prompt, and how many tokens that ran through it."""
        if self._account_tokens < 1 or not continues_vectors(self.frozen):
            return None, 0
        realized = self.method.realize(params)
        if "prompt" not in realized:
            return None, 0
        embeddings = realized["prompt"].detach().to(self.frozen.model.get_input_embeddings().weight)[None]
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        pad_id = self.frozen.tokenizer.pad_token_id or 0
        with torch.no_grad():
            ids = self.frozen.model.generate(
                inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=self._account_tokens, do_sample=False, pad_token_id=pad_id
            )[0]
        return " ".join(self.frozen.tokenizer.decode(ids, skip_special_tokens=True).split()), len(ids) + embeddings.shape[1]


class _Prepared(dict[str, Rows]):
    """The tokenized splits of a problem in another frame, made when they are wanted."""

    def __init__(self, problem: SoftPromptProblem) -> None:
        super().__init__()
        self._problem = problem

    def __missing__(self, split: str) -> Rows:
        self[split] = self._problem._prepare(getattr(self._problem.splits, split), keep=False)
        return self[split]


def _shown(template: str) -> list[str]:
    """Return all that a template has in braces."""
    return re.findall(r"\{([^}]*)\}", template[: template.rfind("}") + 1])  # each search ends at a brace: no time is lost on open ones


def _cut_evenly(order: Sequence[int], widths: Sequence[int], most: int) -> list[list[int]]:
    """Return rows, in their order, in as few parts of at most `most` tokens as can be, about equally large."""
    total = sum(widths)
    aim = total / max(1, -(-total // most))
    parts: list[list[int]] = [[]]
    filled = 0
    for i in order:
        if parts[-1] and filled + widths[i] > min(most, aim + widths[i] / 2):
            parts.append([])
            filled = 0
        parts[-1].append(i)
        filled += widths[i]
    return parts
