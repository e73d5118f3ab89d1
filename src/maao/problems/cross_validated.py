"""Cross-validation as a problem: all labels train the point that is used, and each is judged by a point that was tuned without it.

Beside the full member, which walks on all of `train` as it would alone, one member walks for each fold on what the fold leaves
(`Splits.folds`). They are one set of params (`maao.members`), so that whatever walks, restarts, stores and resumes a point does so with all
of them. What a choice follows from, the score on `select`, is read out of fold: each labelled example by the member that has not seen it.

Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, 1974.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from torch import Tensor

from maao.class_lines import fields_of_fold
from maao.core.seeds import seed_for
from maao.members import fold_member, fold_name, for_all, full_member
from maao.problems.averages import average
from maao.problems.classification import Batch, ClassificationProblem, OutOfFold, ReadSplit
from maao.problems.framed import FramedProblem, VocabularyBeneath
from maao.problems.lined import LinedProblem
from maao.problems.scorers.matcher import Known
from maao.problems.scorers.tokens import Rows
from maao.problems.text_problem import TextProblem
from maao.protocols import NO_FIELDS, Codec, Decoded, Encoded, Params, Pictured, Prefills, Problem, Vocabulary
from maao.types import Clues, Cost, Example, Score, Split

if TYPE_CHECKING:  # texts need no pillow
    from PIL.Image import Image

Whole: TypeAlias = "ClassificationProblem[Known] | FramedProblem | LinedProblem"
Batches = tuple[Batch, ...]  # of the full member, and of each fold's


class CrossValidated:
    """A `Problem` whose members walk together. The value of `loss` is the full member's; its gradient is each member's own.

    Args:
        full: the problem on all of `train`, whose splits have folds. Members share its model, its texts and all that is kept of them.
        labels: whether the labels train the members of folds.
    """

    def __init__(self, full: Whole, *, labels: bool = True) -> None:
        self.full, self.splits, self.notes = full, full.splits, full.notes
        folds = self.splits.folds
        self._left_out = [[i for i, fold in enumerate(folds) if fold == number] for number in range(self.num_folds)]
        trained = [[i for i, fold in enumerate(folds) if labels and fold != n] for n in range(self.num_folds)]
        self.members = [full.part(own, out) for own, out in zip(trained, self._left_out, strict=True)]
        self.codec = codec_for_all(full.codec, [member.codec for member in self.members])
        judged = [i for out in self._left_out for i in out]
        self._back = torch.tensor(judged).argsort()  # from fold by fold to the order of `train`
        self._judge = full.part(range(len(folds)), sorted(judged))
        self.transfer_sets = {name: OfFull(other) for name, other in full.transfer_sets.items()}

    @property
    def num_folds(self) -> int:
        return self.splits.num_folds

    @property
    def prepared(self) -> Cost:
        """What was run through the model once, before the first step: texts for all members together, a beginning for each."""
        return sum((member.start_cost for member in self.members), self.full.prepared)

    # -- Problem

    def initial(self, seed: int) -> Params:
        start = dict(self.full.initial(seed))
        for fold, member in enumerate(self.members):
            start |= {fold_name(fold, name): value for name, value in member.initial(seed).items()}
        return start

    def batch(self, step: int, seed: int) -> Batches:
        own = [member.batch(step, seed_for(seed, "fold", fold)) for fold, member in enumerate(self.members)]
        return (self.full.batch(step, seed), *own)

    def loss(self, params: Params, batch: Batches) -> Tensor:
        """Return the full member's loss; what its backward pass gives is the gradient of each member's own."""
        loss = self.full.loss(full_member(params), batch[0])
        if not torch.is_grad_enabled():
            return loss
        leaves: list[Tensor] = []
        gradients: list[Tensor | None] = []
        for fold, member in enumerate(self.members):
            point = fold_member(params, fold)
            tuned = [value for value in point.values() if value.requires_grad]
            if tuned:  # computed now: the memory of one member at a time
                leaves += tuned
                gradients += torch.autograd.grad(member.loss(point, batch[fold + 1]), tuned, allow_unused=True)
        found: Tensor = _Carried.apply(loss, gradients, *leaves)
        return found

    def num_tokens(self, params: Params, batch: Batches) -> int:
        own = sum(member.num_tokens(fold_member(params, fold), batch[fold + 1]) for fold, member in enumerate(self.members))
        return own + self.full.num_tokens(full_member(params), batch[0])

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        """Return scores of points: on `select` out of fold, over all labelled examples; elsewhere those of the full member."""
        return tuple(score for score, _ in self.judged(points, split))

    def average(self, points: Sequence[Params], counts: Sequence[int]) -> Params:
        """Return one point that reads as several, member by member: each fold's is the average of its own walks."""
        return average(points, counts)

    def pick(self, points: Sequence[Params], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count in an average, chosen out of fold, and what it cost to score them."""
        return self._judge.picked(self._out_of_fold(points), picks)

    def begin_from(self, params: Params, labels: Sequence[str]) -> tuple[str, ...]:
        """Begin where another run's point stands: the full member does. The others do not, since it has seen the labels they judge by.

        Nor do they have its class lines, which may be made of those labels, and are weighed and were chosen by them.
        """
        return self.full.begin_from(params, labels)

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        """Return what can be said of the full member; its words are judged out of fold, as it is, and errors are those of all members."""
        before = None if start is None else full_member(start)
        apart = OutOfFold(self._words_score(params), lambda: self._out_of_fold([params])[0])
        score = score or self.score([params], "select")[0]
        return self.full.clues(full_member(params), start=before, score=score, out_of_fold=apart)

    def _words_score(self, params: Params) -> Callable[[Params], Score]:
        return lambda start: self.score([{**params, **for_all(start, self.num_folds)}], "select")[0]

    def prefill_cost(self, points: Sequence[Params], known: Sequence[Params]) -> Cost:
        """Return what points cost beside walks and scores: what is read once for all members."""
        if not isinstance(self.full, Prefills):
            return Cost()
        return self.full.prefill_cost([full_member(point) for point in points], [full_member(point) for point in known])

    def without_labels(self, fields: Mapping[str, str]) -> tuple[Problem[Params], Encoded[Params]]:
        """Return the problem in which no label trains and all judge; where folds are told lines of their own, each is judged by its own."""
        told_apart = len(full_member(fields)) < len(fields)
        found = CrossValidated(self.full, labels=False) if told_apart else self.full.part((), range(len(self.splits.train)))
        return found, found.codec.encode("", fields)

    # -- using what was tuned

    @property
    def fields(self) -> tuple[str, ...]:
        return self.full.fields

    def problem_for(self, params: Params) -> ClassificationProblem[Known] | TextProblem:
        """Return the problem as the full member reads it."""
        return self.full.problem_for(full_member(params))

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        return self.full.class_scores(full_member(params), inputs)

    def judged(self, points: Sequence[Params], split: Split) -> tuple[tuple[Score, Tensor], ...]:
        """Return scores of points on a split and the class scores that they are of; on `select` out of fold, as of `Splits.judged`."""
        if split != "select":
            return self.full.judged([full_member(point) for point in points], split)
        return tuple((self._judge.score_of(read, "select"), read.scores) for read in self._out_of_fold(points))

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        return self.full.cuts(full_member(params), inputs)

    def _out_of_fold(self, points: Sequence[Params]) -> list[ReadSplit]:
        """Return what each point reads of all judged examples, each by the member that was tuned without it."""
        read = [member.read_split([fold_member(p, fold) for p in points], "select") for fold, member in enumerate(self.members)]
        return [
            ReadSplit(torch.cat([one.scores for one in own])[self._back], sum(one.tokens for one in own)) for own in zip(*read, strict=True)
        ]


class CrossValidatedPictures(CrossValidated):
    """The same of pictures, which shows those of its data."""

    def picture(self, key: str) -> Image:
        assert isinstance(self.full, Pictured)
        return self.full.picture(key)


def cross_validated(problem: Whole) -> Whole | CrossValidated:
    """Return the problem whose members walk together, where the splits have folds; else the problem itself."""
    if not problem.splits.num_folds:
        return problem
    return CrossValidatedPictures(problem) if isinstance(problem, Pictured) else CrossValidated(problem)


class OfFull:
    """Another data set, on which the full member is scored."""

    def __init__(self, problem: ClassificationProblem[Known] | ClassificationProblem[Rows]) -> None:
        self.problem = problem

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        return self.problem.score([full_member(point) for point in points], split)


class CodecForAll:
    """The codec of a point's words that restarts all members alike: each from what it says itself, where members have codecs of their own.

    Args:
        codec: of the full member.
        members: of each fold's; the same one, where what words say does not follow from the examples of a member.
    """

    def __init__(self, codec: Codec[Params], members: Sequence[Codec[Params]]) -> None:
        self._codec, self._members, self.fields = codec, tuple(members), codec.fields
        self._folds = len(self._members)

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        found = self._codec.encode(text, full_member(fields))
        params, cost = dict(found.params), found.cost
        alone = len(full_member(fields)) < len(fields)  # some are said to a fold's member alone
        for fold, codec in enumerate(self._members):
            own = found if codec is self._codec and not alone else codec.encode(text, fields_of_fold(fields, fold))
            cost = cost if own is found else cost + own.cost
            params |= {fold_name(fold, name): value for name, value in own.params.items()}
        return Encoded(params, found.text, found.note, cost)

    def decode(self, params: Params) -> Decoded:
        return self._codec.decode(full_member(params))

    def random(self, seed: int) -> Params:
        return for_all(self._codec.random(seed), self._folds)

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        found = dict(self._codec.blend(full_member(old), full_member(new), weight))
        for fold in range(self._folds):
            own = self._codec.blend(fold_member(old, fold), fold_member(new, fold), weight)
            found |= {fold_name(fold, name): value for name, value in own.items()}
        return found


class TokenCodecForAll(VocabularyBeneath, CodecForAll):
    """The same of a codec with a vocabulary."""


def codec_for_all(codec: Codec[Params], members: Sequence[Codec[Params]]) -> CodecForAll:
    """Return the codec of all members, with the vocabulary that it has.

    Example:
        >>> from maao.codecs.numbers import NumberCodec
        >>> codec = NumberCodec(2, 3, 5.0)
        >>> sorted(codec_for_all(codec, [codec, codec]).encode("1 2").params)
        ['fold0.x', 'fold1.x', 'x']
    """
    return (TokenCodecForAll if isinstance(codec, Vocabulary) else CodecForAll)(codec, members)


class _Held(Protocol):
    """What a backward pass finds of its forward pass."""

    gradients: Sequence[Tensor | None]


class _Carried(torch.autograd.Function):
    """The value of a loss, with gradients of further leaves that are known already."""

    @staticmethod
    def forward(ctx: _Held, loss: Tensor, gradients: Sequence[Tensor | None], *leaves: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: _Held, out: Tensor) -> tuple[Tensor | None, ...]:
        if bool(out == 1):
            return out, None, *ctx.gradients
        return out, None, *(None if own is None else out.to(own) * own for own in ctx.gradients)
