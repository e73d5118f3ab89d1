"""Example lines in the training loss: each weighs its part, in every kind of model; nothing else reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maao.class_lines import Line
from maao.problems.classification import ClassificationProblem
from maao.problems.scorers.head_starts import logistic_regression
from maao.problems.scorers.probes import Probe
from maao.types import Example, Splits
from tests.conformance.parts import soft_prompt_problem
from tests.problems.test_text_matchers import METHODS, PROBES, problem
from tests.tiny import LABELS, tiny_splits

TEXTS = (("a firm sells bonds", "business"), ("the song plays", "music"))
WEIGHT = 0.3


def lines(weight: float) -> tuple[Line, ...]:
    return tuple(Line(label, "examples", text, weight) for text, label in TEXTS)


def joined(splits: Splits) -> Splits:
    return replace(splits, lines=lines(WEIGHT))


def matcher(name: str, splits: Splits) -> ClassificationProblem[Any]:
    """Return the problem of a matcher on these splits, all of what is walked a batch."""
    made = problem(name)
    scorer, train = made.scorer, made.reader.split(splits.train, train=True)
    if isinstance(scorer, Probe):
        scorer = scorer.made_of(train, torch.tensor([LABELS.index(example.label) for example in splits.train]))
    return ClassificationProblem(made.method, scorer, made.codec, made.reader, splits, batch_size=100)


@pytest.mark.parametrize("name", ["coop", "linear_probe"])
def test_a_line_of_a_matcher_counts_by_its_weight(name: str) -> None:
    made = matcher(name, joined(tiny_splits(2)))
    params = made.initial(0)
    batch = made.batch(0, 0)
    each = F.cross_entropy(made.scorer.class_scores(made.method.realize(params), made.read(batch)), batch.targets, reduction="none")
    assert len(each) == 8
    expected = (each[:6].sum() + WEIGHT * each[6:].sum()) / (6 + 2 * WEIGHT)
    torch.testing.assert_close(made.loss(params, batch), expected)
    assert made.scorer.weights(made.read(batch), batch.targets).tolist() == pytest.approx([1.0] * 6 + [WEIGHT] * 2)


@pytest.mark.parametrize("name", [*METHODS, *PROBES])
def test_a_line_of_weight_one_is_as_good_as_an_example_in_every_method_of_matchers(name: str) -> None:
    splits = tiny_splits(2)
    said = matcher(name, replace(splits, lines=lines(1.0)))
    own = matcher(name, replace(splits, train=(*splits.train, *(Example({"text": text}, label) for text, label in TEXTS))))
    params = own.initial(0)
    torch.testing.assert_close(said.loss(params, said.batch(0, 0)), own.loss(params, own.batch(0, 0)))
    light = matcher(name, joined(splits))
    light_loss = float(light.loss(params, light.batch(0, 0)))
    assert light_loss != pytest.approx(float(own.loss(params, own.batch(0, 0))), abs=1e-7)


@pytest.mark.parametrize(
    ("architecture", "template", "model"),
    [
        ("llama", "{text} {slots} Topic:", {}),
        ("llama", "{text} {slots} Topic:", {"objective": "vocabulary"}),
        ("llama", "{text} {slots}", {"kind": "head", "class_weights": {"business": 1.0, "music": 3.0, "sport": 1.0}}),
        ("bert", "{text} {slots}", {}),
        ("bert_masked", "{text} {slots} Topic {mask}", {}),
        ("t5", "{slots} {text} Topic {mask}", {}),
    ],
)
def test_a_line_of_a_language_model_counts_by_its_weight_also_where_a_batch_runs_in_parts(
    architecture: str, template: str, model: dict[str, Any]
) -> None:
    made = soft_prompt_problem(architecture, template, splits=joined(tiny_splits(2)), model=model, batch_size=100, part_tokens=1)
    params = {name: value.requires_grad_() for name, value in made.initial(0).items()}
    batch = made.batch(0, 0)
    rows = made.read(batch)
    weights = made.scorer.weights(rows, batch.targets)
    plain = [row.weight for row in rows]
    assert plain == [None] * 6 + [WEIGHT] * 2
    alone = torch.stack([made.scorer.loss(made.method.realize(params), rows.take([i]), batch.targets[[i]]) for i in range(8)])
    torch.testing.assert_close(made.loss(params, batch), (alone * weights).sum() / weights.sum(), atol=1e-4, rtol=1e-4)
    (prompt, *_) = params.values()
    (own,) = torch.autograd.grad(made.loss(params, batch), [prompt])
    (expected,) = torch.autograd.grad((alone * weights).sum() / weights.sum(), [prompt])
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-3)


DOUBTED = (0.001, 0.001, 0.001, 0.001, 0.3, 0.9)  # by most of which a model goes hardly at all


def doubted(splits: Splits) -> Splits:
    texts = ("a firm sells bonds", "the song plays", "one goal", "the bank pays", "a band on tour", "the cup final")
    own = tuple(Line(LABELS[i % 3], "examples", text, weight) for i, (text, weight) in enumerate(zip(texts, DOUBTED, strict=True)))
    return replace(splits, lines=own)


def check_an_epoch_says_what_all_of_train_says(whole: ClassificationProblem[Any], made: ClassificationProblem[Any], batches: int) -> None:
    """Compare the gradient of a full batch with the mean over the batches of an epoch, at a point off the start."""
    draw = torch.Generator().manual_seed(3)
    params = {
        name: value + 0.1 * torch.randn(value.shape, generator=draw) if name not in ("start", "head.start") else value
        for name, value in whole.initial(0).items()
    }
    params = {name: value.requires_grad_() for name, value in params.items()}
    assert sorted(place for step in range(batches) for place in made.batch(step, 0).which) == [*range(12)]
    losses = [made.loss(params, made.batch(step, 0)) for step in range(batches)]
    each = [torch.autograd.grad(loss, list(params.values()), allow_unused=True) for loss in losses]
    all_at_once = whole.loss(params, whole.batch(0, 0))
    torch.testing.assert_close(torch.stack(losses).mean(), all_at_once, atol=1e-4, rtol=1e-4)
    for own, expected in zip(
        zip(*each, strict=True), torch.autograd.grad(all_at_once, list(params.values()), allow_unused=True), strict=True
    ):
        if expected is not None:
            torch.testing.assert_close(torch.stack(own).mean(0), expected, atol=1e-5, rtol=2e-3)


@pytest.mark.parametrize("name", ["coop", "kgcoop", "linear_probe", "class_residual"])
def test_batches_of_doubted_lines_weigh_little_so_that_an_epoch_says_what_all_of_train_says(name: str) -> None:
    whole = matcher(name, doubted(tiny_splits(2)))
    made = ClassificationProblem(whole.method, whole.scorer, whole.codec, whole.reader, whole.splits, batch_size=3)
    check_an_epoch_says_what_all_of_train_says(whole, made, 4)


@pytest.mark.parametrize(
    ("architecture", "template", "model"),
    [
        ("llama", "{text} {slots} Topic:", {}),
        ("llama", "{text} {slots} Topic:", {"objective": "vocabulary"}),
        ("bert", "{text} {slots}", {"head_anchor": 2.0, "class_weights": {"business": 1.0, "music": 3.0, "sport": 1.0}}),
    ],
)
@pytest.mark.parametrize("part_tokens", [1, 512])
def test_so_do_batches_of_a_language_model(architecture: str, template: str, model: dict[str, Any], part_tokens: int) -> None:
    of: dict[str, Any] = {"splits": doubted(tiny_splits(2)), "model": model, "part_tokens": part_tokens}
    whole, made = (soft_prompt_problem(architecture, template, batch_size=size, **of) for size in (100, 4))
    check_an_epoch_says_what_all_of_train_says(whole, made, 3)


def test_scores_and_clues_are_of_labelled_examples_alone() -> None:
    splits = tiny_splits(2)
    plain, made = (soft_prompt_problem("llama", splits=own) for own in (splits, joined(splits)))
    params = plain.initial(0)
    assert made.score([params], "train") == plain.score([params], "train")
    assert made.score([params], "select") == plain.score([params], "select")
    assert made.clues(params) == plain.clues(params)
    assert torch.equal(made.judged([params], "train")[0][1], plain.judged([params], "train")[0][1])


def test_prototypes_are_means_by_weight() -> None:
    made = {name: matcher(name, joined(tiny_splits(2))) for name in ("lp++", "class_residual")}
    lp, residual = made["lp++"].scorer, made["class_residual"].scorer
    train, targets = made["lp++"].inputs("train"), torch.tensor([*[0, 0, 1, 1, 2, 2], 0, 1])
    features, anchors, start = train.features, lp.bound.anchors, lp.extra(0)
    torch.testing.assert_close(start["weight"][0], (features[0] + features[1] + WEIGHT * features[6]) / (2 + WEIGHT))
    torch.testing.assert_close(start["weight"][2], features[4:6].mean(0))
    first = 2 * anchors[0] + features[0] + features[1] + WEIGHT * features[6]
    torch.testing.assert_close(residual.extra(0)["start"][0], first / first.norm())
    params = residual.extra(0)
    residual.class_examples = 0.0
    each = F.cross_entropy(residual.class_scores(params, train), targets, reduction="none")
    torch.testing.assert_close(residual.loss(params, train, targets), (each[:6].sum() + WEIGHT * each[6:].sum()) / (6 + 2 * WEIGHT))


def test_a_head_begins_at_weighted_logistic_regression_whose_strength_labelled_examples_judge() -> None:
    draw = np.random.default_rng(0)
    labelled = draw.normal(size=(12, 4))
    targets = np.array([0, 1] * 6)
    labelled[:, 0] += 3 * targets
    wrong = np.concatenate([labelled, labelled])  # lines that say the opposite of the labels
    lines = logistic_regression(
        torch.tensor(wrong), torch.tensor(np.concatenate([targets, 1 - targets])), 2, weights=[None] * 12 + [1e-6] * 12
    )
    plain = logistic_regression(torch.tensor(labelled), torch.tensor(targets), 2)
    torch.testing.assert_close(lines.weight, plain.weight, atol=1e-3, rtol=1e-3)
    assert "chosen by cross-validation in 5 parts" in lines.note
