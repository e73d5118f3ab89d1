"""Classes read by how near their texts are to an input: a dual encoder, whose text tower reads what a prompt method put among the words.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maao.errors import ConfigError
from maao.problems.methods import Bound, Matched, MatcherMethod
from maao.problems.towers.class_prompts import ClassTemplate, Prompt, prompt_of_line, prompts_of
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.features import FeatureStore, KnownFeatures
from maao.protocols import Params
from maao.types import Example

LOG_SCALE = "log_scale"  # the param of towers that no scale was learned with
MOST_SCALE = 100.0
AT_A_TIME = 64  # texts of classes that run through their tower at a time
CLASSES = "classes read once"  # beside the params: features that are the same for all inputs


@dataclass(frozen=True)
class Known:
    """Some inputs whose features are kept: which of a split, and which random view of each (None: as it is)."""

    features_of: KnownFeatures
    device: torch.device
    which: Sequence[int]
    views: Sequence[int] | None = None
    weights_of: tuple[float | None, ...] | None = None  # of each input of the split; None: all are labelled examples, which weigh 1

    @classmethod
    def all_of(cls, features: KnownFeatures, device: torch.device) -> Known:
        return cls(features, device, range(len(features)))

    def __len__(self) -> int:
        return len(self.which)

    @property
    def num_views(self) -> int:
        return self.features_of.views

    def take(self, which: Sequence[int], views: Sequence[int] | None = None) -> Known:
        if views is None and self.views is not None:
            views = [self.views[i] for i in which]
        whole = self.which == range(len(self.which))  # where a number is its place; of two ranges this takes no time
        chosen = which if whole else [self.which[i] for i in which]
        return replace(self, which=chosen, views=views)

    def beside(self, other: Known) -> Known:
        own = [*(self.weights_of or [None] * len(self)), *(other.weights_of or [None] * len(other))]
        weights = None if self.weights_of is other.weights_of is None else tuple(own)
        return replace(Known.all_of(self.features_of.beside(other.features_of), self.device), weights_of=weights)

    def weighted(self, weights: Sequence[float | None]) -> Known:
        return replace(self, weights_of=tuple(weights))

    @property
    def weights(self) -> Tensor | None:
        """``(len,)``, what each weighs in the training loss; None: all weigh alike."""
        if self.weights_of is None:
            return None
        own = [self.weights_of[i] for i in self.which]
        return torch.tensor([1.0 if weight is None else weight for weight in own], device=self.device)

    @property
    def features(self) -> Tensor:
        """``(len, embed_dim)``, as the frozen tower sees them; of a whole split those that are kept, and no copy."""
        return self.features_of.of(self.which, self.views).to(self.device)

    @property
    def raw(self) -> Any:
        """The inputs as their tower reads them, for a tower that is tuned."""
        return self.features_of.raw(self.which, self.views)

    @property
    def num_tokens(self) -> int:
        return self.features_of.num_tokens(self.which)

    @property
    def kept_tokens(self) -> int:
        return self.num_tokens


class KnownReader(ABC):
    """Base of what turns examples into inputs whose features are kept.

    Args:
        encoder: the towers.
        store: where features are kept; by default nowhere.
    """

    def __init__(self, encoder: DualEncoder, store: FeatureStore | None) -> None:
        self.encoder, self.store = encoder, store or FeatureStore(None)
        self.prepared_tokens = 0

    def split(self, examples: Sequence[Example], *, train: bool) -> Known:
        found = self._features(examples, train=train)
        self.prepared_tokens += found.computed_tokens
        return Known.all_of(found, self.encoder.device)

    def given(self, examples: Sequence[Example]) -> Known:
        return Known.all_of(self._features(examples, train=False), self.encoder.device)

    @abstractmethod
    def _features(self, examples: Sequence[Example], *, train: bool) -> KnownFeatures:
        """Return the features of examples, found or computed; with `train`, of random views too where there are to be some."""


class KnownScorer:
    """Base of what reads inputs whose features are kept: a step is one part."""

    name = ""
    scores_with_gradient = False
    tunes_inputs = False
    prepared_tokens: int = 0

    def __init__(self, bound: Bound) -> None:
        self.bound, self.encoder = bound, bound.encoder

    def classes(self, params: Params) -> Tensor:
        """Return the classes' features ``(num_classes, embed_dim)``, normalised.

        Raises:
            ConfigError: they differ from input to input (CoCoOp), or there are none (probes).
        """
        raise ConfigError(f"'{self.name}' has no class features that stand for all inputs: keep its params instead.")

    def scale(self, params: Params) -> float | Tensor:
        """Return what the cosine is multiplied by: what the towers were trained with, or what is trained here, at most 100 as in CLIP."""
        if LOG_SCALE not in params:
            return self.encoder.scale
        return params[LOG_SCALE].to(self.device).clamp(max=math.log(MOST_SCALE)).exp()

    def class_bias(self, params: Params) -> Tensor | None:
        """Return what is added to the scores of the classes ``(num_classes,)``; None: nothing."""
        return None

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def weights(self, inputs: Known, targets: Tensor) -> Tensor:
        own = inputs.weights
        return torch.ones(len(inputs), device=targets.device) if own is None else own

    def share(self, params: Params, inputs: Known) -> tuple[Params, Known] | None:
        return None

    @contextmanager
    def reading_once(self, inputs: Known, points: Sequence[Params]) -> Iterator[int]:
        yield 0

    def lengths(self, inputs: Known) -> list[int]:
        return [0] * len(inputs)

    def parts(self, params: Params, inputs: Known, most: int) -> list[list[int]]:
        return [list(range(len(inputs)))]

    def clue_parts(self, params: Params, inputs: Known, most: int, at_a_time: int) -> Sequence[Sequence[int]]:
        return self.parts(params, inputs, most)

    def training(self, seed: int) -> nullcontext[None]:
        return nullcontext()


class Matcher(KnownScorer):
    """Score a class by ``scale`` times the cosine between an input and the class's text, with a method's rows in its slots.

    Args:
        method: bound to the towers and the classes.
    """

    def __init__(self, method: MatcherMethod) -> None:
        super().__init__(method.bound)
        self.method, self.name, self.tunes_inputs = method, method.name, method.tunes_inputs

    def extra(self, seed: int) -> dict[str, Tensor]:
        return {LOG_SCALE: torch.tensor(math.log(self.encoder.scale))} if self.encoder.trains_scale else {}

    def classes(self, params: Params) -> Tensor:
        if self.method.moves_by_input:
            return super().classes(params)
        bound = self.bound
        return self.encoder.text.features(bound.prompts, params["prompt"], self.method.deep(params), part_tokens=bound.part_tokens)

    def share(self, params: Params, inputs: Known) -> tuple[Params, Known] | None:
        return None if self.method.moves_by_input else ({**params, CLASSES: self.classes(params)}, inputs)

    def class_scores(self, params: Params, inputs: Known) -> Tensor:
        return self._read(params, inputs)[0]

    def loss(self, params: Params, inputs: Known, targets: Tensor, factor: float = 1.0) -> Tensor:
        scores, classes, seen = self._read(params, inputs)
        tuned = {name: value for name, value in params.items() if value.requires_grad and name != CLASSES}
        scale, weights = self.scale(params), inputs.weights
        return self.method.loss(Matched(scores, targets, classes, seen, inputs.features, tuned, scale, weights, factor))

    def num_tokens(self, params: Params, inputs: Known, targets: Tensor | None = None, *, known: bool = False) -> int:
        """Return the tokens of one pass; an input whose features are kept runs through no tower."""
        return (inputs.num_tokens if self.tunes_inputs else 0) + self.method.num_tokens(len(inputs))

    def clue_parts(self, params: Params, inputs: Known, most: int, at_a_time: int) -> Sequence[Sequence[int]]:
        if not (self.tunes_inputs or self.method.moves_by_input):
            return self.parts(params, inputs, most)
        return [range(begin, min(begin + at_a_time, len(inputs))) for begin in range(0, len(inputs), at_a_time)]

    def _read(self, params: Params, inputs: Known) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return scores, the classes' features (None: they differ from input to input), and the inputs' features as they were read."""
        if self.method.moves_by_input:
            return *self._moved(params, inputs.features), inputs.features
        classes = params[CLASSES] if CLASSES in params else self.classes(params)
        seen = inputs.features
        if self.tunes_inputs:
            seen = self.encoder.input.features(inputs.raw, self.method.input_rows(params))
        return self.scale(params) * seen @ classes.T, classes, seen

    def _moved(self, params: Params, features: Tensor) -> tuple[Tensor, None]:
        """Return the scores where the text tower runs once for every input and class."""
        prompts = self.bound.prompts
        each = self.method.moved(params, features).repeat_interleave(len(prompts), 0)
        text = self.encoder.text.features(prompts * len(features), each, part_tokens=self.bound.part_tokens)
        found = self.scale(params) * torch.einsum("bd,bcd->bc", features, text.view(len(features), len(prompts), -1))
        return found, None


def class_texts(encoder: DualEncoder, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return the classes' features in each hand-written wording ``(num_wordings, num_classes, embed_dim)``, normalised."""
    if not templates:
        raise ConfigError('There is no hand-written wording of the classes: give at least one, "a photo of a {class}.", say.')
    key = ("classes", tuple(names), tuple(templates), torch.get_num_threads())  # sums depend on threads
    kept = encoder.kept.get(key, Tensor)
    if kept is not None:
        return kept
    with torch.no_grad():
        each = []
        for text in templates:
            template = ClassTemplate.parse(text)
            if template.has_slots:
                raise ConfigError(f"The hand-written wording {text!r} has slots: it is read as it stands, with {{class}} alone.")
            each.append(encoder.text.features(prompts_of(template, encoder.text.tokenizer, names, 0, encoder.text.most)))
        found = torch.stack(each)
    encoder.kept.put(key, found, found.numel() * found.element_size())
    return found


def line_features(encoder: DualEncoder, texts: Sequence[str]) -> tuple[Tensor, int]:
    """Return the features of texts as the tower of classes reads them ``(num_texts, embed_dim)``, normalised, and the tokens they are."""
    tower = encoder.text
    prompts = tuple(prompt_of_line(tower.tokenizer, text, tower.most) for text in texts)
    parts = [prompts[begin : begin + AT_A_TIME] for begin in range(0, len(prompts), AT_A_TIME)]
    tokens = sum(map(tower.num_tokens, parts))
    key = ("lines", tuple(texts), torch.get_num_threads())  # sums depend on threads
    kept = encoder.kept.get(key, Tensor)
    if kept is None:
        with torch.no_grad():
            kept = torch.cat([tower.features(part) for part in parts])
        encoder.kept.put(key, kept, kept.numel() * kept.element_size())
    return kept, tokens


def class_anchors(encoder: DualEncoder, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return the classes' features in hand-written wordings ``(num_classes, embed_dim)``: their mean over wordings, normalised.

    Source: Radford et al., 2021, prompt ensembling.
    """
    mean = class_texts(encoder, names, templates).mean(0)
    return mean / mean.norm(dim=-1, keepdim=True)


def bind_classes(
    encoder: DualEncoder, template: ClassTemplate, names: Sequence[str], num_virtual_tokens: int, hand: Sequence[str], part_tokens: int = 0
) -> Bound:
    """Return the prompts and anchors of some classes, for a method to be bound to."""
    key = ("prompts", template, tuple(names), num_virtual_tokens)
    prompts: tuple[Prompt, ...] | None = encoder.kept.get(key, tuple)
    if prompts is None:
        prompts = prompts_of(template, encoder.text.tokenizer, names, num_virtual_tokens, encoder.text.most)
        encoder.kept.put(key, prompts, sum(8 * len(prompt.ids) for prompt in prompts))
    return Bound(encoder, prompts, class_anchors(encoder, names, hand), part_tokens, class_texts(encoder, names, hand))
