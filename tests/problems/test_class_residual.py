"""Class features that begin at class texts and prototypes: exact starts, the loss by hand, and what of it moves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maao.codecs.no_words import NoWords
from maao.optimizers.torch import TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.known_texts import KnownTextReader
from maao.problems.scorers.class_residual import ClassResidual
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.matcher import bind_classes
from maao.problems.scorers.probes import LPPlusPlus, NoPrompt, ZeroShot
from maao.problems.towers.class_prompts import ClassTemplate
from maao.problems.towers.text.inputs import InputTemplate
from maao.types import Splits
from tests.tiny import LABELS, tiny_splits
from tests.tiny_sentence import tiny_matcher

WORDINGS = ["{class}", "news about {class}"]


def problem(
    kind: Any = ClassResidual, splits: Splits | None = None, wordings: Any = ("{class}",), batch_size: int = 5, **options: Any
) -> ClassificationProblem[Any]:
    encoder, splits = tiny_matcher("bert"), splits or tiny_splits()
    reader = KnownTextReader(encoder, InputTemplate.parse("{text}"))
    bound = bind_classes(encoder, ClassTemplate.parse("{class}"), LABELS, 0, wordings)
    train = reader.split(splits.train, train=True)
    targets = torch.tensor([LABELS.index(example.label) for example in splits.train], dtype=torch.long)
    probe = kind(bound, features=train.features_of.features, targets=targets, **options)
    return ClassificationProblem(NoPrompt(), probe, NoWords(), reader, splits, train=train, batch_size=batch_size)


def walked(made: ClassificationProblem[Any], steps: int = 40, lr: float = 0.05) -> Any:
    stage = TorchStage("Adam", lr=lr)
    state = stage.init(made, made.initial(0), seed=0)
    for _ in range(steps):
        state, _ = stage.step(made, state)
    return state


def test_a_class_begins_at_the_weighted_mean_of_its_text_and_its_examples() -> None:
    texts = torch.tensor([[1.0, 0.0], [0.0, 4.0], [7.0, 7.0]])
    features = torch.tensor([[4.0, 3.0], [0.0, 2.0], [1.0, 0.0]])
    targets = torch.tensor([0, 1, 0])
    both = class_starts(texts, features, targets, text_weight=2.0)
    assert both.tolist() == [[1.75, 0.75], [0.0, pytest.approx(10 / 3)], [7.0, 7.0]]
    alone = class_starts(texts, features, targets, text_weight=0.0)
    assert alone.tolist() == [[2.5, 1.5], [0.0, 2.0], [7.0, 7.0]]
    weighed = class_starts(texts, features, targets, text_weight=0.5, weights=torch.tensor([0.5, 1.0, 0.0]))
    assert weighed.tolist() == [[2.5, 1.5], [0.0, pytest.approx(4 / 1.5)], [7.0, 7.0]]


def test_without_an_example_it_is_zero_shot_with_the_class_texts() -> None:
    none = replace(tiny_splits(), train=())
    made, zero = problem(splits=none), problem(ZeroShot, splits=none)
    (score,), (expected,) = made.score([made.initial(0)], "test"), zero.score([zero.initial(0)], "test")
    assert score.loss == pytest.approx(expected.loss, abs=1e-6) and score.metrics == expected.metrics


@pytest.mark.parametrize("kind", [ClassResidual, LPPlusPlus])
def test_a_class_that_train_lacks_begins_at_its_text(kind: Any) -> None:
    splits = tiny_splits()
    fewer = replace(splits, train=tuple(example for example in splits.train if example.label != LABELS[1]))
    made = problem(kind, splits=fewer)
    params = made.initial(0)
    begun = params["start" if kind is ClassResidual else "weight"][1]
    torch.testing.assert_close(begun, made.scorer.bound.anchors[1], atol=1e-6, rtol=0)
    assert all(bool(value.isfinite().all()) for value in params.values())
    assert math.isfinite(walked(made, steps=3).params["residual" if kind is ClassResidual else "weight"].sum())


def test_the_loss_is_that_of_a_maximum_a_posteriori_estimate() -> None:
    made = problem(anchor=3.0, class_examples=0.5, text_weight=2.0, wordings=WORDINGS, batch_size=100)
    params = dict(made.initial(0))
    shape = params["residual"].shape
    params["residual"] = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    params["bias"] = torch.tensor([0.3, -0.2, 0.1])
    batch = made.batch(0, 0)
    inputs, texts = made.read(batch).features, made.scorer.bound.texts
    examples = len(made.splits.train)
    weight = 10 * params["start"] + params["residual"]  # half the scale that texts are compared with

    def losses(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(features @ weight.T + params["bias"], targets, reduction="none")

    assert texts.shape[:2] == (2, 3)
    words = sum(losses(own, torch.arange(3)).sum() for own in texts)
    expected = (losses(inputs, batch.targets).sum() + 0.5 * words + 1.5 * params["residual"].square().sum()) / (examples + 0.5 * 6)
    assert float(made.loss(params, batch)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("places", [range(12), [3, 5, 8, 9]])
def test_batches_read_every_class_text_once_an_epoch(places: Any) -> None:
    """What they read is unbiased: over an epoch of equal batches their mean loss is that of the whole."""
    whole = problem(wordings=WORDINGS, batch_size=100)
    train = whole.inputs("train").take(list(places))
    scorer = whole.scorer.made_of(train, whole._targets["train"][list(places)])
    params = whole.initial(0)
    halves = [list(range(len(places) // 2)), list(range(len(places) // 2, len(places)))]
    read = [scorer._texts_beside(train.take(half), 6).tolist() for half in halves]
    assert sorted(read[0] + read[1]) == list(range(6))
    targets = scorer.targets
    parts = [float(scorer.loss(params, train.take(half), targets[half])) for half in halves]
    assert sum(parts) / 2 == pytest.approx(float(scorer.loss(params, train, targets)), rel=1e-5)


def test_a_trained_scale_is_held_by_a_prior() -> None:
    made = problem(train_scale=True, class_examples=0.0, bias=False, anchor=0.0, batch_size=100)
    params = dict(made.initial(0))
    begun = float(params["log_scale"])
    plain = float(made.loss(params, made.batch(0, 0)))
    params["start"] = params["start"] / 2
    params["log_scale"] = params["log_scale"] + math.log(2)
    assert float(made.loss(params, made.batch(0, 0))) == pytest.approx(plain + 5 * math.log(2) ** 2 / len(made.splits.train), rel=1e-5)
    assert begun == pytest.approx(math.log(10.0)) == float(problem(start_scale=10.0).initial(0)["log_scale"])


@pytest.mark.parametrize("train_scale", [True, False])
def test_a_walk_moves_what_is_trained_and_never_the_start(train_scale: bool) -> None:
    made = problem(train_scale=train_scale)
    state, begun = walked(made), made.initial(0)
    moved = {name for name in begun if not torch.equal(state.params[name], begun[name])}
    assert moved == {"residual", "bias"} | ({"log_scale"} if train_scale else set())
    assert made.score([state.params], "train")[0].loss < made.score([begun], "train")[0].loss


def test_an_anchor_holds_the_classes_at_their_start() -> None:
    free, held = (walked(problem(anchor=anchor)).params["residual"].norm() for anchor in (0.0, 100.0))
    assert float(held) < 0.1 * float(free)


def test_class_features_and_their_scale_give_the_scores() -> None:
    made = problem()
    params, scorer = walked(made).params, made.scorer
    inputs = made.inputs("test")
    scores = scorer.scale(params) * inputs.features @ scorer.classes(params).T + scorer.class_bias(params)
    torch.testing.assert_close(scores, scorer.class_scores(params, inputs), atol=1e-5, rtol=1e-5)
    alone = scorer.class_scores(*scorer.share(params, inputs))
    assert torch.equal(alone, scorer.class_scores(params, inputs))
