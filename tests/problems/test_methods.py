"""Prompt methods: a text restarts each of them as it says, what is trained is what it says, and parts of a batch change nothing."""

from __future__ import annotations

import pytest
import torch

from maao.core.acceptance import AlwaysFirst, Interpolate
from maao.optimizers.torch import TorchStage
from maao.problems.towers.text.forward import embedding_table
from maao.types import Example, Proposal
from tests.conformance.parts import soft_prompt_problem

METHODS = {
    "prompt tuning": {"method": "prompt_tuning"},
    "p-tuning, lstm": {"method": "p_tuning", "encoder": "lstm"},
    "p-tuning, mlp": {"method": "p_tuning", "encoder": "mlp"},
    "prefix tuning": {"method": "prefix_tuning"},
    "prefix tuning, projected": {"method": "prefix_tuning", "projection": True},
    "pez": {"method": "pez"},
}
TEXT = "music team bank"


def problem_of(name, architecture="llama", template="{slots} {text} Topic:", **options):
    return soft_prompt_problem(architecture, template, model=METHODS[name], **options)


def start_at(problem, text=TEXT):
    return {**problem.initial(0), **problem.codec.encode(text).params}


def scores(problem, params):
    return problem.probabilities(
        params, [Example({"text": text}, "") for text in ("shares profit", "the market was good and the bank is bad")]
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_text_restarts_a_causal_model_with_slots_first_exactly(name):
    plain, own = problem_of("prompt tuning"), problem_of(name)
    torch.testing.assert_close(scores(own, start_at(own)), scores(plain, start_at(plain)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["p-tuning, lstm", "p-tuning, mlp", "pez"])
@pytest.mark.parametrize("where", ["bert", "roberta", "bert_masked", "t5", "gpt2"])
def test_rows_of_a_text_are_read_exactly_wherever_they_stand(name, where):
    template = {"t5": "{text} {slots} Topic {mask}", "bert_masked": "{text} {slots} Topic {mask}"}.get(where, "{text} {slots}")
    plain, own = problem_of("prompt tuning", where, template), problem_of(name, where, template)
    assert torch.equal(scores(own, start_at(own)), scores(plain, start_at(plain)))


# Where positions are added to words, the first values of a word are a guess (value_table), so deep prompts are asked of a llama only.
WORDED = [(n, a) for n in METHODS for a in ("llama", "bert", "roberta") if a == "llama" or "prefix" not in n]


@pytest.mark.parametrize(("name", "architecture"), WORDED)
def test_a_text_comes_back_as_the_words_of_its_start(name, architecture):
    problem = problem_of(name, architecture, "{text} {slots}")
    assert problem.codec.decode(start_at(problem)).text == problem.codec.encode(TEXT).text


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_steps_lower_the_loss_and_move_what_is_trained_only(name, architecture):
    problem = problem_of(name, architecture, "{slots} {text} Topic:" if architecture == "llama" else "{slots} {text}", batch_size=100)
    stage = TorchStage(lr=0.3 if name == "pez" else 0.02)
    begin = problem.initial(1)
    state = stage.init(problem, begin, seed=0)
    losses = []
    for _ in range(12):
        state, seen = stage.step(problem, state)
        losses.append(seen.loss)
    assert min(losses[1:]) < losses[0]
    moved = {key for key in begin if not torch.equal(begin[key], state.params[key])}
    anchors = {"p-tuning, lstm": {"prompt"}, "p-tuning, mlp": {"prompt"}, "prefix tuning, projected": {"prefix.keys", "prefix.values"}}
    # The last layer's keys and values of a prefix, and every weight of a network, can move; what a text put down stays.
    assert moved == set(begin) - anchors.get(name, set())


CUT = [
    (n, a) for n in METHODS for a in ("llama", "bert", "roberta_masked", "t5") if a != "t5" or "prefix" not in n
]  # a T5 has no deep ones


@pytest.mark.parametrize(("name", "architecture"), CUT)
def test_parts_of_a_batch_have_the_gradient_of_the_whole(name, architecture):
    template = "{slots} {text} Topic {mask}" if architecture in ("roberta_masked", "t5", "llama") else "{slots} {text}"
    found = []
    for part_tokens in (10**6, 20):
        problem = problem_of(name, architecture, template, batch_size=100, part_tokens=part_tokens)
        params = {key: value.clone().requires_grad_() for key, value in problem.initial(3).items()}
        loss = problem.loss(params, problem.batch(0, 0))
        loss.backward()
        found.append((loss.detach(), {key: value.grad for key, value in params.items() if value.grad is not None}))
    (whole, gradients), (parts, in_parts) = found
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    assert in_parts.keys() == gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(in_parts[key], value, rtol=1e-3, atol=1e-5 * float(value.abs().max()) + 1e-9)


def test_pez_is_read_as_its_words_at_every_step():
    problem = problem_of("pez", batch_size=100)
    stage = TorchStage(lr=0.5)
    state = stage.init(problem, problem.initial(1), seed=0)
    texts = set()
    for _ in range(8):
        state, _ = stage.step(problem, state)
        text = problem.codec.decode(state.params).text
        texts.add(text)
        words = {**state.params, **problem.codec.encode(text).params}
        assert problem.score([words], "select")[0].loss == pytest.approx(problem.score([state.params], "select")[0].loss, rel=1e-6)
    assert len(texts) > 1  # it walks through words


def test_the_gradient_of_pez_is_that_at_its_words():
    plain, pez = problem_of("prompt tuning"), problem_of("pez")
    soft = pez.initial(2)["prompt"] + 0.1 * torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    hard = pez.method.realize({"prompt": soft})["prompt"]
    grads = []
    for problem, point in ((pez, soft), (plain, hard)):
        leaf = point.clone().requires_grad_()
        problem.loss({"prompt": leaf}, problem.batch(0, 0)).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-7)


def test_a_network_begins_alike_for_a_seed_and_at_every_restart():
    one, two = problem_of("p-tuning, lstm"), problem_of("p-tuning, lstm")
    a, b = one.codec.encode(TEXT).params, two.codec.encode("sport").params
    assert all(torch.equal(a[key], b[key]) for key in a if key.startswith("encoder."))


def test_deep_prompts_need_a_model_that_takes_keys():
    from maao.errors import ModelError

    for architecture, template in (("t5", "{slots} {text} {mask}"), ("deberta", "{slots} {text}")):
        with pytest.raises(ModelError, match=r"takes no keys and values from outside.*prompt_tuning"):
            problem_of("prefix tuning", architecture, template)


def test_deep_prompts_of_a_bidirectional_model_are_near_a_text_not_it():
    plain, own = problem_of("prompt tuning", "bert", "{slots} {text}"), problem_of("prefix tuning", "bert", "{slots} {text}")
    assert own.clues(start_at(own)).projection is not None  # what the words are worth is stored, and the gap with it
    assert not torch.allclose(scores(own, start_at(own)), scores(plain, start_at(plain)), atol=1e-6)


def test_a_normal_start_of_deep_prompts_has_the_spread_of_the_reference():
    start = problem_of("prefix tuning", initial="normal", num_virtual_tokens=16).initial(0)
    assert float(start["prefix.keys"].std()) == pytest.approx(0.02, rel=0.1)


def test_first_layers_values_of_the_vocabulary_are_what_the_model_computes():
    from maao.problems.methods.prefix_tuning import value_table
    from maao.problems.towers.text.forward import key_values
    from tests.tiny import tiny_model

    for architecture in ("llama", "gpt2", "bert"):
        frozen = tiny_model(architecture)
        table = embedding_table(frozen)
        found = value_table(frozen, table, chunk=100)
        for token in (5, 77, len(table) - 1):
            _, values = key_values(frozen, table[token : token + 1])
            torch.testing.assert_close(found[token], values[0].flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.25, 1.0])
@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pez"}))  # pez reads the words nearest to the blend
def test_interpolate_blends_what_the_model_reads(name, weight):
    problem = problem_of(name)
    stage = TorchStage(lr=0.05)
    state = stage.init(problem, problem.initial(0), seed=0)
    for _ in range(3):
        state, _ = stage.step(problem, state)
    proposal = Proposal(TEXT, problem.codec.encode(TEXT).params, source="test")
    verdict = Interpolate(weight, AlwaysFirst(), problem.codec.blend)(problem, stage, (), state, [proposal], seed=1)
    with torch.no_grad():
        here, there, found = (problem.method.realize(p) for p in (state.params, {**state.params, **proposal.params}, verdict.state.params))
    for key, value in found.items():
        assert torch.equal(value, (1 - weight) * here[key] + weight * there[key])
    moved, _ = stage.step(problem, verdict.state)
    assert bool(torch.isfinite(torch.cat([value.flatten() for value in moved.params.values()])).all())


def test_interpolate_blends_a_head_beside_a_network():
    problem = soft_prompt_problem("bert", "{slots} {text}", model={"method": "p_tuning"})
    here, there = problem.initial(0), problem.initial(1)
    found = problem.codec.blend(here, there, 0.5)
    assert found.keys() == there.keys()
    torch.testing.assert_close(found["head.weight"], (here["head.weight"] + there["head.weight"]) / 2)
