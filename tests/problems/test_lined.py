"""Class lines that proposals say: what a point trains on, where a walk with lines begins, and what is judged without them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from maao.class_lines import ClassLines
from maao.codecs.no_words import NoWords
from maao.data.folds import deal
from maao.errors import CodecError, ConfigError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.classification import ClassificationProblem
from maao.problems.cross_validated import CrossValidated
from maao.problems.framed import FramedProblem
from maao.problems.line_weights import TRUST
from maao.problems.lined import KEPT, LINES, LinedProblem, lined, lines_of, lines_tensor
from maao.problems.scorers.class_residual import ClassResidual
from maao.problems.scorers.head import Head
from maao.problems.scorers.head_starts import from_class_features
from maao.problems.scorers.matcher import bind_classes
from maao.problems.scorers.probes import NoPrompt
from maao.problems.towers.class_prompts import ClassTemplate
from maao.report.class_lines import listed
from maao.store.digest import params_digest
from maao.testing import ProblemConformance
from maao.types import Example, Splits
from tests.conformance.parts import framed_problem
from tests.problems.test_text_matchers import problem, reader_of
from tests.tiny import LABELS, tiny_splits
from tests.tiny_sentence import tiny_matcher

FIELDS = {
    "examples.business": "a firm sells bonds\nthe bank pays",
    "descriptions.music": "songs and bands",
    "examples.sport": "the team won the cup",
    "lines_weight": "0.5",
}
WORDINGS = ["{class}", "news of {class}"]
ANCHOR, TEXT_WEIGHT, CLASS_EXAMPLES = 0.01, 2.0, 0.7


def residual(splits: Splits) -> ClassificationProblem[Any]:
    """Return the problem of trained class features on these splits, all of `train` a batch."""
    encoder = tiny_matcher()
    reader = reader_of(encoder)
    bound = bind_classes(encoder, ClassTemplate.parse("{class}"), LABELS, 0, WORDINGS)
    train = reader.split(splits.train, train=True)
    targets = torch.tensor([LABELS.index(example.label) for example in splits.train], dtype=torch.long)
    scorer = ClassResidual(
        bound, features=train.features_of.features, targets=targets, text_weight=TEXT_WEIGHT, anchor=ANCHOR, class_examples=CLASS_EXAMPLES
    )
    return ClassificationProblem(NoPrompt(), scorer, NoWords(), reader, splits, batch_size=100)


@cache
def kept_residual() -> LinedProblem:
    return lined(residual(tiny_splits(2)), 0)


def folded(splits: Splits) -> Splits:
    return replace(splits, select=(), folds=deal(splits.train, splits.labels, 2, 0))


@cache
def kept_folds() -> CrossValidated:
    return CrossValidated(lined(residual(folded(tiny_splits(2))), 0))


KINDS = {
    "class features": kept_residual,
    "class features, cross-validated": kept_folds,
    "coop": cache(lambda: lined(problem("coop"), 0)),
    "lp++": cache(lambda: lined(problem("lp++"), 0)),
    "llama, label words": cache(lambda: lined(framed_problem("llama"), 0)),
    "bert, a head": cache(lambda: lined(framed_problem("bert", "{text} {slots}", model={"head_start": "prototypes"}), 0)),
}


class Started:
    """A problem that begins with lines, as a walk from a proposal does; a number in the place of a seed says at which weight."""

    def __init__(self, problem: Any) -> None:
        self._problem = problem

    def initial(self, seed: int) -> Any:
        return self._problem.codec.encode("", {**FIELDS, "lines_weight": str(0.1 * (seed + 1))}).params

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)


class TestWithLinesItIsAProblem(ProblemConformance):
    @pytest.fixture(params=KINDS)
    def problem(self, request: Any) -> Any:
        return Started(KINDS[request.param]())

    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()

    @pytest.fixture
    def splits(self, problem: Any) -> tuple[str, ...]:
        return ("train", "select", "test")


# -- against a slow computation: one line after another, by the formulas alone


def text_features(texts: list[str]) -> Tensor:
    tower = tiny_matcher().input
    with torch.no_grad():
        return torch.cat([tower.features(tower.read([text])[0]) for text in texts])


def responsibility(feature: Tensor, label: str, train: tuple[Example, ...]) -> float:
    """Return how far a line is believed by class texts and prototypes of `train`."""
    starts = [slow_start(name, train, {}) for name in LABELS]
    p = float((20 * torch.stack(starts) @ feature).softmax(-1)[LABELS.index(label)])
    return TRUST * p / (TRUST * p + (1 - TRUST) / len(LABELS))


def said(label: str) -> list[str]:
    """Return the lines of a class: examples, then descriptions."""
    return [text for kind in ("examples", "descriptions") for text in FIELDS.get(f"{kind}.{label}", "").split("\n") if text]


def slow_start(label: str, train: tuple[Example, ...], weights: Mapping[str, float]) -> Tensor:
    """Return where a class begins. `weights` are those of lines; {}: there are none."""
    words = text_features([wording.replace("{class}", label) for wording in WORDINGS]).sum(0)
    words = words / words.norm()
    total, count = TEXT_WEIGHT * words, TEXT_WEIGHT
    for example in train:
        if example.label == label:
            total, count = total + text_features([example.fields["text"]])[0], count + 1
    for text in said(label) if weights else []:
        total, count = total + weights[text] * text_features([text])[0], count + weights[text]
    return total / total.norm()


def slow_loss(weight: Tensor, bias: Tensor, moved: Tensor, train: tuple[Example, ...], weights: Mapping[str, float]) -> float:
    def ce(text: str, label: str) -> float:
        return float(F.cross_entropy((weight @ text_features([text])[0] + bias)[None], torch.tensor([LABELS.index(label)])))

    total, count = ANCHOR / 2 * float(moved.pow(2).sum()), 0.0
    for example in train:
        total, count = total + ce(example.fields["text"], example.label), count + 1
    for label in LABELS:
        for text in said(label):
            total, count = total + weights[text] * ce(text, label), count + weights[text]
        for text in [wording.replace("{class}", label) for wording in WORDINGS]:
            total, count = total + CLASS_EXAMPLES * ce(text, label), count + CLASS_EXAMPLES
    return total / count


def slow_weights(train: tuple[Example, ...]) -> dict[str, float]:
    lines = [(text, label) for label in LABELS for text in said(label)]
    return {text: 0.5 * responsibility(text_features([text])[0], label, train) for text, label in lines}


def check_against_slow(params: Mapping[str, Tensor], loss: float, train: tuple[Example, ...]) -> None:
    weights = slow_weights(train)
    assert {line.text: line.weight for line in lines_of(params)} == pytest.approx(weights, rel=1e-4)
    start = torch.stack([slow_start(label, train, weights) for label in LABELS])
    torch.testing.assert_close(params["start"], start, atol=1e-5, rtol=1e-4)
    weight = params["log_scale"].exp() * start + params["residual"]
    assert loss == pytest.approx(slow_loss(weight, params["bias"], params["residual"], train, weights), rel=1e-4)


def test_start_and_loss_of_class_features_are_those_of_a_slow_computation() -> None:
    made = kept_residual()
    params = dict(made.codec.encode("", FIELDS).params)
    params["residual"] = torch.randn(params["residual"].shape, generator=torch.Generator().manual_seed(0))
    check_against_slow(params, float(made.loss(params, made.batch(0, 0))), made.splits.train)


def test_each_fold_begins_at_lines_and_its_own_examples_alone() -> None:
    made = kept_folds()
    params = made.codec.encode("", FIELDS).params
    for fold, member in enumerate(made.members):
        own = {name.removeprefix(f"fold{fold}."): value for name, value in params.items() if name.startswith(f"fold{fold}.")}
        train = tuple(e for e, of in zip(made.splits.train, made.splits.folds, strict=True) if of != fold)
        check_against_slow(own, float(member.loss(own, member.batch(0, 0))), train)


def moved_on(point: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a point as another run may have tuned it."""
    return {name: value + 0.125 if value.is_floating_point() else value for name, value in point.items()}


@pytest.mark.parametrize("with_lines", [False, True])
def test_no_member_begins_at_a_point_that_has_seen_the_labels_it_judges_by(with_lines: bool) -> None:
    made = CrossValidated(lined(residual(folded(tiny_splits(2))), 0))
    fresh = [made.initial(0), made.codec.encode("", FIELDS).params]
    origin = moved_on(made.full.initial(0))
    lines = {LINES: lines_tensor(ClassLines.from_fields({"examples.sport": "a goal"}, LABELS))} if with_lines else {}
    made.begin_from({**origin, **lines}, LABELS)
    for before, point in zip(fresh, (made.initial(0), made.codec.encode("", FIELDS).params), strict=True):
        assert torch.equal(point["residual"], origin["residual"])
        for fold in range(made.num_folds):
            assert torch.equal(point[f"fold{fold}.residual"], before[f"fold{fold}.residual"])
            assert not torch.equal(point[f"fold{fold}.residual"], origin["residual"])


def test_no_member_begins_at_an_origin_in_a_proposals_pair_either() -> None:
    made = CrossValidated(lined(framed_problem("bert", "{text} {slots}", splits=folded(tiny_splits(2))), 0))
    before = made.codec.encode("", FIELDS).params
    origin = moved_on(made.full.initial(0))
    made.begin_from(origin, LABELS)
    for point in (made.initial(0), made.codec.encode("", FIELDS).params):
        assert torch.equal(point["prompt"], origin["prompt"])
        for fold in range(made.num_folds):
            assert torch.equal(point[f"fold{fold}.prompt"], before[f"fold{fold}.prompt"])


@pytest.mark.parametrize("kind", ["coop", "llama, label words", "bert, a head"])
def test_a_line_is_a_row_of_train_by_its_weight_in_other_kinds(kind: str) -> None:
    made: LinedProblem = KINDS[kind]()
    params = made.codec.encode("", FIELDS).params
    own = {name: value for name, value in params.items() if name != LINES}
    lines = lines_of(params)
    for line in lines:  # believed by what the run would begin at without lines
        scores = made.plain.class_scores(made.plain.initial(0), [Example({"text": line.text}, line.label)])
        p = float(scores[0].softmax(-1)[LABELS.index(line.label)])
        assert line.weight == pytest.approx(0.5 * TRUST * p / (TRUST * p + (1 - TRUST) / len(LABELS)), rel=1e-4)
    home = made.home(params)
    batches = [home.batch(step, 0) for step in range(3)]
    assert any(int(max(batch.which)) >= len(made.splits.train) for batch in batches)
    rows = [*made.splits.train, *(Example({"text": line.text}, line.label) for line in lines)]
    weights = [*[1.0] * len(made.splits.train), *(line.weight for line in lines)]
    for step, batch in enumerate(batches):
        total = 0.0
        for place in batch.which:
            scores = made.plain.class_scores(own, [rows[place]])
            total += weights[place] * float(F.cross_entropy(scores, torch.tensor([LABELS.index(rows[place].label)])))
        share = len(batch.which) / len(rows)  # of all the weight that there is
        assert float(made.loss(params, made.batch(step, 0))) == pytest.approx(total / (share * sum(weights)), rel=1e-3)


def test_a_head_begins_at_prototypes_with_the_lines_in_them() -> None:
    made: LinedProblem = KINDS["bert, a head"]()
    params = made.codec.encode("", FIELDS).params
    plain = made.initial(0)
    assert torch.equal(params["prompt"], plain["prompt"])  # a proposal of lines alone begins where the run began
    assert isinstance(made.plain, FramedProblem)
    beneath = made.plain.plain
    assert isinstance(beneath.scorer, Head)
    rows = [(example.fields["text"], example.label, 1.0) for example in made.splits.train]
    rows += [(line.text, line.label, line.weight) for line in lines_of(params)]
    means = []
    for label in LABELS:
        total, count = torch.zeros(()), 0.0
        for text, own, weight in rows:
            if own == label:
                read = beneath.reader.given([Example({"text": text}, label)])
                with torch.no_grad():
                    total, count = total + weight * beneath.scorer.features({"prompt": plain["prompt"]}, read)[0], count + weight
        means.append(total / count)
    middle = sum(means) / len(LABELS)
    size = sum(float((mean - middle).pow(2).sum()) for mean in means) / len(LABELS)
    expected = torch.stack([(mean - middle) / size for mean in means])
    torch.testing.assert_close(params["head.weight"], expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(plain["head.weight"], expected, atol=1e-2, rtol=1e-2)


def test_the_anchor_of_a_head_is_held_against_all_that_trains_lines_by_their_weight_and_a_proposals_template_too() -> None:
    made = lined(framed_problem("bert", "{text} {slots}", model={"head_anchor": 2.0}), 0)
    own = {**FIELDS, "template": "News: {text} {slots}"}
    params = made.codec.encode("music team bank", own).params
    assert {LINES, "frame"} < set(params)
    total = len(made.splits.train) + sum(line.weight for line in lines_of(params))
    for point in (params, {name: value for name, value in params.items() if name != "frame"}):
        home = made.home(point)
        assert isinstance(home, FramedProblem)
        read = home.problem_for(point)
        assert read.tokens.num_examples == pytest.approx(total)
        start = {name: value for name, value in point.items() if name not in (LINES, "frame")}
        moved = {**start, "head.weight": start["head.weight"] + 0.5}
        width = start["head.weight"].numel()
        penalty = read.tokens.penalty(moved)
        assert penalty is not None and float(penalty) == pytest.approx(2.0 / 2 * 0.25 * width / total, rel=1e-4)


def test_a_class_without_an_example_begins_at_the_mean_of_all_rows_each_by_its_weight() -> None:
    scorer = framed_problem("bert", "{text} {slots}", model={"head_start": "prototypes"}).plain.scorer
    assert isinstance(scorer, Head)
    read = framed_problem("bert", "{text} {slots}").plain.inputs("train").take([0, 1, 2])
    rows, targets = read.weighted([None, None, 0.001]), torch.tensor([0, 0, 1])
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 500.0]])
    found = scorer._found(torch.zeros(0, 2), features, rows, targets, 0)
    means = torch.stack([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 500.0]), torch.tensor([4.0, 0.5]) / 2.001])
    expected = from_class_features(means)
    torch.testing.assert_close(found.weight, expected.weight)
    torch.testing.assert_close(found.bias, expected.bias)


def test_what_was_made_of_lines_is_let_go_with_its_parts() -> None:
    made = CrossValidated(lined(framed_problem("bert", "{text} {slots}", splits=folded(tiny_splits(2))), 0))
    assert isinstance(made.full, LinedProblem)
    held: list[weakref.ref[Any]] = []
    for number in range(KEPT + made.num_folds + 2):
        params = {**made.full.initial(0), LINES: lines_tensor(ClassLines.from_fields({**FIELDS, "lines_weight": str(number + 1)}, LABELS))}
        held += [weakref.ref(problem.home(params)) for problem in (made.full, *made.members)]
    gc.collect()
    members = 1 + made.num_folds
    assert [ref() is None for ref in held] == [True] * (2 * members) + [False] * (len(held) - 2 * members)


# -- what lines do not touch


@pytest.mark.parametrize("kind", KINDS)
def test_lines_train_and_nothing_is_judged_by_them(kind: str) -> None:
    made = KINDS[kind]()
    params = made.codec.encode("", FIELDS).params
    without = {name: value for name, value in params.items() if not name.endswith(LINES)}
    for split in ("train", "select", "test"):
        assert made.score([params], split) == made.score([without], split)
    assert float(made.loss(params, made.batch(0, 0))) != float(made.loss(without, made.batch(0, 0)))
    stage = TorchStage(lr=0.05)
    state = stage.restart(stage.init(made, made.initial(0), seed=0), params, seed=0)
    state, _ = stage.step(made, state)
    assert torch.equal(state.params[LINES], params[LINES])  # carried, and not trained
    moved = [name for name, value in state.params.items() if not torch.equal(value, params[name])]
    assert moved


def test_without_lines_it_is_the_problem_beneath_to_the_bit() -> None:
    plain = residual(tiny_splits(2))
    around = lined(plain, 0)
    assert params_digest(around.initial(3), TorchSerializer()) == params_digest(plain.initial(3), TorchSerializer())
    stage = TorchStage(lr=0.05)
    ends = []
    for made in (plain, around):
        state = stage.init(made, made.initial(0), seed=1)
        for _ in range(3):
            state, _ = stage.step(made, state)
        ends.append(params_digest(state.params, TorchSerializer()))
    assert ends[0] == ends[1]


def test_a_line_that_repeats_a_row_of_the_data_is_dropped_and_told() -> None:
    made = kept_residual()
    row = made.splits.test[0]
    encoded = made.codec.encode("", {f"examples.{row.label}": f"{row.fields['text'].upper()} \nanother song"})
    assert [line.text for line in lines_of(encoded.params)] == ["another song"]
    assert encoded.note == "1 line left out that repeats an example of test"
    with pytest.raises(CodecError, match="No line is left to train on: 1 line left out that repeats an example of test"):
        made.codec.encode("", {f"examples.{row.label}": row.fields["text"]})


def test_what_is_no_line_is_refused() -> None:
    made = kept_residual()
    with pytest.raises(CodecError, match=r"'sprt', which is not there\. Did you mean 'sport'"):
        made.codec.encode("", {"examples.sprt": "a cup"})
    with pytest.raises(CodecError, match="trains no prompt: the text 'a prompt'"):
        made.codec.encode("a prompt", FIELDS)
    with pytest.raises(CodecError, match="trains no prompt"):
        made.codec.encode("", {})


def test_a_proposal_may_say_lines_and_fill_a_prompt_and_label_words() -> None:
    made: LinedProblem = KINDS["llama, label words"]()
    words = {f"label_words.{label}": word for label, word in zip(LABELS, ("market", "song", "match"), strict=True)}
    encoded = made.codec.encode("music team bank", {**FIELDS, **words})
    assert {LINES, "frame", "prompt"} == set(encoded.params)
    assert torch.equal(encoded.params["prompt"], made.plain.codec.encode("music team bank").params["prompt"])
    assert float(made.loss(encoded.params, made.batch(0, 0))) > 0


def test_lines_of_a_point_are_read_back_as_they_weigh() -> None:
    lines = ClassLines.from_fields(FIELDS, LABELS)
    assert lines_of({LINES: lines_tensor(lines)}) == lines
    assert lines_of({}) == ClassLines()


def test_an_average_of_walks_with_other_lines_is_the_mean_of_what_they_say() -> None:
    made = kept_folds()
    points = [made.initial(0), *(made.codec.encode("", {**FIELDS, "lines_weight": weight}).params for weight in ("0.25", "1"))]
    whole, *each = made.judged([made.average(points, [1, 2, 1]), *points], "select")
    torch.testing.assert_close(whole[1], (each[0][1] + 2 * each[1][1] + each[2][1]) / 4)


def test_new_lines_cost_what_reading_them_runs_through_the_tower_once() -> None:
    made = kept_folds()
    one, other = (made.codec.encode("", {**FIELDS, "lines_weight": weight}).params for weight in ("0.25", "1"))
    cost = made.prefill_cost([one], [])
    assert cost.model_tokens > 0 and made.prefill_cost([one, other], []) == cost  # whatever they weigh
    assert made.prefill_cost([one], [other]).model_tokens == 0


def test_weighing_lines_costs_the_tokens_that_it_reads_once_for_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    made = lined(framed_problem("llama"), 0)
    assert isinstance(made.plain, FramedProblem)
    beneath, read = made.plain.plain, list[int]()
    of = ClassificationProblem.line_scores
    monkeypatch.setattr(ClassificationProblem, "line_scores", lambda self, params, own: read.append(len(own)) or of(self, params, own))
    points = [made.codec.encode("", {**FIELDS, "lines_weight": weight}) for weight in ("0.25", "0.5", "1")]
    assert read == [4]
    rows = beneath.reader.given([Example({"text": line.text}, line.label) for line in lines_of(points[0].params)])
    tokens = beneath.scorer.num_tokens(made.plain.initial(0), rows)
    assert tokens > 0 and [point.cost.model_tokens for point in points] == [tokens] * 3  # a codec is pure: who asks thrice counts once
    first, last = (sum(line.weight for line in lines_of(point.params)) for point in (points[0], points[2]))
    assert last == pytest.approx(4 * first)


def test_many_classes_are_looked_up_by_name_and_not_searched_for() -> None:
    class Named(tuple[str, ...]):
        def index(self, *args: Any) -> int:
            raise AssertionError("searched for")

        def __contains__(self, name: object) -> bool:
            raise AssertionError("searched for")

    class Once(ClassLines):
        def of(self, *args: Any) -> Any:
            raise AssertionError("searched for")

    labels = Named(LABELS)
    lines = ClassLines.from_json({"sport": ["a goal"], "music": ["a tune"]}, labels)
    scorer = residual(tiny_splits(2)).scorer
    assert isinstance(scorer, ClassResidual)
    assert scorer.with_lines(lines.lines, labels).class_texts.classes[-2:].tolist() == [1, 2]
    made = lined(residual(replace(tiny_splits(2), labels=labels)), 0)
    made.codec.encode("", FIELDS)
    assert listed(Once(lines.lines)) == ["music", "  1.00 a tune", "sport", "  1.00 a goal"]


def test_examples_of_several_fields_have_no_lines() -> None:
    pairs = [Example({"title": e.fields["text"], "text": "x"}, e.label) for e in tiny_splits(2).train]
    splits = Splits(tuple(pairs), tuple(pairs), (), LABELS)
    with pytest.raises(ConfigError, match="A class line is one text, and examples are read by the fields title, text"):
        lined(framed_problem("llama", "{title} {text} {slots} Topic:", splits=splits), 0)
