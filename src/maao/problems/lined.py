"""Proposals that say class lines: examples and descriptions of the classes, which train beside the labelled examples.

They stand among the params as ``{"class_lines": (bytes,)}``, UTF-8 of a JSON object as whole numbers, which a stage carries and does not
train: so they are stored, restarted and walked from like anything that is tuned, and a point says itself what it trains on. Lines train
only. What a point is worth, and what it says of an input, is read as if they were not there.

Source: a language model's texts as pseudo-examples of classes, Ye et al., ZeroGen, EMNLP 2022; of pictures, Pratt et al., What does a
platypus look like?, ICCV 2023 (CuPL).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from maao.class_lines import FIELD, KINDS, ClassLines, count_told, has_lines, left_out_told, texts_of, without_repeats
from maao.errors import CodecError, ConfigError
from maao.members import bare_name
from maao.problems.averages import average
from maao.problems.classification import Batch, ClassificationProblem, OutOfFold, ReadSplit
from maao.problems.framed import FramedProblem, ReadsLikePlain, VocabularyBeneath
from maao.problems.line_weights import responsibilities
from maao.problems.pictures import PictureProblem
from maao.problems.scorers.matcher import Known
from maao.problems.text_problem import TextProblem
from maao.protocols import NO_FIELDS, Codec, Decoded, Encoded, Params, Vocabulary
from maao.types import LINES_WEIGHT, Clues, Cost, Example, LineWeight, Score, Split

if TYPE_CHECKING:  # texts need no pillow
    from PIL.Image import Image

LINES = "class_lines"  # their name among the params
KEPT = 3  # sets of lines that are held as they are read, beside those of a point's members

Unlined: TypeAlias = "ClassificationProblem[Known] | FramedProblem"


def lines_tensor(lines: ClassLines) -> Tensor:
    """Return lines as they stand among the params ``(bytes,)``.

    Example:
        >>> lines = ClassLines.from_json({"bad": {"examples": ["Dull."]}}, ("bad",))
        >>> lines_of({"class_lines": lines_tensor(lines)}) == lines
        True
    """
    return torch.frombuffer(bytearray(json.dumps(lines.to_json(), ensure_ascii=False).encode("utf-8")), dtype=torch.uint8).clone()


def lines_of(params: Mapping[str, Tensor]) -> ClassLines:
    """Return the class lines that a point trains on, with their weights; none where it has none."""
    if LINES not in params:
        return ClassLines()
    told = json.loads(params[LINES].cpu().numpy().tobytes().decode("utf-8"))
    return ClassLines.from_json(told, list(told)) if told else ClassLines()


def says_nothing(params: Mapping[str, Tensor]) -> bool:
    """Say whether a point trains on no class line."""
    return not len(lines_of(params))


def without_lines(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return params without their lines: what a problem that reads none takes. Of an average, without those of all its walks."""
    return {name: value for name, value in params.items() if bare_name(name) != LINES}


@dataclass(frozen=True, slots=True)
class Undrawn(Batch):
    """A batch that is not drawn yet: which rows it is follows from the lines of the point that reads it. `of`: its step and seed."""

    of: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Believed:
    """How far to believe each line of a set ``(num_lines,)``, and the tokens that finding it out ran through the model."""

    each: tuple[float, ...]
    tokens: int


Fill = Callable[[Mapping[str, str]], Encoded[Params]]


class LinedCodec:
    """A codec whose proposals may say class lines too; what they say beside them is encoded as by the codec beneath.

    Args:
        codec: of the prompt, if there is one.
        labels: the classes.
        fill: the params of lines, what of them is not used, and what finding them cost; raises `CodecError` for what are none.
    """

    def __init__(self, codec: Codec[Params], labels: Sequence[str], fill: Fill) -> None:
        self._codec, self._fill = codec, fill
        self._own = frozenset((*(FIELD[kind] + label for label in labels for kind in KINDS), LINES_WEIGHT))
        self.fields = (*codec.fields, *sorted(self._own))

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        """Return what a restart begins from: with lines, where a run begins that has them; with a text, its prompt.

        Raises:
            CodecError: there is neither, or one of them cannot be used.
        """
        others = {name: value for name, value in fields.items() if name in self._codec.fields}
        own = {name: value for name, value in fields.items() if name not in others}
        if not own:
            return self._codec.encode(text, fields)
        filled = self._fill(own)
        if not (text.strip() or others):
            return replace(filled, text=text)
        found = self._codec.encode(text, others)
        note = "; ".join(filter(None, (found.note, filled.note))) or None
        return Encoded({**filled.params, **found.params}, found.text, note, found.cost + filled.cost)

    def decode(self, params: Params) -> Decoded:
        return self._codec.decode(without_lines(params))

    def random(self, seed: int) -> Params:
        return self._codec.random(seed)

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        lines = {name: value for name, value in new.items() if name == LINES}  # there is nothing between two sets of lines
        return {**self._codec.blend(old, without_lines(new), weight), **lines}


class LinedTokenCodec(VocabularyBeneath, LinedCodec):
    """The same around a codec with a vocabulary."""


@dataclass(frozen=True, slots=True)
class Home:
    """A problem with the lines of some points, and what its parts are to those who train on one: they are let go together."""

    problem: Unlined
    parts: dict[LinedProblem, Unlined] = field(default_factory=dict)


class LinedProblem(ReadsLikePlain):
    """A problem whose proposals may say class lines: a `Problem` itself, in which each point trains on the lines that it has.

    Args:
        plain: the problem without lines, by which points are read and judged.
        seed: of `initial`, where a proposal with lines begins.
        whole: each line counts whole, since labels judge the set; else by how far it is believed.

    Raises:
        ConfigError: its examples are no single texts, so that no line can stand in the place of one.
    """

    plain: Unlined

    def __init__(self, plain: Unlined, seed: int, *, whole: bool = False) -> None:
        if told := why_no_lines(plain):
            raise ConfigError(told)
        self.plain, self._seed, self._counts_whole = plain, seed, whole
        self.splits, self.notes, self.transfer_sets = plain.splits, plain.notes, plain.transfer_sets
        self.codec = lined_codec(plain.codec, plain.splits.labels, self._filled)
        self._plain_home, self._held = Home(plain), OrderedDict[bytes, Home]()
        self._begun: dict[str, Tensor] = {}  # the lines of the run that this one begins from
        self._known: Mapping[str, str] | None = None
        self._beliefs: OrderedDict[tuple[tuple[str, str, str], ...], Believed] = OrderedDict()  # of sets of lines, by what they say

    # -- Problem

    def initial(self, seed: int) -> Params:
        return {**self.home(self._begun).initial(seed), **self._begun}

    def begin_from(self, params: Params, labels: Sequence[str]) -> tuple[str, ...]:
        """Begin where another run's point stands, with its lines of the classes that are still there; none may repeat an example here."""
        lines, left_out = without_repeats(lines_of(params).in_order(self.splits.labels), self._texts())
        self._begun = {LINES: lines_tensor(lines)} if len(lines) else {}
        self._held.clear()
        self._beliefs.clear()
        told = [f"of the lines of that run, {what}" for what in left_out_told(left_out)]
        if len(lines) and self.splits.num_folds:
            told.append(f"{count_told(len(lines))} of that run train the point that is used, and none of those that judge it")
        return (*self.plain.begin_from(without_lines(params), labels), *told)

    def batch(self, step: int, seed: int) -> Batch:
        return Undrawn((), None, torch.zeros(0, dtype=torch.long), seed, (step, seed))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        assert isinstance(batch, Undrawn)
        home = self.home(params)
        if _is_empty(home):  # no label, and nothing said: there is nothing to walk on, and the point stays
            return torch.stack([0 * value.sum() for value in params.values() if value.is_floating_point()]).sum()
        return home.loss(without_lines(params), home.batch(*batch.of))

    def num_tokens(self, params: Params, batch: Batch) -> int:
        assert isinstance(batch, Undrawn)
        home = self.home(params)
        return home.num_tokens(without_lines(params), home.batch(*batch.of)) if not _is_empty(home) else 1

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        return self.plain.score(list(map(without_lines, points)), split)

    def read_split(self, points: Sequence[Params], split: Split) -> tuple[ReadSplit, ...]:
        return self.plain.read_split(list(map(without_lines, points)), split)

    def average(self, points: Sequence[Params], counts: Sequence[int]) -> Params:
        """Return one point that reads an input by the mean of the class scores of several; each walk has its own lines."""
        return average(points, counts)

    def pick(self, points: Sequence[Params], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count in an average, and what it cost to score them."""
        return self.plain.pick(list(map(without_lines, points)), picks)

    def clues(
        self, params: Params, *, start: Params | None = None, score: Score | None = None, out_of_fold: OutOfFold | None = None
    ) -> Clues:
        own, before = without_lines(params), None if start is None else without_lines(start)
        if isinstance(self.codec, Vocabulary):
            found = self.plain.clues(own, start=before, score=score, out_of_fold=out_of_fold)
        else:
            assert isinstance(self.plain, ClassificationProblem)
            found = self.plain.errors(own, out_of_fold)
        lines = lines_of(params)
        beliefs: Sequence[float | None] = self._believed(lines).each if self._counts_whole else [None] * len(lines)
        weights = (LineWeight(line.label, line.text, line.weight, belief) for line, belief in zip(lines, beliefs, strict=True))
        return replace(found, line_weights=tuple(weights))

    def part(self, train: Sequence[int], select: Sequence[int]) -> LinedPart:
        """Return the same problem on a part of `train`, judged by another part of it."""
        return LinedPart(self, tuple(train), tuple(select))

    def prefill_cost(self, points: Sequence[Params], known: Sequence[Params]) -> Cost:
        """Return what points cost beside walks and scores: lines that are new run through a matcher's tower once."""
        seen = set(map(_texts_in, known))
        new = {key: point for point in points if (key := _texts_in(point)) and key not in seen}
        found = Cost()
        if isinstance(self.plain, FramedProblem):
            found = self.plain.prefill_cost(list(map(without_lines, points)), list(map(without_lines, known)))
        return sum((self._lines_cost(point) for point in new.values()), found)

    def _lines_cost(self, point: Params) -> Cost:
        home = self.home(point)
        if isinstance(home, FramedProblem) or isinstance(self.plain, FramedProblem):
            return Cost()  # its texts are read at every step
        return Cost(model_tokens=home.read_tokens - self.plain.read_tokens)

    # -- using what was tuned

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        return self.plain.class_scores(without_lines(params), inputs)

    def judged(self, points: Sequence[Params], split: Split) -> tuple[tuple[Score, Tensor], ...]:
        return self.plain.judged(list(map(without_lines, points)), split)

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        return self.plain.cuts(without_lines(params), inputs)

    def problem_for(self, params: Params) -> ClassificationProblem[Known] | TextProblem:
        """Return the problem as params read an input: lines play no part in it."""
        return self.plain.problem_for(without_lines(params))

    # -- lines

    def home(self, params: Mapping[str, Tensor]) -> Unlined:
        """Return the problem that params train on: the plain one with their lines."""
        return self._home_of(params).problem

    def _home_of(self, params: Mapping[str, Tensor]) -> Home:
        if LINES not in params:
            return self._plain_home
        key = params[LINES].cpu().numpy().tobytes()
        found = self._held.pop(key, None)
        self._held[key] = found if found is not None else Home(self._with(params))  # the last one used, at the end
        if len(self._held) > KEPT + self.splits.num_folds:  # each member believes lines by its own examples
            self._held.popitem(last=False)
        return self._held[key]

    def _with(self, params: Mapping[str, Tensor]) -> Unlined:
        return self.plain.with_lines(lines_of(params).lines)

    def _texts(self) -> Mapping[str, str]:
        """Return the texts of the data, which no line may repeat."""
        if self._known is None:
            self._known = texts_of(self.splits)
        return self._known

    def _filled(self, fields: Mapping[str, str]) -> Encoded[Params]:
        """Return where a walk with the lines of a proposal begins, what of them is left out, and what it cost to weigh the others.

        Raises:
            CodecError: they are none (see `ClassLines.from_fields`), or no line is left.
        """
        lines, left_out = without_repeats(ClassLines.from_fields(fields, self.splits.labels), self._texts())
        note = "; ".join(left_out_told(left_out)) or None
        if not len(lines):
            raise CodecError(f"No line is left to train on: {note}.")
        return self._start(lines, note)

    def _start(self, lines: ClassLines, note: str | None = None) -> Encoded[Params]:
        """Return where a walk with these lines begins."""
        believed = Believed((1.0,) * len(lines), 0) if self._counts_whole else self._believed(lines)
        weighed = lines.weighing([line.weight * each for line, each in zip(lines, believed.each, strict=True)])
        named = {LINES: lines_tensor(weighed)}
        return Encoded({**self.home(named).initial(self._seed), **named}, "", note, Cost(model_tokens=believed.tokens))

    def _believed(self, lines: ClassLines) -> Believed:
        """Return how far to believe each line, as the point says that the run would begin from without them; whatever they weigh."""
        if not len(lines):
            return Believed((), 0)
        key = tuple((line.label, line.kind, line.text) for line in lines)
        if key not in self._beliefs:  # a mentor says the same lines at several weights
            number = {label: i for i, label in enumerate(self.splits.labels)}
            numbers = torch.tensor([number[line.label] for line in lines])
            read = self.plain.line_scores(self.plain.initial(self._seed), lines.lines)
            own = read.scores.softmax(-1).gather(1, numbers[:, None])[:, 0]
            self._beliefs[key] = Believed(tuple(responsibilities(own, len(number)).tolist()), read.tokens)
            if len(self._beliefs) > KEPT:
                self._beliefs.popitem(last=False)
        return self._beliefs[key]


class LinedPart(LinedProblem):
    """A part of such a problem: it trains on the lines of a point as the whole does, which reads them once."""

    def __init__(self, whole: LinedProblem, train: tuple[int, ...], select: tuple[int, ...]) -> None:
        self._whole, self._places = whole, (train, select)
        super().__init__(self.home({}), whole._seed, whole=whole._counts_whole)
        self.transfer_sets = {}

    def home(self, params: Mapping[str, Tensor]) -> Unlined:
        home = self._whole._home_of(params)
        if self not in home.parts:
            home.parts[self] = home.problem.part(*self._places)
        return home.parts[self]

    def _texts(self) -> Mapping[str, str]:
        return self._whole._texts()  # of all the data, not of this part alone

    def _filled(self, fields: Mapping[str, str]) -> Encoded[Params]:
        """Do as the whole does; but lines may be said to other members alone, and this one then has none."""
        return super()._filled(fields) if has_lines(fields) else self._start(ClassLines())


class LinedPictures(LinedProblem):
    """The same of pictures, which shows those of its data."""

    def picture(self, key: str) -> Image:
        assert isinstance(self.plain, PictureProblem)
        return self.plain.picture(key)


def lined(problem: Unlined, seed: int, *, whole: bool = False) -> LinedProblem:
    """Return the problem whose proposals may say class lines."""
    return (LinedPictures if isinstance(problem, PictureProblem) else LinedProblem)(problem, seed, whole=whole)


def lined_codec(codec: Codec[Params], labels: Sequence[str], fill: Fill) -> LinedCodec:
    """Return a codec that takes class lines, with the vocabulary of the one beneath if it has any."""
    return (LinedTokenCodec if isinstance(codec, Vocabulary) else LinedCodec)(codec, labels, fill)


def _texts_in(params: Params) -> frozenset[str]:
    """Return the texts of a point's lines, which a tower reads once whatever they weigh."""
    return frozenset(line.text for line in lines_of(params))


def _is_empty(problem: Unlined) -> bool:
    """Say whether there is nothing to walk on: no label, and no line."""
    return not (problem.splits.train or problem.splits.lines)


def why_no_lines(problem: Unlined) -> str:
    """Say why no line can stand in the place of an example; "": it can."""
    splits = problem.splits
    if any(example.choices for example in (*splits.train, *splits.select, *splits.test)):
        return "A class line is a text of a class, and these examples have choices of their own: take another mentor."
    if len(problem.fields) != 1:
        return f"A class line is one text, and examples are read by the fields {', '.join(problem.fields)}: take another mentor."
    return ""
