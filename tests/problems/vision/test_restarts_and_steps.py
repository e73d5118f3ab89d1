"""What a step of training moves, what a mentor's text replaces and what stays (per method), and what a problem's numbers rest on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maao.errors import CodecError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import GaussianAverage, TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.methods.cocoop import CoCoOp
from maao.problems.methods.coop import CoOp
from maao.problems.methods.input_prompt import InputPrompt
from maao.problems.methods.kgcoop import KgCoOp
from maao.problems.methods.maple import MaPLe
from maao.problems.methods.prograd import ProGrad
from maao.problems.methods.promptsrc import PromptSRC
from maao.problems.methods.tcp import TCP
from maao.problems.scorers.matcher import Known, Matcher
from maao.problems.scorers.probes import LinearProbe, LPPlusPlus, ZeroShot
from maao.problems.towers.features import FeatureStore
from maao.problems.towers.image.features import Pictures
from maao.testing import ProblemConformance
from tests import tiny_vision as tiny

METHODS: dict[str, Any] = {m.name: m for m in (CoOp, KgCoOp, ProGrad, CoCoOp, TCP, InputPrompt, MaPLe, PromptSRC)}
PROBES: dict[str, Any] = {m.name: m for m in (ZeroShot, LinearProbe, LPPlusPlus)}
REPLACED = {"cocoop": {"prompt", "meta.2.weight", "meta.2.bias"}}  # all others: the context alone
STAYS = {
    "coop": set(),
    "kgcoop": set(),
    "prograd": set(),
    "cocoop": {"meta.0.weight", "meta.0.bias"},
    "tcp": {"down.weight", "down.bias", "up.weight", "up.bias"},
    "input_prompt": {"input_prompt"},
    "maple": {"deep", "project.weight", "project.bias"},
    "promptsrc": {"deep", "vision"},
}
TEXT = "the small sea lion"


def image_problem(name: str, kind: str = "clip", settings: dict[str, Any] | None = None, **options: Any) -> ClassificationProblem[Known]:
    encoder = tiny.ENCODERS[kind]()
    start = options.pop("initial", "text"), options.pop("initial_text", "a photo of the")
    options = {"batch_size": 5, "score_batch": 4, **options}
    if name in PROBES:
        bound = tiny.bound(encoder)
        probe = PROBES[name](bound, features=bound.anchors, targets=torch.arange(3))
        return tiny.problem(probe, encoder, **options)
    method = METHODS[name](tiny.bound(encoder), **(settings or {}))
    return tiny.problem(method, encoder, *start, **options)


def bits(problem: ClassificationProblem[Known]) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in problem.reader.encoder.modules.state_dict().items()}


def walked(problem: ClassificationProblem[Known], steps: int = 3, **options: Any) -> tuple[TorchStage, Any]:
    stage = TorchStage("SGD", lr=0.02, **options)
    state = stage.init(problem, problem.initial(0), seed=0)
    for _ in range(steps):
        state, _ = stage.step(problem, state)
    return stage, state


# -- steps


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["clip", "siglip", "pair"])
def test_steps_move_all_that_is_trained_and_no_weight_of_the_model(name: str, kind: str) -> None:
    problem = image_problem(name, kind)
    before, start = bits(problem), problem.initial(0)
    _, state = walked(problem)
    assert set(state.params) == {"prompt", *STAYS[name], *REPLACED.get(name, ())}
    assert {key for key, value in state.params.items() if torch.equal(value, start[key])} == set()
    assert all(value.grad is None and not value.requires_grad for value in problem.reader.encoder.modules.parameters())
    assert all(torch.equal(value, before[key]) for key, value in bits(problem).items())


def test_cocoop_s_first_layer_waits_for_the_first_step() -> None:
    """Its last layer begins at zero: the first step moves that and the context, and only then does a gradient reach the first layer."""
    problem = image_problem("cocoop")
    params = {key: value.requires_grad_() for key, value in problem.initial(0).items()}
    problem.loss(params, problem.batch(0, 0)).backward()
    assert {key for key, value in params.items() if bool(value.grad.any())} == {"prompt", "meta.2.weight", "meta.2.bias"}


@pytest.mark.parametrize("name", ["coop", "kgcoop", "prograd"])
def test_contexts_of_each_class_part_as_they_walk(name: str) -> None:
    problem = image_problem(name, settings={"class_specific": True})
    _, state = walked(problem)
    first, second, third = state.params["prompt"]
    assert not torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize("name", ["coop", "cocoop", "prograd", "maple"])
def test_what_is_scored_is_what_is_trained_on(name: str) -> None:
    """Of methods whose loss is the cross-entropy: classes once and pictures part by part, against one batch with gradients."""
    problem = image_problem(name, batch_size=12)
    params = {key: value + 0.05 for key, value in problem.initial(0).items()}
    assert float(problem.loss(params, problem.batch(0, 0))) == pytest.approx(problem.score([params], "train")[0].loss, rel=1e-5)


# -- restarts by a text


@pytest.mark.parametrize("name", METHODS)
def test_a_restart_replaces_the_context_to_the_bit_and_keeps_the_rest_to_the_bit(name: str) -> None:
    problem = image_problem(name)
    stage, state = walked(problem)
    assert problem.codec is not None
    moved = stage.restart(state, problem.codec.encode(TEXT).params, seed=1)
    assert torch.equal(moved.params["prompt"], tiny.rows(problem.reader.encoder, TEXT))  # without start and end tokens
    assert {key for key in state.params if torch.equal(moved.params[key], state.params[key])} == STAYS[name]
    assert moved.age == 0 and moved.step == state.step and not moved.moments
    assert problem.codec.decode(moved.params).text == TEXT


@pytest.mark.parametrize(("text", "filled", "told"), [("cat", "cat cat cat cat", "repeated"), (f"{TEXT} of the dog", TEXT, "cut")])
def test_a_text_of_another_length_is_fitted_and_says_so(text: str, filled: str, told: str) -> None:
    problem = image_problem("coop")
    assert problem.codec is not None
    encoded = problem.codec.encode(text)
    assert encoded.text == filled and told in (encoded.note or "")
    assert torch.equal(encoded.params["prompt"], tiny.rows(problem.reader.encoder, filled))


@pytest.mark.parametrize("name", ["coop", "kgcoop", "prograd"])
def test_contexts_of_each_class_all_become_the_text(name: str) -> None:
    problem = image_problem(name, settings={"class_specific": True})
    stage, state = walked(problem)
    assert problem.codec is not None
    params = stage.restart(state, problem.codec.encode(TEXT).params, seed=1).params
    rows = tiny.rows(problem.reader.encoder, TEXT)
    assert torch.equal(params["prompt"], rows.expand(3, 4, 32))
    assert torch.equal(problem.method.to_vocabulary_space(params), rows)  # a mean of equals is each of them, to the bit
    assert problem.codec.decode(params).text == TEXT
    shared = Matcher(CoOp(tiny.bound(problem.reader.encoder))).classes({"prompt": rows})
    classes = problem.scorer.classes(params)
    assert classes is not None
    torch.testing.assert_close(classes, shared, atol=1e-6, rtol=0)


def test_a_restart_of_cocoop_scores_exactly_as_the_text_after_a_walk() -> None:
    problem, plain = image_problem("cocoop"), image_problem("coop")
    stage, state = walked(problem)
    assert problem.codec is not None
    params = stage.restart(state, problem.codec.encode(TEXT).params, seed=1).params
    wanted = plain.score([{"prompt": tiny.rows(plain.reader.encoder, TEXT)}], "test")[0]
    assert problem.score([params], "test")[0].loss == pytest.approx(wanted.loss, rel=1e-6)
    assert problem.score([state.params], "test")[0].loss != pytest.approx(wanted.loss, rel=1e-3)


def test_a_text_reaches_tcp_through_the_layers_before_its_depth_only() -> None:
    encoder = tiny.clip_encoder()
    rows, other = tiny.rows(encoder), tiny.rows(encoder, TEXT)
    for depth in (1, 2):
        method = TCP(tiny.bound(encoder), depth=depth)
        params = tiny.start(method, 0, rows)
        entering: list[Tensor] = []
        norm = encoder.text.layers[depth].layer_norm1  # reads what enters the layer, once the rows are put there
        handle = norm.register_forward_pre_hook(lambda module, given, entering=entering: entering.append(given[0]))
        with torch.no_grad():
            one, two = Matcher(method).classes(params), Matcher(method).classes({**params, **method.start(other)})
        handle.remove()
        before, after = (held[0] for held in entering)
        slots = [1, 2, 3, 4]  # of the first class, behind the start token: what stands there is the network's at this depth
        rest = [at for at in range(before.shape[0]) if at not in slots]
        assert float((one - two).abs().max()) > 1e-4
        assert float((before[rest] - after[rest]).abs().max()) > 1e-4
    hidden = F.linear(method.bound.anchors, params["down.weight"], params["down.bias"])
    deep = F.linear(hidden * torch.sigmoid(1.702 * hidden), params["up.weight"], params["up.bias"]).view(3, 4, 32)
    assert torch.allclose(before[slots], deep[0], atol=1e-6) and torch.equal(before[slots], after[slots])


def test_a_text_reaches_the_image_tower_of_maple_through_its_first_projection_only() -> None:
    encoder = tiny.clip_encoder()
    method = MaPLe(tiny.bound(encoder), depth=2)
    params = tiny.start(method, 0, tiny.rows(encoder))
    restarted = {**params, **method.start(tiny.rows(encoder, TEXT))}
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def seen(held: Any) -> Tensor:
        return encoder.input.features(pixels, method.input_rows(held))

    with torch.no_grad():
        assert float((seen(params) - seen(restarted)).abs().max()) > 1e-5
        cut = {"project.weight": params["project.weight"].clone()}
        cut["project.weight"][0] = 0  # without the first projection no word is seen there
        same = [seen({**held, **cut}) for held in (params, restarted)]
    assert torch.equal(*same)


def test_a_text_leaves_the_image_tower_of_promptsrc_and_begins_its_average_anew() -> None:
    problem = image_problem("promptsrc")
    average = GaussianAverage(mean=1, std=1, steps_per_epoch=2)
    stage, state = walked(problem, 4, schedule_steps=8, average=average)
    assert state.weight > 0
    assert problem.codec is not None
    moved = stage.restart(state, problem.codec.encode(TEXT).params, seed=1)
    assert moved.weight == 0 and not moved.sums
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    method: Any = problem.method
    with torch.no_grad():
        features = problem.reader.encoder.input.features
        assert torch.equal(*(features(pixels, method.input_rows(held.params)) for held in (moved, state)))


@pytest.mark.parametrize("name", PROBES)
def test_no_text_restarts_a_probe(name: str) -> None:
    method = image_problem(name).method
    for asked in (method.start, lambda rows: method.to_vocabulary_space({"weight": rows})):
        with pytest.raises(CodecError, match="no prompt"):
            asked(torch.zeros(4, 32))


# -- probes are problems, though their start is one


@pytest.mark.parametrize("name", PROBES)
class TestProbesAreProblems(ProblemConformance):
    @pytest.fixture
    def problem(self, name: str) -> ClassificationProblem[Known]:
        return image_problem(name)

    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()

    def test_other_seed_gives_other_start(self, problem: Any, serializer: Any) -> None:
        a, b = problem.initial(3), problem.initial(4)
        assert all(torch.equal(a[key], b[key]) for key in a)


class TestEveryMethodIsAProblem(ProblemConformance):
    @pytest.fixture(
        params=[*((name, "clip") for name in METHODS if name not in ("coop", "maple")), ("coop", "pair"), ("maple", "pair")], ids=str
    )
    def problem(self, request: Any) -> ClassificationProblem[Known]:
        name, kind = request.param
        return image_problem(name, kind, initial="vocabulary")

    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()


# -- pictures


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    problem = image_problem("coop", batch_size=4)
    epochs = [[i for step in range(3 * e, 3 * e + 3) for i in problem.batch(step, 7).which] for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]
    labels = [problem.splits.labels.index(problem.splits.train[i].label) for i in problem.batch(1, 7).which]
    assert problem.batch(1, 7).targets.tolist() == labels


def test_kept_features_of_views_are_those_of_the_pixels_a_tower_would_see() -> None:
    encoder = tiny.clip_encoder()
    pictures = Pictures(encoder, tiny.Pictures(), ["cat/0", "dog/1", "sea lion/2"], views=2).fill(FeatureStore(None))
    which, views = [2, 0, 2], [0, 1, 1]
    with torch.no_grad():
        torch.testing.assert_close(pictures.of(which, views), encoder.input.features(pictures.raw(which, views)), atol=1e-6, rtol=0)
        torch.testing.assert_close(pictures.of(which), encoder.input.features(pictures.raw(which)), atol=1e-6, rtol=0)
    assert not torch.equal(pictures.of([2], [0]), pictures.of([2], [1]))


def test_pixels_are_kept_as_far_as_memory_is_given() -> None:
    encoder, source = tiny.clip_encoder(), tiny.Pictures()
    pictures = Pictures(encoder, source, ["cat/0", "cat/1", "cat/2"], max_bytes=2 * 3 * 32 * 32 * 4)
    first, again = pictures.raw([0, 1, 2]), pictures.raw([0, 1, 2])
    assert torch.equal(first, again)
    assert source.opened == 3 + 1  # two of them are kept


def test_another_transform_or_view_never_finds_a_kept_feature(tmp_path: Any) -> None:
    from dataclasses import replace

    store, encoder = FeatureStore(tmp_path / "f.sqlite"), tiny.clip_encoder()
    keys = ["cat/0", "dog/0"]
    assert Pictures(encoder, tiny.Pictures(), keys).fill(store).computed == 2
    other = replace(encoder, pixels=replace(encoder.pixels, resample=2))
    assert Pictures(other, tiny.Pictures(), keys).fill(store).computed == 2
    assert Pictures(encoder, tiny.Pictures(), keys, views=1).fill(store).computed == 4
    assert Pictures(encoder, tiny.Pictures(), keys, views=2).fill(store).computed == 6
    assert Pictures(encoder, tiny.Pictures(), keys, views=2).fill(store).computed == 0


def test_probabilities_of_new_pictures_are_the_softmax_of_the_scores() -> None:
    problem = image_problem("maple")
    params = problem.initial(0)
    keys = [example.fields["image"] for example in problem.splits.test]
    probable = problem.probabilities(params, problem.splits.test)
    with torch.no_grad():
        pictures = Pictures(problem.reader.encoder, tiny.Pictures(), keys)
        images = tiny.known(torch.zeros(len(keys), 24), pictures.raw(range(len(keys))))
        torch.testing.assert_close(probable, problem.scorer.class_scores(params, images).softmax(-1), atol=1e-5, rtol=0)
    labels = [problem.splits.labels[i] for i in probable.argmax(-1).tolist()]
    right = sum(a == example.label for a, example in zip(labels, problem.splits.test, strict=True))
    assert problem.score([params], "test")[0].metrics["accuracy"] == right / len(keys)
