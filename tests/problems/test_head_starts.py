"""Where a head begins: the formulas, and scikit-learn's own scores."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from maao.errors import ConfigError
from maao.problems.scorers.head_starts import STRENGTHS, from_class_features, logistic_regression


def blobs(num_classes: int, count: int = 6, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    middles = 3 * torch.randn(num_classes, width, generator=draw)
    targets = torch.arange(num_classes).repeat(count)
    scale = torch.tensor([1.0, 10.0, 0.1, 1.0, 1.0])
    return (middles[targets] + torch.randn(len(targets), width, generator=draw)) * scale + 7, targets


def test_class_texts_are_read_by_distance() -> None:
    classes = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    head = from_class_features(classes)
    features = torch.randn(9, 6, generator=torch.Generator().manual_seed(2))
    size = (classes - classes.mean(0)).pow(2).sum(-1).mean()
    expected = (-torch.cdist(features, classes).pow(2) / 2 / size).log_softmax(-1)
    torch.testing.assert_close((features @ head.weight.T + head.bias).log_softmax(-1), expected, atol=1e-5, rtol=0)


def test_classes_of_one_text_are_named() -> None:
    with pytest.raises(ConfigError, match="same feature"):
        from_class_features(torch.ones(3, 4))


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_logistic_regression_gives_the_scores_of_scikit_learn(num_classes: int, with_bias: bool) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, targets = blobs(num_classes)
    head = logistic_regression(features, targets, num_classes, with_bias=with_bias)
    strength = float(head.note.split("C = ")[1].split()[0])
    assert strength in STRENGTHS and "cross-validation in 5 parts" in head.note
    middle = features.mean(0) if with_bias else 0 * features.mean(0)
    scaled = ((features - middle) / (features - middle).pow(2).mean(0).sqrt()).double().numpy()
    theirs = linear_model.LogisticRegression(C=strength, fit_intercept=with_bias, max_iter=1000).fit(scaled, targets.numpy())
    ours = (features @ head.weight.T + head.bias).softmax(-1)
    torch.testing.assert_close(ours.double(), torch.from_numpy(theirs.predict_proba(scaled)), atol=1e-4, rtol=0)
    assert with_bias or not head.bias.any()


def test_folds_follow_from_the_seed_alone() -> None:
    pytest.importorskip("sklearn")
    features, targets = blobs(3)
    first, again = (logistic_regression(features, targets, 3, seed=5) for _ in range(2))
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)


def test_a_class_of_one_example_leaves_nothing_to_choose_by_and_one_of_none_comes_last() -> None:
    pytest.importorskip("sklearn")
    features, targets = blobs(3, count=4)
    kept = [i for i, target in enumerate(targets.tolist()) if target != 1][:5]
    kept.append(1)
    head = logistic_regression(features[kept], targets[kept], 5)
    assert "C = 1 (a class has one example" in head.note
    scores = features @ head.weight.T + head.bias
    assert set(scores.argmax(-1).tolist()) <= {0, 1, 2} and not head.weight[3:].any()


def test_examples_of_one_class_are_named() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ConfigError, match="two classes"):
        logistic_regression(torch.randn(4, 3), torch.zeros(4, dtype=torch.long), 2)


def test_what_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", missing)
    with pytest.raises(ConfigError, match=r"maao\[sklearn\]"):
        logistic_regression(*blobs(2), 2)
