"""Proposals that fill the pattern around the slots (the template) and the verbalizer (the label words) as well as the slots.

The pair stands among the params as ``{"frame": (bytes,)}``, UTF-8 of a JSON object as whole numbers, which a stage carries and does not
train. So it is stored, restarted and walked from like anything that is tuned, and a point says itself how it is read.

Source: label words and templates as choices to be made: PET (Schick and Schuetze, 2021), LM-BFF (Gao et al., 2021).
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from maao.class_lines import Line
from maao.errors import CodecError, ConfigError, DataError, ModelError
from maao.members import bare_name, walks_of
from maao.problems.averages import average, counted, mean_scores
from maao.problems.classification import UNJUDGED, Batch, ClassificationProblem, OutOfFold, PromptCodec, ReadSplit
from maao.problems.scorers.label_words import AnswerScorer, LabelWords
from maao.problems.scorers.matcher import Known
from maao.problems.scorers.tokens import TokenScorer
from maao.problems.text_problem import TextProblem, TextReader, prefilled
from maao.problems.towers.text.template import TemplateTokenizer
from maao.protocols import NO_FIELDS, Codec, Decoded, Encoded, Params, Vocabulary
from maao.types import TEMPLATE, WORD, Clues, Cost, Example, Score, Split, Token

FRAME = "frame"  # the pair's name among the params
PAIRS = 8  # proposals' pairs that are kept with their tokenized examples


@dataclass(frozen=True, slots=True)
class PatternVerbalizer:
    """What a proposal filled in; what it left out is as the config says. `label_words` are in the order of the labels.

    Example:
        >>> pair = PatternVerbalizer(label_words=("terrible", "great"))
        >>> PatternVerbalizer.of({"frame": pair.tensor()}) == pair, PatternVerbalizer.of({})
        (True, None)
    """

    template: str | None = None
    label_words: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, str], labels: Sequence[str]) -> PatternVerbalizer:
        """Return the pair of a proposal's fields: `template`, a `label_words.LABEL` for each label, or both.

        Raises:
            CodecError: a field of another name, or a label without a word beside one that has one.

        Example:
            >>> PatternVerbalizer.from_fields({"label_words.good": "great", "label_words.bad": "terrible"}, ("bad", "good")).label_words
            ('terrible', 'great')
        """
        known = [TEMPLATE, *(WORD + label for label in labels)]
        unknown = [name for name in fields if name not in known]
        if unknown:
            raise CodecError(f"There is nothing to fill that is called {', '.join(unknown)}; there is: {', '.join(known)}.")
        words = [fields[WORD + label] for label in labels if WORD + label in fields]
        if words and len(words) < len(labels):
            raise CodecError(f"Of {len(labels)} labels only {len(words)} have a word: {', '.join(labels)}.")
        return cls(fields.get(TEMPLATE), tuple(words))

    def fields(self, labels: Sequence[str]) -> dict[str, str]:
        """Return the fields that `from_fields` made it of."""
        template = {} if self.template is None else {TEMPLATE: self.template}
        return template | {WORD + label: word for label, word in zip(labels, self.label_words, strict=False)}

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> PatternVerbalizer | None:
        """Return the pair that params name; None: they name none."""
        if FRAME not in params:
            return None
        told = json.loads(params[FRAME].cpu().numpy().tobytes().decode("utf-8"))
        return cls(told["template"], tuple(told["label_words"]))

    def tensor(self) -> Tensor:
        return torch.frombuffer(bytearray(json.dumps(asdict(self), ensure_ascii=False).encode("utf-8")), dtype=torch.uint8).clone()


def without_pair(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return params without their pair: what a problem with that pair reads. Of an average, without those of all its walks."""
    return {name: value for name, value in params.items() if bare_name(name) != FRAME}


Reframe = Callable[[PatternVerbalizer], tuple[TokenScorer, TemplateTokenizer]]


class VocabularyBeneath:
    """Base of a codec around another one, whose vocabulary it has."""

    _codec: Codec[Params]

    def nearest(self, vectors: Tensor, count: int) -> tuple[tuple[Token, ...], ...]:
        return self._vocabulary.nearest(vectors, count)

    def sample(self, count: int, seed: int) -> Tensor:
        found: Tensor = self._vocabulary.sample(count, seed)
        return found

    @property
    def _vocabulary(self) -> Vocabulary:
        assert isinstance(self._codec, Vocabulary)
        return self._codec


class FramedCodec(VocabularyBeneath):
    """A codec whose proposals may fill the pair too; a text alone is encoded as by the codec beneath.

    Args:
        codec: of the prompt.
        fields: the names of what may be filled.
        fill: the params of filled fields; raises `CodecError` for what cannot be.
    """

    def __init__(self, codec: PromptCodec, fields: tuple[str, ...], fill: Callable[[Mapping[str, str]], Params]) -> None:
        self._codec, self.fields, self._fill = codec, fields, fill

    def encode(self, text: str, fields: Mapping[str, str] = NO_FIELDS) -> Encoded[Params]:
        encoded = self._codec.encode(text)
        return replace(encoded, params={**encoded.params, **self._fill(fields)}) if fields else encoded

    def decode(self, params: Params) -> Decoded:
        return self._codec.decode(params)

    def random(self, seed: int) -> Params:
        return self._codec.random(seed)

    def blend(self, old: Params, new: Params, weight: float) -> Params:
        pair = {name: value for name, value in new.items() if name == FRAME}  # there is nothing between two pairs
        return {**self._codec.blend(old, without_pair(new), weight), **pair}


class ReadsLikePlain:
    """Base of a problem around another one, `plain`: a point may say how it is read or trained, but examples and classes are the same."""

    plain: ClassificationProblem[Known] | TextProblem | FramedProblem

    @property
    def prepared(self) -> Cost:
        return self.plain.prepared

    @property
    def start_cost(self) -> Cost:
        return self.plain.start_cost

    @property
    def fields(self) -> tuple[str, ...]:
        return self.plain.fields

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        raise NotImplementedError

    def probabilities(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        return self.class_scores(params, inputs).softmax(-1)

    def score_of(self, read: ReadSplit, split: Split) -> Score:
        return self.plain.score_of(read, split)

    def picked(self, read: Sequence[ReadSplit], picks: int) -> tuple[tuple[int, ...], Cost]:
        return self.plain.picked(read, picks)


class FramedProblem(ReadsLikePlain):
    """A problem on text whose proposals may fill the pattern and the verbalizer: a `Problem` itself, which reads each point as it says.

    Args:
        plain: the problem as its config says.
        reframe: how classes and examples are read with another pair.
        num_virtual_tokens: rows of the initial soft prompt.
        max_cache_bytes: the most memory for keys and values of texts before the slots, of all pairs together.
    """

    plain: TextProblem

    def __init__(self, plain: TextProblem, reframe: Reframe, *, num_virtual_tokens: int, max_cache_bytes: int = 2 * 2**30) -> None:
        self.plain, self._reframe = plain, reframe
        self.splits, self.notes, self.transfer_sets = plain.splits, plain.notes, plain.transfer_sets
        self.codec = FramedCodec(plain.codec, self._fields, self._filled)
        self._num_virtual_tokens, self._bytes_of_pair = num_virtual_tokens, max_cache_bytes // PAIRS
        self._held: OrderedDict[PatternVerbalizer, TextProblem] = OrderedDict()
        self._unread: set[PatternVerbalizer] = set()  # whose texts are to be kept once they are walked or scored

    # -- Problem

    def initial(self, seed: int) -> Params:
        return self.plain.initial(seed)

    def begin_from(self, params: Params, labels: Sequence[str]) -> tuple[str, ...]:
        """Begin where another run's point stands, with the pair that a proposal filled in there."""
        return self.plain.begin_from(params, labels)

    def batch(self, step: int, seed: int) -> Batch:
        return self.plain.batch(step, seed)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return self._home(params).loss(without_pair(params), batch)

    def num_tokens(self, params: Params, batch: Batch) -> int:
        return self._home(params).num_tokens(without_pair(params), batch)

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        if split == "select" and self.splits.is_unlabelled:
            return (UNJUDGED,) * len(points)
        return tuple(score for score, _ in self.judged(points, split))

    def read_split(self, points: Sequence[Params], split: Split) -> tuple[ReadSplit, ...]:
        """Return class scores in the order of the points: those of one pair are read together, each walk of an average in its own."""
        mixed = [i for i, point in enumerate(points) if self._is_mixed(point)]
        homes = {i: self._home(point) for i, point in enumerate(points) if i not in mixed}
        found: dict[int, ReadSplit] = {}
        for home in dict.fromkeys(homes.values()):
            own = [i for i, other in homes.items() if other is home]
            found |= zip(own, home.read_split([without_pair(points[i]) for i in own], split), strict=True)
        for i in mixed:
            walks = counted(points[i])
            each = [self._home(walk).read_split([without_pair(walk)], split)[0] for walk, _ in walks]
            mean = mean_scores([read.scores for read in each], [count for _, count in walks])
            found[i] = ReadSplit(mean, sum(read.tokens for read in each))
        return tuple(found[i] for i in range(len(points)))

    def average(self, points: Sequence[Params], counts: Sequence[int]) -> Params:
        """Return one point that reads an input by the mean of the class scores of several, each in its own pattern and verbalizer."""
        return average(points, counts)

    def pick(self, points: Sequence[Params], picks: int) -> tuple[tuple[int, ...], Cost]:
        """Return how often each point is to count in an average, and what it cost to score them."""
        return self.picked(self.read_split(points, "select"), picks)

    @staticmethod
    def _is_mixed(params: Params) -> bool:
        """Say whether a point averages walks of several pairs."""
        return len({PatternVerbalizer.of(walk) for walk in walks_of(params)}) > 1

    def clues(
        self, params: Params, *, start: Params | None = None, score: Score | None = None, out_of_fold: OutOfFold | None = None
    ) -> Clues:
        before = None if start is None else without_pair(start)
        return self._home(params).clues(without_pair(params), start=before, score=score, out_of_fold=out_of_fold)

    def with_lines(self, lines: Sequence[Line]) -> FramedProblem:
        """Return the same problem, in which these class lines train too, in the pair of a point."""
        plain = self.plain.with_lines(lines)
        return FramedProblem(plain, self._reframe, num_virtual_tokens=self._num_virtual_tokens, max_cache_bytes=self._bytes_of_pair * PAIRS)

    def line_scores(self, params: Params, lines: Sequence[Line]) -> ReadSplit:
        return self._home(params).line_scores(without_pair(params), lines)

    def part(self, train: Sequence[int], select: Sequence[int]) -> FramedPart:
        """Return the same problem on a part of `train`, judged by another part of it."""
        return FramedPart(self, tuple(train), tuple(select))

    def prefill_cost(self, points: Sequence[Params], known: Sequence[Params]) -> Cost:
        """Return what points cost beside walks and scores: the texts before the slots are read once in each template that is new."""
        seen = {PatternVerbalizer.of(point) for point in known}
        new = {pair: point for point in points if (pair := PatternVerbalizer.of(point)) not in seen}
        homes = [home for home in map(self._home, new.values()) if home.tokenizer.before != self.plain.tokenizer.before]
        return Cost(model_tokens=sum(home.scorer.prepared_tokens for home in homes))

    # -- using what was tuned

    def class_scores(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        walks = counted(params)
        if not self._is_mixed(params):
            return self.problem_for(params).class_scores(without_pair(params), inputs)
        read = [self.problem_for(walk).class_scores(without_pair(walk), inputs) for walk, _ in walks]
        return mean_scores(read, [count for _, count in walks])

    def judged(self, points: Sequence[Params], split: Split) -> tuple[tuple[Score, Tensor], ...]:
        return tuple((self.score_of(read, split), read.scores) for read in self.read_split(points, split))

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        each = [self.problem_for(walk).cuts(walk, inputs) for walk in walks_of(params)]
        return tuple(map(max, zip(*each, strict=True)))

    # -- pairs

    def problem_for(self, params: Params) -> TextProblem:
        """Return the problem as params read it: the plain one, or one with the pair that they name."""
        pair = PatternVerbalizer.of(params)
        if pair is None:
            return self.plain
        found = self._held.pop(pair, None) or self._with(pair)
        self._held[pair] = found  # the last one used, at the end
        if len(self._held) > PAIRS:
            self._unread.discard(self._held.popitem(last=False)[0])
        return found

    def _with(self, pair: PatternVerbalizer) -> TextProblem:
        scorer, tokenizer = self._reframe(pair)
        found = self.plain.read_by(scorer, TextReader(tokenizer, keep=False))
        own = self.plain.scorer
        if isinstance(scorer, AnswerScorer) and isinstance(own, AnswerScorer):
            if found.tokenizer.before == self.plain.tokenizer.before:
                scorer.cache = own.cache
            elif self._bytes_of_pair > 0 and scorer.shares and self.plain.reads_text_first:
                self._unread.add(pair)
        return found

    def _home(self, params: Params) -> TextProblem:
        """Return the problem as params read it, its texts before the slots kept as the plain one's are, in its share of their memory."""
        home, pair = self.problem_for(params), PatternVerbalizer.of(params)
        if pair is not None and pair in self._unread:
            self._unread.discard(pair)
            list(prefilled(home, self._num_virtual_tokens, self._bytes_of_pair))
        return home

    @property
    def _fields(self) -> tuple[str, ...]:
        """The names of what proposals may fill: a head has no label words, and examples with choices have words of their own."""
        words = isinstance(self.plain.scorer, LabelWords) and not any(example.choices for example in self.splits.train)
        return (TEMPLATE, *(WORD + label for label in self.splits.labels)) if words else (TEMPLATE,)

    def _filled(self, fields: Mapping[str, str]) -> Params:
        """Return the params of what a proposal fills in beside the slots, by name (see `PatternVerbalizer.from_fields`).

        Raises:
            CodecError: it is no template of these examples, or its words cannot be written or told apart.
        """
        pair = PatternVerbalizer.from_fields(fields, self.splits.labels)
        template = str(self.plain.template)
        if pair.template is not None and sorted(in_braces(pair.template)) != sorted(in_braces(template)):
            own = ", ".join(f"{{{name}}}" for name in in_braces(template))
            raise CodecError(f"The template {pair.template!r} must hold each of these once, and nothing else in braces: {own}.")
        params = {FRAME: pair.tensor()}
        try:
            tokenizer = self.problem_for(params).tokenizer
            tokenizer(dict.fromkeys(tokenizer.template.fields, ""))  # is there room for it?
        except (ConfigError, ModelError, DataError) as error:
            raise CodecError(str(error)) from error
        return params


class FramedPart(FramedProblem):
    """A part of such a problem: it reads a pair as the whole does, which tokenizes texts and keeps their keys and values once."""

    def __init__(self, whole: FramedProblem, train: tuple[int, ...], select: tuple[int, ...]) -> None:
        self._whole, self._places = whole, (train, select)
        self._parts: WeakKeyDictionary[TextProblem, TextProblem] = WeakKeyDictionary()
        self.plain = self._part_of(whole.plain)
        self.splits, self.notes, self.transfer_sets, self.codec = self.plain.splits, self.plain.notes, {}, whole.codec

    def problem_for(self, params: Params) -> TextProblem:
        return self._part_of(self._whole.problem_for(params))

    def _home(self, params: Params) -> TextProblem:
        return self._part_of(self._whole._home(params))

    def _part_of(self, home: TextProblem) -> TextProblem:
        if home not in self._parts:
            self._parts[home] = home.part(*self._places)
        return self._parts[home]


def in_braces(template: str) -> list[str]:
    """Return all that a template has in braces.

    Example:
        >>> in_braces("{text} {slots} It was")
        ['text', 'slots']
    """
    return re.findall(r"\{([^}]*)\}", template[: template.rfind("}") + 1])  # each search ends at a brace: no time is lost on open ones
