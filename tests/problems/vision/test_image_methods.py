from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from maao.errors import CodecError, ConfigError
from maao.problems.methods.cocoop import CoCoOp
from maao.problems.methods.coop import CoOp
from maao.problems.methods.kgcoop import KgCoOp
from maao.problems.methods.layers import depth_of
from maao.problems.methods.maple import MaPLe
from maao.problems.methods.prograd import ProGrad
from maao.problems.methods.promptsrc import PromptSRC
from maao.problems.methods.tcp import TCP
from maao.problems.scorers.matcher import Matcher
from maao.problems.scorers.probes import LinearProbe, LPPlusPlus, NoPrompt, ZeroShot
from maao.problems.towers.dual_loading import from_transformers
from maao.problems.towers.image.preprocess import Preprocess
from tests import tiny_vision as tiny
from tests.problems.vision import reference

METHODS: dict[str, Callable[..., Any]] = {m.name: m for m in (CoOp, KgCoOp, ProGrad, CoCoOp, TCP, MaPLe, PromptSRC)}
TARGETS = [0, 2, 1, 2]
SEED_OF_CONFLICT = 0  # a point where the two gradients of ProGrad part


class Case:
    """A tiny CLIP in double precision, its images, and a point a step away from a method's start."""

    def __init__(self, method: str, *, seed: int = 3, **options: Any) -> None:
        self.targets = TARGETS
        self.model = tiny.clip_model().double()
        self.encoder = from_transformers(self.model, tiny.clip_tokenizer(), "tiny", pixels=Preprocess.square(32))
        bound = tiny.bound(self.encoder)
        self.bound = bound
        self.method = METHODS[method](self.bound, **options)
        draw = torch.Generator().manual_seed(seed)
        self.pixels = torch.randn(4, 3, 32, 32, generator=draw, dtype=torch.float64)
        self.frozen = torch.stack([reference.image_feature(self.model, pixels) for pixels in self.pixels]).detach()
        start = tiny.start(self.method, 0, tiny.rows(self.encoder))
        self.params = {
            name: (value.double() + 0.1 * torch.randn(value.shape, generator=draw, dtype=torch.float64)).requires_grad_()
            for name, value in start.items()
        }

    def texts(self, context: Tensor | None = None, deep: Callable[[int], dict[int, Tensor]] = lambda c: {}) -> Tensor:
        held = self.params["prompt"] if context is None else context
        return torch.stack(
            [reference.text_feature(self.model, prompt.ids, tiny.LENGTH, held, deep(c)) for c, prompt in enumerate(self.bound.prompts)]
        )

    def check(self, expected: Tensor, gradients: dict[str, Tensor] | None = None) -> None:
        """Compare the loss and all gradients, in double precision."""
        names = list(self.params)
        ours = Matcher(self.method).loss(self.params, tiny.known(self.frozen, self.pixels), torch.tensor(self.targets))
        found = dict(zip(names, torch.autograd.grad(ours, list(self.params.values())), strict=True))
        if gradients is None:
            gradients = dict(zip(names, torch.autograd.grad(expected, list(self.params.values())), strict=True))
        ours, expected = ours.detach(), expected.detach()
        assert abs(float(ours) - float(expected)) <= 1e-9 * abs(float(expected))
        for name in names:
            largest = float(gradients[name].abs().max())
            assert largest > 0, name
            assert float((found[name] - gradients[name]).abs().max()) <= 1e-8 * largest, name


def test_coop_and_the_towers_are_as_the_formulas_say() -> None:
    case = Case("coop")
    case.check(reference.cross_entropy(case.encoder.scale * case.frozen @ case.texts().T, TARGETS))


def test_kgcoop_is_as_its_formula_says() -> None:
    case = Case("kgcoop", weight=3.0)
    classes = case.texts()
    logits = case.encoder.scale * case.frozen @ classes.T
    case.check(reference.anchored(classes, case.bound.anchors, logits, TARGETS, 3.0))


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_prograd_takes_away_what_works_against_the_zero_shot_model(weight: float) -> None:
    case = Case("prograd", seed=SEED_OF_CONFLICT, weight=weight, temperature=2.0)
    logits = case.encoder.scale * case.frozen @ case.texts().T
    known = case.encoder.scale * case.frozen @ case.bound.anchors.T
    case.targets = known.argmin(-1).tolist()  # labels that the zero-shot model thinks least likely: the gradients part
    own = reference.cross_entropy(logits, case.targets)
    (g,) = torch.autograd.grad(own, case.params["prompt"], retain_graph=True)
    (h,) = torch.autograd.grad(reference.zero_shot_distance(logits, known, 2.0), case.params["prompt"])
    assert float((g * h).sum()) < 0, "the case would not show the projection"
    case.check(own, {"prompt": reference.prograd(g, h, weight)})


def test_prograd_leaves_a_gradient_that_agrees_and_one_that_is_rounding() -> None:
    case = Case("prograd")
    g = torch.tensor([1.0, 2.0])
    assert case.method._aligned(g, torch.tensor([1.0, 0.0])) is g
    assert case.method._aligned(g, torch.tensor([-1e-7, 0.0])) is g
    torch.testing.assert_close(case.method._aligned(g, torch.tensor([-3.0, 0.0])), torch.tensor([0.0, 2.0]))


def test_cocoop_is_as_its_formula_says() -> None:
    case = Case("cocoop")
    p = case.params
    rows = []
    for z in case.frozen:
        hidden = (p["meta.0.weight"] @ z + p["meta.0.bias"]).clamp_min(0)
        moved = p["meta.2.weight"] @ hidden + p["meta.2.bias"]
        rows.append(case.encoder.scale * case.texts(p["prompt"] + moved) @ z)
    case.check(reference.cross_entropy(torch.stack(rows), TARGETS))


def test_tcp_is_as_its_formula_says() -> None:
    case = Case("tcp", weight=3.0, depth=2)
    p = case.params

    def deep(c: int) -> dict[int, Tensor]:
        hidden = p["down.weight"] @ case.bound.anchors[c] + p["down.bias"]
        hidden = hidden * torch.sigmoid(1.702 * hidden)
        return {2: (p["up.weight"] @ hidden + p["up.bias"]).reshape(4, 32)}

    classes = case.texts(deep=deep)
    logits = case.encoder.scale * case.frozen @ classes.T
    case.check(reference.anchored(classes, case.bound.anchors, logits, TARGETS, 3.0))


def test_maple_is_as_its_formula_says() -> None:
    case = Case("maple", depth=2)
    p = case.params
    classes = case.texts(deep=lambda c: {1: p["deep"][0]})
    levels = [p["prompt"], p["deep"][0]]
    prompts = [rows @ p["project.weight"][k].T + p["project.bias"][k] for k, rows in enumerate(levels)]
    images = torch.stack([reference.image_feature(case.model, pixels, prompts) for pixels in case.pixels])
    case.check(reference.cross_entropy(case.encoder.scale * images @ classes.T, TARGETS))


@pytest.mark.parametrize("weights", [(25.0, 10.0, 1.0), (0.0, 0.0, 0.0)])
def test_promptsrc_is_as_its_formula_says(weights: tuple[float, float, float]) -> None:
    names = ("text_weight", "image_weight", "score_weight")
    case = Case("promptsrc", depth=3, num_image_tokens=2, **dict(zip(names, weights, strict=True)))
    p = case.params
    classes = case.texts(deep=lambda c: {1: p["deep"][0], 2: p["deep"][1]})
    images = torch.stack([reference.image_feature(case.model, pixels, list(p["vision"])) for pixels in case.pixels])
    case.check(reference.promptsrc(classes, case.bound.anchors, images, case.frozen, case.encoder.scale, TARGETS, weights))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["clip", "pair"])
def test_gradients_reach_what_a_method_trains_and_nothing_else(name: str, kind: str) -> None:
    encoder = tiny.ENCODERS[kind]()
    before = {key: value.clone() for key, value in encoder.modules.state_dict().items()}
    method = METHODS[name](tiny.bound(encoder))
    draw = torch.Generator().manual_seed(1)
    params = {
        key: (value + 0.05 * torch.randn(value.shape, generator=draw)).requires_grad_()
        for key, value in tiny.start(method, 0, tiny.rows(encoder)).items()
    }
    pixels = torch.randn(4, 3, 32, 32, generator=draw)
    loss = Matcher(method).loss(params, tiny.known(encoder.input.features(pixels), pixels), torch.tensor(TARGETS))
    loss.backward()
    assert all(value.grad is None for value in encoder.modules.parameters())
    assert {key for key, value in params.items() if value.grad is None or not bool(value.grad.any())} == set()
    assert all(torch.equal(value, before[key]) for key, value in encoder.modules.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_a_text_replaces_the_context_and_leaves_the_rest(name: str) -> None:
    encoder = tiny.clip_encoder()
    method = METHODS[name](tiny.bound(encoder))
    codec = tiny.codec(method, encoder)
    encoded = codec.encode("a photo of the")
    expected = {"prompt", "meta.2.weight", "meta.2.bias"} if name == "cocoop" else {"prompt"}
    assert set(encoded.params) == expected
    torch.testing.assert_close(encoded.params["prompt"], tiny.rows(encoder, "a photo of the"))
    moved = {**tiny.start(method, 0, tiny.rows(encoder)), **encoded.params}
    assert codec.decode(moved).text == "a photo of the"


def test_a_restart_of_cocoop_is_exactly_the_text() -> None:
    encoder = tiny.clip_encoder()
    bound = tiny.bound(encoder)
    method = CoCoOp(bound)
    features = encoder.input.features(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    walked = {name: value + 0.3 for name, value in tiny.start(method, 0, tiny.rows(encoder)).items()}
    params = {**walked, **method.start(tiny.rows(encoder))}
    assert bool(params["meta.0.weight"].ne(tiny.start(method, 0, tiny.rows(encoder))["meta.0.weight"]).any())  # the rest of it stays
    plain = Matcher(CoOp(bound)).class_scores({"prompt": tiny.rows(encoder)}, tiny.known(features))
    torch.testing.assert_close(Matcher(method).class_scores(params, tiny.known(features)), plain, atol=1e-5, rtol=1e-5)


def test_contexts_of_each_class_begin_alike_and_are_read_in_the_mean() -> None:
    encoder = tiny.clip_encoder()
    method = CoOp(tiny.bound(encoder), class_specific=True)
    params = method.start(tiny.rows(encoder))
    assert params["prompt"].shape == (3, 4, 32)
    torch.testing.assert_close(method.to_vocabulary_space(params), tiny.rows(encoder))
    with pytest.raises(ConfigError, match="shared context"):
        method.bind(tiny.bound(encoder, names=("cat", "dog")))


def test_a_method_bound_to_other_classes_judges_those_with_the_same_params() -> None:
    encoder = tiny.clip_encoder()
    params = {"prompt": tiny.rows(encoder)}
    other = CoOp(tiny.bound(encoder)).bind(tiny.bound(encoder, names=("sea lion", "cat")))
    own = Matcher(CoOp(tiny.bound(encoder))).classes(params)
    torch.testing.assert_close(Matcher(other).classes(params), own[[2, 0]], atol=1e-6, rtol=0)


def test_probes_begin_as_they_say_and_have_no_words() -> None:
    encoder = tiny.clip_encoder()
    bound = tiny.bound(encoder)
    features = torch.nn.functional.normalize(torch.randn(6, 24, generator=torch.Generator().manual_seed(0)))
    targets = torch.tensor([0, 0, 1, 1, 2, 2])
    held = {"features": features, "targets": targets}
    zero = ZeroShot(bound, **held)
    torch.testing.assert_close(zero.class_scores(zero.extra(0), tiny.known(features)), encoder.scale * features @ bound.anchors.T)
    linear = LinearProbe(bound, **held)
    assert not bool(linear.class_scores(linear.extra(0), tiny.known(features)).any())
    plus = LPPlusPlus(bound, **held)
    params = plus.extra(0)
    torch.testing.assert_close(params["weight"][1], features[2:4].mean(0))
    cosines = torch.stack([(features[i] * bound.anchors[targets[i]]).sum() for i in range(6)])
    torch.testing.assert_close(params["blend"], 250 * cosines.mean().expand(3))
    text = (params["blend"][:, None] * bound.anchors) @ features[0]
    torch.testing.assert_close(plus.class_scores(params, tiny.known(features))[0], params["weight"] @ features[0] + text)
    with pytest.raises(CodecError, match="no prompt"):
        NoPrompt().start(features)
    with pytest.raises(ConfigError, match="own classes"):
        linear.bind(bound)


def test_depths_follow_the_paper_in_proportion() -> None:
    assert [depth_of(None, 8, 12), depth_of(None, 9, 12, 12), depth_of(None, 8, 6), depth_of(None, 9, 6, 6)] == [8, 9, 4, 4]
    assert depth_of(3, 9, 6) == 3
    with pytest.raises(ConfigError, match="give 1 to 6"):
        depth_of(7, 9, 6, 8)
