"""Texts through matchers: every method of matchers on a tiny sentence encoder, its features kept, its scale trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maao import choices
from maao.codecs.method import MethodCodec, Start
from maao.codecs.nearest_token import NearestTokenCodec
from maao.codecs.no_words import NoWords
from maao.errors import ConfigError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.known_texts import KnownTextReader
from maao.problems.scorers.class_residual import ClassResidual
from maao.problems.scorers.matcher import Matcher, bind_classes
from maao.problems.scorers.probes import LinearProbe, LPPlusPlus, NoPrompt, ZeroShot
from maao.problems.towers.class_prompts import ClassTemplate
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.text.inputs import InputTemplate
from maao.testing import ProblemConformance
from maao.types import Example
from tests.tiny import LABELS, tiny_splits
from tests.tiny_sentence import tiny_matcher

OPTIONS = {name: choices.load("method", name) for name in choices.names("method")}  # a new method joins by its row in the table
METHODS: dict[str, Any] = {name: options for name, options in OPTIONS.items() if options.of_matchers and options.has_prompt}
PROBES: dict[str, Callable[..., Any]] = {p.name: p for p in (ZeroShot, LinearProbe, LPPlusPlus, ClassResidual)}
SLOTS = 3


def reader_of(encoder: Any, store: FeatureStore | None = None) -> KnownTextReader:
    return KnownTextReader(encoder, InputTemplate.parse("{text}"), store=store, batch=5)


def problem(
    name: str = "coop", architecture: str = "bert", *, store: FeatureStore | None = None, initial: Any = "vocabulary", **options: Any
) -> ClassificationProblem[Any]:
    encoder, splits = tiny_matcher(architecture), tiny_splits()
    reader = reader_of(encoder, store)
    common: dict[str, Any] = {"batch_size": 5, "score_batch": 4}
    if name in PROBES:
        bound = bind_classes(encoder, ClassTemplate.parse("{class}"), LABELS, 0, ["{class}"])
        targets = torch.tensor([LABELS.index(example.label) for example in splits.train])
        probe = PROBES[name](bound, features=reader.split(splits.train, train=True).features_of.features, targets=targets)
        return ClassificationProblem(NoPrompt(), probe, NoWords(), reader, splits, **common)
    bound = bind_classes(encoder, ClassTemplate.parse("{slots} {class}"), LABELS, SLOTS, ["{class}"])
    method = METHODS[name](**options).build(bound)
    tower = encoder.text
    nearest = NearestTokenCodec(tower.tokenizer, tower.table, num_virtual_tokens=SLOTS)
    codec = MethodCodec(method, nearest, Start(initial, SLOTS, tower.width, text="news about the"))
    return ClassificationProblem(method, Matcher(method), codec, reader, splits, **common)


class OnTexts(ProblemConformance):
    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()


class TestEveryMethodIsAProblem(OnTexts):
    @pytest.fixture(params=METHODS)
    def problem(self, request: Any) -> Any:
        return problem(request.param)


class TestOnACausalEncoder(OnTexts):
    @pytest.fixture(params=["coop", "maple"])
    def problem(self, request: Any) -> Any:
        return problem(request.param, "llama")


def test_scores_are_the_cosine_with_the_texts_of_the_classes_times_the_scale() -> None:
    made = problem(initial="text")
    params = made.initial(0)
    encoder = tiny_matcher("bert")
    with torch.no_grad():
        inputs = encoder.input.features(encoder.input.read([e.fields["text"] for e in made.splits.select])[0])
        classes = encoder.input.features(encoder.input.read([f"news about the {label}" for label in LABELS])[0])
    expected = 20 * inputs @ classes.T
    targets = torch.tensor([LABELS.index(example.label) for example in made.splits.select])
    (score,) = made.score([params], "select")
    assert score.loss == pytest.approx(float(F.cross_entropy(expected, targets)), rel=1e-5)
    probable = made.probabilities(params, [Example({"text": e.fields["text"]}, "") for e in made.splits.select])
    torch.testing.assert_close(probable, expected.softmax(-1), atol=1e-5, rtol=0)


def test_the_scale_is_trained_from_what_sentence_encoders_are_trained_with_and_stays_below_a_hundred() -> None:
    made = problem()
    params = {name: value.requires_grad_() for name, value in made.initial(0).items()}
    assert float(params["log_scale"].detach().exp()) == pytest.approx(20.0)
    made.loss(params, made.batch(0, 0)).backward()
    assert params["log_scale"].grad is not None and bool(params["log_scale"].grad)
    assert isinstance(made.scorer, Matcher)
    assert float(made.scorer.scale({"log_scale": torch.tensor(math.log(500.0))})) == pytest.approx(100.0)


@pytest.mark.parametrize("name", ["prograd", "promptsrc", "kgcoop"])
def test_what_the_frozen_model_knows_does_not_move_the_scale(name: str) -> None:
    """The distance to the zero-shot scores is zero where nothing is tuned yet, and so is its part in the gradient."""
    made = problem(name)
    params = {key: value.requires_grad_() for key, value in made.initial(0).items()}
    (gradient,) = torch.autograd.grad(made.loss(params, made.batch(0, 0)), params["log_scale"])
    assert bool(torch.isfinite(gradient))


def test_a_text_restarts_the_prompt_and_leaves_the_scale() -> None:
    made = problem()
    start = made.codec.encode("news about the").params
    assert set(start) == {"prompt"}


@pytest.mark.parametrize("name", ["coop", "input_prompt", "maple", "linear_probe", "class_residual"])
def test_a_walk_learns_train(name: str) -> None:
    made = problem(name)
    stage = TorchStage("Adam", lr=0.05)
    state = stage.init(made, made.initial(0), seed=0)
    before = made.score([state.params], "train")[0].loss
    for _ in range(150):
        state, _ = stage.step(made, state)
    assert made.score([state.params], "train")[0].loss < before - 0.02


@pytest.mark.parametrize("name", PROBES)
def test_probes_read_kept_features(name: str) -> None:
    made = problem(name)
    params = made.initial(0)
    (score,) = made.score([params], "test")
    assert score.num_examples == len(made.splits.test) and score.cost.model_tokens == 0
    made.loss({key: value.requires_grad_() for key, value in params.items()}, made.batch(0, 0)).backward()


def test_features_are_kept_between_runs(tmp_path: Any) -> None:
    store = FeatureStore(tmp_path / "f.sqlite")
    first, again = problem(store=store), problem("kgcoop", store=store)
    assert first.prepared.model_tokens > 0 == again.prepared.model_tokens
    assert torch.equal(first.inputs("test").features, again.inputs("test").features)


def test_a_tuned_input_tower_counts_its_tokens() -> None:
    params = problem("maple").initial(0)
    shallow, deep = problem("coop"), problem("maple")
    batch = deep.batch(0, 0)
    assert deep.num_tokens(params, batch) - shallow.num_tokens(params, batch) == deep.inputs("train").take(batch.which).num_tokens > 0


def test_rows_equal_to_words_read_the_input_as_these_words_before_it() -> None:
    made = problem("input_prompt", initial="text", num_input_tokens=3)
    tower, params = made.scorer.encoder.text, dict(made.initial(0))
    ids = tower.tokenizer("the news of", add_special_tokens=False).input_ids
    params["input_prompt"] = tower.table[ids]
    texts = [Example({"text": e.fields["text"]}, "") for e in made.splits.select]
    before = [Example({"text": f"the news of {e.fields['text']}"}, "") for e in made.splits.select]
    plain = problem("coop", initial="text")
    coop = {name: value for name, value in params.items() if name != "input_prompt"}
    torch.testing.assert_close(made.probabilities(params, texts), plain.probabilities(coop, before), atol=1e-5, rtol=0)
    tokens = made.num_tokens(params, made.batch(0, 0)) - plain.num_tokens(coop, plain.batch(0, 0))
    read = made.inputs("train").take(made.batch(0, 0).which)
    assert len(ids) == 3 and tokens == read.num_tokens + 3 * len(read)


def test_a_field_that_an_example_lacks_is_named() -> None:
    made = problem()
    with pytest.raises(ConfigError, match=r"unknown field \{text\}"):
        made.probabilities(made.initial(0), [Example({"title": "a"}, "")])
