"""The words around class names, for a frozen dual encoder, as a `Problem`: few-shot image classification by every method here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maao.core.seeds import seed_for
from maao.errors import ConfigError, DataError, ProblemError
from maao.problems.evidence import Wrong, accuracies, epoch_batch
from maao.problems.towers.class_prompts import ClassTemplate, prompts_of
from maao.problems.towers.dual import DualEncoder
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.image.features import Pictures, Source
from maao.problems.vision.methods import Bound, Images, Method
from maao.protocols import Params, TokenCodec
from maao.types import Clues, Cost, Example, Projection, Score, Split, Splits


@dataclass(frozen=True, slots=True)
class Batch:
    """Which pictures of `train`, which view of each (None: its middle), and their class numbers ``(batch,)``."""

    which: tuple[int, ...]
    views: tuple[int, ...] | None
    targets: Tensor


def class_anchors(encoder: DualEncoder, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return the classes' features in hand-written wordings ``(num_classes, embed_dim)``: their mean over wordings, normalised.

    Source: Radford et al., 2021, prompt ensembling.
    """
    if not templates:
        raise ConfigError('There is no hand-written wording of the classes: give at least one, "a photo of a {class}.", say.')
    with torch.no_grad():
        each = []
        for text in templates:
            template = ClassTemplate.parse(text)
            if template.has_slots:
                raise ConfigError(f"The hand-written wording {text!r} has slots: it is read as it stands, with {{class}} alone.")
            each.append(encoder.text.features(prompts_of(template, encoder.text.tokenizer, names, 0, encoder.text.most)))
        mean = torch.stack(each).mean(0)
    return mean / mean.norm(dim=-1, keepdim=True)


def bind_classes(
    encoder: DualEncoder, template: ClassTemplate, names: Sequence[str], num_virtual_tokens: int, hand: Sequence[str], part_tokens: int = 0
) -> Bound:
    """Return the prompts and anchors of some classes, for a method to be bound to."""
    prompts = prompts_of(template, encoder.text.tokenizer, names, num_virtual_tokens, encoder.text.most)
    return Bound(encoder, prompts, class_anchors(encoder, names, hand), part_tokens)


class ImageProblem:
    """Few-shot image classification with a frozen dual encoder.

    Args:
        encoder: the towers.
        splits: labelled pictures; the field "image" of an example is what `source` opens.
        source: opens pictures.
        codec: the words of a context; None for methods without one.
        method: what is trained, bound to the classes in the order of ``splits.labels``.
        store: where features are kept.
        batch_size: pictures a step; all of `train` if there are no more.
        score_batch: pictures that run through the image tower at a time.
        views: random views of each training picture (crops, mirrored); 0: pictures as they are.
        pixel_bytes: memory for pixels, for methods that run the image tower at every step.
        with_clues: say in words where a leg ended.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        splits: Splits,
        source: Source,
        codec: TokenCodec[Params] | None,
        method: Method,
        *,
        store: FeatureStore | None = None,
        batch_size: int = 32,
        score_batch: int = 64,
        views: int = 0,
        pixel_bytes: int = 2**30,
        clue_tokens: int = 3,
        clue_misread: int = 5,
        with_clues: bool = True,
    ) -> None:
        self.encoder, self.splits, self.codec, self.method = encoder, splits, codec, method
        self._source, self.store = source, store or FeatureStore(None)
        self.elsewhere: dict[str, ImageProblem] = {}  # where what was tuned is judged besides, by name
        self._batch_size, self._score_batch = batch_size, score_batch
        self._clue_tokens, self._clue_misread, self._with_clues = clue_tokens, clue_misread, with_clues
        numbers = {label: i for i, label in enumerate(splits.labels)}
        self._pictures: dict[str, Pictures] = {}
        self._targets: dict[str, Tensor] = {}
        for name in ("train", "select", "test"):
            examples = getattr(splits, name)
            own = Pictures(
                encoder,
                source,
                [e.fields["image"] for e in examples],
                views=views if name == "train" else 0,
                batch=score_batch,
                max_bytes=pixel_bytes,
            )
            self._pictures[name] = own.fill(self.store)
            self._targets[name] = torch.tensor([numbers[e.label] for e in examples], dtype=torch.long)
        self.views = views
        self.prepared = Cost(model_tokens=sum(pictures.computed_tokens for pictures in self._pictures.values()))
        self.notes = (
            ()
            if not method.tunes_images
            else (f"{method.name} puts what it trains into the image tower: every step runs it, and no features of images can be kept",)
        )

    def train_features(self) -> tuple[Tensor, Tensor]:
        """Return the features of `train` and their class numbers."""
        return self._pictures["train"].features, self._targets["train"]

    # -- Problem

    def initial(self, seed: int) -> Params:
        # A method without a context has no rows.
        rows = torch.zeros(0, 0) if self.codec is None else self.method.in_words(self.codec.random(seed))
        return self.method.initial(seed_for(seed, "method"), rows)

    def batch(self, step: int, seed: int) -> Batch:
        targets = self._targets["train"]
        count = len(targets)
        if not count:
            raise ProblemError("There are no pictures in the split 'train' to walk on.")
        which = epoch_batch(count, self._batch_size, step, seed)
        views = None
        if self.views:
            drawn = torch.randint(self.views, (len(which),), generator=torch.Generator().manual_seed(seed_for(seed, "views", step)))
            views = tuple(drawn.tolist())
        return Batch(tuple(which), views, targets[which])

    def loss(self, params: Params, batch: Batch) -> Tensor:
        images = self._images("train", batch.which, batch.views)
        return self.method.loss(params, images, batch.targets.to(self.encoder.device))

    def num_tokens(self, params: Params, batch: Batch) -> int:
        # A probe on kept features runs nothing; a step is counted all the same.
        return max(1, self._num_tokens("train", batch.which))

    def score(self, points: Sequence[Params], split: Split) -> tuple[Score, ...]:
        return tuple(self._score(params, split) for params in points)

    def _score(self, params: Params, split: Split) -> Score:
        targets = self._targets.get(split)
        if targets is None or not len(targets):
            raise ProblemError(f"There are no pictures in the split '{split}' to score.")
        scores = self._scores(params, split)
        metrics = accuracies(scores, targets)
        loss = float(F.cross_entropy(scores, targets))
        tokens = self._num_tokens(split, range(len(targets)))
        return Score(
            loss, metrics, len(targets), Cost(model_tokens=tokens, scored_examples=len(targets), selection_evals=int(split == "select"))
        )

    def clues(self, params: Params, *, start: Params | None = None, score: Score | None = None) -> Clues:
        if not self._with_clues or self.codec is None or "prompt" not in params:
            return Clues()
        scores = self._scores(params, "train")
        targets = self._targets["train"]
        wrong = Wrong.of(self.splits, scores, targets)
        projection = self._project(params, score or self._score(params, "select"))
        here = self.method.in_words(params)
        there = None if start is None or start["prompt"].shape != params["prompt"].shape else self.method.in_words(start)
        gradient = self._gradient(params)
        tokens = self._num_tokens("train", range(len(targets))) * 3 + (projection.score.cost.model_tokens if projection else 0)
        return Clues(
            projection=projection,
            nearest=self.codec.nearest(here, self._clue_tokens),
            gradient=self._pointing(-gradient),
            displacement=() if there is None else self._pointing(here - there),
            confusions=wrong.confusions(),
            misread=wrong.worst(self._clue_misread, lambda e: e.fields.get("name", e.fields["image"])),
            cost=replace(projection.score.cost if projection else Cost(), model_tokens=tokens) + Cost(scored_examples=len(targets)),
        )

    # -- using what was tuned

    @property
    def fields(self) -> tuple[str, ...]:
        return ("image",)

    def probabilities(self, params: Params, inputs: Sequence[Example]) -> Tensor:
        """Return ``(len(inputs), num_classes)`` probabilities of pictures that the problem's source opens."""
        keys = [example.fields["image"] for example in inputs]
        return self._scores_of(params, Pictures(self.encoder, self._source, keys, batch=self._score_batch).fill(self.store)).softmax(-1)

    def split_probabilities(self, params: Params, split: Split) -> Tensor:
        """Return ``(num_examples, num_classes)`` probabilities of the pictures of a split."""
        return self._scores(params, split).softmax(-1)

    def cuts(self, params: Params, inputs: Sequence[Example]) -> tuple[int, ...]:
        """Return how many tokens of each input do not fit: a picture is read whole."""
        return (0,) * len(inputs)

    def picture(self, key: str) -> Any:
        """Return a picture of the data by its key."""
        return self._source.open(key)

    def classes(self, params: Params) -> Tensor:
        """Return ``(num_classes, embed_dim)``, the classes' features as tuned, so that serving needs no text tower.

        Raises:
            ConfigError: they differ from image to image (CoCoOp), or there are none (probes).
        """
        with torch.no_grad():
            found = self.method.classes(params)
        if found is None:
            raise ConfigError(f"'{self.method.name}' has no class features that stand for all images: keep its params instead.")
        return found.cpu()

    # -- parts

    def _num_tokens(self, split: str, which: Sequence[int]) -> int:
        """Return how many tokens one pass over inputs runs; an input whose features are kept runs through no tower."""
        inputs = self._pictures[split].num_tokens(which) if self.method.tunes_images else 0
        return inputs + self.method.num_tokens(len(which))

    def _images(self, split: str, which: Sequence[int], views: Sequence[int] | None = None) -> Images:
        return self._seen(self._pictures[split], which, views)

    def _seen(self, pictures: Pictures, which: Sequence[int], views: Sequence[int] | None = None) -> Images:
        features = pictures.of(which, views).to(self.encoder.device)
        return Images(features, pictures.raw(which, views) if self.method.tunes_images else None)

    def _scores(self, params: Params, split: str) -> Tensor:
        return self._scores_of(params, self._pictures[split])

    def _scores_of(self, params: Params, pictures: Pictures) -> Tensor:
        """Return scores on the CPU. Classes are read once; pictures go through what is tuned of their tower part by part."""
        with torch.no_grad():
            classes = self.method.classes(params)
            found = []
            for begin in range(0, len(pictures.keys), self._score_batch):
                images = self._seen(pictures, range(begin, min(begin + self._score_batch, len(pictures.keys))))
                if classes is None:
                    own = self.method.logits(params, images)
                elif self.method.tunes_images:
                    own = self.encoder.logits(self.method.images(params, images.pixels), classes)  # type: ignore[attr-defined]
                else:
                    own = self.encoder.logits(images.features, classes)
                found.append(own.float().cpu())
        return torch.cat(found)

    def _gradient(self, params: Params) -> Tensor:
        """Return the gradient of the mean cross-entropy over `train` with respect to the context, part by part."""
        prompt = params["prompt"].detach().clone().requires_grad_()
        targets = self._targets["train"]
        total = torch.zeros_like(prompt)
        size = self._score_batch if self.method.tunes_images or self.method.classes(params) is None else len(targets)
        for begin in range(0, len(targets), size):
            which = range(begin, min(begin + size, len(targets)))
            scores = self.method.logits({**params, "prompt": prompt}, self._images("train", which))
            loss = F.cross_entropy(scores, targets[list(which)].to(scores.device), reduction="sum") / len(targets)
            total += torch.autograd.grad(loss, prompt)[0]
        return self.method.in_words({"prompt": total})

    def _project(self, params: Params, soft: Score) -> Projection | None:
        """Return the point's words with what they are worth on `select`; None if no words near it survive."""
        assert self.codec is not None
        words = self.codec.decode(params).text
        if words is None:
            return None
        hard = self._score({**params, **self.codec.encode(words).params}, "select")
        return Projection(words, hard, hard.loss - soft.loss)

    def _pointing(self, directions: Tensor) -> tuple[Any, ...]:
        assert self.codec is not None
        return self.codec.nearest(directions, self._clue_tokens) if bool(directions.any()) else ()


def transferred(problem: ImageProblem, splits: Splits, bound: Bound, source: Source, store: FeatureStore | None = None) -> ImageProblem:
    """Return the problem of the same method on other classes or other pictures, so that what was tuned is scored there.

    Raises:
        ConfigError: the method is bound to its own classes (probes, contexts of each class's own).
        DataError: there are no pictures.
    """
    if not (splits.train or splits.select or splits.test):
        raise DataError("There are no pictures to judge what was tuned on.")
    return ImageProblem(problem.encoder, splits, source, problem.codec, problem.method.bind(bound), store=store, with_clues=False)
