"""Heads on decoders: what is read is the model's own hidden state, however rows are run; and where a head begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from maao.codecs.method import MethodCodec, Start
from maao.codecs.nearest_token import NearestTokenCodec
from maao.core.seeds import seed_for
from maao.errors import ConfigError, ModelError
from maao.optimizers.serializer import TorchSerializer
from maao.optimizers.torch import TorchStage
from maao.problems.methods.prompt_tuning import PromptTuning
from maao.problems.scorers.class_starts import class_starts
from maao.problems.scorers.head import AnswerHead, HeadSettings, PooledHead
from maao.problems.scorers.head_starts import from_class_features, logistic_regression
from maao.problems.scorers.tokens import Rows
from maao.problems.text_problem import text_problem
from maao.problems.towers.text.forward import embedding_table
from maao.problems.towers.text.loading import load_frozen
from maao.problems.towers.text.template import Template, TemplateTokenizer
from maao.testing import ProblemConformance
from maao.types import Example, Splits
from tests.tiny import LABELS, tiny_model, tiny_splits

DECODERS = ("gpt2", "llama", "gemma2", "gemma3")
FRONT, BEHIND, INSIDE = "{slots} {text} Topic:", "{text} {slots} Topic:", "the text {slots} {text} Topic:"
SLOTS = 3


def bound(frozen: Any, template: str) -> TemplateTokenizer:
    return TemplateTokenizer(frozen.tokenizer, Template.parse(template), kind="decoder", max_length=60, reserved=SLOTS)


def problem(
    architecture: str = "llama", template: str = BEHIND, kind: type = AnswerHead, splits: Splits | None = None, **options: Any
) -> Any:
    frozen = tiny_model(architecture)
    tokenizer = bound(frozen, template)
    own = {name: options.pop(name) for name in (*HeadSettings.__annotations__,) if name in options}
    head_options = {name: options.pop(name) for name in ("class_weights", "pooling") if name in options}
    splits = splits or tiny_splits()
    chosen = any(example.choices for example in splits.train)
    head = kind(frozen, 1 if chosen else len(splits.labels), own, **head_options)
    table = embedding_table(frozen)
    nearest = NearestTokenCodec(frozen.tokenizer, table, num_virtual_tokens=SLOTS)
    codec = MethodCodec(PromptTuning(), nearest, Start("vocabulary", SLOTS, table.shape[1]))
    return text_problem(splits, tokenizer, head, codec, PromptTuning(), num_virtual_tokens=SLOTS, **options)


def states(made: Any, prompt: torch.Tensor, row: Any) -> torch.Tensor:
    """Return the last hidden states of one row as the model's own forward gives them."""
    model = made.frozen.model
    embed = model.get_input_embeddings()
    parts = [embed(torch.tensor(row.before, dtype=torch.long)), prompt, embed(torch.tensor(row.after, dtype=torch.long))]
    with torch.no_grad():
        return model(inputs_embeds=torch.cat(parts)[None], output_hidden_states=True).hidden_states[-1][0]


@pytest.mark.parametrize("template", [FRONT, BEHIND, INSIDE])
@pytest.mark.parametrize("architecture", DECODERS)
def test_a_head_reads_the_last_token_of_the_models_own_forward(architecture: str, template: str) -> None:
    made = problem(architecture, template)
    params = {name: value * 1.5 for name, value in made.initial(0).items()}
    score = made.score([params], "select")[0]
    rows, targets = made.inputs("select"), made._targets["select"]
    expected = torch.stack([F.linear(states(made, params["prompt"], row)[-1], params["head.weight"], params["head.bias"]) for row in rows])
    assert score.loss == pytest.approx(float(F.cross_entropy(expected, targets)), rel=1e-5)
    found, _ = made._class_scores([params], rows)
    torch.testing.assert_close(found[0], expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    shared = made.scorer.share(params, rows)
    assert (shared is not None) == (template != BEHIND)  # the slots ran once for all rows


def test_a_head_may_pool_a_decoder() -> None:
    made = problem("llama", FRONT, PooledHead, pooling="mean")
    params = made.initial(0)
    rows = made.inputs("select")
    expected = torch.stack([states(made, params["prompt"], row).mean(0) for row in rows]) @ params["head.weight"].T
    found, _ = made._class_scores([params], rows)
    torch.testing.assert_close(found[0], expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("template", [FRONT, BEHIND])
def test_texts_read_once_packed_rows_and_parts_change_neither_loss_nor_gradient(template: str) -> None:
    found = []
    for options in ({"max_cache_bytes": 0, "part_tokens": 10**6}, {"part_tokens": 60}):
        made = problem("llama", template, **options)
        params = {name: value.detach().requires_grad_() for name, value in made.initial(0).items()}
        loss = made.loss(params, made.batch(0, 0))
        found.append((loss.detach(), *torch.autograd.grad(loss, list(params.values()))))
    if template == BEHIND:
        assert made.scorer.cache is not None and made.prepared.model_tokens > 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()), rtol=0)
        assert float(other.abs().max()) > 0


def test_several_points_are_scored_as_one_by_one() -> None:
    made = problem("llama", BEHIND, max_cache_bytes=0)
    points = [made.initial(seed) for seed in range(3)]
    for together, alone in zip(made.score(points, "test"), [made.score([point], "test")[0] for point in points], strict=True):
        assert together.loss == pytest.approx(alone.loss, rel=1e-5) and together.metrics == alone.metrics


def with_choices() -> Splits:
    return Splits(
        *(
            tuple(Example({"text": text}, str(i % 2), choices=("music", "the bank market")) for i, text in enumerate(texts))
            for texts in (["song album", "shares"], ["film", "profit firm trade"], ["award", "bank"])
        ),
        ("0", "1"),
    )


@pytest.mark.parametrize("template", ["{text} {choice} {slots} Topic:", "{slots} {text} is {choice}"])
def test_an_example_with_choices_has_a_score_for_each(template: str) -> None:
    made = problem("llama", template, splits=with_choices())
    params = made.initial(0)
    rows = made.inputs("select")
    weight = params["head.weight"][0]
    expected = torch.stack([torch.stack([states(made, params["prompt"], choice)[-1] @ weight for choice in row.choices]) for row in rows])
    found, _ = made._class_scores([params], rows)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
    assert made.num_tokens(params, made.batch(0, 0)) == sum(len(c) + SLOTS for row in made.inputs("train") for c in row.choices)
    made.loss({name: value.requires_grad_() for name, value in params.items()}, made.batch(0, 0)).backward()


class TestAHeadOnADecoderIsAProblem(ProblemConformance):
    @pytest.fixture(params=["random", "zeros", "logistic_regression"])
    def problem(self, request: Any) -> Any:
        if request.param == "logistic_regression":
            pytest.importorskip("sklearn")
        return problem(start=request.param)

    @pytest.fixture
    def serializer(self) -> TorchSerializer:
        return TorchSerializer()


# -- where it begins


def features(made: Any, params: Any, rows: Any) -> torch.Tensor:
    return torch.stack([states(made, params["prompt"], row)[-1] for row in rows])


def test_zeros_say_nothing_of_any_class() -> None:
    made = problem(start="zeros")
    assert not any(made.initial(0)[name].any() for name in ("head.weight", "head.bias"))
    assert made.score([made.initial(0)], "select")[0].loss == pytest.approx(float(torch.tensor(3.0).log()))


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_begins_at_logistic_regression_on_what_the_untuned_model_gives_for_train(bias: bool) -> None:
    pytest.importorskip("sklearn")
    made = problem(start="logistic_regression", bias=bias)
    params, train = made.initial(0), made.inputs("train")
    seed = seed_for(0, "head start", "folds")
    expected = logistic_regression(features(made, params, train), made._targets["train"], 3, seed=seed, with_bias=bias)
    assert ("head.bias" in params) == bias
    logits = features(made, params, made.inputs("select")) @ expected.weight.T + expected.bias
    found, _ = made._class_scores([params], made.inputs("select"))
    torch.testing.assert_close(found[0].softmax(-1), logits.softmax(-1), atol=1e-3, rtol=0)
    assert made.score([params], "train")[0].metrics["accuracy"] > 0.7
    assert "C = " in made.start_note(0)
    assert made.prepared.model_tokens > problem(start="zeros").prepared.model_tokens


def test_a_head_begins_at_the_texts_of_the_classes() -> None:
    tokenizer = bound(tiny_model("llama"), BEHIND)
    class_rows = [tokenizer({"text": label}) for label in LABELS]
    made = problem(start="class_texts", class_rows=class_rows)
    params = made.initial(0)
    expected = from_class_features(features(made, params, class_rows))
    torch.testing.assert_close(params["head.weight"], expected.weight, atol=1e-4 * float(expected.weight.abs().max()), rtol=0)
    scores, _ = made._class_scores([params], Rows(class_rows))
    assert scores[0].argmax(-1).tolist() == [0, 1, 2]


def test_a_head_begins_at_prototypes_alone_or_with_the_texts_of_the_classes() -> None:
    tokenizer = bound(tiny_model("llama"), BEHIND)
    class_rows = [tokenizer({"text": label}) for label in LABELS]
    made = problem(start="class_texts_and_prototypes", class_rows=class_rows, text_weight=2.0)
    params, targets = made.initial(0), made._targets["train"]
    texts, examples = features(made, params, class_rows), features(made, params, made.inputs("train"))
    expected = from_class_features(class_starts(texts, examples, targets, text_weight=2.0)).weight
    torch.testing.assert_close(params["head.weight"], expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    alone = problem(start="prototypes")
    means = torch.stack([examples[targets == c].mean(0) for c in range(3)])
    expected = from_class_features(means).weight
    torch.testing.assert_close(alone.initial(0)["head.weight"], expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    tokens = [made.prepared.model_tokens - problem(start="zeros").prepared.model_tokens, alone.prepared.model_tokens]
    assert tokens[0] == sum(len(row) + SLOTS for row in (*class_rows, *made.inputs("train"))) > 0


def test_a_class_without_an_example_begins_at_its_text_or_at_the_mean_of_all_inputs() -> None:
    splits = tiny_splits()
    fewer = replace(splits, train=tuple(example for example in splits.train if example.label != LABELS[1]))
    params = problem(start="prototypes", splits=fewer).initial(0)
    assert all(bool(value.isfinite().all()) for value in params.values())
    none = problem(start="prototypes", splits=replace(splits, train=()))
    with pytest.raises(ConfigError, match="'prototypes' needs examples in train"):
        none.initial(0)


@pytest.mark.parametrize("part_tokens", [60, 10**6])
def test_an_anchor_holds_a_head_at_its_start(part_tokens: int) -> None:
    """Read whole or in parts: the penalty is told once a step, and the start, which is stored, never moves."""
    common: dict[str, Any] = {"start": "prototypes", "num_examples": 12, "part_tokens": part_tokens}
    made, free = problem(anchor=3.0, **common), problem(**common)
    params = {**made.initial(0)}
    assert torch.equal(params["head.start"], params["head.weight"]) and "head.start" not in free.initial(0)
    params["head.weight"] = params["head.weight"] + 0.5
    batch = made.batch(0, 0)
    own = {name: value.detach().requires_grad_() for name, value in params.items()}
    loss = made.loss(own, batch)
    plain = free.loss({name: value for name, value in params.items() if name != "head.start"}, batch)
    count = params["head.weight"].numel()
    assert float(loss.detach()) == pytest.approx(float(plain) + 3 / 2 * 0.25 * count / 12, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, [own["head.start"]], allow_unused=True, retain_graph=True)
    assert gradient is None
    stage = TorchStage("AdamW", lr=0.1, options={"weight_decay": 0.5})
    state, _ = stage.step(made, stage.init(made, made.initial(0), seed=0))
    assert torch.equal(state.params["head.start"], made.initial(0)["head.start"])
    assert not torch.equal(state.params["head.weight"], state.params["head.start"])


def test_an_encoders_head_begins_where_it_did() -> None:
    frozen = tiny_model("bert")
    weight = PooledHead(frozen, 3).extra(7)["head.weight"]
    assert torch.equal(weight, torch.randn(3, 32, generator=torch.Generator().manual_seed(7)) * 0.02)


def test_logistic_regression_without_examples_is_named() -> None:
    made = problem(start="logistic_regression", splits=Splits((), tiny_splits().select, (), LABELS))
    with pytest.raises(ConfigError, match="needs examples in train"):
        made.initial(0)


# -- what may have one


@pytest.mark.parametrize(("architecture", "kind"), [("llama", "decoder"), ("bert", "encoder"), ("bert_masked", "encoder")])
def test_a_model_loaded_for_a_head_is_what_it_is(architecture: str, kind: str, tmp_path: Any) -> None:
    frozen = tiny_model(architecture)
    frozen.model.save_pretrained(tmp_path)
    frozen.tokenizer.save_pretrained(tmp_path)
    assert load_frozen(str(tmp_path), kind="head").kind == kind


def test_an_encoder_decoder_has_no_head(tmp_path: Any) -> None:
    frozen = tiny_model("t5")
    frozen.model.save_pretrained(tmp_path)
    frozen.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a head reads an encoder or a decoder"):
        load_frozen(str(tmp_path), kind="head")
