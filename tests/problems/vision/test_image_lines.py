"""Class lines of pictures: texts of the classes beside their names, in the start of class features and in their loss (CuPL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maao.config import make_config
from maao.errors import ConfigError
from maao.optimizers.serializer import TorchSerializer
from maao.problems.line_weights import TRUST
from maao.problems.lined import LINES, LinedProblem, lined, lines_of
from maao.problems.scorers.class_residual import ClassResidual
from maao.testing import ProblemConformance
from maao.types import Splits
from tests import tiny_vision as tiny

NAMES = tiny.NAMES
FIELDS = {
    f"descriptions.{NAMES[0]}": "a round thing\nred all over",
    f"examples.{NAMES[1]}": "a picture of it",
    "lines_weight": "0.5",
}
TEXT_WEIGHT, ANCHOR, CLASS_EXAMPLES = 5.0, 0.3, 0.7


def problem(views: int = 0, shots: int = 4) -> LinedProblem:
    encoder = tiny.clip_encoder()
    made = ClassResidual(tiny.bound(encoder), text_weight=TEXT_WEIGHT, anchor=ANCHOR, class_examples=CLASS_EXAMPLES)
    plain = tiny.problem(made, encoder, batch_size=100, views=views)
    scorer = made.made_of(plain.inputs("train"), torch.arange(3).repeat_interleave(4))
    return lined(tiny.problem(scorer, encoder, batch_size=100, views=views), 0)


class TestPicturesWithLinesAreAProblem(ProblemConformance):
    @pytest.fixture(params=[0, 2])
    def problem(self, request: Any) -> Any:
        made = problem(views=request.param)
        began = {seed: made.codec.encode("", {**FIELDS, "lines_weight": str(0.1 + 0.1 * seed)}).params for seed in range(5)}
        made.initial = began.__getitem__  # type: ignore[method-assign]
        return made

    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()


def text_features(texts: list[str]) -> Tensor:
    """Return the features of texts by the tower alone, one at a time."""
    encoder = tiny.clip_encoder()
    tower = encoder.modules
    ids = [encoder.text.tokenizer(text, return_tensors="pt").input_ids for text in texts]
    with torch.no_grad():
        found = torch.cat([tower.get_text_features(input_ids=one).pooler_output for one in ids])
    return found / found.norm(dim=-1, keepdim=True)


def said(label: str) -> list[str]:
    return [text for kind in ("examples", "descriptions") for text in FIELDS.get(f"{kind}.{label}", "").split("\n") if text]


def slow_starts(made: LinedProblem, weights: Mapping[str, float]) -> Tensor:
    features, found = made.plain.inputs("train").features, []
    for number, label in enumerate(NAMES):
        words = text_features([f"a photo of the {label}."])[0]
        for text in said(label) if weights else []:
            words = words + weights[text] * text_features([text])[0]
        words = words / words.norm()
        total = TEXT_WEIGHT * words + features[4 * number : 4 * number + 4].sum(0)
        found.append(total / total.norm())
    return torch.stack(found)


def test_start_weights_and_loss_are_those_of_a_slow_computation() -> None:
    made = problem()
    encoder = tiny.clip_encoder()
    params = dict(made.codec.encode("", FIELDS).params)
    before = slow_starts(made, {})
    weights = {}
    for number, label in enumerate(NAMES):
        for text in said(label):
            p = float((encoder.scale * before @ text_features([text])[0]).softmax(-1)[number])
            weights[text] = 0.5 * TRUST * p / (TRUST * p + (1 - TRUST) / 3)
    assert {line.text: line.weight for line in lines_of(params)} == pytest.approx(weights, rel=1e-3)
    start = slow_starts(made, weights)
    torch.testing.assert_close(params["start"], start, atol=1e-5, rtol=1e-4)

    params["residual"] = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    weight = params["log_scale"].exp() * start + params["residual"]
    total, count = ANCHOR / 2 * float(params["residual"].pow(2).sum()), 0.0
    for feature, number in zip(made.plain.inputs("train").features, torch.arange(3).repeat_interleave(4), strict=True):
        total, count = total + float(F.cross_entropy((weight @ feature)[None], number[None])), count + 1
    for number, label in enumerate(NAMES):
        for text, own in [(f"a photo of the {label}.", 1.0), *((text, weights[text]) for text in said(label))]:
            share = CLASS_EXAMPLES * own
            scores = (weight @ text_features([text])[0])[None]
            total, count = total + share * float(F.cross_entropy(scores, torch.tensor([number]))), count + share
    assert float(made.loss(params, made.batch(0, 0))) == pytest.approx(total / count, rel=1e-4)


def test_without_labels_descriptions_are_all_that_is_walked_on() -> None:
    encoder, pictures = tiny.clip_encoder(), tiny.splits()
    made = tiny.problem(ClassResidual(tiny.bound(encoder)), encoder, batch_size=100)
    made = type(made)(made.method, made.scorer, made.codec, made.reader, Splits((), (), pictures.test, NAMES), batch_size=100)
    around = lined(made, 0)
    params = {name: value.requires_grad_(value.is_floating_point()) for name, value in around.codec.encode("", FIELDS).params.items()}
    assert float(params["log_scale"].detach().exp()) == pytest.approx(encoder.scale)
    loss = around.loss(params, around.batch(0, 0))
    loss.backward()
    assert float(loss.detach()) > 0 and float(params["residual"].grad.abs().sum()) > 0
    assert LINES in params


def test_prompts_around_the_names_of_pictures_read_no_lines() -> None:
    config = make_config(
        {"model": {"name": "packaged:emoji-vit", "method": "coop"}, "data": {"source": "emoji"}, "mentor": {"name": "class_wordings"}}
    )
    with pytest.raises(ConfigError, match="'coop' reads class lines among its inputs, and these are pictures: take 'class_residual'"):
        config.builder.check()
