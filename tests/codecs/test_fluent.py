"""Fluent words: the nearest tokens without a language model, likelier ones with it, and always a text that can be read back."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from maao.codecs.fluent import FluentCodec, beam_search, causal_log_probs
from maao.codecs.nearest_token import NearestTokenCodec
from maao.errors import CodecError
from tests.tiny import tiny_model
from tests.tiny_codecs import TOKENIZERS, nearest_codec, point


def made_up(vocab_size, seed=0):
    """A language model that knows pairs of tokens only."""
    table = torch.randn(vocab_size, vocab_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(-1)
    return lambda sequences: table[[sequence[-1] for sequence in sequences]]


def codec(kind="bpe", **options):
    nearest = nearest_codec(kind)
    return FluentCodec(nearest, made_up(len(nearest.embeddings)), **options)


def never(sequences):
    raise AssertionError("the language model was asked")


# -- without a language model


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_without_weight_for_the_language_model_the_text_is_the_nearest_tokens(kind):
    nearest = nearest_codec(kind)
    fluent = FluentCodec(nearest, never, beta=0)
    assert [fluent.decode(point(seed)).text for seed in range(30)] == [nearest.decode(point(seed)).text for seed in range(30)]


def test_a_vanishing_weight_gives_the_nearest_tokens_too():
    nearest = nearest_codec()
    fluent = codec(beta=1e-9)
    whole = [seed for seed in range(30) if nearest.survives(nearest.ranked(point(seed)["prompt"], 1)[0].flatten().tolist())]
    assert len(whole) > 3
    assert [fluent.decode(point(seed)).text for seed in whole] == [nearest.decode(point(seed)).text for seed in whole]


# -- the beam


@pytest.mark.parametrize("context", [(), (7,)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 0.25), (0.0, 1.0), (0.5, 2.0)])
def test_a_beam_wide_enough_finds_what_trying_everything_finds(alpha, beta, context):
    generator = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randperm(12, generator=generator)[:4] for _ in range(3)])
    similarity = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    log_probs = made_up(12)
    table = log_probs([(i,) for i in range(12)])

    def worth(places):
        sequence = [*context, *(int(ids[row, place]) for row, place in enumerate(places))]
        likely = sum(float(table[a, b]) for a, b in itertools.pairwise(sequence))
        return alpha * sum(float(similarity[row, place]) for row, place in enumerate(places)) + beta * likely

    ranked = sorted(itertools.product(range(4), repeat=3), key=worth, reverse=True)
    wanted = [tuple(int(ids[row, place]) for row, place in enumerate(places)) for places in ranked]
    found = beam_search(ids, similarity, log_probs, alpha=alpha, beta=beta, width=4**3, context=context)
    assert list(found) == wanted


def test_a_narrow_beam_may_miss_what_pays_later():
    ids, similarity = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0.5, 0.4], [0.5, 0.5]])

    def log_probs(sequences):
        return torch.tensor([[0.0, 0, 0, 0, 0] if s[-1] == 2 else [-5.0] * 5 for s in sequences])

    found = [beam_search(ids, similarity, log_probs, alpha=1, beta=1, width=width)[0] for width in (1, 2)]
    assert found == [(1, 3), (2, 3)]


def test_ties_go_to_the_lowest_ids():
    ids, similarity = torch.tensor([[5, 2], [4, 3]]), torch.zeros(2, 2)
    found = beam_search(ids, similarity, lambda s: torch.zeros(len(s), 6), alpha=1, beta=1, width=4)
    assert found == ((2, 3), (2, 4), (5, 3), (5, 4))


def test_beginnings_that_cannot_be_read_are_followed_only_where_no_other_is_left():
    ids, similarity = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    arguments = {"alpha": 1, "beta": 0, "width": 1}
    assert beam_search(ids, similarity, never, is_readable=lambda ids: ids[0] == 2, **arguments) == ((2, 3),)
    assert beam_search(ids, similarity, never, is_readable=lambda ids: len(ids) < 2, **arguments) == ((1, 3),)


def test_a_token_thought_impossible_is_taken_last():
    ids, similarity = torch.tensor([[1], [3], [4]]).T.repeat(2, 1), torch.zeros(2, 3)
    log_probs = torch.tensor([0.0, -math.inf, 0.0, -1.0, -2.0])
    assert beam_search(ids, similarity, lambda s: log_probs.expand(len(s), 5), alpha=1, beta=1, width=9)[-3:] == ((1, 1), (3, 1), (4, 1))


@pytest.mark.parametrize("shape", [(1, 3), (2, 9), (9,)])
def test_log_probabilities_of_another_vocabulary_are_refused(shape):
    ids, similarity = torch.tensor([[1], [3]]), torch.zeros(2, 1)
    with pytest.raises(CodecError, match="same vocabulary"):
        beam_search(ids, similarity, lambda s: torch.zeros(shape), alpha=1, beta=1, width=2)


# -- the codec


def likelihood(nearest, log_probs, text):
    """The log-probability of a text's tokens after its first."""
    ids = nearest.tokenizer(nearest._lead + text, add_special_tokens=False).input_ids
    return sum(float(log_probs([ids[:n]])[0, ids[n]]) for n in range(1, len(ids)))


def test_more_weight_gives_likelier_words():
    nearest = nearest_codec()
    log_probs = made_up(len(nearest.embeddings))
    told = [[likelihood(nearest, log_probs, codec(beta=beta).decode(point(seed)).text) for seed in range(10)] for beta in (0, 0.05, 1.0)]
    means = [sum(values) / len(values) for values in told]
    assert means == sorted(means) and means[0] + 2 < means[2]


@pytest.mark.parametrize("beta", [0.05, 1.0, 50.0])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_fluent_words_survive_retokenizing(kind, beta):
    fluent = codec(kind, beta=beta)
    for seed in range(20):
        words = fluent.decode(point(seed)).text
        encoded = fluent.encode(words)
        assert (encoded.text, encoded.note) == (words, None)


def test_words_are_among_the_candidates_of_their_rows():
    fluent, nearest = codec("wordpiece", beta=1.0, candidates=12), nearest_codec("wordpiece")
    for seed in range(10):
        params = point(seed)
        ids = nearest.tokenizer(fluent.decode(params).text, add_special_tokens=False).input_ids
        assert all(i in row for i, row in zip(ids, nearest.ranked(params["prompt"], 12)[0].tolist(), strict=True))


def test_a_beam_that_ends_on_nothing_readable_gives_way_to_the_nearest_tokens():
    seeds = []
    for seed in range(60):
        nearest = nearest_codec()
        if not nearest.survives(nearest.ranked(point(seed)["prompt"], 1)[0].flatten().tolist()):
            seeds.append(seed)
    assert seeds
    fluent, nearest = codec(beta=1.0, candidates=1), nearest_codec()
    assert [fluent.decode(point(seed)).text for seed in seeds] == [nearest.decode(point(seed)).text for seed in seeds]


@pytest.mark.parametrize("text", ["topic of the news", "music", "unbelievable"])
def test_a_texts_own_embeddings_give_that_text_however_unlikely(text):
    fluent = codec(beta=100.0)
    encoded = fluent.encode(text)
    assert fluent.decode(encoded.params).text == encoded.text


def test_same_point_gives_same_words():
    assert codec(beta=0.5).decode(point(3)) == codec(beta=0.5).decode(point(3))


def test_context_is_read_before_the_prompt():
    seen = []
    nearest = nearest_codec()

    def log_probs(sequences):
        seen.append([tuple(s) for s in sequences])
        return torch.zeros(len(sequences), len(nearest.embeddings))

    FluentCodec(nearest, log_probs, beta=1.0, width=2, context="<s> the news").decode(point(0))
    begun = tuple(nearest.tokenizer("<s> the news", add_special_tokens=False).input_ids)
    assert begun[0] == nearest.tokenizer.bos_token_id
    assert seen[0] == [begun] and all(s[: len(begun)] == begun for call in seen for s in call)
    assert [len(call) for call in seen] == [1, 2, 2, 2, 2] and [len(call[0]) - len(begun) for call in seen] == [0, 1, 2, 3, 4]


def test_without_context_the_first_token_is_judged_by_likeness_alone():
    seen = []
    nearest = nearest_codec()

    def log_probs(sequences):
        seen.extend(sequences)
        return torch.zeros(len(sequences), len(nearest.embeddings))

    FluentCodec(nearest, log_probs, beta=1.0).decode(point(0))
    assert {len(s) for s in seen} == {1, 2, 3, 4}


def test_all_but_decoding_is_the_nearest_token_codecs():
    fluent, nearest = codec(), nearest_codec()
    vectors = point(0)["prompt"]
    assert fluent.nearest(vectors, 3) == nearest.nearest(vectors, 3)
    assert torch.equal(fluent.sample(4, 1), nearest.sample(4, 1)) and torch.equal(fluent.project(vectors), nearest.project(vectors))
    ours, theirs = fluent.encode("music film"), nearest.encode("music film")
    assert (ours.text, ours.note) == (theirs.text, theirs.note) and torch.equal(ours.params["prompt"], theirs.params["prompt"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": -1.0}, "alpha = -1.0"),
        ({"beta": math.nan}, "beta = nan"),
        ({"beta": math.inf}, "beta = inf"),
        ({"alpha": 0.0, "beta": 0.0}, "not both 0"),
        ({"width": 0}, "width = 0"),
        ({"candidates": 0}, "candidates = 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, told):
    with pytest.raises(CodecError, match=told):
        codec(**options)


def test_another_distance_is_refused():
    with pytest.raises(CodecError, match="not 'l2'"):
        FluentCodec(nearest_codec(distance="l2"), never)


def test_soft_prompt_of_another_width_is_refused():
    with pytest.raises(CodecError, match="width 7 with a vocabulary of width 24"):
        codec().decode({"prompt": torch.zeros(1, 7)})


# -- a causal language model


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma3"])
def test_log_probabilities_are_the_models_own(architecture):
    frozen = tiny_model(architecture)
    sequences = [(1, 40, 50, 60), (1, 41, 51, 61), (90, 80, 70, 30)]
    found = causal_log_probs(frozen.model)(sequences)
    for row, sequence in zip(found, sequences, strict=True):
        with torch.no_grad():
            logits = frozen.model(input_ids=torch.tensor([list(sequence)])).logits[0, -1]
        assert torch.allclose(row, logits.log_softmax(-1), atol=1e-4)


def test_words_of_a_tiny_model_are_likelier_than_its_nearest_tokens():
    from maao.problems.towers.text.forward import embedding_table

    frozen = tiny_model("llama")
    nearest = NearestTokenCodec(frozen.tokenizer, embedding_table(frozen), num_virtual_tokens=4)
    log_probs = causal_log_probs(frozen.model)
    prompt = {"prompt": torch.randn(4, 32, generator=torch.Generator().manual_seed(0))}
    fluent = FluentCodec(nearest, log_probs, beta=1.0)
    before, after = (likelihood(nearest, log_probs, found.decode(prompt).text) for found in (nearest, fluent))
    assert after > before + 1


@pytest.mark.real
def test_words_of_smollm2_are_likelier_than_its_nearest_tokens():
    from maao.problems.towers.text.forward import embedding_table
    from maao.problems.towers.text.loading import load_frozen

    frozen = load_frozen("packaged:smollm2-135m-instruct")
    nearest = NearestTokenCodec(frozen.tokenizer, embedding_table(frozen).float(), num_virtual_tokens=8)
    log_probs = causal_log_probs(frozen.model)
    rows = nearest.encode("Which topic is this news headline about?").params["prompt"]
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * rows.std()
    prompt = {"prompt": rows + 1.5 * noise}
    fluent = FluentCodec(nearest, log_probs, beta=0.2)
    before, after = (likelihood(nearest, log_probs, found.decode(prompt).text) for found in (nearest, fluent))
    assert after > before + 1
    assert fluent.encode(fluent.decode(prompt).text).note is None
