"""Classification by a frozen model, as a `Problem`: made of a prompt method, a way to read classes, the words of its params, and data.

What is tuned is named by the method, ``{"prompt": (num_virtual_tokens, embed_dim)}`` in prompt tuning, and by the scorer (a head, where it
has one). Nothing of the frozen model changes. Texts and pictures differ in how an example is read alone (`InputReader`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.class_lines import Line
from maao.core.seeds import seed_for
from maao.errors import ProblemError, is_out_of_memory
from maao.evaluation.metrics import Measure
from maao.members import walks_of
from maao.problems.adopted import adopted
from maao.problems.averages import average, counted, forward_selection, mean_scores
from maao.problems.clues import Errors, gradient, pointing
from maao.problems.gradients import loss_in_parts
from maao.problems.methods import PromptMethod
from maao.problems.scorers import ClassScorer, DataStart, I, InputReader, MadeOfTrain, ReadsClassLines, StartsFromData
from maao.problems.scoring import accuracies, all_finite, class_scores, epoch_batch, realized, unreadable, wrong_where
from maao.problems.shares import current_share
from maao.protocols import Codec, Params, Vocabulary
from maao.types import Clues, Cost, Example, Projection, Score, Split, Splits

MOST_MISREAD = 200  # examples that are told of a point without words, where they are all there is to tell
UNJUDGED = Score(math.nan)  # of a point where no example judges
Continuation = Callable[[Params], tuple[str | None, int]]  # of realized params: the model's own words, and the tokens that took


class PromptCodec(Codec[Params], Protocol):
    """The codec of a method's params, which knows where a run begins."""

    @property
    def start_tokens(self) -> int:
        """The tokens that a random start runs through the model."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Which examples of `train`, a view of each (None: as they are), their class numbers ``(batch,)``, and the seed of what is dropped."""

    which: Sequence[int]
    views: tuple[int, ...] | None
    targets: Tensor
    seed: int


@dataclass(frozen=True, slots=True)
class ReadSplit:
    """What a point read of a split: class scores ``(num_examples, num_classes)``, and the tokens that they took."""

    scores: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What is said of a point by twins that were tuned without some of the examples, in place of its own score on `select`.

    `words_score` says what params that words replace are worth, `read` reads the labelled examples of `train`, in their order.
    """

    words_score: Callable[[Params], Score]
    read: Callable[[], ReadSplit]


class ClassificationProblem(Generic[I]):
    """Few or many labelled examples, read by a frozen model.

    Args:
        method: what is trained, and what of it the model reads.
        scorer: how classes are read.
        codec: the words of params, and where a run begins.
        reader: turns examples into what `scorer` reads.
        splits: labelled examples.
        measure: further metrics of class scores, by name.
        initial_params: tuned beforehand, to begin with; what they do not name begins as the codec's random starts do.
        batch_size: examples a gradient step; all of `train` if it is no larger.
        score_batch: examples scored at a time.
        part_tokens: the most tokens, padding included, that a gradient step runs at a time; bounds its memory.
        clue_tokens: how many tokens a slot are kept in each clue.
        clue_misclassified: how many misread examples are.
        with_clues: say in words where a leg ended; otherwise clues are empty, and cost nothing.
        train: the examples of `train`, where they are read already.
        continuation: the model's own continuation of what it reads; None: it has none.
    """

    def __init__(
        self,
        method: PromptMethod,
        scorer: ClassScorer[I],
        codec: PromptCodec,
        reader: InputReader[I],
        splits: Splits,
        *,
        measure: Measure | None = None,
        initial_params: Params | None = None,
        batch_size: int = 32,
        score_batch: int = 64,
        part_tokens: int = 512,
        clue_tokens: int = 3,
        clue_misclassified: int = 5,
        with_clues: bool = True,
        train: I | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        self.method, self.scorer, self.codec, self.reader, self.splits = method, scorer, codec, reader, splits
        self.notes: tuple[str, ...] = ()
        self.transfer_sets: dict[str, ClassificationProblem[I]] = {}  # where what was tuned is judged besides, by name
        self._measure, self._initial_params, self._continuation = measure, initial_params, continuation
        self._batch_size, self._score_batch, self._part_tokens = batch_size, score_batch, part_tokens
        self._clue_tokens, self._clue_misread = clue_tokens, clue_misclassified
        self._vocabulary = codec if with_clues and isinstance(codec, Vocabulary) else None
        self._with_clues = with_clues
        self._inputs: dict[str, I] = {} if train is None else {"train": train}
        self._origin: tuple[Params, tuple[str, ...]] | None = None  # where it begins instead, and the classes there
        self._data_starts: dict[int, DataStart] = {}  # by the seed
        self._examples: dict[str, tuple[Example, ...]] = {"train": splits.train, "select": splits.select, "test": splits.test}
        self._rows: tuple[Line, ...] = ()  # the class lines that gradients read behind the examples of `train`
        self._rows_tokens = 0  # that reading them once took
        self._mean_weight: float | None = None  # of all rows of `train` in the loss, once it was asked for
        self._targets = {name: self._numbers([example.label for example in part]) for name, part in self._examples.items()}
        for name in self._examples:
            self.inputs(name)
        if splits.lines:
            self._join(splits.lines)

    def inputs(self, split: str) -> I:
        """Return a split as the scorer reads it; `train` as gradients do, with class lines behind its examples."""
        if split not in self._inputs:
            found = self.reader.split(self._examples[split], train=split == "train")
            self._inputs[split] = found.beside(self._read_lines(self._rows)) if split == "train" and self._rows else found
        return self._inputs[split]

    def with_lines(self, lines: Sequence[Line]) -> Self:
        """Return the same problem, in which these class lines train too. They are in no part that judges or reports."""
        found = copy.copy(self)
        found.splits = replace(self.splits, lines=(*self.splits.lines, *lines))
        found._inputs, found._targets, found._data_starts = dict(self._inputs), dict(self._targets), {}
        found._mean_weight = None
        found._join(lines)
        return found

    def _join(self, lines: Sequence[Line]) -> None:
        """Let lines train: as texts of the classes where the scorer reads them so, the others as rows behind those of `train`."""
        left = [line for line in lines if line.weight > 0]
        if isinstance(self.scorer, ReadsClassLines):
            read = [line for line in left if self.scorer.reads(line)]
            left = [line for line in left if not self.scorer.reads(line)]
            self.scorer = self.scorer.with_lines(read, self.splits.labels)
        if left:
            read_as = self._read_lines(left)
            self._rows_tokens += read_as.kept_tokens
            self._inputs["train"] = self.inputs("train").beside(read_as)
            self._targets["train"] = torch.cat([self._targets["train"], self._numbers([line.label for line in left])])
            self._rows = (*self._rows, *left)
        if isinstance(self.scorer, MadeOfTrain):
            self.scorer = self.scorer.made_of(self.inputs("train"), self._targets["train"])

    def line_scores(self, params: Params, lines: Sequence[Line]) -> ReadSplit:
        """Return ``(num_lines, num_classes)``, what a point that a run begins at says of class lines, and the tokens that this took.

        Features that are kept are not counted: reading them once is of a point that trains on them.
        """
        scorer, found = self.scorer, torch.zeros(len(lines), len(self.splits.labels))
        if isinstance(scorer, ReadsClassLines):
            params = scorer.doubting(params)
        read = [i for i, line in enumerate(lines) if isinstance(scorer, ReadsClassLines) and scorer.reads(line)]
        rows = [i for i in range(len(lines)) if i not in {*read}]
        tokens = 0
        if rows:
            inputs = self._read_lines([lines[i] for i in rows])
            (found[rows],), once = self._class_scores([params], inputs)
            tokens = self.scorer.num_tokens(params, inputs, known=once > 0) + once
        if read:
            assert isinstance(scorer, ReadsClassLines)
            with torch.no_grad():
                found[read] = scorer.line_scores(self._realized(params), [lines[i] for i in read]).float().cpu()
        return ReadSplit(found, tokens)

    def _read_lines(self, lines: Sequence[Line]) -> I:
        """Return lines as the scorer reads rows, each by its weight."""
        name = self.reader.fields[0]
        return self.reader.given([Example({name: line.text}, line.label) for line in lines]).weighted([line.weight for line in lines])

    def _numbers(self, labels: Sequence[str]) -> Tensor:
        """Return the numbers of classes ``(len(labels),)``."""
        numbers = {label: i for i, label in enumerate(self.splits.labels)}
        return torch.tensor([numbers[label] for label in labels], dtype=torch.long)

    def labelled(self, split: str) -> tuple[I, Tensor]:
        """Return the labelled examples of a split as the scorer reads them, and their class numbers: of `train`, without the lines."""
        inputs, targets = self.inputs(split), self._targets[split]
        count = len(self._examples[split])
        return (inputs, targets) if count == len(targets) else (inputs.take(range(count)), targets[:count])

    def read(self, batch: Batch) -> I:
        """Return a batch as the scorer reads it."""
        return self.inputs("train").take(batch.which, batch.views)

    def problem_for(self, params: Params) -> Self:
        """Return the problem as params read it: this one."""
        return self

    def read_by(self, scorer: ClassScorer[I], reader: InputReader[I]) -> Self:
        """Return the same problem with classes and examples read in another way, each split when it is first asked for."""
        found = copy.copy(self)
        found.scorer, found.reader, found._inputs, found._data_starts, found._mean_weight = scorer, reader, {}, {}, None
        if self._rows and isinstance(scorer, MadeOfTrain):
            found.scorer = scorer.made_of(found.inputs("train"), found._targets["train"])  # of lines too
        return found

    def part(self, train_places: Sequence[int], select_places: Sequence[int]) -> Self:
        """Return the same problem on a part of `train`, judged by another part of it; both are places in `train`. Nothing is read anew.

        It begins as a run does by itself, wherever the whole begins.
        """
        found = copy.copy(self)
        whole, every = self.inputs("train"), len(self._targets["train"])
        lines = list(range(len(self.splits.train), every))  # which train in every part
        chosen: dict[str, list[int]] = {"train": list(train_places), "select": list(select_places), "test": []}
        found._examples = {name: tuple(self.splits.train[i] for i in places) for name, places in chosen.items()}
        read = {**chosen, "train": [*train_places, *lines]}
        found._inputs = {name: whole.take(places) for name, places in read.items()}
        found._targets = {name: self._targets["train"][places] for name, places in read.items()}
        train, select, test = found._examples.values()
        found.splits = replace(self.splits, train=train, select=select, test=test, folds=(), digest="")
        found.transfer_sets, found._data_starts = {}, {}
        found._mean_weight = None
        found._origin = None  # another run's point has seen the labels that a part is judged by
        if isinstance(self.scorer, MadeOfTrain):
            found.scorer = self.scorer.made_of(found._inputs["train"], found._targets["train"])
        return found

    @property
    def prepared(self) -> Cost:
        """What was run through the model once, before the first step."""
        return Cost(model_tokens=self.read_tokens + self.reader.prepared_tokens) + self.start_cost

    @property
    def read_tokens(self) -> int:
        """The tokens that ran through the model once, before the first step, beside those of the examples."""
        return self.scorer.prepared_tokens + self._rows_tokens

    @property
    def start_cost(self) -> Cost:
        """What a beginning runs through the model."""
        tokens = self.codec.start_tokens
        if isinstance(self.scorer, StartsFromData):
            tokens += self.scorer.start_tokens(self._realized(self.codec.random(0)), self.inputs("train"))
        return Cost(model_tokens=tokens)

    # -- Problem

    def initial(self, seed: int) -> Params:
        given = self._initial_params or {}
        start = {
            **self.codec.random(seed),
            **self.method.extra(seed_for(seed, "method")),
            **self.scorer.extra(seed_for(seed, "reader")),
        }
        if isinstance(self.scorer, StartsFromData):
            if seed not in self._data_starts:
                with torch.no_grad(), self._room():
                    point = self._realized({**start, **given})
                    self._data_starts[seed] = self.scorer.start(point, self.inputs("train"), self._targets["train"], seed)
            start |= self._data_starts[seed].params
        fresh = {**start, **given}
        if self._origin is None:
            return fresh
        own = {name for name, value in self.scorer.extra(seed).items() if value.dim()}  # one row a class, but for a scale
        contexts = {name for name in self.codec.random(seed) if fresh[name].dim() == 3 and len(fresh[name]) == len(self.splits.labels)}
        return adopted(fresh, self._origin[0], self.splits.labels, self._origin[1], own | contexts)

    def begin_from(self, params: Params, labels: Sequence[str]) -> tuple[str, ...]:
        """Begin where another run's point stands, which had these classes, in place of where one begins by itself.

        Returns:
            What is to be told of what does not go on.
        """
        self._origin = dict(params), tuple(labels)
        return ()

    def start_note(self, seed: int) -> str:
        """Return what is to be said of how `initial` of that seed was found; empty: nothing."""
        self.initial(seed)
        return self._data_starts[seed].note if seed in self._data_starts else ""

    def batch(self, step: int, seed: int) -> Batch:
        count, num_views = len(self._targets["train"]), self.inputs("train").num_views
        if not (count or self.splits.lines):  # a scorer may read all lines as texts of the classes
            raise ProblemError("There are no examples in the split 'train' to walk on.")
        part = epoch_batch(count, self._batch_size, step, seed)
        which: Sequence[int] = range(count) if part is None else part.tolist()
        views = None
        if num_views:
            drawn = torch.randint(num_views, (len(which),), generator=torch.Generator().manual_seed(seed_for(seed, "views", step)))
            views = tuple(drawn.tolist())
        targets = self._targets["train"]
        return Batch(which, views, targets if part is None else targets[part], seed_for(seed, "dropout", step))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        inputs, factor = self.read(batch), self._factor(batch)
        with self._room(), self.scorer.training(batch.seed):
            share = current_share()
            if share is not None:
                mine = share.of(len(batch.which))
                own = self.scorer.parts(params, inputs.take(mine), self._part_tokens) if mine else []
                parts = [[mine[i] for i in part] for part in own]
                return loss_in_parts(self.method, self.scorer, params, inputs, batch.targets, parts, factor, share)
            parts = self.scorer.parts(params, inputs, self._part_tokens)
            if len(parts) > 1 and torch.is_grad_enabled() and any(value.requires_grad for value in params.values()):
                return loss_in_parts(self.method, self.scorer, params, inputs, batch.targets, parts, factor)
            point = self._realized(params)
            read, short = self.scorer.share(point, inputs) or (point, inputs)
            return self.scorer.loss(read, short, batch.targets.to(self.scorer.device), factor)

    def _factor(self, batch: Batch) -> float:
        """Return how much the rows of a batch weigh, against as many of `train` on the average; 1 where all of `train` is the batch.

        A mean over the batch alone would let rows that hardly weigh anything count as much as any others wherever they are among
        themselves. So multiplied, the batches of an epoch say on the average what all of `train` says.
        """
        every = self._targets["train"]
        if not self._rows or len(batch.which) == len(every):
            return 1.0
        if self._mean_weight is None:
            self._mean_weight = float(self.scorer.weights(self.inputs("train"), every.to(self.scorer.device)).double().mean())
        own = float(self.scorer.weights(self.read(batch), batch.targets.to(self.scorer.device)).double().mean())
        return own / self._mean_weight if self._mean_weight else 1.0

    def num_tokens(self, params: Params, batch: Batch) -> int:
        # A probe on kept features runs nothing; a step is counted all the same.
        return max(1, self.scorer.num_tokens(params, self.read(batch), batch.targets))

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        """Return the scores of points on a split. What they read alike, such as a text before the slots, is read once for all of them."""
        if split == "select" and self.splits.is_unlabelled:
            return (UNJUDGED,) * len(points)
        return tuple(score for score, _ in self.judged(points, split))

    def read_split(self, points: Sequence[Params], split: Split) -> tuple[ReadSplit, ...]:
        """Return the class scores of each point on a split, and the tokens that they took."""
        if not self._examples.get(split):
            raise ProblemError(f"There are no examples in the split '{split}' to score.")
        if not points:
            return ()
        inputs, _ = self.labelled(split)
        scores, once = self._class_scores(points, inputs)
        found = []
        for i, (point, own) in enumerate(zip(points, scores, strict=True)):
            tokens = sum(self.scorer.num_tokens(walk, inputs, known=once > 0) for walk in walks_of(point)) + (once if i == 0 else 0)
            found.append(ReadSplit(own, tokens))
        return tuple(found)

    def average(self, points: Sequence[Params], counts: Sequence[int]) -> Params:
        """Return one point that reads an input by the mean of the class scores of several: as many passes, and one answer."""
        return average(points, counts)

    def pick(self, points: Sequence[Params], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count in an average (see `forward_selection`), and what it cost to score them."""
        return self.picked(self.read_split(points, "select"), picks)

    def picked(self, read: Sequence[ReadSplit], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count, of what they read of `select`."""
        cost = sum((self.score_of(own, "select").cost for own in read), Cost())
        return forward_selection([own.scores for own in read], self.labelled("select")[1], picks), cost

    def clues(
        self, params: Params, *, start: Params | None = None, score: Score | None = None, out_of_fold: OutOfFold | None = None
    ) -> Clues:
        """Return what else can be said of a point. Out of fold, errors are those on examples that were not trained on."""
        words = self._vocabulary
        if words is None or self.splits.is_unlabelled or not all_finite(params):  # words of what is no number would mislead
            return Clues()
        inputs, targets = self.labelled("train")
        with self._room():
            directions, scores = gradient(self.method, self.scorer, params, inputs, targets, self._part_tokens, self._score_batch)
        passes, further = 2, 0
        if out_of_fold is not None:
            read = out_of_fold.read()
            scores, further = read.scores, read.tokens
        elif not self.scorer.scores_with_gradient:
            (scores,), _ = self._class_scores([params], inputs)
            passes += 1
        errors = Errors.of(self.splits, scores, targets)
        projection, cost = self._project(params, score or self.score([params], "select")[0], out_of_fold)
        now = self._in_vocabulary_space(params)
        then = None if start is None else self._in_vocabulary_space(start)
        moved = None if then is None or then.shape != now.shape else now - then
        continuation, generated = (None, 0) if self._continuation is None else self._continuation(self._realized(params))
        tokens = passes * self.scorer.num_tokens(params, inputs) + generated + further
        return Clues(
            projection=projection,
            nearest=words.nearest(now, self._clue_tokens),
            gradient=pointing(words, -directions, self._clue_tokens),
            displacement=pointing(words, moved, self._clue_tokens),
            confusions=errors.confusions(),
            misclassified=errors.most_confident(self._clue_misread, self.reader.readable),
            self_continuation=continuation,
            cost=cost + Cost(model_tokens=tokens, scored_examples=len(targets)),
        )

    def errors(self, params: Params, out_of_fold: OutOfFold | None) -> Clues:
        """Return what can be said of a point that has no words: what it reads wrongly, out of fold where that can be told."""
        if not self._with_clues or not self.splits.train or not all_finite(params):
            return Clues()
        inputs, targets = self.labelled("train")
        if out_of_fold is None:
            read = ReadSplit(self._class_scores([params], inputs)[0][0], self.scorer.num_tokens(params, inputs))
        else:
            read = out_of_fold.read()
        found = Errors.of(self.splits, read.scores, targets)
        return Clues(
            confusions=found.confusions(),
            misclassified=found.most_confident(MOST_MISREAD, self.reader.readable),
            cost=Cost(model_tokens=read.tokens, scored_examples=len(targets)),
        )

    # -- using what was tuned

    @property
    def fields(self) -> tuple[str, ...]:
        return self.reader.fields

    def probabilities(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        """Return ``(len(inputs), num_classes)`` probabilities of inputs, whose labels are not looked at."""
        return self.class_scores(params, inputs).softmax(-1)

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        """Return ``(len(inputs), num_classes)`` scores of inputs, whose labels are not looked at; their softmax is the probabilities."""
        (scores,), _ = self._class_scores([params], self.reader.given(inputs))
        return scores

    def judged(self, points: Sequence[Params], split: Split) -> tuple[tuple[Score, Tensor], ...]:
        """Return what `score` says of points on a split, and the class scores ``(num_examples, num_classes)`` that it says it by."""
        return tuple((self.score_of(read, split), read.scores) for read in self.read_split(points, split))

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        """Return how many tokens of each input do not fit the model's context."""
        return self.reader.cuts(inputs)

    # -- parts

    def _realized(self, params: Params) -> Params:
        return realized(self.method, self.scorer, params)

    def _class_scores(self, points: Sequence[Params], inputs: I) -> tuple[list[Tensor], int]:
        walks = [counted(point) for point in points]
        with torch.no_grad(), self._room():
            read = [self._realized(walk) for own in walks for walk, _ in own]
            scores, once = class_scores(self.scorer, read, inputs, self._score_batch)
        each = iter(scores)
        return [mean_scores([next(each) for _ in own], [count for _, count in own]) for own in walks], once

    def score_of(self, read: ReadSplit, split: Split) -> Score:
        """Return what class scores of a split are worth. An example of which there are none counts as read wrongly."""
        examples, scores, targets = self._examples[split], read.scores, self.labelled(split)[1]
        unread = unreadable(scores)
        answers = wrong_where(unread, scores, targets)
        metrics = accuracies(answers, targets) if self._measure is None else self._measure(examples, answers.tolist())
        cost = Cost(model_tokens=read.tokens, scored_examples=len(examples), selection_evals=int(split == "select"))
        loss = float(F.cross_entropy(scores, targets))
        chosen = answers.argmax(-1).unique()
        degenerate = len(chosen) == 1 and len(targets.unique()) > 1 and not bool(unread.any())
        always = self.splits.labels[int(chosen)] if degenerate else ""
        return Score(loss, metrics, len(examples), cost, always, int(unread.sum()))

    def _project(self, params: Params, soft: Score, out_of_fold: OutOfFold | None) -> tuple[Projection | None, Cost]:
        """Return the point's words with what they are worth on `select`, and what it cost to find, start at and score them."""
        decoded = self.codec.decode(params)
        if decoded.text is None:
            return None, decoded.cost
        start = self.codec.encode(decoded.text)
        if out_of_fold is None:
            (hard,) = self.score([{**params, **start.params}], "select")
        else:
            hard = out_of_fold.words_score(start.params)
        return Projection(decoded.text, hard, hard.loss - soft.loss), decoded.cost + start.cost + hard.cost

    def _in_vocabulary_space(self, params: Params) -> Tensor:
        with torch.no_grad():
            return self.method.to_vocabulary_space(self._realized(params))

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
